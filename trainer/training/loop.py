"""The loop: slots of a step are read, their losses' gradients added up over all processes, and a step is taken.

Nothing is drawn from a state that a kill would lose: what a step reads and draws follows from the seed and its number,
its learning rate from its number, and all else is in the checkpoint. So a run that is killed and goes on is the run
that was not killed, to the bit where the number of processes is the same.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.checkpoint import BadCheckpoint
from trainer.epoch import shard_of
from trainer.training.checkpoints import Checkpoint, Checkpoints, load_checkpoint, newest_checkpoint
from trainer.training.config import TrainConfig, learning_rate_at
from trainer.training.crew import ALONE, Crew, whole
from trainer.training.files import RunFiles
from trainer.training.guard import Diverged, SpikeGuard
from trainer.training.learner import Learner
from trainer.training.metrics import StepLog, datasheet_flops, matmul_flops, peak_memory_bytes
from trainer.training.sharding import is_narrow, is_sharded, prepare
from trainer.training.state import Average, begin_moments, make_optimizer, state_of, trained_parameters

__all__ = ["Run", "Training", "begin", "take_step", "train"]

Read = Callable[[Iterable[tuple[int, int]]], Iterator[Any]]
"""Slots of places (step, slot), in their order."""


@dataclass(frozen=True, slots=True)
class Training:
    """One run: how it trains, where it is kept, and what its checkpoints must say to be its own.

    slots    of a step
    rescue   called by all processes where the run diverges, to write what it had learnt; where it was written
    preview  called with the run after every `sample_steps` steps and at the end, by all processes
    """

    config: TrainConfig
    files: RunFiles
    run_id: str
    plan_id: str
    slots: int
    rescue: Callable[[Run], Path | None] = lambda run: None
    preview: Callable[[Run, int], None] = lambda run, step: None
    wandb_project: str | None = None
    stop_after: int | None = None
    """Steps after which to end as if killed: for tests."""


@dataclass(slots=True)
class Run:
    """What a process works with while it trains."""

    training: Training
    learner: Learner
    crew: Crew
    optimizer: torch.optim.Optimizer
    average: Average
    guard: SpikeGuard
    step: int = 0
    log: StepLog | None = None
    told_s: float = 0.0
    peak_flops: float = 0.0
    matmul: float = 0.0

    def state(self) -> dict[str, torch.Tensor]:
        more = self.learner.more_state() | {f"guard.{name}": value for name, value in self.guard.state().items()}
        return state_of(self.learner.module, self.optimizer, self.average, more)

    def averaged(self) -> dict[str, torch.Tensor]:
        """All weights of the module as the average has them, whole, for the first process; every process must call."""
        kept: dict[str, torch.Tensor] = {}
        with self.average.in_place():
            for name, weight in self.learner.module.state_dict().items():
                full = whole(weight)  # one at a time: all of them may not fit beside the shards
                if self.crew.rank == 0:
                    kept[name] = full.detach().cpu().clone()
        return kept


def train(training: Training, learner: Learner, read: Read, crew: Crew = ALONE) -> Run:
    """Go on from the newest checkpoint to the last step, or until `RUN/stop` asks to end.

    Raises Diverged, BadCheckpoint, OSError where a checkpoint cannot be written, and what `read` raises.
    """
    run = begin(training, learner, crew)
    kept = training.config.keep_checkpoints
    checkpoints = Checkpoints(training.files.checkpoints, crew, kept, begun_at=run.step)
    mine = shard_of(training.slots, crew.reader, crew.readers)
    steps = range(run.step, training.config.steps)
    batches = read((step, slot) for step in steps for slot in mine)
    try:
        for step in steps:
            must_stop = take_step(run, step, batches, len(mine))
            run.step = step + 1
            is_last = run.step == training.config.steps
            if is_last or must_stop or run.step % training.config.checkpoint_steps == 0:
                checkpoints.begin(Checkpoint(run.step, training.run_id, training.plan_id), run.state())
            else:
                checkpoints.look()
            every = training.config.sample_steps
            if every and (is_last or run.step % every == 0):
                training.preview(run, run.step)
            if must_stop or run.step == training.stop_after:
                break
        checkpoints.finish()
    except Diverged as error:
        said = said_of(training.rescue(run))
        raise Diverged(f"{training.files.directory}: step {run.step}: {error}{said}") from error
    finally:
        close: Callable[[], None] = getattr(batches, "close", lambda: None)
        close()
        if run.log:
            run.log.close()
    return run


def said_of(rescued: Path | None) -> str:
    """What to do. No step was taken that the guard left out, so weights are those from before."""
    if rescued is None:
        return ""
    return (
        f"; {rescued} is what was learnt before: begin another run from it (--init {rescued} --run …) with a lower "
        "--learning-rate, or another --seed"
    )


def begin(training: Training, learner: Learner, crew: Crew) -> Run:
    """With the weights and moments of the newest checkpoint, where there is one. Raises BadCheckpoint."""
    config = training.config
    prepare(learner.module, learner.blocks, config, crew)
    optimizer = make_optimizer(learner.module, config)
    begin_moments(optimizer)
    run = Run(training, learner, crew, optimizer, Average(learner.module, config.ema), SpikeGuard(config.spike_factor))
    if newest := newest_checkpoint(training.files.checkpoints):
        folder, checkpoint = newest
        for name in ("run_id", "plan_id"):
            if getattr(checkpoint, name) != getattr(training, name):
                raise BadCheckpoint(f"{folder}: is of another {name[:-3]}, by its {name}; give another --run")
        load_checkpoint(folder, run.state(), crew)
        run.step = checkpoint.step
    run.peak_flops = datasheet_flops(crew.device) or 0.0
    dtype = torch.bfloat16 if is_narrow(config.precision, crew) else torch.float32
    run.matmul = matmul_flops(crew.device, dtype)
    if crew.rank == 0:
        training.files.directory.mkdir(parents=True, exist_ok=True)
        run.log = StepLog(training.files, run.step, training.run_id, training.wandb_project)
    return run


@dataclass(frozen=True, slots=True)
class Taken:
    """A step as one process knows it.

    loss    of its slots, by all that the step has to learn
    length  of the gradient, before it was shortened
    shown   sums and counts
    """

    step: int
    slots: Sequence[Any]
    loss: float
    length: float
    verdict: str
    shown: Mapping[str, torch.Tensor]
    waited_s: float


def take_step(run: Run, step: int, batches: Iterator[Any], count: int) -> bool:
    """One step; whether a checkpoint is asked for, to end with it."""
    began_s = time.perf_counter()
    slots = [next(batches) for _ in range(count)]
    waited_s = time.perf_counter() - began_s
    learner, crew, config = run.learner, run.crew, run.training.config
    is_asked = float(crew.rank == 0 and run.training.files.stop_file.exists())
    # Processes that share a pack have read the same, so each counts for its part of it.
    to_learn = [sum(map(learner.count, slots)) / crew.context, is_asked]
    learnt, stops = crew.add(to_learn)
    shown: dict[str, torch.Tensor] = {}
    total = torch.zeros((), device=crew.device)
    learner.module.train()
    for batch in slots:
        loss = learner.loss(batch)
        # FSDP gives the mean over processes, and their sum is wanted.
        scale = crew.size if is_sharded(config, crew) else 1
        (loss.total * (scale / max(1.0, learnt))).backward()
        total += loss.total.detach() / max(1.0, learnt)  # on the device: nothing waits for a number
        for name, sum_and_count in loss.shown.items():
            shown[name] = shown[name] + sum_and_count if name in shown else sum_and_count
    length, verdict = descend(run, step)
    learner.end_step(step, is_taken=verdict == "taken")
    tell(run, Taken(step, slots, float(total), length, verdict, shown, waited_s), began_s)
    return bool(stops)


def descend(run: Run, step: int) -> tuple[float, str]:
    """The length of the gradient before it was shortened, and whether the step was taken."""
    config, weights = run.training.config, list(trained_parameters(run.learner.module).values())
    if not is_sharded(config, run.crew):
        run.crew.add_gradients(weights)
    norm = whole(nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None]))
    length = float(norm)
    verdict = run.guard.judge(length)
    if verdict == "taken":
        if length > config.max_grad_norm:  # else all gradients would be multiplied by 1
            nn.utils.clip_grads_with_norm_(weights, config.max_grad_norm, norm)
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        run.optimizer.step()
        run.average.follow(step)
    run.optimizer.zero_grad(set_to_none=True)
    return length, verdict


def tell(run: Run, taken: Taken, began_s: float) -> None:
    """A line about the step, by the first process, of all processes together.

    Its time is from the line before, so that telling, checkpoints and samples count; of the first one, from its begin.
    """
    learner, crew, slots = run.learner, run.crew, taken.slots
    now_s = time.perf_counter()
    step_s, run.told_s = now_s - (run.told_s or began_s), now_s
    tokens = [learner.tokens(batch) for batch in slots]
    read, stand_ins = zip(*map(learner.read, slots), strict=True)
    sums = [taken.loss, sum(n for n, _ in tokens), sum(p for _, p in tokens), sum(stand_ins), taken.waited_s]
    sums.append(sum(map(learner.flops, slots)))
    sums.append(sum(map(number_of, read)))
    names = sorted(taken.shown)
    added = crew.add([*sums, *(part for name in names for part in taken.shown[name].tolist())])
    loss, all_tokens, padding, replaced, waited_s, flops, samples = added[: len(sums)]
    parts = added[len(sums) :]
    means = {
        name: value / weight for name, value, weight in zip(names, parts[::2], parts[1::2], strict=True) if weight > 0
    }
    if run.log is None:
        return
    shared = crew.context  # each pack was counted by all who share it
    line = {
        "step": taken.step,
        "loss": loss,
        **means,
        "gradient": taken.length,
        "verdict": taken.verdict,
        "learning_rate": learning_rate_at(taken.step, run.training.config),
        "tokens": int(all_tokens / shared),
        "tokens_per_s": all_tokens / shared / step_s,
        "padding": padding / max(1.0, all_tokens),
        "replaced": int(replaced / shared),
        "samples_id": f"{int(samples / shared):x}",
        "data_wait": waited_s / crew.size / step_s,
        "seconds": step_s,
        "memory_bytes": peak_memory_bytes(crew.device),
    }
    if learner.attention:
        line["attention"] = learner.attention
    run.log.step(line | shares_of_peak(run, flops / shared, step_s))


def shares_of_peak(run: Run, flops: float, step_s: float) -> dict[str, float]:
    """Of a step's operations, against a large product's and the datasheet's; none where a learner counts none."""
    if not flops:
        return {}
    rate = flops / step_s / run.crew.size
    found = {"flops": flops, "mfu_of_matmul": rate / run.matmul}
    return found | ({"mfu_of_datasheet": rate / run.peak_flops} if run.peak_flops else {})


def number_of(read: str) -> int:
    """Of what a slot has read; sums of them over slots are exact in a float64."""
    return int.from_bytes(hashlib.blake2b(read.encode(), digest_size=5).digest(), "big")
