"""Every rule at, under and over its threshold; real footage for each reason is in test_analysis."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from curation.scores import SCORES
from curation.tables import CLIPS
from curation.verdicts import RULES, Thresholds, thresholds_id, verdict

GOOD = {
    "damaged_frames": 0,
    "duration_s": 4.0,
    "luma_mean_levels": 100.0,
    "luma_spread_levels": 40.0,
    "border_share": 0.0,
    "short_side_px": 360,
    "aspect": 16 / 9,
    "rate_fps": 24.0,
    "sharpness_levels2": 300.0,
    "is_still": False,
    "motion_share_per_s": 0.1,
}
MOVING = Thresholds(min_motion_share_per_s=0.02)
ANY_BORDER = Thresholds(max_border_share=1.0)


@pytest.mark.parametrize(
    ("column", "kept", "rejected", "reason", "thresholds"),
    [
        ("damaged_frames", 0, 1, "damaged", Thresholds()),
        ("damaged_frames", 5, 6, "damaged", Thresholds(max_damaged_frames=5)),
        ("duration_s", 1.0, 0.999, "too_short", Thresholds()),
        ("duration_s", 0.3, 0.2999999, "too_short", Thresholds(min_seconds=0.3)),
        ("luma_mean_levels", 4.0, 3.99, "too_dark", Thresholds()),
        ("luma_mean_levels", 250.0, 250.01, "too_bright", Thresholds()),
        ("luma_spread_levels", 4.0, 3.99, "flat", Thresholds()),
        ("border_share", 0.75, 0.7501, "borders", Thresholds()),
        ("border_share", 1.0, None, None, ANY_BORDER),
        ("short_side_px", 128, 127, "too_small", Thresholds()),
        ("aspect", 1 / 3, 0.3333, "too_narrow", Thresholds()),
        ("aspect", 3.0, 3.01, "too_wide", Thresholds()),
        ("rate_fps", 8.0, 7.99, "low_rate", Thresholds()),
        ("sharpness_levels2", 2.0, 1.99, "blurred", Thresholds()),
        ("is_still", False, True, "still", Thresholds()),
        ("is_still", True, None, None, Thresholds(keep_still=True)),
        ("motion_share_per_s", 0.0, None, None, Thresholds()),
        ("motion_share_per_s", 0.02, 0.0199, "too_little_motion", MOVING),
        ("motion_share_per_s", 2.0, 2.01, "too_much_motion", Thresholds()),
        ("motion_share_per_s", 99.0, None, None, Thresholds(max_motion_share_per_s=inf)),
    ],
)
def test_at_a_threshold_a_clip_is_kept(
    column: str, kept: Any, rejected: Any, reason: str | None, thresholds: Thresholds
) -> None:
    assert verdict(GOOD | {column: kept}, thresholds) is None
    if reason is not None:
        assert verdict(GOOD | {column: rejected}, thresholds) == reason


def test_the_table_above_meets_every_reason() -> None:
    (table,) = (m for m in test_at_a_threshold_a_clip_is_kept.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert {row[3] for row in table.args[1]} - {None} == {rule.reason for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_what_was_not_measured_speaks_against_no_clip(rule: Any) -> None:
    assert verdict(GOOD | {rule.column: None}, Thresholds()) is None
    assert verdict(dict.fromkeys(GOOD), Thresholds()) is None


def broken(rule: Any) -> dict[str, object]:
    return {rule.column: -1 if rule.bound == "min" else 10**6}


@pytest.mark.parametrize("first", range(len(RULES)))
def test_the_first_rule_that_holds_names_the_reason(first: int) -> None:
    clip: dict[str, object] = dict(GOOD)
    for rule in reversed(RULES[first:]):
        clip |= broken(rule)
    named = verdict(clip, MOVING)
    assert named is not None
    # A column with two rules can only break one of them at a time.
    assert next(rule.column for rule in RULES if rule.reason == named) == RULES[first].column


def test_rules_name_columns_of_the_table_and_fields_of_the_thresholds() -> None:
    for rule in RULES:
        assert rule.column in CLIPS.names
        assert hasattr(Thresholds(), rule.threshold)
    assert len({rule.reason for rule in RULES}) == len(RULES)
    assert {rule.threshold for rule in RULES} == set(Thresholds.__slots__)


def test_scores_are_stored_as_they_are_compared() -> None:
    """A narrower float would turn a verdict given again from the table, at a threshold such as 0.3."""
    kinds = {str(score.type) for score in SCORES if score.column in {rule.column for rule in RULES}}
    assert kinds <= {"double", "int32", "bool"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_damaged_frames": -1}, "max_damaged_frames=-1: must be a number, not negative"),
        ({"min_seconds": nan}, "min_seconds=nan: must be a number, not negative"),
        ({"min_seconds": inf}, "min_seconds=inf: must be a number, not negative"),
        ({"min_side_px": -0.5}, "min_side_px=-0.5"),
        ({"max_motion_share_per_s": nan}, "max_motion_share_per_s=nan"),
        ({"max_luma_mean_levels": 256}, "max_luma_mean_levels=256: must be a number, not negative and at most 255"),
        ({"max_luma_mean_levels": inf}, "max_luma_mean_levels=inf: .* at most 255"),
        ({"min_luma_mean_levels": 300}, "min_luma_mean_levels=300: .* at most 255"),
        ({"min_luma_spread_levels": 128}, "min_luma_spread_levels=128: .* at most 127.5"),
        ({"max_border_share": 1.01}, "max_border_share=1.01: .* at most 1"),
        ({"min_aspect": 2.0, "max_aspect": 1.5}, "min_aspect=2.0: must not be over max_aspect=1.5"),
        ({"min_luma_mean_levels": 251.0}, "min_luma_mean_levels=251.0: must not be over max_luma_mean_levels=250.0"),
        ({"min_motion_share_per_s": 3.0}, "min_motion_share_per_s=3.0: must not be over max_motion_share_per_s=2.0"),
    ],
)
def test_impossible_thresholds_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Thresholds(**fields)


def test_equal_thresholds_have_one_id() -> None:
    assert Thresholds(min_seconds=2) == Thresholds(min_seconds=2.0)
    assert thresholds_id(Thresholds(min_seconds=2)) == thresholds_id(Thresholds(min_seconds=2.0))
    assert thresholds_id(Thresholds(keep_still=True)) != thresholds_id(Thresholds())
    assert thresholds_id(Thresholds(min_seconds=2.0)) != thresholds_id(Thresholds(min_seconds=2.0000001))
