"""Clips that show their own number, as black and white squares that survive a codec and a JPEG, and a store of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.records import digest
from curation.store import STORAGE_VERSION, Store
from curation.tables import CLIPS

__all__ = ["clip_id_of", "marked_store", "number_in"]

SQUARE_PX = 16
ROWS, COLUMNS = 4, 8
BITS = ROWS * COLUMNS // 2  # the other half are the same bits turned over, so that damage is noticed
FRAMES, RATE_FPS = 4, 4
TICKS_PER_S = 16384  # what the muxer takes for this rate
COMMIT_CLIPS = 2500


def picture_of(number: int) -> NDArray[np.uint8]:
    """Shape (ROWS, COLUMNS) of squares, in pixels, gray."""
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"number={number}: must be below {1 << BITS}")
    bits = np.array([number >> place & 1 for place in range(BITS)], dtype=np.uint8)
    squares = np.concatenate([bits, 1 - bits]).reshape(ROWS, COLUMNS) * 255
    return np.kron(squares, np.ones((SQUARE_PX, SQUARE_PX), dtype=np.uint8))


def number_in(picture: NDArray[np.uint8]) -> int | None:
    """The number that a gray picture shows, at whatever size; None where it shows none."""
    height, width = picture.shape
    rows = (2 * np.arange(ROWS) + 1) * height // (2 * ROWS)
    columns = (2 * np.arange(COLUMNS) + 1) * width // (2 * COLUMNS)
    bits = (picture[np.ix_(rows, columns)] > 127).reshape(-1)
    if not np.array_equal(bits[:BITS], ~bits[BITS:]):
        return None
    return sum(1 << place for place in range(BITS) if bits[place])


def clip_id_of(number: int) -> str:
    return digest("marked clip", number)


def marked_store(folder: Path, clips: int) -> Store:
    """A store of so many kept clips of a second, each showing its number."""
    store = Store.at(str(folder / "store"))
    store.create()
    for first in range(0, clips, COMMIT_CLIPS):
        numbers = range(first, min(first + COMMIT_CLIPS, clips))
        videos = [_encoded(picture_of(number)) for number in numbers]
        rows = [_row(number, len(video)) for number, video in zip(numbers, videos, strict=True)]
        arrays = [
            lance.blob_array(videos)
            if field.name == "video"
            else pa.array([row.get(field.name) for row in rows], field.type)
            for field in CLIPS
        ]
        lance.write_dataset(
            pa.Table.from_arrays(arrays, schema=CLIPS),
            store.table_uri("clips"),
            mode="append",
            data_storage_version=STORAGE_VERSION,
            enable_stable_row_ids=True,
        )
    return store


def _row(number: int, video_bytes: int) -> dict[str, object]:
    ticks = {"start_pts": 1000 * number, "end_pts": 1000 * (number + 1), "entry_pts": 1000 * number}
    end = FRAMES * TICKS_PER_S // RATE_FPS
    own = {"video_start_pts": 0, "video_end_pts": end, "video_time_base_num": 1, "video_time_base_den": TICKS_PER_S}
    size = {"width": COLUMNS * SQUARE_PX, "height": ROWS * SQUARE_PX, "rotation": 0}
    made = {"keep": True, "thresholds_id": "none", "config_hash": "none", "run_id": "benchmark", "cut": "copy"}
    return {
        "clip_id": clip_id_of(number),
        "source_id": digest("marked clips"),
        "scene_index": number,
        "time_base_num": 1,
        "time_base_den": 1000,
        "start_s": float(number),
        "duration_s": FRAMES / RATE_FPS,
        "frames": FRAMES,
        "rate_fps": float(RATE_FPS),
        "container": "mp4",
        "video_bytes": video_bytes,
        **ticks,
        **own,
        **size,
        **made,
    }


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=RATE_FPS)
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in _frames(picture):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        assert stream.time_base == Fraction(1, TICKS_PER_S)
    return file.getvalue()


def _frames(picture: NDArray[np.uint8]) -> Iterator[av.VideoFrame]:
    for index in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(picture, format="gray")
        frame.pts = index
        yield frame
