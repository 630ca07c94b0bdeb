"""Procedural shots and their copies for the benchmark of duplicates: luma, drawn only where it is sampled.

A shot is a place (a texture with shapes), a camera that moves over it and subjects that move before it, each from its
own seed: the same place with other subjects is another take, the same texture under another camera another shot.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import cos, pi, sin
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from curation.borders import lit_range
from curation.fingerprint import Fingerprint, ThumbSampler, fingerprint_of_thumbs
from curation.planes import planes_of, sampled_picture
from curation.verdicts import Thresholds

__all__ = ["ALTERATIONS", "Copy", "Shot", "altered", "copy_fingerprint", "middle_picture", "random_shot"]

U8 = NDArray[np.uint8]
WIDTH, HEIGHT = 160, 90
CANVAS = 384
Camera = Literal["tripod", "pan", "zoom", "handheld"]
CAMERAS: tuple[Camera, ...] = ("tripod", "tripod", "pan", "zoom", "handheld")
ALTERATIONS = ("scaled", "low_bitrate", "bordered", "graded", "overlaid", "other_rate", "cut", "all_at_once")
ENCODERS = ("libx264", "libvpx")
LOW_BITRATE_BPS = 24_000  # at 160 by 90 pixels, as 0.3 Mb/s are at 576 lines


@dataclass(frozen=True, slots=True)
class Shot:
    """What is seen: seeds of the place, of the camera's path and of the subjects, and for how long."""

    place: int
    path: int
    subjects: int
    camera: Camera
    count: int
    speed: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Copy:
    """How a shot is shown: from when to when, at which rate and how fast, and what was done to its pictures."""

    shot: Shot
    begin_s: float = 0.0
    end_s: float = 0.0
    rate_fps: float = 24.0
    speed: float = 1.0
    size: tuple[int, int] = (WIDTH, HEIGHT)
    border: tuple[int, int] = (0, 0)
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    has_logo: bool = False
    has_subtitle: bool = False
    encoder: str | None = None


def random_shot(rng: np.random.Generator) -> Shot:
    """A shot that the default thresholds would not reject as flat."""
    while True:
        shot = _any_shot(rng)
        if painter(whole(shot))(0.0).std() >= Thresholds().min_luma_spread_levels:
            return shot


def _any_shot(rng: np.random.Generator) -> Shot:
    place, path, subjects = rng.integers(0, 1 << 40, 3).tolist()
    camera = CAMERAS[int(rng.integers(len(CAMERAS)))]
    least = 1 if camera == "tripod" else 0
    return Shot(place, path, subjects, camera, int(rng.integers(least, 4)), rng.uniform(0.3, 1.5), rng.uniform(2, 6))


def whole(shot: Shot) -> Copy:
    return Copy(shot, 0.0, shot.seconds)


def other_take(shot: Shot, rng: np.random.Generator) -> Shot:
    """A hard negative: the same place again, other subjects and, where it moves, another path of the camera."""
    path, subjects = rng.integers(0, 1 << 40, 2).tolist()
    return replace(shot, path=path, subjects=subjects, count=max(1, shot.count), seconds=rng.uniform(2, 6))


def altered(shot: Shot, kind: str, rng: np.random.Generator) -> Copy:
    """A copy of a shot, altered in one of `ALTERATIONS`."""
    copy = whole(shot)
    if kind in ("scaled", "all_at_once"):
        width = int(rng.choice([64, 80, 106, 142]))
        copy = replace(copy, size=(width, round(width * rng.choice([0.54, 0.5625, 0.58]))))
    if kind in ("low_bitrate", "all_at_once"):
        copy = replace(copy, encoder=str(rng.choice(ENCODERS)))
    if kind == "bordered":
        copy = replace(
            copy, border=((0, int(rng.integers(6, 20))) if rng.random() < 0.5 else (int(rng.integers(8, 30)), 0))
        )
    if kind in ("graded", "all_at_once"):
        mild = 0.5 if kind == "all_at_once" else 1.0
        gamma, contrast = 1 + mild * rng.uniform(-0.25, 0.25), 1 + mild * rng.uniform(-0.2, 0.2)
        copy = replace(copy, gamma=gamma, contrast=contrast, brightness=mild * rng.uniform(-16, 16))
    if kind == "overlaid":
        which = int(rng.integers(1, 4))
        copy = replace(copy, has_logo=bool(which & 1), has_subtitle=bool(which & 2))
    if kind in ("other_rate", "all_at_once"):
        rate, speed = ((25.0, 1.0), (30.0, 1.0), (25.0, 25 / 24), (12.0, 1.0))[int(rng.integers(4))]
        copy = replace(copy, rate_fps=rate, speed=speed)
    if kind in ("cut", "all_at_once"):
        share = rng.uniform(0.55, 0.9)
        begin_s = rng.uniform(0, (1 - share) * shot.seconds)
        copy = replace(copy, begin_s=begin_s, end_s=begin_s + share * shot.seconds)
    return copy


def copy_fingerprint(copy: Copy) -> Fingerprint:
    """The copy's fingerprint, by the code that takes it from footage, borders found and not told."""
    shown = _encoded(copy) if copy.encoder else _sampled(copy)
    return fingerprint_of_pictures(*shown)


def fingerprint_of_pictures(thumbs: U8, times_s: NDArray[np.float64], seconds: float, lit: U8) -> Fingerprint:
    """`lit`: the brightest level that each pixel of the pictures reaches."""
    rows, columns = lit_range(lit.max(axis=1)), lit_range(lit.max(axis=0))
    full = (0.0, 0.0, 1.0, 1.0)
    if rows is None or columns is None:
        return fingerprint_of_thumbs(thumbs, times_s, seconds)
    height, width = lit.shape
    box = (columns[0] / width, rows[0] / height, columns[1] / width, rows[1] / height)
    return fingerprint_of_thumbs(thumbs, times_s, seconds, [full] if box == full else [box, full])


def _sampled(copy: Copy) -> tuple[U8, NDArray[np.float64], float, U8]:
    """Pictures only where the sampler takes one: as for encoded copies, but without drawing what it passes over."""
    frames = max(1, int((copy.end_s - copy.begin_s) / copy.speed * copy.rate_fps))
    sampler, paint = ThumbSampler(Fraction(1, 1000)), painter(copy)
    thumbs, times_s, lit = [], [], None
    blank = np.zeros((1, 1), np.uint8)
    for number in range(frames):
        time_s = number / copy.rate_fps
        if sampler.feed(round(1000 * time_s), blank) is None:
            continue
        picture = paint(time_s)
        thumbs.append(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA))
        times_s.append(time_s)
        lit = picture if lit is None else np.maximum(lit, picture)
    assert lit is not None
    return np.stack(thumbs), np.array(times_s), frames / copy.rate_fps, lit


def _encoded(copy: Copy) -> tuple[U8, NDArray[np.float64], float, U8]:
    """Pictures that went through an encoder at a low bit rate and back."""
    frames = max(1, int((copy.end_s - copy.begin_s) / copy.speed * copy.rate_fps))
    paint = painter(copy)
    data = encoded((paint(number / copy.rate_fps) for number in range(frames)), copy.rate_fps, str(copy.encoder))
    thumbs, times_s, lit = [], [], None
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        sampler = ThumbSampler(stream.time_base)
        for frame in container.decode(stream):
            assert frame.pts is not None
            picture = sampled_picture(planes_of(frame))[0]
            if (thumb := sampler.feed(frame.pts, picture)) is not None:
                thumbs.append(thumb)
                times_s.append(float(frame.pts * stream.time_base))
                lit = picture if lit is None else np.maximum(lit, picture)
    assert lit is not None
    return np.stack(thumbs), np.array(times_s) - times_s[0], frames / copy.rate_fps, lit


def encoded(pictures: Iterator[U8], rate_fps: float, encoder: str) -> bytes:
    """Matroska with pictures of luma, at `LOW_BITRATE_BPS`."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {"preset": "veryfast"} if encoder == "libx264" else {"deadline": "realtime", "cpu-used": "8"}
        rate = Fraction(rate_fps).limit_denominator(1001)
        stream = container.add_stream(encoder, rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.bit_rate = LOW_BITRATE_BPS
        for number, picture in enumerate(pictures):
            even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if number == 0:
                stream.height, stream.width = even.shape
                stream.pix_fmt = "yuv420p"
            gray = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="gray").reformat(format="yuv420p")
            gray.pts = number
            container.mux(stream.encode(gray))
        container.mux(stream.encode(None))
    return file.getvalue()


def middle_picture(copy: Copy) -> U8:
    """One picture from the middle, for the reference."""
    return painter(copy)((copy.end_s - copy.begin_s) / copy.speed / 2)


def painter(copy: Copy) -> Callable[[float], U8]:
    """Draws the copy's picture at a time of its own."""
    shot = copy.shot
    canvas = place_canvas(shot.place)
    view, subjects = camera_path(shot), subject_paths(shot)
    levels = np.clip((np.arange(256) / 255) ** copy.gamma * 255 * copy.contrast + copy.brightness, 0, 255).astype(
        np.uint8
    )

    def paint(time_s: float) -> U8:
        at_s = copy.begin_s + time_s * copy.speed
        picture = cv2.warpAffine(canvas, view(at_s), (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for x, y, radius, level in subjects(at_s):
            where = (round(16 * x * WIDTH), round(16 * y * HEIGHT))
            cv2.circle(picture, where, round(16 * radius * HEIGHT), level, -1, cv2.LINE_AA, 4)
        return shown(picture.astype(np.uint8, copy=False), copy, levels)

    return paint


def shown(picture: U8, copy: Copy, levels: U8) -> U8:
    picture = levels[picture]
    if copy.has_logo:
        cv2.circle(picture, (WIDTH - 14, 11), 7, 235, -1, cv2.LINE_AA)
    if copy.has_subtitle:
        for x in range(40, 120, 7):
            cv2.rectangle(picture, (x, HEIGHT - 12), (x + 4, HEIGHT - 7), 235, -1)
    if copy.size != (WIDTH, HEIGHT):
        picture = cv2.resize(picture, copy.size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    across, down = copy.border
    return np.pad(picture, ((down, down), (across, across)))


@lru_cache(maxsize=8)
def place_canvas(seed: int) -> U8:
    """Noise of several scales under some shapes: a place to look at."""
    rng = np.random.default_rng([1, seed])
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    slope = rng.uniform(0.3, 1.3)
    for cells in (3, 6, 12, 24, 48, 96):
        noise = rng.standard_normal((cells, cells), np.float32) * cells**-slope
        canvas += cv2.resize(noise, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
    low, high = np.percentile(canvas, (2, 98))
    dark, light = sorted(rng.uniform(10, 245, 2))
    picture = np.clip((canvas - low) / (high - low) * max(70.0, light - dark) + dark, 0, 250).astype(np.uint8)
    for _ in range(int(rng.integers(0, 10))):
        x, y, a, b = (int(v) for v in rng.integers(0, CANVAS, 4))
        level, turn = int(rng.integers(10, 245)), float(rng.uniform(0, 180))
        cv2.ellipse(picture, (x, y), (a // 6 + 3, b // 6 + 3), turn, 0, 360, level, -1, cv2.LINE_AA)
    return picture


def camera_path(shot: Shot) -> Callable[[float], NDArray[np.float64]]:
    """From a time to the matrix that takes picture to canvas."""
    rng = np.random.default_rng([2, shot.place if shot.camera == "tripod" else shot.path])
    x, y, scale = rng.uniform(40, 160), rng.uniform(40, 200), rng.uniform(0.8, 1.2)
    turn, zoom, wobble = rng.uniform(0, 2 * pi), rng.uniform(-0.15, 0.15), rng.uniform(0, 2 * pi, 4)
    speed = shot.speed * 30

    def view(at_s: float) -> NDArray[np.float64]:
        left, top, s = x, y, scale
        if shot.camera == "pan":
            left, top = x + 12 * speed * cos(turn) * at_s / 30, y + 12 * speed * sin(turn) * at_s / 30
        elif shot.camera == "zoom":
            s = scale * (1 + zoom * shot.speed) ** at_s
            left, top = x + WIDTH / 2 * (scale - s), y + HEIGHT / 2 * (scale - s)
        elif shot.camera == "handheld":
            left = x + 4 * sin(3.1 * at_s + wobble[0]) + 2 * sin(7.3 * at_s + wobble[1])
            top = y + 4 * sin(2.7 * at_s + wobble[2]) + 2 * sin(8.1 * at_s + wobble[3])
        return np.array([[s, 0, left], [0, s, top]])

    return view


def subject_paths(shot: Shot) -> Callable[[float], list[tuple[float, float, float, int]]]:
    """From a time to each subject's place and size in shares of the picture, and its level."""
    rng = np.random.default_rng([3, shot.subjects])
    shape = [(rng.uniform(0.05, 0.16), int(rng.integers(5, 250))) for _ in range(shot.count)]
    middle, reach = rng.uniform(0.25, 0.75, (shot.count, 2)), rng.uniform(0.1, 0.4, (shot.count, 2))
    pace, phase = rng.uniform(0.6, 2.0, (shot.count, 2)), rng.uniform(0, 2 * pi, (shot.count, 2))

    def at(at_s: float) -> list[tuple[float, float, float, int]]:
        places = middle + reach * np.sin(shot.speed * pace * at_s + phase)
        return [(float(x), float(y), radius, level) for (x, y), (radius, level) in zip(places, shape, strict=True)]

    return at
