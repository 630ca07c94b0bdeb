"""The judge of `benchmarks.learns`: right on drawn clips of the sizes that small models make, silent on the rest."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.attribute_footage import ASKED, Attributes, Framing, all_combinations, combinations_apart, pictures
from benchmarks.judge import Judgement, judge
from benchmarks.learns_figures import interval_of
from benchmarks.tune_footage import BACKGROUNDS

SQUARE = Framing()
NOTHING = Judgement(None, None, None)


def clip(attributes: Attributes, framing: Framing = SQUARE, seed: int = 0, shorter_px: int = 16) -> NDArray[np.uint8]:
    scale = shorter_px / min(framing.width, framing.height)
    size = round(framing.width * scale), round(framing.height * scale)
    frames = pictures(attributes, framing, np.random.default_rng(seed))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(np.uint8)


def told(found: Judgement) -> tuple[str | None, ...]:
    return found.color, found.shape, found.motion


@pytest.mark.parametrize("attribute", ASKED)
def test_every_value_is_told_on_every_ground(attribute: str) -> None:
    usual = Attributes("red", "circle", "left", "gray")
    for number, value in enumerate(ASKED[attribute]):
        for background in BACKGROUNDS:
            attributes = replace(usual, **{attribute: value, "background": background})
            found = judge(clip(attributes, seed=number))
            assert told(found) == attributes.asked, background


@pytest.mark.parametrize(("width", "height"), [(228, 128), (128, 228), (128, 128)])
@pytest.mark.parametrize("shorter_px", [16, 24])
def test_at_any_aspect_and_size(width: int, height: int, shorter_px: int) -> None:
    framing = replace(SQUARE, width=width, height=height)
    for number, combination in enumerate(all_combinations()[::11]):
        color, shape, motion = combination
        attributes = Attributes(color, shape, motion, list(BACKGROUNDS)[number % len(BACKGROUNDS)])
        found = judge(clip(attributes, framing, number, shorter_px))
        assert told(found) == combination


def test_what_is_not_there_is_not_told() -> None:
    random = np.random.default_rng(0)
    plain = np.full((6, 16, 16, 3), (110, 110, 110), np.uint8)
    assert judge(plain) == NOTHING
    assert judge(random.integers(100, 120, plain.shape).astype(np.uint8)) == NOTHING
    for _ in range(20):
        found = judge(random.integers(0, 256, plain.shape).astype(np.uint8))
        assert found.shape is None
        assert found.motion is None


def test_a_thing_that_stands_still_has_a_shape_and_no_motion() -> None:
    moving = clip(Attributes("blue", "cross", "up", "pink"))
    found = judge(np.repeat(moving[3:4], 6, axis=0))
    assert told(found) == ("blue", "cross", None)


def test_a_thing_that_is_seen_in_a_few_frames_only_is_none() -> None:
    moving = clip(Attributes("blue", "cross", "up", "pink"))[:6]
    moving[2:] = np.median(moving.reshape(-1, 3), axis=0).astype(np.uint8)
    assert judge(moving) == NOTHING


def test_played_backwards_it_moves_the_other_way() -> None:
    there = clip(Attributes("white", "bar", "down", "brown"))
    assert judge(there).motion == "down"
    assert judge(there[::-1]).motion == "up"


def test_a_blot_has_no_shape() -> None:
    video = np.full((6, 16, 16, 3), (110, 110, 110), np.uint8)
    for time in range(6):
        video[time, 7:9, 1:15] = (220, 40, 40)  # a line from edge to edge, longer than any bar
        video[time, 2:14, 2 + time] = (220, 40, 40)
    found = judge(video)
    assert found.color == "red"
    assert found.shape is None


def test_what_leaves_the_picture_is_not_whole() -> None:
    whole = clip(Attributes("yellow", "circle", "right", "black"), Framing(edge=0.05), shorter_px=32)
    assert judge(whole).whole == 1
    assert judge(whole[:, :, 12:]).whole < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_held_out_combinations_favour_no_value(seed: int) -> None:
    found = combinations_apart(seed, 0.1)
    assert len(set(found)) == len(found) == len(all_combinations()) // 10
    for place, values in enumerate(ASKED.values()):
        counts = [sum(one[place] == value for one in found) for value in values]
        assert max(counts) - min(counts) <= 1


def test_an_interval_grows_with_what_differs_between_seeds() -> None:
    alike = np.tile(np.arange(100) % 2 == 1, (3, 1))
    apart = np.repeat([[False], [True], [True]], 100, axis=1)
    narrow, wide = interval_of(alike), interval_of(apart)
    assert narrow.mean == 0.5
    assert narrow.holds(0.5)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert interval_of(np.ones((3, 10))).low == 1
