"""Weights shared out over GPUs (FSDP2), compiled blocks, precision: what makes of a module one that a crew trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from trainer.training.config import Precision, TrainConfig
from trainer.training.crew import Crew

__all__ = ["cast", "divide_memory_less", "is_sharded", "prepare"]


def divide_memory_less() -> None:
    """Before a GPU is first used: packs differ in length, and between pieces of fixed sizes memory would be left over.
    What the environment says already stays."""
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")


def is_sharded(config: TrainConfig, crew: Crew) -> bool:
    """Muon works on whole weights."""
    may = config.parallel == "shard" or (config.parallel == "auto" and config.optimizer != "muon")
    return crew.size > 1 and may and (config.parallel == "shard" or crew.device != "cpu")


def is_narrow(precision: Precision, crew: Crew) -> bool:
    return precision == "bfloat16" or (precision == "auto" and crew.device != "cpu")


def prepare(module: nn.Module, blocks: Sequence[nn.Module], config: TrainConfig, crew: Crew) -> None:
    """On its device, with blocks compiled and weights shared out where that is asked for. Changes the module."""
    if not is_sharded(config, crew):
        module.to(crew.device)  # else part by part, as they are shared out: the whole may not fit
    if config.compile and crew.device != "cpu":
        for block in blocks:
            block.compile()
    if is_sharded(config, crew):
        mesh = init_device_mesh(crew.device.split(":")[0], (crew.size,))
        narrow = torch.bfloat16 if is_narrow(config.precision, crew) else None
        policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for part in (*blocks, module):
            fully_shard(part, mesh=mesh, mp_policy=policy)


def cast(config: TrainConfig, crew: Crew) -> AbstractContextManager[Any]:
    if not is_narrow(config.precision, crew):
        return nullcontext()
    return torch.autocast(crew.device.split(":")[0], torch.bfloat16)
