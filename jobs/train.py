"""Training, on Ray Train.

what is to be trained, on what (jobs.train_work) → workers: packs read from blobs or latents, steps, checkpoints → a
model that jobs.sample takes
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curation.model_files import BadModel
from curation.store import Store
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.progress import duration_words
from jobs.ray_train import Workers
from jobs.runs import exit_code_of, recorded_run, say
from jobs.train_options import TrainOptions
from jobs.train_run import BadRun, close_killed, facts_of, forgotten_if_refused, only_one
from jobs.train_work import network_work, transformer_work
from jobs.train_workers import run_workers
from trainer.checkpoint import CONFIG, BadCheckpoint
from trainer.reading.slots import NothingReadable
from trainer.training.checkpoints import newest_checkpoint
from trainer.training.estimate import NotEnoughSpace
from trainer.training.files import RunFiles
from trainer.training.guard import Diverged

__all__ = ["TrainOptions", "main"]

EXIT_REFUSED = 2
EXIT_CODES_OF_TRAINING = (
    "Exit codes: 0 done; 2 impossible options, or a run that cannot go on: diverged, damaged, another's; 4 the store "
    "or this machine is at fault (the last checkpoint is kept; start the same command again); 130 interrupted."
)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(TrainOptions, prog="python -m jobs.train", argv=argv, more=EXIT_CODES_OF_TRAINING)
    try:
        # Absolute, so that the same run has the same name wherever the command is given.
        return exit_code_of("train", lambda: train(replace(options, run=options.run.absolute())))
    except (BadRun, BadModel, BadCheckpoint, NotEnoughSpace, NothingReadable, Diverged) as error:
        print(f"train: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED


def train(options: TrainOptions) -> int:
    """Run the job; the exit code. Raises StoreUnavailable, MachineFault, BadRun and the errors of `main`."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    refuse_unless_condition(store, options.where, "train")
    if options.wandb is not None and find_spec("wandb") is None:
        raise BadRun(f"wandb={options.wandb}: its package is missing; pip install wandb, or leave it out")
    files = RunFiles(options.run)
    result = files.network if is_network(options) else files.model
    with only_one(files):
        try:
            with forgotten_if_refused(files):
                facts = facts_of(options, store, files)
                if (result / CONFIG).is_file() and (files.directory / "finished").is_file():
                    say(f"nothing to do: {result} is what this run made")
                    return 0
                make = network_work if is_network(options) else transformer_work
                work = make(options, store, files, facts)
        except ValueError as error:
            raise error if isinstance(error, BadCheckpoint) else BadRun(str(error)) from error
        close_killed(store, options)
        with recorded_run(store, "train", options) as (run_id, counts):
            asked = Workers(options.workers, options.cpus_per_worker, options.num_gpus, options.restarts)
            run_workers(asked, work)
            steps, newest = files.steps(), newest_checkpoint(files.checkpoints)
            counts |= {"steps": len(steps), "loss": steps[-1]["loss"] if steps else None, "out": str(result)}
            counts["replaced"] = sum(line["replaced"] for line in steps)
            is_finished = newest is not None and newest[1].step == options.train.steps
            if is_finished:
                (files.directory / "finished").write_text(run_id + "\n", encoding="utf-8")
        say(summary(steps, files))
        if not is_finished:
            say(f"ended early, as {files.stop_file} asked; the same command goes on to step {options.train.steps}")
        say(f"trained: {said_next(options, result)}")
    return 0


def is_network(options: TrainOptions) -> bool:
    return options.what == "network"


def summary(steps: Sequence[Mapping[str, Any]], files: RunFiles) -> str:
    if not steps:
        return f"no step was taken; see {files.directory}"
    last = [line for line in steps[-50:] if line["loss"] is not None]
    loss = sum(line["loss"] for line in last) / max(1, len(last))
    seconds = sum(line["seconds"] for line in steps)
    tokens = sum(line["tokens"] for line in steps)
    waiting = sum(line["data_wait"] * line["seconds"] for line in steps) / max(1e-9, seconds)
    left_out = sum(line["verdict"] != "taken" for line in steps)
    return (
        f"{len(steps)} steps in {duration_words(seconds)}, {tokens / max(1e-9, seconds):.0f} tokens/s, "
        f"{100 * waiting:.1f} % of the time waiting for data; loss {loss:.4f} over the last {len(last)} steps; "
        f"{left_out} steps left out by the guard, {sum(line['replaced'] for line in steps)} samples replaced\n"
        f"metrics: tensorboard --logdir {files.events}"
    )


def said_next(options: TrainOptions, result: Path) -> str:
    if is_network(options):
        return f"python -m jobs.encode --store {options.store} --network {result}"
    return f'python -m jobs.sample --run {options.run} --prompt "…" --out sample.mp4'


if __name__ == "__main__":
    sys.exit(main())
