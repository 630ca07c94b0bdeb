"""How the camera moved between two frames, and what moved apart from it.

The picture's motion is a similarity about its middle (`alignment.Motion`), found by laying the pictures over each other
from where a robust fit to their optical flow, or what was seen before, says to begin. The rest of the flow is the
subject's.

Signs are the camera's, not the picture's: a picture that moves left is a camera that moves right.
"""

from __future__ import annotations

from cmath import phase
from dataclasses import dataclass
from functools import lru_cache
from math import degrees, log

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.alignment import STILL, Alignment, Ground, Motion, ground_of

__all__ = ["CameraMeter", "CameraStep"]

U8, F32, Complex = NDArray[np.uint8], NDArray[np.float32], NDArray[np.complex64]

# DIS of the fastest preset knows the flow of every fourth cell and draws the others between them.
CELL_STEP = 4
# Flow is right within so many cells, or such a share of its length.
FLOW_ERROR_CELLS, FLOW_ERROR_SHARE = 0.12, 0.08
FIT_ITERATIONS = 4
# Less flow than this, on the mean, and the pictures find each other from where they are.
MOVING_CELLS = 0.5
# Pictures less alike than this may have been laid wrong: another start is tried.
DOUBTFUL_LIKENESS = 0.25
# Where the picture moves by so many cells and a place by a small share of that, the place is of a logo or a caption.
PINNED_CELLS, PINNED_SHARE = 1.0, 0.2
SMALLEST_TURN = 1e-6


@dataclass(frozen=True, slots=True)
class CameraStep:
    """The camera's motion from frame `from_index` to frame `to_index`, `ticks` later.

    In coded orientation with square pixels. `right`, `down`: in longer sides of the picture. `zoom`: natural logarithm
    of the picture's growth about its middle. `roll_deg`: the camera's turn, clockwise positive: the picture turns the
    other way. `likeness` and `error`: see `alignment.Alignment`. `textured_share`: share of the picture inside black
    borders that has texture to go by. `subject`: mean length of the rest of the flow, see `subject_of`; None for steps
    over several frames.
    """

    from_index: int
    to_index: int
    ticks: int
    right: float
    down: float
    zoom: float
    roll_deg: float
    likeness: float
    error: float
    textured_share: float
    subject: float | None


@dataclass(frozen=True, slots=True)
class _Look:
    index: int
    pts: int
    luma: U8
    ground: Ground | None
    speed_per_tick: Motion | None


class CameraMeter:
    """Feed the flow at each closer look, in order; get the steps that it tells: to the next frame, and since the last.

    Slow motion shows only over the half second since the last look, fast motion only from a frame to the next, and a
    shaking hand in the difference of the two.
    """

    def __init__(self, pixel_aspect: float = 1.0):
        self._pixel_aspect = pixel_aspect
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._last: _Look | None = None

    def feed(self, index: int, pts: int, luma: U8, next_luma: U8, next_ticks: int, flow: F32) -> tuple[CameraStep, ...]:
        """The steps from frame `index` to the next and from the frame of the call before to it, where each is known.

        `flow`: from `luma` to `next_luma`, (h, w, 2) in cells; all three pictures of one size.
        """
        ground, last = ground_of(luma, self._pixel_aspect), self._last
        steps: list[CameraStep] = []
        speed = None
        if ground is not None and next_ticks > 0:
            short = self._to_next(ground, luma, next_luma, flow)
            speed = short.motion.times(1 / next_ticks)
            subject = subject_of(ground, flow, short.motion)
            steps.append(_step(short, index, index + 1, next_ticks, ground.textured_share, subject))
        look = self._last = _Look(index, pts, luma, ground, speed)
        if last is not None and last.ground is not None and last.luma.shape == luma.shape:
            long = self._since(last, last.ground, look)
            steps.append(_step(long, last.index, index, pts - last.pts, last.ground.textured_share, None))
        return tuple(steps)

    def _to_next(self, ground: Ground, luma: U8, next_luma: U8, flow: F32) -> Alignment:
        is_moving = cv2.norm(flow, cv2.NORM_L1) > MOVING_CELLS * luma.size
        found = ground.align(next_luma, [STILL, fitted(ground, flow)] if is_moving else [STILL])
        if found.likeness >= DOUBTFUL_LIKENESS:
            return found
        (x, y), _ = cv2.phaseCorrelate(luma.astype(np.float32), next_luma.astype(np.float32))  # farther than DIS sees
        shift = Motion(complex(x * self._pixel_aspect, y) / ground.sides, 0j)
        return max(found, ground.align(next_luma, [shift]), key=lambda each: each.likeness)

    def _since(self, last: _Look, ground: Ground, look: _Look) -> Alignment:
        speeds = [each for each in (last.speed_per_tick, look.speed_per_tick) if each is not None]
        starts = [STILL, _mean(speeds).times(look.pts - last.pts)] if speeds else [STILL]
        found = ground.align(look.luma, starts)
        if found.likeness >= DOUBTFUL_LIKENESS:
            return found
        flow = self._flow.calc(last.luma, look.luma, None)  # type: ignore[call-overload]
        return max(found, ground.align(look.luma, [fitted(ground, flow)]), key=lambda each: each.likeness)


def _mean(motions: list[Motion]) -> Motion:
    return Motion(sum(m.t for m in motions) / len(motions), sum(m.c for m in motions) / len(motions))


def _step(
    found: Alignment, from_index: int, to_index: int, ticks: int, textured_share: float, subject: float | None
) -> CameraStep:
    t, turn = found.motion.t, 1 + found.motion.c
    return CameraStep(
        from_index,
        to_index,
        ticks,
        right=-t.real,
        down=-t.imag,
        zoom=log(max(abs(turn), SMALLEST_TURN)),
        roll_deg=-degrees(phase(turn)),
        likeness=found.likeness,
        error=found.error,
        textured_share=textured_share,
        subject=subject,
    )


def fitted(ground: Ground, flow: F32) -> Motion:
    """The similarity that most of the flow follows: least squares, reweighted as by Geman and McClure (1987)."""
    at, f, weight = _flow_at_places(ground, flow)
    t, c = complex(np.median(f.real), np.median(f.imag)), 0j
    for _ in range(FIT_ITERATIONS):
        rest = f - np.complex64(t) - np.complex64(c) * at
        allowed = 2 * (FLOW_ERROR_CELLS / ground.sides + FLOW_ERROR_SHARE * abs(t))
        kernel = 1 + (rest.real**2 + rest.imag**2) * np.float32(1 / allowed**2)
        t, c = _solved(at, f, weight / (kernel * kernel))
    return Motion(t, c)


def _solved(at: Complex, f: Complex, weight: NDArray) -> tuple[complex, complex]:
    """Weighted least squares of f = t + c at."""
    total = max(float(weight.sum()), 1e-9)
    mean_at, mean_f = (weight @ at) / total, (weight @ f) / total
    away = at - mean_at
    weighted = weight * away
    spread = np.vdot(weighted, away).real
    c = np.vdot(weighted, f - mean_f) / spread if spread > 0 else 0j
    return complex(mean_f - c * mean_at), complex(c)


def subject_of(ground: Ground, flow: F32, motion: Motion) -> float:
    """Mean length of the flow apart from the camera's, at places with texture, in longer sides of the picture.

    What may be an error of the flow is taken off; what stays in place while the picture moves is not counted.
    """
    at, f, weight = _flow_at_places(ground, flow)
    model = np.complex64(motion.t) + np.complex64(motion.c) * at
    length = np.abs(model)
    apart = np.abs(f - model) - np.maximum(FLOW_ERROR_CELLS / ground.sides, FLOW_ERROR_SHARE * length)
    is_pinned = (length > PINNED_CELLS / ground.sides) & (np.abs(f) < PINNED_SHARE * length)
    return float((weight * ~is_pinned) @ np.maximum(apart, 0)) / max(float(weight.sum()), 1e-9)


def _flow_at_places(ground: Ground, flow: F32) -> tuple[Complex, Complex, F32]:
    """Every fourth cell: its place, its flow in longer sides, and the weight of the texture there."""
    height, width = flow.shape[:2]
    cells = np.ascontiguousarray(flow[CELL_STEP // 2 :: CELL_STEP, CELL_STEP // 2 :: CELL_STEP])
    step = CELL_STEP * ground.levels.shape[0] // height
    texture = ground.texture.reshape(ground.levels.shape)[step // 2 :: step, step // 2 :: step]
    rows, columns = min(cells.shape[0], texture.shape[0]), min(cells.shape[1], texture.shape[1])
    f = cells.view(np.complex64)[:rows, :columns, 0].ravel() / np.float32(ground.sides)
    if ground.pixel_aspect != 1:
        f = f.real * np.float32(ground.pixel_aspect) + 1j * f.imag
    return _places(height, width, ground.pixel_aspect)[:rows, :columns].ravel(), f, texture[:rows, :columns].ravel()


@lru_cache(maxsize=64)
def _places(height: int, width: int, pixel_aspect: float) -> Complex:
    """Where every fourth cell lies, in longer sides from the middle."""
    x = (np.arange(CELL_STEP // 2, width, CELL_STEP) - (width - 1) / 2) * pixel_aspect
    y = np.arange(CELL_STEP // 2, height, CELL_STEP) - (height - 1) / 2
    return ((x[None] + 1j * y[:, None]) / max(width * pixel_aspect, height)).astype(np.complex64)
