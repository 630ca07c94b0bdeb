"""A store: a folder or object-store prefix with Lance tables. Workers write fragments, one driver commits them.

How finished work lands exactly once. A worker writes all clips of a source as fragments that no version of the table
refers to yet. The driver, holding the store's lease, commits them in one version of `clips` and then the source's row
in one version of `sources`. The row in `sources` is the mark of finished work. Killed between the two, the source is
curated again and its clips are found in the table already, under the same config hash, and not added twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import write_fragments

from curation.tables import (
    CAPTIONS,
    CLIPS,
    DUPLICATES,
    FILMS,
    FINGERPRINTS,
    LATENTS,
    MODEL_SCORES,
    MODELS,
    RUNS,
    SOURCES,
)

__all__ = ["FinishedSource", "Store", "StoreUnavailable", "blob_table"]

STORAGE_VERSION = "2.2"  # the first with blobs
# A fragment holds at least so many bytes of video or latents where there are as many: more would cost a worker memory
# several times over, less would leave more fragments to be merged.
BATCH_BYTES = 2 << 20
BATCH_ROWS = 64
SORT_ROWS, SORT_SAMPLE = 2_000_000, 100_000
INDEXED = {
    "sources": ("source_id", "uri"),
    "clips": ("clip_id", "source_id"),
    "fingerprints": ("key", "source"),
    "duplicates": ("clip_id", "other_id"),
    "model_scores": ("clip_id",),
    "captions": ("caption_id", "clip_id"),
    "films": ("source_id",),
    "latents": ("latent_id", "input_id"),
}
BLOBS = {"clips": "video", "latents": "latent"}
SORTED = {"fingerprints": "key"}
# Arrow's default allocator keeps the pages of every batch of videos that was written.
pa.set_memory_pool(pa.system_memory_pool())
SCHEMAS = {
    "sources": SOURCES,
    "clips": CLIPS,
    "fingerprints": FINGERPRINTS,
    "duplicates": DUPLICATES,
    "models": MODELS,
    "model_scores": MODEL_SCORES,
    "captions": CAPTIONS,
    "films": FILMS,
    "latents": LATENTS,
    "runs": RUNS,
}


class StoreUnavailable(Exception):
    """The store cannot be read or written: no space, no permission, gone, or not a store."""


@dataclass(frozen=True, slots=True)
class FinishedSource:
    """What a worker hands to the driver: the source's row and its clips as fragments, both small.

    `clips` and `seconds` are counted by `kept` or the reason of rejection. `supersedes` is the id of a row that goes
    when this one lands: the one that said the file could not be read.
    """

    row: dict[str, Any]
    fragments: Sequence[str] = ()
    clips: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    stored_bytes: int = 0
    supersedes: str | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """Where the tables are, and how to reach them. Cheap to make and to send to workers.

    Attributes:
        uri: A folder, or `s3://`, `gs://`, `az://` and whatever else Lance opens.
        storage_options: Handed to Lance for object stores (endpoint, region, keys); the environment is read as well.
    """

    uri: str
    storage_options: dict[str, str] | None = None

    @staticmethod
    def at(uri: str, storage_options: dict[str, str] | None = None) -> Store:
        """A store at a local path or address; local paths become absolute, because workers run elsewhere."""
        is_address = "://" in uri
        return Store(uri.rstrip("/") if is_address else os.path.abspath(uri), storage_options or None)

    def table_uri(self, table: str) -> str:
        return f"{self.uri}/{table}.lance"

    def create(self) -> None:
        """Make the tables that are not there yet, and give older tables the columns that have been added since."""
        for table, schema in SCHEMAS.items():
            if (dataset := self.find(table)) is None:
                dataset = self.make(table, schema)
            missing = [f for f in schema if f.name not in dataset.schema.names]
            if missing:
                dataset.add_columns([f.with_nullable(True) for f in missing])

    def make(self, table: str, schema: pa.Schema) -> lance.LanceDataset:
        """An empty table; the one that is there, where another run was faster. Raises StoreUnavailable."""
        empty = pa.Table.from_batches([], schema=schema)
        try:
            return lance.write_dataset(
                empty,
                self.table_uri(table),
                mode="create",
                data_storage_version=STORAGE_VERSION,
                enable_stable_row_ids=True,
                storage_options=self.storage_options,
            )
        except OSError as error:
            if "already exists" in str(error):  # another run was a moment faster
                return self.open(table)
            raise self.unavailable("written", error) from error

    def open(self, table: str, version: int | str | None = None) -> lance.LanceDataset:
        """A table at its newest or a pinned version. Raises StoreUnavailable."""
        dataset = self.find(table, version)
        if dataset is None:
            raise StoreUnavailable(f"there is no store at {self.uri} (no table {table!r}); make one with jobs.curate")
        return dataset

    def find(self, table: str, version: int | str | None = None) -> lance.LanceDataset | None:
        """A table, None where there is none. Raises StoreUnavailable."""
        try:
            return lance.dataset(self.table_uri(table), version=version, storage_options=self.storage_options)
        except (ValueError, OSError) as error:
            if "was not found" in str(error) or isinstance(error, FileNotFoundError):
                return None
            raise self.unavailable("read", error) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Raises StoreUnavailable where files of the store go away while they are read."""
        try:
            yield
        except OSError as error:
            raise self.unavailable("read", error) from error
        except pa.ArrowInvalid as error:
            if "External error" not in str(error):
                raise  # not the store's fault: what was asked of it is wrong
            raise self.unavailable("read", error) from error

    def unavailable(self, verb: str, error: Exception) -> StoreUnavailable:
        """The error to raise for one that Lance raised, in words that say what to do."""
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "No space left" in str(error):
            text = "no space is left on the device; free some"
        return StoreUnavailable(f"the store {self.uri} cannot be {verb}: {text[:500]}")

    # -- what workers do

    def write_clips(self, rows: Iterator[dict[str, Any]]) -> list[str]:
        """Write clip rows as fragments that no version of the table holds yet; their descriptions, to be committed.

        Rows are taken one by one and memory stays at one batch. Raises StoreUnavailable when the store is at fault;
        what `rows` raises is raised as it is.
        """
        return self._write_rows("clips", rows)

    def write_latents(self, rows: Iterator[dict[str, Any]]) -> list[str]:
        """The same for rows of `latents`."""
        return self._write_rows("latents", rows)

    def _write_rows(self, table: str, rows: Iterator[dict[str, Any]]) -> list[str]:
        fragments: list[lance.FragmentMetadata] = []
        while (first := next(rows, None)) is not None:
            batch = blob_table([first, *_rest_of_batch(first, rows, BLOBS[table])], table)
            try:
                # A call for each batch: within one, Lance keeps what it wrote in memory.
                fragments += write_fragments(
                    batch,
                    self.table_uri(table),
                    schema=SCHEMAS[table],
                    mode="append",
                    data_storage_version=STORAGE_VERSION,
                    enable_stable_row_ids=True,
                    storage_options=self.storage_options,
                )
            except OSError as error:
                raise self.unavailable("written", error) from error
        return [json.dumps(fragment.to_json()) for fragment in fragments]

    # -- what the driver does, holding the lease

    def commit_sources(self, finished: Sequence[FinishedSource]) -> int:
        """Land finished sources: their clips, then their rows. The number of clips that were superseded.

        Clips that an interrupted run has landed already are recognised and not added again; clips of an older config
        make room. Raises StoreUnavailable; whatever landed before stays, and the same call may be made again.
        """
        by_id = {f.row["source_id"]: f for f in finished}  # two files with the same content in one batch are one source
        try:
            superseded = self._commit_clips(by_id)
            # Before the rows that take their place: killed in between, the source is simply curated again.
            self.forget([f.supersedes for f in by_id.values() if f.supersedes])
            table = pa.Table.from_pylist([f.row for f in by_id.values()], schema=SOURCES)
            sources = self.open("sources")
            sources.merge_insert("source_id").when_matched_update_all().when_not_matched_insert_all().execute(table)
        except OSError as error:
            raise self.unavailable("written", error) from error
        return superseded

    def forget(self, source_ids: Sequence[str]) -> None:
        """Remove rows of sources, where they are: those that said a file could not be read, now that it could."""
        sources = self.open("sources")
        gone = pc.field("source_id").isin(list(source_ids))
        if source_ids and sources.count_rows(gone):
            sources.delete(gone)

    def _commit_clips(self, by_id: dict[str, FinishedSource]) -> int:
        clips = self.open("clips")
        present = self._clips_present(clips, by_id)
        superseded = 0
        stale = [i for i, hashes in present.items() if hashes != {by_id[i].row["config_hash"]}]
        if stale:
            current = " OR ".join(
                f"(source_id = '{i}' AND config_hash != '{by_id[i].row['config_hash']}')" for i in stale
            )
            superseded = clips.count_rows(current)
            clips.delete(current)
        fragments = [
            lance.FragmentMetadata.from_json(text)
            for i, f in by_id.items()
            if f.row["config_hash"] not in present.get(i, set())
            for text in f.fragments
        ]
        self._append("clips", fragments)
        return superseded

    def commit_latents(self, fragments: Sequence[str]) -> None:
        """Land what workers have written, in one version. Raises StoreUnavailable."""
        try:
            self._append("latents", [lance.FragmentMetadata.from_json(text) for text in fragments])
        except OSError as error:
            raise self.unavailable("written", error) from error

    def _append(self, table: str, fragments: list[lance.FragmentMetadata]) -> None:
        if fragments:
            lance.LanceDataset.commit(
                self.table_uri(table),
                lance.LanceOperation.Append(fragments),
                read_version=self.open(table).version,
                storage_options=self.storage_options,
            )

    def _clips_present(self, clips: lance.LanceDataset, ids: Iterable[str]) -> dict[str, set[str]]:
        """Config hashes of the clips that sources have in the table."""
        rows = clips.to_table(columns=["source_id", "config_hash"], filter=pc.field("source_id").isin(list(ids)))
        present: dict[str, set[str]] = {}
        for source_id, config_hash in zip(*(rows[c].to_pylist() for c in ("source_id", "config_hash")), strict=True):
            present.setdefault(source_id, set()).add(config_hash)
        return present

    def update_clips(self, values: pa.Table) -> None:
        """Land new values of some columns of clips, found by `clip_id`, in one version. No video is copied."""
        clips = self.open("clips")
        wanted = pc.field("clip_id").isin(values["clip_id"])
        rows = clips.scanner(columns=["clip_id"], filter=wanted, with_row_address=True).to_table()
        fragments = {address >> 32 for address in rows["_rowaddr"].to_pylist()}
        updated, modified = [], []
        try:
            for fragment in clips.get_fragments():
                if fragment.fragment_id not in fragments:
                    continue
                metadata, modified = fragment.update_columns(values, "clip_id", "clip_id")
                updated.append(metadata)
            if updated:
                operation = lance.LanceOperation.Update(updated_fragments=updated, fields_modified=modified)
                options = self.storage_options
                lance.LanceDataset.commit(
                    self.table_uri("clips"), operation, read_version=clips.version, storage_options=options
                )
        except OSError as error:
            raise self.unavailable("written", error) from error

    def clips_of_other_thresholds(self, thresholds_id: str) -> int:
        """How many clips have verdicts that were given by other thresholds."""
        return self.open("clips").count_rows(pc.field("thresholds_id") != thresholds_id)

    def write_run(self, row: dict[str, Any]) -> None:
        """Add a run's row, or supersede the one with its id."""
        try:
            runs = self.open("runs")
            table = pa.Table.from_pylist([row], schema=RUNS)
            runs.merge_insert("run_id").when_matched_update_all().when_not_matched_insert_all().execute(table)
        except OSError as error:
            raise self.unavailable("written", error) from error

    def sort_and_index(self, table: str, column: str) -> None:
        """Bring the rows of a table into the order of a column of numbers, in one version, and index what is looked up.

        What a look-up finds lies together then: a tenth of the time where it finds thousands of rows. Memory holds
        about `SORT_ROWS` rows.
        """
        dataset = self.open(table)
        rows = dataset.count_rows()
        if rows:
            some = dataset.sample(min(rows, SORT_SAMPLE), columns=[column])[column].to_numpy()
            shares = np.linspace(0, 1, rows // SORT_ROWS + 2)[1:-1]
            cuts = np.unique(np.quantile(some, shares).astype(np.int64)).tolist()
            lance.write_dataset(
                pa.RecordBatchReader.from_batches(dataset.schema, _in_order(dataset, column, cuts)),
                self.table_uri(table),
                mode="overwrite",
                data_storage_version=STORAGE_VERSION,
                storage_options=self.storage_options,
            )
        for name in INDEXED[table]:
            self.open(table).create_scalar_index(name, "BTREE", replace=True)

    def compact(self, keep_versions_days: float) -> dict[str, dict[str, int]]:
        """Merge small fragments and drop versions older than asked for; what was done, by table.

        Rows, ids and pinned tags stay. A step of its own, because it rewrites: run it when no other job writes.
        """
        done = {}
        for table in SCHEMAS:
            done[table] = self.compact_table(table, keep_versions_days, partial(self._index, table))
        return done

    def compact_table(self, table: str, keep_versions_days: float, index: Callable[[], None]) -> dict[str, int]:
        """Merge a table's fragments, let `index` index it, drop versions older than asked for; what was done."""
        metrics = self.open(table).optimize.compact_files()
        index()
        cleaned = self.open(table).cleanup_old_versions(timedelta(days=keep_versions_days))
        return {
            "fragments_before": metrics.fragments_removed,
            "fragments_after": metrics.fragments_added,
            "old_versions_removed": cleaned.old_versions,
            "bytes_freed": cleaned.bytes_removed,
        }

    def _index(self, table: str) -> None:
        if table in SORTED:
            self.sort_and_index(table, SORTED[table])
            return
        for column in INDEXED.get(table, ()):
            self.open(table).create_scalar_index(column, "BTREE", replace=True)


def _in_order(dataset: lance.LanceDataset, column: str, cuts: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """All rows, those up to each cut sorted at once."""
    lower = [None, *cuts]
    upper = [*cuts, None]
    for low, high in zip(lower, upper, strict=True):
        bounds = [f"{column} > {low}"] * (low is not None) + [f"{column} <= {high}"] * (high is not None)
        yield from dataset.to_table(filter=" AND ".join(bounds) or None).sort_by(column).to_batches()


def _rest_of_batch(first: dict[str, Any], rows: Iterator[dict[str, Any]], blob: str) -> Iterator[dict[str, Any]]:
    size = len(first.get(blob) or b"")
    for row in islice(rows, BATCH_ROWS - 1):
        yield row
        size += len(row.get(blob) or b"")
        if size >= BATCH_BYTES:
            return


def blob_table(rows: Sequence[dict[str, Any]], table: str = "clips") -> pa.Table:
    """Whole rows of a table with a blob, that included, as Lance takes them."""
    return pa.Table.from_batches([_batch(rows, SCHEMAS[table], BLOBS[table])])


def _batch(rows: Sequence[dict[str, Any]], schema: pa.Schema, blob: str) -> pa.RecordBatch:
    """Rows as Arrow. Takes the blobs out of the rows, so that they are in memory once."""
    arrays = [
        lance.blob_array([row.pop(blob, None) for row in rows])
        if field.name == blob
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
