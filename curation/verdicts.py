"""From scores and thresholds to a verdict: keep, or the first named reason that holds. Nothing is measured here.

A score that could not be measured (null) speaks against no clip. Every rule compares one column with one threshold, so
a verdict can be given again for a whole table without opening a single video. To add a rule, add its line to
`Thresholds`, and a line to its docstring, which becomes its help on command lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from math import inf
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from curation.records import digest

__all__ = [
    "RULES",
    "Rule",
    "Thresholds",
    "broken_rules",
    "recorded_thresholds",
    "thresholds_id",
    "verdict",
]

Number = TypeVar("Number", bool, int, float)


def at_least(default: Number, reason: str, column: str, *, least: float = 0.0, most: float = inf) -> Number:
    """A threshold under which a clip is rejected for `reason`; `least` and `most` are what it can be."""
    return field(default=default, metadata={"rule": (reason, column, "min"), "range": (least, most)})


def at_most(default: Number, reason: str, column: str, *, most: float = inf) -> Number:
    """A threshold over which a clip is rejected for `reason`; at `most`, the column's greatest value, it is off."""
    return field(default=default, metadata={"rule": (reason, column, "max"), "range": (0.0, most)})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a clip must reach to be kept; at a threshold it is kept. The defaults drop what no model learns from and
    little else. `inf` as a greatest value switches its rule off. In the order in which they are asked: what is broken,
    what has the wrong shape, what shows too little, how it moves, what lies over it, how it was coded, what models say.

    Attributes:
        max_damaged_frames: Frames that the decoder had to conceal.
        min_seconds: Shortest clip (a public two-pass example drops under 1 s, Cosmos under 2 s).
        max_clip_seconds: Longest clip (--max-seconds of jobs.curate splits rather than drops; EasyAnimate: 10).
        min_luma_mean_levels: Darkest mean brightness of 0 to 255 (a public example: 30).
        max_luma_mean_levels: Brightest mean brightness of 0 to 255 (a public example: 240).
        min_luma_spread_levels: Flattest picture, standard deviation in levels (a public example: 20).
        min_contrast_levels: Least contrast, levels.
        max_border_share: Largest share of border; borders are cropped when training, not a reason to drop.
        min_side_px: Shorter side of the active picture, display pixels (Cosmos: 256).
        min_aspect: Narrowest picture, width over height (Open-Sora 2.0: 1/3).
        max_aspect: Widest picture, width over height (Open-Sora 2.0: 3).
        min_rate_fps: Lowest mean frame rate (Open-Sora 2.0: 16).
        min_sharpness_levels2: Least variance of the Laplacian (a public example: 50, which drops much good footage).
        keep_still: Keep clips in which nothing changes at all, as far as max_slideshow_share lets them.
        max_slideshow_share: Largest share of the time in which a still is held: slides and screens teach no motion.
        max_repeated_frames_share: Largest share of repeated frames (drawings held for two frames: 1/2, for three: 2/3).
        min_motion_share_per_s: Slowest mean flow, in longer sides of the picture per second.
        max_motion_share_per_s: Fastest mean flow, in longer sides of the picture per second.
        min_subject_motion_share_per_s: Slowest motion of the subject apart from the camera, in the same unit.
        max_subject_motion_share_per_s: Fastest motion of the subject apart from the camera.
        max_camera_speed_share_per_s: Fastest camera, in longer sides per second.
        min_camera_confidence: Least confidence in the camera's label, 0 to 1, for those who train on camera words.
        max_flashes_per_s: Most flashes a second (over 3 is harmful to some viewers, WCAG 2.2, 2.3.1).
        min_saturation_share: Least mean saturation, 0 to 1: gray footage has 0.
        min_colorfulness: Least colourfulness.
        max_text_share: Largest share of the picture under text (EasyAnimate: 0.02, of an OCR).
        max_overlay_share: Largest share of the picture under what stays in place, such as logos.
        max_caption_band_share: Largest share of the picture to be cropped as a caption band (Open-Sora-Plan: 0.2).
        max_combing_share: Largest share of the pictures with interlacing to be seen.
        min_bits_per_px: Fewest coded bits a pixel (Open-Sora 2.0: 0.02; newer codecs need fewer).
        max_blockiness: Strongest blocks.
        min_aesthetic: Least score of the aesthetic head, where there is one (Movie Gen: 4.0).
        max_ocr_text_share: Largest share of the picture under text by an OCR, where one ran.
        max_safety_unsafe_share: Largest share of the looks that a safety model calls unsafe.
        max_watermark_probability: Greatest probability of a watermark.
    """

    max_damaged_frames: int = at_most(0, "damaged", "damaged_frames")
    min_seconds: float = at_least(1.0, "too_short", "duration_s")
    max_clip_seconds: float = at_most(inf, "too_long", "duration_s")
    min_luma_mean_levels: float = at_least(4.0, "too_dark", "luma_mean_levels", most=255.0)
    max_luma_mean_levels: float = at_most(250.0, "too_bright", "luma_mean_levels", most=255.0)
    # A standard deviation of levels is at most half their range.
    min_luma_spread_levels: float = at_least(4.0, "flat", "luma_spread_levels", most=127.5)
    min_contrast_levels: float = at_least(0.0, "low_contrast", "contrast_levels", most=255.0)
    max_border_share: float = at_most(0.75, "borders", "border_share", most=1.0)
    min_side_px: int = at_least(128, "too_small", "short_side_px")
    min_aspect: float = at_least(1 / 3, "too_narrow", "aspect")
    max_aspect: float = at_most(3.0, "too_wide", "aspect")
    min_rate_fps: float = at_least(8.0, "low_rate", "rate_fps")
    min_sharpness_levels2: float = at_least(2.0, "blurred", "sharpness_levels2")
    keep_still: bool = at_most(False, "still", "is_still", most=1)
    max_slideshow_share: float = at_most(0.9, "slideshow", "slideshow_share", most=1.0)
    max_repeated_frames_share: float = at_most(1.0, "repeated_frames", "repeated_frames_share", most=1.0)
    min_motion_share_per_s: float = at_least(0.0, "too_little_motion", "motion_share_per_s")
    max_motion_share_per_s: float = at_most(2.0, "too_much_motion", "motion_share_per_s")
    min_subject_motion_share_per_s: float = at_least(0.0, "subject_still", "subject_motion_share_per_s")
    max_subject_motion_share_per_s: float = at_most(inf, "subject_too_fast", "subject_motion_share_per_s")
    max_camera_speed_share_per_s: float = at_most(inf, "camera_too_fast", "camera_speed_share_per_s")
    min_camera_confidence: float = at_least(0.0, "camera_unclear", "camera_confidence", most=1.0)
    max_flashes_per_s: float = at_most(inf, "flashing", "flashes_per_s")
    min_saturation_share: float = at_least(0.0, "pale", "saturation_share", most=1.0)
    min_colorfulness: float = at_least(0.0, "colorless", "colorfulness")
    max_text_share: float = at_most(1.0, "text", "text_share", most=1.0)
    max_overlay_share: float = at_most(1.0, "overlay", "overlay_share", most=1.0)
    max_caption_band_share: float = at_most(1.0, "caption_band", "caption_band_share", most=1.0)
    max_combing_share: float = at_most(1.0, "interlaced", "combing_share", most=1.0)
    min_bits_per_px: float = at_least(0.0, "low_bits", "bits_per_px")
    max_blockiness: float = at_most(inf, "blocky", "blockiness")
    min_aesthetic: float = at_least(-inf, "unaesthetic", "aesthetic", least=-inf)
    max_ocr_text_share: float = at_most(1.0, "ocr_text", "ocr_text_share", most=1.0)
    max_safety_unsafe_share: float = at_most(1.0, "unsafe", "safety_unsafe_share", most=1.0)
    max_watermark_probability: float = at_most(1.0, "watermark", "watermark_probability", most=1.0)

    def __post_init__(self) -> None:
        greatest = {rule.column: rule.threshold for rule in RULES if rule.bound == "max"}
        for rule in RULES:
            name, value = rule.threshold, getattr(self, rule.threshold)
            if not (value == rule.off or (rule.least <= value <= rule.most and abs(value) < inf)):
                sign = "a number" if rule.least == -inf else "a number, not negative"
                most = f" and at most {rule.most:g}" if rule.most < inf else ""
                raise ValueError(f"{name}={value}: must be {sign}{most}")
            high = greatest.get(rule.column)
            if rule.bound == "min" and high and value > getattr(self, high):
                raise ValueError(f"{name}={value}: must not be over {high}={getattr(self, high)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A clip is rejected for `reason` if `column` is under (`min`) or over (`max`) the threshold, which itself is
    within `least` and `most`."""

    reason: str
    column: str
    bound: Literal["min", "max"]
    threshold: str
    least: float
    most: float

    @property
    def off(self) -> float:
        """The value of the threshold at which no clip is rejected."""
        return self.least if self.bound == "min" else self.most


def _rule_of(threshold: Field[Any]) -> Rule:
    reason, column, bound = threshold.metadata["rule"]
    least, most = threshold.metadata["range"]
    return Rule(reason, column, bound, threshold.name, least, most)


RULES: tuple[Rule, ...] = tuple(map(_rule_of, fields(Thresholds)))


def verdict(clip: Mapping[str, object], thresholds: Thresholds) -> str | None:
    """None to keep the clip, else the first reason not to. `clip` has columns of the clips table and of its model
    scores; one that is missing is taken as null."""
    for rule in RULES:
        value, limit = clip.get(rule.column), getattr(thresholds, rule.threshold)
        if value is None or limit == rule.off:
            continue
        assert isinstance(value, int | float)
        if (value < limit) if rule.bound == "min" else (value > limit):
            return rule.reason
    return None


def broken_rules(columns: Mapping[str, NDArray[np.float64]], clips: int, thresholds: Thresholds) -> NDArray[np.int64]:
    """The same for many clips at once: for each the index in RULES of the first that it breaks, -1 to keep it.

    NaN is null. A column that is missing speaks against no clip.
    """
    broken = np.full(clips, -1)
    for index, rule in enumerate(RULES):
        values, limit = columns.get(rule.column), float(getattr(thresholds, rule.threshold))
        if values is not None and limit != rule.off:
            breaks = values < limit if rule.bound == "min" else values > limit
            broken[breaks & (broken < 0)] = index
    return broken


def thresholds_id(thresholds: Thresholds) -> str:
    """The same for equal thresholds, in every run, also of a version that had fewer rules: those that are off do not
    count."""
    values = ((rule, float(getattr(thresholds, rule.threshold))) for rule in RULES)  # 1 and 1.0 are equal
    return digest("thresholds", *sorted((rule.threshold, value) for rule, value in values if value != rule.off))


def recorded_thresholds(record: Mapping[str, Any]) -> Thresholds | None:
    """From a run's config as it was recorded, None where it is something else. Rules that it did not know were off.

    Raises ValueError for thresholds that are not possible any more.
    """
    known = asdict(Thresholds())
    if "min_seconds" not in record or not record.keys() <= known.keys():
        return None
    values: dict[str, Any] = {rule.threshold: rule.off for rule in RULES}
    return Thresholds(**values | dict(record))
