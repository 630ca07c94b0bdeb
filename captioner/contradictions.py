"""Where a caption says the opposite of what was measured.

Only facts that are sure contradict (`Facts` has no others), and only claims that can mean nothing else (`claims`).
Thresholds leave room: a picture must be bright before "night" is wrong of it, and "dim" contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from captioner.claims import CameraClaim, camera_claims, claims_of
from captioner.facts import Facts

__all__ = ["contradictions_of"]

BRIGHT, DARK = frozenset({"bright", "very bright"}), frozenset({"black", "dark"})
NEUTRAL = frozenset({"black", "white", "gray"})
OPPOSITE: dict[str, str] = {
    "pan left": "pan right",
    "pan right": "pan left",
    "tilt up": "tilt down",
    "tilt down": "tilt up",
    "zoom in": "zoom out",
    "zoom out": "zoom in",
    "roll clockwise": "roll counterclockwise",
    "roll counterclockwise": "roll clockwise",
}


def contradictions_of(text: str, facts: Facts) -> frozenset[str]:
    """Which of `contradicts_light`, `_camera`, `_color` and `_motion` hold. `text` is without what it quotes."""
    return frozenset(f"contradicts_{name}" for name in _contradicted(text, facts))


def _contradicted(text: str, facts: Facts) -> Iterator[str]:
    claims, of_camera = claims_of(text), camera_claims(text)
    if _contradicts_light(claims, facts):
        yield "light"
    if _contradicts_camera(of_camera, facts):
        yield "camera"
    if _contradicts_color(claims, facts):
        yield "color"
    if _contradicts_motion(claims, of_camera, facts):
        yield "motion"


def _contradicts_light(claims: frozenset[str], facts: Facts) -> bool:
    if facts.light in BRIGHT:
        return "dark" in claims
    return (facts.light in DARK and "bright" in claims) or (facts.light == "black" and "some bright" in claims)


def _contradicts_camera(claims: frozenset[CameraClaim], facts: Facts) -> bool:
    """The label is that of the strongest motion, so a weaker one of another kind may be there as well."""
    if facts.camera is None:
        return False
    if facts.camera == "static":
        return bool(claims - {"static"})
    return "static" in claims or OPPOSITE.get(facts.camera) in claims


def _contradicts_color(claims: frozenset[str], facts: Facts) -> bool:
    if facts.is_black_and_white:
        return bool(claims & {"vivid", "some color"})
    has_color = facts.is_black_and_white is False and facts.color_strength != "muted"
    # A tint has one colour; where the names of colours are all neutral there may be less than that.
    is_colorful = has_color and (facts.color_strength == "vivid" or len(set(facts.colors) - NEUTRAL) > 1)
    if is_colorful and "gray" in claims:
        return True
    return (facts.color_strength == "muted" and "vivid" in claims) or (
        facts.color_strength == "vivid" and "muted" in claims
    )


def _contradicts_motion(claims: frozenset[str], of_camera: frozenset[CameraClaim], facts: Facts) -> bool:
    if facts.stillness == "still":
        return "much moves" in claims
    if facts.subject_motion == "much":
        return bool(claims & {"still picture", "nothing moves"})
    if facts.motion != "much":
        return False
    # All of the motion may be the camera's: under it, "nothing moves" is true of what it shows.
    is_the_cameras = facts.camera not in (None, "static") or bool(of_camera - {"static"})
    return "still picture" in claims or ("nothing moves" in claims and not is_the_cameras)
