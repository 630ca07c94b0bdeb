"""Exact rates from times as containers round them, with numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, cycle, islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curation.rate import COMMON_RATES, RateMeter

MS, QUICKTIME, MPEG = Fraction(1, 1000), Fraction(1, 600), Fraction(1, 90_000)
NTSC, NTSC_FILM = Fraction(30_000, 1001), Fraction(24_000, 1001)


def meter(pts: Sequence[int], time_base: Fraction, declared: Sequence[Fraction | None] = ()) -> RateMeter:
    rate = RateMeter(time_base, declared)
    for each in pts:
        rate.feed(each)
    return rate


def rounded(rate: Fraction, time_base: Fraction, count: int, start_s: Fraction = Fraction(0)) -> list[int]:
    return [int((start_s + i / rate) / time_base + Fraction(1, 2)) for i in range(count)]


def without(pts: list[int], *dropped: int) -> list[int]:
    return [p for i, p in enumerate(pts) if i not in dropped]


@pytest.mark.parametrize(
    ("pts", "time_base", "declared", "exact"),
    [
        ([i * 1001 for i in range(90)], Fraction(1, 30_000), [NTSC], NTSC),
        ([i * 1001 for i in range(90)], Fraction(1, 30_000), [], NTSC),
        ([5 + i * 3003 for i in range(90)], MPEG, [Fraction(30)], NTSC),  # the container claims the wrong one
        (rounded(NTSC, MS, 90), MS, [], NTSC),
        (rounded(NTSC_FILM, MS, 90), MS, [Fraction(24)], NTSC_FILM),
        (rounded(NTSC, MS, 9), MS, [Fraction(2997, 100)], NTSC),  # too short to tell it from 30
        (rounded(NTSC, MS, 9), MS, [Fraction(37_200, 1241)], NTSC),  # an average over a rounded duration
        (rounded(NTSC, MS, 9), MS, [], NTSC),  # the nearest to the average
        (rounded(Fraction(30), MS, 9), MS, [Fraction(2997, 100)], NTSC),  # fits as well, and is claimed
        (rounded(Fraction(60_000, 1001), MS, 300), MS, [], Fraction(60_000, 1001)),
        (rounded(Fraction(24), MS, 1000), MS, [Fraction(1000)], Fraction(24)),
        (rounded(NTSC, QUICKTIME, 62), QUICKTIME, [NTSC, NTSC, Fraction(37_200, 1241)], NTSC),
        (rounded(Fraction(60), QUICKTIME, 62), QUICKTIME, [], Fraction(60)),
        ([0, 2, 4, 6, 8], Fraction(1, 25), [], Fraction(25, 2)),
        ([0, 1, 2, 3], Fraction(1, 7), [None, Fraction(0), Fraction(7)], Fraction(7)),  # uncommon, but declared
        (range(99), Fraction(1, 7), [], None),
        ([0, 1], Fraction(1, 24), [], Fraction(24)),
        ([0, 5, 8], QUICKTIME, [Fraction(240_000, 1001)], Fraction(144)),  # or the second of four at 240: no telling
        ([0], Fraction(1, 24), [Fraction(24)], None),
        ([], Fraction(1, 24), [Fraction(24)], None),
        (without(rounded(Fraction(25), MS, 90), 40), MS, [Fraction(25)], None),
        (without(list(range(90)), 40), Fraction(1, 25), [Fraction(25)], None),  # one tick a frame, one frame missing
        (without(list(range(90)), 1), Fraction(1, 25), [Fraction(25)], None),
        (without(list(range(90)), 88), Fraction(1, 25), [Fraction(25)], None),
        (list(islice(accumulate(cycle((33, 34, 33, 50, 67, 17, 100))), 60)), MS, [NTSC], None),
        ([0, 20, 40, 61, 80, 100, 120, 142], QUICKTIME, [NTSC, Fraction(30)], None),
    ],
)
def test_exact_rate(
    pts: Sequence[int], time_base: Fraction, declared: list[Fraction | None], exact: Fraction | None
) -> None:
    assert meter(pts, time_base, declared).exact == exact


RATES = st.sampled_from(COMMON_RATES)
TIME_BASES = st.sampled_from([MS, QUICKTIME, MPEG, Fraction(1, 15_360), Fraction(1, 1_000_000_000)])


@settings(deadline=None)
@given(RATES, TIME_BASES, st.integers(2, 400), st.fractions(0, 10_000))
def test_a_rounded_rate_is_always_found(rate: Fraction, time_base: Fraction, count: int, start_s: Fraction) -> None:
    assume(1 / rate > 2 * time_base)
    pts = rounded(rate, time_base, count, start_s)
    assert meter(pts, time_base, [rate]).exact == rate
    found = meter(pts, time_base).exact
    assert found is not None
    assert abs(found / rate - 1) * count / rate <= 2 * time_base  # what fits as well differs by less than the rounding


@settings(deadline=None)
@given(RATES, TIME_BASES, st.integers(3, 400), st.data())
def test_a_dropped_frame_makes_the_rate_vary(
    rate: Fraction, time_base: Fraction, count: int, data: st.DataObject
) -> None:
    assume(1 / rate > 2 * time_base)
    pts = without(rounded(rate, time_base, count), data.draw(st.integers(1, count - 2)))
    fits = meter(pts, time_base, [rate]).exact
    # A slower rate may fit as well: always two frames alone, and more where a frame is so short in ticks that its
    # absence is lost in the rounding. A time is within half a tick of the true one and a rate within one of the times,
    # so that u ticks a frame fit the lack of frame d among t ticks a frame only if
    # (t - 1.5) / d < u - t < 1.5 / (d - 1).
    is_lost_in_rounding = 1 / (rate * time_base) < Fraction(9, 2)
    assert fits is None or (fits < rate and (len(pts) == 2 or is_lost_in_rounding))


@pytest.mark.parametrize(
    ("pts", "average_fps"),
    [([0], None), ([], None), ([0, 40], 25.0), ([7, 47, 127], 2 / 0.12), ([0, 10**9], 1e-6)],
)
def test_average(pts: list[int], average_fps: float | None) -> None:
    assert meter(pts, MS).average_fps == pytest.approx(average_fps)
