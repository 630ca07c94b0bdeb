"""What is measured while decoding: a few numbers a frame, and a closer look twice a second.

Everything here is cheap by construction: the numbers a frame come from every k-th pixel, and the closer looks read
whole pictures but only every `SAMPLE_SECONDS`. Scores (`scores.py`) are computed from these for the frames of one clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, gcd, log2

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.artefacts import Blocking, BlockingMeter, CombLook, comb_look, is_combed
from curation.camera import CameraMeter, CameraStep
from curation.decode import DecodedFrame
from curation.fingerprint import ThumbSampler
from curation.geometry import normal_rotation
from curation.look import PictureLook, PictureLooker
from curation.planes import Picture, Planes, area_luma, area_picture, planes_of, sampled_picture
from curation.steps import Step, StepMeter

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
    """One decoded frame: its time in ticks, and statistics of every k-th pixel in 8-bit full-range levels.

    `step`: how it differs from the frame before, None where nothing is known. `packet_bytes`: see `DecodedFrame`.
    `blocking`: see `artefacts.blocking`, None where nobody looked. `thumb`: see `fingerprint.ThumbSampler`.
    """

    pts: int
    duration: int
    is_entry: bool
    is_damaged: bool
    luma_mean: float
    luma_spread: float
    step: Step | None = None
    packet_bytes: int | None = None
    blocking: Blocking | None = None
    thumb: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A closer look at frame `index`, in coded pixels and 8-bit full-range levels.

    `flow_px`: mean length of the optical flow to the frame after it, in coded pixels, and `flow_ticks` how long
    after; 0 ticks where no frame followed or the picture is too small. The length of a pan is right within a tenth from
    a 600th to a 16th of the longer side; less drowns in noise, more reads low, from a quarter on by half and more. A
    zoom reads about a fifth low. `camera`: see `camera.CameraMeter`.
    `sharpness`: variance of the Laplacian over the middle of the picture. `row_max`, `column_max`: brightest level of
    each coded row and column. `blocks`: mean levels of 16 by 16 pixel blocks of the averaged picture. `picture`: that
    picture, for thumbnails, None once it was let go. `is_combed`: see `artefacts.is_combed`, None
    where no frame followed.
    `look`: see `look.PictureLook`, None where nobody looked.
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
    is_combed: bool | None = None
    camera: tuple[CameraStep, ...] = ()
    look: PictureLook | None = None


@dataclass(frozen=True, slots=True)
class _AwaitingFlow:
    sample: Sample
    luma: NDArray[np.uint8]
    px_per_cell: float
    comb: CombLook | None


class Measurer:
    """Feed decoded frames in order; get each frame's measure, its small picture, and now and then a sample."""

    def __init__(self, time_base: Fraction, pixel_aspect: Fraction = Fraction(1)):
        self._sample_ticks = max(1, round(SAMPLE_SECONDS / time_base))
        self._last_sample: tuple[int, int] | None = None  # index and time
        self._awaiting: _AwaitingFlow | None = None
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._camera = CameraMeter(float(pixel_aspect))
        self._steps = StepMeter()
        self._blocking = BlockingMeter(time_base)
        self._thumbs = ThumbSampler(time_base)
        self._looker = PictureLooker()
        self._combs_seen = False
        self._index = -1

    def feed(self, frame: DecodedFrame) -> tuple[FrameMeasure, Picture, Sample | None]:
        """The frame's measure, its `planes.sampled_picture`, and the sample that this frame completes, if any."""
        self._index += 1
        planes = planes_of(frame.picture)
        picture = sampled_picture(planes)
        mean, spread = cv2.meanStdDev(picture[0])
        luma_mean = float(mean[0, 0])
        step = self._steps.feed(picture[0], luma_mean, planes, with_fields=self._has_fields(frame))
        measure = FrameMeasure(
            frame.pts,
            frame.duration,
            frame.is_entry,
            frame.is_damaged,
            luma_mean,
            float(spread[0, 0]),
            step,
            frame.packet_bytes,
            self._blocking.feed(frame.picture, planes, frame.pts),
            self._thumbs.feed(frame.pts, picture[0]),
        )
        completed = self._complete(planes, frame.pts)
        if self._is_sample_due(frame.pts):
            self._awaiting = self._sample(planes, frame.pts, normal_rotation(frame.picture.rotation))
            self._last_sample = self._index, frame.pts
        return measure, picture, completed

    def flush(self) -> Sample | None:
        """The sample of the last frame, which no frame follows."""
        waiting, self._awaiting = self._awaiting, None
        return waiting.sample if waiting else None

    def _has_fields(self, frame: DecodedFrame) -> bool:
        return self._combs_seen or frame.picture.interlaced_frame

    def _is_sample_due(self, pts: int) -> bool:
        if self._last_sample is None:
            return True
        index, last_pts = self._last_sample
        return pts - last_pts >= self._sample_ticks and gcd(self._index - index, HELD_FRAMES) == 1

    def _sample(self, planes: Planes, pts: int, rotation: int) -> _AwaitingFlow:
        picture = area_picture(planes)
        blocks = block_means(picture[0])
        sample = Sample(
            index=self._index,
            pts=pts,
            sharpness=sharpness(planes),
            row_max=planes.luma_levels(planes.luma.max(axis=1, keepdims=True)).ravel(),
            column_max=planes.luma_levels(planes.luma.max(axis=0, keepdims=True)).ravel(),
            blocks=blocks,
            picture=picture,
            look=self._looker.feed(planes, blocks, rotation),
        )
        luma = area_luma(planes, FLOW_SIDE)
        return _AwaitingFlow(sample, luma, planes.luma.shape[1] / luma.shape[1], comb_look(planes))

    def _complete(self, planes: Planes, pts: int) -> Sample | None:
        waiting, self._awaiting = self._awaiting, None
        if waiting is None:
            return None
        combed = waiting.comb is not None and is_combed(waiting.comb, planes)
        self._combs_seen = self._combs_seen or combed
        sample = replace(waiting.sample, is_combed=combed)
        luma = area_luma(planes, FLOW_SIDE)
        if luma.shape != waiting.luma.shape or not is_safe_for_flow(*luma.shape):
            return sample
        flow = self._flow.calc(waiting.luma, luma, None)  # type: ignore[call-overload]
        length_px = float(np.hypot(flow[..., 0], flow[..., 1]).mean()) * waiting.px_per_cell
        steps = self._camera.feed(sample.index, sample.pts, waiting.luma, luma, pts - sample.pts, flow)
        return replace(sample, flow_px=length_px, flow_ticks=pts - sample.pts, camera=steps)


def is_safe_for_flow(height: int, width: int) -> bool:
    """Whether OpenCV's DIS survives pictures of this size: it ends the process over low and wide ones.

    Where a side is short it chooses its coarsest scale by the width alone (`autoSelectPatchSizeAndScales`), and there
    a patch of 8 by 8 must fit into the height.
    """
    if min(height, width) < MIN_FLOW_SIDE:
        return False
    if min(height, width) >= 32 and max(height, width) >= 91:
        return True
    return height >> max(0, floor(log2(width / 20))) >= 8


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
