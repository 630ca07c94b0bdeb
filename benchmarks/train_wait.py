"""How much of a training run's time is spent waiting for data, when clips are decoded from the store as it goes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import finish
from jobs import caption, curate, train
from jobs.cli import parse
from trainer.training.files import RunFiles

SKIPPED = 5  # first steps, in which readers and kernels start
TO_REACH = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """Train on footage of yours for some steps, from blobs, and tell the share of time spent waiting for data.

    Attributes:
        footage: Folder.
        json: File for the figures, {name: value}.
        store: A store that is there already, in place of one that is made of the footage.
        steps: Of the run.
        preset: Of the model.
    """

    footage: Path | None = None
    json: Path | None = None
    store: Path | None = None
    steps: int = 40
    preset: str = "10m"

    def __post_init__(self) -> None:
        if self.footage is None and self.store is None:
            raise ValueError("footage: give a folder, or --store")
        if self.steps <= SKIPPED:
            raise ValueError(f"steps={self.steps}: must be above {SKIPPED}")


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.train_wait")
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or made_store(options.footage, Path(folder) / "store")
        run = Path(folder) / "run"
        code = train.main(
            [
                *("--store", str(store), "--run", str(run), "--network", "pixels-8", "--preset", options.preset),
                *("--patch-space", "2", "--max-tokens", "512", "--budget-tokens", "2048", "--slots", "2"),
                *("--steps", str(options.steps), "--warmup-steps", "5", "--sample-steps", "0"),
            ]
        )
        if code:
            raise SystemExit(f"jobs.train ended with {code}")
        steps = RunFiles(run).steps()[SKIPPED:]
    seconds = sum(line["seconds"] for line in steps)
    waiting = sum(line["data_wait"] * line["seconds"] for line in steps) / seconds
    figures = {
        "data_wait": waiting,
        "seconds_a_step": seconds / len(steps),
        "tokens_per_s": sum(line["tokens"] for line in steps) / seconds,
        "padding": sum(line["padding"] for line in steps) / len(steps),
    }
    words = f"waiting for data: {100 * waiting:.2f} % of {seconds:.0f} s (to reach: < {100 * TO_REACH:.0f} %)"
    finish(figures, [words], options.json, is_reached=waiting < TO_REACH)


def made_store(footage: Path | None, store: Path) -> Path:
    for code in (
        curate.main(["--footage", str(footage), "--store", str(store)]),
        caption.main(["--store", str(store)]),
    ):
        if code > 1:
            raise SystemExit(f"no store could be made of {footage}: a job ended with {code}")
    return store


if __name__ == "__main__":
    main()
