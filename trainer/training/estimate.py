"""What a run will need, said before it starts: memory, disk, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from trainer.cost import TRAINING_BYTES, step_flops, training_bytes
from trainer.model.config import TransformerConfig, parameters_of
from trainer.model.layouts import Grid
from trainer.training.config import TrainConfig

__all__ = ["Estimate", "NotEnoughSpace", "estimate", "network_estimate", "refuse_unless_room"]

AVERAGE_BYTES = 4  # of a parameter
CHECKPOINT_BYTES = 16  # of a parameter: itself, its average and two moments, in float32
REACHED_SHARE = 0.4  # of a large product's rate: what a step has been seen to reach; the first steps say better


class NotEnoughSpace(Exception):
    """The run's checkpoints would not fit on the disk."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    parameters      that are trained
    memory_bytes    of each process's device
    disk_bytes      of checkpoints and the result
    step_flops      of all processes
    """

    parameters: int
    memory_bytes: float
    disk_bytes: float
    step_flops: float

    def seconds(self, steps: int, flops_per_s: float) -> float:
        """With so many operations a second of a large product, of all processes together."""
        return steps * self.step_flops / (REACHED_SHARE * flops_per_s)


def estimate(
    transformer: TransformerConfig,
    config: TrainConfig,
    parameters: int,
    slots: Sequence[Sequence[Grid]],
    budget_tokens: int,
    words: int,
    shards: int,
    *,
    is_compiled: bool,
) -> Estimate:
    """Of a run whose steps have slots like these; `parameters` of the transformer and what is trained with it."""
    flops = sum(step_flops(transformer, grids, [words] * len(grids)) for grids in slots)
    share = budget_tokens // config.context_parallel
    extra = parameters - parameters_of(transformer)
    memory = training_bytes(transformer, share, recompute=config.recompute, is_compiled=is_compiled, shards=shards)
    memory += (AVERAGE_BYTES * parameters + TRAINING_BYTES * max(0, extra)) / shards
    return Estimate(parameters, memory, disk_bytes(parameters, config), flops)


def network_estimate(parameters: int, config: TrainConfig) -> Estimate:
    """Of a compression network: its steps are not counted in operations."""
    return Estimate(parameters, (TRAINING_BYTES + AVERAGE_BYTES) * parameters, disk_bytes(parameters, config), 0.0)


def disk_bytes(parameters: int, config: TrainConfig) -> float:
    """One more checkpoint than is kept, while it is written, and the result."""
    return parameters * (CHECKPOINT_BYTES * (config.keep_checkpoints + 1) + AVERAGE_BYTES)


def refuse_unless_room(directory: Path, need_bytes: float) -> int:
    """Free bytes where a run is kept. Raises NotEnoughSpace."""
    there = next(folder for folder in (directory, *directory.parents) if folder.exists())
    free = disk_usage(there).free
    if free < need_bytes:
        raise NotEnoughSpace(
            f"{directory}: {free / 1e9:.1f} GB are free, and the run's checkpoints need {need_bytes / 1e9:.1f} GB; "
            "free some, keep fewer checkpoints, or give another --run"
        )
    return free
