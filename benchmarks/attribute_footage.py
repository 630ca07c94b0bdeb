"""Procedural clips for experiments of training: a coloured shape that moves one way over a plain picture of any aspect,
and what is said of it.

Colour, shape and motion are what is asked of samples; background, size, place and speed vary beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.tune_footage import BACKGROUNDS, COLORS, SHAPES, WAYS, draw, tinted
from curation.film_encode import Encoding, encode_film

__all__ = [
    "ASKED",
    "RATE",
    "Attributes",
    "Combination",
    "Framing",
    "all_combinations",
    "combinations_apart",
    "pictures",
    "some_attributes",
    "write_clip",
]

RATE = Fraction(8)
# Whole chroma: with less, readers that make small pictures of it smear the colour of a shape over its neighbours.
ENCODING = Encoding(rate=RATE, pix_fmt="yuv444p")
RIPPLE_LEVELS = 9  # a ground that is quite plain would be taken for borders, and cut off
NOISE_LEVELS = 2
REACH = 1.25  # radii from a shape's middle to its farthest point, about

MOTIONS = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}
ASKED = {"color": tuple(COLORS), "shape": SHAPES, "motion": tuple(MOTIONS)}
"""The values of each attribute that a sample is judged by, each one word."""

# All of as many words: a CPU attends to texts of one length together, and to others one by one.
PHRASES = (
    "A {color} {shape} moves {motion} over a {background} background.",
    "Over a {background} background a {color} {shape} moves {motion}.",
    "On {background} ground a {color} {shape} is moving {motion}.",
    "A {color} {shape} goes {motion} before a {background} ground.",
)


Combination = tuple[str, ...]
"""A value of each of the asked attributes."""


@dataclass(frozen=True, slots=True)
class Attributes:
    color: str
    shape: str
    motion: str
    background: str

    @property
    def asked(self) -> Combination:
        return self.color, self.shape, self.motion

    def descriptive(self, phrase: int) -> str:
        """In one of several ways."""
        words = {"color": self.color, "shape": self.shape, "motion": self.motion, "background": self.background}
        return PHRASES[phrase % len(PHRASES)].format(**words)

    @property
    def original(self) -> str:
        """As a photographer would note it."""
        return f"{self.color} {self.shape}, {self.motion}"


@dataclass(frozen=True, slots=True)
class Framing:
    """Size of the picture, and of what moves in it, in shares of the shorter side.

    Attributes:
        radius: Of the shape, least and most.
        way: That it goes, least and most, as far as there is room.
        edge: That stays free besides.
    """

    width: int = 160
    height: int = 160
    frames: int = 8
    radius: tuple[float, float] = (0.22, 0.28)
    way: tuple[float, float] = (0.3, 0.45)
    edge: float = 0.0


def all_combinations() -> list[Combination]:
    """Of the asked attributes."""
    return list(itertools.product(*ASKED.values()))


def combinations_apart(seed: int, share: float) -> list[Combination]:
    """A share of all combinations, in which every value of every attribute is met as often as the others, or once more:
    a guess is right no more often than chance."""
    random = np.random.default_rng(seed)
    orders = [random.permutation(values).tolist() for values in ASKED.values()]
    whole = lcm(*map(len, orders))
    count = round(share * len(all_combinations()))
    turns = ((n, n, n + n // whole) for n in range(count))
    found = [tuple(order[n % len(order)] for order, n in zip(orders, places, strict=True)) for places in turns]
    assert len(set(found)) == count
    return found


def some_attributes(combinations: Sequence[Combination], count: int, seed: int) -> list[Attributes]:
    """Combinations in turn, each before a background that is drawn."""
    random = np.random.default_rng(seed)
    backgrounds = random.choice(list(BACKGROUNDS), count).tolist()
    in_turn = [combinations[n % len(combinations)] for n in range(count)]
    return [Attributes(c, s, m, b) for (c, s, m), b in zip(in_turn, backgrounds, strict=True)]


def write_clip(path: Path, attributes: Attributes, framing: Framing, seed: int) -> None:
    encode_film(path, pictures(attributes, framing, np.random.default_rng(seed)), ENCODING)


def pictures(attributes: Attributes, framing: Framing, random: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """RGB; the shape is whole in every frame."""
    sides = np.array([framing.width, framing.height], float)
    shorter = sides.min()
    radius = shorter * random.uniform(*framing.radius)
    direction = np.array(WAYS[MOTIONS[attributes.motion]], float)
    room = np.maximum(sides - 2 * (REACH * radius + framing.edge * shorter), 0)
    path = direction * np.minimum(shorter * random.uniform(*framing.way), room)
    middle = sides / 2 + (room - np.abs(path)) * random.uniform(-0.5, 0.5, 2)
    ink, ground = (tinted(c, random) for c in (COLORS[attributes.color], BACKGROUNDS[attributes.background]))
    backdrop = rippled(ground, framing, random)
    for frame in range(framing.frames):
        x, y = middle + path * (frame / max(1, framing.frames - 1) - 0.5)
        picture = backdrop.copy()
        draw(picture, attributes.shape, ink, (x, y), radius)
        noisy = picture + random.normal(0, NOISE_LEVELS, picture.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def rippled(color: Sequence[int], framing: Framing, random: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[: framing.height, : framing.width]
    (pitch_x, pitch_y), phases = random.uniform(6, 10, 2), random.uniform(0, 2 * np.pi, 2)
    ripples = RIPPLE_LEVELS * (np.sin(x / pitch_x + phases[0]) + np.sin(y / pitch_y + phases[1]))
    return np.clip(np.add(color, ripples[..., None]), 0, 255).astype(np.uint8)
