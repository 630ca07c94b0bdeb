"""Weights shared out over GPUs (FSDP2), compiled blocks, precision: what makes of a module one that a crew trains."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from trainer.training.config import Parallel, Precision, TrainConfig
from trainer.training.crew import Crew

__all__ = ["cast", "is_sharded", "prepare", "synchronises"]


def is_sharded(parallel: Parallel, crew: Crew) -> bool:
    return crew.size > 1 and (parallel == "shard" or (parallel == "auto" and crew.device != "cpu"))


def is_narrow(precision: Precision, crew: Crew) -> bool:
    return precision == "bfloat16" or (precision == "auto" and crew.device != "cpu")


def prepare(module: nn.Module, blocks: Sequence[nn.Module], config: TrainConfig, crew: Crew) -> None:
    """On its device, with blocks compiled and weights shared out where that is asked for. Changes the module."""
    module.to(crew.device)
    if config.compile and crew.device != "cpu":
        for block in blocks:
            block.compile()
    if is_sharded(config.parallel, crew):
        mesh = init_device_mesh(crew.device.split(":")[0], (crew.size,))
        narrow = torch.bfloat16 if is_narrow(config.precision, crew) else None
        policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for part in (*blocks, module):
            fully_shard(part, mesh=mesh, mp_policy=policy)


def cast(config: TrainConfig, crew: Crew) -> AbstractContextManager[Any]:
    if not is_narrow(config.precision, crew):
        return nullcontext()
    return torch.autocast(crew.device.split(":")[0], torch.bfloat16)


def synchronises(module: nn.Module, is_last: bool) -> None:
    """Gradients of weights that are shared out are exchanged with the last slot of a step only."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
