"""Cases for the scores of rhythm and of coding: procedural footage, really encoded, and what each score must say."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from math import cos, tau
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.score_case import CaseMaker, ScoreCase, at_least, is_exactly, near
from benchmarks.time_footage import (
    Film,
    at_ticks,
    fine_lines,
    flashing,
    interlaced,
    lifted,
    measured_file,
    moving,
    noisy,
    pulldown,
    slides,
    still,
    text_page,
    with_object,
)
from curation.coding import CODING_SCORES
from curation.film import Encoding, encode_film
from curation.measured import ScoreValue
from curation.rhythm import RHYTHM_SCORES

__all__ = ["CASES", "ENCODINGS", "beats", "blocks", "combs", "flashes", "holds"]

Pictures = Callable[[], Iterator[NDArray[np.uint8]]]

FRAMES = 96
ENCODINGS = {
    "x264": Encoding(gop_frames=48, b_frames=2),
    "mpeg4": Encoding("mpeg4", gop_frames=12),
    "vp9": Encoding("libvpx-vp9", gop_frames=48),
}
OF = {score.column: score.of for score in (*RHYTHM_SCORES, *CODING_SCORES)}


def value_of(score: str, pictures: Pictures, encoding: Encoding) -> ScoreValue:
    """What the score says of pictures, once encoded and decoded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.mkv"
        encode_film(path, pictures(), encoding)
        return OF[score](measured_file(path))


def stalled(index: int) -> float:
    """One frame in five repeats the one before, at places drawn by lot."""
    lots = np.random.default_rng(7).random(1000) < 0.2
    return float(index - np.count_nonzero(lots[: index + 1]))


# Which film frame each frame shows, how many of them a second, how many in all, and the pattern.
BEATS: dict[str, tuple[Callable[[int], float], int, int, str | None]] = {
    "every frame new": (float, 24, FRAMES, None),
    "drawings on twos": (lambda i: i // 2, 24, FRAMES, "2:2"),
    "drawings on threes": (lambda i: i // 3, 24, FRAMES, "3:3"),
    "24 made 25": (lambda i: i - i // 25, 25, 130, "1 of 25 repeated"),
    "24 made 30": (lambda i: i * 4 // 5, 30, FRAMES, "1 of 5 repeated"),
    "24 made 60": (lambda i: i * 2 // 5, 60, FRAMES, "2:3"),
    "25 made 50": (lambda i: i // 2, 50, FRAMES, "2:2"),
    "stalls by lot": (stalled, 24, FRAMES, None),
}


def beats(seed: int, encoding: Encoding) -> Iterator[ScoreCase]:
    """Frames that repeat in known places of a pan."""
    for name, (shown, fps, frames, pattern) in BEATS.items():
        share = float(np.mean([index > 0 and shown(index) == shown(index - 1) for index in range(frames)]))
        pictures, coded = partial(at_ticks, moving(seed), frames, shown), replace(encoding, rate=Fraction(fps))
        for score, is_right in (("repeated_frames_share", near(share, 0.05)), ("telecine", is_exactly(pattern))):
            yield ScoreCase(score, name, partial(value_of, score, pictures, coded), is_right)


def holds(seed: int, encoding: Encoding) -> Iterator[ScoreCase]:
    """Stills and live scenes; in none of them do frames repeat amid motion."""
    three, no_share = range(seed, seed + 3), is_exactly(0.0)
    for name, pictures, is_right in (
        ("slides with cuts", partial(slides, three, 36, 0), near(1.0, 0.1)),
        ("slides with dissolves", partial(slides, three, 36, 12), near(0.75, 0.1)),
        ("slides with pans", partial(slides, three, 36, 12, pans=True), near(0.75, 0.1)),
        ("one still", partial(at_ticks, still(seed), FRAMES, float), is_exactly(1.0)),
        ("somebody before a tripod", partial(at_ticks, noisy(with_object(seed), 3.0), FRAMES, float), no_share),
        ("a tripod's noise", partial(at_ticks, noisy(still(seed), 3.0), FRAMES, float), no_share),
        ("a slow pan", partial(at_ticks, moving(seed, 6.0), FRAMES, float), no_share),
    ):
        yield ScoreCase("slideshow_share", name, partial(value_of, "slideshow_share", pictures, encoding), is_right)
        repeated = partial(value_of, "repeated_frames_share", pictures, encoding)
        yield ScoreCase("repeated_frames_share", name, repeated, near(0.0, 0.01))


def flashes(seed: int, encoding: Encoding) -> Iterator[ScoreCase]:
    """Sudden and slow changes of light, at 24 frames a second."""
    film, bright, none = moving(seed), lifted(moving(seed)), is_exactly(0.0)
    for name, pictures, is_right in (
        ("lightning", partial(flashing, film, FRAMES, 16, 2, 2.2), near(5 / 4, 0.05)),
        ("a strobe", partial(flashing, bright, FRAMES, 6, 3, 0.3), near(15 / 4, 0.05)),
        ("black frames", partial(flashing, bright, FRAMES, 24, 1, 0.0), near(3 / 4, 0.05)),
        ("a slow pulse", partial(pulse, bright), none),
        ("a fast pan", partial(at_ticks, moving(seed, 900.0), FRAMES, float), none),
        ("a tripod", partial(at_ticks, noisy(with_object(seed), 3.0), FRAMES, float), none),
    ):
        yield ScoreCase("flashes_per_s", name, partial(value_of, "flashes_per_s", pictures, encoding), is_right)


def pulse(film: Film) -> Iterator[NDArray[np.uint8]]:
    """Brightness swings between a quarter and all, in four seconds."""
    for index in range(FRAMES):
        yield np.rint(film(index) * (0.625 + 0.375 * cos(tau * index / 96))).astype(np.uint8)


def combs(seed: int, encoding: Encoding) -> Iterator[ScoreCase]:
    """Interlaced and progressive pictures of a pan."""
    film = moving(seed, 120.0)
    fields, pulled_down = partial(interlaced, film, FRAMES), partial(pulldown, film, FRAMES)
    for name, pictures, is_right in (
        ("interlaced, top first", fields, at_least(0.75)),
        ("interlaced, bottom first", partial(interlaced, film, FRAMES, top_first=False), at_least(0.75)),
        ("24 made 29.97 by fields", pulled_down, near(0.4, 0.25)),
        ("progressive", partial(at_ticks, film, FRAMES, float), is_exactly(0.0)),
        ("progressive, fine lines", partial(fine_lines, film, FRAMES), is_exactly(0.0)),
        ("interlaced, nothing moves", partial(interlaced, still(seed), FRAMES), is_exactly(0.0)),
    ):
        yield ScoreCase("combing_share", name, partial(value_of, "combing_share", pictures, encoding), is_right)
    pattern = partial(value_of, "telecine", pulled_down, encoding)
    yield ScoreCase("telecine", "24 made 29.97 by fields", pattern, is_exactly("2:3"))
    yield ScoreCase("telecine", "interlaced", partial(value_of, "telecine", fields, encoding), is_exactly(None))


def blocks(seed: int) -> Iterator[ScoreCase]:
    """Bit rates that leave blocks and such that do not."""
    pan, page = partial(at_ticks, moving(seed), FRAMES, float), partial(text_page, seed, FRAMES)
    noise = partial(at_ticks, noisy(still(seed), 12.0), FRAMES, float)
    x264, good, starved = ENCODINGS["x264"], near(1.0, 0.2), at_least(1.3)
    for name, pictures, encoding, is_right in (
        ("x264, good", pan, x264, good),
        ("x264, good, text", page, x264, good),
        ("x264, good, noise", noise, x264, good),
        ("vp9, good", pan, ENCODINGS["vp9"], good),
        ("ffv1", pan, Encoding("ffv1"), good),
        ("x264, starved", pan, replace(x264, bitrate_bps=15_000), starved),
        ("mpeg4, starved", pan, Encoding("mpeg4", gop_frames=48, bitrate_bps=80_000), starved),
        ("mjpeg, starved", pan, Encoding("mjpeg", pix_fmt="yuvj420p", bitrate_bps=500_000), starved),
    ):
        yield ScoreCase("blockiness", name, partial(value_of, "blockiness", pictures, encoding), is_right)


def in_all_encodings(seed: int) -> Iterator[ScoreCase]:
    for encoding in ENCODINGS.values():
        for make in (beats, holds, flashes, combs):
            yield from make(seed, encoding)


CASES: tuple[CaseMaker, ...] = (in_all_encodings, blocks)
