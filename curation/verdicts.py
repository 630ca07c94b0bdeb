"""From scores and thresholds to a verdict: keep, or the first named reason that holds. Nothing is measured here.

A score that could not be measured (null) speaks against no clip. Every rule compares one column with one threshold, so
a verdict can be given again for a whole table without opening a single video.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Literal

from curation.records import digest

__all__ = ["RULES", "Rule", "Thresholds", "thresholds_id", "verdict"]

# What a threshold's column can be at most, where that is bounded: a standard deviation of levels is half their range.
MOST = {
    "min_luma_mean_levels": 255.0,
    "max_luma_mean_levels": 255.0,
    "min_luma_spread_levels": 127.5,
    "max_border_share": 1.0,
    "keep_still": 1,
}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a clip must reach to be kept; at a threshold it is kept. The defaults drop what no model learns from and
    little else. `inf` as a greatest value switches its rule off.

    Attributes:
        max_damaged_frames: Frames that the decoder had to conceal.
        min_seconds: Shortest clip (a public two-pass example drops under 1 s, Cosmos under 2 s).
        min_side_px: Shorter side of the active picture, display pixels (Cosmos: 256).
        min_aspect: Narrowest picture, width over height (Open-Sora 2.0: 1/3).
        max_aspect: Widest picture, width over height (Open-Sora 2.0: 3).
        min_rate_fps: Lowest mean frame rate (Open-Sora 2.0: 16).
        min_luma_mean_levels: Darkest mean brightness of 0 to 255 (a public example: 30).
        max_luma_mean_levels: Brightest mean brightness of 0 to 255 (a public example: 240).
        min_luma_spread_levels: Flattest picture, standard deviation in levels (a public example: 20).
        max_border_share: Largest share of black border; borders are cropped when training, not a reason to drop.
        min_sharpness_levels2: Least variance of the Laplacian (a public example: 50, which drops much good footage).
        keep_still: Keep clips in which nothing changes at all.
        min_motion_share_per_s: Slowest mean flow, in longer sides of the picture per second.
        max_motion_share_per_s: Fastest mean flow, in longer sides of the picture per second.
    """

    max_damaged_frames: int = 0
    min_seconds: float = 1.0
    min_side_px: int = 128
    min_aspect: float = 1 / 3
    max_aspect: float = 3.0
    min_rate_fps: float = 8.0
    min_luma_mean_levels: float = 4.0
    max_luma_mean_levels: float = 250.0
    min_luma_spread_levels: float = 4.0
    max_border_share: float = 0.75
    min_sharpness_levels2: float = 2.0
    keep_still: bool = False
    min_motion_share_per_s: float = 0.0
    max_motion_share_per_s: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), MOST.get(field.name, inf)
            is_off = value == inf and field.name.startswith("max_") and most == inf
            if not (0 <= value <= most and (value < inf or is_off)):
                rule = "must be a number, not negative" + (f" and at most {most:g}" if most < inf else "")
                raise ValueError(f"{field.name}={value}: {rule}")
        pairs = (
            ("min_aspect", "max_aspect"),
            ("min_luma_mean_levels", "max_luma_mean_levels"),
            ("min_motion_share_per_s", "max_motion_share_per_s"),
        )
        for low, high in pairs:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}={getattr(self, low)}: must not be over {high}={getattr(self, high)}")


@dataclass(frozen=True, slots=True)
class Rule:
    """A clip is rejected for `reason` if `column` is under (`min`) or over (`max`) the threshold."""

    reason: str
    column: str
    bound: Literal["min", "max"]
    threshold: str


# In the order in which they are asked: what is broken, what has the wrong shape, what shows too little, how it moves.
RULES: tuple[Rule, ...] = (
    Rule("damaged", "damaged_frames", "max", "max_damaged_frames"),
    Rule("too_short", "duration_s", "min", "min_seconds"),
    Rule("too_dark", "luma_mean_levels", "min", "min_luma_mean_levels"),
    Rule("too_bright", "luma_mean_levels", "max", "max_luma_mean_levels"),
    Rule("flat", "luma_spread_levels", "min", "min_luma_spread_levels"),
    Rule("borders", "border_share", "max", "max_border_share"),
    Rule("too_small", "short_side_px", "min", "min_side_px"),
    Rule("too_narrow", "aspect", "min", "min_aspect"),
    Rule("too_wide", "aspect", "max", "max_aspect"),
    Rule("low_rate", "rate_fps", "min", "min_rate_fps"),
    Rule("blurred", "sharpness_levels2", "min", "min_sharpness_levels2"),
    Rule("still", "is_still", "max", "keep_still"),
    Rule("too_little_motion", "motion_share_per_s", "min", "min_motion_share_per_s"),
    Rule("too_much_motion", "motion_share_per_s", "max", "max_motion_share_per_s"),
)


def verdict(clip: Mapping[str, object], thresholds: Thresholds) -> str | None:
    """None to keep the clip, else the first reason not to. `clip` has the columns of the clips table."""
    for rule in RULES:
        value = clip[rule.column]
        if value is None:
            continue
        assert isinstance(value, int | float)
        limit = getattr(thresholds, rule.threshold)
        if (value < limit) if rule.bound == "min" else (value > limit):
            return rule.reason
    return None


def thresholds_id(thresholds: Thresholds) -> str:
    """The same for equal thresholds, in every run."""
    values = sorted((name, float(value)) for name, value in asdict(thresholds).items())  # 1 and 1.0 are equal
    return digest("thresholds", *values)
