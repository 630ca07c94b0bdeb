"""When two fingerprints show the same: copies of eight kinds do, other takes and other shots do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.duplicate_footage import ALTERATIONS, Copy, altered, copy_fingerprint, other_take, whole
from curation.fingerprint import Fingerprint
from curation.overlap import Overlap, is_near_duplicate, overlap_of
from tests.looking_alike import fingerprint_of_shot, shot


def same(first: Fingerprint, other: Fingerprint) -> bool:
    found = overlap_of(first, other)
    return found is not None and is_near_duplicate(found, min(first.duration_s, other.duration_s))


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_a_copy_is_known_whatever_was_done_to_it(kind: str) -> None:
    for seed in (1, 2):
        copy = copy_fingerprint(altered(shot(seed), kind, np.random.default_rng(seed)))
        assert same(fingerprint_of_shot(seed), copy)
        assert same(copy, fingerprint_of_shot(seed))


@pytest.mark.parametrize("camera", ["tripod", "handheld", "pan"])
def test_another_take_and_another_shot_are_not(camera: str) -> None:
    rng = np.random.default_rng(3)
    for seed in (4, 5, 6):
        taken = replace(shot(seed, 4.0), camera=camera)
        first = copy_fingerprint(whole(taken))
        assert not same(first, copy_fingerprint(whole(other_take(taken, rng))))
        assert not same(first, fingerprint_of_shot(seed + 50, 4.0))


def test_the_hard_case_is_hard_the_takes_look_alike_and_only_their_change_tells() -> None:
    taken = replace(shot(30, 4.0), camera="tripod", count=1)
    first, other = (copy_fingerprint(whole(t)) for t in (taken, replace(taken, subjects=990)))
    found = overlap_of(first, other)
    assert found is not None
    assert found.looks > 0.8
    assert found.is_moving
    assert found.change < 0.5


@pytest.mark.parametrize(("begin_s", "end_s"), [(0.0, 3.3), (1.3, 5.0), (2.05, 5.6)])
def test_the_offset_and_the_length_in_common_are_found(begin_s: float, end_s: float) -> None:
    taken = shot(8, 6.0)
    found = overlap_of(copy_fingerprint(whole(taken)), copy_fingerprint(Copy(taken, begin_s, end_s)))
    assert found is not None
    assert found.offset_s == pytest.approx(begin_s, abs=0.15)
    assert found.overlap_s == pytest.approx(end_s - begin_s, abs=0.3)


def test_a_film_run_at_25_instead_of_24_is_aligned_to_its_end() -> None:
    taken = replace(shot(9, 20.0), camera="tripod", speed=3.0)
    copy = copy_fingerprint(Copy(taken, 0.0, 20.0, rate_fps=25.0, speed=25 / 24))
    found = overlap_of(copy_fingerprint(whole(taken)), copy)
    assert found is not None
    assert found.rate == pytest.approx(24 / 25)
    assert found.overlap_s > 19


ROWS = [
    # looks, change, is_moving, overlap_s, shorter_s, answer
    (0.99, 0.95, True, 3.0, 4.0, True),
    (0.99, 0.95, True, 1.5, 4.0, False),  # less than half of the shorter
    (0.99, 0.95, True, 0.5, 0.5, True),  # nearly all of a very short one
    (0.99, 0.40, True, 4.0, 4.0, False),  # another take
    (0.72, 0.95, True, 4.0, 4.0, True),  # under a logo
    (0.72, 0.90, True, 4.0, 4.0, False),
    (0.50, 0.99, True, 4.0, 4.0, False),  # another picture
    (0.99, 0.00, False, 4.0, 4.0, True),  # a still picture
    (0.99, 0.00, False, 2.5, 4.0, False),  # a still part of it
    (0.95, 0.00, False, 4.0, 4.0, False),  # another still picture
]


@pytest.mark.parametrize(("looks", "change", "is_moving", "overlap_s", "shorter_s", "answer"), ROWS)
def test_the_decision(
    looks: float, change: float, is_moving: bool, overlap_s: float, shorter_s: float, answer: bool
) -> None:
    assert is_near_duplicate(Overlap(looks, change, is_moving, overlap_s, 0.0), shorter_s) is answer


def test_odd_fingerprints_raise_nothing() -> None:
    rng = np.random.default_rng(10)
    black = Fingerprint((np.zeros((20, 64), np.int8),))
    garbage = [Fingerprint((rng.integers(-127, 128, (n, 64)).astype(np.int8),)) for n in (1, 2, 3, 40)]
    for first in (black, *garbage):
        for other in (black, *garbage, fingerprint_of_shot(11)):
            if first is not other:
                assert not same(first, other)
    assert overlap_of(black, black) is None
    assert same(garbage[-1], garbage[-1])
