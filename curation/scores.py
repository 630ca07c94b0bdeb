"""Scores: measured numbers about a clip, each a function and a column. Nothing is decided here.

To add a score, write the function and add its line to `SCORES`; the store gets the column, the report its distribution.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from curation.camera_scores import CAMERA_SCORES
from curation.coding import CODING_SCORES
from curation.colors import COLOR_SCORES
from curation.measure import Sample
from curation.measured import Measured, Score, ScoreValue
from curation.overlay import OVERLAY_SCORES
from curation.rhythm import RHYTHM_SCORES

__all__ = ["SCORES", "scores_of"]

# The block means of a still picture stay within this of each other (8-bit levels), and where a starved codec changes
# all blocks at its keyframes, within some times the change of the median block more; an object of a 300th of the
# picture, or a zoom by a hundredth a second, changes some block by twice as much.
STILL_MAX_LEVELS, STILL_NOISE_FACTOR, STILL_MAX_NOISE_LEVELS = 5.0, 4.0, 4.0
# A fine pattern that moves leaves the means of its blocks as they were; the optical flow sees it.
STILL_MAX_MOTION_SHARE_PER_S = 0.02


def motion_px_per_s(clip: Measured) -> float | None:
    """Mean optical flow (DIS, Kroeger et al. 2016) over the samples, in coded pixels per second.

    Reads low where more than a 16th of the longer side passes from frame to frame, see `measure.Sample`.
    """
    speeds = [s.flow_px / float(s.flow_ticks * clip.time_base) for s in _samples_with_flow(clip)]
    return float(np.mean(speeds)) if speeds else None


def motion_share_per_s(clip: Measured) -> float | None:
    """The same as a share of the picture's longer side, so that it compares across sizes."""
    speed = motion_px_per_s(clip)
    return None if speed is None else speed / max(clip.geometry.coded_width, clip.geometry.coded_height)


def _samples_with_flow(clip: Measured) -> list[Sample]:
    # A flow into the next scene is not this clip's: its second frame must lie before the end as well.
    return [s for s in clip.samples if s.flow_ticks > 0 and s.index + 1 < clip.end_index]


def sharpness_levels2(clip: Measured) -> float | None:
    return float(np.median([s.sharpness for s in clip.samples])) if clip.samples else None


def luma_mean_levels(clip: Measured) -> float:
    return float(np.mean([f.luma_mean for f in clip.frames]))


def luma_spread_levels(clip: Measured) -> float:
    return float(np.mean([f.luma_spread for f in clip.frames]))


def is_still(clip: Measured) -> bool | None:
    if len(clip.samples) < 2:
        return None
    changes = np.ptp(np.stack([s.blocks for s in clip.samples]), axis=0)
    noise = min(STILL_NOISE_FACTOR * float(np.median(changes)), STILL_MAX_NOISE_LEVELS)
    is_flowing = (motion_share_per_s(clip) or 0.0) > STILL_MAX_MOTION_SHARE_PER_S
    return bool(changes.max() < STILL_MAX_LEVELS + noise) and not is_flowing


def damaged_frames(clip: Measured) -> int:
    return sum(f.is_damaged for f in clip.frames)


def border_share(clip: Measured) -> float | None:
    box = clip.active_box
    return None if box is None else 1 - box.width * box.height / (clip.geometry.width * clip.geometry.height)


def short_side_px(clip: Measured) -> int:
    box = clip.active_box
    return min(box.width, box.height) if box else min(clip.geometry.width, clip.geometry.height)


def aspect(clip: Measured) -> float:
    box = clip.active_box
    return box.width / box.height if box else clip.geometry.width / clip.geometry.height


def _side(name: str) -> Callable[[Measured], ScoreValue]:
    def side_of(clip: Measured) -> int | None:
        box = clip.active_box
        return None if box is None else getattr(box, name)

    return side_of


ACTIVE_BOX = "active picture box inside borders and caption bars, display pixels"

SCORES: tuple[Score, ...] = (
    Score("motion_px_per_s", pa.float64(), "mean optical flow, coded pixels per second, from 0", motion_px_per_s),
    Score("motion_share_per_s", pa.float64(), "the same in longer sides of the picture, from 0", motion_share_per_s),
    Score("sharpness_levels2", pa.float64(), "median variance of the Laplacian, from 0", sharpness_levels2),
    Score("luma_mean_levels", pa.float64(), "mean brightness, 0 to 255", luma_mean_levels),
    Score("luma_spread_levels", pa.float64(), "mean standard deviation inside a frame, 0 to 127", luma_spread_levels),
    Score("is_still", pa.bool_(), "no part of the picture changes", is_still),
    Score("damaged_frames", pa.int32(), "frames that the decoder concealed or refused data for", damaged_frames),
    Score("active_x_px", pa.int32(), ACTIVE_BOX, _side("x")),
    Score("active_y_px", pa.int32(), ACTIVE_BOX, _side("y")),
    Score("active_width_px", pa.int32(), ACTIVE_BOX, _side("width")),
    Score("active_height_px", pa.int32(), ACTIVE_BOX, _side("height")),
    Score("short_side_px", pa.int32(), "shorter side of the active picture, display pixels", short_side_px),
    Score("aspect", pa.float64(), "width over height of the active picture", aspect),
    Score("border_share", pa.float64(), "share of the picture outside the active box, 0 to 1", border_share),
    *CAMERA_SCORES,
    *COLOR_SCORES,
    *OVERLAY_SCORES,
    *RHYTHM_SCORES,
    *CODING_SCORES,
)


def scores_of(clip: Measured) -> dict[str, ScoreValue]:
    """Every score of a clip, by column. Null where a clip is too short to be measured: never a made-up number."""
    return {score.column: score.of(clip) for score in SCORES}
