"""kill -9 of vLLM's engine, of the driver or of a Ray worker in the middle of captioning, then the same command again:
is a caption lost or doubled, and does anything of a dead run live on?

The tables are held against those of an undisturbed run: the same captions, row by row, and the same clips. Texts too,
but those may differ by the last bit of a sum: what else an engine works on decides how it adds. Such are counted.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.caption_runs import JOB, LIMIT_S, arguments_for, checked
from benchmarks.figures import finish
from benchmarks.marked_clips import marked_store
from captioner.tiny_model import make_tiny_model
from curation.store import Store
from jobs.cli import parse
from jobs.runs import EXIT_STORE
from tests.jobs.running import descendants, start

Victim = Literal["engine", "driver", "worker"]
VICTIMS: tuple[Victim, ...] = ("engine", "driver", "worker")
ORPHANS_END_S = 30.0
LATEST = 0.3  # of the captions: they land some at a time, and the engine has ended before the last ones do
# Two small processes of Ray's that see the death of their cluster after a minute, and then end.
RAYS_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
RAYS_ACTORS = "ray::_"  # that keep count of a dataset and of the cluster
# Of the model and not of the work.
SAID = ("text", "fields", "flags", "tokens_out", "finish_reason", "agreement")


@dataclass(frozen=True, slots=True)
class Options:
    """Kill captioning runs at random moments, start them again, compare the tables.

    Attributes:
        json: File for the figures, {name: value}.
        kills: How many runs are killed: by turns the engine, the driver and a worker.
        clips: How many clips are captioned.
        output_tokens: Length of an answer.
        seed: Of the random moments.
    """

    json: Path | None = None
    kills: int = 6
    clips: int = 96
    output_tokens: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Killed:
    """A run that was killed. `left` are command lines of processes that outlived it by too much."""

    hit: str
    landed: int
    exit_code: int
    left: tuple[str, ...]


def is_engine(command: str) -> bool:
    return command.startswith("VLLM::EngineCore")


def is_worker(command: str) -> bool:
    """A process of Ray that has work of ours, the engine's own among them."""
    return command.startswith("ray::") and not command.startswith(("ray::IDLE", RAYS_ACTORS, *RAYS_AGENTS))


def pids_of(victim: Victim, driver: int) -> Sequence[int]:
    if victim == "driver":
        return [driver]
    wanted = is_engine if victim == "engine" else is_worker
    return [pid for pid, command in descendants(driver).items() if wanted(command)]


def captions_landed(store: Store) -> int:
    with suppress(Exception):  # the table may not be there yet, or be made this moment
        return store.open("captions").count_rows()
    return 0


def started_at(pid: int) -> str | None:
    """When a process began, in ticks since the machine did: with its number, which process it is."""
    with suppress(OSError):
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    return None


def orphans(before: dict[int, tuple[str | None, str]], patience_s: float = ORPHANS_END_S) -> tuple[str, ...]:
    """Of the processes of a dead run, those that live when they should have ended. They are ended."""
    ours = {pid: began for pid, (began, line) in before.items() if began and not line.startswith(RAYS_AGENTS)}

    def alive() -> list[int]:
        return [pid for pid, began in ours.items() if started_at(pid) == began]

    deadline_s = time.monotonic() + patience_s
    while (left := alive()) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(before[pid][1].strip()[:100] for pid in left)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of a job with an engine, which takes longer than those of the tests."""
    output, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, output


def run(what: str, command: Sequence[str]) -> None:
    checked(what, *end(start(JOB, *command)))


def killed_run(
    command: Sequence[str], victim: Victim, is_time: Callable[[], bool], landed: Callable[[], int]
) -> Killed:
    """Start the job, kill the victim when it is time, wait for the end of the run, whatever that is."""
    process = start(JOB, *command)
    while process.poll() is None and not (is_time() and pids_of(victim, process.pid)):
        time.sleep(0.05)
    if process.poll() is not None:
        return Killed("nobody, the run was over", landed(), end(process)[0], ())
    before = {pid: (started_at(pid), line) for pid, line in descendants(process.pid).items()}
    when = landed()
    with suppress(ProcessLookupError):
        os.kill(random.choice(pids_of(victim, process.pid) or [process.pid]), signal.SIGKILL)
    code = end(process)[0]
    return Killed(victim, when, code, orphans(before))


def key_rows(store: Store) -> dict[str, dict[str, Any]]:
    """The captions by id, without what differs between runs. A doubled one is an error."""
    rows = store.open("captions").to_table().to_pylist()
    found = {row["caption_id"]: {k: v for k, v in row.items() if k != "run_id"} for row in rows}
    if len(found) != len(rows):
        raise SystemExit(f"{len(rows) - len(found)} captions are there twice")
    return found


def without(rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    return {key: {k: v for k, v in row.items() if k not in columns} for key, row in rows.items()}


def command_for(store: Store, model: Path, options: Options) -> list[str]:
    """Small batches and few at once, so that captions land one after another. Answers of random weights fail the
    checks, so each is asked for once."""
    command = arguments_for(store, "--captioner", "vllm", "--model", str(model))
    command += ["--attempts", "1", "--max-tokens", str(options.output_tokens)]
    command += ["--sample-fps", "4", "--batch-size", "4", "--batches-in-flight", "2", "--max-model-len", "4096"]
    return [*command, "--engine-args", "enforce_eager", "true", "max_num_seqs", "4"]


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.caption_kill")
    random.seed(options.seed)
    whole = hits = broken = same_texts = orphaned = went_on = 0
    by_victim: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_tiny_model(folder / "model", hidden=256, layers=4)  # slow enough that captions land one by one
        fresh = marked_store(folder, options.clips)
        undisturbed = Store.at(str(shutil.copytree(fresh.uri, folder / "undisturbed")))
        began_s = time.monotonic()
        run("the undisturbed run", command_for(undisturbed, model, options))
        expected = key_rows(undisturbed)
        print(f"undisturbed: {time.monotonic() - began_s:.1f} s, {len(expected)} captions", flush=True)
        for number in range(options.kills):
            victim = VICTIMS[number % len(VICTIMS)]
            store = Store.at(str(shutil.copytree(fresh.uri, folder / f"killed-{number}")))
            command = command_for(store, model, options)
            moment = random.randrange(round(LATEST * len(expected)))  # when so many captions have landed

            def landed(store: Store = store) -> int:
                return captions_landed(store)

            def is_time(moment: int = moment, landed: Callable[[], int] = landed) -> bool:
                return landed() >= moment

            killed = killed_run(command, victim, is_time, landed)
            if killed.exit_code not in (0, EXIT_STORE, -signal.SIGKILL):
                raise SystemExit(f"the run whose {victim} was killed ended with {killed.exit_code}")
            run("the run after the kill", command)
            found = key_rows(store)
            is_whole = without(found, SAID) == without(expected, SAID)
            # What had landed whole could not be lost any more: such a kill shows nothing, whatever the table is.
            is_hit = killed.hit == victim and killed.landed < len(expected)
            by_victim[victim] += is_hit
            if not is_whole:
                broken += 1
            differing = sum(found[key] != row for key, row in expected.items() if key in found)
            hits += is_hit
            whole += is_whole and is_hit
            same_texts += differing == 0
            went_on += killed.exit_code == 0
            orphaned += bool(killed.left)
            print(
                f"kill {number + 1}: {killed.hit} when {killed.landed} captions had landed, the run ended with "
                f"{killed.exit_code}; after the next {'equal' if is_whole else 'DIFFERENT'}, {differing} of "
                f"{len(expected)} say something else" + "".join(f"\n  left: {line}" for line in killed.left),
                flush=True,
            )
            shutil.rmtree(store.uri)
    figures = {
        "kills": options.kills,
        "captions": len(expected),
        "hit_in_mid_run": hits,
        **{f"hit_{victim}": by_victim[victim] for victim in VICTIMS},
        "tables_equal": whole,
        "texts_equal": same_texts,
        "runs_that_went_on": went_on,
        "runs_that_left_processes": orphaned,
    }
    by_whom = ", ".join(f"{victim} {by_victim[victim]}" for victim in VICTIMS)
    line = (
        f"runs hit in mid-run ({by_whom}), same command again, no caption lost or doubled: {whole} of {hits} "
        f"(to reach: all, of {options.kills}); "
        f"processes left behind after {ORPHANS_END_S:.0f} s by {orphaned} (to reach: 0)"
    )
    finish(figures, [line], options.json)
    return 0 if whole == hits > 0 and not broken and not orphaned else 1


if __name__ == "__main__":
    sys.exit(main())
