"""Stores with clips and captions that a captioner can be tuned on."""

from __future__ import annotations

from pathlib import Path

from captioner.captions import Caption, write_captions
from curation.store import Store
from tests.stores import curate_in_process

__all__ = ["captioned_store"]

COLORS = ("red", "green", "blue", "yellow", "orange", "purple")


def captioned_store(footage: Path, folder: Path) -> Store:
    """Every clip with video has a short and a descriptive caption, as a model would have written them."""
    store = Store.at(str(folder))
    curate_in_process([footage], store)
    columns = ["clip_id", "source_id", "start_pts", "end_pts"]
    rows = store.open("clips").to_table(columns=columns, filter="video_bytes IS NOT NULL").to_pylist()
    rows.sort(key=lambda row: row["clip_id"])
    for number, row in enumerate(rows):
        color = COLORS[number % len(COLORS)]
        texts = {
            "short": f"A {color} circle.",
            "descriptive": f"A {color} circle moves to the left over a black background.",
        }
        write_captions(
            store,
            [
                Caption(
                    clip_id=row["clip_id"],
                    source_id=row["source_id"],
                    kind=kind,
                    text=text,
                    window_index=None,
                    window_start_pts=row["start_pts"],
                    window_end_pts=row["end_pts"],
                    captioner="test",
                    model="test",
                    model_revision="1",
                    prompt_id="test",
                    attempts=1,
                )
                for kind, text in texts.items()
            ],
            "run-test",
        )
    return store
