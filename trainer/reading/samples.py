"""The clips of a pack, read: pixels from their bytes, or latents that were encoded ahead.

C channels, T frames (of pixels or latents), H rows, W columns, W words of a text, D width of its encoder
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import lance
import numpy as np
import torch
from torch import Tensor

from curation.reader import DamagedClip
from curation.store import Store, StoreUnavailable
from trainer.reading.clips import ClipList
from trainer.reading.listing import pinned
from trainer.reading.pixels import clip_pixels
from trainer.reading.plan_table import Planned

__all__ = ["BUFFER_BYTES", "CountedFile", "LatentReader", "PixelReader", "Read", "TextReader", "gone", "open_videos"]

WHOLE_SHARE = 0.9  # of a clip's frames: from so many on all its bytes are asked for at once
BUFFER_BYTES = 1 << 18
DTYPES = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


@dataclass(frozen=True, slots=True)
class Read:
    """What was read for a place in a pack.

    data         uint8[3, T, H, W] of pixels, float32[C, T, H, W] of a latent
    read_bytes   from the store
    """

    planned: Planned
    data: Tensor
    read_bytes: int


class CountedFile(io.RawIOBase):
    """A blob as a file that counts what is read of it, and keeps the error that reading it had: decoders swallow it."""

    def __init__(self, blob: Any):
        super().__init__()
        self._blob = blob
        self.read_bytes = 0
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._blob.seek(offset, whence)

    def tell(self) -> int:
        return self._blob.tell()

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._blob.read(size)
        except OSError as error:
            self.failure = error
            raise
        self.read_bytes += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def open_videos(store: Store, clips: lance.LanceDataset, row_ids: Sequence[int]) -> list[CountedFile | None]:
    """The clips' bytes as files, not read yet. Raises StoreUnavailable."""
    try:
        blobs = clips.take_blobs("video", ids=list(row_ids), buffer_size=BUFFER_BYTES)
    except (OSError, ValueError) as error:
        raise gone(store, clips, "clips", error) from error
    return [None if blob is None else CountedFile(blob) for blob in blobs]


def gone(store: Store, table: lance.LanceDataset, name: str, error: Exception) -> StoreUnavailable:
    """The error to raise for one that reading a pinned table had."""
    said = store.unavailable("read", error)
    return StoreUnavailable(
        f"{said}; this is version {table.version} of {name!r}, which the run began with: bring its files back, or "
        "start a new run"
    )


class PixelReader:
    """Decodes clips. For use in one process; opens the table at once."""

    def __init__(self, store: Store, clips: ClipList, *, square_crop: bool, threads: int = 1):
        self._store, self._clips, self._square_crop = store, clips, square_crop
        self.table = pinned(store, "clips", clips.source["clips_version"])
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None

    def read(self, planned: Sequence[Planned]) -> list[Read | None]:
        """None for a clip whose bytes do not give its frames. Raises StoreUnavailable."""
        videos = open_videos(self._store, self.table, [one.row_id for one in planned])
        each: Callable[..., Any] = self._threads.map if self._threads else map
        return list(each(self._read, planned, videos))

    def _read(self, planned: Planned, video: CountedFile | None) -> Read | None:
        if video is None:
            return None
        row = self._clips.row(planned.number)
        try:
            with video:
                is_whole = planned.geometry.frames >= WHOLE_SHARE * row["frames"]
                source = io.BytesIO(video.read()) if is_whole else io.BufferedReader(video, BUFFER_BYTES)
                pixels = clip_pixels(row, source, planned.geometry, square_crop=self._square_crop)
        except DamagedClip:
            if video.failure is None:
                return None
            raise gone(self._store, self.table, "clips", video.failure) from video.failure
        except OSError as error:
            raise gone(self._store, self.table, "clips", error) from error
        return Read(planned, pixels, video.read_bytes)


class LatentReader:
    """Reads latents of clips."""

    def __init__(self, store: Store, clips: ClipList, *, channels: int):
        self._store, self._clips, self._channels = store, clips, channels
        self.table = pinned(store, "latents", clips.source["latents"]["version"])

    def read(self, planned: Sequence[Planned]) -> list[Read | None]:
        """The latent frames that a place has room for; None for a row that is not what it says. Raises
        StoreUnavailable, ValueError for a network with other channels than the transformer's."""
        rows = [self._clips.latent_row(one.number) for one in planned]
        found = read_arrays(self._store, self.table, rows)
        return list(map(self._read, planned, found))

    def _read(self, planned: Planned, found: tuple[Tensor, int] | None) -> Read | None:
        if found is None:
            return None
        z_CTHW, read_bytes = found
        frames, height, width = planned.geometry.latent_size
        if z_CTHW.ndim == 4 and len(z_CTHW) != self._channels:
            raise ValueError(f"latent_channels={self._channels}: the network's latents have {len(z_CTHW)}")
        if z_CTHW.ndim != 4 or tuple(z_CTHW.shape[2:]) != (height, width) or z_CTHW.shape[1] < frames:
            return None
        if not torch.isfinite(z_CTHW).all():
            return None
        return Read(planned, z_CTHW[:, :frames].clone(), read_bytes)


def read_arrays(store: Store, table: lance.LanceDataset, row_ids: Sequence[int]) -> list[tuple[Tensor, int] | None]:
    """float32 of each row of `latents`, and its bytes; None where they are not as many as its shape says. Raises
    StoreUnavailable."""
    wanted = sorted(set(row_ids))
    asked = f"_rowid IN ({','.join(map(str, wanted))})"
    try:
        shapes = table.to_table(columns=["latent_shape", "dtype"], filter=asked, with_row_id=True).to_pylist()
        found = table.read_blobs("latent", ids=wanted, preserve_order=True)  # by address, which is not the id
    except (OSError, ValueError) as error:
        raise gone(store, table, "latents", error) from error
    said = {row["_rowid"]: row for row in shapes}
    blobs = dict(zip(wanted, (data for _, data in found), strict=True))
    return [_array(said.get(row), blobs.get(row)) for row in row_ids]


def _array(said: dict[str, Any] | None, data: bytes | None) -> tuple[Tensor, int] | None:
    if said is None or data is None or (dtype := DTYPES.get(said["dtype"])) is None:
        return None
    if prod(said["latent_shape"]) * dtype.itemsize != len(data):
        return None
    values = np.frombuffer(data, dtype).reshape(said["latent_shape"]).astype(np.float32)
    return torch.from_numpy(values), len(data)


class TextReader:
    """Reads captions, and what a text encoder made of them where it read them ahead."""

    def __init__(self, store: Store, clips: ClipList, *, width: int):
        self._store, self._width = store, width
        self._empty_row = clips.empty_text_row
        self._captions = pinned(store, "captions", clips.source["captions_version"])
        self._latents = None
        if clips.has_embeddings:
            self._latents = pinned(store, "latents", clips.source["latents"]["version"])

    def texts(self, rows: Sequence[int | None]) -> list[str]:
        """Of each row of `captions`; none for None. Raises StoreUnavailable."""
        wanted = sorted({row for row in rows if row is not None})
        if not wanted:
            return [""] * len(rows)
        asked = f"_rowid IN ({','.join(map(str, wanted))})"
        try:
            found = self._captions.to_table(columns=["text"], filter=asked, with_row_id=True).to_pylist()
        except (OSError, ValueError) as error:
            raise gone(self._store, self._captions, "captions", error) from error
        texts = {row["_rowid"]: row["text"] for row in found}
        return ["" if row is None else texts[row] for row in rows]

    def embeddings(self, rows: Sequence[int | None]) -> list[Tensor]:
        """float32[W, D] of each row of `latents`; of None, that of no text. Raises StoreUnavailable, ValueError."""
        assert self._latents is not None
        wanted = [self._empty_row if row is None else row for row in rows]
        found = read_arrays(self._store, self._latents, wanted)
        return [self._checked(row, one) for row, one in zip(wanted, found, strict=True)]

    def _checked(self, row: int, found: tuple[Tensor, int] | None) -> Tensor:
        if found is None or found[0].ndim != 2 or not len(found[0]):
            raise StoreUnavailable(
                f"{self._store.uri}: row {row} of 'latents' holds no embedding of a text; run jobs.encode again"
            )
        if found[0].shape[1] != self._width:
            raise ValueError(f"text_width={self._width}: the text encoder's embeddings have {found[0].shape[1]}")
        return found[0]
