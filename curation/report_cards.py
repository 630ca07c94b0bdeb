"""One clip on a contact sheet, in words and small pictures: of the report, and of a search.

Nothing is escaped here: that is the template's, for all of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from curation import report_words as words
from curation.colors import NAMED
from curation.geometry import Box
from curation.report_caption_words import CaptionsOfClip
from curation.report_clips import Player
from curation.report_data import Limit, ShownClip

# Under this confidence the camera's label may well be wrong.
UNSURE = 0.5

__all__ = ["Card", "Swatch", "card_of", "sign_of"]

# How a name that curation.colors gives is painted: one of its typical tones.
PAINTS = {name: f"#{tones[len(tones) // 2]:06x}" for name, tones in NAMED.items()} | {"black": "#000", "white": "#fff"}


@dataclass(frozen=True, slots=True)
class Swatch:
    """A dominant colour: its name, and how it is painted."""

    name: str
    paint: str


@dataclass(frozen=True, slots=True)
class Card:
    """One clip on a contact sheet, in words."""

    clip_id: str
    name: str
    uri: str
    width: int
    height: int
    coding: str
    facts: tuple[str, ...]
    verdict: tuple[str, ...]
    player: Player
    camera: tuple[str, ...] = ()
    swatches: tuple[Swatch, ...] = ()
    active: Box | None = None  # inside its borders, where it has some
    winner: str | None = None  # the clip that this one is a duplicate of
    winner_is_shown: bool = False
    captions: CaptionsOfClip | None = None  # None on a page without any
    shown_for: str | None = None  # the flag for which it is on the page, beside the fair draw


def card_of(
    clip: ShownClip,
    player: Player,
    on_page: Collection[str] = (),
    captions: CaptionsOfClip | None = None,
    shown_for: str | None = None,
) -> Card:
    """A clip in words. `on_page` are the clips that it can be linked to."""
    row, uri = clip.row, clip.source.get("uri") or "source not in the table"
    coding = "H.264 (encoded)" if row["encoded_because"] else clip.source.get("codec") or "unknown codec"
    facts = (
        f"at {words.timecode(row['start_s'])}",
        words.clock(row["duration_s"]),
        f"{row['width']}×{row['height']}",  # noqa: RUF001 - a times sign
        f"{words.number(row['rate_fps'])} fps",
        f"turned {row['rotation']}°" if row["rotation"] else "",
        "HDR" if clip.source.get("is_hdr") else "",
    )
    name = posixpath.basename(uri.rstrip("/")) or uri
    verdict = _verdict_words(row, clip.limit)
    return Card(
        clip_id=row["clip_id"],
        name=name,
        uri=uri,
        width=row["width"],
        height=row["height"],
        coding=coding,
        facts=facts,
        verdict=verdict,
        player=player,
        camera=_camera_words(row),
        swatches=tuple(Swatch(name, PAINTS[name]) for name in row.get("dominant_colors") or () if name in PAINTS),
        active=_active_box(row),
        winner=row.get("duplicate_of"),
        winner_is_shown=row.get("duplicate_of") in on_page,
        captions=captions,
        shown_for=shown_for,
    )


def _camera_words(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What the camera does: `pan left`, `0.12 sides/s`, and `unsure` where that is so."""
    motion = row.get("camera_motion")
    if motion is None:
        return ()
    speed, confidence = row.get("camera_speed_share_per_s"), row.get("camera_confidence")
    return (
        f"{motion} {row.get('camera_direction') or ''}".strip(),
        "" if motion == "static" or speed is None else f"{words.number(round(speed, 2))} sides/s",
        "unsure" if confidence is not None and confidence < UNSURE else "",
    )


def _active_box(row: Mapping[str, Any]) -> Box | None:
    values = [row.get(f"active_{name}_px") for name in ("x", "y", "width", "height")]
    if any(value is None for value in values):
        return None
    x, y, width, height = map(int, values)  # type: ignore[arg-type]
    return None if (width, height) == (row["width"], row["height"]) else Box(x, y, width, height)


def _verdict_words(row: Mapping[str, Any], limit: Limit | None) -> tuple[str, ...]:
    """The value that spoke against a clip and the threshold that it broke: `duration_s 0.58`, `< min_seconds 1`."""
    if row["keep"]:
        return ()
    if limit is None:
        return (str(row["reason"]),)
    value, threshold = row.get(limit.rule.column), limit.value
    texts = [words.number(value), "(not recorded)" if threshold is None else words.number(threshold)]
    if texts[0] == texts[1]:  # 0.9999 and 1
        texts = [repr(value), repr(threshold)]
    return f"{limit.rule.column} {texts[0]}", f"{sign_of(limit.rule.bound)}\u00a0{limit.rule.threshold} {texts[1]}"


def sign_of(bound: str) -> str:
    return "<" if bound == "min" else ">"
