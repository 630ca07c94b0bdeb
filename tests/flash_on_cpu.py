"""FlashAttention's operators of torch on a CPU, where there are none: what a GPU runs, traced and compiled as there.

The arithmetic is the definition; see `torch.nn.attention.varlen` for what is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.model import attention


@dataclass(slots=True)
class Calls:
    forward: int = 0
    backward: int = 0


@contextmanager
def flash_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Inside, `attend` chooses varlen on a CPU as well. How often its operators are run is counted."""
    calls = Calls()

    def forward(
        q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, *_args: Any, **_options: Any
    ) -> tuple[Tensor, ...]:
        calls.forward += 1
        parts = [_weights(a, b) @ c.transpose(0, 1).float() for a, b, c in _segments(cu_q, cu_k, q, (k, v))]
        out = torch.cat([part.transpose(0, 1) for part in parts]).to(q.dtype)
        none = torch.zeros(2, dtype=torch.uint64)
        return out, torch.zeros(q.shape[1], len(q)), none, none[0], torch.empty(0)

    def backward(
        grad: Tensor, q: Tensor, k: Tensor, v: Tensor, _out: Tensor, _lse: Tensor, cu_q: Tensor, cu_k: Tensor,
        *_args: Any, **_options: Any,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        calls.backward += 1
        found: list[tuple[Tensor, ...]] = []
        for (a, b, c), (g, _, _) in zip(
            _segments(cu_q, cu_k, q, (k, v)), _segments(cu_q, cu_k, grad, (k, v)), strict=True
        ):
            weights = _weights(a, b)
            a, b, c, g = (x.transpose(0, 1).float() for x in (a, b, c, g))
            by_weight = g @ c.mT
            by_score = weights * (by_weight - (by_weight * weights).sum(-1, keepdim=True)) / a.shape[-1] ** 0.5
            found.append((by_score @ b, by_score.mT @ a, weights.mT @ g))
        return tuple(torch.cat([x.transpose(0, 1) for x in parts]).to(q.dtype) for parts in zip(*found, strict=True))

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")
    monkeypatch.setattr(attention, "kernel_for", lambda q_LHK: "varlen")
    try:
        yield calls
    finally:
        library._destroy()


def _segments(cu_q: Tensor, cu_k: Tensor, q: Tensor, kv: tuple[Tensor, Tensor]) -> Iterator[tuple[Tensor, ...]]:
    queries, keys = cu_q.diff().tolist(), cu_k.diff().tolist()
    return zip(q.split(queries), kv[0].split(keys), kv[1].split(keys), strict=True)


def _weights(q: Tensor, k: Tensor) -> Tensor:
    q, k = (x.transpose(0, 1).float() for x in (q, k))
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
