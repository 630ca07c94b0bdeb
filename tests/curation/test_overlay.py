"""Text, logos and captions over procedural footage, and what looks like them but is none."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.picture_footage import captioned, encoded, logoed, measured, panning, textures
from benchmarks.scores_picture import overlay_cases
from curation.film_titles import Title, titled
from curation.overlay import caption_band_share, overlay_share, text_share
from curation.text import TEXT_SIDE, text_cells


@pytest.mark.parametrize("seed", [1])
def test_procedural_cases(seed: int) -> None:
    cases = [case for picture_case in overlay_cases(seed) for case in picture_case.score_cases()]
    assert len(cases) >= 25
    for case in cases:
        value = case.value()
        assert case.is_right(value), (case.score, case.name, value)


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return [next(panning(seed, 960, 540)) for seed in range(6)]


def gray(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = cv2.resize(picture, (TEXT_SIDE, TEXT_SIDE * 9 // 16), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


@pytest.mark.parametrize("cap_share", [0.045, 0.08, 0.11])
@pytest.mark.parametrize("ink", [(255, 255, 255), (0, 0, 0), (250, 220, 40)])
def test_letters_of_all_sizes_and_inks(
    cap_share: float, ink: tuple[int, int, int], pictures: list[NDArray[np.uint8]]
) -> None:
    """All but one of six: a yellow sky leaves yellow letters too little contrast."""
    found, spread = [], []
    for seed in range(6):
        drawn, covered = titled(pictures[seed], Title("Over the hills", (0.5, 0.6), cap_share, ink, 1, seed % 4))
        cells = cv2.resize(text_cells(gray(drawn)), covered.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        found.append((cells & covered).sum() / covered.sum() > 0.3)
        near = cv2.dilate(covered.astype(np.uint8), np.ones((49, 49), np.uint8)) > 0
        spread.append((cells & ~near).mean())
        assert not text_cells(gray(pictures[seed])).any()
    assert sum(found) >= 5
    assert max(spread) < 0.02


def test_textures_are_no_text() -> None:
    shares = [float(text_cells(gray(picture)).mean()) for seed in range(4) for picture in textures(seed)]
    assert len(shares) == 28
    assert np.mean(shares) < 0.01


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (7, 7), (13, 14), (15, 29), (481, 31)])
def test_text_cells_cover_pictures_of_any_size(size: tuple[int, int]) -> None:
    width, height = size
    luma = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    assert text_cells(luma).shape == (-(-height // 4), -(-width // 4))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_text_is_read_as_a_viewer_sees_it(rotation: int) -> None:
    pictures, share = captioned(panning(2), 2)
    clip = encoded(pictures, 2_000_000, rotation)
    assert clip.geometry.rotation == rotation
    assert text_share(clip) == pytest.approx(share, rel=0.8)
    assert caption_band_share(clip) == pytest.approx(0.12, abs=0.04)


def test_captions_above() -> None:
    pictures, _ = captioned(panning(3), 3, middle=0.08)
    assert caption_band_share(measured(pictures)) == pytest.approx(0.1, abs=0.03)


def test_credits_all_over_are_no_band() -> None:
    pictures = list(panning(1))
    for row in range(8):
        pictures = captioned(pictures, row, middle=0.1 + 0.115 * row)[0]
    clip = measured(pictures)
    assert (text_share(clip) or 0) > 0.1
    assert caption_band_share(clip) == 0


@pytest.mark.parametrize("count", [1, 4])
def test_too_few_samples_tell_no_overlay(count: int) -> None:
    pictures, _ = logoed(panning(1), 1)
    assert overlay_share(measured(pictures[:count])) is None
    assert overlay_share(measured(pictures)) is not None


def test_nothing_is_said_where_nothing_was_looked_at() -> None:
    clip = measured(panning(1))
    blind = replace(clip, samples=[replace(s, look=None, picture=None) for s in clip.samples])
    assert (text_share(blind), overlay_share(blind), caption_band_share(blind)) == (None, None, None)
