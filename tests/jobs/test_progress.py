"""Progress and funnel: what people read while a job runs and when it is over."""

from __future__ import annotations

import io

import pytest

from curation.store import FinishedSource
from jobs import progress
from jobs.funnel import Funnel
from jobs.progress import Progress, duration_words, size_words

DURATIONS = [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (360000, "100.0 h")]
SIZES = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (42_400_000, "42.4 MB"), (5e12, "5.0 TB")]


@pytest.mark.parametrize(("seconds", "words"), DURATIONS)
def test_durations(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


@pytest.mark.parametrize(("size_bytes", "words"), SIZES)
def test_sizes(size_bytes: float, words: str) -> None:
    assert size_words(size_bytes) == words


def test_a_line_has_the_rate_and_the_time_left_and_skipped_files_do_not_count_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s[0])
    out = io.StringIO()
    shown = Progress("curate", 10, 100_000_000, out)
    shown.skip(4, 40_000_000)
    shown.done(10_000_000)
    shown.show("early")
    assert out.getvalue() == "", "too soon to say anything"
    now_s[0] = 20.0
    shown.show("3 clips")
    assert out.getvalue() == "curate: 5 of 10 files, 3.0 files/min, 0.5 MB/s, about 2 min left · 3 clips\n"


def finished(state: str, reason: str | None, clips: dict[str, int], seconds: dict[str, float]) -> FinishedSource:
    row = {
        "state": state,
        "reason": reason,
        "uri": "a\nb.mp4",
        "detail": "why",
        "duration_s": sum(seconds.values()) + 0.5 if seconds else None,
    }
    return FinishedSource(row | {"trimmed_s": 0.5 if seconds else None}, clips=clips, seconds=seconds)


def funnel() -> Funnel:
    made = Funnel(found=6, present=2, same_content=1)
    made.add(finished("curated", None, {"kept": 3, "too_dark": 1}, {"kept": 30.0, "too_dark": 2.0}))
    made.add(finished("curated", "damaged", {"damaged": 1}, {"damaged": 4.0}))
    made.add(finished("failed", "empty", {}, {}))
    return made


def test_the_funnel_adds_up_and_says_all_of_it() -> None:
    counts = funnel().counts()
    assert counts["seen"] == 6
    assert counts["sources"] == {"curated": 2, "failed": 1}
    assert funnel().failed_share() == pytest.approx(1 / 6)
    report = funnel().report("STORE")
    for part in (
        "6 seen",
        "2 curated",
        "1 failed",
        "2 in the store already",
        "1 empty",
        "5 found",
        "3 kept",
        "1 too_dark",
    ):
        assert part in report


def test_a_funnel_that_lost_a_file_is_a_fault() -> None:
    made = funnel()
    made.found += 1
    with pytest.raises(AssertionError, match="7 files were found, 6 are accounted for"):
        made.counts()


def test_a_funnel_that_lost_seconds_is_a_fault() -> None:
    made = funnel()
    made.seconds["kept"] -= 1
    with pytest.raises(AssertionError, match="do not add up"):
        made.counts()


def test_a_run_without_work_says_so() -> None:
    assert Funnel(present=3).report("STORE") == "nothing to do: all 3 files are in STORE already"
