"""Colours of painted pictures with known truth, and the names of colours."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.picture_footage import measured, panning
from benchmarks.scores_picture import color_cases
from curation.colors import NAMED, color_name, colorfulness, dominant_colors, saturation_share, share_by_name
from curation.film_titles import bordered
from curation.measured import Measured
from curation.scores import scores_of

COLUMNS = ("contrast_levels", "saturation_share", "colorfulness", "dominant_colors")


def flat(*colors: tuple[int, int, int], width: int = 320) -> NDArray[np.uint8]:
    """Stripes of equal width, side by side."""
    stripes = [np.full((180, width // len(colors), 3), color, np.uint8) for color in colors]
    return np.hstack(stripes)


def clip_of(picture: NDArray[np.uint8], pix_fmt: str = "yuv420p") -> Measured:
    return measured([picture] * 3, pix_fmt)


@pytest.mark.parametrize("seed", range(4))
def test_procedural_cases(seed: int) -> None:
    cases = [case for picture_case in color_cases(seed) for case in picture_case.score_cases()]
    assert len(cases) >= 9
    for case in cases:
        value = case.value()
        assert case.is_right(value), (case.score, case.name, value)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((120, 122, 119), "gray"),
        ((230, 10, 20), "red"),
        ((250, 140, 10), "orange"),
        ((250, 230, 40), "yellow"),
        ((30, 120, 40), "green"),
        ((20, 190, 200), "cyan"),
        ((30, 60, 190), "blue"),
        ((110, 30, 150), "purple"),
        ((250, 130, 180), "pink"),
        ((110, 65, 30), "brown"),
        ((18, 18, 22), "black"),
        ((135, 190, 235), "blue"),  # a clear sky
        ((60, 90, 40), "green"),  # leaves in the shade
    ],
)
def test_names_of_colors(rgb: tuple[int, int, int], name: str) -> None:
    assert color_name(np.array(rgb[::-1], np.uint8)) == name


def test_shares_of_names_add_up() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3)).astype(np.uint8)
    shares = share_by_name(pixels)
    assert set(shares) == set(NAMED)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0  # every name is that of some colour


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj444p", "yuv422p10le", "rgb24"])
def test_scores_compare_across_formats(pix_fmt: str) -> None:
    clip = clip_of(flat((200, 40, 40), (40, 160, 160), (90, 90, 200), (220, 220, 80)), pix_fmt)
    reference = clip_of(flat((200, 40, 40), (40, 160, 160), (90, 90, 200), (220, 220, 80)), "yuv444p")
    assert saturation_share(clip) == pytest.approx(saturation_share(reference), abs=0.02)
    assert colorfulness(clip) == pytest.approx(colorfulness(reference), rel=0.04)
    assert dominant_colors(clip) == dominant_colors(reference)


def test_gray_film_has_no_color() -> None:
    clip = clip_of(flat((30, 30, 30), (128, 128, 128), (230, 230, 230)), "gray")
    assert saturation_share(clip) == pytest.approx(0, abs=1e-6)
    assert colorfulness(clip) == pytest.approx(0, abs=1e-6)
    assert set(dominant_colors(clip) or []) <= {"black", "gray", "white"}


def test_dark_noise_is_hardly_saturated() -> None:
    noise = np.random.default_rng(1).integers(0, 6, (180, 320, 3)).astype(np.uint8)
    noise[60:120, 100:220] = 200
    assert (saturation_share(clip_of(noise)) or 0) < 0.1


def test_borders_do_not_count() -> None:
    def scores(pictures: Iterable[NDArray[np.uint8]]) -> dict[str, object]:
        found = scores_of(measured(pictures))
        return {column: found[column] for column in COLUMNS}

    plain = scores(panning(2, 400, 300))
    for color in ((0, 0, 0), (255, 255, 255)):
        framed = scores(bordered(picture, (0, 0), (120, 120), color) for picture in panning(2, 400, 300))
        assert framed["dominant_colors"] == plain["dominant_colors"]
        for column in COLUMNS[:3]:
            assert framed[column] == pytest.approx(plain[column], rel=0.06), column


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 200), (200, 3)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    clip = clip_of(np.full((size[1], size[0], 3), (200, 30, 30), np.uint8))
    assert dominant_colors(clip) == ["red"]
    assert colorfulness(clip) is not None
    assert scores_of(clip)["contrast_levels"] == 0
