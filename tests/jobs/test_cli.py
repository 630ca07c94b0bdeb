"""A file and the command line mean the same, and the command line has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli import parse
from jobs.curate import CurateOptions

NEEDED = ["--footage", "a", "b c", "--store", "s"]


def options(*argv: str) -> CurateOptions:
    return parse(CurateOptions, prog="curate", argv=argv)


def test_every_way_of_saying_the_same(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(
        "footage: [a, b c]\nstore: s\nmin_seconds: 2\nkeep-still: true\nshots: [adaptive, hash]\nsnap_frames: 3\n"
        "storage_options: {region: eu}\n"
    )
    said = options(
        *NEEDED, "--min-seconds", "2", "--keep-still", "--shots", "adaptive", "hash", "--snap_frames", "3",
        "--storage-options", "region", "eu",
    )  # fmt: skip
    assert options("--config", str(file)) == said
    assert said.footage == ("a", "b c")
    assert said.curate.thresholds.min_seconds == 2
    assert said.curate.shots.shots == ("adaptive", "hash")


def test_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("min_seconds: 2\nkeep_still: true\n")
    said = options("--config", str(file), *NEEDED, "--min-seconds", "3", "--no-keep-still")
    assert (said.curate.thresholds.min_seconds, said.curate.thresholds.keep_still) == (3, False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("min_second: 2\n", "--min-second"),
        ("- a\n- b\n", "must map options to values"),
        ("a: [\n", "cannot be read"),
        ("min_seconds: fast\n", "fast"),
        ("min_seconds: -2\n", "min_seconds=-2.0: must be"),
    ],
)
def test_a_file_with_a_fault_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, named: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = tmp_path / "options.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        options("--config", str(file), *NEEDED)
    assert ended.value.code == 2
    output = capfd.readouterr()
    assert named in output.out + output.err


def test_help_names_every_option_with_its_meaning(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        options("--help")
    assert ended.value.code == 0
    output = capfd.readouterr().out
    for word in ("--footage", "--min-seconds", "--max-lead-in-seconds", "--config FILE", "Shortest clip"):
        assert word in output
