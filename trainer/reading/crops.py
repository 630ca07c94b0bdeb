"""Crops of clips, for training a compression network: any place and time, at the footage's own size.

B crops, T frames, H rows, W columns
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.geometry import Box
from curation.reader import DamagedClip, ReadableFile, read_clip_frames, upright_rgb
from curation.store import Store
from trainer.draws import Key, draw_share
from trainer.reading.batch import CropBatch
from trainer.reading.clips import ClipList
from trainer.reading.listing import pinned
from trainer.reading.pixels import shown_box
from trainer.reading.samples import BUFFER_BYTES, WHOLE_SHARE, gone, open_videos
from trainer.reading.slots import NothingReadable
from trainer.reading.standing_in import MOST_TRIED

__all__ = ["CropReader"]


@dataclass(frozen=True, slots=True)
class Crop:
    """Which part of a clip: frames from `first` on, and pixels of what is shown."""

    number: int
    first: int
    top: int
    left: int


@dataclass(frozen=True)  # without slots: what it opens is kept in the process that opened it, and not sent to others
class CropReader:
    """Reads crops; cheap to make and to send to workers. See `workers.slot_batches`.

    Attributes:
        clips: A list that was made without latents; it needs no captions.
        frames: Of a crop.
        side_px: Of a crop; clips that are smaller or shorter are not read.
        batch: Crops of a slot.
        seed: Of clips, places and times.
    """

    store: Store
    clips: ClipList
    frames: int
    side_px: int
    batch: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "side_px", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.clips.has_latents:
            raise ValueError("clips: must be a list that was made without latents")
        if not len(self.suitable):
            sizes = (self.clips.column(name) for name in ("frames", "height", "width"))
            most, sides = next(sizes), np.minimum(*sizes)
            raise ValueError(
                f"side_px={self.side_px}: with frames={self.frames}, no clip that may be trained on is so large and "
                f"long; the largest has {int(sides.max(initial=0))} px, the longest {int(most.max(initial=0))} frames"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def suitable(self) -> NDArray[np.int64]:
        """Numbers of the clips that crops are taken of."""
        frames, height, width = (self.clips.column(name) for name in ("frames", "height", "width"))
        is_large = (frames >= self.frames) & (np.minimum(height, width) >= self.side_px)
        return np.flatnonzero(self.clips.has_pixels & is_large)

    def fates(self) -> dict[str, int]:
        """How many clips there are, how many crops are taken of, and how many not for each reason."""
        trained, with_pixels = len(self.suitable), int(self.clips.has_pixels.sum())
        reasons = self.clips.reasons.filter(pa.array(~self.clips.has_pixels))
        counted = Counter(reasons.to_pylist())
        smaller = {"smaller or shorter than a crop": with_pixels - trained} if with_pixels > trained else {}
        return {"seen": len(self.clips), "trained": trained, **smaller, **dict(counted.most_common())}

    @cached_property
    def _table(self) -> Any:
        return pinned(self.store, "clips", self.clips.source["clips_version"])

    def read(self, step: int, slot: int) -> CropBatch:
        """In place of a clip that cannot be decoded comes the next suitable one. Raises StoreUnavailable,
        NothingReadable."""
        found = [self._crop(Key(self.seed, step, slot, sample)) for sample in range(self.batch)]
        crops, is_other = zip(*found, strict=True)
        return CropBatch(step, slot, torch.stack(crops), sum(is_other))

    def _crop(self, key: Key) -> tuple[Tensor, bool]:
        """uint8[3, T, H, W], and whether it is another clip's than was drawn."""
        drawn = int(draw_share(key, "clip") * len(self.suitable))
        for further in range(min(MOST_TRIED, len(self.suitable))):
            crop = self._drawn(key, int(self.suitable[(drawn + further) % len(self.suitable)]))
            if (pixels := self._read(crop)) is not None:
                return pixels, further > 0
        row = self.clips.row(int(self.suitable[drawn]))
        raise NothingReadable(
            f"step {key.step}, slot {key.slot}: neither clip {row['clip_id']} nor any of the next {MOST_TRIED} can be "
            "decoded; curate the footage anew, or restore the store"
        )

    def _drawn(self, key: Key, number: int) -> Crop:
        rooms = [size - part for size, part in zip(self.clips.shape(number), self._size, strict=True)]
        first, top, left = (
            int(draw_share(key, name) * (room + 1)) for name, room in zip(("first", "top", "left"), rooms, strict=True)
        )
        return Crop(number, first, top, left)

    @property
    def _size(self) -> tuple[int, int, int]:
        return self.frames, self.side_px, self.side_px

    def _read(self, crop: Crop) -> Tensor | None:
        row = self.clips.row(crop.number)
        (video,) = open_videos(self.store, self._table, [row["row_id"]])
        if video is None:
            return None
        try:
            with video:
                is_whole = crop.first + self.frames >= WHOLE_SHARE * row["frames"]
                source = io.BytesIO(video.read()) if is_whole else io.BufferedReader(video, BUFFER_BYTES)
                return self._pixels(row, source, crop)
        except DamagedClip:
            if video.failure is None:
                return None
            raise gone(self.store, self._table, "clips", video.failure) from video.failure
        except OSError as error:
            raise gone(self.store, self._table, "clips", error) from error

    def _pixels(self, row: Mapping[str, Any], source: ReadableFile, crop: Crop) -> Tensor:
        shown = shown_box(row)
        box = Box(shown.x + crop.left, shown.y + crop.top, self.side_px, self.side_px)
        pictures = np.empty((self.frames, self.side_px, self.side_px, 3), np.uint8)
        count = 0
        with closing(read_clip_frames(row, source)) as frames:  # pyright: ignore[reportArgumentType]
            for frame in islice(frames, crop.first, crop.first + self.frames):
                try:
                    pictures[count] = upright_rgb(frame, width=row["width"], height=row["height"], box=box)
                except (ValueError, MemoryError) as error:  # FFmpeg's refusals of what damage claims: sizes, formats
                    raise DamagedClip(f"a frame cannot be converted ({error})") from error
                count += 1
        if count < self.frames:
            raise DamagedClip(f"{count} frames of the crop are in the clip's bytes, {self.frames} are needed")
        return torch.from_numpy(pictures).permute(3, 0, 1, 2).contiguous()
