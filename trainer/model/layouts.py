"""Which tokens of a pack see each other: attention over whole clips, over space and time by turns, or within windows.

Each is the same call with other boundaries, after the tokens were put in an order in which those that see each other
are neighbours. Tokens of a clip come in the order (t, h, w).

L tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.model.attention import Segments

__all__ = ["ATTENTIONS", "Attention", "Layout", "Window", "layouts_of", "members_of"]

Attention = Literal["full", "factorised", "windowed"]
ATTENTIONS: tuple[Attention, ...] = ("full", "factorised", "windowed")
PADDING_PIECE = 64  # tokens: all of a nearly empty pack's would cost their number squared
Grid = tuple[int, int, int]
Window = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """An order of a pack's tokens, and its segments.

    order, back   int64[L]: tokens gathered for attention, and put back; None where they are in order as they stand
    """

    segments: Segments
    order: Tensor | None = None
    back: Tensor | None = None

    def to(self, device: torch.device | str) -> Layout:
        order, back = (None if x is None else x.to(device, non_blocking=True) for x in (self.order, self.back))
        return Layout(self.segments.to(device), order, back)


def layouts_of(grids: Sequence[Grid], attention: Attention, window: Window, *, padding: int = 0) -> tuple[Layout, ...]:
    """The layouts that a model's blocks use by turns, one for full attention, two for the others: a frame's space and
    each place's time; windows, and windows moved by half of one.

    padding   tokens at the end of the pack that belong to no clip: they see each other only, a few at a time
    """
    if attention == "full":
        return (_layout([members_of(grid, grid, (0, 0, 0)) for grid in grids], padding),)
    shapes = ((1, 0, 0), (0, 1, 1)) if attention == "factorised" else (window, window)
    layouts = []
    for turn, shape in enumerate(shapes):
        moved = attention == "windowed" and turn == 1
        shift = (window[0] // 2, window[1] // 2, window[2] // 2) if moved else (0, 0, 0)
        blocks = [_capped(shape, grid) for grid in grids]
        layouts.append(_layout([members_of(g, b, shift) for g, b in zip(grids, blocks, strict=True)], padding))
    return tuple(layouts)


def _capped(shape: Window, grid: Grid) -> Grid:
    """0 stands for all of an axis."""
    time, rows, columns = (min(side or whole, whole) for side, whole in zip(shape, grid, strict=True))
    return time, rows, columns


def members_of(grid: Grid, block: Grid, shift: Grid) -> tuple[NDArray[np.int64], list[int]]:
    """The tokens of a clip, block by block, and how many are in each. Blocks at the rim are cut, not padded."""
    at = np.meshgrid(*[np.arange(n) for n in grid], indexing="ij")
    moved = [(a + (s if n > b else 0)) // b for a, n, b, s in zip(at, grid, block, shift, strict=True)]
    sizes = [int(m.max()) + 1 for m in moved]
    number = np.ravel_multi_index(tuple(m.ravel() for m in moved), sizes)
    order = np.argsort(number, kind="stable").astype(np.int64)
    return order, [int(n) for n in np.bincount(number) if n]


def _layout(clips: Sequence[tuple[NDArray[np.int64], list[int]]], padding: int) -> Layout:
    lengths = [length for _, members in clips for length in members]
    starts = np.cumsum([0, *(len(order) for order, _ in clips)])
    parts = [order + start for (order, _), start in zip(clips, starts[:-1], strict=True)]
    parts.append(np.arange(starts[-1], starts[-1] + padding))
    order = np.concatenate(parts)
    whole, rest = divmod(padding, PADDING_PIECE)
    segments = Segments.of([*lengths, *[PADDING_PIECE] * whole, *[rest] * bool(rest)])
    if np.array_equal(order, np.arange(len(order))):
        return Layout(segments)
    return Layout(segments, torch.from_numpy(order), torch.from_numpy(np.argsort(order)))
