"""kill -9 of the driver or of a worker at random moments, then the same command again: are the tables equal to those of
an undisturbed run, row by row, videos included?
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import finish
from curation.film import make_film
from curation.store import Store
from jobs.cli import parse
from tests.jobs.running import end, run, start, workers_at_work
from tests.stores import table_rows

JOB = "jobs.curate"


@dataclass(frozen=True, slots=True)
class Options:
    """Kill a run at random moments, start it again, compare the tables.

    Attributes:
        footage: Folder with footage; without it, the film that the project makes.
        json: File for the figures, {name: value}.
        kills: How many runs are killed; every other time a worker and not the driver.
        seed: Of the random moments.
    """

    footage: Path | None = None
    json: Path | None = None
    kills: int = 20
    seed: int = 0


def killed_run(command: list[str], moment_s: float, *, kill_worker: bool) -> str:
    """Start a run, kill it at a moment, start it again until it ends by itself; what was hit."""
    process = start(JOB, *command)
    time.sleep(moment_s)
    workers = workers_at_work(process.pid)
    while kill_worker and not workers and process.poll() is None:
        workers = workers_at_work(process.pid)
    hit = "nobody, the run was over"
    if process.poll() is None:
        hit = "worker" if kill_worker else "driver"
        os.kill(random.choice(workers) if kill_worker else process.pid, signal.SIGKILL)
    end(process)
    code, output = run(JOB, *command)
    if code != 0:
        raise SystemExit(f"the run after the kill ended with {code}:\n{output}")
    return hit


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.kill")
    random.seed(options.seed)
    equal = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        footage = options.footage
        if footage is None:
            footage = folder / "film"
            make_film(footage)
        began_s = time.monotonic()
        undisturbed = Store.at(str(folder / "undisturbed"))
        code, output = run(JOB, "--footage", footage, "--store", undisturbed.uri)
        if code != 0:
            raise SystemExit(f"the undisturbed run ended with {code}:\n{output}")
        length_s = time.monotonic() - began_s
        expected = table_rows(undisturbed)
        print(f"undisturbed: {length_s:.1f} s, {len(expected['clips'])} clips", flush=True)
        for number in range(options.kills):
            store = Store.at(str(folder / f"killed-{number}"))
            moment_s = random.uniform(0.3, length_s)
            command = ["--footage", str(footage), "--store", store.uri]
            hit = killed_run(command, moment_s, kill_worker=number % 2 == 1)
            same = table_rows(store) == expected
            equal += same
            print(f"kill {number + 1}: {hit} at {moment_s:.1f} s: {'equal' if same else 'DIFFERENT'}", flush=True)
            shutil.rmtree(store.uri)
    line = f"tables equal to the undisturbed run's: {equal} of {options.kills} (to reach: all)"
    finish({"kills": options.kills, "tables_equal": equal}, [line], options.json)
    return 0 if equal == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
