"""Context parallelism: several processes share the tokens of a pack. Each holds a part of them, and in attention all of
them for a part of the heads (arXiv 2309.14509), so every layout of attention works as it is.

L tokens of a pack, S tokens of a process's part, H heads, G heads of a process, K width of a head
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, distributed

from trainer.model.pack import Pack

__all__ = ["Context", "own_heads", "part_of", "to_heads", "to_tokens"]


@dataclass(frozen=True, slots=True)
class Context:
    """The processes that share a pack, and this one's place among them."""

    group: distributed.ProcessGroup
    place: int
    size: int


def part_of(pack: Pack, noise_LP: Tensor, context: Context | None) -> tuple[Pack, Tensor]:
    """This process's part of a pack's tokens, with who sees whom in all of it. Raises ValueError."""
    if context is None:
        return pack, noise_LP
    tokens = len(pack.row_L)
    if tokens % context.size:
        raise ValueError(f"budget_tokens={tokens}: must be a multiple of context_parallel={context.size}")
    own = slice(context.place * tokens // context.size, (context.place + 1) * tokens // context.size)
    part = replace(
        pack,
        latents_LP=pack.latents_LP[own],
        is_known_L=pack.is_known_L[own],
        row_L=pack.row_L[own],
        cos_LA=pack.cos_LA[own],
        sin_LA=pack.sin_LA[own],
    )
    return part, noise_LP[own]


def to_heads(x_SHK: Tensor, context: Context) -> Tensor:
    """[L, G, K]: all tokens for this process's heads, of its own tokens for all heads."""
    sent = rearrange(x_SHK, "s (n g) k -> n s g k", n=context.size)
    return _Exchange.apply(sent, context.group).flatten(0, 1)  # pyright: ignore[reportAttributeAccessIssue]


def to_tokens(x_LGK: Tensor, context: Context) -> Tensor:
    """[S, H, K]: the inverse."""
    sent = rearrange(x_LGK, "(n s) g k -> n s g k", n=context.size)
    got = _Exchange.apply(sent, context.group)
    return rearrange(got, "n s g k -> s (n g) k")  # pyright: ignore[reportArgumentType]


def own_heads(x_WHK: Tensor, context: Context) -> Tensor:
    """This process's heads of what all of them hold."""
    return x_WHK.chunk(context.size, dim=1)[context.place]


class _Exchange(torch.autograd.Function):
    """Part n of the first axis goes to process n, and what comes from it takes its place; its own inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: distributed.ProcessGroup) -> Tensor:
        ctx.group = group
        got = torch.empty_like(x, memory_format=torch.contiguous_format)
        distributed.all_to_all_single(got, x.contiguous(), group=group)
        return got

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        got = torch.empty_like(grad, memory_format=torch.contiguous_format)
        distributed.all_to_all_single(got, grad.contiguous(), group=ctx.group)
        return got, None
