"""Captions as they stand on a report's page: on the card of a clip, and all of them counted.

From rows to records of text. Nothing is escaped here: that is the template's, for all of it. A caption is as hostile as
a file's name, and may be as long as a model cares to talk: only its beginning is shown then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from curation import report_words as words
from curation.report_captions import MAX_WORDS, CaptionCounts, CaptionTally, Missing, Speaker
from curation.report_charts import Chart, chart_of
from curation.report_distributions import Column, Histogram

__all__ = ["CaptionLine", "CaptionSection", "CaptionsOfClip", "captions_of_clip", "section_of", "who", "whole_text"]

MAX_CAPTIONS = 240  # of one clip
MAX_TEXT, MAX_FIELDS = 4000, 8000  # characters of one caption
MAX_SPEAKERS, MAX_FLAG_ROWS = 60, 30
SHORT_ID = 8
WORD_STEPS, WORD_BINS = (1, 2, 5, 10, 20), 30


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """One caption in words. `said` is None where nothing could be said, and `nothing` says why."""

    kind: str
    who: str
    prompt_id: str
    prompt: str
    said: str | None
    nothing: str
    flags: tuple[str, ...]
    flags_json: str
    facts: tuple[str, ...]
    fields: str | None


@dataclass(frozen=True, slots=True)
class KindLines:
    """What everybody says of one kind."""

    kind: str
    lines: tuple[CaptionLine, ...]


@dataclass(frozen=True, slots=True)
class WindowLines:
    """The captions of a window; `when` is on the clip's own clock."""

    when: str
    kinds: tuple[KindLines, ...]


@dataclass(frozen=True, slots=True)
class CaptionsOfClip:
    whole: tuple[KindLines, ...]
    windows: tuple[WindowLines, ...]
    left_out: int

    @property
    def is_empty(self) -> bool:
        return not (self.whole or self.windows)


@dataclass(frozen=True, slots=True)
class SpeakerRow:
    speaker: Speaker
    who: str
    revision: str
    prompt: str
    tally: CaptionTally
    flagged: str
    words: str


@dataclass(frozen=True, slots=True)
class FlagRow:
    flag: str
    count: int
    percent: float
    share: str


@dataclass(frozen=True, slots=True)
class CaptionSection:
    """All captions in words. `spoken` says who spoke, and how many captions."""

    spoken: tuple[tuple[str, int], ...]
    total: CaptionTally
    missing: str
    rows: tuple[SpeakerRow, ...]
    rows_left_out: int
    flags: tuple[FlagRow, ...]
    charts: tuple[Chart, ...]
    filter_flags: tuple[str, ...]
    filter_kinds: tuple[str, ...]
    filter_who: tuple[str, ...]


# -- on a card


def captions_of_clip(clip: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> CaptionsOfClip:
    """A clip's captions in words; `rows` are in the order of report_captions.captions_of."""
    shown = rows[:MAX_CAPTIONS]
    tick_s = clip["time_base_num"] / clip["time_base_den"] if clip["time_base_den"] else 0.0
    windows = [row for row in shown if row["window_index"] is not None]
    return CaptionsOfClip(
        _by_kind([row for row in shown if row["window_index"] is None]),
        tuple(
            WindowLines(_when(span, clip["start_pts"], tick_s), _by_kind(list(some)))
            for span, some in groupby(windows, key=lambda row: (row["window_start_pts"], row["window_end_pts"]))
        ),
        len(rows) - len(shown),
    )


def _by_kind(rows: Sequence[Mapping[str, Any]]) -> tuple[KindLines, ...]:
    lines: dict[str, list[CaptionLine]] = {}
    for row in rows:
        lines.setdefault(row["kind"], []).append(_line(row))
    return tuple(KindLines(kind, tuple(some)) for kind, some in lines.items())


def _when(span: tuple[int, int], clip_start: int, tick_s: float) -> str:
    begin, end = (words.timecode(max(0.0, (pts - clip_start) * tick_s)) for pts in span)
    return f"{begin} to {end}"


def _line(row: Mapping[str, Any]) -> CaptionLine:
    flags = tuple(row["flags"] or ())
    return CaptionLine(
        kind=row["kind"],
        who=who(row["captioner"], row["model"]),
        prompt_id=row["prompt_id"],
        prompt=row["prompt_id"][:SHORT_ID],
        said=None if row["text"] is None else whole_text(row["text"]),
        nothing=f"nothing could be said: {', '.join(flags) or 'no reason was recorded'}",
        flags=flags,
        flags_json=json.dumps(flags),
        facts=_facts(row),
        fields=None if row["fields"] is None else _pretty(row["fields"]),
    )


def _facts(row: Mapping[str, Any]) -> tuple[str, ...]:
    tokens = [f"{words.count(row[f'tokens_{way}'])} {way}" for way in ("in", "out") if row[f"tokens_{way}"] is not None]
    attempts, finish, agreement = (row[name] for name in ("attempts", "finish_reason", "agreement"))
    return (
        f"tokens {', '.join(tokens)}" if tokens else "",
        "" if agreement is None else f"agreement {agreement:.2f}",
        f"asked {attempts} times" if attempts and attempts > 1 else "",
        f"ended by {finish}" if finish not in (None, "stop") else "",
    )


def who(captioner: str, model: str) -> str:
    """The captioner and its model as one name."""
    return f"{captioner} · {model}" if model and model != captioner else captioner


def whole_text(text: str, limit: int = MAX_TEXT) -> str:
    """A text, or its beginning and how much more there is."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({words.count(len(text) - limit)} more characters)"


def _pretty(fields: str) -> str:
    """JSON with a line for each field, what cannot be seen made visible; as it stands where it is no JSON."""
    try:
        text = json.dumps(json.loads(fields[: 4 * MAX_FIELDS]), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = fields
    return "\n".join(map(words.visible, whole_text(text, MAX_FIELDS).split("\n")))


# -- all of them


def section_of(counts: CaptionCounts) -> CaptionSection:
    """All captions of a store, in words and charts."""
    total, spoken = counts.total, {}
    for speaker, tally in counts.speakers.items():
        words_of_speaker = _spoken(speaker.captioner, speaker.model)
        spoken[words_of_speaker] = spoken.get(words_of_speaker, 0) + tally.count
    names = sorted({who(speaker.captioner, speaker.model) for speaker in counts.speakers})
    return CaptionSection(
        spoken=tuple(spoken.items()),
        total=total,
        missing=_missing_words(counts.missing),
        rows=tuple(_speaker_row(*item) for item in [*counts.speakers.items()][:MAX_SPEAKERS]),
        rows_left_out=max(0, len(counts.speakers) - MAX_SPEAKERS),
        flags=tuple(
            FlagRow(flag, n, round(100 * n / total.count, 3), words.share(n, total.count))
            for flag, n in [*counts.flags.items()][:MAX_FLAG_ROWS]
        ),
        charts=tuple(_words_chart(kind, of_kind) for kind, of_kind in counts.words.items()),
        filter_flags=tuple(counts.flags),
        filter_kinds=tuple(dict.fromkeys([*counts.words, *(speaker.kind for speaker in counts.speakers)])),
        filter_who=tuple(names),
    )


def _spoken(captioner: str, model: str) -> str:
    return {
        "facts": "from measurements (facts), no model",
        "vllm": f"captioned by the real vLLM with {model}",
        "openai": f"captioned by {model} through OpenAI's API",
        "side_file": "originals from side files",
        "table": "originals from a table",
    }.get(captioner, f"captioned by {captioner} with {model}")


def _missing_words(missing: Missing) -> str:
    if not missing.drawn:
        return ""
    if not missing.clips:
        return "Every kept clip has a caption."
    n, drawn = words.count(missing.clips), words.count(missing.drawn)
    return f"{n} of {drawn} kept clips {'has' if missing.clips == 1 else 'have'} no caption with a text."


def _speaker_row(speaker: Speaker, tally: CaptionTally) -> SpeakerRow:
    said = tally.count - tally.silent
    return SpeakerRow(
        speaker=speaker,
        who=who(speaker.captioner, speaker.model),
        revision=speaker.model_revision[:SHORT_ID],
        prompt=speaker.prompt_id[:SHORT_ID],
        tally=tally,
        flagged=words.share(tally.flagged, tally.count),
        words=words.number(round(tally.words / said, 1)) if said else "",
    )


def _words_chart(kind: str, counts: Sequence[int]) -> Chart:
    most = max((n for n, captions in enumerate(counts) if captions), default=0)
    least = next((n for n, captions in enumerate(counts) if captions), 0)
    step = next(step for step in WORD_STEPS if most / step <= WORD_BINS or step == WORD_STEPS[-1])
    first = least // step * step
    starts = range(first, most + 1, step)
    nothing = (0,) * len(starts)
    histogram = Histogram(
        column=Column(f"words: {kind}", "how long these captions are", is_integer=True),
        edges=tuple(float(edge) for edge in (*starts, starts[-1] + step)),
        is_log=False,
        labels=(),
        kept=tuple(sum(counts[start : start + step]) for start in starts),
        rejected_here=nothing,
        rejected_elsewhere=nothing,
        missing=0,
        minimum=least,
        maximum=most if most < MAX_WORDS else MAX_WORDS + step,
        limits=(),
    )
    return chart_of(histogram, ("captions", "", ""))
