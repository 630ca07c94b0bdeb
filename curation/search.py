"""Finding clips: those that look like a file or a clip, those that a text describes, those that meet a condition.

By looks always: fingerprints are in every store. By meaning where a model has embedded clips; a text needs that.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lance
import numpy as np
from numpy.typing import NDArray

from curation.conditions import check_condition, narrowed
from curation.embed import Embedder
from curation.embeddings import EmbeddingModel, models_in, nearest_by_embedding, vectors_of
from curation.fingerprint import Fingerprint, InvalidFingerprint
from curation.media import Limits
from curation.model_files import BadModel
from curation.neighbours import fingerprints_of_file, nearest_by_fingerprint
from curation.query_pictures import pictures_of_file
from curation.records import BadSource
from curation.report_clips import CLIP_ID
from curation.score_batches import model_score_names
from curation.store import Store

__all__ = ["BadSearch", "Found", "Hits", "checked_columns", "find_alike", "find_where"]

# Neighbours are asked for in growing numbers until enough of them meet the condition, up to so many.
FIRST_FETCH, FETCH_GROWTH, MAX_FETCH = 4, 8, 4096
# What ends so is meant as a file, also where there is none.
FILE_SUFFIX = re.compile(
    r"\.(mp4|m4v|mov|mkv|webm|avi|mpg|mpeg|ts|mxf|ogv|ogg|flv|wmv|3gp|y4m|png|jpe?g|webp|bmp|tiff?|gif)", re.IGNORECASE
)
NO_FIELD = re.compile(
    r"No field named ([\w.\"`]+?)\.(?:\s|$)|column '?\"?(\w+)'?\"? (?:does not exist|not found)", re.IGNORECASE
)
NO_FINGERPRINT = "the clip has no fingerprint: it is too short, or was curated by an older version"
OLDER_STORE = "the clips were curated by an older version, without fingerprints; curate again: python -m jobs.curate"
EMBED_FIRST = "python -m jobs.score --store {store} --embedding MODEL embeds the clips, with any CLIP or SigLIP model"


class BadSearch(Exception):
    """A search that cannot be made, and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A clip and how near it is: `distance` by looks, 0 for the same and about 1 for strangers; `cosine` by meaning."""

    clip_id: str
    distance: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found in one way, by looks, meaning or condition, nearest first; `notes` say what it does not cover."""

    by: str
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()


# -- conditions and columns


def find_where(store: Store, where: str | None, limit: int) -> Hits:
    """The clips that meet a SQL condition, in the order of their sources and of time. Raises BadSearch."""
    clips = searchable(store, where)
    columns = ["clip_id", "source_id", "start_pts"]
    scan = clips.scanner(
        columns=columns, filter=where, order_by=["source_id", "start_pts"], limit=limit, with_row_id=True
    )
    return Hits("condition", tuple(map(Found, scan.to_table()["clip_id"].to_pylist())))


def searchable(store: Store, where: str | None) -> lance.LanceDataset:
    """The clips. Raises BadSearch where there are none, or where the condition cannot be read."""
    clips = store.open("clips")
    if not clips.count_rows():
        raise BadSearch(f"the store {store.uri} has no clips; python -m jobs.curate --footage FOLDER fills it")
    if where is not None:
        try:
            check_condition(clips, where)
        except (ValueError, OSError) as error:
            raise BadSearch(condition_words(store, where, clips.schema.names, str(error))) from error
    return clips


def condition_words(store: Store, where: str, names: Sequence[str], error: str) -> str:
    """What is wrong with a condition, and which columns may have been meant."""
    named = NO_FIELD.search(error)
    if named is None:
        first = (error.splitlines() or [""])[0].split(", /")[0]
        return f"where={where}: {first[:300]}"
    column = next(filter(None, named.groups())).strip('"`').lower()
    if column in model_score_names(store):
        return (
            f"where={where}: {column} is said by a model and is not in the table of clips; --columns {column} shows it"
        )
    return f"where={where}: there is no column {column}; {likely(column, names)}"


def likely(column: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(column, names, n=3, cutoff=0.5) or [n for n in names if column in n][:3]
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(names))}"


def checked_columns(store: Store, columns: Sequence[str]) -> None:
    """Raises BadSearch naming what a column that is not there may have been meant to be."""
    names = [name for name in store.open("clips").schema.names if name not in ("video", "thumbnail", "fingerprint")]
    for column in columns:
        if column not in (everything := [*names, *model_score_names(store)]):
            raise BadSearch(f"columns: there is no column {column}; {likely(column, everything)}")


# -- alike


def find_alike(store: Store, like: str, where: str | None, limit: int, model: str | None = None) -> list[Hits]:
    """The clips nearest to a file, to a clip of the store by its id, or to a text. `model` chooses whose embeddings.

    Raises BadSearch where the query is none of these, or a text and the store has no embeddings.
    """
    clips = searchable(store, where)
    path = Path(like)
    if is_there(path):
        return alike_to_file(store, path, where, limit, model)
    if CLIP_ID.fullmatch(like):
        return alike_to_clip(store, clips, like, where, limit, model)
    if FILE_SUFFIX.fullmatch(path.suffix):
        raise BadSearch(f"like={like}: there is no such file")
    return [meant_by(store, like, where, limit, model)]


def is_there(path: Path) -> bool:
    """False also for what cannot be the name of a file: a long text, or one with a null character."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def alike_to_clip(
    store: Store, clips: lance.LanceDataset, clip_id: str, where: str | None, limit: int, model: str | None
) -> list[Hits]:
    if not clips.count_rows(f"clip_id = '{clip_id}'"):
        raise BadSearch(f"like={clip_id}: the store has no clip of this id")
    fingerprint = fingerprint_in(clips, clip_id)
    notes = () if fingerprint or not has_fingerprints(store) else (NO_FINGERPRINT,)
    hits = [by_looks(store, [fingerprint] if fingerprint else [], where, limit, notes, without=(clip_id,))]
    chosen = chosen_model(store, model)
    if chosen is not None:
        vector = vectors_of(store, chosen.model_id, [clip_id]).get(clip_id)
        if vector is not None:
            found = nearest_by_embedding(store, chosen.model_id, vector, limit + 1, where)
            others = [Found(n.clip_id, cosine=n.cosine) for n in found if n.clip_id != clip_id]
            hits.append(Hits("meaning", tuple(others[:limit])))
    return hits


def has_fingerprints(store: Store) -> bool:
    """False for a store that was made before there were any."""
    return "fingerprint" in store.open("clips").schema.names and store.find("fingerprints") is not None


def fingerprint_in(clips: lance.LanceDataset, clip_id: str) -> Fingerprint | None:
    if "fingerprint" not in clips.schema.names:
        return None
    (row,) = clips.to_table(columns=["fingerprint"], filter=f"clip_id = '{clip_id}'").to_pylist()
    try:
        return Fingerprint.from_bytes(row["fingerprint"] or b"")
    except InvalidFingerprint:
        return None


def alike_to_file(store: Store, path: Path, where: str | None, limit: int, model: str | None) -> list[Hits]:
    try:
        scenes = fingerprints_of_file(path, Limits())
    except BadSource as error:
        raise BadSearch(f"like={path}: {error.detail}") from error
    hits = [by_looks(store, [scene.fingerprint for scene in scenes], where, limit)]
    chosen = chosen_model(store, model)
    if chosen is None:
        return hits
    try:
        embedder = loaded(chosen)
        vectors = embedder.embed_images(pictures_of_file(path, embedder.side_px))
    except (BadModel, BadSource) as error:
        return [replace(hits[0], notes=(*hits[0].notes, f"by looks alone: {error}"))]
    return [*hits, by_meaning(store, chosen, mean_of(vectors), where, limit)]


def meant_by(store: Store, text: str, where: str | None, limit: int, model: str | None) -> Hits:
    chosen = chosen_model(store, model)
    if chosen is None:
        how = EMBED_FIRST.format(store=store.uri)
        raise BadSearch(
            f"like={text}: there is no such file, and a text needs embeddings, which this store lacks; {how}"
        )
    try:
        vector = loaded(chosen).embed_text([text])[0]
    except BadModel as error:
        raise BadSearch(f"like={text}: {error}") from error
    return by_meaning(store, chosen, vector, where, limit)


def chosen_model(store: Store, name: str | None) -> EmbeddingModel | None:
    """The model whose embeddings are searched: the one named, else the newest. Raises BadSearch."""
    models = models_in(store)
    if name is None:
        return models[-1] if models else None
    named = [model for model in models if name in (model.name, model.model_id)]
    if not named:
        there = ", ".join(model.name for model in models) or "none"
        raise BadSearch(f"model={name}: no clip was embedded by it; there is {there}")
    return named[-1]


def loaded(model: EmbeddingModel) -> Embedder:
    """Raises BadModel, also where the files that the name stands for are of another model now."""
    embedder = Embedder.load(model.name)
    if embedder.model.model_id != model.model_id:
        raise BadModel(f"{model.name} is another model than the one that embedded the clips; embed them with it first")
    return embedder


def mean_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors.mean(axis=0)


def by_meaning(store: Store, model: EmbeddingModel, vector: NDArray[np.float32], where: str | None, limit: int) -> Hits:
    near = nearest_by_embedding(store, model.model_id, vector, limit, where)
    return Hits("meaning", tuple(Found(n.clip_id, cosine=n.cosine) for n in near), notes=(f"by {model.name}",))


def by_looks(
    store: Store,
    queries: Sequence[Fingerprint],
    where: str | None,
    limit: int,
    notes: tuple[str, ...] = (),
    without: Sequence[str] = (),
) -> Hits:
    """The clips nearest to any of the scenes asked for, each by the scene it is nearest to."""
    if not has_fingerprints(store):
        return Hits("looks", (), (*notes, OLDER_STORE))
    if store.open("clips").count_rows() and not store.open("fingerprints").count_rows():
        notes = (*notes, "no clip has been compared yet: python -m jobs.curate over the same footage does it")
    nearest: dict[str, float] = {}
    for query in queries:
        for clip_id, distance in _meeting(store, query, where, limit, without):
            nearest[clip_id] = min(distance, nearest.get(clip_id, distance))
    in_order = sorted(nearest.items(), key=lambda item: (item[1], item[0]))[:limit]
    return Hits("looks", tuple(Found(clip_id, distance=distance) for clip_id, distance in in_order), notes)


def _meeting(
    store: Store, query: Fingerprint, where: str | None, limit: int, without: Sequence[str]
) -> list[tuple[str, float]]:
    """The nearest clips that meet a condition."""
    clips = store.open("clips")
    fetch = limit if where is None else FIRST_FETCH * limit
    while True:
        near = nearest_by_fingerprint(store, query, fetch, without=without)
        wanted = _that_meet(clips, [n.clip_id for n in near], where)
        found = [(n.clip_id, n.distance) for n in near if n.clip_id in wanted][:limit]
        if len(found) == limit or len(near) < fetch or fetch >= MAX_FETCH:
            return found
        fetch *= FETCH_GROWTH


def _that_meet(clips: lance.LanceDataset, clip_ids: list[str], where: str | None) -> set[str]:
    if where is None or not clip_ids:
        return set(clip_ids)
    among = ", ".join(f"'{clip_id}'" for clip_id in clip_ids)
    rows = clips.to_table(columns=["clip_id"], filter=narrowed(where, f"clip_id IN ({among})"))
    return set(rows["clip_id"].to_pylist())
