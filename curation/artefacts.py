"""Damage that a codec or a wrong conversion leaves in pictures: edges of coding blocks, and the combs of interlacing.

Both are read at full resolution, where they are, but only in some rows or columns, and twice a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

from curation.planes import Planes

__all__ = ["Blocking", "BlockingMeter", "CombLook", "comb_look", "is_combed"]

F32, Bool = NDArray[np.float32], NDArray[np.bool_]

BLOCKING_SECONDS = Fraction(1, 2)
# Transform blocks of MPEG-1 to 4 and JPEG are 8 wide, and those of later codecs divide 8 or are multiples of it.
GRID_PX = 8
BLOCKING_ROWS = 96
# Steps higher than this are the picture's own edges (a quantizer's are of the order of its step; H.264's and HEVC's
# deblocking takes no higher ones for its own but at the coarsest quantizers), in 8-bit full-range levels.
MAX_BLOCK_STEP = 32
COMB_COLUMNS = 64
# A line stands out from both its neighbours by this much, and so does the next one, the other way (8-bit levels).
COMB_LEVELS = 10
# Of the pixels looked at, so many must do so, of those that moved as well, and not just a few.
MIN_COMBED_SHARE, MIN_COMBED_OF_MOVED = 0.001, 0.03
MIN_COMBED_PX = 16
# 0 where the lines of two frames mix alike both ways, 1 where one way is the order of the fields.
MIN_FIELD_ORDER = 0.4
# The mixtures must be this much rougher than the smoothest of the three pictures, or they tell nothing (noise).
MIN_ROUGHER = 0.2


@dataclass(frozen=True, slots=True)
class Blocking:
    """Mean luma steps from pixel to pixel in 8-bit full-range levels: across edges of blocks, and inside blocks."""

    across: float
    inside: float


class BlockingMeter:
    """Feed the frames of a source in order; get the blocking of one frame each half second, None for the others.

    Decoding may leave the deblocking filter out in pictures that no other refers to (`decode.Decoder`), and these
    would look worse than they are. Nearly all such pictures are B-pictures, so B-pictures are passed over.
    """

    def __init__(self, time_base: Fraction):
        self._ticks = max(1, round(BLOCKING_SECONDS / time_base))
        self._due_pts: int | None = None

    def feed(self, picture: VideoFrame, planes: Planes, pts: int) -> Blocking | None:
        if (self._due_pts is not None and pts < self._due_pts) or picture.pict_type == PictureType.B:
            return None
        self._due_pts = pts + self._ticks
        return blocking(planes)


def blocking(planes: Planes) -> Blocking | None:
    """Mean step of luma across the edges of 8 pixel wide blocks, and the mean step inside them, along some rows.

    After Wang, Bovik and Evans, "Blind measurement of blocking artifacts in images" (2000), and Wang, Sheikh and
    Bovik, "No-reference perceptual quality assessment of JPEG compressed images" (2002), without the picture's own
    strong edges. None where the picture is narrower than two blocks.
    """
    height, width = planes.luma.shape
    blocks = width // GRID_PX
    if blocks < 2:
        return None
    every = max(1, height // BLOCKING_ROWS)
    rows = planes.luma_levels(planes.luma[every // 2 :: every, : blocks * GRID_PX])
    steps = cv2.absdiff(rows[:, 1:], rows[:, :-1])
    _, steps = cv2.threshold(steps, MAX_BLOCK_STEP, 0, cv2.THRESH_TOZERO_INV)
    means = np.append(cv2.reduce(steps, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F), 0.0)  # behind the last pixel is none
    places = means.reshape(blocks, GRID_PX)
    return Blocking(float(places[:-1, -1].mean()), float(places[:, :-1].mean()))


@dataclass(frozen=True, slots=True)
class CombLook:
    """Some columns (H, c) of a frame whose lines stand out from one another, waiting for the next frame."""

    luma: F32
    combed: Bool


def comb_look(planes: Planes) -> CombLook | None:
    """None where no line stands out from its neighbours: no interlacing is to be seen."""
    if planes.luma.shape[0] < 8:
        return None
    luma = _columns(planes)
    up, down = luma[1:-1] - luma[:-2], luma[1:-1] - luma[2:]
    peak = (np.minimum(up, down) > COMB_LEVELS).astype(np.int8) - (np.maximum(up, down) < -COMB_LEVELS).astype(np.int8)
    combed = np.zeros(luma.shape, bool)
    combed[1:-2] = peak[1:] * peak[:-1] < 0
    return CombLook(luma, combed) if combed.mean() >= MIN_COMBED_SHARE else None


def is_combed(look: CombLook, following: Planes) -> bool:
    """Whether lines stand out where the picture moves, and because its two fields are of different times.

    Lines of this frame and of the next are mixed both ways. In a progressive film both mixtures are as bad; of an
    interlaced one's, one joins fields that follow each other and the other fields three times as far apart (the idea of
    FFmpeg's idet). So a pattern of fine lines is no combing, whether it moves or not, nor is what stands still.
    """
    now, then = look.luma, _columns(following)
    if now.shape != then.shape:
        return False
    moved = np.abs(then - now) > COMB_LEVELS
    moved[1:-1] |= moved[:-2] | moved[2:]
    combed_px = np.count_nonzero(look.combed & moved)
    least = max(MIN_COMBED_PX, MIN_COMBED_SHARE * moved.size, MIN_COMBED_OF_MOVED * np.count_nonzero(moved))
    if combed_px < least:
        return False
    even_first, odd_first = now.copy(), then.copy()
    even_first[1::2], odd_first[1::2] = then[1::2], now[1::2]
    own, one_way, other_way = (_roughness(picture, moved) for picture in (now, even_first, odd_first))
    rougher = one_way + other_way - 2 * min(own, one_way, other_way)
    is_told = rougher > MIN_ROUGHER * max(own, one_way, other_way)
    return is_told and abs(one_way - other_way) > MIN_FIELD_ORDER * rougher


def _columns(planes: Planes) -> F32:
    width = planes.luma.shape[1]
    every = max(1, width // COMB_COLUMNS)
    return planes.luma_levels(planes.luma[:, every // 2 :: every]).astype(np.float32)


def _roughness(luma: F32, where: Bool) -> float:
    """How far lines are off from the mean of their neighbours, summed over some pixels."""
    return float(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2)[where[1:-1]].sum())
