"""Display sizes and boxes against pictures that are really stretched and turned."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.geometry import Box, Geometry, normal_rotation

SQUARE = Fraction(1)
TURNS = (0, 90, 180, 270)


def painted(geometry: Geometry, box: Box) -> NDArray[np.uint8]:
    """A black coded picture with a white box."""
    picture = np.zeros((geometry.coded_height, geometry.coded_width, 3), np.uint8)
    picture[box.y : box.y + box.height, box.x : box.x + box.width] = 255
    return picture


def white_box(picture: NDArray[np.uint8]) -> Box:
    rows, columns = np.nonzero(picture[..., 0] >= 128)
    left, top = int(columns.min()), int(rows.min())
    return Box(left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top)


@st.composite
def boxed(draw: st.DrawFn, aspects: st.SearchStrategy[Fraction]) -> tuple[Geometry, Box]:
    width, height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = Box(x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    return Geometry(width, height, draw(aspects), draw(st.sampled_from(TURNS))), box


@settings(deadline=None)
@given(boxed(st.just(SQUARE)))
def test_turned_as_numpy_turns(drawn: tuple[Geometry, Box]) -> None:
    geometry, box = drawn
    picture = painted(geometry, box)
    turned = np.rot90(picture, geometry.rotation // 90)  # counter-clockwise, as VideoFrame.rotation
    assert (geometry.height, geometry.width) == turned.shape[:2]
    assert np.array_equal(geometry.upright(picture), turned)
    assert geometry.display_box(box) == white_box(turned)


@settings(deadline=None)
@given(boxed(st.fractions(Fraction(1, 3), 3, max_denominator=40)))
def test_stretched_boxes_lie_where_the_stretched_picture_is_white(drawn: tuple[Geometry, Box]) -> None:
    geometry, box = drawn
    upright, display = geometry.upright(painted(geometry, box)), geometry.display_box(box)
    assert upright.shape[:2] == (geometry.height, geometry.width)
    assert min(display.x, display.y) >= 0
    assert min(display.width, display.height) >= 1
    assert display.x + display.width <= geometry.width
    assert display.y + display.height <= geometry.height
    if (upright >= 128).any():  # a box narrower than a display pixel may vanish
        seen = white_box(upright)
        assert abs(display.x - seen.x) <= 1
        assert abs(display.y - seen.y) <= 1
        assert abs(display.width - seen.width) <= 2
        assert abs(display.height - seen.height) <= 2


@pytest.mark.parametrize(
    ("coded", "aspect", "rotation", "display"),
    [
        ((1920, 1080), SQUARE, 0, (1920, 1080)),
        ((1920, 1080), SQUARE, 270, (1080, 1920)),  # a phone, held upright
        ((1440, 1080), Fraction(4, 3), 0, (1920, 1080)),  # HDV
        ((720, 480), Fraction(10, 11), 0, (655, 480)),  # DV
        ((720, 576), Fraction(64, 45), 90, (576, 1024)),
        ((800, 332), Fraction(399, 400), 180, (798, 332)),
        ((1, 1), Fraction(1, 8), 90, (1, 1)),
    ],
)
def test_display_size(coded: tuple[int, int], aspect: Fraction, rotation: int, display: tuple[int, int]) -> None:
    geometry = Geometry(*coded, aspect, rotation)
    assert (geometry.width, geometry.height) == display
    assert geometry.display_box(Box(0, 0, *coded)) == Box(0, 0, *display)


def test_smaller_pictures_keep_their_scale() -> None:
    geometry = Geometry(1440, 1080, Fraction(4, 3), 90)
    assert geometry.upright(np.zeros((135, 180, 3), np.uint8)).shape == (240, 135, 3)


@pytest.mark.parametrize(
    ("degrees", "rotation"),
    [(0, 0), (90, 90), (-90, 270), (270, 270), (180, 180), (-180, 180), (89, 90), (-91, 270), (359, 0), (-2, 0)],
)
def test_normal_rotation(degrees: float, rotation: int) -> None:
    assert normal_rotation(degrees) == rotation
