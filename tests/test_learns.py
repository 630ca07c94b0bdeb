"""What the experiments of training count, and when they say that something was reached."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.attribute_footage import ASKED, all_combinations, combinations_apart, some_attributes
from benchmarks.judge import Judgement
from benchmarks.learns import learnt, shuffled
from benchmarks.learns_figures import Interval, interval_of, right_answers, unrelated
from benchmarks.native import MARGIN, is_as_claimed


def test_an_interval_is_about_the_mean_and_narrows_with_samples() -> None:
    random = np.random.default_rng(0)
    few, many = (interval_of(random.random((3, count)) < 0.3) for count in (40, 4000))
    for found in (few, many):
        assert found.low < found.mean < found.high
    assert many.holds(0.3)
    assert many.high - many.low < (few.high - few.low) / 3


def test_an_interval_tells_seeds_that_differ_from_samples_that_do() -> None:
    """Samples of one seed are not as many trials of training."""
    alike, apart = np.full((3, 500), 0.5), np.repeat([[0.2], [0.5], [0.8]], 500, axis=1)
    assert interval_of(alike) == Interval(0.5, 0.5, 0.5)
    assert interval_of(apart).low < 0.3 < 0.7 < interval_of(apart).high


def test_what_shows_nothing_is_wrong() -> None:
    truths = some_attributes([("red", "ring", "up"), ("blue", "bar", "left")], 2, seed=0)
    judged = [Judgement("red", None, "down"), Judgement(None, "bar", "left")]
    found = {name: right_answers(judged, truths, name).tolist() for name in ASKED}
    assert found == {"color": [True, False], "shape": [False, True], "motion": [False, True]}


def test_answers_that_have_nothing_to_do_with_the_question() -> None:
    truths = some_attributes([("red", "ring", "up"), ("blue", "bar", "left")], 4, seed=0)
    judged = [Judgement("red", None, "up")] * 4
    found = {name: unrelated(judged, truths, name) for name in ASKED}
    assert found == {"color": 0.5, "shape": 0.0, "motion": 0.5}


@pytest.mark.parametrize("seed", range(4))
def test_combinations_kept_apart_have_every_value_as_often(seed: int) -> None:
    """Else a guess would be right more often than chance says."""
    apart = combinations_apart(seed, 0.1)
    assert len(set(apart)) == len(apart) == round(0.1 * len(all_combinations()))
    for place, values in enumerate(ASKED.values()):
        counts = Counter(one[place] for one in apart)
        assert set(counts) == set(values)
        assert max(counts.values()) - min(counts.values()) <= 1
    assert not set(learnt(apart)) & set(apart)
    assert sorted([*learnt(apart), *apart]) == sorted(all_combinations())


def test_shuffled_prompts_are_the_same_each_at_another_place() -> None:
    prompts = [f"prompt {n}" for n in range(50)]
    found = shuffled(prompts)
    assert sorted(found) == sorted(prompts)
    assert all(a != b for a, b in zip(found, prompts, strict=True))


@pytest.mark.parametrize(
    ("aspect", "low", "high", "expected"),
    [
        ("16:9", 0.01, 0.1, True),
        ("9:16", -0.01, 0.3, False),
        ("1:1", -MARGIN / 2, 0.1, True),
        ("1:1", -2 * MARGIN, 0.4, False),  # too uncertain to say
    ],
)
def test_noise_alone_is_no_claim(aspect: str, low: float, high: float, expected: bool) -> None:
    assert is_as_claimed(aspect, Interval((low + high) / 2, low, high)) == expected
