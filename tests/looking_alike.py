"""Clips for tests of duplicates: fingerprints of drawn shots in a store, without a video to decode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import lance
import numpy as np
import pyarrow as pa

from benchmarks.duplicate_footage import Shot, copy_fingerprint, whole
from curation.fingerprint import Fingerprint
from curation.records import digest
from curation.store import Store

__all__ = ["Stored", "add_source", "fingerprint_of_shot", "shot", "source_id_of"]

NUMBERS = ("scene_index", "start_pts", "end_pts", "entry_pts", "rotation")
WORDS = {"thresholds_id": "", "config_hash": "", "run_id": "run", "cut": "copy"}


def shot(seed: int, seconds: float = 3.0) -> Shot:
    """A place of rich texture with two subjects that move."""
    return Shot(seed, seed, seed + 100, "handheld", 2, 1.0, seconds)


def fingerprint_of_shot(seed: int, seconds: float = 3.0, content: int = 0) -> Fingerprint:
    return replace(copy_fingerprint(whole(shot(seed, seconds))), content=content)


@dataclass(frozen=True, slots=True)
class Stored:
    """A clip to be put in a store."""

    name: str
    fingerprint: Fingerprint | bytes | None
    width: int = 160
    video_bytes: int | None = 1000
    reason: str | None = None

    @property
    def clip_id(self) -> str:
        return digest("clip", self.name)


def source_id_of(name: str) -> str:
    return digest("source", name) * 2


def add_source(store: Store, name: str, clips: Iterable[Stored]) -> None:
    """Put a source's clips in place of those it has, and its row, as `Store.commit_sources` does."""
    source_id, rows = source_id_of(name), []
    for clip in clips:
        known = {"clip_id": clip.clip_id, "source_id": source_id, "width": clip.width, "height": 90, "rate_fps": 24.0}
        times = {"time_base_num": 1, "time_base_den": 1000, "start_s": 0.0, "duration_s": 3.0, "frames": 72}
        data = clip.fingerprint.to_bytes() if isinstance(clip.fingerprint, Fingerprint) else clip.fingerprint
        verdict = {"keep": clip.reason is None, "reason": clip.reason, "video_bytes": clip.video_bytes}
        # Scores that the rules look at, so that verdicts given again come out as stated.
        scores = {"damaged_frames": int(clip.reason == "damaged")}
        rows.append(dict.fromkeys(NUMBERS, 0) | WORDS | known | times | verdict | scores | {"fingerprint": data})
    table = store.open("clips")
    table.delete(f"source_id = '{source_id}'")
    schema = pa.schema([column for column in table.schema if column.name != "video"])
    if rows:
        lance.write_dataset(pa.Table.from_pylist(rows, schema=schema), store.table_uri("clips"), mode="append")
    row = {"source_id": source_id, "uri": name, "modified": "", "state": "curated", "clips": len(rows)}
    sources = store.open("sources")
    landed = pa.Table.from_pylist([row | {"config_hash": "", "run_id": "run"}], schema=sources.schema)
    sources.merge_insert("source_id").when_matched_update_all().when_not_matched_insert_all().execute(landed)


def noisy(fingerprint: Fingerprint, seed: int, levels: int = 2) -> Fingerprint:
    """The same but for the noise of another encoding."""
    rng = np.random.default_rng(seed)
    tracks = [
        np.clip(t + rng.integers(-levels, levels + 1, t.shape), -127, 127).astype(np.int8) for t in fingerprint.tracks
    ]
    return Fingerprint(tuple(tracks))
