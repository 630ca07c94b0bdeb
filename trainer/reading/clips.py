"""The clips of a store at pinned versions, with what training has to know of each: listed once, in a file that is
mapped into memory, so that a million of them cost no more to open than ten.

A clip's number is its place in that list, which is in the order of the rows of `clips`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.store import Store
from trainer.reading.pixels import PIXEL_COLUMNS
from trainer.reading.tables import content_id, mapped, write_once

__all__ = ["KINDS", "NONE", "CaptionKind", "ClipList", "ClipSource", "LatentSource", "write_clips"]

CaptionKind = Literal["original", "short", "descriptive", "motion"]
KINDS: tuple[CaptionKind, ...] = ("original", "short", "descriptive", "motion")
NONE = -1  # no row
LACKS = ("no_caption", "no_embedding", "no_latent")  # reasons of clips that have pixels all the same
CLIPS_FILE = "clips.arrow"


@dataclass(frozen=True, slots=True)
class LatentSource:
    """What is read that was encoded ahead, from the table `latents`.

    Attributes:
        version: Of the table.
        network_id: Of the compression network whose latents stand for clips; None where pixels are decoded.
        encoder_id: Of the text encoder whose embeddings stand for captions; None where their words are read.
    """

    version: int
    network_id: str | None = None
    encoder_id: str | None = None

    def __post_init__(self) -> None:
        if self.network_id is None and self.encoder_id is None:
            raise ValueError("network_id=None: must be given where encoder_id is not")


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Which clips and captions: versions of the tables are pinned, so that a run that goes on finds the same.

    `where` is a condition on the columns of `clips`, `captions_where` on those of `captions`. Without a version of
    `captions` no clip needs one: a compression network learns from pixels alone.
    """

    store: Store
    clips_version: int
    captions_version: int | None
    where: str = "keep"
    captions_where: str = "coalesce(array_length(flags), 0) = 0"
    latents: LatentSource | None = None

    @property
    def about(self) -> dict[str, str]:
        said = {key: value for key, value in asdict(self).items() if key != "store"}
        return {"source": json.dumps(said, sort_keys=True)}


class ClipList:
    """The list on disk. Raises FileNotFoundError, ValueError where it is another kind of file."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._rows, self._about = mapped(directory / CLIPS_FILE)

    def __reduce__(self) -> tuple[type[ClipList], tuple[Path]]:
        return ClipList, (self.directory,)

    def __len__(self) -> int:
        return self._rows.num_rows

    @property
    def clips_id(self) -> str:
        """Hash of all that it says."""
        return self._about["clips_id"]

    @property
    def source(self) -> dict[str, Any]:
        """The fields of the ClipSource that it was made from, but for the store."""
        return json.loads(self._about["source"])

    @property
    def has_latents(self) -> bool:
        return bool((self.source["latents"] or {}).get("network_id"))

    @property
    def has_embeddings(self) -> bool:
        return bool((self.source["latents"] or {}).get("encoder_id"))

    @property
    def empty_text_row(self) -> int:
        """The row of `latents` with the embedding of no text; NONE where texts are not read from there."""
        return int(self._about["empty_text_row"])

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers, not copied."""
        return self._rows.column(name).to_numpy(zero_copy_only=True)

    @cached_property
    def reasons(self) -> pa.Array:
        """Why a clip cannot be trained on; null where it can."""
        return self._rows.column("reason")

    @property
    def has_pixels(self) -> NDArray[np.bool_]:
        """Which clips are chosen and have a video, whatever else they lack."""
        reasons = self.reasons.fill_null("").to_numpy(zero_copy_only=False)
        return np.isin(reasons, ["", *LACKS])

    def texts(self, name: str) -> pa.Array:
        return self._rows.column(name)

    def row(self, number: int) -> dict[str, Any]:
        """What `clip_pixels` has to know of a clip, and more."""
        row = self._rows.slice(number, 1).to_pylist()[0]
        row["frames"], row["width"], row["height"] = (row[f"whole_{name}"] for name in ("frames", "width", "height"))
        return {name: row[name] for name in PIXEL_COLUMNS} | {"row_id": row["row_id"]}

    def rate(self, number: int) -> Fraction:
        return Fraction(*(self._rows.column(f"rate_{part}")[number].as_py() for part in ("num", "den")))

    def caption_rows(self, number: int) -> dict[CaptionKind, int]:
        """The row of `captions` of each kind that the clip has."""
        return self._by_kind(number, "")

    def embedding_rows(self, number: int) -> dict[CaptionKind, int]:
        """The row of `latents` of each kind that was read by the text encoder."""
        return self._by_kind(number, "_embedding")

    def _by_kind(self, number: int, suffix: str) -> dict[CaptionKind, int]:
        rows: dict[CaptionKind, int] = {kind: int(self.column(kind + suffix)[number]) for kind in KINDS}
        return {kind: row for kind, row in rows.items() if row != NONE}

    def latent_row(self, number: int) -> int:
        return int(self.column("latent_row")[number])

    def shape(self, number: int) -> tuple[int, int, int]:
        """Frames, height, width that are shown; of the latent, where latents are read."""
        frames, height, width = (self._rows.column(name)[number].as_py() for name in ("frames", "height", "width"))
        return frames, height, width


def write_clips(table: pa.Table, empty_text_row: int, source: ClipSource, directory: Path) -> ClipList:
    """Write what `listing.list_clips` found. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    about = source.about | {"empty_text_row": str(empty_text_row)}
    about["clips_id"] = content_id(table)
    write_once(table, directory / CLIPS_FILE, about)
    return ClipList(directory)
