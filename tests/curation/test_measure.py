"""What is measured of frames, on painted pictures with known truth and no codec in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import cos, gcd, sin

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.decode import DecodedFrame
from curation.film import SceneSpec, scene_painter
from curation.measure import HELD_FRAMES, MIN_FLOW_SIDE, FrameMeasure, Measurer, Sample, block_means

RGB = NDArray[np.uint8]
MS = Fraction(1, 1000)


def measured(
    pictures: Iterable[RGB], pts: Sequence[int], pix_fmt: str = "yuv420p", time_base: Fraction = MS
) -> tuple[list[FrameMeasure], list[Sample]]:
    measurer, frames, samples = Measurer(time_base), [], []
    for picture, each_pts in zip(pictures, pts, strict=False):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pix_fmt)
        measure, small, sample = measurer.feed(DecodedFrame(frame, each_pts, 0, False, False, None))
        assert [plane.ndim for plane in small] == [2, 2, 2]
        frames.append(measure)
        samples.append(sample)
    samples.append(measurer.flush())
    return frames, [sample for sample in samples if sample is not None]


def panned(seed: int, width: int, height: int, move_px: float) -> list[RGB]:
    """Two pictures, the second moved by so many pixels in a direction that the seed chooses."""
    x, y = move_px * cos(seed), move_px * sin(seed)
    paint = scene_painter(SceneSpec(seed, 2, pan_x_px_per_s=x, pan_y_px_per_s=y), width, height)
    return [paint(3.0), paint(4.0)]


@pytest.mark.parametrize(
    ("width", "height"), [(320, 180), (640, 360), (180, 320), (426, 240)], ids=lambda side: str(side)
)
def test_flow_is_right_from_a_600th_to_a_16th_of_the_longer_side(width: int, height: int) -> None:
    longer = max(width, height)
    for share in (1 / 600, 1 / 200, 1 / 100, 1 / 40, 1 / 16):
        lengths = [measured(panned(s, width, height, share * longer), [0, 40])[1][0].flow_px for s in range(5)]
        assert float(np.median(lengths)) == pytest.approx(share * longer, rel=0.1), share


def test_faster_motion_reads_low_and_none_reads_nothing() -> None:
    lengths = [measured(panned(s, 320, 180, 320 / 4), [0, 40])[1][0].flow_px for s in range(5)]
    assert max(lengths) < 0.6 * 320 / 4
    still = scene_painter(SceneSpec(1, 2), 320, 180)
    assert measured([still(0.0), still(1.0)], [0, 40])[1][0].flow_px == 0


def test_flow_takes_as_long_as_to_the_next_frame() -> None:
    _, samples = measured(panned(1, 320, 180, 10), [7, 110])
    assert [(s.index, s.pts, s.flow_ticks) for s in samples] == [(0, 7, 103)]


@pytest.mark.parametrize("held", [1, 2, 3])
@pytest.mark.parametrize("rate", [12, 24, 25, 30, 60])
def test_drawings_held_for_some_frames_move_at_their_mean_speed(rate: int, held: int) -> None:
    """As in animation "on twos": between two samples of a fixed distance all motion could be missed, or met twice."""
    paint = scene_painter(SceneSpec(3, 2, pan_x_px_per_s=60), 320, 180)
    count = 8 * rate
    pts = [i * 1000 // rate for i in range(count)]
    _, samples = measured((paint(i // held * held / rate) for i in range(count)), pts)
    speeds = [s.flow_px / (s.flow_ticks / 1000) for s in samples if s.flow_ticks]
    assert len(speeds) >= 10
    assert float(np.mean(speeds)) == pytest.approx(60, rel=0.25)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=200))
def test_samples_are_half_a_second_apart_and_never_in_step_with_held_drawings(steps: list[int]) -> None:
    pts = np.concatenate([[0], np.cumsum(steps)]).tolist()
    black = np.zeros((4, 4, 3), np.uint8)
    _, samples = measured([black] * len(pts), pts)
    assert samples[0].index == 0
    assert [pts[s.index] for s in samples] == [s.pts for s in samples]
    for before, after in pairwise(samples):
        assert after.pts - before.pts >= 500
        assert gcd(after.index - before.index, HELD_FRAMES) == 1
        assert pts[max(before.index + 1, after.index - 4)] - before.pts < 500 or after.index - before.index <= 5


def test_the_last_frame_may_be_a_sample_without_flow() -> None:
    frames, samples = measured(panned(2, 64, 48, 5) * 2, [0, 500, 600, 1200])
    assert len(frames) == 4
    assert [(s.index, s.flow_ticks) for s in samples] == [(0, 500), (1, 100)]
    _, alone = measured(panned(2, 64, 48, 5)[:1], [0])
    assert [(s.index, s.flow_px, s.flow_ticks) for s in alone] == [(0, 0.0, 0)]


def blurred(picture: RGB, sigma: float) -> RGB:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8) if sigma else picture


def test_sharpness_falls_under_blur() -> None:
    for seed in range(3):
        picture = scene_painter(SceneSpec(seed, 1), 320, 180)(0.0)
        values = [measured([blurred(picture, s)], [0])[1][0].sharpness for s in (0, 0.7, 1.5, 3, 8)]
        assert values == sorted(values, reverse=True)
        assert values[0] > 10 * values[-1]


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuv422p", "yuv420p10le", "yuv444p12le", "yuv420p16le", "rgb24"])
def test_sharpness_and_levels_compare_across_ranges_and_depths(pix_fmt: str) -> None:
    picture = scene_painter(SceneSpec(4, 1), 640, 360)(0.0)
    (frame,), (sample,) = measured([picture], [0])
    (other_frame,), (other,) = measured([picture], [0], pix_fmt)
    assert other.sharpness == pytest.approx(sample.sharpness, rel=0.05)
    assert other_frame.luma_mean == pytest.approx(frame.luma_mean, abs=1)
    assert other_frame.luma_spread == pytest.approx(frame.luma_spread, rel=0.02)
    assert np.abs(other.blocks - sample.blocks).max() <= 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj444p", "yuv420p10le", "gray"])
def test_mean_and_spread_are_the_pictures_own(pix_fmt: str) -> None:
    ramp = np.tile(np.linspace(30, 220, 640).astype(np.uint8)[None, :, None], (360, 1, 3))
    (frame,), _ = measured([ramp], [0], pix_fmt)
    assert frame.luma_mean == pytest.approx(float(ramp.mean()), abs=1.2)
    assert frame.luma_spread == pytest.approx(float(ramp.std()), rel=0.02)


def test_brightest_level_of_every_row_and_column() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[20:70, 30:150] = 60
    picture[25, 40] = 255
    _, (sample,) = measured([picture], [0], "yuvj444p")
    assert [sorted(set(levels.tolist())) for levels in (sample.row_max, sample.column_max)] == [[0, 60, 255]] * 2
    assert (sample.row_max.shape, sample.column_max.shape) == ((90,), (160,))
    assert np.flatnonzero(sample.row_max).tolist() == list(range(20, 70))
    assert np.flatnonzero(sample.column_max).tolist() == list(range(30, 150))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (15, 400), (400, 15), (16, 16), (17, 33), (5000, 8)])
def test_pictures_too_small_for_flow_have_none(size: tuple[int, int]) -> None:
    width, height = size
    pictures = [np.full((height, width, 3), level, np.uint8) for level in (10, 200)]
    _, (sample,) = measured(pictures, [0, 40])
    scale = min(1.0, 160 / max(size))
    assert (sample.flow_ticks == 40) == (round(min(size) * scale) >= MIN_FLOW_SIDE)


def test_blocks_average_noise_away_and_show_a_small_object() -> None:
    rng = np.random.default_rng(0)
    still = scene_painter(SceneSpec(5, 1), 320, 180)(0.0)[..., 0]
    noisy = [(still + rng.normal(0, 6, still.shape)).clip(0, 255).astype(np.uint8) for _ in range(2)]
    first, second = (block_means(luma) for luma in noisy)
    assert first.shape == (12, 20)
    assert np.abs(first - second).max() < 2
    with_object = still.copy()
    with_object[80:94, 100:114] = np.where(still[80:94, 100:114] > 128, 60, 190)
    assert np.abs(block_means(with_object) - block_means(still)).max() > 10
