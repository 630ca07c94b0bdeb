"""What a clip of `benchmarks.attribute_footage` shows, told from its pixels by rules: no model, the same every time.

ground → how much of each pixel is covered by what is not ground → the largest thing in each frame → its colour by the
nearest of the palette, its shape by the nearest drawing of one, its motion by the track of its middle. Nothing is
guessed: where a rule finds nothing, the answer is None.

T frames, H rows, W columns
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.attribute_footage import MOTIONS
from benchmarks.tune_footage import COLORS, SHAPES, WAYS, draw

__all__ = ["Judgement", "judge"]

LEAST_CONTRAST_LEVELS = 45.0  # from ground to ink, of which the nearest pair of colours has 80
FARTHEST_INK_LEVELS = 75.0  # from the nearest colour of the palette
FULL_SHARE = 0.8  # of the greatest distance from the ground: a pixel that is all ink
COVERED = 0.4
LEAST_AREA, MOST_AREA = 0.02, 0.5  # of a square of the shorter side
LEAST_FRAMES = 2 / 3  # in which the thing must be found
MOST_MISFIT = 0.3  # of a drawing, in shares of the thing's own squares
LEAST_WAY = 0.12  # of the shorter side, from the first frame to the last
LEAST_STRAIGHTNESS = 2.0  # the way along an axis to that across
MOST_STRAY = 0.06  # of the shorter side, from the line that the middles follow
FINER = 8  # a drawing is made so many times as fine, and averaged
SIZES = (0.92, 1.0, 1.08)


@dataclass(frozen=True, slots=True)
class Judgement:
    """None where there is nothing to be told.

    whole   share of the frames in which the thing is found and does not touch the picture's edge
    """

    color: str | None
    shape: str | None
    motion: str | None
    whole: float = 0.0


@dataclass(frozen=True, slots=True)
class Thing:
    """In one frame: how much of each pixel it covers, and its middle (x, y) in pixels."""

    cover_HW: NDArray[np.float64]
    middle: tuple[float, float]


NOTHING = Judgement(None, None, None)


def judge(video_THWC: NDArray[np.uint8]) -> Judgement:
    video = video_THWC.astype(float)
    ground = np.median(video.reshape(-1, 3), axis=0)
    far_THW = np.linalg.norm(video - ground, axis=-1)
    most = float(np.percentile(far_THW, 98))
    if most < LEAST_CONTRAST_LEVELS:
        return NOTHING
    ink = video[far_THW >= FULL_SHARE * most].mean(axis=0)
    along = (ink - ground) / max(1.0, float(np.square(ink - ground).sum()))
    things = [thing_of(cover_HW) for cover_HW in np.clip((video - ground) @ along, 0, 1)]
    found = [(time, thing) for time, thing in enumerate(things) if thing is not None]
    if len(found) < LEAST_FRAMES * len(things):
        return NOTHING
    seen = [thing for _, thing in found]
    return Judgement(
        nearest_color(ink),
        nearest_shape(seen),
        motion_of(found, len(things), min(video.shape[1:3])),
        sum(map(is_whole, seen)) / len(things),
    )


def nearest_color(ink: NDArray[np.float64]) -> str | None:
    distances = {name: float(np.linalg.norm(ink - color)) for name, color in COLORS.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= FARTHEST_INK_LEVELS else None


def thing_of(cover_HW: NDArray[np.float64]) -> Thing | None:
    """The largest that hangs together, with its soft edge."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((cover_HW > COVERED).astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    near_HW = cv2.dilate((labels == largest).astype(np.uint8), np.ones((3, 3), np.uint8))
    own_HW = cover_HW * near_HW
    area = float(own_HW.sum())
    if not LEAST_AREA <= area / min(cover_HW.shape) ** 2 <= MOST_AREA:
        return None
    y, x = np.mgrid[: cover_HW.shape[0], : cover_HW.shape[1]]
    return Thing(own_HW, (float((own_HW * x).sum() / area), float((own_HW * y).sum() / area)))


def is_whole(thing: Thing) -> bool:
    edge = np.concatenate([thing.cover_HW[[0, -1]].ravel(), thing.cover_HW[:, [0, -1]].ravel()])
    return float(edge.max()) <= COVERED


def nearest_shape(things: list[Thing]) -> str | None:
    """The one whose drawings, at the things' own places and areas, are like them in all frames together."""
    squares = sum(float(np.square(thing.cover_HW).sum()) for thing in things)
    misfits = {
        shape: sum(min(misfit(thing, shape, size) for size in SIZES) for thing in things) / squares for shape in SHAPES
    }
    shape = min(misfits, key=misfits.__getitem__)
    return shape if misfits[shape] <= MOST_MISFIT else None


def misfit(thing: Thing, shape: str, size: float) -> float:
    """Sum of squares between a thing and a drawing of a shape with the same middle and about the same area."""
    area, (x, y) = UNITS[shape]
    radius = size * float(np.sqrt(thing.cover_HW.sum() / area))
    middle = thing.middle[0] - x * radius, thing.middle[1] - y * radius
    drawn_HW = drawing(shape, middle, radius, *thing.cover_HW.shape)
    return float(np.square(drawn_HW - thing.cover_HW).sum())


def drawing(shape: str, middle: tuple[float, float], radius: float, height: int, width: int) -> NDArray[np.float64]:
    """How much of each pixel a shape covers; `middle` in pixels, of which the first's own middle is 0."""
    fine = np.zeros((height * FINER, width * FINER, 3), np.uint8)
    x, y = (FINER * (value + 0.5) - 0.5 for value in middle)
    draw(fine, shape, (255, 255, 255), (x, y), FINER * radius)
    return fine[..., 0].reshape(height, FINER, width, FINER).mean(axis=(1, 3)) / 255


def measured(shape: str) -> tuple[float, tuple[float, float]]:
    """Area of a shape of radius 1, and where its centre of mass is from its middle."""
    side, radius = 65, 16.0
    cover = drawing(shape, (side // 2, side // 2), radius, side, side)
    y, x = np.mgrid[:side, :side] - side // 2
    area = float(cover.sum())
    return area / radius**2, (float((cover * x).sum() / area / radius), float((cover * y).sum() / area / radius))


UNITS = {shape: measured(shape) for shape in SHAPES}


def motion_of(found: list[tuple[int, Thing]], frames: int, shorter: int) -> str | None:
    """By the straight line that the middles follow best."""
    times = np.array([time for time, _ in found], float)
    middles = np.array([thing.middle for _, thing in found])
    if len(found) < 2:
        return None
    slope, start = np.polyfit(times, middles, 1)
    stray = float(np.sqrt(np.square(middles - (start + times[:, None] * slope)).sum(axis=1).mean()))
    way_x, way_y = slope * (frames - 1) / shorter
    along, across = max(abs(way_x), abs(way_y)), min(abs(way_x), abs(way_y))
    if along < LEAST_WAY or along < LEAST_STRAIGHTNESS * across or stray > MOST_STRAY * shorter:
        return None
    is_level = abs(way_x) > abs(way_y)
    direction = (int(np.sign(way_x)), 0) if is_level else (0, int(np.sign(way_y)))
    return next(name for name, way in MOTIONS.items() if WAYS[way] == direction)
