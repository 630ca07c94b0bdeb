"""Two small pictures laid over each other: the similarity by which the second looks most like the first.

A motion is z → z + t + c z, with a place z as a complex number: x right, y down, from the picture's middle, in longer
sides of the picture with square pixels. So t is a translation, the real part of c a zoom, its imaginary part a roll.

The method is Lucas and Kanade's in the inverse form of Baker and Matthews, "Lucas-Kanade 20 Years On" (2004): the first
picture's gradients are taken once, the second picture is moved back step by step. Robust as in Black and Anandan, "The
Robust Estimation of Multiple Motions" (1996): where the pictures differ by more than the noise, as on something that
moves by itself, a pixel counts little.

Shapes: h, w are the picture's at half size; P = h w.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MEAN_RADIUS", "STILL", "Alignment", "Ground", "Motion", "ground_of"]

U8, F32 = NDArray[np.uint8], NDArray[np.float32]

# Mean distance of a wide picture's places from its middle, in longer sides: so far a zoom or a roll of 1 moves them.
MEAN_RADIUS = 0.3
# Pictures are halved before, which averages noise away, unless that leaves fewer rows or columns than this.
MIN_HALVED_SIDE = 24
# Borders are black up to codec noise, and darker than a dark picture inside them.
BORDER_MAX_LEVEL, BORDER_MAX_SHARE, BORDER_MARGIN_CELLS = 32, 0.25, 2
# With less texture there is nothing to go by.
MIN_TEXTURED_SHARE = 0.005
# Rounding alone makes gradients and differences of about a level. Beyond it a gradient counts by half, and pictures
# are alike, at this share of the gradients around: where they are laid within half a cell of each other.
ROUNDING_LEVELS, ALIKE_CELLS = 1.0, 0.5
# A picture shifted by so much over itself is alike only by chance.
CHANCE_CELLS, MAX_CHANCE = 4, 0.9
# Differences of so many times the median one count by a quarter. The median of every seventh pixel is as good.
NOISE_FACTOR, MEDIAN_STEP = 1.5, 7
# Noise of neighbouring pixels goes together (codecs, resampling): so many are worth one.
PIXELS_TOGETHER = 16
ITERATIONS = 5
# No more steps once one is as short as this.
ENOUGH_CELLS = 0.02
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Motion:
    """The picture's motion z → z + t + c z."""

    t: complex
    c: complex

    def times(self, factor: float) -> Motion:
        """As much motion as in so many times the time."""
        return Motion(self.t * factor, (1 + self.c) ** factor - 1)


STILL = Motion(0j, 0j)


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well a motion lays the second picture over the first.

    `likeness`: share of the picture's texture that then looks the same, what is so by chance taken off (Cohen, 1960),
    0 to 1. `error`: standard error of t in longer sides, from the noise and the texture.
    """

    motion: Motion
    likeness: float
    error: float


@dataclass(frozen=True, slots=True)
class Ground:
    """The first picture, ready to have others laid over it.

    levels: the picture (h, w). gradient: change of each pixel's level by right, down, zoom and roll (4, P). texture:
    weight of each pixel (P). alike: 1 over the difference up to which a pixel is alike (P). sides: longer side in cells
    of the picture before halving.
    """

    levels: F32
    gradient: F32
    texture: F32
    alike: F32
    texture_sum: float
    textured_share: float
    by_chance: float
    pixel_aspect: float
    sides: float

    def align(self, picture: U8, starts: list[Motion]) -> Alignment:
        """The motion that is found from the best of the starts, or that start where nothing better is found."""
        other = _halved(picture)
        tried = [(start, self._apart(other, start)) for start in starts]
        began, start, apart = max(((self._likeness(a), s, a) for s, a in tried), key=lambda each: each[0])
        motion, error2, steps = start, 0.0, 0
        for steps in range(ITERATIONS):
            if steps:
                apart = self._apart(other, motion)
            weight = self._weight(apart)
            weighted_4P = self.gradient * weight
            is_solved, inverse = cv2.invert(weighted_4P @ self.gradient.T)
            if not is_solved:
                break
            total = float(weight.sum()) + TINY
            apart -= np.float32(float(weight @ apart) / total)  # a change of light is no motion
            error2 = float(weight @ (apart * apart)) / total * float(inverse[0, 0] + inverse[1, 1])
            right, down, zoom, roll = ((weighted_4P @ apart) @ inverse).tolist()
            t, turn = complex(right, down), 1 + complex(zoom, roll)
            if abs(turn) < TINY:
                break
            motion = Motion(motion.t - (1 + motion.c) * t / turn, (1 + motion.c) / turn - 1)
            if (abs(t) + abs(turn - 1) * MEAN_RADIUS) * self.sides < ENOUGH_CELLS:
                break
        likeness = self._likeness(self._apart(other, motion)) if steps else began
        error = (PIXELS_TOGETHER * max(error2, 0.0)) ** 0.5
        return Alignment(motion, likeness, error) if likeness >= began else Alignment(start, began, error)

    def _apart(self, other: U8, motion: Motion) -> F32:
        """By how many levels each pixel differs from the other picture, moved back."""
        moved = other if motion is STILL else _moved_back(other, motion, self.pixel_aspect)
        return (moved - self.levels).ravel()

    def _weight(self, apart: F32) -> F32:
        some = np.abs(apart[::MEDIAN_STEP])
        some.partition(some.size // 2)
        ratio = apart * np.float32(1 / (ROUNDING_LEVELS + NOISE_FACTOR * float(some[some.size // 2])))
        kernel = 1 + ratio * ratio
        return np.asarray(self.texture / (kernel * kernel), np.float32)

    def _likeness(self, apart: F32) -> float:
        ratio = apart * self.alike
        share = float(self.texture @ (1 / (1 + ratio * ratio))) / self.texture_sum
        return max(0.0, share - self.by_chance) / (1 - self.by_chance)


def ground_of(luma: U8, pixel_aspect: float) -> Ground | None:
    """None where the picture has no texture."""
    picture = _halved(luma)
    height, width = picture.shape
    levels = picture.astype(np.float32)
    across = cv2.Sobel(levels, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(levels, cv2.CV_32F, 0, 1, scale=1 / 8)
    inside = np.outer(_lit(picture.max(axis=1)), _lit(picture.max(axis=0)))
    area = max(1, int(np.count_nonzero(inside)))
    steep2 = across * across + down * down
    typical = float((steep2 * inside).sum() / area) ** 0.5
    texture = steep2 / (steep2 + np.float32((ROUNDING_LEVELS + ALIKE_CELLS * typical) ** 2)) * inside
    texture_sum = float(texture.sum())
    if texture_sum <= MIN_TEXTURED_SHARE * area:
        return None
    alike = 1 / np.sqrt(cv2.blur(steep2, (5, 5)) * np.float32(ALIKE_CELLS**2) + np.float32(ROUNDING_LEVELS**2))
    x, y = _places(height, width, pixel_aspect)
    sides = max(width * pixel_aspect, height)
    right, downward = across.ravel() * np.float32(sides / pixel_aspect), down.ravel() * np.float32(sides)
    return Ground(
        levels,
        gradient=np.stack([right, downward, right * x + downward * y, downward * x - right * y]),
        texture=texture.ravel().astype(np.float32, copy=False),
        alike=alike.ravel().astype(np.float32, copy=False),
        texture_sum=texture_sum,
        textured_share=texture_sum / area,
        by_chance=_by_chance(levels, texture, alike),
        pixel_aspect=pixel_aspect,
        sides=float(max(luma.shape[1] * pixel_aspect, luma.shape[0])),
    )


def _by_chance(levels: F32, texture: NDArray, alike: NDArray) -> float:
    """Share of the texture that looks the same where the picture is shifted."""
    there, back = slice(CHANCE_CELLS, None), slice(None, -CHANCE_CELLS)
    weight = texture[there, there]
    ratio = (levels[there, there] - levels[back, back]) * alike[there, there]
    return min(MAX_CHANCE, float((weight / (1 + ratio * ratio)).sum()) / max(float(weight.sum()), TINY))


def _halved(luma: U8) -> U8:
    height, width = luma.shape
    if min(height, width) < 2 * MIN_HALVED_SIDE:
        return luma
    return cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _moved_back(picture: U8, motion: Motion, aspect: float) -> U8:
    """The picture before `motion`."""
    height, width = picture.shape
    middle_x, middle_y, sides = (width - 1) / 2, (height - 1) / 2, max(width * aspect, height)
    turn = 1 + motion.c
    a, b, c = turn.real, -turn.imag / aspect, turn.imag * aspect
    x = motion.t.real / aspect * sides + middle_x - a * middle_x - b * middle_y
    y = motion.t.imag * sides + middle_y - c * middle_x - a * middle_y
    matrix = np.array([[a, b, x], [c, a, y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[return-value]


def _lit(levels: U8) -> NDArray[np.bool_]:
    """Which rows or columns lie well inside the picture, from the brightest level of each."""
    bright = np.flatnonzero(levels > min(BORDER_MAX_LEVEL, BORDER_MAX_SHARE * int(levels.max())))
    inside = np.zeros(len(levels), bool)
    if bright.size:
        first, last = int(bright[0]), int(bright[-1])
        first += BORDER_MARGIN_CELLS if first else 0
        last -= BORDER_MARGIN_CELLS if last < len(levels) - 1 else 0
        inside[first : last + 1] = True
    return inside


@lru_cache(maxsize=64)
def _places(height: int, width: int, pixel_aspect: float) -> tuple[F32, F32]:
    sides = max(width * pixel_aspect, height)
    x = (np.arange(width) - (width - 1) / 2) * (pixel_aspect / sides)
    y = (np.arange(height) - (height - 1) / 2) / sides
    return np.tile(x, height).astype(np.float32), np.repeat(y, width).astype(np.float32)
