"""Facts: of what was measured only, sure where they are stated, None for all else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.facts import CLIP_COLUMNS, Facts, facts_of, facts_prompt
from curation.scores import SCORES
from curation.tables import CLIPS

# A bright widescreen shot of 3 s in which the camera pans slowly to the left and little else moves.
ROW: dict[str, Any] = {
    "duration_s": 3.0,
    "width": 640,
    "height": 360,
    "rate_fps": 25.0,
    "active_width_px": 640,
    "active_height_px": 360,
    "aspect": 640 / 360,
    "border_share": 0.0,
    "border_color": None,
    "luma_mean_levels": 170.0,
    "contrast_levels": 120.0,
    "saturation_share": 0.3,
    "colorfulness": 40.0,
    "dominant_colors": ["green", "gray"],
    "camera_motion": "pan",
    "camera_direction": "left",
    "camera_speed_share_per_s": 0.03,
    "camera_zoom_per_s": 0.0,
    "camera_roll_deg_per_s": 0.0,
    "camera_confidence": 0.9,
    "motion_share_per_s": 0.03,
    "subject_motion_share_per_s": 0.001,
    "is_still": False,
    "slideshow_share": 0.0,
    "flashes_per_s": 0.0,
    "repeated_frames_share": 0.0,
    "text_share": 0.0,
}
STATIC: dict[str, Any] = {"camera_motion": "static", "camera_direction": None}
ROLL: dict[str, Any] = {"camera_motion": "roll", "camera_direction": "clockwise"}


def facts(**changed: Any) -> Facts:
    assert changed.keys() <= ROW.keys()
    return facts_of(ROW | changed)


def test_the_columns_are_a_clips_and_all_that_is_read() -> None:
    assert set(CLIP_COLUMNS) <= set(CLIPS.names)
    assert set(CLIP_COLUMNS) == ROW.keys()
    assert len(set(CLIP_COLUMNS) & {score.column for score in SCORES}) > 20


def test_a_row_of_nulls_has_no_facts() -> None:
    assert facts_of({}) == facts_of(dict.fromkeys(CLIP_COLUMNS)) == Facts()
    assert facts_prompt(Facts()) == ""


def test_the_facts_of_a_row() -> None:
    assert facts() == Facts(
        duration_s=3.0,
        width_px=640,
        height_px=360,
        aspect="widescreen",
        rate_fps=25.0,
        camera="pan left",
        camera_speed="slow",
        motion="some",
        subject_motion="little",
        stillness="moving",
        light="bright",
        is_black_and_white=False,
        colors=("green", "gray"),
        is_flashing=False,
        is_stepped=False,
    )


@pytest.mark.parametrize(
    ("changed", "name", "value"),
    [
        ({"camera_confidence": 0.49}, "camera", None),
        ({"camera_confidence": None}, "camera", None),
        ({"camera_confidence": 0.5}, "camera", "pan left"),
        (STATIC, "camera", "static"),
        ({"camera_motion": "dolly", "camera_direction": None}, "camera", None),
        ({"camera_motion": "zoom", "camera_direction": "out", "camera_zoom_per_s": -0.6}, "camera_speed", "fast"),
        (ROLL | {"camera_roll_deg_per_s": 9}, "camera_speed", "medium"),
        ({"camera_speed_share_per_s": 0.5}, "camera_speed", "fast"),
        ({"camera_confidence": 0.1}, "camera_speed", None),
        (STATIC, "camera_speed", None),
        # Depth in the picture reads as motion of the subject while the camera moves.
        ({"subject_motion_share_per_s": 0.2}, "subject_motion", None),
        (STATIC | {"subject_motion_share_per_s": 0.2}, "subject_motion", "much"),
        ({"camera_confidence": 0.1}, "subject_motion", None),
        ({"luma_mean_levels": 0.5}, "light", "black"),
        ({"luma_mean_levels": 20}, "light", "dark"),
        ({"luma_mean_levels": 60}, "light", "dim"),
        ({"luma_mean_levels": 118}, "light", "medium"),
        ({"luma_mean_levels": 230}, "light", "very bright"),
        # The mean is that of the whole frame: half of it black makes the picture inside twice as bright.
        ({"luma_mean_levels": 60, "border_share": 0.5, "border_color": "black"}, "light", "medium"),
        ({"luma_mean_levels": 60, "border_share": 0.5, "border_color": "white"}, "light", None),
        ({"contrast_levels": 30}, "contrast", "low"),
        ({"contrast_levels": 30, "luma_mean_levels": 10}, "contrast", None),
        ({"contrast_levels": 240}, "contrast", "high"),
        ({"saturation_share": 0.01, "colorfulness": 2}, "is_black_and_white", True),
        ({"saturation_share": 0.01, "colorfulness": 2, "luma_mean_levels": 0.5}, "is_black_and_white", None),
        ({"saturation_share": 0.01, "colorfulness": None}, "is_black_and_white", None),
        ({"saturation_share": 0.5, "colorfulness": 90}, "color_strength", "vivid"),
        ({"saturation_share": 0.1, "colorfulness": 10}, "color_strength", "muted"),
        ({"is_still": True}, "stillness", "still"),
        ({"slideshow_share": 1.0}, "stillness", "still"),
        ({"slideshow_share": 0.7}, "stillness", "mostly still"),
        ({"is_still": None}, "stillness", None),
        ({"slideshow_share": None}, "stillness", None),
        ({"aspect": 0.56}, "aspect", "vertical"),
        ({"aspect": 1.0}, "aspect", "square"),
        ({"aspect": 4 / 3}, "aspect", "standard"),
        ({"aspect": 2.39}, "aspect", "very wide"),
        (dict.fromkeys(("aspect", "active_width_px", "active_height_px")) | {"width": 200}, "aspect", "vertical"),
        ({"flashes_per_s": 1.0}, "is_flashing", True),
        ({"flashes_per_s": 0.4}, "is_flashing", False),
        ({"flashes_per_s": 1.0, "duration_s": 1.0}, "is_flashing", False),
        ({"repeated_frames_share": 0.5}, "is_stepped", True),
        ({"text_share": 0.5}, "has_text", None),
        ({"luma_mean_levels": float("nan")}, "light", None),
        ({"duration_s": 0.0}, "duration_s", None),
    ],
)  # fmt: skip
def test_each_fact_from_its_measurements(changed: dict[str, Any], name: str, value: Any) -> None:
    assert getattr(facts(**changed), name) == value


def test_text_is_claimed_on_plain_ground_only() -> None:
    slide = {
        "luma_mean_levels": 230.0,
        "text_share": 0.1,
        "saturation_share": 0.02,
        "dominant_colors": ["white", "black"],
        "motion_share_per_s": 0.001,
    }
    assert facts(**slide).has_text
    for other in (
        {"text_share": 0.01},
        {"luma_mean_levels": 120.0},
        {"saturation_share": 0.4},
        {"dominant_colors": ["white", "brown"]},
        {"motion_share_per_s": 0.2},
        {"motion_share_per_s": None},
    ):
        assert facts(**slide | other).has_text is None, other


@given(st.sets(st.sampled_from(CLIP_COLUMNS)))
def test_what_was_not_measured_adds_no_fact(missing: set[str]) -> None:
    """Taking measurements away takes facts away; it makes none and changes only the words for size and light."""
    full, less = facts(), facts_of(ROW | dict.fromkeys(missing))
    for name in Facts.__dataclass_fields__:
        was, now = getattr(full, name), getattr(less, name)
        assert now == was or now in (None, ()), name


def test_a_model_is_told_what_is_sure_a_line_each() -> None:
    told = facts_prompt(facts())
    assert "camera: pan left (the camera slowly pans to the left)" in told
    assert "light: bright" in told
    assert "green, gray" in told
    assert "3.0 seconds" in told
    assert "camera:" not in facts_prompt(facts(camera_confidence=0.2))
    assert "black and white" in facts_prompt(facts(saturation_share=0.0, colorfulness=0.0))
