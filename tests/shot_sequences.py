"""Small pictures of painted scenes, joined in every way that films know, with the boundaries known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.boundary import Boundary, Look
from curation.combined import CombinedDetector

__all__ = ["BLACK", "Shot", "cut", "dissolved", "even", "faded", "found", "scene", "with_frames"]

Frame = NDArray[np.float32]
"""(h, w, 3): luma and both colour differences."""
Shot = list[Frame]

WIDTH, HEIGHT = 160, 90
BLACK = (0, 128, 128)
WORLD_SIDE = 1024


@cache
def world(seed: int) -> NDArray[np.float32]:
    """A large picture with detail at every scale, as nature has it; a look of its own for each seed."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((WORLD_SIDE, WORLD_SIDE, 3), np.float32)
    for cells in (6, 12, 24, 48, 96, 192, 384):
        noise = rng.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(noise, (WORLD_SIDE, WORLD_SIDE), interpolation=cv2.INTER_CUBIC) * 110 / cells**0.6
    picture = (picture - picture.mean((0, 1))) * (1.0, 0.25, 0.25)
    mean = (rng.uniform(90, 150), rng.uniform(108, 148), rng.uniform(108, 148))
    return (picture + mean).astype(np.float32)


def scene(
    seed: int,
    frames: int,
    *,
    pan: tuple[float, float] = (0, 0),
    zoom: float = 1.0,
    shake: float = 0.0,
    noise: float = 1.0,
    light: float = 1.0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Shot:
    """A shot of a world of its own. Per frame: `pan` pixels, `zoom` times; `shake` pixels either way at random."""
    rng = np.random.default_rng(1000 + seed)
    center = np.array([WORLD_SIDE / 2, WORLD_SIDE / 2]) - np.array(pan) * frames / 2
    shot: Shot = []
    for index in range(frames):
        at = center + np.array(pan) * index + rng.uniform(-shake, shake, 2)
        scale = 2 / zoom**index
        corner = at - np.array((WIDTH, HEIGHT)) * scale / 2
        onto = np.array([[scale * WIDTH / size[0], 0, corner[0]], [0, scale * HEIGHT / size[1], corner[1]]])
        view = cv2.warpAffine(world(seed), onto, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        view = view + rng.normal(0, noise, view.shape)
        shot.append(((view - BLACK) * light + BLACK).astype(np.float32))
    return shot


def even(frames: int, color: tuple[int, int, int] = BLACK, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Shot:
    return [np.full((size[1], size[0], 3), color, np.float32)] * frames


def cut(*shots: Shot) -> Shot:
    return [frame for shot in shots for frame in shot]


def dissolved(a: Shot, b: Shot, frames: int) -> Shot:
    """Both go on while the first gives way to the second."""
    shares = [(i + 1) / (frames + 1) for i in range(frames)]
    pairs = zip(shares, a[-frames:], b[:frames], strict=True)
    mixed = [((1 - s) * x + s * y).astype(np.float32) for s, x, y in pairs]
    return a[:-frames] + mixed + b[frames:]


def faded(a: Shot, b: Shot, frames: int, color: tuple[int, int, int] = BLACK, hold: int = 4) -> Shot:
    return dissolved(dissolved(a, even(2 * frames + hold, color), frames), b, frames)


def with_frames(shot: Shot, at: int, others: Iterable[Frame]) -> Shot:
    """With other frames in place of its own."""
    others = list(others)
    return [*shot[:at], *others, *shot[at + len(others) :]]


def looks(shot: Sequence[Frame]) -> list[Look]:
    frames = [np.rint(np.clip(frame, 0, 255)).astype(np.uint8) for frame in shot]
    return [Look((f[..., 0].copy(), f[..., 1].copy(), f[..., 2].copy())) for f in frames]


def found(shot: Sequence[Frame], min_scene_frames: int = 6) -> list[Boundary]:
    detector = CombinedDetector(min_scene_frames)
    return sorted([b for look in looks(shot) for b in detector.feed(look)] + detector.flush())
