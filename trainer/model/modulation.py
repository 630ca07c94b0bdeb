"""Scale, shift and gate of adaptive layer norm, worked out for samples and spread over their tokens.

A clip with known frames has two times, its own and 0 of what is known, so it has two rows. Memory for what was spread
is not kept: the backward pass sums over tokens by a product with a matrix of zeros and ones, which is fast on a GPU,
where adding into few rows from many tokens is not, and gives the same bits each time.

L tokens, R rows, D width
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["add_gated", "modulate"]


def modulate(x_LD: Tensor, scale_RD: Tensor, shift_RD: Tensor, row_L: Tensor) -> Tensor:
    """x · (1 + scale) + shift, with those of each token's row."""
    return _Modulate.apply(x_LD, scale_RD, shift_RD, row_L)  # pyright: ignore[reportReturnType]


def add_gated(x_LD: Tensor, gate_RD: Tensor, y_LD: Tensor, row_L: Tensor) -> Tensor:
    """x + gate · y, with that of each token's row."""
    return x_LD + _Gate.apply(gate_RD, y_LD, row_L)  # pyright: ignore[reportOperatorIssue]


def _sum_by_row(values_LD: Tensor, row_L: Tensor, rows: int) -> Tensor:
    is_of_row_RL = torch.arange(rows, device=row_L.device)[:, None] == row_L
    return is_of_row_RL.to(values_LD.dtype) @ values_LD


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_LD: Tensor, scale_RD: Tensor, shift_RD: Tensor, row_L: Tensor) -> Tensor:
        ctx.save_for_backward(x_LD, scale_RD, row_L)
        return x_LD * (1 + scale_RD[row_L]) + shift_RD[row_L]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (grad_LD,) = grads
        x_LD, scale_RD, row_L = ctx.saved_tensors
        rows = len(scale_RD)
        return (
            grad_LD * (1 + scale_RD[row_L]),
            _sum_by_row(grad_LD * x_LD, row_L, rows),
            _sum_by_row(grad_LD, row_L, rows),
            None,
        )


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_RD: Tensor, y_LD: Tensor, row_L: Tensor) -> Tensor:
        ctx.save_for_backward(gate_RD, y_LD, row_L)
        return gate_RD[row_L] * y_LD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad_LD,) = grads
        gate_RD, y_LD, row_L = ctx.saved_tensors
        return _sum_by_row(grad_LD * y_LD, row_L, len(gate_RD)), grad_LD * gate_RD[row_L], None
