"""Finding duplicates among the clips of a store, a few sources at a time, each compared with everything before it.

A source's clips are looked up in the index `fingerprints`; what shares a key is laid over each other in time; the pairs
that show the same are landed in `duplicates`; verdicts follow from them (`duplicate_verdicts`). Then the source's row
says that it was `compared`, which is the mark of finished work: killed before, all of it is done again, and every step
puts in place what it finds instead of adding to what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.duplicate_verdicts import DuplicateConfig, Settled, settle
from curation.fingerprint import Fingerprint, InvalidFingerprint
from curation.fingerprint_keys import FEW_KEYS, keys_of
from curation.neighbours import (
    MAX_CANDIDATES,
    candidates_of,
    fingerprints_by_id,
    most_shared,
    numbered_keys,
    shared_keys,
    weight_of,
)
from curation.overlap import is_near_duplicate, overlap_of
from curation.store import Store
from curation.tables import DUPLICATES, FINGERPRINTS

__all__ = ["Compared", "NewClip", "Pair", "compare_batch", "find_pairs", "pair_of", "uncompared_batches"]

# How clips are compared: raised by hand when the same fingerprints would give other keys or pairs.
GENERATION = "1"
BATCH_CLIPS = 256
# Fewer and a pair is not looked at, see `neighbours.weight_of`.
MIN_SHARED_KEYS = 2
# Rows that no index covers are read whole at every look-up.
REINDEX_ROWS, REINDEX_SHARE = 200_000, 0.1


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of `duplicates`."""

    clip_id: str
    other_id: str
    kind: str
    source_id: str
    other_source_id: str
    distance: float
    overlap_s: float | None
    offset_s: float | None
    rate: float | None
    share: float
    other_share: float

    @property
    def key(self) -> tuple[str, str, str]:
        return self.clip_id, self.other_id, self.kind


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing some sources gave: how many clips, pairs by kind, and the verdicts that changed."""

    sources: int
    clips: int
    pairs: dict[str, int]
    settled: Sequence[Settled]


@dataclass(frozen=True, slots=True)
class NewClip:
    """A clip that is compared, with its keys."""

    clip_id: str
    source_id: str
    fingerprint: Fingerprint
    keys: NDArray[np.uint64]


def uncompared_batches(store: Store) -> Iterator[list[str]]:
    """The ids of sources whose clips were not compared yet, in batches of about `BATCH_CLIPS` clips.

    Those without clips are among them: they may have had some, that others were duplicates of.
    """
    is_due = f"compared IS NULL OR compared != '{GENERATION}'"
    rows = store.open("sources").to_table(columns=["source_id", "clips"], filter=is_due).to_pylist()
    batch: list[str] = []
    clips = 0
    for row in sorted(rows, key=lambda row: row["source_id"]):
        batch.append(row["source_id"])
        clips += row["clips"] or 0
        if clips >= BATCH_CLIPS:
            yield batch
            batch, clips = [], 0
    if batch:
        yield batch


def compare_batch(
    store: Store, source_ids: Sequence[str], config: DuplicateConfig, before_commit: Callable[[], None]
) -> Compared:
    """Compare the clips of some sources with all of the store and among themselves, and land what follows.

    `before_commit` is called right before each commit. Raises StoreUnavailable.
    """
    clips = _clips_of(store, source_ids)
    pairs = find_pairs(store.open("clips"), store.open("fingerprints"), clips, source_ids)
    stale = _pairs_of(store, source_ids) - {pair.key for pair in pairs}
    touched = {clip_id for key in (*stale, *(pair.key for pair in pairs)) for clip_id in key[:2]}
    try:
        if pairs:
            before_commit()
            table = pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=DUPLICATES)
            merge = store.open("duplicates").merge_insert(["clip_id", "other_id", "kind"])
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
        _put_keys(store, clips, source_ids, before_commit)
        settled = settle(store, touched, config, before_commit, without=stale)
        _forget_pairs(store, stale, before_commit)
        before_commit()
        ids = ", ".join(f"'{source_id}'" for source_id in source_ids)
        store.open("sources").update({"compared": f"'{GENERATION}'"}, where=f"source_id IN ({ids})")
    except OSError as error:
        raise store.unavailable("written", error) from error
    kinds = [pair.kind for pair in pairs]
    return Compared(len(source_ids), len(clips), {kind: kinds.count(kind) for kind in sorted(set(kinds))}, settled)


def _clips_of(store: Store, source_ids: Sequence[str]) -> list[NewClip]:
    columns, wanted = ["clip_id", "source_id", "fingerprint"], pc.field("source_id").isin(list(source_ids))
    clips = []
    for row in store.open("clips").to_table(columns=columns, filter=wanted).to_pylist():
        try:
            fingerprint = Fingerprint.from_bytes(row["fingerprint"] or b"")
        except InvalidFingerprint:
            continue  # too short to have one, or damaged: it is compared with nothing
        clips.append(NewClip(row["clip_id"], row["source_id"], fingerprint, keys_of(fingerprint)))
    return sorted(clips, key=lambda clip: clip.clip_id)


def find_pairs(
    table: lance.LanceDataset, index: lance.LanceDataset, clips: Sequence[NewClip], source_ids: Iterable[str]
) -> list[Pair]:
    """The pairs among clips of a batch, and between them and those of other sources in the store."""
    pairs = []
    for one, two in _sharing_keys(clips):
        if (pair := _pair_if_same(clips[one], clips[two])) is not None:
            pairs.append(pair)
    others = candidates_of(index, [clip.keys for clip in clips])
    mine = {clip.clip_id for clip in clips}
    wanted = [
        [i for i, n in most_shared(found) if n >= MIN_SHARED_KEYS and i not in mine][:MAX_CANDIDATES]
        for found in others
    ]
    known = _stored_clips(table, {clip_id for ids in wanted for clip_id in ids}, set(source_ids))
    for clip, ids in zip(clips, wanted, strict=True):
        for other in (known[clip_id] for clip_id in ids if clip_id in known):
            if (pair := _pair_if_same(clip, other)) is not None:
                pairs.append(pair)
    return pairs


def _sharing_keys(clips: Sequence[NewClip]) -> list[tuple[int, int]]:
    """The pairs among clips that share enough keys, by the same count as `candidates_of`."""
    keys, number = numbered_keys([clip.keys for clip in clips])
    at, other_at = shared_keys(keys, keys)
    one, two = number[at], number[other_at]
    has_few = np.array([len(clip.keys) < FEW_KEYS for clip in clips], np.bool_)
    weight = weight_of(keys[at], has_few[one] | has_few[two])
    shared: Counter[tuple[int, int]] = Counter()
    for a, b, counts in zip(one.tolist(), two.tolist(), weight.tolist(), strict=True):
        if a < b:
            shared[a, b] += counts
    return sorted(pair for pair, n in shared.items() if n >= MIN_SHARED_KEYS)


def _stored_clips(table: lance.LanceDataset, clip_ids: set[str], without_sources: set[str]) -> dict[str, NewClip]:
    """Clips of other sources; a clip that the index still knows and the table does not is none."""
    no_keys = np.zeros(0, np.uint64)
    return {
        clip_id: NewClip(clip_id, source_id, fingerprint, no_keys)
        for clip_id, (source_id, fingerprint) in fingerprints_by_id(table, clip_ids).items()
        if source_id not in without_sources
    }


def _pair_if_same(one: NewClip, two: NewClip) -> Pair | None:
    first, other = (one, two) if one.clip_id < two.clip_id else (two, one)  # so that their order does not matter
    return pair_of(
        *(first.clip_id, other.clip_id, first.source_id, other.source_id), first.fingerprint, other.fingerprint
    )


def pair_of(
    clip_id: str, other_id: str, source_id: str, other_source_id: str, first: Fingerprint, other: Fingerprint
) -> Pair | None:
    """The pair that two clips are, None if they are not duplicates. `clip_id` is the lesser id."""
    if first.content and first.to_bytes() == other.to_bytes():
        duration_s = first.duration_s
        return Pair(clip_id, other_id, "exact", source_id, other_source_id, 0.0, duration_s, 0.0, 1.0, 1.0, 1.0)
    found = overlap_of(first, other)
    if found is None or not is_near_duplicate(found, min(first.duration_s, other.duration_s)):
        return None
    share = min(1.0, found.overlap_s / first.duration_s)
    other_share = min(1.0, found.overlap_s * found.rate / other.duration_s)
    where = (found.overlap_s, found.offset_s, found.rate, share, other_share)
    return Pair(clip_id, other_id, "near", source_id, other_source_id, found.distance, *where)


def _pairs_of(store: Store, source_ids: Sequence[str]) -> set[tuple[str, str, str]]:
    """The pairs in the store, but semantic ones, that clips of some sources are in."""
    ids = list(source_ids)
    wanted = (pc.field("source_id").isin(ids) | pc.field("other_source_id").isin(ids)) & (
        pc.field("kind") != "semantic"
    )
    rows = store.open("duplicates").to_table(columns=["clip_id", "other_id", "kind"], filter=wanted).to_pylist()
    return {(row["clip_id"], row["other_id"], row["kind"]) for row in rows}


def _forget_pairs(store: Store, keys: set[tuple[str, str, str]], before_commit: Callable[[], None]) -> None:
    if keys:
        before_commit()
        each = " OR ".join(f"(clip_id = '{a}' AND other_id = '{b}' AND kind = '{kind}')" for a, b, kind in sorted(keys))
        store.open("duplicates").delete(each)


def _put_keys(
    store: Store, clips: Sequence[NewClip], source_ids: Sequence[str], before_commit: Callable[[], None]
) -> None:
    """Put the keys of some sources' clips in the index, in place of any that it has of these sources."""
    index = store.open("fingerprints")
    rows = _key_rows(clips)
    of_sources = ", ".join(str(_source_number(source_id)) for source_id in source_ids)
    present = index.to_table(filter=f"source IN ({of_sources})")
    if _as_set(present) != _as_set(rows):
        if present.num_rows:
            before_commit()
            index.delete(f"source IN ({of_sources})")
        if rows.num_rows:
            before_commit()
            uri = store.table_uri("fingerprints")
            lance.write_dataset(rows, uri, mode="append", storage_options=store.storage_options)
    _index_if_due(store)


def _as_set(rows: pa.Table) -> set[tuple[Any, ...]]:
    return set(zip(*(rows[name].to_pylist() for name in FINGERPRINTS.names), strict=True))


def _source_number(source_id: str) -> int:
    return int.from_bytes(bytes.fromhex(source_id[:16]), "big", signed=True)


def _key_rows(clips: Sequence[NewClip]) -> pa.Table:
    lengths = [len(clip.keys) for clip in clips]
    keys = np.concatenate([np.zeros(0, np.uint64), *(clip.keys for clip in clips)])
    columns = (
        (keys >> np.uint64(32)).astype(np.uint32),
        keys.astype(np.uint32),
        np.repeat(np.array([n < FEW_KEYS for n in lengths], np.bool_), lengths),
        pa.array(
            [bytes.fromhex(c.clip_id) for c, n in zip(clips, lengths, strict=True) for _ in range(n)], pa.binary(16)
        ),
        np.repeat(np.array([_source_number(clip.source_id) for clip in clips], np.int64), lengths),
    )
    return pa.table([pa.array(column) for column in columns], schema=FINGERPRINTS)


def _index_if_due(store: Store) -> None:
    """Keep what a look-up must read whole small, however many runs add to the store between two compactions."""
    index = store.open("fingerprints")
    names = {entry.name for entry in index.describe_indices()}
    total = index.count_rows()
    bare = total if not names else index.stats.index_stats(sorted(names)[0])["num_unindexed_rows"]
    if bare > max(REINDEX_ROWS, REINDEX_SHARE * total):
        store.sort_and_index("fingerprints", "key")
