"""What stands on a report's page, in words: its head, the funnel, the contact sheets, the table of sources.

From records and rows to records of text. Nothing is escaped here: that is the template's, for all of it.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import lance

from curation import report_words as words
from curation.records import SourceState
from curation.report_caption_words import captions_of_clip
from curation.report_cards import Card, card_of, sign_of
from curation.report_clips import Player
from curation.report_data import KEPT, Funnel, ShownClip, Tally
from curation.verdicts import RULES, Thresholds

__all__ = [
    "FunnelRow",
    "Sheet",
    "SourceRow",
    "Tile",
    "clip_funnel",
    "headline",
    "left_out_of",
    "provenance_of",
    "sheets_of",
    "source_funnel",
    "source_row",
    "summary_of",
    "tiles_of",
    "warnings_of",
]


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class FunnelRow:
    label: str
    kind: str
    tally: Tally
    bar_percent: float
    share: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """The contact sheet of one reason."""

    reason: str
    target: str
    is_kept: bool
    total: int
    rule: str | None
    cards: tuple[Card, ...]
    has_captions: bool = False


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of the table of sources, in words."""

    name: str
    uri: str
    kind: str
    state: str
    reason: str | None
    detail: str | None
    clips: str
    length: str
    coding: str
    picture: str
    rate: str
    sound: str
    size: str


# -- the head of the page


def headline(funnel: Funnel) -> str:
    if not funnel.found.count:
        return "No clips yet"
    kept, seen_s = funnel.kept, funnel.seen.seconds
    of_footage = f", {words.share(kept.seconds, seen_s)} of the footage" if seen_s else ""
    return f"{words.count(kept.count)} of {words.count(funnel.found.count)} clips kept{of_footage}"


def tiles_of(funnel: Funnel) -> list[Tile]:
    seen, kept = funnel.seen, funnel.kept
    unused = [(funnel.in_state(state).count, state.value) for state in (SourceState.REJECTED, SourceState.FAILED)]
    unused_words = ", ".join(f"{words.count(n)} {state}" for n, state in unused if n)
    return [
        Tile("sources", words.count(seen.count), unused_words or "all of them curated"),
        Tile("footage seen", words.clock(seen.seconds), f"{words.size(seen.bytes)} of files"),
        Tile("clips kept", words.count(kept.count), f"of {words.count(funnel.found.count)} found"),
        Tile("footage kept", words.clock(kept.seconds), words.share(kept.seconds, seen.seconds) + " of what was seen"),
        Tile("bytes kept", words.size(kept.bytes), words.share(kept.bytes, seen.bytes) + " of the files"),
    ]


def summary_of(funnel: Funnel) -> str:
    if not funnel.seen.count and not funnel.found.count:
        return "the store is empty; python -m jobs.curate fills it"
    states = ", ".join(f"{words.count(n)} {state}" for state in SourceState if (n := funnel.in_state(state).count))
    kept, found = funnel.kept, funnel.found
    return (
        f"sources {words.count(funnel.seen.count)} ({states}); clips {words.count(found.count)} found, "
        f"{words.count(kept.count)} kept ({words.clock(kept.seconds)}, {words.size(kept.bytes)}), "
        f"{words.count(funnel.rejected.count)} rejected"
    )


def provenance_of(sources: lance.LanceDataset, clips: lance.LanceDataset, runs: lance.LanceDataset) -> list[str]:
    """Which state of the store this is: versions, and the last run. A run's config may hold keys and is not shown."""
    lines = [f"sources version {sources.version}, clips version {clips.version}"]
    rows = runs.to_table(columns=["run_id", "state", "started_at", "code_version"]).to_pylist()
    if rows:
        last = max(rows, key=lambda row: (row["started_at"], row["run_id"]))
        lines.append(f"last run {last['run_id']} ({last['state']}, code {last['code_version']})")
    return lines


def warnings_of(funnel: Funnel, thresholds: Mapping[str, Thresholds]) -> list[str]:
    found = []
    if funnel.clips_of_sources != funnel.found.count:
        found.append(
            f"The rows of the sources speak of {words.count(funnel.clips_of_sources)} clips, the table holds "
            f"{words.count(funnel.found.count)}: a run was interrupted or is at work. Start the same command again."
        )
    if len(funnel.thresholds) > 1:
        found.append(
            f"These clips were judged by {len(funnel.thresholds)} sets of thresholds; the commonest is drawn in. "
            "python -m jobs.verdict judges all by one."
        )
    if unknown := [i for i in funnel.thresholds if i not in thresholds]:
        found.append(
            f"No run in the store recorded the thresholds of {sum(funnel.thresholds[i] for i in unknown)} clips."
        )
    return found


def left_out_of(players: Iterable[Player]) -> list[str]:
    """Shown clips that do not play, by what is said of them."""
    why = Counter(player.notes[-1] if player.notes else "" for player in players if player.plays is None)
    return [f"{words.count(n)} of the clips shown do not play: {note}." for note, n in why.most_common()]


# -- the funnel


def source_funnel(funnel: Funnel) -> list[FunnelRow]:
    seen = funnel.seen
    rows = [FunnelRow("seen", "total", seen, 100.0, "")]
    order = list(SourceState)
    for (state, reason), tally in sorted(funnel.sources.items(), key=lambda item: order.index(SourceState(item[0][0]))):
        is_blemish = state == SourceState.CURATED and reason is not None
        label = state if reason is None else f"{state}: {reason}"
        percent = _percent(tally.count, seen.count)
        share = words.share(tally.count, seen.count)
        rows.append(FunnelRow(label, "blemish" if is_blemish else state, tally, percent, share))
    return rows


def clip_funnel(funnel: Funnel) -> list[FunnelRow]:
    """Shares are of time: a long clip weighs more than a short one."""
    found = funnel.found
    whole_s = found.seconds + funnel.trimmed_s
    rows = [FunnelRow("found", "total", found, _percent(found.seconds, whole_s), words.share(found.seconds, whole_s))]
    for reason, tally in funnel.clips.items():
        kind = KEPT if reason == KEPT else "rejected"
        share = words.share(tally.seconds, whole_s)
        rows.append(FunnelRow(reason, kind, tally, _percent(tally.seconds, whole_s), share, _target(reason)))
    if funnel.trimmed_s:
        trimmed = Tally(0, funnel.trimmed_s)
        share = words.share(funnel.trimmed_s, whole_s)
        rows.append(FunnelRow("trimmed off scenes", "trimmed", trimmed, _percent(funnel.trimmed_s, whole_s), share))
    return rows


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0


def _target(reason: str) -> str:
    return "reason-" + re.sub(r"[^0-9A-Za-z_]", "-", reason)


# -- contact sheets


def sheets_of(
    funnel: Funnel,
    shown: Mapping[str, Sequence[ShownClip]],
    players: Mapping[str, Player],
    judged_by: Thresholds | None,
    captions: Mapping[str, Sequence[Mapping[str, Any]]],
    shown_for: Mapping[str, str],
) -> list[Sheet]:
    """`captions` are rows by clip; `shown_for` is the flag for which a clip was added to the draw."""
    sheets = []
    on_page = frozenset(players)
    for reason, some in shown.items():
        has_captions = any(captions.get(clip.row["clip_id"]) for clip in some)
        cards = []
        for clip in sorted(some, key=_place):
            clip_id = clip.row["clip_id"]
            said = captions_of_clip(clip.row, captions.get(clip_id, ())) if has_captions else None
            cards.append(card_of(clip, players[clip_id], on_page, said, shown_for.get(clip_id)))
        total, rule = funnel.clips[reason].count, _rule_of(reason, judged_by)
        sheets.append(Sheet(reason, _target(reason), reason == KEPT, total, rule, tuple(cards), has_captions))
    return sheets


def _place(clip: ShownClip) -> tuple[str, float, str]:
    return clip.source.get("uri") or "", clip.row["start_s"], clip.row["clip_id"]


def _rule_of(reason: str, judged_by: Thresholds | None) -> str | None:
    rule = next((rule for rule in RULES if rule.reason == reason), None)
    if rule is None:
        return None
    value = words.number(getattr(judged_by, rule.threshold)) if judged_by else "not recorded"
    return f"{rule.column} {sign_of(rule.bound)} {rule.threshold} = {value}"


# -- sources


def source_row(row: Mapping[str, Any], kept: int) -> SourceRow:
    uri, state = row["uri"], row["state"]
    has_clips = state == SourceState.CURATED
    return SourceRow(
        name=posixpath.basename(uri.rstrip("/")) or uri,
        uri=uri,
        kind=state if state in list(SourceState) else "",
        state=state,
        reason=row["reason"],
        detail=row["detail"],
        clips=f"{words.count(kept)} of {words.count(row['clips'] or 0)}" if has_clips else "",
        length="" if row["duration_s"] is None else words.clock(row["duration_s"]),
        coding=_joined(row["codec"], row["container"] and f"in {row['container'].split(',')[0]}"),
        picture=_picture_words(row),
        rate=_rate_words(row),
        sound=_joined(row["audio_codec"], row["audio_channels"] and f"{row['audio_channels']} ch"),
        size="" if row["bytes"] is None else words.size(row["bytes"]),
    )


def _picture_words(row: Mapping[str, Any]) -> str:
    return _joined(
        row["width"] and f"{row['width']}×{row['height']}",  # noqa: RUF001 - a times sign
        row["rotation"] and f"turned {row['rotation']}°",
        row["bit_depth"] and row["bit_depth"] > 8 and f"{row['bit_depth']} bits",
        row["is_hdr"] and f"HDR ({row['color_transfer']})",
        row["is_interlaced"] and "interlaced",
    )


def _rate_words(row: Mapping[str, Any]) -> str:
    if row["rate_num"]:
        return words.number(float(Fraction(row["rate_num"], row["rate_den"])))
    if not row["is_variable_rate"]:
        return ""
    average = row["average_rate_fps"]
    return "variable" if average is None else f"variable, {words.number(average)} on average"


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)
