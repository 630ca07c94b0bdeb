"""Fingerprints: the cosine terms are right, they are the same for the same pictures, garbage is refused."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.fingerprint import (
    STEP_S,
    Fingerprint,
    InvalidFingerprint,
    ThumbSampler,
    content_id,
    cosine_terms,
    fingerprint_of,
    fingerprint_of_thumbs,
    thumb_of,
)
from curation.fingerprint_keys import CHECK_BITS, CONTENT_BAND, KEY_BITS, keys_of
from curation.geometry import Box, Geometry

WHOLE = (0.0, 0.0, 1.0, 1.0)


def noise(seed: int, count: int = 1, side: int = 32) -> NDArray[np.uint8]:
    """Smooth random pictures (count, side, side)."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 6, 6))
    at = np.linspace(0, 5, side)
    rows = np.stack([np.interp(at, np.arange(6), np.eye(6)[i]) for i in range(6)], axis=1)
    return np.rint(rows @ coarse @ rows.T).astype(np.uint8)


@dataclass
class Frame:
    pts: int
    luma_mean: float
    luma_spread: float
    thumb: NDArray[np.uint8] | None


def frames_of(thumbs: NDArray[np.uint8]) -> list[Frame]:
    """A frame an eighth of a second, in ticks of a thousandth."""
    return [Frame(125 * i, float(t.mean()), float(t.std()), t) for i, t in enumerate(thumbs)]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1), (3, 0), (2, 5), (7, 7)])
def test_a_cosine_has_one_term_and_its_size_in_levels(row: int, column: int) -> None:
    at = (np.arange(32) + 0.5) / 32
    picture = 128 + 100 * np.cos(np.pi * row * at)[:, None] * np.cos(np.pi * column * at)[None, :]
    terms = cosine_terms(np.clip(np.rint(picture), 0, 255)[None].astype(np.uint8), WHOLE)[0].reshape(8, 8)
    others = terms.copy()
    others[0, 0] = others[row, column] = 0
    expected = 100 / np.sqrt(2) ** ((row > 0) + (column > 0)) if row or column else 227.5
    assert terms[row, column] == pytest.approx(expected, rel=0.07)
    assert np.abs(others).max() < 1.5


@pytest.mark.parametrize("box", [(0.25, 0.0, 0.75, 1.0), (0.0, 0.125, 1.0, 0.875), (0.1, 0.2, 0.83, 0.9)])
def test_terms_inside_a_box_are_those_of_the_picture_alone(box: tuple[float, float, float, float]) -> None:
    side = 640
    left, top, right, bottom = (round(edge * side) for edge in box)
    picture = noise(1, side=side)[0]
    inside = np.zeros((side, side), np.uint8)
    inside[top:bottom, left:right] = thumb_of_size(picture, right - left, bottom - top)
    alone = cosine_terms(thumb_of(picture)[None], WHOLE)[0]
    bordered = cosine_terms(thumb_of(inside)[None], box)[0]
    assert np.linalg.norm(alone[1:] - bordered[1:]) < 0.12 * np.linalg.norm(alone[1:])


def thumb_of_size(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    rows = np.minimum((np.arange(height) * picture.shape[0]) // height, picture.shape[0] - 1)
    columns = np.minimum((np.arange(width) * picture.shape[1]) // width, picture.shape[1] - 1)
    return picture[np.ix_(rows, columns)]


def test_bytes_come_back_and_levels_are_right_within_their_rounding() -> None:
    thumbs = noise(2, 16)
    fingerprint = fingerprint_of_thumbs(thumbs, np.arange(16) / 8, 2.0, [WHOLE, (0.1, 0.1, 0.9, 0.9)], content=7)
    again = Fingerprint.from_bytes(fingerprint.to_bytes())
    assert (again.steps, len(again.tracks), again.content, again.duration_s) == (16, 2, 7, 2.0)
    exact = np.clip(cosine_terms(thumbs, WHOLE), -127, 127)
    assert np.abs(again.levels(0) - exact).max() < 1.2


GOOD = fingerprint_of_thumbs(noise(3, 4), np.arange(4) / 8, 0.5).to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        GOOD[:-1],
        GOOD + b"\x00",
        b"\x02" + GOOD[1:],
        GOOD[:1] + b"\x09" + GOOD[2:],
        bytes(12),
        b"\xff" * 300,
    ],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidFingerprint):
        Fingerprint.from_bytes(data)


def test_changed_bytes_are_refused_or_read_as_what_they_say() -> None:
    rng = np.random.default_rng(4)
    read = refused = 0
    for _ in range(200):
        changed = bytearray(GOOD)
        for at in rng.integers(0, len(changed), 3):
            changed[at] = rng.integers(256)
        try:
            fingerprint = Fingerprint.from_bytes(bytes(changed))
        except InvalidFingerprint:
            refused += 1
            continue
        read += 1
        assert fingerprint.to_bytes() == bytes(changed)
        assert keys_of(fingerprint).dtype == np.uint64
    assert read > 100
    assert refused > 0


@pytest.mark.parametrize("rate_fps", [8.0, 12.0, 23.976, 25.0, 60.0])
def test_the_sampler_takes_eight_a_second_at_any_rate(rate_fps: float) -> None:
    sampler = ThumbSampler(Fraction(1, 90_000))
    frames = [sampler.feed(round(90_000 * (i / rate_fps)) + 12_345, noise(5)[0]) for i in range(round(4 * rate_fps))]
    taken = [i / rate_fps for i, thumb in enumerate(frames) if thumb is not None]
    assert taken[0] == 0
    assert len(taken) in (31, 32)
    assert all(thumb.shape == (32, 32) for thumb in frames if thumb is not None)


@pytest.mark.parametrize("shape", [(2, 2), (1, 160), (90, 160), (160, 7)])
def test_any_picture_has_a_thumbnail(shape: tuple[int, int]) -> None:
    assert thumb_of(np.full(shape, 77, np.uint8)).tolist() == [[77] * 32] * 32


def test_a_gap_repeats_the_picture_before_it() -> None:
    thumbs = noise(6, 3)
    fingerprint = fingerprint_of_thumbs(thumbs, np.array([0.0, 0.125, 1.0]), 1.25)
    rows = fingerprint.tracks[0]
    assert fingerprint.steps == 10
    assert all((rows[i] == rows[1]).all() for i in range(1, 8))
    assert (rows[8] == rows[9]).all()
    assert (rows[7] != rows[8]).any()


def test_a_turned_source_has_the_fingerprint_of_the_upright_picture() -> None:
    thumbs = noise(7, 8)
    upright = fingerprint_of(frames_of(thumbs), 1000, Fraction(1, 1000), Geometry(64, 36, Fraction(1), 0), None)
    for rotation in (90, 180, 270):
        turned = np.rot90(thumbs, -rotation // 90, axes=(1, 2))
        geometry = Geometry(36, 64, Fraction(1), rotation)
        again = fingerprint_of(frames_of(turned), 1000, Fraction(1, 1000), geometry, None)
        assert upright is not None
        assert again is not None
        assert (again.tracks[0] == upright.tracks[0]).all()


def test_borders_make_a_second_track_and_no_frames_no_fingerprint() -> None:
    geometry, base = Geometry(64, 64, Fraction(1), 0), Fraction(1, 1000)
    thumbs = noise(8, 8)
    bordered = fingerprint_of(frames_of(thumbs), 1000, base, geometry, Box(0, 8, 64, 48))
    assert bordered is not None
    assert len(bordered.tracks) == 2
    whole = fingerprint_of(frames_of(thumbs), 1000, base, geometry, Box(0, 0, 64, 64))
    assert whole is not None
    assert len(whole.tracks) == 1
    assert fingerprint_of([Frame(0, 1.0, 1.0, None)], 10, base, geometry, None) is None


def test_content_is_of_all_frames_and_unknown_where_nothing_changes() -> None:
    frames = frames_of(noise(9, 8))
    other = [*frames[:-1], Frame(0, frames[-1].luma_mean + 1e-9, frames[-1].luma_spread, None)]
    later = [Frame(f.pts + 5000, f.luma_mean, f.luma_spread, f.thumb) for f in frames]
    assert content_id(frames) == content_id(later) != 0
    assert content_id(other) not in (0, content_id(frames))
    assert content_id([frames[0]] * 5) == 0


def test_keys_are_few_the_same_for_the_same_and_none_for_nothing() -> None:
    moving = fingerprint_of_thumbs(noise(10, 33)[np.arange(64) // 2], np.arange(64) / 8, 8.0, content=5)
    keys = keys_of(moving)
    assert (keys == keys_of(Fingerprint.from_bytes(moving.to_bytes()))).all()
    assert 8 < len(keys) < 8 * 8 * 7
    assert (np.diff(keys) > 0).all()
    assert len(np.unique(keys >> 32)) == len(keys)
    assert CONTENT_BAND in keys >> (KEY_BITS + CHECK_BITS)
    flat = fingerprint_of_thumbs(np.full((16, 32, 32), 9, np.uint8), np.arange(16) / 8, 2.0, content=5)
    assert len(keys_of(flat)) == 0


def test_a_part_shares_keys_with_the_whole_wherever_it_was_cut() -> None:
    slow = np.stack([np.roll(noise(11)[0], i // 4, axis=1) for i in range(80)])
    whole = keys_of(fingerprint_of_thumbs(slow, np.arange(80) / 8, 10.0))
    strangers = keys_of(fingerprint_of_thumbs(noise(12, 80), np.arange(80) / 8, 10.0))
    for begin in range(0, 60, 7):
        part = keys_of(fingerprint_of_thumbs(slow[begin : begin + 20], np.arange(20) / 8, 2.5))
        assert len(np.intersect1d(whole >> 32, part >> 32)) >= 3
    assert len(np.intersect1d(whole >> 32, strangers >> 32)) == 0


def test_the_step_divides_a_second() -> None:
    assert (1 / STEP_S).denominator == 1
