"""What a run will need, said before it starts: memory, disk, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from trainer.cost import FLOAT_BYTES, HALF_BYTES, TRAINING_BYTES, activation_bytes, step_flops
from trainer.model.config import TransformerConfig, parameters_of
from trainer.model.layouts import Grid
from trainer.network.config import NetworkConfig
from trainer.network.cost import network_cost
from trainer.training.config import TrainConfig
from trainer.training.crew import Crew
from trainer.training.sharding import is_narrow, is_sharded

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
    crew: Crew,
) -> Estimate:
    """Of a run whose steps have slots like these; `parameters` are those that are trained: all of the transformer, or
    adapters beside it."""
    flops = sum(step_flops(transformer, grids, [words] * len(grids)) for grids in slots)
    share = budget_tokens // config.context_parallel
    still = parameters_of(transformer) if parameters < parameters_of(transformer) else 0
    is_compiled = config.compile and crew.device != "cpu"
    activations = activation_bytes(transformer, share, recompute=config.recompute, is_compiled=is_compiled)
    memory = activations * (1 if is_narrow(config.precision, crew) else FLOAT_BYTES / HALF_BYTES)
    weights = (TRAINING_BYTES + AVERAGE_BYTES) * parameters + FLOAT_BYTES * still
    memory += weights / (crew.size if is_sharded(config, crew) else 1)
    return Estimate(parameters, memory, disk_bytes(parameters, config, still), flops)


def network_estimate(
    network: NetworkConfig, config: TrainConfig, parameters: int, shape_BCTHW: tuple[int, ...], slots: int, crew: Crew
) -> Estimate:
    """Of a compression network whose steps have so many slots of crops; of what judges it nothing."""
    cost = network_cost(network, shape_BCTHW)
    memory = (TRAINING_BYTES + AVERAGE_BYTES) * parameters
    memory += cost.activation_bytes * (HALF_BYTES / FLOAT_BYTES if is_narrow(config.precision, crew) else 1)
    return Estimate(parameters, memory, disk_bytes(parameters, config), slots * cost.flops)


def disk_bytes(parameters: int, config: TrainConfig, still: int = 0) -> float:
    """One more checkpoint than is kept, while it is written, and the result, with the weights that stay as they are."""
    return parameters * CHECKPOINT_BYTES * (config.keep_checkpoints + 1) + AVERAGE_BYTES * (parameters + still)


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
