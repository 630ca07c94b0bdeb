"""How each frame differs from the one before it: what the scores of rhythm (`rhythm.py`) are computed from.

A handful of calls on the sampled picture (`planes.sampled_picture`), so that it costs microseconds a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.planes import SAMPLED_SIDE, Planes

__all__ = ["Step", "StepMeter"]

# The median change of brightness of the picture's cells can only count as a flash where the mean changes by this much
# (8-bit levels): all other frames are spared the closer look.
MIN_FLASH_LEVELS = 1.0
CELL_PX = 8
# Relative luminance by the transfer of sRGB, as WCAG defines it. A change whose darker end is at 0.8 or more is no
# flash there; cutting luminance off at 0.9 leaves such a change under the tenth that a flash needs.
BRIGHTEST = 0.9


@dataclass(frozen=True, slots=True)
class Step:
    """From the frame before to this one, on every k-th pixel.

    `luma_levels`: root mean square change of luma in 8-bit full-range levels, from 0. `luminance`: the median over
    cells of 8 by 8 of those pixels of the signed change of relative luminance, -0.9 to 0.9: at least half of the
    picture changed by as much, in this direction. `even_levels`, `odd_levels`: `luma_levels` of even and of odd rows
    alone, which are the two fields of interlaced pictures; None where nobody asked.
    """

    luma_levels: float
    luminance: float
    even_levels: float | None = None
    odd_levels: float | None = None


class StepMeter:
    """Feed the frames of a source in order; get each frame's step from the one before, None for the first."""

    def __init__(self) -> None:
        self._luma: NDArray[np.uint8] | None = None
        self._mean = 0.0
        self._fields: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def feed(self, luma: NDArray[np.uint8], mean: float, planes: Planes, *, with_fields: bool) -> Step | None:
        """`luma`: of the sampled picture, `mean`: its mean level. `with_fields`: measure both fields apart as well."""
        before, mean_before, fields_before = self._luma, self._mean, self._fields
        self._luma, self._mean = luma, mean
        self._fields = fields_of(planes) if with_fields and len(planes.luma) > 1 else None
        if before is None or before.shape != luma.shape:
            return None
        luminance = luminance_change(before, luma) if abs(mean - mean_before) >= MIN_FLASH_LEVELS else 0.0
        if fields_before is None or self._fields is None:
            return Step(rms_change(before, luma), luminance)
        even, odd = (rms_change(a, b) for a, b in zip(fields_before, self._fields, strict=True))
        return Step(((even**2 + odd**2) / 2) ** 0.5, luminance, even, odd)  # every k-th row may be of one field alone


def rms_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Root mean square difference: what moves in a small part of the picture stands out from noise all over it."""
    return cv2.norm(before, after, cv2.NORM_L2) / before.size**0.5


def luminance_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    height, width = before.shape
    size = (-(-width // CELL_PX), -(-height // CELL_PX))
    cells = [np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in (before, after)]
    return float(np.median(_RELATIVE_LUMINANCE[cells[1]] - _RELATIVE_LUMINANCE[cells[0]]))


def _relative_luminance() -> NDArray[np.float32]:
    """Of gray levels: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return np.minimum(linear, BRIGHTEST).astype(np.float32)


_RELATIVE_LUMINANCE = _relative_luminance()


def fields_of(planes: Planes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Every k-th row of the even and of the odd rows, and every k-th column, as levels."""
    height, width = planes.luma.shape
    step = -(-max(width, height // 2) // SAMPLED_SIDE)
    first, rows = step // 2, height // 2
    columns = planes.luma[: 2 * rows, min(first, width - 1) :: step]
    even, odd = (columns[parity::2][min(first, max(0, rows - 1)) :: step] for parity in (0, 1))
    return planes.luma_levels(even), planes.luma_levels(odd)
