"""The loop of a captioning run: windows are asked about, answers are checked and committed as they come, what failed a
check is asked again with another seed."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import ray.data
import ray.exceptions

from captioner.captions import Caption, write_captions
from captioner.requests import Answer
from captioner.work import Asking, Task, damaged, failing, finish, lacking_of, wanted_rows
from curation.lease import LeaseLost
from curation.store import StoreUnavailable
from jobs.caption_engines import DAMAGE
from jobs.caption_requests import WindowRef, requests_dataset
from jobs.cluster import connect_for_data
from jobs.progress import Progress
from jobs.runs import JobRun, MachineFault, say

__all__ = ["Answered", "Answers", "Captioning", "Committer", "Requests", "caption_windows", "cause_of"]

# A commit makes a version of the table: often enough that little is lost, seldom enough to stay cheap.
COMMIT_CAPTIONS, COMMIT_S = 512, 10.0
MOST_ASKED_AGAIN = 20_000
MOST_GIVEN_UP = 3
NAMES_ERROR = re.compile(r"[\w.]*(Error|Exception)\b.*:")
PROBLEMS_SHOWN = 10

Requests = ray.data.Dataset
Answers = Iterator[tuple[Task, Answer]]
Answered = Callable[[Requests, int, bool], Answers]
"""A captioner: takes the dataset of requests, which attempt this is, and whether to ask about one at a time, in order;
gives every window with its answer."""


@dataclass(frozen=True, slots=True)
class Captioning:
    """What a run is to do: caption clips that meet a condition, the first `limit` of them, 0 for all. `judge` adds the
    agreement of captions with their clips and what follows from it."""

    run: JobRun
    version: int
    where: str
    limit: int
    attempts: int
    cpus_per_task: Callable[[], float]
    asking: Asking
    answered: Answered
    judge: Callable[[Sequence[Caption]], list[Caption]]


def caption_windows(job: Captioning, counts: Counter[str]) -> float:
    """Do it; the share of the windows that got no answer. Raises StoreUnavailable, LeaseLost, MachineFault and what the
    captioner raises; what was answered until then is in the store."""
    committer = Committer(job.run)
    found = Counter[str]()
    refs, has_parts = look_at_all(job, committer, found)
    asked = len(refs)
    say(
        f"{found['complete']} windows have their captions, {found['derived']} get them from answers that are there, "
        f"{asked} are to be asked about"
    )
    outcome = Outcome()
    second_best = SecondBest(committer, outcome)
    try:
        for attempt in range(1, job.attempts + 1):
            refs = ask_once(job, refs, attempt, committer, outcome, second_best)
            if not refs:
                break
    finally:
        counts.update(found)
        counts.update(outcome.counts())
    if has_parts:
        look_at_all(job, committer, Counter())
    committer.flush()
    say(outcome.report(asked))
    return outcome.failed / asked if asked else 0.0


def look_at_all(job: Captioning, committer: Committer, counts: Counter[str]) -> tuple[list[WindowRef], bool]:
    """The windows to ask about, and whether any is a part of its clip. Captions that follow from answers that are in
    the store are committed."""
    store = job.run.store
    refs: list[WindowRef] = []
    has_parts = False
    with store.reading():
        for rows in wanted_rows(store.open("clips", job.version), job.where, job.limit):
            lacking = lacking_of(rows, store.open("captions"), job.asking)
            counts.update(lacking.counts)
            for task in lacking.tasks:
                has_parts = has_parts or task.window.index is not None
                refs.append(WindowRef(task.row_id, task.window.index or 0, 1))
            committer.add(job.judge(lacking.captions))
            committer.flush_if_due()
    committer.flush()
    return refs, has_parts


def ask_once(
    job: Captioning,
    refs: Sequence[WindowRef],
    attempt: int,
    committer: Committer,
    outcome: Outcome,
    second_best: SecondBest,
) -> list[WindowRef]:
    """Ask about windows; those whose captions failed a check and may be asked about again."""
    if not refs:
        return []
    if attempt > 1:
        say(f"{len(refs)} windows are asked about again, attempt {attempt} of {job.attempts}")
    connect_for_data()
    progress = Progress("caption", len(refs), 0, unit="windows")
    outcome.begin()
    again: list[WindowRef] = []
    batch: list[tuple[Task, list[Caption]]] = []
    try:
        for ref, heard in answers_of(job, refs, attempt):
            progress.done(0)
            if isinstance(heard, str):
                second_best.take(ref, heard)
            elif heard[1].error is None:
                batch.append((heard[0], finish(*heard, job.asking)))
                outcome.heard(heard[1])
            else:
                outcome.damaged += 1
                committer.add(damaged(heard[0], job.asking))
            if len(batch) >= COMMIT_CAPTIONS // len(job.asking.kinds) or committer.is_due:
                again += settle(job, batch, attempt, committer, outcome, second_best)
                batch = []
                committer.flush()
            progress.show(outcome.line())
    except (StoreUnavailable, LeaseLost):
        raise  # nothing more can be landed
    except BaseException:
        settle(job, batch, job.attempts, committer, outcome, second_best)
        second_best.take_all()
        committer.flush()
        raise
    again += settle(job, batch, attempt, committer, outcome, second_best)
    committer.flush()
    progress.show(outcome.line(), is_last=True)
    return again


Heard = tuple[Task, Answer] | str
"""A window with its answer, which has an error only where the clip is damaged; or why there is none."""


def answers_of(job: Captioning, refs: Sequence[WindowRef], attempt: int) -> Iterator[tuple[WindowRef, Heard]]:
    """What is heard of each window. Where the engine dies again and again, those that are left are asked about one at a
    time, and the one on which it dies is given up. Raises MachineFault where that does not help."""
    left = {(ref.row_id, ref.number): ref for ref in refs}
    is_careful = False
    given_up = 0
    while left:
        try:
            requests = requests_dataset(
                job.run.store,
                job.version,
                list(left.values()),
                job.asking,
                cpus_per_task=job.cpus_per_task(),
                is_careful=is_careful,
            )
            for task, answer in job.answered(requests, attempt, is_careful):
                ref = left.pop((task.row_id, task.window.index or 0), None)
                if ref is None:  # an engine that died may have answered before
                    continue
                is_damaged = answer.error is not None and answer.error.startswith(DAMAGE)
                yield ref, (task, answer) if answer.error is None or is_damaged else answer.error
            if left:
                raise MachineFault(f"the captioner ended with {len(left)} windows unanswered")
        except ray.exceptions.RayError as error:
            fault = MachineFault(
                f"the captioner cannot go on: {cause_of(error)}\n"
                "Its engine's own words are in Ray's logs, by default in /tmp/ray/session_latest/logs."
            )
            if never_started(error) or given_up == MOST_GIVEN_UP:
                raise fault from error
            if is_careful:
                given_up += 1
                yield left.pop(next(iter(left))), f"engine died: {cause_of(error)}"
            is_careful = True


def never_started(error: ray.exceptions.RayError) -> bool:
    """Whether an engine could not even be made: no window is to blame."""
    return "creation task failed" in str(error) or "__init__" in str(error)


def cause_of(error: BaseException) -> str:
    """The last line that names an error: below a worker's traceback Ray adds advice about itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if NAMES_ERROR.match(line)]
    return (named or lines)[-1][:500]


def settle(
    job: Captioning,
    batch: Sequence[tuple[Task, list[Caption]]],
    attempt: int,
    committer: Committer,
    outcome: Outcome,
    second_best: SecondBest,
) -> list[WindowRef]:
    """Commit what passes, or may not be asked again; what is left is to be asked again."""
    judged = iter(job.judge([caption for _, captions in batch for caption in captions]))
    again = []
    for task, captions in batch:
        captions = [next(judged) for _ in captions]
        ref = WindowRef(task.row_id, task.window.index or 0, attempt + 1)
        if failing(captions) and attempt < job.attempts and second_best.keep(ref, captions):
            again.append(ref)
        else:
            second_best.forget(ref)
            outcome.land(captions)
            committer.add(captions)
    return again


class SecondBest:
    """Captions that failed a check, while their windows are asked about again: what is kept where nothing better comes.
    Of more windows than it holds, the first answer is kept."""

    def __init__(self, committer: Committer, outcome: Outcome):
        self._committer, self._outcome = committer, outcome
        self._kept: dict[tuple[int, int], list[Caption]] = {}

    def keep(self, ref: WindowRef, captions: list[Caption]) -> bool:
        """Whether there was room."""
        if len(self._kept) >= MOST_ASKED_AGAIN and (ref.row_id, ref.number) not in self._kept:
            return False
        self._kept[ref.row_id, ref.number] = captions
        return True

    def forget(self, ref: WindowRef) -> None:
        self._kept.pop((ref.row_id, ref.number), None)

    def take(self, ref: WindowRef, why: str) -> None:
        """A window got no answer this time: its captions from before are kept, with their flags; else it failed."""
        captions = self._kept.pop((ref.row_id, ref.number), None)
        if captions is None:
            self._outcome.fail(why, ref)
        else:
            self._outcome.land(captions)
            self._committer.add(captions)

    def take_all(self) -> None:
        """Nothing more will be asked."""
        for captions in self._kept.values():
            self._outcome.land(captions)
            self._committer.add(captions)
        self._kept.clear()


@dataclass(slots=True)
class Outcome:
    """What became of the windows that were asked about; their sum is checked."""

    clean: int = 0
    flagged: int = 0
    damaged: int = 0
    failed: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_s: float = field(default_factory=time.monotonic)
    last_s: float = 0.0
    engine_spans_s: list[tuple[float, float]] = field(default_factory=list)

    def begin(self) -> None:
        """Another pass, with engines of its own."""
        self.engine_spans_s.append((float("inf"), 0.0))

    def heard(self, answer: Answer) -> None:
        self.last_s = time.monotonic()
        if answer.queued_s is not None and answer.done_s is not None:
            first_s, last_s = self.engine_spans_s[-1]
            self.engine_spans_s[-1] = min(first_s, answer.queued_s), max(last_s, answer.done_s)
        self.answers += 1
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out

    def busy_s(self) -> float:
        """From the first question to the last answer, on the engine's clock where it tells: its start is left out."""
        on_its_clock = sum(last_s - first_s for first_s, last_s in self.engine_spans_s if last_s)
        return on_its_clock or max(0.0, self.last_s - self.first_s)

    def land(self, captions: Iterable[Caption]) -> None:
        found = {flag for caption in captions for flag in caption.flags}
        self.flags.update(found)
        if found:
            self.flagged += 1
        else:
            self.clean += 1

    def fail(self, error: str, ref: WindowRef) -> None:
        self.failed += 1
        self.failures[error.partition(":")[0][:60]] += 1
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(f"clip in row {ref.row_id}, window {ref.number}: {error[:300]}")

    def counts(self) -> dict[str, int]:
        named = {f"flag_{flag}": n for flag, n in self.flags.items()}
        return {
            "clean": self.clean,
            "flagged": self.flagged,
            "damaged": self.damaged,
            "failed": self.failed,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "busy_ms": round(1000 * self.busy_s()),
            **named,
        }

    def line(self) -> str:
        busy_s = self.busy_s()
        speed = f", {self.tokens_out / busy_s:.0f} tokens/s" if busy_s > 0 else ""
        return f"{self.clean} clean, {self.flagged} flagged, {self.damaged + self.failed} failed{speed}"

    def report(self, asked: int) -> str:
        done = self.clean + self.flagged + self.damaged + self.failed
        assert done == asked, f"{done} windows came back of {asked} that were asked about"
        if not asked:
            return "nothing to ask: no window lacks what was asked for"
        lines = [f"{asked} windows were asked about: {self.line()}"]
        lines += [f"  flagged, {flag}: {n}" for flag, n in self.flags.most_common()]
        lines += [f"  nothing said, damaged_clip: {self.damaged}"] * bool(self.damaged)
        lines += [f"  failed, {why}: {n}" for why, n in self.failures.most_common()]
        lines += [f"  {problem}" for problem in self.problems]
        if self.failed:
            lines.append("  what failed is asked about again by the same command")
        lines.append(f"  {self.answers} answers, {self.tokens_in} tokens in, {self.tokens_out} tokens out")
        return "\n".join(lines)


class Committer:
    """Lands captions some hundreds at a time, only while the lease is held."""

    def __init__(self, run: JobRun):
        self._run = run
        self._waiting: list[Caption] = []
        self._since_s = time.monotonic()
        self.landed = 0

    def add(self, captions: Iterable[Caption]) -> None:
        self._waiting += captions

    @property
    def is_due(self) -> bool:
        return len(self._waiting) >= COMMIT_CAPTIONS or time.monotonic() - self._since_s > COMMIT_S

    def flush_if_due(self) -> None:
        if self.is_due:
            self.flush()

    def flush(self) -> None:
        """Raises StoreUnavailable, LeaseLost."""
        if self._waiting:
            self._run.lease.check()
            self.landed += write_captions(self._run.store, self._waiting, self._run.run_id)
        self._waiting = []
        self._since_s = time.monotonic()
