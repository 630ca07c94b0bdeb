"""Packs: every clip once, every bound kept, little padding, shuffled clips stay shuffled."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from math import ceil, inf, nan
from time import monotonic
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from trainer.packing import PackConfig, padding_share, plan_packs, squares_bound

ROWS: list[tuple[list[int], PackConfig, list[tuple[int, ...]]]] = [
    ([], PackConfig(10), []),
    ([10], PackConfig(10), [(0,)]),
    ([1], PackConfig(10), [(0,)]),
    ([4, 6], PackConfig(10), [(1, 0)]),
    ([6, 6, 4, 4], PackConfig(10), [(1, 3), (0, 2)]),
    ([7, 5, 3, 3], PackConfig(10), [(0, 3), (1, 2)]),
    ([9, 8, 2, 1], PackConfig(10), [(0, 3), (1, 2)]),  # each into the fullest that has room
    ([5, 5, 5], PackConfig(10, max_clips=1), [(2,), (1,), (0,)]),
    ([2, 2, 2, 2, 2], PackConfig(10, max_clips=2), [(4, 3), (2, 1), (0,)]),
    ([3, 3, 3], PackConfig(10, max_squares=18), [(2, 1), (0,)]),
    ([3, 3, 1], PackConfig(10, max_squares=17), [(1, 2), (0,)]),
    ([5, 5, 10, 5, 5], PackConfig(10, window_clips=2), [(1, 0), (2,), (3, 4)]),
]


@pytest.mark.parametrize(("lengths", "config", "answer"), ROWS)
def test_packs(lengths: list[int], config: PackConfig, answer: list[tuple[int, ...]]) -> None:
    assert list(plan_packs(lengths, config)) == answer


CONFIGS = st.builds(
    PackConfig,
    st.integers(20, 60),
    st.sampled_from([0, 400, 900]),
    st.integers(0, 4),
    st.integers(1, 20),
    st.sampled_from([0.5, 0.99, 1.0]),
)


@settings(max_examples=400)
@given(st.lists(st.integers(1, 20), max_size=80), CONFIGS)
def test_each_clip_is_in_one_pack_and_each_pack_within_its_bounds(lengths: list[int], config: PackConfig) -> None:
    packs = list(plan_packs(lengths, config))
    assert sorted(chain.from_iterable(packs)) == list(range(len(lengths)))
    for pack in packs:
        assert pack
        assert sum(lengths[n] for n in pack) <= config.budget_tokens
        if config.max_squares:
            assert sum(lengths[n] ** 2 for n in pack) <= config.max_squares
        if config.max_clips:
            assert len(pack) <= config.max_clips
    assert packs == list(plan_packs(tuple(lengths), replace(config)))


@settings(max_examples=400)
@given(st.lists(st.integers(1, 20), max_size=80), CONFIGS)
def test_no_clip_waits_for_more_than_the_next_window(lengths: list[int], config: PackConfig) -> None:
    windows = [[n // config.window_clips for n in pack] for pack in plan_packs(lengths, config)]
    for at, pack in enumerate(windows):
        later = windows[at:]
        assert max(pack) <= min(min(other) for other in later) + 1
    if any(len(set(pack)) > 1 for pack in windows):
        event("a pack of two windows")


@settings(max_examples=200)
@given(st.lists(st.integers(1, 20), max_size=80), CONFIGS)
def test_no_two_packs_of_a_window_could_be_one(lengths: list[int], config: PackConfig) -> None:
    packs = list(plan_packs(lengths, replace(config, window_clips=1000)))
    for at, first in enumerate(packs):
        for other in packs[at + 1 :]:
            both = [lengths[n] for n in (*first, *other)]
            squares, clips = config.max_squares or inf, config.max_clips or inf
            bounds = (sum(both) > config.budget_tokens, sum(n * n for n in both) > squares, len(both) > clips)
            assert any(bounds)


@pytest.mark.parametrize("config", [PackConfig(100), PackConfig(100, max_squares=3600), PackConfig(100, max_clips=1)])
def test_packs_that_never_fill_their_budget_do_not_wait_for_the_end(config: PackConfig) -> None:
    lengths = [60 - n % 2 for n in range(400)]  # two of them never fit
    config = replace(config, window_clips=10)
    packs = plan_packs(lengths, config)
    first = [next(packs) for _ in range(40)]
    assert max(n for pack in first for n in pack) < 70
    assert len([*first, *packs]) == 400


@pytest.mark.parametrize("bounds", [{}, {"max_clips": 1}, {"max_clips": 2}, {"max_squares": 30_000}])
def test_as_many_clips_as_a_window_are_packed_at_once(bounds: dict[str, int]) -> None:
    rng = random.Random(1)
    lengths = [rng.randint(1, 170) for _ in range(20_000)]
    began = monotonic()
    packs = list(plan_packs(lengths, PackConfig(1000, **bounds)))
    assert len(packs) > 1000
    assert monotonic() - began < 20  # under a second; where every pack is looked at for every clip, over a minute


PADDING = [
    # longest clip as a share of the budget, clips, window, most padding
    (0.1, 4000, 8192, 0.005),
    (0.1, 4000, 500, 0.005),
    (0.5, 4000, 8192, 0.005),
    (0.5, 4000, 500, 0.01),
    (1.0, 4000, 8192, 0.05),
]


@pytest.mark.parametrize(("longest", "clips", "window", "most"), PADDING)
def test_little_is_padding_where_there_are_short_clips(longest: float, clips: int, window: int, most: float) -> None:
    rng = random.Random(2)
    lengths = [rng.randint(1, int(longest * 10_000)) for _ in range(clips)]
    packs = list(plan_packs(lengths, PackConfig(10_000, window_clips=window)))
    share = padding_share(packs, lengths, 10_000)
    assert 0 < share < most
    assert len(packs) <= ceil(sum(lengths) / 10_000 / (1 - most))


def test_a_shuffled_list_stays_shuffled() -> None:
    rng = random.Random(3)
    lengths = [rng.randint(1, 1000) for _ in range(3000)]
    packs = list(plan_packs(lengths, PackConfig(4000, window_clips=100)))
    middles = [sum(pack) / len(pack) for pack in packs]
    assert all(abs(middle - len(lengths) * at / len(packs)) < 250 for at, middle in enumerate(middles))


def test_clips_that_do_not_fit_are_named() -> None:
    for lengths, config, message in (
        ([5, 11], PackConfig(10), "clip 1: length=11: must be from 1 to budget_tokens=10"),
        ([5, 0], PackConfig(10), "clip 1: length=0: must be from 1 to budget_tokens=10"),
        ([-1], PackConfig(10), "clip 0: length=-1: must be from 1 to budget_tokens=10"),
        ([5, 5, 6], PackConfig(10, max_squares=35), "clip 2: length=6: its square is above max_squares=35"),
        ([1, 1, 1, 99], PackConfig(10, window_clips=2), "clip 3: length=99: must be from 1 to budget_tokens=10"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            list(plan_packs(lengths, config))


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"budget_tokens": 0}, "budget_tokens=0: must be at least 1"),
    ({"window_clips": 0}, "window_clips=0: must be at least 1"),
    ({"max_squares": -1}, "max_squares=-1: must be at least 0"),
    ({"max_clips": -1}, "max_clips=-1: must be at least 0"),
    ({"full_share": 0.0}, "full_share=0.0: must be above 0 and at most 1"),
    ({"full_share": 1.01}, "full_share=1.01: must be above 0 and at most 1"),
    ({"full_share": nan}, "full_share=nan: must be above 0 and at most 1"),
]


@pytest.mark.parametrize(("changed", "message"), IMPOSSIBLE)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PackConfig(**{"budget_tokens": 10} | changed)


def test_the_share_of_padding() -> None:
    rows: list[tuple[list[tuple[int, ...]], Sequence[int], float]] = [
        ([], [], 0.0),
        ([(0,)], [10], 0.0),
        ([(0,)], [4], 0.6),
        ([(0, 1), (2,)], [5, 5, 5], 0.25),
    ]
    for packs, lengths, share in rows:
        assert padding_share(packs, lengths, 10) == pytest.approx(share)


def test_the_bound_on_squares_is_of_a_full_pack_in_the_mean_and_has_room_for_the_longest() -> None:
    assert squares_bound([10] * 7, 100, 1.1) == 1100, "ten clips of ten tokens fill a pack"
    assert squares_bound([10] * 1000 + [90], 100, 1.1) == 90**2
    assert squares_bound([10, 20], 100, 0.0) == 0
    assert squares_bound([], 100, 1.1) == 0
    lengths = [8, 16, 64, 32] * 50
    bound = squares_bound(lengths, 256, 1.1)
    packs = list(plan_packs(lengths, PackConfig(256, bound)))
    assert max(sum(lengths[n] ** 2 for n in pack) for pack in packs) <= bound
    assert max(sum(lengths[n] ** 2 for n in pack) for pack in plan_packs(lengths, PackConfig(256))) > bound
