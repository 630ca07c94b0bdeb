"""Tables of original texts: CSV, JSON lines or Parquet, a row a text with what it is of and, optionally, its times."""

from __future__ import annotations

import io
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from captioner.hostile_text import brief
from captioner.side_text import BadSideText, SideText, decoded, file_bytes, side_text
from curation.address import path_of

__all__ = ["OriginalsTable", "read_originals_table"]

MAX_TABLE_BYTES = 1 << 30
# A few MB of Parquet can unpack to any size.
MAX_UNPACKED_BYTES = 4 << 30
CLIP, SOURCE = ("clip_id",), ("source_id",)
FILE = ("uri", "file", "file_name", "filename", "path", "video")
TEXT, START, END = ("text", "caption"), ("start_s", "start"), ("end_s", "end")
STRINGS, NUMBERS = (*CLIP, *SOURCE, *FILE, *TEXT), (*START, *END)
SUFFIXES = (".csv", ".jsonl", ".parquet")
LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class OriginalsTable:
    """Texts by what they are of. `rows` were read, `empty_rows` of them had no words."""

    by_clip: Mapping[str, tuple[SideText, ...]]
    by_source: Mapping[str, tuple[SideText, ...]]
    by_file: Mapping[str, tuple[tuple[str, SideText], ...]]  # last part of an address → (address as given, text)
    rows: int
    empty_rows: int

    def texts_of(self, clip_id: str, source_id: str, uri: str) -> tuple[SideText, ...] | None:
        """The texts of a clip: by its id, else by its source's, else by its source's address or the end of it."""
        return self.by_clip.get(clip_id) or self.by_source.get(source_id) or self._of_file(uri) or None

    def _of_file(self, uri: str) -> tuple[SideText, ...]:
        where = path_of(uri) or uri
        named = self.by_file.get(posixpath.basename(where), ())
        return tuple(text for name, text in named if f"/{where}".endswith(f"/{(path_of(name) or name).lstrip('/')}"))


def read_originals_table(path: str) -> OriginalsTable:
    """A table at a local path or an address, by its suffix `.csv`, `.jsonl` or `.parquet`.

    Columns: one or more of `clip_id`, `source_id`, `uri` (also `file`, `file_name`, `filename`, `path`, `video`: an
    address, or a name at the end of one), of which the first that a row has counts; `text` (or `caption`); optionally
    `start_s` and `end_s`, in seconds of the source. Raises BadSideText, with the row.
    """
    suffix = posixpath.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise BadSideText(path, f"its suffix is {suffix!r}", f"it must be one of {', '.join(SUFFIXES)}")
    content = file_bytes(path, MAX_TABLE_BYTES)
    if content is None:
        raise BadSideText(path, "there is no such file", "check the spelling")
    table = _arrow(path, suffix, content)
    _check_columns(path, table.schema.names)
    clips, sources, files = defaultdict(list), defaultdict(list), defaultdict(list)
    empty = 0
    for number, row in enumerate(_rows(table), start=1):
        where, is_clip = f"row {number}", bool(_value(row, CLIP))
        times = (None, None) if is_clip else (_value(row, START), _value(row, END))
        words = _value(row, TEXT)
        text = None if words is None else side_text(path, *times, words, where)
        if text is None:
            empty += 1
        elif clip_id := _value(row, CLIP):
            clips[str(clip_id)].append(text)
        elif source_id := _value(row, SOURCE):
            sources[str(source_id)].append(text)
        elif name := _value(row, FILE):
            files[posixpath.basename(path_of(str(name)) or str(name))].append((str(name), text))
        else:
            raise BadSideText(path, f"{where} does not say what it is of", "give it a clip_id, source_id or uri")
    if table.num_rows and empty == table.num_rows:
        raise BadSideText(path, "no row has a text", f"its column must be called {' or '.join(TEXT)}")
    return OriginalsTable(_frozen(clips), _frozen(sources), _frozen(files), table.num_rows, empty)


def _arrow(path: str, suffix: str, content: bytes) -> pa.Table:
    try:
        if suffix == ".parquet":
            file = pq.ParquetFile(io.BytesIO(content))
            groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
            if (unpacked := sum(group.total_byte_size for group in groups)) > MAX_UNPACKED_BYTES:
                raise BadSideText(path, f"it unpacks to {unpacked} bytes, over {MAX_UNPACKED_BYTES}", "split it")
            known = [name for name in file.schema_arrow.names if name in (*STRINGS, *NUMBERS)]
            return file.read(columns=known)
        text = decoded(path, content).encode(errors="replace")
        return _csv(text) if suffix == ".csv" else _json_lines(text)
    except pa.ArrowInvalid as error:
        said = brief(str(error))
        raise BadSideText(path, f"it cannot be read as {suffix[1:]} ({said})", "correct it") from error
    except OSError as error:
        raise BadSideText(path, f"it is no {suffix[1:]} file ({brief(str(error))})", "write it again") from error


def _csv(text: bytes) -> pa.Table:
    types = {**dict.fromkeys(STRINGS, pa.string()), **dict.fromkeys(NUMBERS, pa.float64())}
    return pyarrow.csv.read_csv(
        io.BytesIO(text),
        read_options=pyarrow.csv.ReadOptions(use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


def _json_lines(text: bytes) -> pa.Table:
    schema = pa.schema([*(pa.field(n, pa.string()) for n in STRINGS), *(pa.field(n, pa.float64()) for n in NUMBERS)])
    return pyarrow.json.read_json(
        io.BytesIO(text),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=LONGEST_LINE),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def _check_columns(path: str, names: list[str]) -> None:
    shown = brief(", ".join(names), 200)
    if not set(names) & set(TEXT):
        raise BadSideText(path, f"no column for the text among {shown}", f"it must be called {' or '.join(TEXT)}")
    if not set(names) & {*CLIP, *SOURCE, *FILE}:
        keys = ", ".join((*CLIP, *SOURCE, *FILE))
        raise BadSideText(path, f"no column says what a text is of among {shown}", f"it must be one of {keys}")
    if twice := {name for name in names if names.count(name) > 1 and name in (*STRINGS, *NUMBERS)}:
        raise BadSideText(path, f"the column {sorted(twice)[0]} is there twice", "it must be there once")


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    known = [name for name in table.schema.names if name in (*STRINGS, *NUMBERS)]
    for batch in table.select(known).to_batches(max_chunksize=8192):
        yield from batch.to_pylist()


def _value(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _frozen(lists: Mapping[str, list[Any]]) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(values) for key, values in lists.items()}
