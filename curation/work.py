"""One worker's task: a file in, its clips written as fragments, a small record out. Runs in a Ray task or in-process."""

from __future__ import annotations

from pathlib import Path

from curation.curate import CurateConfig, SourceCuration, unusable_source_row
from curation.ingest import Footage, file_hash, local_copy
from curation.records import BadSource, SourceState, digest
from curation.store import FinishedSource, Store

__all__ = ["curate_footage", "is_current", "unread_id"]




def unread_id(uri: str) -> str:
    """The id of a source whose content could not be read."""
    return digest("unread", uri)


def is_current(state: str, config_hash: str, config: CurateConfig) -> bool:
    """Whether a row of `sources` was made with this config, so that its source need not be looked at again."""
    return config_hash == config.config_hash(SourceState(state))


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
        return FinishedSource(unusable_source_row(footage, source_id, config, run_id, error))


def _is_in_store(store: Store, source_id: str, config: CurateConfig) -> bool:
    rows = store.open("sources").to_table(columns=["state", "config_hash"], filter=f"source_id = '{source_id}'")
    return any(is_current(row["state"], row["config_hash"], config) for row in rows.to_pylist())


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
    )
