"""What a report says of captions, read from a store: counts of all of them, rows only of the clips that are shown.

Counting reads columns in batches, so memory does not grow. A store of an older version has no captions: None then.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.compute import MatchSubstringOptions

from curation.report_data import LOOK_UP_IDS, ShownClip, kept_clips, sampled_rows
from curation.store import Store
from curation.verdicts import Thresholds

__all__ = [
    "CaptionCounts",
    "CaptionTally",
    "Missing",
    "Speaker",
    "captions_of",
    "flagged_clips",
    "kind_order",
    "read_captions",
]

KINDS = ("original", "short", "descriptive", "motion")
WORD = r"[^\s\p{Z}]+"
MAX_WORDS = 400  # a longer caption is counted with those of so many words
COVERAGE_CLIPS = 10_000
CANDIDATES_A_FLAG = 200  # clips that are remembered of each flag, the smallest ids: some may be rejected by now
MAX_FLAGS = 64

COUNTED = [
    *("clip_id", "captioner", "model", "model_revision", "kind", "prompt_id"),
    *("text", "window_index", "flags", "tokens_out"),
]
SHOWN = [
    *("caption_id", "clip_id", "kind", "text", "fields", "window_index", "window_start_pts", "window_end_pts"),
    *("captioner", "model", "model_revision", "prompt_id", "attempts", "tokens_in", "tokens_out", "finish_reason"),
    *("flags", "agreement"),
]


class Speaker(NamedTuple):
    """Who says captions of a kind, and asked how."""

    captioner: str
    model: str
    model_revision: str
    kind: str
    prompt_id: str


@dataclass(frozen=True, slots=True)
class CaptionTally:
    """How many captions: all, of whole clips, without a text, with a flag; their words, and the tokens of a model."""

    count: int = 0
    whole: int = 0
    silent: int = 0
    flagged: int = 0
    words: int = 0
    tokens_out: int = 0

    def __add__(self, other: CaptionTally) -> CaptionTally:
        return CaptionTally(
            self.count + other.count,
            self.whole + other.whole,
            self.silent + other.silent,
            self.flagged + other.flagged,
            self.words + other.words,
            self.tokens_out + other.tokens_out,
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """Of `drawn` kept clips, a fair draw of all or all of them, so many have no caption with a text."""

    clips: int
    drawn: int


@dataclass(frozen=True, slots=True)
class CaptionCounts:
    """All captions of a store, counted.

    `flags` counts captions by flag, commonest first. `words` are captions by kind and number of words, the last of them
    MAX_WORDS and more. `flagged` are some clips with a caption of each flag, in the order of a fair draw.
    """

    speakers: dict[Speaker, CaptionTally]
    flags: dict[str, int]
    words: dict[str, tuple[int, ...]]
    flagged: dict[str, tuple[str, ...]]
    missing: Missing

    @property
    def total(self) -> CaptionTally:
        return sum(self.speakers.values(), CaptionTally())


def kind_order(kind: str) -> tuple[int, str]:
    """A key that sorts kinds as they are spoken of; unknown ones last."""
    return (KINDS.index(kind) if kind in KINDS else len(KINDS)), kind


# -- counting


def read_captions(store: Store) -> CaptionCounts | None:
    """Counts of all captions; None where the store has no table of them. Raises StoreUnavailable."""
    captions = store.find("captions")
    if captions is None:
        return None
    speakers: defaultdict[Speaker, CaptionTally] = defaultdict(CaptionTally)
    words: defaultdict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(MAX_WORDS + 1, np.int64))
    flags: Counter[str] = Counter()
    flagged: defaultdict[str, set[str]] = defaultdict(set)
    with store.reading():
        for batch in captions.to_batches(columns=COUNTED):
            _count_speakers(batch, speakers, words)
            _count_flags(batch, flags, flagged)
        missing = _missing(store.open("clips"), captions)
    return CaptionCounts(
        dict(sorted(speakers.items(), key=lambda item: (item[0][:3], kind_order(item[0].kind), item[0].prompt_id))),
        dict(sorted(flags.items(), key=lambda item: (-item[1], item[0]))),
        {kind: tuple(words[kind].tolist()) for kind in sorted(words, key=kind_order)},
        {flag: tuple(heapq.nsmallest(CANDIDATES_A_FLAG, ids)) for flag, ids in flagged.items()},
        missing,
    )


def _count_speakers(
    batch: pa.RecordBatch, speakers: dict[Speaker, CaptionTally], words: dict[str, NDArray[np.int64]]
) -> None:
    table = pa.table(
        {
            **{name: batch[name] for name in Speaker._fields},
            "whole": batch["window_index"].is_null(),
            "silent": batch["text"].is_null(),
            "flagged": [bool(flags) for flags in batch["flags"].to_pylist()],
            "words": pc.call_function("count_substring_regex", [batch["text"]], MatchSubstringOptions(WORD)),
            "tokens_out": batch["tokens_out"],
        }
    )
    sums = table.group_by(list(Speaker._fields)).aggregate(
        [([], "count_all"), *((name, "sum") for name in ("whole", "silent", "flagged", "words", "tokens_out"))]
    )
    for row in sums.to_pylist():
        tally = (row[f"{name}_sum"] or 0 for name in ("whole", "silent", "flagged", "words", "tokens_out"))
        speakers[Speaker(*(row[name] for name in Speaker._fields))] += CaptionTally(row["count_all"], *tally)
    spoken = table.filter(table["words"].is_valid())
    for kind in spoken["kind"].unique().to_pylist():
        of_kind = spoken.filter(pc.field("kind") == kind)["words"].to_numpy()
        words[kind] += np.bincount(np.minimum(of_kind, MAX_WORDS), minlength=MAX_WORDS + 1)


def _count_flags(batch: pa.RecordBatch, flags: Counter[str], flagged: dict[str, set[str]]) -> None:
    pairs = pa.table({"flag": batch["flags"].flatten(), "at": batch["flags"].value_parent_indices()})
    pairs = pairs.group_by(["flag", "at"]).aggregate([])
    names = pairs["flag"].to_pylist()
    flags.update(names)
    for flag, clip_id in zip(names, batch["clip_id"].take(pairs["at"].combine_chunks()).to_pylist(), strict=True):
        if flag not in flagged and len(flagged) >= MAX_FLAGS:
            continue
        flagged[flag].add(clip_id)
        if len(flagged[flag]) > 2 * CANDIDATES_A_FLAG:
            flagged[flag] = set(heapq.nsmallest(CANDIDATES_A_FLAG, flagged[flag]))


def _missing(clips: lance.LanceDataset, captions: lance.LanceDataset) -> Missing:
    drawn = {row["clip_id"] for row in sampled_rows(clips, "keep", ["clip_id"], COVERAGE_CLIPS)}
    without = set(drawn)
    if drawn:
        spoken = (pc.field("clip_id") <= max(drawn)) & pc.field("text").is_valid()
        for batch in captions.to_batches(columns=["clip_id"], filter=spoken):
            without.difference_update(batch["clip_id"].to_pylist())
    return Missing(len(without), len(drawn))


# -- of the clips that are shown


def captions_of(store: Store, clip_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """All captions of some clips, by clip id: whole clip first, then windows in order of time, in the order of kinds.

    A clip without captions has an empty list; so have all where the store has no table of captions. Raises
    StoreUnavailable.
    """
    found: dict[str, list[dict[str, Any]]] = {clip_id: [] for clip_id in clip_ids}
    captions = store.find("captions")
    if captions is None:
        return found
    in_order = sorted(found)
    with store.reading():
        for start in range(0, len(in_order), LOOK_UP_IDS):
            wanted = pc.field("clip_id").isin(in_order[start : start + LOOK_UP_IDS])
            for batch in captions.to_batches(columns=SHOWN, filter=wanted):
                for row in batch.to_pylist():
                    found[row["clip_id"]].append(row)
    for rows in found.values():
        rows.sort(key=_place)
    return found


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    window = row["window_index"]
    times = (-1, 0, 0) if window is None else (row["window_start_pts"], row["window_end_pts"], window)
    who = (row["captioner"], row["model"], row["model_revision"], row["prompt_id"], row["caption_id"])
    return *times, *kind_order(row["kind"]), *who


def flagged_clips(
    store: Store,
    counts: CaptionCounts | None,
    shown: Sequence[str],
    limit: int,
    thresholds: Mapping[str, Thresholds],
) -> dict[str, list[ShownClip]]:
    """Kept clips to show beside those in `shown`, so that each flag has up to `limit` clips to look at, by flag.

    A clip that has several flags is under the first, the rarest.
    """
    if counts is None or not limit:
        return {}
    on_page, added = set(shown), {}
    clips, sources = store.open("clips"), store.open("sources")
    for flag in sorted(counts.flagged, key=lambda flag: (counts.flags[flag], flag)):
        lacking = limit - sum(clip_id in on_page for clip_id in counts.flagged[flag])
        candidates = [clip_id for clip_id in counts.flagged[flag] if clip_id not in on_page]
        if lacking > 0 and candidates:
            some = kept_clips(clips, sources, candidates, lacking, thresholds)
            on_page.update(clip.row["clip_id"] for clip in some)
            added[flag] = some
    return {flag: some for flag, some in added.items() if some}
