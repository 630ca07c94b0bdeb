"""Wipes: a line sweeps over the picture, before it is the old scene and behind it the new one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_wipe"]

# Cells that differ by more 8-bit levels between both scenes tell where the line is; it takes so many of them.
CHANGED_LEVELS, MIN_CHANGED_CELLS = 16.0, 0.5
# Each of them shows one of the scenes: what is left is so small a share of their difference. A soft edge of a tenth of
# the picture leaves 0.03, motion the rest.
MAX_REST = 0.25
# So many are on their side of one straight line.
MIN_SIDED = 0.95


def is_wipe(a: NDArray[np.float32], m: NDArray[np.float32], b: NDArray[np.float32], columns: int) -> bool:
    """Whether M is A on one side of a straight line and B on the other. Luma cells, in rows of `columns`."""
    way = np.abs(a - b)
    changed = way > CHANGED_LEVELS
    count = int(np.count_nonzero(changed))
    if count < MIN_CHANGED_CELLS * len(a):
        return False
    from_a, from_b = np.abs(m - a)[changed], np.abs(m - b)[changed]
    if float(np.minimum(from_a, from_b).sum()) > MAX_REST * float(way[changed].sum()):
        return False
    is_new = from_b < from_a
    y, x = np.divmod(np.flatnonzero(changed), columns)
    places = np.stack([x, y], axis=1).astype(np.float32)
    fresh = int(np.count_nonzero(is_new))
    if not 0 < fresh < count:
        return False
    between = places[is_new].mean(axis=0) - places[~is_new].mean(axis=0)
    along = places @ (between / (places.var(axis=0) + 1))  # across the line, also where the picture is wide
    line = np.partition(along, count - fresh)[count - fresh]
    return bool(np.count_nonzero((along >= line) == is_new) >= MIN_SIDED * count)
