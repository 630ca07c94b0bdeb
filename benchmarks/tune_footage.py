"""Procedural clips of which every attribute is known: a coloured shape that crosses a plain picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.film_encode import Encoding, encode_film

__all__ = ["ATTRIBUTES", "Attributes", "all_attributes", "mentioned", "write_clip"]

SIDE, FRAMES, RATE = 168, 16, Fraction(8)
RIPPLE_LEVELS = 9
SUBPIXELS = 16  # of cv2's fixed-point coordinates

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 220, 50),
    "purple": (160, 50, 200),
    "white": (240, 240, 240),
}
WAYS = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}
BACKGROUNDS = {
    "black": (30, 30, 30),
    "gray": (110, 110, 110),
    "brown": (100, 60, 25),
    "cyan": (60, 170, 180),
    "pink": (240, 160, 190),
}
# Outlines, in radii from the middle; several are filled one over the other.
BAR = ((-0.35, -1.2), (0.35, -1.2), (0.35, 1.2), (-0.35, 1.2))
UPRIGHT = ((-0.3, -1.1), (0.3, -1.1), (0.3, 1.1), (-0.3, 1.1))
OUTLINES = {
    "triangle": (((0.0, -1.1), (1.1, 0.9), (-1.1, 0.9)),),
    "cross": (UPRIGHT, tuple((y, x) for x, y in UPRIGHT)),
    "bar": (BAR,),
}
SHAPES = ("circle", "ring", *OUTLINES)

ATTRIBUTES = {"color": tuple(COLORS), "shape": SHAPES, "direction": tuple(WAYS), "background": tuple(BACKGROUNDS)}
"""The values of each attribute, as captions say them. No word is a value of two attributes."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a clip shows, and what is said of it."""

    color: str
    shape: str
    direction: str
    background: str

    @property
    def short(self) -> str:
        return f"A {self.color} {self.shape}."

    @property
    def descriptive(self) -> str:
        return f"A {self.color} {self.shape} moves {self.direction} over a {self.background} background."


def all_attributes() -> list[Attributes]:
    return [Attributes(*values) for values in itertools.product(*ATTRIBUTES.values())]


def mentioned(attribute: str, text: str) -> set[str]:
    """The values of an attribute that a caption names."""
    said = f" {text.lower().replace('.', ' ').replace(',', ' ')} "
    return {value for value in ATTRIBUTES[attribute] if f" {value} " in said}


def write_clip(path: Path, attributes: Attributes, seed: int) -> None:
    """Two seconds; size, place, speed and the exact colours are drawn."""
    encode_film(path, pictures(attributes, np.random.default_rng(seed)), Encoding(rate=RATE))


def pictures(attributes: Attributes, random: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    radius = SIDE * random.uniform(0.22, 0.28)
    margin = 1.25 * radius
    across, down = WAYS[attributes.direction]
    way = (SIDE - 2 * margin) * random.uniform(0.8, 1.0)
    x = SIDE / 2 if across else random.uniform(margin, SIDE - margin)
    y = SIDE / 2 if down else random.uniform(margin, SIDE - margin)
    ink, ground = (tinted(c, random) for c in (COLORS[attributes.color], BACKGROUNDS[attributes.background]))
    backdrop = rippled(ground, random)
    for frame in range(FRAMES):
        gone = way * (frame / (FRAMES - 1) - 0.5)
        picture = backdrop.copy()
        draw(picture, attributes.shape, ink, (x + across * gone, y + down * gone), radius)
        yield np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def rippled(color: tuple[int, int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    """A ground that is not quite plain: strips of one colour would be taken for borders, and cut off."""
    y, x = np.mgrid[:SIDE, :SIDE]
    (pitch_x, pitch_y), phases = random.uniform(6, 10, 2), random.uniform(0, 2 * np.pi, 2)
    ripples = RIPPLE_LEVELS * (np.sin(x / pitch_x + phases[0]) + np.sin(y / pitch_y + phases[1]))
    return np.clip(np.add(color, ripples[..., None]), 0, 255).astype(np.uint8)


def tinted(color: tuple[int, int, int], random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.add(color, random.integers(-12, 13, 3)), 0, 255).tolist()
    return red, green, blue


def draw(
    picture: NDArray[np.uint8], shape: str, ink: tuple[int, int, int], middle: tuple[float, float], radius: float
) -> None:
    if shape in ("circle", "ring"):
        x, y, size = (round(value * SUBPIXELS) for value in (*middle, radius if shape == "circle" else 0.8 * radius))
        cv2.circle(picture, (x, y), size, ink, -1 if shape == "circle" else round(0.5 * radius), cv2.LINE_AA, 4)
        return
    for outline in OUTLINES[shape]:
        corners = np.rint((np.array(outline) * radius + middle) * SUBPIXELS).astype(np.int32)
        cv2.fillPoly(picture, [corners], ink, cv2.LINE_AA, 4)
