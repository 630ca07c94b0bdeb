"""Duplicates: what is found among procedural clips of known truth, on two real trailers shot by shot, and how fast one
new clip is compared with a store of a million.

Copies and others go through the code that takes fingerprints from footage; those at a low bit rate really went through
an encoder. The reference for finding is one perceptual hash of the middle picture, at most 10 bits apart; for speed,
laying the new clip over every other.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.duplicate_footage import (
    ALTERATIONS,
    Copy,
    altered,
    copy_fingerprint,
    middle_picture,
    other_take,
    random_shot,
    whole,
)
from benchmarks.figures import finish, footage_files
from curation.analysis import perceptual_hash
from curation.curate import CurateConfig
from curation.duplicate_verdicts import DuplicateConfig
from curation.duplicates import NewClip, compare_batch, find_pairs, uncompared_batches
from curation.fingerprint import Fingerprint
from curation.fingerprint_keys import CHECK_BITS, keys_of
from curation.ingest import Footage, find_footage
from curation.overlap import overlap_of
from curation.records import digest
from curation.store import STORAGE_VERSION, Store
from curation.tables import FINGERPRINTS
from curation.work import curate_footage
from jobs.cli import parse

RECALL_TO_REACH, PRECISION_TO_REACH, QUERY_MS_TO_REACH = 0.98, 0.99, 50.0
REFERENCE_BITS = 10
# One in so many of the others is another take of a shot that has copies, or of one of the others.
HARD_EVERY = 4
CLIPS_A_SOURCE = 64
TRAILERS = ("big-buck-bunny_trailer", "big-buck-bunny-240p")
SHOT_TOLERANCE_S = 0.25
KEYS_PER_STORED_CLIP = 48


@dataclass(frozen=True, slots=True)
class Options:
    """Duplicates found, and the time that one new clip takes against a million.

    Attributes:
        footage: Folder with the two trailers, if they are to be compared.
        json: File for the figures, {name: value}.
        shots: Shots that have copies.
        others: Clips that have none.
        stored: Clips of the store that one new clip is compared with.
        queries: How many new clips.
        seed: Of all that is random. Thresholds were chosen on seed 1.
    """

    footage: Path | None = None
    json: Path | None = None
    shots: int = 200
    others: int = 10_000
    stored: int = 1_000_000
    queries: int = 60
    seed: int = 20_263


@dataclass(slots=True)
class Collection:
    """Clips with the family that each is of; the reference's hash of each."""

    families: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    fingerprints: list[Fingerprint] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)

    def add(self, family: int, kind: str, copy: Copy) -> None:
        self.families.append(family)
        self.kinds.append(kind)
        self.fingerprints.append(copy_fingerprint(copy))
        self.hashes.append(perceptual_hash(np.repeat(middle_picture(copy)[..., None], 3, axis=2)))


def draw_collection(options: Options, rng: np.random.Generator) -> Collection:
    """Shots, eight copies of each, and others, of which some are hard: other takes."""
    clips = Collection()
    shots = [random_shot(rng) for _ in range(options.shots)]
    for family, shot in enumerate(shots):
        clips.add(family, "original", whole(shot))
        for kind in ALTERATIONS:
            clips.add(family, kind, altered(shot, kind, rng))
    for number in range(options.others):
        shot = other_take(shots[int(rng.integers(len(shots)))], rng) if number % HARD_EVERY == 0 else random_shot(rng)
        shots.append(shot)
        clips.add(len(shots) - 1, "other", whole(shot))
        if (number + 1) % 2000 == 0:
            print(f"{number + 1} of {options.others} others drawn", flush=True)
    return clips


def clip_id_of_number(number: int) -> str:
    return digest("benchmark", number)


def stored_clips(clips: Collection, store: Store) -> None:
    """A store with nothing but what comparing reads and verdicts rest on."""
    store.create()
    rows = []
    for number, fingerprint in enumerate(clips.fingerprints):
        source_id = digest("source", number // CLIPS_A_SOURCE) * 2
        rows.append(clip_row(clip_id_of_number(number), source_id, fingerprint))
    schema = store.open("clips").schema
    for begin in range(0, len(rows), 1000):
        store.open("clips")
        batch = pa.Table.from_pylist(rows[begin : begin + 1000], schema=without_video(schema))
        lance.write_dataset(batch, store.table_uri("clips"), mode="append")
    sources = Counter(row["source_id"] for row in rows)
    required = {"uri": "procedural", "modified": "", "state": "curated", "config_hash": "", "run_id": ""}
    table = [{"source_id": source_id, "clips": count, **required} for source_id, count in sources.items()]
    lance.write_dataset(
        pa.Table.from_pylist(table, schema=store.open("sources").schema), store.table_uri("sources"), mode="append"
    )


def without_video(schema: pa.Schema) -> pa.Schema:
    return pa.schema([column for column in schema if column.name != "video"])


def clip_row(clip_id: str, source_id: str, fingerprint: Fingerprint) -> dict[str, Any]:
    numbers = dict.fromkeys(("scene_index", "start_pts", "end_pts", "entry_pts", "frames", "rotation"), 0)
    sizes = {"width": 160, "height": 90, "rate_fps": 24.0, "time_base_num": 1, "time_base_den": 1000, "start_s": 0.0}
    words = {"thresholds_id": "", "config_hash": "", "run_id": "", "cut": "copy", "keep": True, "reason": None}
    known = {"clip_id": clip_id, "source_id": source_id, "fingerprint": fingerprint.to_bytes()}
    return {**numbers, **sizes, **words, **known, "duration_s": fingerprint.duration_s, "video_bytes": 1}


def finding(options: Options, clips: Collection, store: Store) -> dict[str, float]:
    """Recall over the copies, precision over all pairs of the store, and those of the reference."""
    stored_clips(clips, store)
    began_s = time.monotonic()
    for batch in uncompared_batches(store):
        compare_batch(store, batch, DuplicateConfig(), lambda: None)
    spent_s = time.monotonic() - began_s
    number_of = {clip_id_of_number(n): n for n in range(len(clips.families))}
    rows = store.open("duplicates").to_table(columns=["clip_id", "other_id"]).to_pylist()
    pairs = {tuple(sorted((number_of[row["clip_id"]], number_of[row["other_id"]]))) for row in rows}
    ours = judged(clips, pairs)
    reference = judged(clips, pairs_by_hash(clips.hashes))
    each = f"{spent_s / len(clips.families) * 1e3:.1f} ms a clip"
    print(f"{len(clips.families)} clips compared in {spent_s:.0f} s, {each}; {len(pairs)} pairs")
    print(f"{'kind of copy':14s} {'found':>6s} {'reference':>10s}")
    for kind in ALTERATIONS:
        print(f"{kind:14s} {ours.by_kind[kind]:6.3f} {reference.by_kind[kind]:10.3f}")
    print(f"pairs of strangers: {ours.strangers}, the reference's {reference.strangers}")
    return {
        "recall": ours.recall,
        "precision": ours.precision,
        "reference_recall": reference.recall,
        "reference_precision": reference.precision,
        "compare_ms_per_clip": spent_s / len(clips.families) * 1e3,
    }


@dataclass(frozen=True, slots=True)
class Judged:
    recall: float
    precision: float
    by_kind: dict[str, float]
    strangers: int


def judged(clips: Collection, pairs: set[tuple[int, ...]]) -> Judged:
    """Recall: copies paired with their original. Precision: pairs, of any two clips, that are of one shot."""
    originals = {clips.families[n]: n for n, kind in enumerate(clips.kinds) if kind == "original"}
    found: dict[str, list[bool]] = defaultdict(list)
    for number, kind in enumerate(clips.kinds):
        if kind in ALTERATIONS:
            found[kind].append(tuple(sorted((originals[clips.families[number]], number))) in pairs)
    strangers = sum(clips.families[a] != clips.families[b] for a, b in pairs)
    by_kind = {kind: float(np.mean(hits)) for kind, hits in found.items()}
    recall = float(np.mean([hit for hits in found.values() for hit in hits]))
    return Judged(recall, 1 - strangers / max(1, len(pairs)), by_kind, strangers)


def pairs_by_hash(hashes: Sequence[int]) -> set[tuple[int, ...]]:
    values = np.array(hashes, np.uint64)
    pairs: set[tuple[int, ...]] = set()
    for number, value in enumerate(values[:-1]):
        near = np.flatnonzero(np.bitwise_count(values[number + 1 :] ^ value) <= REFERENCE_BITS)
        pairs.update((number, number + 1 + int(n)) for n in near)
    return pairs


def trailers(folder: Path, store: Store) -> dict[str, float]:
    """Shots of the one trailer that are paired with that of the other which begins at the same time."""
    files = [next((f for f in footage_files(folder) if name in f.name), None) for name in TRAILERS]
    if None in files:
        print("the trailers are not in the footage")
        return {}
    store.create()
    for path in files:
        (found,) = find_footage([str(path)])
        assert isinstance(found, Footage)
        finished = curate_footage(found, store, CurateConfig(), "benchmark")
        assert finished is not None
        store.commit_sources([finished])
    for batch in uncompared_batches(store):
        compare_batch(store, batch, DuplicateConfig(), lambda: None)
    starts: dict[str, dict[float, str]] = defaultdict(dict)
    for row in store.open("clips").to_table(columns=["clip_id", "source_id", "start_s"]).to_pylist():
        starts[row["source_id"]][row["start_s"]] = row["clip_id"]
    rows = store.open("duplicates").to_table(columns=["clip_id", "other_id"]).to_pylist()
    pairs = {frozenset((row["clip_id"], row["other_id"])) for row in rows}
    one, two = starts.values()
    shared = [(one[a], two[b]) for a in one for b in two if abs(a - b) <= SHOT_TOLERANCE_S]
    hits = sum(frozenset(pair) in pairs for pair in shared)
    across = {pair for pair in pairs if len(pair & set(one.values())) == 1}
    wrong = len(across - {frozenset(pair) for pair in shared})
    print(f"trailers: {hits} of {len(shared)} shots that both have were found, {wrong} other pairs between them")
    return {"trailer_shots": len(shared), "trailer_shots_found": hits, "trailer_other_pairs": wrong}


def stored_million(options: Options, clips: Collection, store: Store, rng: np.random.Generator) -> None:
    """A store whose clips have keys drawn from those of the others, so that common keys are as common as there, and
    fingerprints of the others."""
    pool_keys = np.concatenate([keys_of(f) for f in clips.fingerprints])
    pool = pa.array([f.to_bytes() for f in clips.fingerprints], pa.binary())
    step = 20_000

    def batches() -> Iterator[tuple[NDArray[np.uint8], int]]:
        for begin in range(0, options.stored, step):
            count = min(step, options.stored - begin)
            ids = np.random.default_rng([options.seed, begin]).integers(0, 256, (count, 16), dtype=np.uint8)
            yield ids, begin // CLIPS_A_SOURCE

    def key_batches() -> Iterator[pa.RecordBatch]:
        for ids, first_source in batches():
            rows = len(ids) * KEYS_PER_STORED_CLIP
            clip = np.repeat(ids, KEYS_PER_STORED_CLIP, axis=0)
            source = first_source + np.arange(rows, dtype=np.int64) // (KEYS_PER_STORED_CLIP * CLIPS_A_SOURCE)
            keys = rng.choice(pool_keys, rows)
            key, check = (keys >> np.uint64(CHECK_BITS)).astype(np.uint32), keys.astype(np.uint32)
            has_few = pa.array(np.zeros(rows, np.bool_))
            columns = [pa.array(key), pa.array(check), has_few, fixed_binary(clip), pa.array(source)]
            yield pa.RecordBatch.from_arrays(columns, schema=FINGERPRINTS)

    def clip_batches() -> Iterator[pa.RecordBatch]:
        for ids, _ in batches():
            names = pa.array([row.tobytes().hex() for row in ids])
            prints = pool.take(pa.array(rng.integers(0, len(pool), len(ids))))
            yield pa.RecordBatch.from_arrays([names, names, prints], schema=named)

    named = pa.schema([("clip_id", pa.string()), ("source_id", pa.string()), ("fingerprint", pa.binary())])
    for table, schema, of in (("fingerprints", FINGERPRINTS, key_batches), ("clips", named, clip_batches)):
        reader = pa.RecordBatchReader.from_batches(schema, of())
        lance.write_dataset(reader, store.table_uri(table), data_storage_version=STORAGE_VERSION)
    began_s = time.monotonic()
    store.sort_and_index("fingerprints", "key")
    print(f"index of {options.stored} clips sorted in {time.monotonic() - began_s:.0f} s")
    store.open("clips").create_scalar_index("clip_id", "BTREE")


def fixed_binary(rows: NDArray[np.uint8]) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(rows.tobytes())])


def speed(options: Options, clips: Collection, store: Store, rng: np.random.Generator) -> dict[str, float]:
    """Time from a new clip's fingerprint to its pairs, in a process whose tables are open."""
    stored_million(options, clips, store, rng)
    tables = store.open("clips"), store.open("fingerprints")
    new = [copy_fingerprint(whole(random_shot(rng))) for _ in range(options.queries + 5)]
    times_s = []
    for number, fingerprint in enumerate(new):
        began_s = time.perf_counter()
        clip = NewClip(digest("new", number), digest("new source") * 2, fingerprint, keys_of(fingerprint))
        find_pairs(*tables, [clip], [clip.source_id])
        times_s.append(time.perf_counter() - began_s)
    ms = 1e3 * np.array(times_s[5:])
    began_s = time.perf_counter()
    for other in clips.fingerprints[:500]:
        overlap_of(new[0], other)
    scan_s = (time.perf_counter() - began_s) / 500 * options.stored
    print(
        f"one new clip against {options.stored}: median {np.median(ms):.1f} ms, "
        f"95 % under {np.percentile(ms, 95):.1f} ms"
    )
    print(f"laid over each of them: {scan_s:.0f} s (500 measured)")
    return {"query_ms_median": float(np.median(ms)), "query_ms_p95": float(np.percentile(ms, 95)), "scan_s": scan_s}


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.duplicates")
    figures: dict[str, float] = {}
    rng = np.random.default_rng(options.seed)
    folder = Path(tempfile.mkdtemp())
    try:
        clips = draw_collection(options, rng)
        figures |= finding(options, clips, Store.at(str(folder / "found")))
        if options.footage:
            figures |= trailers(options.footage, Store.at(str(folder / "trailers")))
        if options.stored:
            figures |= speed(options, clips, Store.at(str(folder / "million")), rng)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    line = (
        f"duplicates: recall {figures['recall']:.3f} (to reach: {RECALL_TO_REACH}), "
        f"precision {figures['precision']:.4f} (to reach: {PRECISION_TO_REACH}); "
        f"middle-frame hash: {figures['reference_recall']:.3f}, {figures['reference_precision']:.4f}"
    )
    if options.stored:
        line += f"; a new clip {figures['query_ms_median']:.0f} ms (to reach: {QUERY_MS_TO_REACH:.0f})"
    finish(figures, [line], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
