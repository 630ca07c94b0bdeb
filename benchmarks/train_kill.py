"""Training that is killed at random steps and goes on by the same command, and that changes its number of workers:
losses and what was read, beside those of a run that was left alone.

Every kill is `kill -9` of the driver with all of its workers, at a step that is drawn; store, seed and command stay.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.figures import finish
from benchmarks.tune_footage import all_attributes, write_clip
from jobs import caption, curate
from jobs.cli import parse
from trainer.training.files import RunFiles

CLIPS = 24
TIMEOUT_S = 600.0
SMALL = [
    *("--network", "pixels-8", "--max-tokens", "128", "--min-side-px", "48", "--budget-tokens", "512", "--slots", "2"),
    *("--width", "64", "--depth", "2", "--head-width", "32", "--mlp-width", "128", "--text-width", "32"),
    *("--patch-space", "1", "--warmup-steps", "5", "--learning-rate", "1e-3", "--cpus-per-worker", "1"),
    *(
        "--sample-steps",
        "0",
    ),
]


@dataclass(frozen=True, slots=True)
class Options:
    """Kill training, go on, and compare with a run that was left alone.

    Attributes:
        footage: Clips of yours; without it some are made.
        json: File for the figures, {name: value}.
        kills: Times that a run is killed.
        steps: Of a run.
        checkpoint_steps: Between checkpoints.
        seed: Of the moments.
    """

    footage: Path | None = None
    json: Path | None = None
    kills: int = 5
    steps: int = 60
    checkpoint_steps: int = 7
    seed: int = 0


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.train_kill")
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: Options, folder: Path) -> None:
    store = folder / "store"
    make_store(options.footage or made_footage(folder / "footage"), store)
    alone = run_whole(options, store, folder / "alone")
    killed, kills = run_killed(options, store, folder / "killed")
    elastic = run_elastic(options, store, folder / "elastic")
    equal = sum(a == b for a, b in zip(alone, killed, strict=True))
    read = samples(folder / "alone")
    same_killed, same_elastic = (
        sum(a == b for a, b in zip(read, samples(folder / name), strict=True)) for name in ("killed", "elastic")
    )
    apart = max(abs(a - b) / abs(a) for a, b in zip(alone, elastic, strict=True))
    figures = {
        "kills": kills,
        "steps": options.steps,
        "steps_equal_to_the_bit": equal,
        "steps_with_the_same_samples_killed": same_killed,
        "steps_with_the_same_samples_elastic": same_elastic,
        "elastic_largest_relative_difference": apart,
    }
    lines = [
        f"killed {kills} times at random steps: {equal} of {options.steps} losses equal to the bit, "
        f"{same_killed} read the same samples (to reach: all)",
        f"by 1, 2 and 1 workers: {same_elastic} of {options.steps} steps read the same samples (to reach: all), "
        f"losses within {apart:.1e} of those of one",
    ]
    all_equal = {equal, same_killed, same_elastic} == {options.steps}
    finish(figures, lines, options.json, is_reached=all_equal and kills == options.kills)


def made_footage(folder: Path) -> Path:
    folder.mkdir()
    attributes = all_attributes()
    for number in range(CLIPS):
        write_clip(folder / f"{number:03}.mp4", attributes[37 * number % len(attributes)], number)
    return folder


def make_store(footage: Path, store: Path) -> None:
    for code in (
        curate.main(["--footage", str(footage), "--store", str(store), "--min-seconds", "0.5"]),
        caption.main(["--store", str(store)]),
    ):
        if code:
            raise SystemExit(f"no store could be made of {footage}: a job ended with {code}")


def command(options: Options, store: Path, run: Path, *more: str) -> list[str]:
    own = ["--store", str(store), "--run", str(run), "--steps", str(options.steps), *SMALL, *more]
    kept = ["--checkpoint-steps", str(options.checkpoint_steps), "--where", "video_bytes IS NOT NULL"]
    return [sys.executable, "-m", "jobs.train", *own, *kept]


def run_whole(options: Options, store: Path, run: Path) -> list[float]:
    subprocess.run(command(options, store, run), check=True, stdout=subprocess.DEVNULL)
    return losses(run)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in RunFiles(run).steps()]


def samples(run: Path) -> list[str]:
    """Of each step, what says which clips were in which slot."""
    return [line["samples_id"] for line in RunFiles(run).steps()]


def run_killed(options: Options, store: Path, run: Path) -> tuple[list[float], int]:
    draw = random.Random(options.seed)
    moments = sorted(draw.sample(range(2, options.steps - 2), options.kills))
    kills = 0
    for moment in moments:
        driver = subprocess.Popen(command(options, store, run), stdout=subprocess.DEVNULL, start_new_session=True)
        if wait_for(run, moment, driver):
            kill_all(driver)
            kills += 1
            print(f"killed after step {len(losses(run))}, asked for {moment}", flush=True)
        driver.wait()
    return run_whole(options, store, run), kills


def kill_all(driver: subprocess.Popen[bytes]) -> None:
    """At once: the driver, Ray, its workers, and what reads ahead for them."""
    family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_for(run: Path, steps: int, driver: subprocess.Popen[bytes]) -> bool:
    """Whether a run came so far while it was alive."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while driver.poll() is None and time.monotonic() < deadline_s:
        if len(RunFiles(run).steps()) >= steps:
            return True
        time.sleep(0.05)
    return False


def run_elastic(options: Options, store: Path, run: Path) -> list[float]:
    """A third of the steps by one worker, a third by two, and the rest by one."""
    taken = 0
    for share, workers in ((1 / 3, "1"), (2 / 3, "2")):
        asked = command(options, store, run, "--workers", workers)
        driver = subprocess.Popen(asked, stdout=subprocess.DEVNULL)
        if wait_for(run, int(share * options.steps), driver):
            driver.send_signal(signal.SIGTERM)
        driver.wait()
        before, taken = taken, len(losses(run))
        print(f"steps {before} to {taken} by {workers} workers", flush=True)
        if not before < taken < options.steps:
            raise SystemExit(f"{workers} workers took steps {before} to {taken}, and each number has to take some")
    return run_whole(options, store, run)


if __name__ == "__main__":
    main()
