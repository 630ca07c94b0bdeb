"""Facts: what was measured about a clip and can be said in words, from its row in `clips`.

A fact is None where nothing was measured, where the measurement is not sure, or where there is nothing to say. Nothing
here is a guess: `is_still` False alone does not say that much moves, a label of the camera that is not trusted is no
fact. Borders are none either: a clip is shown and trained without them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from captioner.fields import CAMERAS, CameraMove
from captioner.wording import camera_clause
from curation.camera_label import CLAIMED_CONFIDENCE

__all__ = ["CLIP_COLUMNS", "Facts", "facts_of", "facts_of_part", "facts_prompt"]

Aspect = Literal["vertical", "square", "standard", "widescreen", "very wide"]
Speed = Literal["slow", "medium", "fast"]
Amount = Literal["little", "some", "much"]
Light = Literal["black", "dark", "dim", "medium", "bright", "very bright"]
Stillness = Literal["still", "mostly still", "moving"]

CLIP_COLUMNS: tuple[str, ...] = (
    "duration_s",
    "width",
    "height",
    "rate_fps",
    "active_width_px",
    "active_height_px",
    "aspect",
    "border_share",
    "border_color",
    "luma_mean_levels",
    "contrast_levels",
    "saturation_share",
    "colorfulness",
    "dominant_colors",
    "camera_motion",
    "camera_direction",
    "camera_speed_share_per_s",
    "camera_zoom_per_s",
    "camera_roll_deg_per_s",
    "camera_confidence",
    "motion_share_per_s",
    "subject_motion_share_per_s",
    "is_still",
    "slideshow_share",
    "flashes_per_s",
    "repeated_frames_share",
    "text_share",
)

# Width over height from which on a picture has the next name: 4:3 is 1.33, 3:2 1.5, 16:9 1.78, films 1.85 to 2.4.
ASPECTS: tuple[tuple[float, Aspect], ...] = ((0.9, "vertical"), (1.1, "square"), (1.6, "standard"), (2.0, "widescreen"))
# Mean brightness in 8-bit levels under which the light has a name. `black` is the verdicts' `too_dark`; a gray card
# of 18 % is at 118; the rest was set by looking: firelit rooms are at 20 to 40, overcast interiors at 60 to 75,
# a meadow in the sun at 190, text on white over 200.
LIGHTS: tuple[tuple[float, Light], ...] = (
    *((4.0, "black"), (40.0, "dark"), (75.0, "dim"), (150.0, "medium"), (200.0, "bright")),
)
# A border of another colour than black hides how bright the picture inside it is, from this share on.
MAX_UNKNOWN_BORDER_SHARE = 0.05
# 5th to 95th percentile of luma: fog and haze are under 60 levels, hard light and backlight over 200.
LOW_CONTRAST_LEVELS, HIGH_CONTRAST_LEVELS = 60.0, 200.0
# Black and white, with the noise of a codec's chroma; tinted material is over both.
GRAY_SATURATION, GRAY_COLORFULNESS = 0.03, 5.0
# Hasler and Süsstrunk's scale: 15 slightly, 45 averagely, 82 highly colourful. A small object in a strong colour on
# white is highly colourful as well, so the saturation must agree.
MUTED_COLORFULNESS, MUTED_SATURATION, VIVID_COLORFULNESS, VIVID_SATURATION = 20.0, 0.2, 70.0, 0.35
# Longer sides a second: slow takes 20 s to pass the whole picture, fast passes it in 3 s. Zooms by the logarithm of
# growth a second (0.05: twice as large in 14 s), rolls in degrees a second.
PAN_SPEEDS, ZOOM_SPEEDS, ROLL_SPEEDS = (0.05, 0.3), (0.05, 0.4), (5.0, 30.0)
SHAKE_SPEEDS = (0.03, 0.15)
# Mean flow, longer sides a second. Errors of the flow on plain pictures reach 0.012, so under 0.02 `little` is all that
# can be said; from 0.1 on the whole picture is replaced in ten seconds.
LITTLE_MOTION, MUCH_MOTION = 0.02, 0.1
# Motion apart from the camera's reads low for small things, so the least of it is `little`, never none.
LITTLE_SUBJECT, MUCH_SUBJECT = 0.005, 0.05
# A still that is held longer than this share of the time is all that there is; from the second on, most of it.
ALL_HELD, MOSTLY_HELD = 0.99, 0.5
MIN_FLASHES, MIN_FLASHES_PER_S = 2.0, 0.5
# Drawings on twos repeat half of their frames; a conversion of the rate repeats a fifth, which is not seen so.
STEPPED_SHARE = 0.3
# Lines of slats and windows look like text as well. A picture that is nearly white or black without colours, and in
# which next to nothing moves, is a title or a slide.
MIN_TEXT_SHARE, TEXT_DARKEST, TEXT_BRIGHTEST, TEXT_SATURATION = 0.03, 10.0, 200.0, 0.1
TEXT_GROUNDS = frozenset({"black", "white", "gray"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What may be said of a clip. None: not measured, not sure, or nothing to say."""

    duration_s: float | None = None
    width_px: int | None = None  # of the active picture, display pixels
    height_px: int | None = None
    aspect: Aspect | None = None
    rate_fps: float | None = None
    camera: CameraMove | None = None  # only where its confidence is claimed
    camera_speed: Speed | None = None  # of a shake, how strong it is
    motion: Amount | None = None  # of everything in the picture together, the camera's with it
    subject_motion: Amount | None = None  # apart from the camera's; where it moves only `little` can be told
    stillness: Stillness | None = None
    light: Light | None = None
    contrast: Literal["low", "high"] | None = None
    is_black_and_white: bool | None = None
    color_strength: Literal["muted", "vivid"] | None = None
    colors: tuple[str, ...] = ()  # names, the most first; empty where not measured
    is_flashing: bool | None = None
    is_stepped: bool | None = None  # many frames repeat amid motion, as in drawings on twos
    has_text: Literal[True] | None = None  # lines of text on a plain ground


def facts_of(row: Mapping[str, Any]) -> Facts:
    """Facts of a clip from its row, of which `CLIP_COLUMNS` are read. A column that the row lacks was not measured."""
    number = _numbers(row)
    width, height = number("active_width_px") or number("width"), number("active_height_px") or number("height")
    brightness = _brightness(row)
    light = None if brightness is None else _named(brightness, LIGHTS, "very bright")
    is_gray = None if light == "black" else _is_black_and_white(number)
    camera = _camera(row)
    stillness = _stillness(row)
    motion = number("motion_share_per_s")
    return Facts(
        duration_s=_positive(number("duration_s")),
        width_px=None if width is None else int(width),
        height_px=None if height is None else int(height),
        aspect=_aspect(number("aspect"), width, height),
        rate_fps=_positive(number("rate_fps")),
        camera=camera,
        camera_speed=_camera_speed(camera, number),
        motion=None if motion is None else _amount(motion, LITTLE_MOTION, MUCH_MOTION),
        subject_motion=_subject_motion(number("subject_motion_share_per_s"), camera),
        stillness=stillness,
        light=light,
        contrast=_contrast(number("contrast_levels"), light),
        is_black_and_white=is_gray,
        color_strength=None if is_gray or light == "black" else _color_strength(number),
        colors=tuple(row.get("dominant_colors") or ()),
        is_flashing=_is_flashing(number),
        is_stepped=_over(number("repeated_frames_share"), STEPPED_SHARE),
        has_text=_has_text(row, brightness),
    )


Numbers = Callable[[str], float | None]


def _numbers(row: Mapping[str, Any]) -> Numbers:
    def number(column: str) -> float | None:
        value = row.get(column)
        return float(value) if value is not None and isfinite(value) else None

    return number


def _named(value: float, names: tuple[tuple[float, Any], ...], last: Any) -> Any:
    return next((name for under, name in names if value < under), last)


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _over(value: float | None, least: float) -> bool | None:
    return None if value is None else value >= least


def _amount(value: float, little: float, much: float) -> Amount:
    return "little" if value < little else "some" if value < much else "much"


def _aspect(aspect: float | None, width: float | None, height: float | None) -> Aspect | None:
    if aspect is None and width and height:
        aspect = width / height
    return None if aspect is None else _named(aspect, ASPECTS, "very wide")


def _brightness(row: Mapping[str, Any]) -> float | None:
    """Mean level of the active picture: `luma_mean_levels` is that of the whole frame, borders and all."""
    number = _numbers(row)
    mean, border = number("luma_mean_levels"), number("border_share") or 0.0
    if mean is None or border >= 1:
        return None
    if row.get("border_color") == "black":
        return min(255.0, mean / (1 - border))
    return mean if border <= MAX_UNKNOWN_BORDER_SHARE else None


def _contrast(levels: float | None, light: Light | None) -> Literal["low", "high"] | None:
    # A small bright thing on black, or black on white, has a range of percentiles of nearly nothing.
    if levels is None or light in (None, "black", "dark", "very bright"):
        return None
    return "low" if levels < LOW_CONTRAST_LEVELS else "high" if levels > HIGH_CONTRAST_LEVELS else None


def _is_black_and_white(number: Numbers) -> bool | None:
    saturation, colorfulness = number("saturation_share"), number("colorfulness")
    if saturation is None or colorfulness is None:
        return None
    return saturation < GRAY_SATURATION and colorfulness < GRAY_COLORFULNESS


def _color_strength(number: Numbers) -> Literal["muted", "vivid"] | None:
    saturation, colorfulness = number("saturation_share"), number("colorfulness")
    if saturation is None or colorfulness is None:
        return None
    if colorfulness < MUTED_COLORFULNESS and saturation < MUTED_SATURATION:
        return "muted"
    return "vivid" if colorfulness >= VIVID_COLORFULNESS and saturation >= VIVID_SATURATION else None


def _camera(row: Mapping[str, Any]) -> CameraMove | None:
    confidence, motion = _numbers(row)("camera_confidence"), row.get("camera_motion")
    if confidence is None or confidence < CLAIMED_CONFIDENCE or motion is None:
        return None
    direction = row.get("camera_direction")
    name = f"{motion} {direction}" if direction else str(motion)
    return name if name in CAMERAS else None  # type: ignore[return-value]


def _camera_speed(camera: CameraMove | None, number: Numbers) -> Speed | None:
    if camera is None or camera == "static":
        return None
    kind = camera.split()[0]
    column, (slow, fast) = {
        "zoom": ("camera_zoom_per_s", ZOOM_SPEEDS),
        "roll": ("camera_roll_deg_per_s", ROLL_SPEEDS),
        "shake": ("camera_speed_share_per_s", SHAKE_SPEEDS),
    }.get(kind, ("camera_speed_share_per_s", PAN_SPEEDS))
    speed = number(column)
    if speed is None:
        return None
    return "slow" if abs(speed) < slow else "fast" if abs(speed) > fast else "medium"


def _subject_motion(speed: float | None, camera: CameraMove | None) -> Amount | None:
    """Under a camera that moves, depth in the picture reads as motion of the subject: only `little` is sure."""
    if speed is None or camera is None:
        return None
    amount = _amount(speed, LITTLE_SUBJECT, MUCH_SUBJECT)
    return amount if camera == "static" or amount == "little" else None


def _stillness(row: Mapping[str, Any]) -> Stillness | None:
    is_still, held = row.get("is_still"), _numbers(row)("slideshow_share")
    if is_still or (held is not None and held >= ALL_HELD):
        return "still"
    if held is not None and held >= MOSTLY_HELD:
        return "mostly still"
    return None if is_still is None or held is None else "moving"


def _is_flashing(number: Numbers) -> bool | None:
    rate, duration_s = number("flashes_per_s"), number("duration_s")
    if rate is None or duration_s is None:
        return None
    return rate >= MIN_FLASHES_PER_S and rate * duration_s >= MIN_FLASHES - 0.01


def _has_text(row: Mapping[str, Any], brightness: float | None) -> Literal[True] | None:
    number = _numbers(row)
    text, saturation, motion = number("text_share"), number("saturation_share"), number("motion_share_per_s")
    colors = row.get("dominant_colors")
    if brightness is None or text is None or saturation is None or motion is None or not colors:
        return None
    is_plain = TEXT_GROUNDS.issuperset(colors) and saturation < TEXT_SATURATION and motion < LITTLE_MOTION
    is_plain &= brightness < TEXT_DARKEST or brightness >= TEXT_BRIGHTEST
    return True if is_plain and text >= MIN_TEXT_SHARE else None


def facts_of_part(facts: Facts, duration_s: float) -> Facts:
    """What a clip's facts say of a part of it: what holds at every moment. Light, colours and motion were measured over
    all of the clip, and may be others in a part."""
    return Facts(
        duration_s=duration_s,
        width_px=facts.width_px,
        height_px=facts.height_px,
        aspect=facts.aspect,
        rate_fps=facts.rate_fps,
        stillness="still" if facts.stillness == "still" else None,
        is_black_and_white=facts.is_black_and_white or None,
    )


def facts_prompt(facts: Facts) -> str:
    """What a model is told of a clip before it looks: a line each fact, empty where there is none."""
    lines = []
    if facts.duration_s is not None:
        lines.append(f"length: {facts.duration_s:.1f} seconds")
    if facts.aspect is not None:
        size = f", {facts.width_px} by {facts.height_px} pixels" if facts.width_px and facts.height_px else ""
        lines.append(f"picture: {facts.aspect}{size}")
    if facts.camera is not None:
        lines.append(f"camera: {facts.camera} ({camera_clause(facts.camera, facts.camera_speed)})")
    if facts.stillness == "still":
        lines.append("motion: none, the picture does not change")
    elif facts.subject_motion is not None:
        lines.append(f"motion apart from the camera's: {facts.subject_motion}")
    if facts.light is not None:
        lines.append(f"light: {'almost black' if facts.light == 'black' else facts.light}")
    if facts.is_black_and_white:
        lines.append("colors: black and white")
    elif facts.colors:
        lines.append(f"colors, the most first: {', '.join(facts.colors)}")
    if facts.is_flashing:
        lines.append("the picture flashes")
    return "\n".join(["Measured, and to be kept to:", *(f"- {line}" for line in lines)]) if lines else ""
