"""The combined method on painted scenes joined in every way, and what must hold whatever it is given."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.boundary import Boundary, Look
from curation.combined import CombinedDetector
from curation.takes import HOLD_FRAMES
from tests.shot_sequences import BLACK, Shot, cut, dissolved, even, faded, found, looks, scene, with_frames

WHITE, RED = (255, 128, 128), (80, 90, 220)
Expected = list[tuple[int, int]]
"""Of each boundary, the frames where it may lie."""


def drifting(seed: int, frames: int) -> Shot:
    return scene(seed, frames, pan=(1.5, 0.4))


def blended(a: Shot, b: Shot) -> Shot:
    """As a conversion of rates leaves a cut: one frame shows both."""
    return [*a, (0.6 * a[-1] + 0.4 * b[0]).astype(np.float32), *b]


def colored(shot: Shot, blue: float, red: float) -> Shot:
    """In one hue: both colour differences are so many times the luma, which stays."""
    one = [np.stack([f[..., 0], 128 + blue * f[..., 0], 128 + red * f[..., 0]], axis=-1) for f in shot]
    return [np.clip(f, 0, 255).astype(np.float32) for f in one]


def lit_by(shot: Shot, gains: tuple[float, float, float]) -> Shot:
    """Under a light that has so many times the blue, green and red."""
    result: Shot = []
    for frame in shot:
        ycrcb = np.clip(frame[..., [0, 2, 1]], 0, 255).astype(np.uint8)
        bgr = np.clip(cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2BGR) * gains, 0, 255).astype(np.uint8)
        result.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb)[..., [0, 2, 1]].astype(np.float32))
    return result


AS_RED, AS_GREEN, AS_BLUE = (-0.17, 0.5), (-0.33, -0.42), (0.5, -0.08)


def in_three_colors(shot: Shot, second: int, third: int) -> Shot:
    """Each up to the frame where the next begins."""
    return [
        *colored(shot[:second], *AS_RED),
        *colored(shot[second:third], *AS_BLUE),
        *colored(shot[third:], *AS_GREEN),
    ]


def wiped(a: Shot, b: Shot, frames: int, toward: tuple[float, float], soft: float = 0.0) -> Shot:
    """A line sweeps over the picture, its edge `soft` of the way wide."""
    height, width = a[0].shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    place = x / width * toward[0] + y / height * toward[1]
    place = (place - place.min()) / (place.max() - place.min())
    mixed: Shot = []
    for index, (old, new) in enumerate(zip(a[-frames:], b[:frames], strict=True)):
        line = (index + 1) / (frames + 1) * (1 + soft)
        share = np.clip((line - place) / max(soft, 1e-6), 0, 1)[..., None]
        mixed.append(((1 - share) * old + share * new).astype(np.float32))
    return a[:-frames] + mixed + b[frames:]


def grain(frames: int) -> Shot:
    """Black, but for noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 6, (frames, *even(1)[0].shape)).astype(np.float32)
    return [np.abs(each) * (1, 0, 0) + BLACK for each in noise]


JOINS: dict[str, tuple[Shot, Expected]] = {
    "cuts": (cut(drifting(1, 40), drifting(2, 30), drifting(3, 9), drifting(4, 40)), [(40, 40), (70, 70), (79, 79)]),
    "cut between fast pans": (cut(scene(1, 30, pan=(16, 0)), scene(2, 30, pan=(-16, 4))), [(30, 30)]),
    "cut between shakes": (cut(scene(1, 30, shake=10), scene(2, 30, shake=10)), [(30, 30)]),
    "cut in noise": (cut(scene(1, 30, noise=12), scene(2, 30, noise=12)), [(30, 30)]),
    "cut in low light": (cut(scene(1, 30, light=0.25), scene(2, 30, light=0.25)), [(30, 30)]),
    "cut with a blended frame": (blended(drifting(1, 31), drifting(2, 30)), [(31, 31)]),
    "cut between doubled frames": ([f for f in cut(drifting(1, 20), drifting(2, 20)) for _ in "ab"], [(40, 40)]),
    "cut to the last two frames": (cut(drifting(1, 40), drifting(2, 2)), [(40, 40)]),
    "hard cuts to and from black": (cut(drifting(1, 40), even(10), drifting(2, 40)), [(40, 50)]),
    "black that is a scene": (cut(drifting(1, 40), even(150), drifting(2, 40)), [(40, 40), (190, 190)]),
    "night": (cut(drifting(1, 40), scene(2, 60, light=0.03, noise=0), drifting(3, 40)), [(40, 40), (100, 100)]),
    "colour alone": (in_three_colors(drifting(1, 120), 40, 110), [(40, 40), (110, 110)]),
    "colour alone, in low light": (in_three_colors(scene(1, 90, light=0.25), 40, 70), [(40, 40), (70, 70)]),
    "cards of one brightness": (
        [*even(40, (90, 90, 220)), *even(40, (90, 220, 110)), *even(9, (90, 60, 60))],
        [(40, 40), (80, 80)],
    ),
    "cards between scenes": (
        cut(drifting(1, 40), even(40, WHITE), even(40, RED), drifting(2, 40)),
        [(40, 40), (80, 80), (120, 120)],
    ),
    "a second of black between cuts": (cut(drifting(1, 40), even(30), drifting(2, 40)), [(40, 40), (70, 70)]),
    "fade through a black of grain": (
        dissolved(dissolved(drifting(1, 60), grain(70), 10), drifting(2, 60), 10),
        [(50, 120)],
    ),
    "a short night": (cut(drifting(1, 40), scene(2, 15, light=0.03, noise=0), drifting(3, 40)), [(40, 40), (55, 55)]),
    "a flash beside a cut": (cut(drifting(1, 40), even(1, WHITE), drifting(2, 40)), [(40, 41)]),
} | {
    f"dissolve of {frames}, {'still' if pan == (0, 0) else 'moving'}": (
        dissolved(scene(5, 70, pan=pan), scene(2, 90, pan=pan), frames),
        [(70 - frames, 70)],
    )
    for frames in (4, 6, 8, 12, 20, 30, 50)
    for pan in ((0, 0), (1.0, 0.3))
} | {
    f"fade of {frames} through {color}, {hold} held": (
        faded(drifting(1, 60), drifting(2, 60), frames, color, hold),
        [(60 - frames, 60 + hold + frames)],
    )
    for frames in (3, 8, 20)
    for color in (BLACK, WHITE, RED)
    for hold in (1, 30)
} | {
    f"{'soft' if soft else 'hard'} wipe of {frames} toward {toward}": (
        wiped(scene(1, 70, pan=(0.3, 0.1)), scene(2, 90), frames, toward, soft), [(70 - frames, 70)]
    )
    for frames in (8, 20, 30)
    for toward in ((1, 0), (0, -1), (1, 1))
    for soft in (0.0, 0.15)
}  # fmt: skip


def lit(shot: Shot, levels: list[float]) -> Shot:
    """With a share of its light for each frame in turn."""
    return [frame * np.array((levels[i % len(levels)], 1, 1), np.float32) for i, frame in enumerate(shot)]


def passed_by(shot: Shot, speed: int, width: int, rows: tuple[int, int] = (20, 80)) -> Shot:
    """A dark, striped box crosses the picture from left to right."""
    result = [frame.copy() for frame in shot]
    stripes = np.array([(30 + 60 * (row // 10 % 2), 140, 120) for row in range(*rows)], np.float32)
    for index, frame in enumerate(result):
        right = speed * index
        frame[slice(*rows), max(0, right - width) : max(0, right)] = stripes[:, None]
    return result


def exploding(shot: Shot, at: int) -> Shot:
    light = [0.9, 1.0, 0.95, *np.linspace(0.9, 0, 20)]
    burst = [(1 - a) * f + a * np.array((255, 120, 150), np.float32) for f, a in zip(shot[at:], light, strict=False)]
    return with_frames(shot, at, burst)


ONE_SCENE: dict[str, Shot] = {
    "still": scene(1, 40),
    "noise": scene(1, 60, noise=12),
    "low light": scene(1, 60, pan=(2, 0), light=0.15),
    "zoom in": scene(1, 60, zoom=1.02),
    "fast zoom": scene(1, 30, zoom=1.05),
    "zoom out": scene(1, 40, zoom=0.98),
    "light switched": lit(scene(1, 80), [1.0] * 40 + [0.4] * 40),
    "light dimmed": lit(drifting(1, 100), [1 - 0.7 * min(1, max(0, (i - 30) / 30)) for i in range(100)]),
    "strobe": lit(drifting(1, 100), [1.0, 1.0, 1.0, 1.6]),
    "flicker": lit(drifting(1, 100), [1.0, 0.8, 1.1, 0.9, 1.2, 0.85, 1.05]),
    "light of another white": cut(drifting(1, 40), lit_by(drifting(1, 80)[40:], (0.6, 1.0, 1.5))),
    "red flash": with_frames(drifting(1, 80), 30, even(3, RED)),
    "red light for a while": with_frames(drifting(1, 120), 30, lit_by(drifting(1, 120)[30:60], (0.1, 0.2, 1.0))),
    "police lights": [
        f for i in range(0, 120, 12) for f in colored(drifting(1, 120)[i : i + 12], *(AS_RED, AS_BLUE)[i // 12 % 2])
    ],
    "object": passed_by(scene(1, 60), 5, 40),
    "something that fills the picture passes": passed_by(scene(1, 90), 5, 220, (0, 90)),
    "fast object": passed_by(scene(1, 40), 12, 60),
    "explosion": exploding(scene(1, 80, pan=(0.3, 0)), 30),
    "begins in black": cut(even(20), drifting(2, 40)),
    "fades in": dissolved(even(30), drifting(2, 40), 20),
    "fades out": dissolved(drifting(2, 40), even(60), 20),
    "blink": cut(scene(1, 40), even(5), scene(1, 40)),
    "pulled down": [f for i, f in enumerate(drifting(1, 48)) for _ in range(2 + i % 2)],
} | {f"pan of {v}": scene(1, min(80, 400 // v), pan=(v, 0)) for v in (2, 6, 12, 20, 40)} | {
    f"shake of {v}": scene(1, 100, shake=v) for v in (2, 6, 12, 20)
} | {
    f"flash of {frames} at {level}": with_frames(drifting(1, 80), 30, even(frames, (level, 128, 128)))
    for level in (0, 255)
    for frames in (1, 2, 3, 4)
}  # fmt: skip


@pytest.mark.parametrize("name", JOINS)
def test_every_change_is_one_boundary(name: str) -> None:
    shot, expected = JOINS[name]
    boundaries = found(shot)
    assert len(boundaries) == len(expected), boundaries
    for boundary, (first, last) in zip(boundaries, expected, strict=True):
        assert first <= boundary.index <= last


@pytest.mark.parametrize("name", ONE_SCENE)
def test_one_scene_has_no_boundary(name: str) -> None:
    assert found(ONE_SCENE[name]) == []


def test_a_picture_that_is_back_soon_was_interrupted_by_a_flash() -> None:
    shot = with_frames(scene(1, 60), 20, scene(2, 4))
    assert found(shot) == []
    assert [b.index for b in found(shot, min_scene_frames=2)] == [20, 24]
    assert [b.index for b in found(with_frames(scene(1, 60), 20, scene(2, 8)))] == [20, 28]


@pytest.mark.parametrize("frames", [8, 12, 20])
@pytest.mark.parametrize("through", [None, BLACK, WHITE])
def test_the_extent_of_a_gradual_change(frames: int, through: tuple[int, int, int] | None) -> None:
    """What is left of both scenes shows hardly anything of the change, and little of them is lost."""
    a, b, hold = scene(1, 60), scene(2, 90), 6
    shot = dissolved(a, b, frames) if through is None else faded(a, b, frames, through, hold)
    (boundary,) = found(shot)
    first, end = (60 - frames, 60) if through is None else (60 - frames, 60 + hold + frames)
    assert boundary.index - boundary.before == pytest.approx(first, abs=2)
    assert boundary.index + boundary.after == pytest.approx(end, abs=2)


SIZES = [(1, 1), (2, 2), (2, 90), (160, 2), (90, 160), (31, 17)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_sizes_and_gray(size: tuple[int, int]) -> None:
    shot = cut(scene(1, 30, size=size, noise=0), scene(4, 30, size=size, noise=0))
    neutral = np.full((1, 1), 128, np.uint8)
    gray = [Look((look.picture[0], neutral, neutral)) for look in looks(shot)]
    for each in (looks(shot), gray):
        detector = CombinedDetector(6)
        boundaries = [b for look in each for b in detector.feed(look)] + detector.flush()
        assert [b.index for b in boundaries] in ([], [30])
        assert boundaries or min(size) <= 2


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_hardly_any_frames(frames: int) -> None:
    assert found(scene(1, 3)[:frames]) == []
    assert found(even(frames)) == []


PIECES = {
    name: looks(shot)
    for name, shot in {
        "pan": drifting(1, 30), "still": scene(2, 20), "shake": scene(3, 30, shake=8), "short": scene(4, 3),
        "black": even(8), "long black": even(130), "white": even(2, WHITE), "dark": scene(5, 20, light=0.1),
        "dissolve": dissolved(drifting(6, 40), drifting(7, 40), 16), "fade": faded(scene(8, 30), scene(9, 30), 8),
        "fade in": dissolved(even(20), scene(10, 30), 12), "fade out": dissolved(scene(11, 30), even(20), 12),
    }.items()
}  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(sorted(PIECES)), max_size=9), st.sampled_from([1, 2, 6, 30, 60]))
def test_boundaries_come_once_in_time_and_apart(names: list[str], min_scene_frames: int) -> None:
    film = [look for name in names for look in PIECES[name]]
    detector, boundaries = CombinedDetector(min_scene_frames), list[Boundary]()
    for index, look in enumerate(film):
        new = detector.feed(look)
        assert all(index - HOLD_FRAMES <= b.index - b.before and b.index + b.after <= index + 1 for b in new)
        boundaries += new
    boundaries += detector.flush()
    assert all(0 < b.index < len(film) and b.before >= 0 and b.after >= 0 for b in boundaries)
    assert all(b.index + b.after <= len(film) and b.index - b.before >= 0 for b in boundaries)
    assert all(after.index - before.index >= min_scene_frames for before, after in pairwise(sorted(boundaries)))
    again = CombinedDetector(min_scene_frames)
    assert [b for look in film for b in again.feed(look)] + again.flush() == boundaries
