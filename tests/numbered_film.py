"""Pictures whose number can be read off them however small they are shown, and films of them: what a frame shows tells
which it is, and which way up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["number_in", "numbered_picture", "numbered_pictures"]

BITS = 10
MARK = (255, 40, 40)


def numbered_picture(number: int, width: int, height: int, bar_rows: int = 0, seed: int | None = None) -> NDArray:
    """A row of fields at the top, white for the 1s of the number, the lowest bit at the left, and red below them: dark
    only under the fields. `bar_rows` are black bars above and below; with `seed` the red is full of noise."""
    picture = np.zeros((height, width, 3), np.uint8)
    inner = picture[bar_rows : height - bar_rows]
    inner[:] = MARK
    if seed is not None:
        noise = np.random.default_rng([seed, number]).integers(0, 200, inner.shape)
        inner[:] = noise.astype(np.uint8)
    half = inner.shape[0] // 2
    for bit in range(BITS):
        left, right = width * bit // BITS, width * (bit + 1) // BITS
        inner[:half, left:right] = 255 if number >> bit & 1 else 20
    return picture


def numbered_pictures(count: int, width: int, height: int, bar_rows: int = 0, seed: int | None = None) -> Iterator:
    return (numbered_picture(number, width, height, bar_rows, seed) for number in range(count))


def number_in(rgb: NDArray[np.uint8]) -> int:
    """What a picture without bars says."""
    height, width = rgb.shape[:2]
    strip = rgb[height // 8 : 3 * height // 8].mean(axis=(0, 2))
    middles = [strip[width * (2 * bit + 1) // (2 * BITS)] for bit in range(BITS)]
    return sum(1 << bit for bit, level in enumerate(middles) if level > 128)
