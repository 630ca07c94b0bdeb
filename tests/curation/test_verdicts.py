"""Every rule at, under and over its threshold; real footage for each reason is in test_analysis."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

from curation.scores import SCORES
from curation.tables import CLIPS
from curation.verdicts import RULES, Thresholds, broken_rules, recorded_thresholds, thresholds_id, verdict

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
    "slideshow_share": 0.0,
}
# A clip that every rule, whatever its threshold, can be asked about.
MEASURED = {rule.column: GOOD.get(rule.column, 0.5) for rule in RULES}
# What model scores say is in a table of its own.
OF_MODELS = {"aesthetic", "ocr_text_share", "safety_unsafe_share", "watermark_probability"}
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
        ("duration_s", 60.0, 60.01, "too_long", Thresholds(max_clip_seconds=60.0)),
        ("duration_s", 1e5, None, None, Thresholds()),
        ("contrast_levels", 30.0, 29.9, "low_contrast", Thresholds(min_contrast_levels=30.0)),
        ("slideshow_share", 0.9, 0.91, "slideshow", Thresholds()),
        ("slideshow_share", 1.0, None, None, Thresholds(max_slideshow_share=1.0)),
        ("repeated_frames_share", 0.5, 0.51, "repeated_frames", Thresholds(max_repeated_frames_share=0.5)),
        ("subject_motion_share_per_s", 0.1, 0.09, "subject_still", Thresholds(min_subject_motion_share_per_s=0.1)),
        ("subject_motion_share_per_s", 0.5, 0.6, "subject_too_fast", Thresholds(max_subject_motion_share_per_s=0.5)),
        ("camera_speed_share_per_s", 0.5, 0.6, "camera_too_fast", Thresholds(max_camera_speed_share_per_s=0.5)),
        ("camera_confidence", 0.5, 0.4, "camera_unclear", Thresholds(min_camera_confidence=0.5)),
        ("flashes_per_s", 3.0, 3.1, "flashing", Thresholds(max_flashes_per_s=3.0)),
        ("saturation_share", 0.1, 0.0, "pale", Thresholds(min_saturation_share=0.1)),
        ("colorfulness", 10.0, 9.0, "colorless", Thresholds(min_colorfulness=10.0)),
        ("text_share", 0.02, 0.03, "text", Thresholds(max_text_share=0.02)),
        ("overlay_share", 0.1, 0.2, "overlay", Thresholds(max_overlay_share=0.1)),
        ("caption_band_share", 0.2, 0.21, "caption_band", Thresholds(max_caption_band_share=0.2)),
        ("combing_share", 0.1, 0.2, "interlaced", Thresholds(max_combing_share=0.1)),
        ("bits_per_px", 0.02, 0.0199, "low_bits", Thresholds(min_bits_per_px=0.02)),
        ("blockiness", 2.0, 2.1, "blocky", Thresholds(max_blockiness=2.0)),
        ("aesthetic", 4.0, 3.9, "unaesthetic", Thresholds(min_aesthetic=4.0)),
        ("aesthetic", -99.0, None, None, Thresholds()),
        ("ocr_text_share", 0.02, 0.03, "ocr_text", Thresholds(max_ocr_text_share=0.02)),
        ("safety_unsafe_share", 0.0, 0.1, "unsafe", Thresholds(max_safety_unsafe_share=0.0)),
        ("watermark_probability", 0.5, 0.6, "watermark", Thresholds(max_watermark_probability=0.5)),
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


# Every rule on, and nothing in MEASURED broken.
STRICT = Thresholds(
    **{rule.threshold: MEASURED[rule.column] for rule in RULES if rule.threshold not in ("min_aspect", "keep_still")}  # type: ignore[arg-type]
)


@pytest.mark.parametrize("first", range(len(RULES)))
def test_the_first_rule_that_holds_names_the_reason(first: int) -> None:
    assert verdict(MEASURED, STRICT) is None
    clip: dict[str, object] = dict(MEASURED)
    for rule in reversed(RULES[first:]):
        clip |= broken(rule)
    named = verdict(clip, STRICT)
    assert named is not None
    # A column with two rules can only break one of them at a time.
    assert next(rule.column for rule in RULES if rule.reason == named) == RULES[first].column


def test_many_clips_at_once_get_the_verdicts_of_each() -> None:
    random = np.random.default_rng(0)
    clips = 300
    met: set[str | None] = set()
    for _ in range(20):
        columns = {rule.column: np.round(random.normal(MEASURED[rule.column], 0.4, clips), 1) for rule in RULES}
        columns = {name: np.where(random.random(clips) < 0.2, np.nan, values) for name, values in columns.items()}
        on = [rule for rule in RULES if rule.threshold != "keep_still" and random.random() < 0.2]
        # At a value that is there, so that clips at the threshold are met.
        limits = {rule.threshold: abs(float(random.choice(np.nan_to_num(columns[rule.column])))) for rule in on}
        off = {rule.threshold: rule.off for rule in RULES}
        try:
            thresholds = Thresholds(**off | {n: v for n, v in limits.items() if v <= 1})  # type: ignore[arg-type]
        except ValueError:
            continue  # a least value over the greatest
        reasons = [RULES[i].reason if i >= 0 else None for i in broken_rules(columns, clips, thresholds).tolist()]
        rows = [{n: None if np.isnan(v[i]) else v[i] for n, v in columns.items()} for i in range(clips)]
        assert reasons == [verdict(row, thresholds) for row in rows]
        met |= set(reasons)
    assert None in met
    assert len(met) > 15


def test_rules_name_columns_of_the_table_and_fields_of_the_thresholds() -> None:
    for rule in RULES:
        assert rule.column in {*CLIPS.names, *OF_MODELS}
        assert hasattr(Thresholds(), rule.threshold)
    assert len({rule.reason for rule in RULES}) == len(RULES)
    assert {rule.threshold for rule in RULES} == set(Thresholds.__slots__)


def test_scores_are_stored_as_they_are_compared() -> None:
    """A narrower float would turn a verdict given again from the table, at a threshold such as 0.3."""
    kinds = {str(score.type) for score in SCORES if score.column in {rule.column for rule in RULES}}
    assert kinds <= {"double", "int32", "bool"}


def test_a_rule_that_is_off_rejects_nothing() -> None:
    off = Thresholds(**{rule.threshold: rule.off for rule in RULES})  # type: ignore[arg-type]
    for rule in RULES:
        assert verdict({rule.column: rule.least if rule.bound == "min" else rule.most}, off) is None


def test_thresholds_of_an_older_run_are_read_with_newer_rules_off() -> None:
    assert recorded_thresholds({"min_seconds": 2.0, "max_aspect": inf}) == Thresholds(
        **{rule.threshold: rule.off for rule in RULES} | {"min_seconds": 2.0}  # type: ignore[arg-type]
    )
    assert recorded_thresholds({"min_seconds": 2.0, "other": 1}) is None
    assert recorded_thresholds({"max_seconds": 60.0}) is None
    with pytest.raises(ValueError, match="min_seconds=-1"):
        recorded_thresholds({"min_seconds": -1})
    older = Thresholds(min_seconds=2.0)
    assert thresholds_id(older) == thresholds_id(Thresholds(min_seconds=2.0, max_flashes_per_s=inf))


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
        ({"min_aesthetic": nan}, "min_aesthetic=nan: must be a number"),
        ({"min_clip_seconds": 1.0}, "unexpected keyword"),
        ({"min_seconds": 5.0, "max_clip_seconds": 4.0}, "min_seconds=5.0: must not be over max_clip_seconds=4.0"),
        ({"min_motion_share_per_s": 3.0}, "min_motion_share_per_s=3.0: must not be over max_motion_share_per_s=2.0"),
    ],
)
def test_impossible_thresholds_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Thresholds(**fields)


def test_equal_thresholds_have_one_id() -> None:
    assert Thresholds(min_seconds=2) == Thresholds(min_seconds=2.0)
    assert thresholds_id(Thresholds(min_seconds=2)) == thresholds_id(Thresholds(min_seconds=2.0))
    assert thresholds_id(Thresholds(keep_still=True)) != thresholds_id(Thresholds())
    assert thresholds_id(Thresholds(min_seconds=2.0)) != thresholds_id(Thresholds(min_seconds=2.0000001))
