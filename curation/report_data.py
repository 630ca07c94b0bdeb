"""What a report says, read from a store. Memory stays flat: whole tables are only ever counted, rows are only sampled.

The sample of clips that is shown of each reason is the one with the smallest ids. An id is a hash, so this is a fair
draw; it is the same on every machine, and clips that are added later change little of it.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from curation.records import SourceState
from curation.tables import CLIPS
from curation.verdicts import RULES, Rule, Thresholds, recorded_thresholds, thresholds_id

__all__ = [
    "KEPT",
    "Funnel",
    "Limit",
    "ShownClip",
    "Tally",
    "kept_by_source",
    "kept_clips",
    "limits_on",
    "outcomes_of",
    "read_funnel",
    "read_thresholds",
    "sample_clips",
    "sample_sources",
    "sampled_rows",
    "sources_of",
]

KEPT = "kept"
UNNAMED = "unnamed"  # a rejected row without a reason: no code writes one, but none may get lost here
LOOK_UP_IDS = 500

CLIP_COLUMNS = [name for name in CLIPS.names if name not in ("thumbnail", "video", "perceptual_hash", "fingerprint")]
SOURCE_COLUMNS = [
    *("source_id", "uri", "bytes", "modified", "state", "reason", "detail", "container", "codec", "pix_fmt"),
    *("bit_depth", "width", "height", "coded_height", "rotation", "rate_num", "rate_den", "is_variable_rate"),
    *("average_rate_fps", "duration_s", "color_transfer", "is_hdr", "is_interlaced"),
    *("audio_codec", "audio_rate_hz", "audio_channels", "clips"),
]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many, how long, how large."""

    count: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.count + other.count, self.seconds + other.seconds, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Funnel:
    """Sources by state and reason, clips by `kept` or the reason of rejection, commonest first."""

    sources: dict[tuple[str, str | None], Tally]
    clips: dict[str, Tally]
    trimmed_s: float
    clips_of_sources: int  # what the rows of `sources` say: another number where a run was interrupted
    thresholds: dict[str, int]  # id of the thresholds → clips judged by them

    @property
    def seen(self) -> Tally:
        return sum(self.sources.values(), Tally())

    @property
    def found(self) -> Tally:
        return sum(self.clips.values(), Tally())

    @property
    def kept(self) -> Tally:
        return self.clips.get(KEPT, Tally())

    @property
    def rejected(self) -> Tally:
        return sum((tally for reason, tally in self.clips.items() if reason != KEPT), Tally())

    def in_state(self, state: str) -> Tally:
        return sum((tally for (of, _), tally in self.sources.items() if of == state), Tally())


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule with the threshold that it was asked with; None where no run in the store recorded it."""

    rule: Rule
    value: float | bool | None


@dataclass(frozen=True, slots=True)
class ShownClip:
    """A row of the clips table without its thumbnail and video, and the row of its source."""

    reason: str
    row_id: int
    row: Mapping[str, Any]
    source: Mapping[str, Any]
    limit: Limit | None  # the one that it broke


# -- the funnel


def read_funnel(sources: lance.LanceDataset, clips: lance.LanceDataset) -> Funnel:
    """What was seen and what became of it, checked to add up. Reads a few columns of both tables, once."""
    by_state: defaultdict[tuple[str, str | None], Tally] = defaultdict(Tally)
    trimmed_s, clips_of_sources = 0.0, 0
    for row in _rows(sources, ["state", "reason", "duration_s", "bytes", "trimmed_s", "clips"]):
        by_state[row["state"], row["reason"]] += Tally(1, row["duration_s"] or 0.0, row["bytes"] or 0)
        trimmed_s += row["trimmed_s"] or 0.0
        clips_of_sources += row["clips"] or 0
    by_outcome, judged = _clip_tallies(clips)
    funnel = Funnel(
        dict(sorted(by_state.items(), key=lambda item: (-item[1].count, item[0][0], item[0][1] or ""))),
        dict(sorted(by_outcome.items(), key=lambda item: (item[0] != KEPT, -item[1].count, item[0]))),
        trimmed_s,
        clips_of_sources,
        dict(judged.most_common()),
    )
    assert funnel.seen.count == sources.count_rows(), "every source is in one state"
    assert funnel.kept.count == clips.count_rows("keep"), "a kept clip has no reason"
    assert funnel.found.count == clips.count_rows(), "kept + rejected = found"
    return funnel


def _clip_tallies(clips: lance.LanceDataset) -> tuple[Mapping[str, Tally], Counter[str]]:
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    judged: Counter[str] = Counter()
    for batch in clips.to_batches(columns=["keep", "reason", "duration_s", "video_bytes", "thresholds_id"]):
        table = pa.table({"outcome": outcomes_of(batch), "s": batch["duration_s"], "bytes": batch["video_bytes"]})
        sums = table.group_by("outcome").aggregate([([], "count_all"), ("s", "sum"), ("bytes", "sum")])
        for row in sums.to_pylist():
            tallies[row["outcome"]] += Tally(row["count_all"], row["s_sum"] or 0.0, row["bytes_sum"] or 0)
        judged.update(batch["thresholds_id"].to_pylist())
    return tallies, judged


def outcomes_of(batch: pa.RecordBatch) -> list[str]:
    """`kept`, or the reason of rejection, of every row."""
    pairs = zip(batch["keep"].to_pylist(), batch["reason"].to_pylist(), strict=True)
    return [KEPT if keep else reason or UNNAMED for keep, reason in pairs]


# -- sources


def sample_sources(sources: lance.LanceDataset, limit: int) -> list[dict[str, Any]]:
    """At most `limit` sources: failed ones first, then rejected ones, then those with a blemish, each by address."""
    order = {SourceState.FAILED: 0, SourceState.REJECTED: 1}

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return order.get(row["state"], 2), row["reason"] is None, row["uri"], row["source_id"]

    return heapq.nsmallest(limit, _rows(sources, SOURCE_COLUMNS), key=key)


def kept_by_source(clips: lance.LanceDataset, source_ids: Iterable[str]) -> Counter[str]:
    """How many clips of these sources are kept."""
    wanted = frozenset(source_ids)
    kept: Counter[str] = Counter()
    for batch in clips.to_batches(columns=["source_id"], filter="keep"):
        kept.update(source_id for source_id in batch["source_id"].to_pylist() if source_id in wanted)
    return kept


def _rows(table: lance.LanceDataset, columns: Sequence[str], where: str | None = None) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(columns=list(columns), filter=where):
        yield from batch.to_pylist()


# -- thresholds


def read_thresholds(runs: lance.LanceDataset) -> dict[str, Thresholds]:
    """The thresholds of every run by their id, and the default ones: an id is a hash, so a match is certain."""
    found = [Thresholds()]
    for row in _rows(runs, ["config"]):
        try:
            found += _thresholds_in(json.loads(row["config"]))
        except ValueError:  # not JSON, or thresholds that were possible once
            continue
    return {thresholds_id(thresholds): thresholds for thresholds in found}


def _thresholds_in(config: Any) -> Iterator[Thresholds]:
    """Wherever a job's config nests them: every mapping that has just their fields."""
    if not isinstance(config, dict):
        return
    if (thresholds := recorded_thresholds(config)) is not None:
        yield thresholds
    for value in config.values():
        yield from _thresholds_in(value)


def limits_on(column: str, thresholds: Thresholds | None) -> tuple[Limit, ...]:
    """The rules that look at a column."""
    return tuple(_limit(rule, thresholds) for rule in RULES if rule.column == column)


def _broken_limit(row: Mapping[str, Any], thresholds: Thresholds | None) -> Limit | None:
    """The rule by which a row was rejected. None where it was kept or its reason is no rule's."""
    return next((_limit(rule, thresholds) for rule in RULES if rule.reason == row["reason"]), None)


def _limit(rule: Rule, thresholds: Thresholds | None) -> Limit:
    return Limit(rule, getattr(thresholds, rule.threshold) if thresholds else None)


# -- clips


def sample_clips(
    clips: lance.LanceDataset,
    sources: lance.LanceDataset,
    reasons: Iterable[str],
    limit: int,
    thresholds: Mapping[str, Thresholds],
) -> dict[str, list[ShownClip]]:
    """At most `limit` clips of each reason, in the order of the draw: any first few of them are a fair draw too."""
    columns = [name for name in CLIP_COLUMNS if name in clips.schema.names]  # an older store has fewer scores
    rows = {reason: sampled_rows(clips, _where(reason), columns, limit) for reason in reasons}
    by_id = sources_of(sources, {row["source_id"] for some in rows.values() for row in some})
    return {reason: [_shown(reason, row, by_id, thresholds) for row in some] for reason, some in rows.items()}


def kept_clips(
    clips: lance.LanceDataset,
    sources: lance.LanceDataset,
    clip_ids: Sequence[str],
    limit: int,
    thresholds: Mapping[str, Thresholds],
) -> list[ShownClip]:
    """At most `limit` of these clips, those that are kept, in the order of the draw."""
    columns = [name for name in CLIP_COLUMNS if name in clips.schema.names]
    rows = sampled_rows(clips, pc.field("keep") & pc.field("clip_id").isin(list(clip_ids)), columns, limit)
    by_id = sources_of(sources, {row["source_id"] for row in rows})
    return [_shown(KEPT, row, by_id, thresholds) for row in rows]


def _shown(
    reason: str,
    row: dict[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
    thresholds: Mapping[str, Thresholds],
) -> ShownClip:
    row_id, limit = row.pop("_rowid"), _broken_limit(row, thresholds.get(row["thresholds_id"]))
    return ShownClip(reason, row_id, row, sources.get(row["source_id"], {}), limit)


def _where(reason: str) -> str:
    if reason == KEPT:
        return "keep"
    if reason == UNNAMED:
        return "NOT keep AND reason IS NULL"
    quoted = reason.replace("'", "''")
    return f"NOT keep AND reason = '{quoted}'"


def sampled_rows(
    clips: lance.LanceDataset, where: str | pc.Expression | None, columns: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """The rows with the smallest ids, `_rowid` included.

    Lance sorts the ids alone, keeps only so many while it does, and reads the other columns of those that are left.
    """
    scan = clips.scanner(
        columns=list(columns),
        filter=where,
        order_by=["clip_id"],
        limit=limit,
        with_row_id=True,
        late_materialization=True,
    )
    return scan.to_table().to_pylist()


def sources_of(sources: lance.LanceDataset, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Rows of the sources with these ids, as far as there are any."""
    found: dict[str, dict[str, Any]] = {}
    in_order = sorted(ids)
    for start in range(0, len(in_order), LOOK_UP_IDS):
        quoted = ", ".join(f"'{i}'" for i in in_order[start : start + LOOK_UP_IDS])
        rows = _rows(sources, SOURCE_COLUMNS, f"source_id IN ({quoted})")
        found.update((row["source_id"], row) for row in rows)
    return found
