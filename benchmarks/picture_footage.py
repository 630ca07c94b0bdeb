"""Procedural footage for the scores of what a picture shows: colours, borders, text and overlays, all of it known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.time_footage import measured_file
from curation.decode import DecodedFrame
from curation.film import Encoding, SceneSpec, encode_film, scene_painter
from curation.film_titles import Title, logo_mask, stamped, titled
from curation.geometry import Geometry
from curation.measure import Measurer
from curation.measured import Measured

__all__ = [
    "HEIGHT",
    "WIDTH",
    "captioned",
    "cartoon",
    "encoded",
    "halves",
    "line",
    "logoed",
    "measured",
    "night",
    "panning",
    "spotlight",
    "textures",
    "ticker",
    "tripod",
]

RGB = NDArray[np.uint8]
WIDTH, HEIGHT, FRAMES = 640, 360, 8
STEP_MS = 500  # a frame a sample: scores of pictures come from samples alone
SENTENCE = "the quick brown fox jumps over a lazy dog while twelve people are watching it from afar"
WORDS = SENTENCE.split()


def measured(pictures: Iterable[RGB], pix_fmt: str = "yuv420p") -> Measured:
    """Pictures, half a second apart, as one clip, without a codec in between."""
    measurer = Measurer(Fraction(1, 1000))
    frames, samples, size = [], [], (0, 0)
    for index, picture in enumerate(pictures):
        size = (picture.shape[1], picture.shape[0])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt)
        measure, _, sample = measurer.feed(DecodedFrame(frame, index * STEP_MS, STEP_MS, False, False, None))
        frames.append(measure)
        samples.append(sample)
    samples.append(measurer.flush())
    geometry = Geometry(*size, Fraction(1), 0)
    return Measured(frames, [s for s in samples if s], len(frames), Fraction(1, 1000), geometry)


def encoded(pictures: Iterable[RGB], bitrate_bps: int, rotation_deg: int = 0) -> Measured:
    """The same through H.264, shown for a sixth of a second each."""
    encoding = Encoding(
        rate=Fraction(12), gop_frames=24, b_frames=2, bitrate_bps=bitrate_bps, rotation_deg=rotation_deg
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.mp4"
        encode_film(path, (picture for picture in pictures for _ in range(6)), encoding)
        return measured_file(path)


def panning(seed: int, width: int = WIDTH, height: int = HEIGHT, *, brightness: float = 1.0) -> Iterator[RGB]:
    x, y = 0.2 * width * (1 - 2 * (seed % 2)), 0.1 * height
    scene = SceneSpec(seed, FRAMES, pan_x_px_per_s=x, pan_y_px_per_s=y, brightness=brightness)
    paint = scene_painter(scene, width, height)
    return (paint(index * STEP_MS / 1000) for index in range(FRAMES))


def tripod(seed: int) -> Iterator[RGB]:
    """A disc goes through a scene that stands still."""
    paint = scene_painter(SceneSpec(seed, FRAMES, object_x_px_per_s=70, object_y_px_per_s=30), WIDTH, HEIGHT)
    return (paint(index * STEP_MS / 1000) for index in range(FRAMES))


def line(seed: int, index: int, words: int = 5) -> str:
    first = (7 * seed + 3 * index) % (len(WORDS) - words)
    return " ".join(WORDS[first : first + words])


def captioned(
    footage: Iterable[RGB], seed: int, *, middle: float = 0.9, changes: bool = True, cap_share: float = 0.045
) -> tuple[list[RGB], float]:
    """The footage with a line of subtitles, changing every second, and the share of the picture that lines cover."""
    pictures, shares = [], []
    for index, picture in enumerate(footage):
        words = line(seed, index // 2 if changes else 0)
        drawn, covered = titled(picture, Title(words, (0.5, middle), cap_share, font=seed % 4))
        pictures.append(drawn)
        shares.append(float(covered.mean()))
    return pictures, float(np.mean(shares))


def ticker(footage: Iterable[RGB], seed: int, bar_px: int, color: tuple[int, int, int]) -> Iterator[RGB]:
    """A bar below the picture, in which text runs to the left."""
    for index, picture in enumerate(footage):
        bar = np.full((bar_px, picture.shape[1], 3), color, np.uint8)
        cap = 0.4
        yield np.vstack(
            [picture, titled(bar, Title(SENTENCE, (0.6 - 0.05 * index, 0.5), cap, outline_px=0, font=seed % 2))[0]]
        )


def logoed(footage: Iterable[RGB], seed: int, opacity: float = 1.0) -> tuple[list[RGB], float]:
    """The footage with a logo in a corner, and the share that the logo's box covers."""
    mask = logo_mask(WIDTH, HEIGHT, seed, side_share=0.18)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    share = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / mask.size
    return [stamped(picture, mask, (255, 255, 255), opacity) for picture in footage], float(share)


def night(seed: int) -> Iterator[RGB]:
    """A street at night: a black sky down to roofs of several heights, lit windows below."""
    rng = np.random.default_rng(seed)
    city = np.full((HEIGHT, WIDTH, 3), 6, np.uint8)
    x = 0
    while x < WIDTH:
        width, top = int(rng.integers(40, 110)), int(rng.integers(HEIGHT * 7 // 20, HEIGHT * 3 // 5))
        city[top:, x : x + width] = rng.integers(14, 60)
        for row in range(top + 10, HEIGHT - 10, 22):
            for column in range(x + 8, min(x + width, WIDTH) - 8, 18):
                if rng.random() < 0.5:
                    city[row : row + 10, column : column + 8] = (235, 200, 120)
        x += width
    noise = np.random.default_rng(seed + 1)
    for _ in range(FRAMES):
        yield np.clip(city + noise.normal(0, 2.5, city.shape), 0, 255).astype(np.uint8)


def cartoon(seed: int, ground: tuple[int, int, int] = (255, 255, 255)) -> Iterator[RGB]:
    """A figure walks to and fro before an empty ground of one colour."""
    for index in range(FRAMES):
        picture = np.full((HEIGHT, WIDTH, 3), ground, np.uint8)
        x = int(WIDTH * (0.4 + 0.03 * ((index + seed) % 7)))
        cv2.ellipse(picture, (x, 230), (70, 95), 0, 0, 360, (40, 90, 200), -1, cv2.LINE_AA)
        cv2.circle(picture, (x, 110), 62, (250, 205, 160), -1, cv2.LINE_AA)
        for eye in (-22, 22):
            cv2.circle(picture, (x + eye, 100), 9, (20, 20, 20), -1, cv2.LINE_AA)
        yield picture


def spotlight(seed: int) -> Iterator[RGB]:
    """A round spot of light on a dark stage, in its middle."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = np.clip(1.6 - np.hypot(x - WIDTH / 2, y - HEIGHT / 2) / (0.3 * HEIGHT), 0, 1)[..., None]
    for picture in panning(seed):
        yield np.rint(picture * light).astype(np.uint8)


def halves(left: tuple[int, int, int], right: tuple[int, int, int], share: float) -> Callable[[], Iterator[RGB]]:
    """Two colours side by side, the left one over that share of the width."""

    def pictures() -> Iterator[RGB]:
        picture = np.full((HEIGHT, WIDTH, 3), right, np.uint8)
        picture[:, : round(share * WIDTH)] = left
        yield from (picture for _ in range(3))

    return pictures


def textures(seed: int) -> Iterator[RGB]:
    """What is dense and has high contrast but is no text: noise at several scales, checks, bricks, ribs, leaves."""
    rng = np.random.default_rng(seed)
    for cell in (2, 4, 8):
        noise = rng.integers(0, 256, (HEIGHT // cell, WIDTH // cell), np.uint8)
        yield np.repeat(np.repeat(noise, cell, 0), cell, 1)[..., None].repeat(3, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    yield np.where((x // 6 + y // 6) % 2, 230, 30).astype(np.uint8)[..., None].repeat(3, 2)
    brick = ((y % 24 < 3) | ((x + 24 * (y // 24 % 2)) % 48 < 3)).astype(np.uint8)
    yield (60 + 150 * brick)[..., None].repeat(3, 2)
    ribs = (y + 3 * np.sin(x / 17 + seed) + rng.integers(0, 3, (1, WIDTH // 16)).repeat(16, 1)) % 14 < 5
    yield np.where(ribs & (y > 150) & (y < 240), 220, 40).astype(np.uint8)[..., None].repeat(3, 2)
    leaves = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    for _ in range(1500):
        place, axes = (rng.integers(0, WIDTH), rng.integers(0, HEIGHT)), (rng.integers(3, 10), rng.integers(1, 4))
        tone = int(rng.integers(60, 240))
        center, size = (int(place[0]), int(place[1])), (int(axes[0]), int(axes[1]))
        ink = (tone // 3, tone, tone // 4)
        cv2.ellipse(leaves, center, size, float(rng.uniform(0, 180)), 0, 360, ink, -1, cv2.LINE_AA)
    yield leaves
