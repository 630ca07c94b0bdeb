"""Bits spent, block edges and combs: on painted planes, and on encoded footage."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from numpy.typing import NDArray

from benchmarks.score_case import ScoreCase
from benchmarks.scores_time import ENCODINGS, FRAMES, blocks, combs
from benchmarks.time_footage import HEIGHT, WIDTH, at_ticks, measured_file, moving, woven
from curation.artefacts import BlockingMeter, blocking, comb_look, is_combed
from curation.coding import CODING_SCORES
from curation.film import Encoding, encode_film
from curation.geometry import Geometry
from curation.measure import FrameMeasure
from curation.measured import Measured, ScoreValue
from curation.planes import Planes, planes_of

U8 = NDArray[np.uint8]


def score(column: str, clip: Measured) -> ScoreValue:
    return next(score.of(clip) for score in CODING_SCORES if score.column == column)


def planes(luma: NDArray, bits: int = 8) -> Planes:
    neutral = np.full((1, 1), 1 << (bits - 1), luma.dtype)
    return Planes(luma, neutral, neutral, bits, 0, 0, True)


def blocky(levels: float, size: tuple[int, int] = (96, 160), seed: int = 0) -> U8:
    """A soft ramp with noise of half a level, each block of 8 by 8 off by up to so many levels."""
    rng = np.random.default_rng(seed)
    height, width = size
    offsets = rng.uniform(-levels, levels, (-(-height // 8), -(-width // 8))).repeat(8, 0).repeat(8, 1)[:height, :width]
    return np.rint(np.linspace(60, 180, width) + offsets + rng.normal(0, 0.5, size)).clip(0, 255).astype(np.uint8)


def blockiness(luma: NDArray, bits: int = 8) -> float:
    look = blocking(planes(luma, bits))
    assert look is not None
    frames = [FrameMeasure(0, 40, True, False, 100.0, 20.0, None, None, look)]
    value = score("blockiness", Measured(frames, (), 1, Fraction(1, 1000), Geometry(160, 96, Fraction(1), 0)))
    assert isinstance(value, float)
    return value


def test_blockiness_grows_with_the_blocks() -> None:
    values = [blockiness(blocky(levels)) for levels in (0, 1, 2, 4, 8)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(1, abs=0.1)
    assert values[1] > 1.1
    assert values[-1] > 3
    ten_bits = blocky(4).astype(np.uint16) * 4
    assert blockiness(ten_bits, bits=10) == pytest.approx(blockiness(blocky(4)), rel=0.01)


@pytest.mark.parametrize(
    "luma",
    [
        np.full((90, 160), 100, np.uint8),
        np.random.default_rng(0).integers(0, 255, (90, 160), np.uint8),
        np.tile(np.arange(160, dtype=np.uint8), (90, 1)),
        np.tile((np.arange(160) // 8 % 2 * 255).astype(np.uint8), (90, 1)),
        np.tile((np.arange(163) // 7 % 2 * 20).astype(np.uint8), (90, 1)),
        np.roll(blocky(0), 3, axis=1),
    ],
    ids=["plain", "noise", "ramp", "stripes 8 wide of black and white", "stripes 7 wide", "soft"],
)
def test_what_is_no_blocking(luma: U8) -> None:
    assert blockiness(luma) < 1.15


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 15), (400, 8), (7, 16), (3000, 17), (1, 5000)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    luma = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    assert (blocking(planes(luma)) is None) == (size[1] < 16)
    look = comb_look(planes(luma))
    assert look is None or is_combed(look, planes(luma)) is False
    assert look is None or is_combed(look, planes(luma[:1])) is False


def test_blocking_is_looked_for_twice_a_second_and_not_in_b_pictures() -> None:
    meter, looked = BlockingMeter(Fraction(1, 100)), []
    picture = av.VideoFrame(160, 96, "gray")
    for index in range(100):
        picture.pict_type = PictureType.P if index % 4 == 3 else PictureType.B
        if meter.feed(picture, planes(blocky(0)), 4 * index) is not None:
            looked.append(index)
    assert looked[0] == 3
    assert all(index % 4 == 3 for index in looked)
    assert {after - before for before, after in pairwise(looked)} <= {13, 16, 12}


def fields(seed: int, index: int, *, px_per_s: float = 120.0) -> tuple[Planes, Planes]:
    """Two interlaced frames, one after the other."""
    film = moving(seed, px_per_s)
    early, late = (woven(film(i), film(i + 0.5)) for i in (index, index + 1))
    return luma_of(early), luma_of(late)


def luma_of(picture: U8) -> Planes:
    return planes_of(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="gray"))


@pytest.mark.parametrize("seed", range(4))
def test_combs(seed: int) -> None:
    first, second = fields(seed, 5)
    look = comb_look(first)
    assert look is not None
    assert is_combed(look, second)
    assert not is_combed(look, first)  # it stands still


def test_no_combs_in_noise_and_moving_lines() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (2, HEIGHT, WIDTH), np.uint8)
    lines = np.zeros((HEIGHT + 8, WIDTH + 8), np.uint8)
    lines[::2] = np.linspace(60, 250, WIDTH + 8)
    pairs = [(noise[0], noise[1]), (noise[0], np.roll(noise[0], 3, axis=1))]
    pairs += [
        (lines[:-8, :-8], lines[dy : HEIGHT + dy, dx : WIDTH + dx]) for dy, dx in ((0, 3), (1, 0), (2, 5), (3, 1))
    ]
    for before, after in pairs:
        look = comb_look(planes(np.ascontiguousarray(before)))
        assert look is not None
        assert not is_combed(look, planes(np.ascontiguousarray(after)))


def test_bits_are_those_of_the_clips_packets(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode_film(path, at_ticks(moving(2), FRAMES, float), Encoding(b_frames=2, audio_codec="aac"))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        sizes = {packet.pts: packet.size for packet in packets}
    clip = measured_file(path)
    assert score("bits_per_px", clip) == pytest.approx(8 * sum(sizes.values()) / (FRAMES * WIDTH * HEIGHT))
    part = Measured(clip.frames[20:40], (), 40, clip.time_base, clip.geometry)
    some = sum(sizes[frame.pts] for frame in part.frames)
    assert score("bits_per_px", part) == pytest.approx(8 * some / (20 * WIDTH * HEIGHT))


def test_bits_of_frames_without_packets_are_not_guessed() -> None:
    def clip(known: int) -> Measured:
        frame = FrameMeasure(0, 40, False, False, 100.0, 20.0)
        frames = [replace(frame, pts=i, packet_bytes=100 if i < known else None) for i in range(10)]
        return Measured(frames, (), 10, Fraction(1, 25), Geometry(10, 10, Fraction(1), 0))

    assert score("bits_per_px", clip(10)) == 8.0
    assert score("bits_per_px", clip(5)) == 8.0
    assert score("bits_per_px", clip(4)) is None


def test_clips_without_looks_have_no_such_score() -> None:
    frames = [FrameMeasure(0, 40, True, False, 100.0, 20.0)]
    clip = Measured(frames, (), 1, Fraction(1, 25), Geometry(2, 2, Fraction(1), 0))
    assert [score.of(clip) for score in CODING_SCORES] == [None, None, None]


def encoded_cases() -> list[ScoreCase]:
    return [*blocks(5), *combs(5, ENCODINGS["x264"]), *combs(6, ENCODINGS["vp9"])]


@pytest.mark.parametrize("case", encoded_cases(), ids=lambda case: f"{case.score}: {case.name}")
def test_encoded_footage(case: ScoreCase) -> None:
    value = case.value()
    assert case.is_right(value), value
