"""Real tables of any number of rows for timing a loader: each clip has a small video of its own, and captions.

Sizes and lengths that rows claim are drawn as those of mixed footage are; the bytes are small pictures, which are
made as large as claimed when they are read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from benchmarks.packing import drawn_shapes
from curation.film_encode import Encoding, encode_film
from curation.store import STORAGE_VERSION, Store
from curation.tables import CAPTIONS, CLIPS

__all__ = ["large_store"]

VIDEO_FRAMES = (1, 17, 65)  # a row claims at most the frames of its video
SIDE, RATE, TICKS = 32, Fraction(24), 512  # pixels; frames a second; ticks a frame
BATCH_ROWS = 20_000
KINDS = ("short", "descriptive")


@dataclass(frozen=True, slots=True)
class Video:
    data: bytes
    frames: int


def large_store(folder: Path, rows: int, seed: int) -> Store:
    """A store with `rows` clips and two captions of each; the tables that training reads, and no other."""
    store = Store.at(str(folder))
    if (folder / "whole").exists():
        return store
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    videos = [_video(folder, frames) for frames in VIDEO_FRAMES]
    for table, schema, batches in (
        ("clips", CLIPS, _clips(rows, videos, seed)),
        ("captions", CAPTIONS, _captions(rows)),
    ):
        lance.write_dataset(
            pa.RecordBatchReader.from_batches(schema, batches),
            store.table_uri(table),
            data_storage_version=STORAGE_VERSION,
            enable_stable_row_ids=True,
            max_rows_per_file=100_000,
        )
    (folder / "whole").touch()
    return store


def _video(folder: Path, frames: int) -> Video:
    ramp = np.linspace(0, 255, SIDE, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp, 128), -1).astype(np.uint8)  # few bytes
    path = folder / f"{frames}.mp4"
    encode_film(
        path, (np.roll(picture, n, 1) for n in range(frames)), Encoding(rate=RATE, time_base=1 / (RATE * TICKS))
    )
    return Video(path.read_bytes(), frames)


def _id(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=32).hexdigest()


def _clips(rows: int, videos: list[Video], seed: int) -> Iterator[pa.RecordBatch]:
    shapes = drawn_shapes(rows, seed)
    for start in range(0, rows, BATCH_ROWS):
        part = shapes[start : start + BATCH_ROWS]
        of = [videos[min(2, int(np.searchsorted(VIDEO_FRAMES, min(s.frames, VIDEO_FRAMES[-1]))))] for s in part]
        frames = [min(shape.frames, VIDEO_FRAMES[-1]) for shape in part]
        known: dict[str, Any] = {
            "clip_id": [_id("clip", start + n) for n in range(len(part))],
            "width": [shape.width for shape in part],
            "height": [shape.height for shape in part],
            "frames": frames,
            "rate_fps": [float(RATE)] * len(part),
            "duration_s": [count / float(RATE) for count in frames],
            "time_base_num": [1] * len(part),
            "time_base_den": [24] * len(part),
            "keep": [True] * len(part),
            "video_bytes": [len(video.data) for video in of],
            "video_start_pts": [0] * len(part),
            "video_end_pts": [count * TICKS for count in frames],
            "video": lance.blob_array([video.data for video in of]),
        }
        yield pa.RecordBatch.from_arrays([_array(f, known, len(part)) for f in CLIPS], schema=CLIPS)


def _captions(rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, BATCH_ROWS):
        numbers = [n for n in range(start, min(rows, start + BATCH_ROWS)) for _ in KINDS]
        kinds = list(KINDS) * (len(numbers) // len(KINDS))
        known: dict[str, Any] = {
            "caption_id": [_id("caption", n, kind) for n, kind in zip(numbers, kinds, strict=True)],
            "clip_id": [_id("clip", n) for n in numbers],
            "kind": kinds,
            "text": [f"A {kind} caption, of clip number {n}." for n, kind in zip(numbers, kinds, strict=True)],
            "flags": [[]] * len(numbers),
        }
        yield pa.RecordBatch.from_arrays([_array(f, known, len(numbers)) for f in CAPTIONS], schema=CAPTIONS)


def _array(field: pa.Field, known: dict[str, Any], rows: int) -> Any:
    """A column's values, nulls where nothing is known, and something where there must be."""
    if field.name in known:
        values = known[field.name]
        return values if field.name == "video" else pa.array(values, field.type)
    if field.nullable:
        return pa.nulls(rows, field.type)
    return pa.array([""] * rows if pa.types.is_string(field.type) else [0] * rows, field.type)
