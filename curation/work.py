"""One worker's task: a file in, its clips written as fragments, a small record out. In a Ray task or in-process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curation.curate import CurateConfig, SourceCuration, unusable_source_row
from curation.ingest import Footage, file_hash, local_copy
from curation.records import BadSource, SourceState, digest
from curation.store import FinishedSource, Store

__all__ = ["already_current", "curate_footage", "unread_id"]


def unread_id(uri: str) -> str:
    """The id of a source whose content could not be read."""
    return digest("unread", uri)


# Not the content's fault: such a source is tried again in every run.
TRIED_AGAIN = frozenset({"unreadable", "changed_while_read", "worker_died", "error"})


def already_current(store: Store, footage: Sequence[Footage], config: CurateConfig) -> set[Footage]:
    """Those files that were worked on with this config and, by size and time or etag, have not changed since."""
    if not footage:
        return set()
    wanted = pc.field("uri").isin([f.uri for f in footage])
    columns = ["uri", "bytes", "modified", "state", "reason", "config_hash"]
    rows = store.open("sources").to_table(columns=columns, filter=wanted).to_pylist()
    done = {(row["uri"], row["bytes"], row["modified"]) for row in rows if _is_current(row, config)}
    return {f for f in footage if (f.uri, f.bytes, f.modified) in done}


def _is_current(row: dict[str, Any], config: CurateConfig) -> bool:
    return row["reason"] not in TRIED_AGAIN and row["config_hash"] == config.config_hash(SourceState(row["state"]))


def curate_footage(footage: Footage, store: Store, config: CurateConfig, run_id: str) -> FinishedSource | None:
    """Curate one file and write its clips; None if its content is in the store already.

    A source that cannot be used comes back as a row with its reason. Raises StoreUnavailable when the store is at
    fault, and OSError when this machine is (no space for a fetched copy).
    """
    source_id = unread_id(footage.uri)
    try:
        with local_copy(footage.uri, config.limits.max_source_bytes) as path:
            source_id = file_hash(path)
            if _is_in_store(store, source_id, config):
                return None
            return _curate(path, footage, source_id, store, config, run_id)
    except BadSource as error:
        if error.reason in TRIED_AGAIN:  # it says nothing about the content
            source_id = unread_id(footage.uri)
        row = unusable_source_row(footage, source_id, config, run_id, error)
        return FinishedSource(row, supersedes=_superseded_by(source_id, footage))


def _superseded_by(source_id: str, footage: Footage) -> str | None:
    """The row that said the file could not be read, once it could be."""
    unread = unread_id(footage.uri)
    return None if source_id == unread else unread


def _is_in_store(store: Store, source_id: str, config: CurateConfig) -> bool:
    columns = ["state", "reason", "config_hash"]
    rows = store.open("sources").to_table(columns=columns, filter=pc.field("source_id") == source_id)
    return any(_is_current(row, config) for row in rows.to_pylist())


def _curate(
    path: Path, footage: Footage, source_id: str, store: Store, config: CurateConfig, run_id: str
) -> FinishedSource:
    curation = SourceCuration(path, footage, source_id, config, run_id)
    fragments = store.write_clips(curation.clip_rows())
    return FinishedSource(
        row=curation.source_row(),
        fragments=fragments,
        clips=dict(curation.clips),
        seconds={outcome: float(s) for outcome, s in curation.seconds.items()},
        stored_bytes=curation.stored_bytes,
        supersedes=_superseded_by(source_id, footage),
    )
