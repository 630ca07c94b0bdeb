"""Colours of small pictures: as the frame's own matrix and range say, and one for each pixel."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from curation.geometry import Box
from curation.reader import upright_rgb
from trainer.reading.pixels import _small_rgb

WHOLE = Box(0, 0, 16, 16)


def frame_of(left: tuple[int, int, int], right: tuple[int, int, int], at: int, pixel_format: str) -> av.VideoFrame:
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[:, :at], picture[:, at:] = left, right
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "rgb24", "gray"])
@pytest.mark.parametrize("levels", [ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
def test_plain_colours_are_those_of_the_whole_frame(pixel_format: str, levels: ColorRange, matrix: Colorspace) -> None:
    frame = frame_of((180, 60, 40), (180, 60, 40), 64, pixel_format)
    frame.color_range, frame.colorspace = levels, matrix
    whole = upright_rgb(frame, width=128, height=128)[64, 64].astype(int)
    small = _small_rgb(frame, 16, 16, WHOLE)[8, 8].astype(int)
    assert np.abs(small - whole).max() <= 3


def test_two_pixels_beside_each_other_do_not_share_their_colour() -> None:
    """An edge between two pixels of the small picture, at an odd place: each side keeps its own."""
    small = _small_rgb(frame_of((200, 30, 30), (30, 30, 200), 56, "yuv420p"), 16, 16, WHOLE)[8].astype(int)
    assert small[6, 0] > 160 > 70 > small[6, 2]
    assert small[7, 2] > 160 > 70 > small[7, 0]
