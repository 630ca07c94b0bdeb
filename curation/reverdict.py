"""Giving verdicts again from stored scores: no decoding, and no video is copied.

A clip that is rejected now keeps its bytes, so nothing is lost by trying a threshold. A clip that is kept now and was
never cut is cut from its source, packet by packet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from curation.curate import CannotCut, CurateConfig, CutConfig, cut_span, cutter_of, video_columns
from curation.duplicate_verdicts import (
    PAIR_COLUMNS,
    RANK_COLUMNS,
    DuplicateConfig,
    Loss,
    losses_of,
    rows_by_id,
    verdict_columns,
)
from curation.ingest import file_hash, local_copy
from curation.media import Limits
from curation.records import BadSource, SourceState, Span
from curation.score_batches import model_scores_by_clip, rule_columns
from curation.store import Store, blob_table
from curation.tables import CLIPS
from curation.verdicts import Thresholds, thresholds_id, verdict

__all__ = ["Changes", "UncutClips", "apply_verdicts", "cut_now_kept", "losses_by"]

# Clips whose bytes are in memory at once.
CUT_AT_ONCE = 8
VERDICT_COLUMNS = ("keep", "reason", "duplicate_of", "duplicate_kind", "thresholds_id")


@dataclass(slots=True)
class Changes:
    """What new thresholds changed: clips and seconds by (verdict before, verdict now), `kept` or a reason."""

    clips: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: Counter[tuple[str, str]] = field(default_factory=Counter)
    unchanged: int = 0

    def add(self, before: str | None, now: str | None, duration_s: float) -> None:
        if before == now:
            self.unchanged += 1
            return
        self.clips[before or "kept", now or "kept"] += 1
        self.seconds[before or "kept", now or "kept"] += duration_s  # type: ignore[assignment]

    def merge(self, other: Changes) -> None:
        self.clips += other.clips
        self.seconds += other.seconds
        self.unchanged += other.unchanged


@dataclass(frozen=True, slots=True)
class UncutClips:
    """Clips of one source that the thresholds keep and that have no video yet."""

    source_id: str
    clip_ids: tuple[str, ...]


def apply_verdicts(
    store: Store,
    thresholds: Thresholds,
    changes: Changes,
    before_commit: Callable[[], None] | None,
    same: DuplicateConfig | None = None,
) -> list[UncutClips]:
    """Give every clip its verdict and land those that need no cutting in one version; the clips that do.

    `before_commit` is called right before anything lands; without it nothing lands, and what would change is counted.
    Memory holds one fragment's scores, not the table, and the pairs of duplicates. A clip that is yet to be cut
    may beat another: settle them again once it is, because cutting may fail.
    """
    clips = store.open("clips")
    losses = losses_by(store, thresholds, same or DuplicateConfig())
    updated: list[lance.FragmentMetadata] = []
    modified: list[int] = []
    uncut: dict[str, list[str]] = {}
    for fragment in clips.get_fragments():
        rows = _rows_of(store, fragment)
        decided = _decide(rows, thresholds, losses, changes, uncut, counts_uncut=before_commit is None)
        if decided is not None and before_commit is not None:
            metadata, modified = fragment.update_columns(decided, left_on="clip_id", right_on="clip_id")
            updated.append(metadata)
    if updated and before_commit is not None:
        before_commit()
        operation = lance.LanceOperation.Update(updated_fragments=updated, fields_modified=modified)
        try:
            lance.LanceDataset.commit(
                store.table_uri("clips"),
                operation,
                read_version=clips.version,
                storage_options=store.storage_options,
            )
        except OSError as error:
            raise store.unavailable("written", error) from error
    return [UncutClips(source_id, tuple(clip_ids)) for source_id, clip_ids in uncut.items()]


def _rows_of(store: Store, fragment: Any) -> list[dict[str, Any]]:
    """What rules look at, measured or said by a model, and what there was before."""
    known = {"clip_id", "source_id", "duration_s", "video_bytes", *VERDICT_COLUMNS, *rule_columns(fragment.schema)}
    rows = fragment.to_table(columns=sorted(known & set(fragment.schema.names))).to_pylist()
    said = model_scores_by_clip(store, [row["clip_id"] for row in rows])
    return [row | said[row["clip_id"]] for row in rows]


def _decide(
    rows: Iterable[dict[str, Any]],
    thresholds: Thresholds,
    losses: Mapping[str, Loss],
    changes: Changes,
    uncut: dict[str, list[str]],
    *,
    counts_uncut: bool,
) -> pa.Table | None:
    """New verdicts of a fragment's clips as a table to join, None if none is new. Uncut clips are only noted."""
    current = thresholds_id(thresholds)
    decided = []
    for row in rows:
        reason = verdict(row, thresholds)
        loss = losses.get(row["clip_id"]) if reason is None else None
        if reason is None and loss is None and row["video_bytes"] is None:
            uncut.setdefault(row["source_id"], []).append(row["clip_id"])
            if counts_uncut:
                changes.add(row["reason"], None, row["duration_s"])
            continue
        now = verdict_columns(loss, reason)
        changes.add(row["reason"], now["reason"], row["duration_s"])
        now |= {"thresholds_id": current}
        if any(row.get(name) != value for name, value in now.items()):
            decided.append({"clip_id": row["clip_id"], **now})
    if not decided:
        return None
    schema = pa.schema([CLIPS.field("clip_id"), *(CLIPS.field(name) for name in VERDICT_COLUMNS)])
    return pa.Table.from_pylist(decided, schema=schema)


def losses_by(store: Store, thresholds: Thresholds, same: DuplicateConfig) -> dict[str, Loss]:
    """The duplicates among the clips that these thresholds keep."""
    clips = store.open("clips")
    if "duplicate_of" not in clips.schema.names:
        return {}  # a store from before duplicates were looked for, in a dry run
    pairs = store.open("duplicates").to_table(columns=list(PAIR_COLUMNS)).to_pylist()
    ids = {pair[name] for pair in pairs for name in ("clip_id", "other_id")}
    rows = rows_by_id(clips, ids, {*RANK_COLUMNS, *rule_columns(clips.schema)})
    said = model_scores_by_clip(store, [row["clip_id"] for row in rows])
    return losses_of(pairs, [row for row in rows if verdict(row | said[row["clip_id"]], thresholds) is None], same)


def cut_now_kept(store: Store, uncut: UncutClips, thresholds: Thresholds, cut: CutConfig, limits: Limits) -> Changes:
    """Cut clips of one source that were rejected until now and land them; what changed. For a worker.

    Only rows that have no video are rewritten, a few at a time. Raises BadSource where the source is not reachable any
    more, its content is another, or a clip cannot be cut.
    """
    clips = store.open("clips")
    rows = _full_rows(clips, uncut.clip_ids)
    sources = store.open("sources").to_table(columns=["uri"], filter=pc.field("source_id") == uncut.source_id)
    if not sources.num_rows:
        raise BadSource(
            SourceState.FAILED, "not_in_sources", "an interrupted run left its clips; run jobs.curate again"
        )
    config = CurateConfig(cut=cut, limits=limits)
    changes = Changes()
    with local_copy(sources["uri"][0].as_py(), config.limits.max_source_bytes) as path:
        if file_hash(path) != uncut.source_id:
            detail = "the file's content is not the one that was curated; curate it again"
            raise BadSource(SourceState.FAILED, "content_changed", detail)
        cut_rows = _cut_rows(path, rows, thresholds, config)
        while batch := [*islice(cut_rows, CUT_AT_ONCE)]:
            _land(store, clips, batch)
    for row in rows:
        changes.add(row["reason"], None, row["duration_s"])
    return changes


def _land(store: Store, clips: lance.LanceDataset, rows: list[dict[str, Any]]) -> None:
    try:
        clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table(rows))
    except OSError as error:
        raise store.unavailable("written", error) from error


def _full_rows(clips: lance.LanceDataset, clip_ids: Sequence[str]) -> list[dict[str, Any]]:
    columns = [name for name in CLIPS.names if name != "video"]
    rows = clips.to_table(columns=columns, filter=pc.field("clip_id").isin(list(clip_ids))).to_pylist()
    return sorted(rows, key=lambda row: row["start_pts"])


def _cut_rows(
    path: Path, rows: Iterable[dict[str, Any]], thresholds: Thresholds, config: CurateConfig
) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        cutter = cutter_of(stack, path, config)
        for row in rows:
            base = Fraction(row["time_base_num"], row["time_base_den"])
            span = Span(row["start_pts"], row["end_pts"], base)
            try:
                file, because = cut_span(cutter, path, span, row["entry_pts"], row["frames"], row["cut"], config.limits)
            except CannotCut as error:
                raise BadSource(SourceState.FAILED, "cannot_cut", str(error)) from error
            verdict_now = verdict_columns(None) | {"thresholds_id": thresholds_id(thresholds)}
            yield row | verdict_now | video_columns(file, because)
