"""Batches on their way from the processes that read them: all tensors of one in a single piece of shared memory.

Each tensor that is sent by itself takes an open file and a connection of its own, for which the trainer would wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["Sent"]

ALIGNED_BYTES = 64  # as torch aligns what it allocates itself


@dataclass(frozen=True, slots=True)
class Part:
    """Where a tensor is in the common piece, in bytes."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Sent:
    """Tensors on the host, in dataclasses, tuples, lists and dictionaries: they come out as they went in, but share
    their memory.

    rest   all but the tensors, in each of whose places is a part of `data`
    data   uint8
    """

    rest: Any
    data: Tensor

    @classmethod
    def of(cls, batch: object) -> Sent:
        pieces = [torch.empty(0, dtype=torch.uint8)]
        filled = 0

        def put(x: Tensor) -> Part:
            nonlocal filled
            flat, part = x.contiguous().reshape(-1).view(torch.uint8), Part(filled, tuple(x.shape), x.dtype)
            gap = -len(flat) % ALIGNED_BYTES
            pieces.extend((flat, torch.zeros(gap, dtype=torch.uint8)))
            filled += len(flat) + gap
            return part

        return cls(_with_each(batch, Tensor, put), torch.cat(pieces))

    def pin_memory(self) -> Sent:
        """Where a GPU fetches it by itself, while the host goes on; what torch's loader calls."""
        return replace(self, data=self.data.pin_memory())

    def received(self) -> Any:
        def take(part: Part) -> Tensor:
            size_bytes = prod(part.shape) * part.dtype.itemsize
            return self.data[part.start : part.start + size_bytes].view(part.dtype).view(part.shape)

        return _with_each(self.rest, Part, take)


def _with_each(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same, with what is of a kind changed, at any depth; what holds none of it is not made anew."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, tuple | list):
        changed = [_with_each(each, kind, change) for each in value]
        return type(value)(changed) if any(a is not b for a, b in zip(changed, value, strict=True)) else value
    if isinstance(value, dict):
        return {key: _with_each(each, kind, change) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = {one.name: getattr(value, one.name) for one in fields(value)}
        new = {name: _with_each(each, kind, change) for name, each in own.items()}
        new = {name: each for name, each in new.items() if each is not own[name]}
        return replace(value, **new) if new else value
    return value
