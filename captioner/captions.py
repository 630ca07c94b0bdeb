"""Captions in the store: rows that are added and never changed, each known by what it is about and who says it.

A caption's id comes from clip, window, kind, model with revision, and prompt. Adding a row that is there changes
nothing, so that a run that was killed, or work that was done twice, leaves the table as it would have been.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import lance
import pyarrow as pa
import pyarrow.compute as pc

from captioner.windows import Window
from curation.records import digest
from curation.store import Store
from curation.tables import CAPTIONS

__all__ = ["KINDS", "Author", "Caption", "Kind", "caption_id_of", "captions_among", "write_captions"]

Kind = Literal["short", "descriptive", "motion"]
KINDS: tuple[Kind, ...] = ("short", "descriptive", "motion")
"""The kinds that a captioner writes; `original` is what came with the footage."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who says it and how it was asked. `revision` is from the model's files where they are here."""

    captioner: str
    model: str
    revision: str
    prompt_id: str


@dataclass(frozen=True, slots=True)
class Caption:
    """A row of the captions table; its columns are explained there."""

    clip_id: str
    source_id: str
    kind: str
    text: str | None
    window_index: int | None
    window_start_pts: int
    window_end_pts: int
    captioner: str
    model: str
    model_revision: str
    prompt_id: str
    attempts: int
    flags: tuple[str, ...] = ()
    fields: str | None = None
    request_id: str | None = None
    seed: int | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    finish_reason: str | None = None
    agreement: float | None = None

    @property
    def caption_id(self) -> str:
        window = self.window_start_pts, self.window_end_pts
        author = Author(self.captioner, self.model, self.model_revision, self.prompt_id)
        return caption_id_of(self.clip_id, window, self.kind, author)


def caption_id_of(clip_id: str, window_pts: tuple[int, int], kind: str, author: Author) -> str:
    """Identity of a caption: the same in every run and on every machine. A clip that fits in one window has the same
    captions for it and for the whole."""
    return digest("caption", clip_id, *window_pts, kind, author.model, author.revision, author.prompt_id)


def request_id_of(clip_id: str, window: Window, author: Author, attempt: int) -> str:
    """Identity of one question: whatever answers it belongs to this window and no other."""
    return digest("request", caption_id_of(clip_id, (window.start_pts, window.end_pts), "", author), attempt)


def captions_among(
    captions: lance.LanceDataset, clip_ids: Sequence[str], author: Author, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """What an author said of some clips: the asked columns of the rows."""
    wanted = (
        pc.field("clip_id").isin(list(clip_ids))
        & (pc.field("model") == author.model)
        & (pc.field("model_revision") == author.revision)
        & (pc.field("prompt_id") == author.prompt_id)
    )
    return captions.to_table(columns=list(columns), filter=wanted).to_pylist() if clip_ids else []


def write_captions(store: Store, captions: Iterable[Caption], run_id: str) -> int:
    """Add those that are not there yet, in one version; how many. The caller holds the lease `captions`.

    Raises StoreUnavailable; the same call may be made again.
    """
    rows = {caption.caption_id: asdict(caption) for caption in captions}
    if not rows:
        return 0
    listed = [
        {**row, "caption_id": caption_id, "flags": list(row["flags"]), "run_id": run_id}
        for caption_id, row in rows.items()
    ]
    table = pa.Table.from_pylist(listed, schema=CAPTIONS)
    there = store.open("captions")
    try:
        if there.count_rows(pc.field("caption_id").isin(list(rows))) == len(rows):
            return 0  # a merge of nothing new would be a version all the same
        done = there.merge_insert("caption_id").when_not_matched_insert_all().execute(table)
    except OSError as error:
        raise store.unavailable("written", error) from error
    return done["num_inserted_rows"]
