"""A frame in a few hundred numbers: what boundaries are found from, and how alike two frames are."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.planes import Picture

__all__ = [
    "LUMA_CELLS",
    "Signature",
    "dark_level",
    "difference",
    "is_recolored",
    "is_same_picture",
    "likeness",
    "signature_of",
    "unexplained",
]

U8 = NDArray[np.uint8]

# Cells along the longer and the shorter side. Small enough that a shake of the camera moves a picture by a cell or two,
# large enough that pictures of two scenes hardly ever look alike.
LONG_CELLS, SHORT_CELLS = 32, 18
LUMA_CELLS = LONG_CELLS * SHORT_CELLS
CHROMA_CELLS = LUMA_CELLS // 4
# A cell that is darker than this in all pictures compared says nothing about how alike they are: bars above and below a
# film are the same in all its scenes. In dark pictures it is a share of their brightness, but not as dark as bars.
DARK_LEVEL, DARK_SHARE, BAR_LEVEL = 24, 0.4, 4
# After a flash the picture is the one from before: nearer to it than this share of the flash, and that much alike.
SAME_CHANGE_SHARE, SAME_LIKENESS = 0.5, 0.7
# Colours this far from gray (root mean square, in 8-bit levels) tell scenes apart: under another light a picture keeps
# most of its hues, and what was gray before says nothing. In dark pictures less counts, a share of their brightness.
MIN_COLOR, MIN_DARK_COLOR, MIN_COLOR_SHARE, MAX_COLOR_COSINE = 20.0, 6.0, 0.4, 0.0
# Block matching: pictures of this width, blocks and how far each may have moved (a sixth of the picture's width).
MATCH_SIDE, BLOCK_SIDE, REACH = 64, 16, 10
# A block that varies less than this says nothing of where it comes from (standard deviation in 8-bit levels); one that
# varies by more than the other counts no more than that.
MIN_TEXTURE, FULL_TEXTURE = 2.0, 30.0


@dataclass(frozen=True, slots=True)
class Signature:
    """A frame, averaged over cells: luma, then both colour differences in half as many cells a side, 8-bit levels.

    `mean`, `spread`: of the luma cells, the second their standard deviation. `luma`: the sampled luma that it is from.
    """

    cells: U8
    mean: float
    spread: float
    luma: U8

    @property
    def columns(self) -> int:
        """Luma cells a row."""
        return LONG_CELLS if self.luma.shape[1] >= self.luma.shape[0] else SHORT_CELLS


def signature_of(picture: Picture) -> Signature:
    luma, blue, red = picture
    cells = np.empty(LUMA_CELLS + 2 * CHROMA_CELLS, np.uint8)
    across, down = (LONG_CELLS, SHORT_CELLS) if luma.shape[1] >= luma.shape[0] else (SHORT_CELLS, LONG_CELLS)
    luma_cells = cells[:LUMA_CELLS].reshape(down, across)
    cv2.resize(luma, (across, down), dst=luma_cells, interpolation=cv2.INTER_AREA)
    for plane, first in ((blue, LUMA_CELLS), (red, LUMA_CELLS + CHROMA_CELLS)):
        part = cells[first : first + CHROMA_CELLS].reshape(down // 2, across // 2)
        cv2.resize(plane, (across // 2, down // 2), dst=part, interpolation=cv2.INTER_AREA)
    mean, spread = cv2.meanStdDev(luma_cells)
    return Signature(cells, float(mean[0, 0]), float(spread[0, 0]), luma)


def difference(a: Signature, b: Signature) -> float:
    """Mean absolute difference of all cells, in 8-bit levels."""
    return cv2.norm(a.cells, b.cells, cv2.NORM_L1) / a.cells.size


def dark_level(mean: float) -> float:
    """Up to which level a pixel is dark, in pictures whose brightest together have that mean."""
    return min(DARK_LEVEL, max(BAR_LEVEL, DARK_SHARE * mean))


def likeness(a: U8, b: U8) -> float:
    """Correlation of two frames' luma cells where either is lit, -1 to 1: brightness and contrast do not matter."""
    brightest = cv2.max(a, b).ravel()
    lit = brightest > dark_level(cv2.mean(brightest)[0])
    if np.count_nonzero(lit) < LUMA_CELLS // 50:
        return 1.0
    x, y = a[lit].astype(np.float32), b[lit].astype(np.float32)
    x -= x.mean()
    y -= y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y) + 1.0))


def is_same_picture(a: Signature, b: Signature, change: float) -> bool:
    """Whether after a change that far (a flash, black) the picture from before it is back."""
    if difference(a, b) >= SAME_CHANGE_SHARE * change:
        return False
    return likeness(a.cells[:LUMA_CELLS], b.cells[:LUMA_CELLS]) > SAME_LIKENESS


def is_recolored(a: Signature, b: Signature) -> bool:
    """Whether both are colourful, and in hues that are more than a right angle apart: red and blue, not red and orange.

    Gains of the colour channels by up to threefold, as of lights and white balance, do that to one frame of films in a
    hundred.
    """
    x, y = (s.cells[LUMA_CELLS:].astype(np.float32) - 128 for s in (a, b))
    xx, yy = float(x @ x), float(y @ y)
    least = min(MIN_COLOR, max(MIN_DARK_COLOR, MIN_COLOR_SHARE * min(a.mean, b.mean)))
    return min(xx, yy) > least**2 * CHROMA_CELLS and float(x @ y) < MAX_COLOR_COSINE * sqrt(xx * yy)


def unexplained(before: U8, after: U8) -> float:
    """How little of a luma picture's texture is found anywhere near its place in the one before: 0 all, 1 nothing.

    One minus the mean over blocks, weighted by their texture, of the best normalized correlation within reach. About
    0.2-0.4 for a shaking camera or fast motion, 0.5-0.6 for two scenes, where a part agrees by chance. Where there is
    no texture, 0.5: it says nothing.
    """
    rows, columns = lit_part(before, after)
    old, new = _matchable(before[rows, columns]), _matchable(after[rows, columns])
    height, width = new.shape
    found = weights = 0.0
    for y in _starts(height):
        for x in _starts(width):
            block = new[y : y + BLOCK_SIDE, x : x + BLOCK_SIDE]
            texture = float(cv2.meanStdDev(block)[1][0, 0])
            if texture < MIN_TEXTURE:
                continue
            near = old[max(0, y - REACH) : y + BLOCK_SIDE + REACH, max(0, x - REACH) : x + BLOCK_SIDE + REACH]
            weight = min(texture, FULL_TEXTURE)
            found += weight * float(cv2.minMaxLoc(cv2.matchTemplate(near, block, cv2.TM_CCOEFF_NORMED))[1])
            weights += weight
    return 1 - found / weights if weights else 0.5


def lit_part(a: U8, b: U8) -> tuple[slice, slice]:
    """Rows and columns of two luma pictures without the bars that both have; all of them where nothing is lit."""
    brightest = cv2.max(a, b)
    dark = dark_level(cv2.mean(brightest)[0])
    rows, columns = (np.flatnonzero(cv2.reduce(brightest, axis, cv2.REDUCE_MAX) > dark) for axis in (1, 0))
    if not rows.size:
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _matchable(luma: U8) -> U8:
    height, width = luma.shape
    scale = MATCH_SIDE / max(height, width)
    size = (max(BLOCK_SIDE, round(width * scale)), max(BLOCK_SIDE, round(height * scale)))
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _starts(length: int) -> list[int]:
    """Where blocks begin along a side: evenly spread, the last one ends at the edge."""
    count = -(-length // BLOCK_SIDE)
    return [round(i * (length - BLOCK_SIDE) / max(1, count - 1)) for i in range(count)]
