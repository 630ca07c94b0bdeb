"""Procedural footage for the scores of rhythm and of coding: what happens in time is known, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.analysis import looks_of
from curation.decode import Decoder
from curation.film import SceneSpec, scene_painter
from curation.measure import Measurer
from curation.measured import Measured
from curation.media import Limits, main_video_stream, open_media

__all__ = [
    "Film",
    "at_ticks",
    "flashing",
    "interlaced",
    "measured_file",
    "moving",
    "noisy",
    "pulldown",
    "slides",
    "still",
]

RGB = NDArray[np.uint8]
Film = Callable[[float], RGB]
"""The picture at a time in film frames, 24 of them a second."""

WIDTH, HEIGHT, FILM_FPS = 320, 180, 24


def measured_file(path: Path) -> Measured:
    """All frames of a file as one clip, decoded as curation does."""
    with open_media(path, Limits()) as container:
        stream = main_video_stream(container, Limits())
        decoder = Decoder(container, stream, Limits(), "noref")
        measurer, frames, samples, looks = Measurer(decoder.time_base), [], [], None
        for frame in decoder:
            looks = looks or looks_of(frame.picture, stream)
            measure, _, sample = measurer.feed(frame)
            frames.append(measure)
            samples.append(sample)
        samples.append(measurer.flush())
    assert looks is not None
    return Measured(frames, [s for s in samples if s], len(frames), decoder.time_base, looks.geometry)


def moving(seed: int, px_per_s: float = 90.0) -> Film:
    """A pan in a direction that the seed chooses."""
    angle = 0.7 + 2.4 * seed
    x, y = px_per_s * np.cos(angle), px_per_s * np.sin(angle)
    paint = scene_painter(SceneSpec(seed, 1, pan_x_px_per_s=float(x), pan_y_px_per_s=float(y)), WIDTH, HEIGHT)
    return lambda index: paint(index / FILM_FPS)


def with_object(seed: int, px_per_s: float = 60.0) -> Film:
    """A camera on a tripod before somebody who moves."""
    paint = scene_painter(SceneSpec(seed, 1, object_x_px_per_s=px_per_s), WIDTH, HEIGHT)
    return lambda index: paint(index / FILM_FPS)


def still(seed: int) -> Film:
    picture = scene_painter(SceneSpec(seed, 1), WIDTH, HEIGHT)(0.0)
    return lambda index: picture


def noisy(film: Film, levels: float, seed: int = 0) -> Film:
    """As a sensor would see it: other noise in every frame."""

    def seen(index: float) -> RGB:
        noise = np.random.default_rng([seed, int(2 * index)]).normal(0, levels, (HEIGHT, WIDTH, 1))
        return np.clip(film(index) + noise, 0, 255).astype(np.uint8)

    return seen


def lifted(film: Film) -> Film:
    """The film in bright light: dark levels are halfway up."""
    return lambda index: 128 + film(index) // 2


def at_ticks(film: Film, frames: int, shown: Callable[[int], float]) -> Iterator[RGB]:
    """Frames that show the film as it is at `shown(frame)`."""
    return (film(shown(index)) for index in range(frames))


def woven(even: RGB, odd: RGB) -> RGB:
    picture = even.copy()
    picture[1::2] = odd[1::2]
    return picture


def interlaced(film: Film, frames: int, *, top_first: bool = True) -> Iterator[RGB]:
    """Fields half a frame apart."""
    for index in range(frames):
        early, late = film(index), film(index + 0.5)
        yield woven(early, late) if top_first else woven(late, early)


def pulldown(film: Film, frames: int) -> Iterator[RGB]:
    """2:3 pulldown into fields: AA BB BC CD DD, four film frames in five."""
    order = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))
    for index in range(frames):
        first = 4 * (index // 5)
        even, odd = order[index % 5]
        yield woven(film(first + even), film(first + odd))


def slides(seeds: range, held: int, change: int, *, pans: bool = False) -> Iterator[RGB]:
    """Stills, each held for `held` frames, with dissolves of `change` frames between, or pans over the next one."""
    for seed in seeds:
        picture, following = still(seed)(0), still(seed + 1)(0)
        yield from (picture for _ in range(held))
        for step in range(change):
            share = (step + 1) / (change + 1)
            if pans:
                yield np.roll(following, round(WIDTH * (1 - share)), axis=1)
            else:
                yield np.rint((1 - share) * picture + share * following).astype(np.uint8)


def flashing(film: Film, frames: int, every: int, lit: int, factor: float) -> Iterator[RGB]:
    """The film, brighter or darker by a factor in the first `lit` frames of `every` from the second such group on."""
    for index in range(frames):
        is_lit = index >= every and index % every < lit
        yield np.clip(film(index) * (factor if is_lit else 1.0), 0, 255).astype(np.uint8)


def fine_lines(film: Film, frames: int) -> Iterator[RGB]:
    """The film with a blind before it, every second row of which is dark, that goes sideways and down."""
    for index in range(frames):
        picture = film(index).copy()
        left, first = 60 + 2 * index % 120, index % 2
        picture[30 + first : 150 : 2, left : left + 80] //= 4
        yield picture


def text_page(seed: int, frames: int) -> Iterator[RGB]:
    """Sharp dark letters on white paper, scrolling."""
    page = np.full((HEIGHT + 2 * frames, WIDTH, 3), 235, np.uint8)
    for row, y in enumerate(range(20, len(page), 22)):
        words = f"line {row} of page {seed}: sphinx of quartz"
        cv2.putText(page, words, (6 + 3 * (row % 5), y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (25, 25, 25), 1, cv2.LINE_AA)
    for index in range(frames):
        yield page[2 * index : 2 * index + HEIGHT]
