"""What is read in place of a clip that cannot be decoded: by rule, so that every process and every resumed run reads
the same.

First the clips that are trained at the very size, the next ones in the list's order from the damaged one on, over its
end; then the longest that are not longer, the nearest first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.reading.plan_table import Planned, Plans

__all__ = ["MOST_TRIED", "stand_ins"]

MOST_TRIED = 32  # of each of the two rules; where so many are damaged in a row, it is not the clips


def stand_ins(plans: Plans, planned: Planned) -> Iterator[Planned]:
    """Clips for a place in a pack, in the order in which they are to be tried; the damaged one is not among them."""
    g, number = planned.geometry, planned.number
    frames, height, width, tokens = _sizes(plans, planned)
    distance = (np.arange(len(frames)) - number) % len(frames)
    is_other = (frames > 0) & (distance > 0)
    is_same = is_other & (frames == g.frames) & (height == g.height) & (width == g.width)
    shorter = np.flatnonzero(is_other & ~is_same & (tokens <= g.tokens))
    same = np.flatnonzero(is_same)
    same = same[np.argsort(distance[same], kind="stable")][:MOST_TRIED]
    shorter = shorter[np.lexsort((distance[shorter], -tokens[shorter]))][:MOST_TRIED]
    for other in (*same.tolist(), *shorter.tolist()):
        yield plans.planned_as(other, int(frames[other]), int(height[other]), int(width[other]))


def _sizes(plans: Plans, planned: Planned) -> tuple[NDArray[np.int64], ...]:
    """Frames, height, width and tokens that each clip would have, read as a picture where the damaged one is."""
    fates, unit = plans.fates, plans.config.compression.unit_px
    if planned.is_picture:
        height, width = (fates.column(f"picture_{side}").astype(np.int64) for side in ("height", "width"))
        return np.minimum(height, 1), height, width, height // unit * (width // unit)
    frames, height, width, tokens = (
        fates.column(name).astype(np.int64) for name in ("frames", "height", "width", "tokens")
    )
    return frames, height, width, tokens
