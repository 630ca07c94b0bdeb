"""Footage to clips, on Ray.

find footage → leave out what the store has already → one task a file: hash, probe, decode once, find scenes, score,
give verdicts, cut, write fragments → the driver commits rows and fragments as they arrive → compare the new clips with
all of the store → funnel
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import ray
import ray.exceptions

from curation.curate import CurateConfig, unusable_source_row
from curation.duplicate_verdicts import DuplicateConfig
from curation.ingest import Footage, Unreadable, find_footage
from curation.records import BadSource, SourceState
from curation.store import FinishedSource, Store, StoreUnavailable
from curation.verdicts import thresholds_id
from curation.work import already_current, curate_footage, unread_id
from jobs.cli import parse
from jobs.cluster import connect, cpus
from jobs.duplicates import find_duplicates
from jobs.funnel import Funnel
from jobs.progress import Progress, size_words
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, JobRun, MachineFault, exit_code_of, job_run, say

__all__ = ["CurateOptions", "main"]

# A commit makes a version of two tables: often enough that little is lost, seldom enough to stay cheap.
COMMIT_SOURCES, COMMIT_S = 32, 2.0
LOOK_UP_FILES = 1000
TASK_RETRIES = 3


@dataclass(frozen=True, slots=True)
class CurateOptions:
    """Footage to native-aspect clips in a store.

    Attributes:
        footage: Folders, globs, list files (.txt, .lst), files, and s3://, gs:// or https:// addresses.
        store: Folder or address of the store. Made if it is not there.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        max_failed_share: Exit with 1 if more than this share of the files failed.
        max_in_flight: Files worked on or waiting for a worker at once; 0 for twice the cluster's CPUs.
        preset: Thresholds of a published recipe.
        curate: What becomes of each source.
        same: What becomes of clips that show the same.
    """

    footage: tuple[str, ...]
    store: str
    storage_options: dict[str, str] | None = None
    max_failed_share: float = 0.1
    max_in_flight: int = 0
    preset: str | None = None
    curate: CurateConfig = field(default_factory=CurateConfig)
    same: DuplicateConfig = field(default_factory=DuplicateConfig)

    def __post_init__(self) -> None:
        if not self.footage:
            raise ValueError("footage: give at least one folder, file or address")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share={self.max_failed_share}: must be within 0 and 1")
        if self.max_in_flight < 0:
            raise ValueError(f"max_in_flight={self.max_in_flight}: must not be negative")


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.curate"
    options = parse(CurateOptions, prog=prog, argv=argv, more=EXIT_CODES, has_presets=True)
    return exit_code_of("curate", lambda: curate(options))


def curate(options: CurateOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, KeyboardInterrupt."""
    store = Store.at(options.store, options.storage_options)
    with job_run(store, "curate", options, lease_name="clips") as run:
        funnel = Funnel()
        progress = start_progress(options.footage)
        committer = Committer(run)
        for finished in finish_all(options, run, funnel, progress):
            if finished is not None:
                funnel.add(finished)
                committer.add(finished)
            committer.flush_if_due()
            progress.show(funnel.line())
        committer.flush()
        progress.show(funnel.line(), is_last=True)
        funnel.resettle(find_duplicates(run, options.same), run.run_id)
        run.counts = funnel.counts()
        say(funnel.report(store.uri))
        warn_of_other_thresholds(store, options.curate)
        return EXIT_OVER_BUDGET if funnel.failed_share() > options.max_failed_share else 0


def start_progress(wanted: Sequence[str]) -> Progress:
    """List once to know how much there is; the listing itself is not kept."""
    files = total_bytes = 0
    search = find_footage(wanted)
    for found in search:
        files += 1
        total_bytes += (found.bytes or 0) if isinstance(found, Footage) else 0
    say(", ".join(filter(None, [f"{files} files found", size_words(total_bytes), search.passed_over_words])))
    return Progress("curate", files, total_bytes)


def finish_all(
    options: CurateOptions, run: JobRun, funnel: Funnel, progress: Progress
) -> Iterator[FinishedSource | None]:
    """Every file of the footage that is not in the store yet, as it is finished, in any order; None now and then."""
    in_flight: dict[ray.ObjectRef, Footage] = {}
    for found in to_be_done(options, run.store, funnel, progress):
        if isinstance(found, Unreadable):
            progress.done(0)
            yield unreadable_source(found, options.curate, run.run_id)
            continue
        if not in_flight:
            connect()
        in_flight[submit(found, options, run)] = found
        while len(in_flight) >= (options.max_in_flight or 2 * cpus()):
            yield from finish_some(in_flight, options, run, funnel, progress)
    while in_flight:
        yield from finish_some(in_flight, options, run, funnel, progress)


def to_be_done(
    options: CurateOptions, store: Store, funnel: Funnel, progress: Progress
) -> Iterator[Footage | Unreadable]:
    """The footage without the files that were curated with this config before and have not changed since."""
    for chunk in chunks(find_footage(options.footage), LOOK_UP_FILES):
        current = already_current(store, [f for f in chunk if isinstance(f, Footage)], options.curate)
        for found in chunk:
            funnel.found += 1
            if isinstance(found, Footage) and found in current:
                funnel.present += 1
                progress.skip(1, found.bytes or 0)
            else:
                yield found


def chunks(found: Iterable[Footage | Unreadable], size: int) -> Iterator[list[Footage | Unreadable]]:
    chunk: list[Footage | Unreadable] = []
    for item in found:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


# One core a file: threads would cost more CPU for the same frames, and there are always more files than cores.
@ray.remote(num_cpus=1, max_retries=TASK_RETRIES, retry_exceptions=False, scheduling_strategy="SPREAD")
def curate_task(footage: Footage, store: Store, config: CurateConfig, run_id: str) -> FinishedSource | None:
    return curate_footage(footage, store, config, run_id)


def submit(footage: Footage, options: CurateOptions, run: JobRun) -> ray.ObjectRef:
    return curate_task.remote(footage, run.store, options.curate, run.run_id)


def finish_some(
    in_flight: dict[ray.ObjectRef, Footage], options: CurateOptions, run: JobRun, funnel: Funnel, progress: Progress
) -> Iterator[FinishedSource | None]:
    """Take what has become ready within a second."""
    ready, _ = ray.wait(list(in_flight), num_returns=len(in_flight), timeout=1.0)
    for ref in ready or []:
        footage = in_flight.pop(ref)
        progress.done(footage.bytes or 0)
        finished = result_of(ref, footage, options.curate, run.run_id)
        if finished is None:
            funnel.same_content += 1
            run.store.forget([unread_id(footage.uri)])
        else:
            yield finished
    yield None  # a moment to commit and to show progress, also while nothing finishes


def result_of(ref: ray.ObjectRef, footage: Footage, config: CurateConfig, run_id: str) -> FinishedSource | None:
    """What a task made of a file. A source that kills its worker or meets a fault of ours costs a row, not the job.

    Raises StoreUnavailable and MachineFault, which are nobody's source's fault.
    """
    try:
        return ray.get(ref)
    except StoreUnavailable:
        raise
    except OSError as error:
        raise MachineFault(f"a worker could not go on with {footage.uri}: {error}") from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        fault = BadSource(
            SourceState.FAILED, "worker_died", f"its worker died {TASK_RETRIES + 1} times: {one_line(error)}"
        )
    except ray.exceptions.RayTaskError as error:
        print(error, file=sys.stderr, flush=True)  # with the worker's traceback: this is ours to mend
        fault = BadSource(SourceState.FAILED, "error", one_line(error.cause))
    except ray.exceptions.RayError as error:  # a node went away, and so on
        fault = BadSource(SourceState.FAILED, "worker_died", one_line(error))
    return FinishedSource(unusable_source_row(footage, unread_id(footage.uri), config, run_id, fault))


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def unreadable_source(found: Unreadable, config: CurateConfig, run_id: str) -> FinishedSource:
    fault = BadSource(SourceState.FAILED, "unreadable", found.detail)
    footage = Footage(found.uri, None, "")
    return FinishedSource(unusable_source_row(footage, unread_id(found.uri), config, run_id, fault))


class Committer:
    """Lands finished sources in the store a few at a time, only while the lease is held."""

    def __init__(self, run: JobRun):
        self._run = run
        self._waiting: list[FinishedSource] = []
        self._since_s = time.monotonic()

    def add(self, finished: FinishedSource) -> None:
        self._waiting.append(finished)

    def flush_if_due(self) -> None:
        if len(self._waiting) >= COMMIT_SOURCES or time.monotonic() - self._since_s > COMMIT_S:
            self.flush()

    def flush(self) -> None:
        """Raises StoreUnavailable, LeaseLost."""
        if self._waiting:
            self._run.lease.check()
            self._run.store.commit_sources(self._waiting)
        self._waiting = []
        self._since_s = time.monotonic()


def warn_of_other_thresholds(store: Store, config: CurateConfig) -> None:
    others = store.clips_of_other_thresholds(thresholds_id(config.thresholds))
    if others:
        say(f"{others} clips have verdicts by other thresholds: python -m jobs.verdict --store {store.uri} aligns them")


if __name__ == "__main__":
    sys.exit(main())
