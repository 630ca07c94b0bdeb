"""Stores for tests: made in-process, and read whole for comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curation.curate import CurateConfig
from curation.duplicate_verdicts import DuplicateConfig
from curation.duplicates import Compared, compare_batch, uncompared_batches
from curation.ingest import Footage, find_footage
from curation.store import Store
from curation.work import curate_footage

# What differs between two runs that did the same work.
OF_THE_RUN = frozenset({"run_id"})


def curate_in_process(footage: Sequence[Path], store: Store, config: CurateConfig | None = None) -> None:
    """Curate files and folders into a store, without Ray."""
    store.create()
    for found in find_footage([str(path) for path in footage]):
        assert isinstance(found, Footage), found
        finished = curate_footage(found, store, config or CurateConfig(), "run-in-process")
        if finished is not None:
            store.commit_sources([finished])


def compare_in_process(store: Store, config: DuplicateConfig | None = None) -> list[Compared]:
    """Compare what was not compared yet, as jobs.curate does at its end."""
    batches = list(uncompared_batches(store))
    return [compare_batch(store, batch, config or DuplicateConfig(), lambda: None) for batch in batches]


def table_rows(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables but `runs`, in order of their keys, large values as hashes."""
    sources = store.open("sources").to_table().to_pylist()
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    rows = clips.to_table(columns=columns, with_row_id=True).to_pylist()
    kept = [row for row in rows if row["video_bytes"] is not None]
    blobs = clips.take_blobs("video", ids=[row["_rowid"] for row in kept]) if kept else []
    videos = {
        row["_rowid"]: hashlib.sha256(blob.read()).hexdigest()
        for row, blob in zip(kept, blobs, strict=True)
        if blob is not None
    }
    for row in rows:
        row["video"] = videos.get(row.pop("_rowid"))
        for column in ("thumbnail", "fingerprint"):
            row[column] = row[column] and hashlib.sha256(row[column]).hexdigest()
    for row in [*sources, *rows]:
        for column in OF_THE_RUN:
            row.pop(column)
    return {
        "sources": sorted(sources, key=lambda row: row["source_id"]),
        "clips": sorted(rows, key=lambda row: row["clip_id"]),
        "fingerprints": sorted(store.open("fingerprints").to_table().to_pylist(), key=lambda row: tuple(row.values())),
        "duplicates": sorted(store.open("duplicates").to_table().to_pylist(), key=lambda row: tuple(row.values())[:3]),
    }
