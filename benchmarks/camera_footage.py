"""Footage whose camera motion is known: a camera moves over a flat picture, with objects, noise and bars as asked.

A camera's pose is a place (right, down, in longer sides of the picture), a zoom (natural logarithm) and a roll
(radians, clockwise), each a function of time. Everything follows from the case and its seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import cos, exp, hypot, log, sin, tau

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.film import Encoding

__all__ = ["TEXTURE_SIDE", "Case", "Move", "Truth", "encoding_of", "pictures", "random_case", "texture", "truth_of"]

Gray = NDArray[np.uint8]

TEXTURE_SIDE = 1536
# Mean distance from the middle of a 16:9 picture, in longer sides: by it zoom and roll compare with translations.
MEAN_RADIUS = 0.30
SHAKE_WAVES = 4


@dataclass(frozen=True, slots=True)
class Move:
    """The camera's velocities: longer sides a second, logarithm of growth a second, radians a second clockwise.

    `ease`: 0 for a steady speed, 1 for one that swings between nothing and twice as much. `shake`: mean speed of a
    hand's tremor on top, longer sides a second, at `shake_hz` and around.
    """

    right: float = 0.0
    down: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0
    ease: float = 0.0
    shake: float = 0.0
    shake_hz: float = 3.0


@dataclass(frozen=True, slots=True)
class Case:
    """One clip. `objects`: how many things move by themselves, covering about `objects_share` of the picture.

    `noise`: standard deviation in levels. `bars`: share of the height that is black above and below. `parallax`: share
    of the picture, from below, that is nearer and moves two and a half times as far. `bits_per_px`: None for x264's
    constant quality. `contrast`, `brightness`: factors on the texture. `plain`: share of the picture without texture.
    """

    seed: int
    move: Move
    width: int = 320
    height: int = 180
    rate: Fraction = Fraction(24)
    seconds: float = 2.5
    objects: int = 0
    objects_share: float = 0.0
    objects_speed: float = 0.0
    noise: float = 0.0
    bars: float = 0.0
    logo: bool = False
    parallax: float = 0.0
    plain: float = 0.0
    contrast: float = 1.0
    brightness: float = 1.0
    bits_per_px: float | None = None
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a case: the columns of the store by the same names."""

    motion: str
    direction: str | None
    speed_share_per_s: float


def truth_of(case: Case) -> Truth:
    """The motion that displaces the picture most."""
    move = case.move
    spans = {
        "pan": abs(move.right),
        "tilt": abs(move.down),
        "zoom": abs(move.zoom) * MEAN_RADIUS,
        "roll": abs(move.roll) * MEAN_RADIUS,
    }
    name = max(spans, key=lambda key: spans[key])
    if move.shake > spans[name]:
        return Truth("shake", None, tremor_speed(case))
    if not spans[name]:
        return Truth("static", None, 0.0)
    value, positive, negative = {
        "pan": (move.right, "right", "left"),
        "tilt": (move.down, "down", "up"),
        "zoom": (move.zoom, "in", "out"),
        "roll": (move.roll, "clockwise", "counterclockwise"),
    }[name]
    speed = hypot(move.right, move.down) if name in ("pan", "tilt") else spans[name]
    return Truth(name, positive if value > 0 else negative, speed)


@lru_cache(maxsize=64)
def texture(seed: int, side: int = TEXTURE_SIDE) -> Gray:
    """Noise of several scales, shapes and a gradient."""
    rng = np.random.default_rng([seed, 1])
    total = np.zeros((side, side), np.float32)
    for cells, weight in ((6, 30), (16, 24), (48, 18), (128, 14), (384, rng.uniform(4, 14))):
        noise = rng.standard_normal((cells, cells), np.float32)
        total += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    total += np.linspace(-1, 1, side, dtype=np.float32)[:, None] * rng.uniform(-40, 40)
    for _ in range(90):
        centre, size = rng.integers(0, side, 2), rng.integers(8, 90, 2)
        level = float(rng.uniform(-110, 110))
        corners = (centre + (rng.standard_normal((int(rng.integers(3, 7)), 2)) * size)).astype(np.int32)
        cv2.fillPoly(total, [corners], level)  # type: ignore[call-overload]
    return np.clip(cv2.GaussianBlur(total, (0, 0), 0.7) + 118, 0, 255).astype(np.uint8)


def encoding_of(case: Case) -> Encoding:
    bits = None if case.bits_per_px is None else int(case.bits_per_px * case.width * case.height * case.rate)
    return Encoding(
        rate=case.rate, b_frames=2, bitrate_bps=bits, rotation_deg=case.rotation, pixel_aspect=case.pixel_aspect
    )


def pictures(case: Case, ground: Gray) -> Iterator[NDArray[np.uint8]]:
    """The case's frames as RGB, upright, narrowed by the pixel aspect, as `encode_film` takes them."""
    rng = np.random.default_rng([case.seed, 2])
    cv2.setRNGSeed(case.seed)
    waves = _waves(case)
    things = _things(case, rng)
    logo = texture(case.seed + 7, 64)
    bar = round(case.bars * case.height)
    display_width = round(case.width * case.pixel_aspect) if case.rotation % 180 == 0 else case.width
    display_height = case.height if case.rotation % 180 == 0 else round(case.height * case.pixel_aspect)
    side = max(display_width, display_height)
    start_scale = 1.15 * exp(max(0.0, -case.move.zoom * case.seconds))
    middle = rng.uniform(0.35, 0.65, 2) * ground.shape[::-1]
    for index in range(max(1, round(case.seconds * case.rate))):
        time_s = index / float(case.rate)
        right, down, zoom, roll = pose(case.move, waves, time_s, case.seconds)
        scale = start_scale * exp(zoom)
        moved = np.array([right, down]) * side / start_scale
        size = (display_width, display_height)
        picture = _seen(ground, middle + moved, scale, roll, size)
        if case.parallax:
            near = _seen(ground[::-1], middle + 2.5 * moved, scale, roll, size)
            picture[round((1 - case.parallax) * display_height) :] = near[round((1 - case.parallax) * display_height) :]
        if case.plain:
            rows = round(case.plain * display_height)
            picture[:rows] = np.linspace(150, 190, rows, dtype=np.float32)[:, None]
        for thing in things:
            thing.draw(picture, time_s)
        if case.logo:
            _paste(picture, logo[: display_height // 9, : display_width // 6])
        levels = picture * (case.contrast * case.brightness) + 118 * (1 - case.contrast) * case.brightness
        if case.noise:
            levels += cv2.randn(np.empty_like(levels), 0.0, case.noise)  # type: ignore[call-overload]
        levels[:bar] = 0
        levels[display_height - bar :] = 0
        gray = np.clip(levels, 0, 255).astype(np.uint8)
        if case.pixel_aspect != 1:
            gray = cv2.resize(gray, (case.width, case.height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        yield cv2.merge((gray, gray, gray))  # type: ignore[misc]


def _waves(case: Case) -> NDArray:
    """Relative frequency, phase and weight of the tremor's waves: right, down and roll."""
    rng = np.random.default_rng([case.seed, 4])
    return rng.uniform([0.5, 0.0, 0.6], [1.6, tau, 1.4], (3, SHAKE_WAVES, 3))


def tremor_speed(case: Case) -> float:
    """Mean speed of the camera's place, longer sides a second."""
    waves, times_s = _waves(case), np.arange(0, case.seconds, 0.005)
    places = np.array([pose(case.move, waves, float(time_s), case.seconds)[:2] for time_s in times_s])
    return float(np.hypot(*np.diff(places, axis=0).T).mean() / 0.005)


def pose(move: Move, waves: NDArray, time_s: float, seconds: float) -> tuple[float, float, float, float]:
    """Where the camera is after so long: right, down, zoom, roll."""
    turn = tau / seconds
    way = time_s - move.ease * sin(turn * time_s) / turn
    tremor = np.zeros(3)
    for axis in range(3):
        for hz, phase, weight in waves[axis]:
            rate = tau * hz * move.shake_hz
            tremor[axis] += weight * sin(rate * time_s + phase) / rate
    # The mean length of two normal components of standard deviation d is 1.25 d.
    tremor *= move.shake / 1.25 / ((SHAKE_WAVES / 2) ** 0.5)
    return (
        move.right * way + tremor[0],
        move.down * way + tremor[1],
        move.zoom * way,
        move.roll * way + 0.5 * tremor[2],
    )


def _seen(ground: Gray, middle: NDArray, scale: float, roll: float, size: tuple[int, int]) -> NDArray[np.float32]:
    width, height = size
    c, s = cos(roll) / scale, sin(roll) / scale
    across, down = (width - 1) / 2, (height - 1) / 2
    matrix = np.array([[c, -s, middle[0] - c * across + s * down], [s, c, middle[1] - s * across - c * down]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(ground, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.float32)


class _Thing:
    """A textured ellipse that goes its way and bounces off the sides."""

    def __init__(self, rng: np.random.Generator, case: Case, size: tuple[int, int], share: float):
        self._size = size
        radius = (share * size[0] * size[1] / 3.14159) ** 0.5
        stretch = rng.uniform(0.7, 1.4)
        self._radii = np.maximum(2, [radius * stretch, radius / stretch])
        self._at = rng.uniform(0.2, 0.8, 2) * size
        angle = rng.uniform(0, tau)
        self._speed = np.array([cos(angle), sin(angle)]) * case.objects_speed * max(size)
        self._texture = texture(int(rng.integers(1 << 30)), 512)

    def draw(self, picture: NDArray[np.float32], time_s: float) -> None:
        width, height = self._size
        span = np.array([width, height], float)
        at = np.abs((self._at + self._speed * time_s + span) % (2 * span) - span)
        (left, top), (right, bottom) = np.clip([at - self._radii - 1, at + self._radii + 2], 0, span).astype(int)
        if right <= left or bottom <= top:
            return
        size = (right - left, bottom - top)
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        away = np.hypot((x - at[0]) / self._radii[0], (y - at[1]) / self._radii[1])
        mask = np.clip((1 - away) * self._radii.min(), 0, 1).astype(np.float32)
        middle = np.array([left + right - 1, top + bottom - 1]) / 2
        seen = _seen(self._texture, np.array([256.0, 256.0]) + middle - at, 1.0, 0, size)
        picture[top:bottom, left:right] += (seen - picture[top:bottom, left:right]) * mask


def _things(case: Case, rng: np.random.Generator) -> list[_Thing]:
    square = case.pixel_aspect
    turned = case.rotation % 180 != 0
    size = (
        case.width if turned else round(case.width * square),
        round(case.height * square) if turned else case.height,
    )
    return [_Thing(rng, case, size, case.objects_share / case.objects) for _ in range(case.objects)]


def _paste(picture: NDArray[np.float32], logo: Gray) -> None:
    h, w = logo.shape
    picture[8 : 8 + h, 8 : 8 + w] = logo


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return exp(rng.uniform(log(low), log(high)))


SIZES = ((320, 180), (426, 240), (240, 426), (360, 360), (176, 144), (516, 216), (640, 360), (320, 240))
RATES = (Fraction(12), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60))


def random_case(seed: int, *, is_hard: bool = False) -> Case:
    """A clip of some size, rate, motion and trouble; `hard` ones have more trouble than can be seen through."""
    rng = np.random.default_rng([seed, 3])
    width, height = SIZES[rng.integers(len(SIZES))]
    objects = int(rng.integers(1, 5)) if is_hard or rng.random() < 0.5 else 0
    anamorphic = rng.random() < 0.08
    case = Case(
        seed=seed,
        move=random_move(rng),
        width=width,
        height=height,
        rate=RATES[rng.integers(len(RATES))],
        seconds=float(rng.uniform(1.5, 3.5)),
        objects=objects,
        objects_share=float(rng.uniform(0.02, 0.3)) if objects else 0.0,
        objects_speed=log_uniform(rng, 0.05, 0.5) if objects else 0.0,
        noise=float(rng.choice([0, 0, 0, 2, 5])),
        bars=float(rng.choice([0, 0, 0, 0.12])),
        logo=bool(rng.random() < 0.15),
        bits_per_px=[None, None, 0.1, 0.05][rng.integers(4)],
        brightness=float(rng.choice([1, 1, 1, 0.3])),
        rotation=int(rng.choice([0, 0, 0, 0, 90, 180, 270])),
        pixel_aspect=Fraction(4, 3) if anamorphic else Fraction(1),
    )
    return _made_hard(case, rng) if is_hard else case


def random_move(rng: np.random.Generator) -> Move:
    """One motion that stands out, from slow to fast, steady or eased, now and then with a little of another."""
    kind = ("static", "pan", "pan", "tilt", "tilt", "zoom", "roll", "shake")[rng.integers(8)]
    speed, sign = log_uniform(rng, 0.01, 0.6), float(rng.choice([-1, 1]))
    steady = {"ease": float(rng.choice([0, 0, 0.7]))}
    aside = float(rng.choice([0, 0, rng.uniform(-0.5, 0.5)])) * speed
    match kind:
        case "static":
            return Move()
        case "shake":
            return Move(shake=max(0.03, speed), shake_hz=float(rng.uniform(1.5, 5)))
        case "zoom":
            return Move(zoom=sign * min(speed, 0.24) / MEAN_RADIUS, **steady)
        case "roll":
            return Move(roll=sign * speed / MEAN_RADIUS, **steady)
    hand = float(rng.choice([0, 0, 0.3])) * speed
    if kind == "pan":
        return Move(right=sign * speed, down=aside, shake=hand, **steady)
    return Move(down=sign * speed, right=aside, shake=hand, **steady)


def _made_hard(case: Case, rng: np.random.Generator) -> Case:
    match rng.integers(5):
        case 0:
            return replace(case, parallax=float(rng.uniform(0.3, 0.6)))
        case 1:
            return replace(case, objects_share=float(rng.uniform(0.5, 0.8)))
        case 2:
            return replace(case, contrast=0.04)
        case 3:
            return replace(case, plain=0.9)
        case _:
            return replace(case, noise=25.0, brightness=0.15)
