"""What scores are made of: what was measured over one clip, and what a score is. The scores are in `scores.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.geometry import Box, Geometry
from curation.measure import FrameMeasure, Sample

__all__ = ["Measured", "Score", "ScoreValue"]

# A border is black up to codec noise: no pixel of its rows or columns is ever brighter than this (8-bit levels).
BORDER_MAX_LEVEL = 32
# At low bit rates the picture's edge rings up to a transform block into the border, at this share of its brightness.
RINGING_PX, RINGING_SHARE = 8, 0.25


@dataclass(frozen=True)
class Measured:
    """What was measured over the frames of one clip: what scores are computed from."""

    frames: Sequence[FrameMeasure]
    samples: Sequence[Sample]
    end_index: int
    time_base: Fraction
    geometry: Geometry

    @cached_property
    def active_box(self) -> Box | None:
        """The picture inside black borders, in display pixels. None where the clip is as dark as a border all over."""
        if not self.samples:
            return None
        rows = lit_range(np.max([s.row_max for s in self.samples], axis=0))
        columns = lit_range(np.max([s.column_max for s in self.samples], axis=0))
        if rows is None or columns is None:
            return None
        (top, bottom), (left, right) = rows, columns
        return self.geometry.display_box(Box(left, top, right - left, bottom - top))


def lit_range(levels: NDArray[np.uint8]) -> tuple[int, int] | None:
    """From the brightest level of each row or column to the half-open range of the picture, None if all is black."""
    lit = np.flatnonzero(levels > BORDER_MAX_LEVEL)
    if lit.size == 0:
        return None
    first, last = int(lit[0]), int(lit[-1])
    clear = np.flatnonzero(levels > max(BORDER_MAX_LEVEL, RINGING_SHARE * int(levels.max())))
    if first > 0 and clear[0] < first + RINGING_PX:
        first = int(clear[0])
    if last < len(levels) - 1 and clear[-1] > last - RINGING_PX:
        last = int(clear[-1])
    return first, last + 1


ScoreValue = float | int | bool | str | list[str] | None


@dataclass(frozen=True, slots=True)
class Score:
    """A column of the clips table: its name with its unit, its type, what it says, and how it is computed."""

    column: str
    type: pa.DataType
    says: str
    of: Callable[[Measured], ScoreValue]
