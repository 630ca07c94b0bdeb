"""Borders of painted and of really encoded pictures: found to the pixel, and no picture taken for one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.picture_footage import encoded, measured, panning
from benchmarks.scores_picture import border_cases, under_bars
from curation.borders import borders_of, lit_range
from curation.film_titles import bordered
from curation.geometry import Box, Geometry
from curation.measured import within


@pytest.mark.parametrize("seed", [1])
def test_procedural_cases(seed: int) -> None:
    cases = [case for picture_case in border_cases(seed) for case in picture_case.score_cases()]
    assert len(cases) >= 36
    for case in cases:
        value = case.value()
        assert case.is_right(value), (case.score, case.name, value)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_captions_in_a_bar_whichever_way_the_picture_is_coded(rotation: int) -> None:
    clip = encoded(under_bars(3), 2_000_000, rotation)
    assert clip.geometry.rotation == rotation
    assert (clip.geometry.width, clip.geometry.height) == (640, 360)
    box = clip.active_box
    assert box is not None
    edges = np.array([box.x, box.y, box.x + box.width, box.y + box.height])
    assert np.abs(edges - [0, 46, 640, 314]).max() <= 2
    assert clip.borders is not None
    assert sum(clip.borders.caption_px) == pytest.approx(46, abs=2)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (0, 0, 255), (90, 20, 20)])
def test_a_border_that_is_there_half_of_the_time_is_none(color: tuple[int, int, int]) -> None:
    inner, whole = panning(1, 640, 260), panning(1)
    pictures = [
        bordered(small, (50, 50), (0, 0), color) if i < 4 else large
        for i, (small, large) in enumerate(zip(inner, whole, strict=True))
    ]
    assert measured(pictures).active_box == Box(0, 0, 640, 360)
    assert measured(pictures[:4]).active_box == Box(0, 50, 640, 260)


def test_a_border_that_changes_its_color_is_none() -> None:
    pictures = [
        bordered(picture, (0, 0), (60, 60), (40 + 20 * i, 90, 160)) for i, picture in enumerate(panning(1, 520, 360))
    ]
    assert measured(pictures).active_box == Box(0, 0, 640, 360)
    assert measured(pictures[:1]).active_box == Box(60, 0, 520, 360)


def test_white_ground_of_a_page_is_no_border() -> None:
    picture = np.full((360, 640, 3), 255, np.uint8)
    picture[150:200, 100:260] = (200, 30, 30)
    picture[90:290, 380:500] = (30, 30, 200)
    assert measured([picture] * 4).active_box == Box(0, 0, 640, 360)


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255)])
def test_all_of_one_color(color: tuple[int, int, int]) -> None:
    clip = measured([np.full((90, 160, 3), color, np.uint8)] * 4)
    assert clip.active_box == (None if color == (0, 0, 0) else Box(0, 0, 160, 90))


def test_without_pictures_only_equal_black_bars_are_borders() -> None:
    """Pictures are let go where there are many; the brightest and darkest levels stay."""
    framed = [bordered(picture, (40, 40), (30, 30), (0, 0, 0)) for picture in panning(4, 580, 280)]
    samples = [replace(sample, picture=None) for sample in measured(framed).samples]
    found = borders_of(samples, is_turned=False)
    assert found is not None
    assert (found.box, found.color) == (Box(30, 40, 580, 280), (0, 128, 128))
    one_sided = [bordered(picture, (80, 0), (0, 0), (0, 0, 0)) for picture in panning(4, 640, 280)]
    samples = [replace(sample, picture=None) for sample in measured(one_sided).samples]
    found = borders_of(samples, is_turned=False)
    assert found is not None
    assert found.box == Box(0, 0, 640, 360)
    assert borders_of([], is_turned=False) is None


def test_a_fade_from_black_hides_no_white_border() -> None:
    framed = [bordered(picture, (40, 40), (60, 60), (255, 255, 255)) for picture in panning(4, 520, 280)]
    assert measured([np.zeros_like(framed[0]), *framed]).active_box == Box(60, 40, 520, 280)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (3, 50), (50, 3), (17, 33)])
def test_tiny_pictures(width: int, height: int) -> None:
    rng = np.random.default_rng(width)
    pictures = [rng.integers(0, 256, (height, width, 3)).astype(np.uint8) for _ in range(3)]
    box = measured(pictures).active_box
    assert box is None or (0 < box.width <= width and 0 < box.height <= height)


@pytest.mark.parametrize(
    ("distances", "tolerance", "expected"),
    [
        ([0, 3, 90, 90, 5], 20, (2, 4)),
        ([21, 90, 90, 0], 20, (0, 3)),
        ([20, 20], 20, None),
    ],
)
def test_range_inside_a_colored_border(distances: list[int], tolerance: int, expected: tuple[int, int] | None) -> None:
    assert lit_range(np.array(distances, np.int16), tolerance) == expected


@pytest.mark.parametrize(
    ("box", "shape", "expected"),
    [
        (Box(0, 0, 640, 360), (180, 320), (slice(0, 180), slice(0, 320))),
        (Box(81, 45, 478, 270), (180, 320), (slice(23, 157), slice(41, 279))),  # whole pixels only
        (Box(0, 100, 640, 1), (90, 160), (slice(25, 26), slice(0, 160))),
        (Box(639, 359, 1, 1), (1, 1), (slice(0, 1), slice(0, 1))),
    ],
)
def test_within(box: Box, shape: tuple[int, int], expected: tuple[slice, slice]) -> None:
    plane: NDArray[np.int64] = np.arange(shape[0] * shape[1]).reshape(shape)
    assert np.array_equal(within(plane, box, (640, 360)), plane[expected])


def test_display_box_of_a_border_with_wide_pixels() -> None:
    geometry = Geometry(720, 480, Fraction(8, 9), 90)
    assert geometry.display_box(Box(90, 0, 540, 480)) == Box(0, 80, 480, 480)
