"""Which clips and captions lack a latent, and what a latent is known by; making it is `encoders`.

A row's key is what went in: the clip with the picture that is shown of it, the network by its weights, and the size; or
the caption and the text encoder. A clip that fits no geometry has a row as well, whose key is the geometry that was
asked for. So nothing is made twice, and another network, size or encoder adds rows beside those that are there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow.compute as pc

from curation.conditions import narrowed
from curation.records import digest
from curation.store import Store
from trainer.epoch import reason_for
from trainer.geometry import Compression, FitConfig, Geometry, fit
from trainer.reading.listing import exact_rates
from trainer.reading.pixels import PIXEL_COLUMNS, shown_box

__all__ = [
    "UNFIT",
    "AskedClips",
    "AskedTexts",
    "WantedClip",
    "WantedLatent",
    "WantedText",
    "clip_latent_id",
    "clip_rate",
    "latent_bytes",
    "text_latent_id",
    "wanted_clips",
    "wanted_texts",
]

LOOK_UP_ROWS = 10_000
VALUE_BYTES = 2  # float16
RATE_COLUMNS = ("start_pts", "end_pts", "time_base_num", "time_base_den")
CLIP_COLUMNS = tuple(dict.fromkeys((*PIXEL_COLUMNS, *RATE_COLUMNS)))
UNFIT = ("too_short", "too_small", "too_long")
"""Reasons that come from what was asked, not from a fault; `too_long` is said of texts as well."""


# -- what is asked for


@dataclass(frozen=True, slots=True)
class AskedClips:
    """Latents of clips: the network as `space_of` takes it, what it is in the driver, and at what size."""

    network: str
    network_id: str
    latent_channels: int
    compression: Compression
    fit: FitConfig

    def __post_init__(self) -> None:
        if self.fit.square_crop:
            raise ValueError("square_crop=True: must be False: a crop's latent would stand for the whole clip")


@dataclass(frozen=True, slots=True)
class AskedTexts:
    """Embeddings of captions: the text encoder's directory or hub id, and the id that it has in the driver."""

    encoder: str
    encoder_id: str
    max_tokens: int


class WantedLatent(Protocol):
    @property
    def latent_id(self) -> str: ...


Lacking = TypeVar("Lacking", bound=WantedLatent)


@dataclass(frozen=True, slots=True)
class WantedClip:
    """A clip without a latent at the geometry that it is to have, or the reason why it can have none."""

    latent_id: str
    row: dict[str, Any]
    row_id: int
    rate: Fraction
    geometry: Geometry | None
    unfit: str | None = None


@dataclass(frozen=True, slots=True)
class WantedText:
    """A caption without an embedding; without a caption's id the empty text."""

    latent_id: str
    caption_id: str
    text: str


# -- keys


def clip_rate(row: Mapping[str, Any]) -> Fraction:
    """Frames a second of a clip, of `frames`, `start_pts`, `end_pts` and the time base: as the list of clips has it."""
    ticks = row["end_pts"] - row["start_pts"]
    seconds = ticks * row["time_base_num"] / row["time_base_den"]
    (num,), (den,) = exact_rates(np.array([row["frames"] / seconds]), np.array([1 / ticks]))
    return Fraction(int(num), int(den))


def clip_latent_id(row: Mapping[str, Any], network_id: str, geometry: Geometry) -> str:
    """Of a row with `PIXEL_COLUMNS`."""
    size = geometry.frames, geometry.height, geometry.width
    return digest("latent", row["clip_id"], network_id, *size, *_box(row))


def latent_bytes(clip: WantedClip, asked: AskedClips) -> int:
    """How large its latent will be."""
    return VALUE_BYTES * asked.latent_channels * prod(clip.geometry.latent_size) if clip.geometry else 0


def text_latent_id(caption_id: str, encoder_id: str) -> str:
    """Without a caption's id that of the empty text."""
    return digest("latent", caption_id, encoder_id)


def _box(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    box = shown_box(row)
    return box.x, box.y, box.width, box.height


def _wanted_clip(row: dict[str, Any], asked: AskedClips) -> WantedClip:
    box, rate, row_id = shown_box(row), clip_rate(row), row.pop("_rowid")
    size = row["frames"], box.height, box.width
    if geometry := fit(*size, rate, asked.compression, asked.fit):
        return WantedClip(clip_latent_id(row, asked.network_id, geometry), row, row_id, rate, geometry)
    said = json.dumps([asdict(asked.fit), asdict(asked.compression)], sort_keys=True)
    latent_id = digest("latent", row["clip_id"], asked.network_id, said, *_box(row))
    return WantedClip(latent_id, row, row_id, rate, None, reason_for(*size, asked.compression))


# -- what is lacking


def wanted_clips(
    store: Store, version: int, where: str, asked: AskedClips, counts: Counter[str] | None = None
) -> Iterator[list[WantedClip]]:
    """Clips of a version of the table that meet a SQL condition, have video, and lack their row, in chunks.

    `counts` gets `seen`, `without_video`, `complete`, and `failed_before`: those of a row without a latent.
    """
    clips, counts = store.open("clips", version), Counter() if counts is None else counts
    columns = [*CLIP_COLUMNS, "video_bytes"]
    for batch in clips.to_batches(columns=columns, filter=where, with_row_id=True, batch_size=LOOK_UP_ROWS):
        rows = batch.to_pylist()
        with_video = [row for row in rows if row.pop("video_bytes") is not None]
        counts["seen"] += len(rows)
        counts["without_video"] += len(rows) - len(with_video)
        yield _lacking(store, [_wanted_clip(row, asked) for row in with_video], counts)


def wanted_texts(
    store: Store, version: int, where: str, encoder_id: str, counts: Counter[str] | None = None
) -> Iterator[list[WantedText]]:
    """The empty text and the captions of whole clips that have words, of a version of the table, that meet a SQL
    condition and lack their row, in chunks. `counts` as for clips."""
    captions, counts = store.open("captions", version), Counter() if counts is None else counts
    asked = narrowed(where, "text IS NOT NULL AND text != '' AND window_index IS NULL")
    counts["seen"] += 1
    yield _lacking(store, [WantedText(text_latent_id("", encoder_id), "", "")], counts)
    for batch in captions.to_batches(columns=["caption_id", "text"], filter=asked, batch_size=LOOK_UP_ROWS):
        rows = batch.to_pylist()
        counts["seen"] += len(rows)
        wanted = [
            WantedText(text_latent_id(row["caption_id"], encoder_id), row["caption_id"], row["text"]) for row in rows
        ]
        yield _lacking(store, wanted, counts)


def _lacking(store: Store, wanted: list[Lacking], counts: Counter[str]) -> list[Lacking]:
    among = pc.field("latent_id").isin([one.latent_id for one in wanted])
    there = store.open("latents").to_table(columns=["latent_id", "failure"], filter=among)
    failures = dict(zip(there["latent_id"].to_pylist(), there["failure"].to_pylist(), strict=True))
    for failure in failures.values():
        counts["failed_before" if failure else "complete"] += 1
    return [one for one in wanted if one.latent_id not in failures]
