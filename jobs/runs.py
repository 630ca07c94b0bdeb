"""What every job that writes to a store does around its work: the lease, the run's row, clear endings."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from curation.lease import Lease, LeaseLost, StoreBusy
from curation.store import Store, StoreUnavailable

__all__ = ["EXIT_CODES", "JobRun", "MachineFault", "exit_code_of", "job_run", "new_run_id", "recorded_run"]

EXIT_OVER_BUDGET, EXIT_BUSY, EXIT_STORE, EXIT_INTERRUPTED = 1, 3, 4, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 more sources failed than --max-failed-share allows; 2 impossible options; "
    "3 another run is at work on the store; 4 the store or this machine is at fault (what was finished is kept; "
    "start the same command again); 130 interrupted."
)


class MachineFault(Exception):
    """This machine cannot go on: no space for temporary files, no cluster. Not a source's fault, nor the store's."""


@dataclass(slots=True)
class JobRun:
    """A running job: its id, its lease, and the counts that its row will have."""

    run_id: str
    store: Store
    lease: Lease
    counts: dict[str, Any] = field(default_factory=dict)


def new_run_id(job: str) -> str:
    """Unique, and in order of time: `curate-20260131-235959-1a2b3c`."""
    return f"{job}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


@contextmanager
def job_run(store: Store, job: str, config: Any, *, lease_name: str) -> Iterator[JobRun]:
    """Hold the lease on the tables that a job changes and keep the run's row true, however the job ends.

    `config` is the job's frozen dataclass. Raises StoreBusy, StoreUnavailable.
    """
    run_id = new_run_id(job)
    with _terminated_as_interrupt(), Lease.take(store, lease_name, run_id, tell=say) as lease:
        store.create()
        _close_interrupted(store, job)
        run = JobRun(run_id, store, lease)
        with _recorded(store, job, config, run_id, lambda: run.counts):
            yield run


@contextmanager
def recorded_run(store: Store, job: str, config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keep a run's row true, of a job that changes no table, so that several may run at once; its id, and the counts
    that its row will have. Raises StoreUnavailable."""
    run_id, counts = new_run_id(job), {}
    store.create()
    with _terminated_as_interrupt(), _recorded(store, job, config, run_id, lambda: counts):
        yield run_id, counts


@contextmanager
def _recorded(store: Store, job: str, config: Any, run_id: str, counts: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """The run's row, from `running` to how it ended."""
    row = {
        "run_id": run_id,
        "job": job,
        "state": "running",
        "started_at": datetime.now(UTC),
        # Without storage options: they may hold keys, and a table is read by many.
        "config": json.dumps(asdict(config) | {"storage_options": None}, default=os.fspath),
        "code_version": code_version(),
        "host": socket.gethostname(),
    }
    store.write_run(row)

    def finish(state: str, error: str | None) -> None:
        ended = {"state": state, "finished_at": datetime.now(UTC), "counts": json.dumps(counts()), "error": error}
        store.write_run(row | ended)

    try:
        yield
    except BaseException as error:
        with suppress(StoreUnavailable):  # the error that ended the run is the one to be seen
            finish(
                "interrupted" if isinstance(error, KeyboardInterrupt) else "failed", f"{type(error).__name__}: {error}"
            )
        raise
    finish("finished", None)


def _close_interrupted(store: Store, job: str) -> None:
    """Runs of this kind that still say `running` are dead: this one holds the lease."""
    for row in store.open("runs").to_table(filter=f"job = '{job}' AND state = 'running'").to_pylist():
        store.write_run(row | {"state": "interrupted"})


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a job as Ctrl-C does: the lease is given back and the run's row says so."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def code_version() -> str:
    """The distribution's version, with the commit where the code lies in a git checkout."""
    root = Path(__file__).parent.parent
    release = version("dailies")
    if not (root / ".git").exists():
        return release
    command = ["git", "-C", os.fspath(root), "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{release}+{described.stdout.strip()}" if described.returncode == 0 else release


def exit_code_of(job: str, work: Callable[[], int]) -> int:
    """Run a job and turn the endings that are foreseen into a message and an exit code; a fault of ours is raised."""
    try:
        return work()
    except StoreBusy as error:
        code, message = EXIT_BUSY, str(error)
    except (StoreUnavailable, LeaseLost, MachineFault) as error:
        code, message = (
            EXIT_STORE,
            f"{error}\nWhat was finished is in the store; start the same command again to go on.",
        )
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted; start the same command again to go on"
    print(f"{job}: {message}", file=sys.stderr, flush=True)
    return code


def say(line: str) -> None:
    """A line for people, at once."""
    print(line, flush=True)
