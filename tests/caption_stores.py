"""Stores whose clips are captioned, for what looks at captions: rows are written as they are, no captioner runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from curation.store import STORAGE_VERSION, Store
from curation.tables import CAPTIONS, FILMS
from tests.score_stores import drawn_rows, write_store

FIELDS = json.dumps({"subjects": ["a red kite"], "action": "climbs", "shot_type": "wide"})
TAGS = '</p></div></script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">'
PILED = "Z" + "\u0300\u0301\u0302\u0303\u0304" * 60  # marks that climb over the lines above
HOSTILE_TEXTS = (
    TAGS,
    '" onmouseover="window.hacked=1" autofocus x="',
    "turned \u202e around \u2067 and \u2066 around \x00\x07\x1b[31m\r\nnext\u2028line",
    "{{ 7*7 }}{% raw %}--><!--",
    "x" * 9000,
    PILED,
    "\ufdfd" * 300,
)


def caption_row(clip: dict[str, Any], kind: str, text: str | None, **more: Any) -> dict[str, Any]:
    """A caption of a whole clip by the captioner `facts`, or whatever `more` says."""
    row = {
        "clip_id": clip["clip_id"],
        "source_id": clip["source_id"],
        "kind": kind,
        "text": text,
        "window_start_pts": clip["start_pts"],
        "window_end_pts": clip["end_pts"],
        "captioner": "facts",
        "model": "facts-1",
        "model_revision": "",
        "prompt_id": "none",
        "attempts": 1,
        "flags": [],
        "run_id": "caption-1",
        **more,
    }
    key = [row[name] for name in ("clip_id", "kind", "captioner", "model", "prompt_id", "window_start_pts")]
    return row | {"caption_id": hashlib.sha256(json.dumps([*key, row.get("window_index")]).encode()).hexdigest()[:32]}


def by_model(clip: dict[str, Any], kind: str, text: str | None, **more: Any) -> dict[str, Any]:
    """A caption by a model that vLLM serves."""
    said = {
        "captioner": "vllm",
        "model": "tiny-qwen2-vl",
        "model_revision": "ab12cd34ef56",
        "prompt_id": "5f0c9d7e11aa2233",
        "fields": FIELDS,
        "tokens_in": 812,
        "tokens_out": 46,
        "finish_reason": "stop",
        "agreement": 0.31,
    }
    return caption_row(clip, kind, text, **(said | more))


def film_row(source_id: str, kind: str, position: int, text: str, **more: Any) -> dict[str, Any]:
    row = {
        "source_id": source_id,
        "kind": kind,
        "position": position,
        "text": text,
        "clip_ids": [],
        "captioner": "vllm",
        "model": "tiny-qwen2-vl",
        "prompt_id": f"prompt-{kind}",
        "flags": [],
        "run_id": "caption-1",
        **more,
    }
    return row | {"film_id": hashlib.sha256(f"{source_id} {kind} {position}".encode()).hexdigest()[:32]}


def write_rows(store: Store, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to `captions` or `films`."""
    schema = {"captions": CAPTIONS, "films": FILMS}[table]
    lance.write_dataset(
        pa.Table.from_pylist(list(rows), schema=schema),
        store.table_uri(table),
        mode="append",
        data_storage_version=STORAGE_VERSION,
    )


def captioned_clips(clips: int, seed: int) -> list[dict[str, Any]]:
    """Rows of clips, most of them kept, with times in milliseconds."""
    rows = drawn_rows(clips, seed)
    for row in rows:
        start = round(1000 * row["start_s"])
        row |= {"duration_s": 6.0, "start_pts": start, "end_pts": start + 6000}
        row |= {"time_base_num": 1, "time_base_den": 1000, "rate_fps": 25.0}
    return rows


def captions_for(clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Captions of kept clips: two captioners and windows for each; of some flags; some silent; the last has none.

    The second clip says `copper`, the third is damaged, the fourth has a flag in a window only.
    """
    rows: list[dict[str, Any]] = []
    for place, clip in enumerate(clips[:-1]):
        color = "copper" if place == 1 else "grey"
        if place == 2:
            rows += [caption_row(clip, kind, None, flags=["damaged_clip"]) for kind in ("short", "descriptive")]
            continue
        rows.append(caption_row(clip, "short", f"A {color} picture, number {place}."))
        rows.append(caption_row(clip, "motion", "The camera pans left."))
        flags = ["stock_opening", "too_long"] if place % 5 == 0 else []
        text = f"The video shows a {color} kite over a beach in wind number {place}."
        rows.append(by_model(clip, "descriptive", text, flags=flags, attempts=3 if flags else 1))
        rows.append(caption_row(clip, "descriptive", f"A {color} picture that is bright, and pans left."))
        for window in range(2):
            start = clip["start_pts"] + 3000 * window
            span = {"window_index": window, "window_start_pts": start, "window_end_pts": start + 3000}
            flags = ["against_facts"] if place == 3 and window else []
            rows.append(by_model(clip, "descriptive", f"Window {window} of {color}.", **span, flags=flags))
    return rows


def captioned_store(folder: Path, clips: int = 24, seed: int = 11) -> tuple[Store, list[dict[str, Any]]]:
    """A store of captioned clips and its kept clips in the order of their ids; hostile captions are in the fifth."""
    rows = captioned_clips(clips, seed)
    store = write_store(folder, rows)
    kept = sorted((row for row in rows if row["keep"]), key=lambda row: row["clip_id"])
    captions = captions_for(kept)
    captions += [
        by_model(kept[4], "original", text, captioner="side_file", model=f"side-{number}", flags=["hostile"])
        for number, text in enumerate(HOSTILE_TEXTS)
    ]
    captions.append(by_model(kept[4], TAGS, TAGS, model=TAGS, prompt_id=TAGS, flags=[TAGS], fields=TAGS))
    write_rows(store, "captions", captions)
    return store, kept
