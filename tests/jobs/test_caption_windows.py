"""The loop of a captioning run when its engine misbehaves: without an engine, which would take minutes to kill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from captioner.requests import Answer
from captioner.windows import windows_of
from captioner.work import Task, wanted_rows
from curation.lease import Lease
from curation.store import Store
from jobs import caption_windows as loop
from jobs.caption_requests import WindowRef
from jobs.caption_windows import Captioning, cause_of
from jobs.runs import JobRun, MachineFault
from tests.captioning import asking_of, copied, curated, fields_for, kept_clips, rows_of

GOOD = fields_for("round")
BAD = json.dumps(json.loads(GOOD) | {"action": "moves <b>over</b> the ground"})
Refs = Sequence[WindowRef]
Engine = Callable[[Refs, int, bool], Iterator[tuple[WindowRef, str]]]
"""Gives windows with what is said of each, or raises as Ray does; `!` is an error of the engine."""


@pytest.fixture(scope="module")
def made(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return curated(small_footage, tmp_path_factory.mktemp("windows"))


@pytest.fixture
def store(made: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, and no Ray: a dataset is the list of its windows."""
    monkeypatch.setattr(loop, "connect_for_data", lambda: None)
    monkeypatch.setattr(loop, "requests_dataset", lambda store, version, refs, asking, **_: refs)
    return copied(made, tmp_path)


def died(words: str = "EngineDeadError: it is dead") -> ray.exceptions.RayError:
    return ray.exceptions.RayError(f"a traceback\n{words}\nTo change retry attempts, set max_task_retries.")


def captioned(store: Store, engine: Engine, attempts: int = 1) -> tuple[float, Counter[str]]:
    """The share that failed and the counts of a run by an engine."""
    version = store.open("clips").version
    rows = {row["_rowid"]: row for chunk in wanted_rows(store.open("clips"), "keep") for row in chunk}

    def answered(refs: Any, attempt: int, is_careful: bool) -> Iterator[tuple[Task, Answer]]:
        for ref, said in engine(refs, attempt, is_careful):
            row = {name: value for name, value in rows[ref.row_id].items() if name != "_rowid"}
            task = Task(row, ref.row_id, windows_of(row, 16.0)[ref.number], ref.attempt)
            if said.startswith("!"):
                yield task, Answer("", "", error=said[1:])
            else:
                yield task, Answer("asked", said, "stop", 5, 7)

    counts: Counter[str] = Counter()
    with Lease.take(store, "captions", "run", tell=lambda line: None) as lease:
        job = Captioning(
            JobRun("run", store, lease), version, "keep", 0, attempts, lambda: 1.0, asking_of(), answered, list
        )
        return loop.caption_windows(job, counts), counts


def test_a_window_that_kills_the_engine_costs_itself_only(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    passes: list[tuple[int, bool]] = []
    poison: list[WindowRef] = []

    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        poison[:] = poison or [refs[1]]
        passes.append((len(refs), is_careful))
        for ref in refs:
            if ref == poison[0]:
                raise died()
            yield ref, GOOD

    share, counts = captioned(store, engine)
    clips = len(kept_clips(store))
    assert clips >= 3
    # All together; what is left of it one at a time, until it dies again; what is left then.
    assert passes == [(clips, False), (clips - 1, True), (clips - 2, True)]
    assert (counts["failed"], share) == (1, 1 / clips)
    assert len({row["clip_id"] for row in rows_of(store)}) == clips - 1
    assert "engine died: EngineDeadError: it is dead" in capsys.readouterr().out


def test_an_engine_that_always_dies_ends_the_run_and_what_was_said_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_GIVEN_UP", 1)
    starts: list[bool] = []

    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        starts.append(is_careful)
        if len(starts) == 1:
            yield refs[-1], GOOD
        raise died()

    with pytest.raises(MachineFault, match="EngineDeadError"):
        captioned(store, engine)
    assert starts == [False, True, True]
    assert len({row["clip_id"] for row in rows_of(store)}) == 1


def test_an_engine_that_cannot_be_made_blames_no_window(store: Store) -> None:
    starts: list[bool] = []

    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        starts.append(is_careful)
        raise ray.exceptions.RayError("The actor died because its creation task failed\nRuntimeError: no weights")
        yield

    with pytest.raises(MachineFault, match="RuntimeError: no weights"):
        captioned(store, engine)
    assert starts == [False]
    assert rows_of(store) == []


def test_a_flagged_answer_is_kept_where_nothing_better_comes(store: Store) -> None:
    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        for ref in refs:
            yield ref, BAD if attempt == 1 else "!the prompt is too long"

    share, counts = captioned(store, engine, attempts=2)
    rows = rows_of(store)
    assert (share, counts["flagged"], counts["failed"]) == (0, len(kept_clips(store)), 0)
    assert all("markup" in row["flags"] and row["attempts"] == 1 and "<b>" not in row["text"] for row in rows)


def test_a_better_second_answer_takes_the_place_of_the_first(store: Store) -> None:
    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        for ref in refs:
            yield ref, BAD if attempt == 1 else GOOD

    captioned(store, engine, attempts=3)
    assert {(row["attempts"], tuple(row["flags"])) for row in rows_of(store)} == {(2, ())}


@pytest.mark.parametrize("fault", [MachineFault("gone"), KeyboardInterrupt(), died()])
def test_flagged_answers_outlive_the_end_of_a_later_attempt(store: Store, fault: BaseException) -> None:
    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        if attempt == 1:
            yield from ((ref, BAD) for ref in refs)
        else:
            raise fault

    with pytest.raises((MachineFault, KeyboardInterrupt)):
        captioned(store, engine, attempts=2)
    assert len({row["clip_id"] for row in rows_of(store)}) == len(kept_clips(store))


def test_more_than_can_be_asked_again_are_kept_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MOST_ASKED_AGAIN", 1)
    asked: list[int] = []

    def engine(refs: Refs, attempt: int, is_careful: bool) -> Iterator[tuple[WindowRef, str]]:
        asked.append(len(refs))
        yield from ((ref, BAD) for ref in refs)

    _, counts = captioned(store, engine, attempts=2)
    assert asked == [len(kept_clips(store)), 1]
    assert counts["flagged"] == len(kept_clips(store))


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("x\nValueError: wrong\nadvice of Ray", "ValueError: wrong"),
        ("x\nvllm.Error: a\n  torch.AcceleratorError: b\n", "torch.AcceleratorError: b"),
        ("only words", "only words"),
        ("", "RayError"),
    ],
)
def test_the_cause_is_the_last_error_that_is_named(words: str, cause: str) -> None:
    assert cause_of(ray.exceptions.RayError(words)) == cause
