"""What closer looks keep: darkest levels in every format, and text from time to time."""

from __future__ import annotations

import av
import numpy as np
import pytest

from benchmarks.picture_footage import captioned, panning
from curation.look import TEXT_EVERY, PictureLooker
from curation.measure import block_means
from curation.planes import Planes, area_picture, planes_of


def planes(picture: np.ndarray, pix_fmt: str = "yuv420p") -> Planes:
    return planes_of(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj444p", "yuv420p10le", "gray"])
def test_darkest_level_of_every_row_and_column(pix_fmt: str) -> None:
    picture = np.full((90, 160, 3), 200, np.uint8)
    picture[20:70, 30:150] = 60
    picture[25, 40] = 0
    look = PictureLooker().feed(planes(picture, pix_fmt), np.zeros((6, 10), np.float32), 0)
    assert (look.row_min.shape, look.column_min.shape) == ((90,), (160,))
    assert np.flatnonzero(look.row_min < 100).tolist() == list(range(20, 70))
    assert np.flatnonzero(look.column_min < 100).tolist() == list(range(30, 150))
    assert look.row_min[25] <= 1
    assert abs(int(look.row_min[0]) - 200) <= 1


def test_text_is_looked_for_from_time_to_time_and_in_new_pictures() -> None:
    looker, kinds = PictureLooker(), []
    still, other = (next(panning(seed)) for seed in (1, 2))
    pictures = [still] * (2 * TEXT_EVERY + 1) + [255 - still, other]
    for picture in pictures:
        each = planes(picture)
        kinds.append(looker.feed(each, block_means(area_picture(each)[0]), 0).text is not None)
    assert kinds[: 2 * TEXT_EVERY + 1] == [i % TEXT_EVERY == 0 for i in range(2 * TEXT_EVERY + 1)]
    assert kinds[2 * TEXT_EVERY + 1]


def test_text_comes_out_as_it_went_in() -> None:
    picture = captioned([next(panning(1))], 1)[0][0]
    look = PictureLooker().feed(planes(picture), np.zeros((23, 40), np.float32), 0)
    assert look.text is not None
    assert look.text.shape == look.text_shape == (68, 120)
    assert look.packed_text is not None
    assert look.packed_text.size == 68 * 120 / 8
    rows = np.flatnonzero(look.text.any(axis=1)) / 68
    assert 0.8 < rows.min() < rows.max() < 0.97
