"""A folder with one of every bad file, and good ones among them: a row with a reason each, the good ones unharmed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from curation.ingest import file_hash
from curation.store import Store
from curation.work import unread_id
from tests.hostile import make_bad_files
from tests.jobs.running import run
from tests.stores import curate_in_process, table_rows

JOB = "jobs.curate"


@pytest.mark.slow
def test_bad_files_cost_a_row_each_and_good_ones_nothing(tmp_path: Path, small_footage: Path) -> None:
    folder = tmp_path / "reels"
    shutil.copytree(small_footage, folder / "good")
    (folder / "bad").mkdir()
    expected = make_bad_files(folder / "bad")
    missing = str(tmp_path / "missing.mp4")
    given = [folder / "good", *(folder / "bad" / name for name in expected), missing]
    store = Store.at(str(tmp_path / "store"))
    code, output = run(JOB, "--footage", *given, "--store", store.uri)
    assert code == 1, "most of it failed, which is over the error budget"

    rows = table_rows(store)
    by_content = {row["source_id"]: (row["state"], row["reason"]) for row in rows["sources"]}
    got = {name: by_content[file_hash(folder / "bad" / name)] for name in expected}
    assert got == {name: (bad.state, bad.reason) for name, bad in expected.items()}
    assert len(got) > 20
    assert by_content[unread_id(missing)] == ("failed", "unreadable")
    assert all(row["detail"] for row in rows["sources"] if row["reason"])

    alone = Store.at(str(tmp_path / "alone"))
    curate_in_process([folder / "good"], alone)
    good = {row["source_id"] for row in table_rows(alone)["sources"]}
    assert [row for row in rows["clips"] if row["source_id"] in good] == table_rows(alone)["clips"]

    code, output = run(JOB, "--footage", *given, "--store", store.uri, "--max-failed-share", "1")
    assert code == 0, output
    assert table_rows(store)["clips"] == rows["clips"]
