"""Batches on their way from the processes that read them: all tensors of one in a single piece of shared memory.

Each tensor that is sent by itself takes an open file and a connection of its own, for which the trainer would wait.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

__all__ = ["Sent"]

ALIGNED_BYTES = 64  # as torch aligns what it allocates itself


@dataclass(frozen=True, slots=True)
class Sent:
    """Anything that can be pickled; its tensors are on the host and come out as they went in, but share memory.

    rest   its pickle, in which each tensor is a place in `data`
    data   uint8
    """

    rest: bytes
    data: Tensor

    @classmethod
    def of(cls, batch: object) -> Sent:
        written = io.BytesIO()
        packing = _Packing(written)
        packing.dump(batch)
        return cls(written.getvalue(), packing.data())

    def received(self) -> Any:
        return _Unpacking(self).load()


class _Packing(pickle.Pickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._parts: list[Tensor] = [torch.empty(0, dtype=torch.uint8)]
        self._bytes = 0

    def persistent_id(self, obj: object) -> tuple[int, tuple[int, ...], torch.dtype] | None:
        if not isinstance(obj, Tensor):
            return None
        part, start = obj.contiguous().reshape(-1).view(torch.uint8), self._bytes
        self._parts += [part, torch.zeros(-len(part) % ALIGNED_BYTES, dtype=torch.uint8)]
        self._bytes += len(part) + -len(part) % ALIGNED_BYTES
        return start, tuple(obj.shape), obj.dtype

    def data(self) -> Tensor:
        return torch.cat(self._parts)


class _Unpacking(pickle.Unpickler):
    def __init__(self, sent: Sent):
        super().__init__(io.BytesIO(sent.rest))
        self._data = sent.data

    def persistent_load(self, pid: Any) -> Tensor:
        start, shape, dtype = pid
        return self._data[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
