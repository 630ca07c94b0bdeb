"""Films in the store: the captions of a source's scenes as they are there, and what is told of it, added and never
changed.

A telling is known by who tells it, what was asked, and the captions that it was told from: where captions are new, the
source is told again, and the older telling stays. All rows of a telling land in one version of the table, so that none
is ever there in part, or mixed of two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from captioner.captions import Author
from captioner.film_records import FilmRow, SceneCaption
from curation.records import digest
from curation.store import Store
from curation.tables import FILMS

__all__ = ["CaptionedFilm", "ToldFilm", "films_of", "sizes_of_sources", "told_among", "write_tellings"]

SCENES_KIND = "descriptive"
LOOK_UP_CLIPS = 10_000
# Of several captioners, the first: who has seen the clip says more than what was measured of it.
PREFERRED = ("vllm", "openai", "facts")


@dataclass(frozen=True, slots=True)
class CaptionedFilm:
    """A source's scenes in order of time. `caption_ids` are of their captions, None where a scene has none; `used`
    counts captions by captioner and model."""

    source_id: str
    scenes: tuple[SceneCaption, ...]
    caption_ids: tuple[str | None, ...]
    used: Counter[tuple[str, str]]

    @property
    def uncaptioned(self) -> int:
        return self.caption_ids.count(None)

    def prompt_id(self, author: Author, questions: Sequence[str]) -> str:
        """Identity of what is told of it, beside the model's name: how it is asked, what, and from which captions."""
        scenes = [[scene.clip_id, caption_id] for scene, caption_id in zip(self.scenes, self.caption_ids, strict=True)]
        return digest("film", author.captioner, author.revision, author.prompt_id, json.dumps([questions, scenes]))


@dataclass(frozen=True, slots=True)
class ToldFilm:
    """All rows of a film, told by an author whose `prompt_id` is that of this telling."""

    author: Author
    rows: tuple[FilmRow, ...]


# -- what is there


def sizes_of_sources(clips: lance.LanceDataset, where: str) -> dict[str, int]:
    """How many scenes each source has that meet a condition, in order of the sources' ids."""
    sizes: Counter[str] = Counter()
    for batch in clips.to_batches(columns=["source_id"], filter=where):
        sizes.update(batch["source_id"].to_pylist())
    return dict(sorted(sizes.items()))


def films_of(
    clips: lance.LanceDataset,
    captions: lance.LanceDataset,
    source_ids: Sequence[str],
    where: str,
    prefer: tuple[str, str] | None = None,
) -> list[CaptionedFilm]:
    """Some sources with the captions of their scenes; a scene is a clip that meets a condition.

    Of several captions of a clip, that of the captioner and model of `prefer` is taken, then by vllm, openai, facts;
    of these the newest. A scene without a caption has no text.
    """
    listed = ", ".join(f"'{source_id}'" for source_id in source_ids)
    rows = clips.to_table(
        columns=["clip_id", "source_id", "start_s", "duration_s"], filter=f"({where}) AND source_id IN ({listed})"
    ).to_pylist()
    rows.sort(key=lambda row: (row["start_s"], row["start_s"] + row["duration_s"], row["clip_id"]))
    said = _best_captions(captions, [row["clip_id"] for row in rows], prefer)
    by_source: dict[str, list[dict[str, Any]]] = {source_id: [] for source_id in source_ids}
    for row in rows:
        by_source[row["source_id"]].append(row)
    return [_film(source_id, scenes, said) for source_id, scenes in by_source.items() if scenes]


def _film(source_id: str, rows: Sequence[Mapping[str, Any]], said: Mapping[str, Mapping[str, Any]]) -> CaptionedFilm:
    found = [said.get(row["clip_id"]) for row in rows]
    return CaptionedFilm(
        source_id,
        tuple(
            SceneCaption(
                row["clip_id"], row["start_s"], row["start_s"] + row["duration_s"], caption["text"] if caption else ""
            )
            for row, caption in zip(rows, found, strict=True)
        ),
        tuple(caption["caption_id"] if caption else None for caption in found),
        Counter((caption["captioner"], caption["model"]) for caption in found if caption),
    )


def _best_captions(
    captions: lance.LanceDataset, clip_ids: Sequence[str], prefer: tuple[str, str] | None
) -> dict[str, dict[str, Any]]:
    """The caption of each whole clip that has one."""
    best: dict[str, dict[str, Any]] = {}
    for first in range(0, len(clip_ids), LOOK_UP_CLIPS):
        wanted = (
            pc.field("clip_id").isin(list(clip_ids[first : first + LOOK_UP_CLIPS]))
            & (pc.field("kind") == SCENES_KIND)
            & pc.field("window_index").is_null()
        )
        columns = ["caption_id", "clip_id", "text", "captioner", "model"]
        for batch in captions.to_batches(columns=columns, filter=wanted, with_row_id=True):
            for row in batch.to_pylist():
                if (row["text"] or "").strip():
                    other = best.get(row["clip_id"])
                    if other is None or _rank(row, prefer) < _rank(other, prefer):
                        best[row["clip_id"]] = row
    return best


def _rank(row: Mapping[str, Any], prefer: tuple[str, str] | None) -> tuple[bool, int, int]:
    """The lowest is the one to take. Row ids grow as rows are added."""
    captioner = row["captioner"]
    place = PREFERRED.index(captioner) if captioner in PREFERRED else len(PREFERRED)
    return (captioner, row["model"]) != prefer, place, -row["_rowid"]


def told_among(films: lance.LanceDataset, source_ids: Sequence[str], author: Author) -> set[tuple[str, str]]:
    """Source and prompt_id of each telling by an author's model that some sources have."""
    wanted = (
        pc.field("source_id").isin(list(source_ids))
        & (pc.field("captioner") == author.captioner)
        & (pc.field("model") == author.model)
    )
    told = films.to_table(columns=["source_id", "prompt_id"], filter=wanted)
    return set(zip(told["source_id"].to_pylist(), told["prompt_id"].to_pylist(), strict=True))


# -- what is added


def write_tellings(store: Store, tellings: Iterable[ToldFilm], run_id: str) -> int:
    """Add the rows that are not there yet, in one version; how many. The caller holds the lease `captions`.

    Raises StoreUnavailable; the same call may be made again.
    """
    rows = {row["film_id"]: row for telling in tellings for row in _stored(telling, run_id)}
    if not rows:
        return 0
    table = pa.Table.from_pylist(list(rows.values()), schema=FILMS)
    try:
        done = store.open("films").merge_insert("film_id").when_not_matched_insert_all().execute(table)
    except OSError as error:
        raise store.unavailable("written", error) from error
    return done["num_inserted_rows"]


def _stored(telling: ToldFilm, run_id: str) -> Iterator[dict[str, Any]]:
    author = telling.author
    for row in telling.rows:
        key = (row.source_id, row.kind, row.question or "", row.position, author.model, author.prompt_id)
        yield {
            **asdict(row),
            "clip_ids": list(row.clip_ids),
            "flags": list(row.flags),
            "film_id": digest("film row", *key),
            "captioner": author.captioner,
            "model": author.model,
            "prompt_id": author.prompt_id,
            "run_id": run_id,
        }
