"""What a report says of whole sources: synopsis, chapters with times, answers, and the clips that they rest on."""

from __future__ import annotations

import heapq
import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from curation import report_words as words
from curation.report_caption_words import SHORT_ID, who, whole_text
from curation.report_data import sources_of
from curation.store import Store

__all__ = ["Film", "FilmText", "Films", "read_films"]

KINDS = ("synopsis", "chapter", "answer")
MAX_FILMS = 40
MAX_TEXTS = 300  # of one source
MAX_RESTS = 24  # clips that one text is shown to rest on
COLUMNS = [
    *("film_id", "source_id", "kind", "position", "title", "question", "text", "start_s", "end_s", "clip_ids"),
    *("captioner", "model", "prompt_id", "flags"),
]


@dataclass(frozen=True, slots=True)
class Rest:
    """A clip that a text rests on, linked where it is on the page."""

    clip_id: str
    label: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class FilmText:
    """One text about a source. `head` is a chapter's title or the question."""

    head: str
    when: str
    text: str
    flags: tuple[str, ...]
    prompt_id: str
    rests_on: tuple[Rest, ...]
    more_rests: int


@dataclass(frozen=True, slots=True)
class Film:
    """What one captioner says of a source."""

    name: str
    uri: str
    who: str
    synopsis: tuple[FilmText, ...]
    chapters: tuple[FilmText, ...]
    answers: tuple[FilmText, ...]
    others: tuple[FilmText, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Films:
    """Some sources with what is said of them; `counts` are all texts of the store by kind, older ones that others have
    taken the place of among them."""

    films: tuple[Film, ...]
    counts: dict[str, int]
    sources: int
    has_more: bool


def read_films(store: Store, on_page: Collection[str], limit: int = MAX_FILMS) -> Films | None:
    """What is said of at most `limit` sources; None where nothing is said of any. Raises StoreUnavailable.

    `on_page` are the clips that can be linked to. Memory does not grow with the number of sources.
    """
    table = store.find("films")
    if table is None:
        return None
    counts: Counter[str] = Counter()
    chosen: set[str] = set()
    has_more = False
    with store.reading():
        for batch in table.to_batches(columns=["source_id", "kind"]):
            counts.update(batch["kind"].to_pylist())
            chosen.update(batch["source_id"].unique().to_pylist())
            has_more = has_more or len(chosen) > limit
            chosen = set(heapq.nsmallest(limit, chosen))
        if not chosen:
            return None
        rows = _rows_of(store, chosen)
    sources = sources_of(store.open("sources"), chosen)
    films = []
    for (source_id, captioner, model), some in sorted(rows.items()):
        uri = sources.get(source_id, {}).get("uri") or f"source {source_id[:SHORT_ID]}, not in the table"
        films.append(_film(uri, who(captioner, model), some, frozenset(on_page)))
    in_order = tuple(sorted(films, key=lambda film: (film.uri, film.who)))
    in_kinds = sorted(counts.items(), key=lambda item: (KINDS.index(item[0]) if item[0] in KINDS else len(KINDS), item))
    return Films(in_order, dict(in_kinds), len(chosen), has_more)


def _rows_of(store: Store, source_ids: Collection[str]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Rows by source, captioner and model, of each what was told last."""
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    wanted = pc.field("source_id").isin(sorted(source_ids))
    for batch in store.open("films").to_batches(columns=COLUMNS, filter=wanted, with_row_id=True):
        for row in batch.to_pylist():
            rows.setdefault((row["source_id"], row["captioner"], row["model"]), []).append(row)
    return {key: _newest(some) for key, some in rows.items()}


def _newest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind, and of the answers to each question, those that were told last: where captions changed, a source
    was told again. Row ids grow as rows are added."""
    last: dict[tuple[str, str | None], dict[str, Any]] = {}
    for row in rows:
        of = row["kind"], row["question"]
        last[of] = max(last.get(of, row), row, key=lambda row: row["_rowid"])
    return [row for row in rows if row["prompt_id"] == last[row["kind"], row["question"]]["prompt_id"]]


def _film(uri: str, said_by: str, rows: Sequence[Mapping[str, Any]], on_page: frozenset[str]) -> Film:
    in_order = sorted(rows, key=lambda row: (row["position"], row["start_s"] or 0.0, row["film_id"]))
    texts: dict[str, list[FilmText]] = {kind: [] for kind in KINDS}
    others: list[FilmText] = []
    for row in in_order[:MAX_TEXTS]:
        texts.get(row["kind"], others).append(_text(row, on_page))
    return Film(
        name=posixpath.basename(uri.rstrip("/")) or uri,
        uri=uri,
        who=said_by,
        synopsis=tuple(texts["synopsis"]),
        chapters=tuple(texts["chapter"]),
        answers=tuple(texts["answer"]),
        others=tuple(others),
        left_out=max(0, len(rows) - MAX_TEXTS),
    )


def _text(row: Mapping[str, Any], on_page: frozenset[str]) -> FilmText:
    clip_ids = row["clip_ids"] or []
    first, last = row["start_s"], row["end_s"]
    times = [
        words.timecode(second) for second in (first, last) if second is not None and words.finite(second) == second
    ]
    return FilmText(
        head=whole_text(row["question"] or row["title"] or ""),
        when=" to ".join(times),
        text=whole_text(row["text"]),
        flags=tuple(row["flags"] or ()),
        prompt_id=row["prompt_id"],
        rests_on=tuple(
            Rest(clip_id, f"clip {clip_id[:SHORT_ID]}", clip_id in on_page) for clip_id in clip_ids[:MAX_RESTS]
        ),
        more_rests=max(0, len(clip_ids) - MAX_RESTS),
    )
