"""Files that are whole or not there, and lines of which a kill may have cut the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.whole_files import json_lines, write_whole


def test_what_was_there_stays_where_it_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_whole(file, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "half \ud800")
    assert file.read_text() == "before"
    write_whole(file, "after")
    assert file.read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_line_that_is_cut_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    assert json_lines(file) == []
    file.write_text('{"step": 0}\n{"step": 1}\n{"st')
    assert json_lines(file) == [{"step": 0}, {"step": 1}]
