"""What a search found, as rows for a table in a terminal and as a page with clips to play."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curation import report_words as words
from curation.report_cards import card_of
from curation.report_clips import PlayConfig, remove_stale, write_players
from curation.report_data import CLIP_COLUMNS, SOURCE_COLUMNS, ShownClip
from curation.report_distributions import columns_of
from curation.report_page import rendered
from curation.score_batches import model_scores_by_clip
from curation.search import Found, Hits
from curation.store import Store
from curation.whole_files import write_whole

__all__ = ["found_clips", "search_table", "write_search_page"]

SCRIPTS = ("report.js",)


def found_clips(store: Store, hits: Sequence[Hits]) -> dict[str, ShownClip]:
    """The rows of what was found, with what models say and the rows of the sources, by clip id."""
    ids = list(dict.fromkeys(found.clip_id for each in hits for found in each.found))
    clips, sources = store.open("clips"), store.open("sources")
    names = [name for name in CLIP_COLUMNS if name in clips.schema.names]
    rows = clips.to_table(columns=names, filter=pc.field("clip_id").isin(ids), with_row_id=True).to_pylist()
    wanted = sorted({row["source_id"] for row in rows})
    found = sources.to_table(columns=SOURCE_COLUMNS, filter=pc.field("source_id").isin(wanted)).to_pylist()
    by_id = {source["source_id"]: source for source in found}
    said = model_scores_by_clip(store, [row["clip_id"] for row in rows], [c.name for c in columns_of(store)])
    shown = {}
    for row in rows:
        row_id, clip_id = row.pop("_rowid"), row["clip_id"]
        reason = "kept" if row["keep"] else row["reason"] or "unnamed"
        shown[clip_id] = ShownClip(reason, row_id, row | said[clip_id], by_id.get(row["source_id"], {}), None)
    return shown


def nearness_words(found: Found) -> tuple[str, str]:
    """Distance and cosine, empty where they were not asked for."""
    distance = "" if found.distance is None else f"{found.distance:.3f}"
    return distance, "" if found.cosine is None else f"{found.cosine:.3f}"


def search_table(hits: Hits, clips: Mapping[str, ShownClip], columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows to print, the first their heads; one for each clip that is still in the store."""
    heads: tuple[str, ...] = ("rank", "distance", "cosine", "clip_id", "source", "span", "verdict", *columns)
    rows: list[tuple[str, ...]] = [heads]
    for rank, found in enumerate(hits.found, 1):
        if (clip := clips.get(found.clip_id)) is None:
            continue
        row = clip.row
        end_s = row["start_s"] + row["duration_s"]
        rows.append(
            (
                str(rank),
                *nearness_words(found),
                found.clip_id,
                words.visible(posixpath.basename((clip.source.get("uri") or "?").rstrip("/"))),
                f"{words.timecode(row['start_s'])}-{words.timecode(end_s)}",
                words.visible(clip.reason),
                *(value_words(row.get(column)) for column in columns),
            )
        )
    empty = [i for i, _ in enumerate(heads) if len(rows) > 1 and all(not row[i] for row in rows[1:])]
    return [tuple(text for i, text in enumerate(row) if i not in empty) for row in rows]


def value_words(value: Any) -> str:
    if isinstance(value, list):
        return words.visible(", ".join(map(str, value)))
    return words.number(value) if value is None or isinstance(value, (int, float)) else words.visible(value)


def write_search_page(
    store: Store,
    hits: Sequence[Hits],
    clips: Mapping[str, ShownClip],
    out: Path,
    *,
    asked: str,
    play: PlayConfig,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write `out/index.html` and what it plays. `asked` is the search in words. Raises OSError."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    players = write_players({"found": list(clips.values())}, store.open("clips"), out, play, tell)
    columns = columns_of(store)
    sections = [
        {
            "by": each.by,
            "notes": each.notes,
            "cards": [
                (card_of(clips[found.clip_id], players[found.clip_id], players), rank_words(rank, found))
                for rank, found in enumerate(each.found, 1)
                if found.clip_id in clips
            ],
        }
        for each in hits
    ]
    scores = {
        clip_id: {
            "reason": clip.reason,
            "uri": clip.source.get("uri"),
            "scores": {column.name: words.finite(clip.row.get(column.name)) for column in columns},
        }
        for clip_id, clip in clips.items()
    }
    html = rendered(
        "search.html.j2",
        SCRIPTS,
        store_uri=store.uri,
        asked=asked,
        sections=sections,
        data={"version": 1, "columns": [{"name": c.name, "says": c.says} for c in columns], "clips": scores},
    )
    write_whole(out / "index.html", html)
    remove_stale(out, players.values())
    return out / "index.html"


def rank_words(rank: int, found: Found) -> str:
    distance, cosine = nearness_words(found)
    parts = [str(rank), distance and f"distance {distance}", cosine and f"cosine {cosine}"]
    return " · ".join(filter(None, parts))
