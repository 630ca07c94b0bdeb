"""Arrow files that are written once, whole or not at all, and mapped into memory: opening one costs the same however
many rows it has."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

__all__ = ["content_id", "mapped", "write_once"]

ROWS_HASHED = 1 << 16


def write_once(table: pa.Table, path: Path, about: Mapping[str, str]) -> None:
    """One record batch, with texts about it; in the file's place in one moment, whoever else writes the same.

    Raises OSError, and what was there before stays.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")  # others may be at it, on other machines too
    schema = table.schema.with_metadata(dict(about))
    try:
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in table.replace_schema_metadata(dict(about)).combine_chunks().to_batches():
                writer.write_batch(batch)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def mapped(path: Path) -> tuple[pa.RecordBatch, dict[str, str]]:
    """The rows of such a file, not read yet, and the texts about them. Raises FileNotFoundError, and ValueError where
    it is another kind of file."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path), "rb"))
        about = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
        if not reader.num_record_batches:
            return pa.RecordBatch.from_pylist([], schema=reader.schema), about
        return reader.get_batch(0), about
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no file of a plan ({error}); remove it, and it is made again") from None


class _Hash:
    """A file that keeps nothing but the hash of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None: ...


def content_id(table: pa.Table) -> str:
    """Hash of a table's columns and values."""
    whole = _Hash()
    table = table.replace_schema_metadata(None)
    with pa.ipc.new_stream(whole, table.schema) as writer:
        for start in range(0, len(table), ROWS_HASHED):  # the same, however the table is in chunks
            for batch in table.slice(start, ROWS_HASHED).combine_chunks().to_batches():
                writer.write_batch(batch)
    return whole.digest.hexdigest()[:32]
