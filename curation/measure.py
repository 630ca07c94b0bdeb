"""What is measured while decoding: a few numbers a frame, and a closer look twice a second.

Everything here is cheap by construction: the numbers a frame come from every k-th pixel, and the closer looks read
whole pictures but only every `SAMPLE_SECONDS`. Scores (`scores.py`) are computed from these for the frames of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.decode import DecodedFrame
from curation.planes import Picture, Planes, area_luma, area_picture, bgr_of, planes_of, sampled_picture

__all__ = ["FrameMeasure", "Measurer", "Sample"]

SAMPLE_SECONDS = Fraction(1, 2)
# Frames from sample to sample have no factor in common with this, so that drawings held for two or three frames, and
# frames doubled by a conversion of rates, are met at every position in turn; else all motion may fall between samples.
HELD_FRAMES = 2 * 3
BLOCK_SIDE = 16
FLOW_SIDE = 160
MIN_FLOW_SIDE = 16  # DIS needs a few patches of 8 by 8 at its coarser scales


@dataclass(frozen=True, slots=True)
class FrameMeasure:
    """One decoded frame: its time in ticks, and statistics of every k-th pixel in 8-bit full-range levels."""

    pts: int
    duration: int
    is_entry: bool
    is_damaged: bool
    luma_mean: float
    luma_spread: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A closer look at frame `index`, in coded pixels and 8-bit full-range levels.

    `flow_px`: mean length of the optical flow to the frame after it, in coded pixels, and `flow_ticks` how long
    after; 0 ticks where no frame followed or the picture is too small. The length of a pan is right within a tenth from
    a 600th to a 16th of the longer side; less drowns in noise, more reads low, from a quarter on by half and more. A
    zoom reads about a fifth low.
    `sharpness`: variance of the Laplacian over the middle of the picture. `row_max`, `column_max`: brightest level of
    each coded row and column. `blocks`: mean levels of 16 by 16 pixel blocks of the averaged picture. `picture`: that
    picture, for thumbnails, None once it was let go.
    """

    index: int
    pts: int
    sharpness: float
    row_max: NDArray[np.uint8]
    column_max: NDArray[np.uint8]
    blocks: NDArray[np.float32]
    picture: Picture | None
    flow_px: float = 0.0
    flow_ticks: int = 0


@dataclass(frozen=True, slots=True)
class _AwaitingFlow:
    sample: Sample
    luma: NDArray[np.uint8]
    px_per_cell: float


class Measurer:
    """Feed decoded frames in order; get each frame's measure, its small BGR picture, and now and then a sample."""

    def __init__(self, time_base: Fraction):
        self._sample_ticks = max(1, round(SAMPLE_SECONDS / time_base))
        self._last_sample: tuple[int, int] | None = None  # index and time
        self._awaiting: _AwaitingFlow | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._index = -1

    def feed(self, frame: DecodedFrame) -> tuple[FrameMeasure, NDArray[np.uint8], Sample | None]:
        """The frame's measure, its picture for cut detectors, and the sample that this frame completes, if any."""
        self._index += 1
        planes = planes_of(frame.picture)
        picture = sampled_picture(planes)
        mean, spread = cv2.meanStdDev(picture[0])
        measure = FrameMeasure(
            frame.pts, frame.duration, frame.is_entry, frame.is_damaged, float(mean[0, 0]), float(spread[0, 0])
        )
        completed = self._complete(planes, frame.pts)
        if self._is_sample_due(frame.pts):
            self._awaiting = self._sample(planes, frame.pts)
            self._last_sample = self._index, frame.pts
        return measure, bgr_of(picture), completed

    def flush(self) -> Sample | None:
        """The sample of the last frame, which no frame follows."""
        waiting, self._awaiting = self._awaiting, None
        return waiting.sample if waiting else None

    def _is_sample_due(self, pts: int) -> bool:
        if self._last_sample is None:
            return True
        index, last_pts = self._last_sample
        return pts - last_pts >= self._sample_ticks and gcd(self._index - index, HELD_FRAMES) == 1

    def _sample(self, planes: Planes, pts: int) -> _AwaitingFlow:
        picture = area_picture(planes)
        sample = Sample(
            index=self._index,
            pts=pts,
            sharpness=sharpness(planes),
            row_max=planes.luma_levels(planes.luma.max(axis=1, keepdims=True)).ravel(),
            column_max=planes.luma_levels(planes.luma.max(axis=0, keepdims=True)).ravel(),
            blocks=block_means(picture[0]),
            picture=picture,
        )
        luma = area_luma(planes, FLOW_SIDE)
        return _AwaitingFlow(sample, luma, planes.luma.shape[1] / luma.shape[1])

    def _complete(self, planes: Planes, pts: int) -> Sample | None:
        waiting, self._awaiting = self._awaiting, None
        if waiting is None:
            return None
        sample = waiting.sample
        luma = area_luma(planes, FLOW_SIDE)
        if luma.shape != waiting.luma.shape or min(luma.shape) < MIN_FLOW_SIDE:
            return sample
        flow = self._flow.calc(waiting.luma, luma, None)  # type: ignore[call-overload]
        length_px = float(np.hypot(flow[..., 0], flow[..., 1]).mean()) * waiting.px_per_cell
        return replace(sample, flow_px=length_px, flow_ticks=pts - sample.pts)


def block_means(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of 16 by 16 pixel blocks, (ceil(h/16), ceil(w/16)): codec noise averages out, a moving object does not."""
    height, width = luma.shape
    size = (-(-width // BLOCK_SIDE), -(-height // BLOCK_SIDE))
    return cv2.resize(luma.astype(np.float32), size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def sharpness(planes: Planes) -> float:
    """Variance of the Laplacian over the middle half of the picture at its own size, in squared 8-bit levels.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (2000). The middle, because of borders.
    Rounding to whole levels alone gives up to 2.3, and codecs add a few more: under 10 the value says little.
    """
    height, width = planes.luma.shape
    middle = planes.luma[height // 4 : height - height // 4, width // 4 : width - width // 4]
    _, spread = cv2.meanStdDev(cv2.Laplacian(middle, cv2.CV_16S if planes.bits == 8 else cv2.CV_32F))
    level = (1.0 if planes.is_full_range else 255 / 219) / (1 << (planes.bits - 8))
    return float(spread[0, 0] * level) ** 2
