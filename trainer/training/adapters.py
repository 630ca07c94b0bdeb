"""Low-rank adapters (arXiv 2106.09685): a tuning that trains a small part beside frozen weights, and goes back into
them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from trainer.model.transformer import DiffusionTransformer

__all__ = ["add_adapters", "merged"]

NAME = "default"  # peft's own
DOWN, UP, BASE = f".lora_A.{NAME}.weight", f".lora_B.{NAME}.weight", ".base_layer."


def add_adapters(model: DiffusionTransformer, rank: int) -> None:
    """Beside every linear layer of the blocks, and freeze all else. They start as nothing. Raises ValueError."""
    if rank < 1:
        raise ValueError(f"lora_rank={rank}: must be at least 1")
    model.requires_grad_(False)
    names = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.startswith("blocks.")
    ]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), model)


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the model without adapters, of those of one with them; the scale is 1."""
    whole = {name.replace(BASE, "."): tensor.clone() for name, tensor in state.items() if not name.endswith((DOWN, UP))}
    for name, down_RD in state.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            up_ER = state[layer + UP]
            weight = whole[f"{layer}.weight"]
            weight += (up_ER.to(torch.float64) @ down_RD.to(torch.float64)).to(weight.dtype)
    return whole
