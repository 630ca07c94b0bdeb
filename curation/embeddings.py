"""Embeddings of clips in the store, and the clips nearest to a vector.

A table for each model, because the length of a vector belongs to the column's type and Lance searches one column; a
table `models`, with a row a model, says which there are. A row is a clip: added, never changed. A model is known by its
content (`Embedder` hashes its files), so that vectors of two models are never compared.

Vectors have length 1 and are compared by their cosine. `mean_length` is what the mean of the frames' vectors measured
before it was brought to 1: near 1 where a clip looks alike throughout. With it a head that is affine gets from the
table exactly the mean of what it says of each frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from curation.conditions import narrowed
from curation.store import Store
from curation.tables import MODELS

__all__ = [
    "EmbeddedClip",
    "EmbeddingModel",
    "EmbeddingNeighbour",
    "add_model",
    "embedded_among",
    "index_embeddings",
    "matrix_of",
    "models_in",
    "nearest_by_embedding",
    "note_model",
    "table_of",
    "vectors_of",
    "write_embeddings",
]

# Up to here every vector is compared, which is exact: 100 000 vectors of 768 numbers are 300 MB.
INDEX_FROM_ROWS = 100_000
VECTOR_INDEX = "vector_idx"
PARTITION_ROWS = 4096
REINDEX_GROWTH = 1.5
# A query looks at so many partitions, and takes the true cosine of so many times as many clips as are asked for.
PROBES, REFINE = 32, 10
# Where a condition leaves at most so many clips, these are compared, all of them; else the nearest are asked for it.
FEW_CLIPS = 20_000
# The nearest are asked for in growing numbers until enough of them meet the condition.
FIRST_FETCH, FETCH_GROWTH = 4, 8


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that has embedded clips: `model_id` from its content, `name` as its user called it."""

    model_id: str
    name: str
    dimension: int


@dataclass(frozen=True, slots=True)
class EmbeddedClip:
    """What a model made of a clip: the unit vector of its frames' mean and that mean's length, or why there is none."""

    clip_id: str
    vector: NDArray[np.float32] | None
    mean_length: float | None = None
    frames: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingNeighbour:
    """A clip and the cosine of its vector with the one asked for, -1 to 1."""

    clip_id: str
    cosine: float


def table_of(model_id: str) -> str:
    """Its table's name in the store."""
    return f"embeddings-{model_id}"


def schema_of(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dimension)),  # of length 1; null where the clip failed
            pa.field("mean_length", pa.float32()),
            pa.field("frames", pa.int32(), nullable=False),  # how many were embedded
            pa.field("failure", pa.string()),  # a short name; null where there is a vector
            pa.field("run_id", pa.string(), nullable=False),
        ]
    )


def models_in(store: Store) -> list[EmbeddingModel]:
    """The models that have embedded clips of a store; last the one that was asked for last. Raises StoreUnavailable."""
    dataset = store.find("models")
    if dataset is None:
        return []
    rows = dataset.to_table(filter="dimension IS NOT NULL").sort_by("asked_at").to_pylist()
    return [EmbeddingModel(row["model_id"], row["name"], row["dimension"]) for row in rows]


def add_model(store: Store, model: EmbeddingModel, run_id: str) -> None:
    """Make the model's table, unless it is there, and its row in `models`. Under the lease `model_scores`.

    Raises StoreUnavailable.
    """
    if store.find(table := table_of(model.model_id)) is None:
        store.make(table, schema_of(model.dimension))
    note_model(store, model.model_id, model.name, run_id, dimension=model.dimension)


def note_model(
    store: Store, model_id: str, name: str, run_id: str, *, dimension: int | None = None, scores: Sequence[str] = ()
) -> None:
    """A model's row in `models`, saying that it was asked for now. Raises StoreUnavailable."""
    row = {"model_id": model_id, "name": name, "dimension": dimension, "scores": list(scores)}
    row |= {"asked_at": datetime.now(UTC), "run_id": run_id}
    try:
        models = store.open("models")
        table = pa.Table.from_pylist([row], schema=MODELS)
        models.merge_insert("model_id").when_matched_update_all().when_not_matched_insert_all().execute(table)
    except OSError as error:
        raise store.unavailable("written", error) from error


def write_embeddings(store: Store, model: EmbeddingModel, clips: Iterable[EmbeddedClip], run_id: str) -> None:
    """Add rows in one version. The caller holds the lease `model_scores` and adds no clip twice.

    Raises StoreUnavailable.
    """
    clips = list(clips)
    vectors = [None if clip.vector is None else np.asarray(clip.vector, np.float32) for clip in clips]
    columns = {
        "clip_id": [clip.clip_id for clip in clips],
        "vector": vectors,
        "mean_length": [clip.mean_length for clip in clips],
        "frames": [clip.frames for clip in clips],
        "failure": [clip.failure for clip in clips],
        "run_id": [run_id] * len(clips),
    }
    try:
        store.open(table_of(model.model_id)).insert(pa.Table.from_pydict(columns, schema=schema_of(model.dimension)))
    except OSError as error:
        raise store.unavailable("written", error) from error


def embedded_among(store: Store, model_id: str, clip_ids: Sequence[str]) -> set[str]:
    """Those of the clips that the model has a row of, with a vector or with the reason why there is none."""
    dataset = store.find(table_of(model_id))
    if dataset is None:
        return set()
    rows = dataset.to_table(columns=["clip_id"], filter=pc.field("clip_id").isin(list(clip_ids)))
    return set(rows["clip_id"].to_pylist())


def vectors_of(store: Store, model_id: str, clip_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """The unit vectors of clips, of those that have one. Raises StoreUnavailable."""
    dataset = store.open(table_of(model_id))
    wanted = pc.field("clip_id").isin(list(clip_ids)) & pc.field("failure").is_null()
    rows = dataset.to_table(columns=["clip_id", "vector"], filter=wanted)
    return dict(zip(rows["clip_id"].to_pylist(), matrix_of(rows["vector"]), strict=True))


def matrix_of(vectors: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    """Vectors of a table, none of them null, as (rows, dimension)."""
    dimension = vectors.type.list_size
    chunks = vectors.chunks if isinstance(vectors, pa.ChunkedArray) else [vectors]
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros((0, dimension), np.float32)


def nearest_by_embedding(
    store: Store, model_id: str, vector: ArrayLike, limit: int, where: str | None = None
) -> list[EmbeddingNeighbour]:
    """The clips of the store whose vectors have the greatest cosine with `vector`, greatest first, at most `limit`.

    `where` is a SQL condition on the columns of `clips`. Clips that are not in the store any more are left out. Exact
    up to `INDEX_FROM_ROWS` clips; above, by the index that `index_embeddings` keeps, with the cosines still exact, and
    clips that it does not hold yet are compared one by one.

    Raises ValueError where the vector is not one of this model's, or is zero, and StoreUnavailable.
    """
    query = np.asarray(vector, np.float32).ravel()
    dataset, clips = store.open(table_of(model_id)), store.open("clips")
    dimension = dataset.schema.field("vector").type.list_size
    if query.shape != (dimension,) or not np.isfinite(query).all() or not query.any():
        raise ValueError(f"a vector of {query.size} numbers: {model_id} needs {dimension}, finite and not all 0")
    if where is not None and clips.count_rows(where) <= FEW_CLIPS:
        clip_ids = clips.to_table(columns=["clip_id"], filter=where)["clip_id"].to_pylist()
        return [*_nearest(dataset, query, limit, pc.field("clip_id").isin(clip_ids))] if clip_ids else []
    fetched, rows = FIRST_FETCH * limit, dataset.count_rows()
    while True:
        near = list(_nearest(dataset, query, min(fetched, max(1, rows)), None))
        wanted = _that_meet(clips, [n.clip_id for n in near], where)
        found = [n for n in near if n.clip_id in wanted][:limit]
        if len(found) == limit or fetched >= rows:
            return found
        fetched *= FETCH_GROWTH


def _nearest(
    dataset: lance.LanceDataset, query: NDArray[np.float32], limit: int, condition: pc.Expression | None
) -> Iterator[EmbeddingNeighbour]:
    nearest: dict[str, Any] = {"column": "vector", "q": query, "k": limit, "metric": "cosine"}
    if condition is None:
        nearest |= {"nprobes": PROBES, "refine_factor": REFINE}
    else:  # an index would look for the few that meet it in some of its partitions only
        nearest |= {"use_index": False}
    rows = dataset.to_table(columns=["clip_id", "_distance"], nearest=nearest, filter=condition, prefilter=True)
    for clip_id, distance in zip(rows["clip_id"].to_pylist(), rows["_distance"].to_pylist(), strict=True):
        if distance is not None:
            yield EmbeddingNeighbour(clip_id, 1.0 - distance)


def _that_meet(clips: lance.LanceDataset, clip_ids: list[str], where: str | None) -> set[str]:
    among = "clip_id IN ({})".format(", ".join(f"'{clip_id}'" for clip_id in clip_ids)) if clip_ids else "false"
    rows = clips.to_table(columns=["clip_id"], filter=narrowed(where, among) if where else among)
    return set(rows["clip_id"].to_pylist())


def index_embeddings(
    store: Store, keep_versions_days: float, from_rows: int = INDEX_FROM_ROWS
) -> dict[str, dict[str, int]]:
    """Merge the fragments of each model's table, and index its vectors where there are many; what was done, by table.

    New rows are added to an index that is there, until it has grown by half: then it is made anew.
    """
    done: dict[str, dict[str, int]] = {}
    for model in models_in(store):
        table = table_of(model.model_id)
        try:
            done[table] = store.compact_table(table, keep_versions_days, partial(_index, store, table, from_rows))
        except OSError as error:
            raise store.unavailable("written", error) from error
    return done


def _index(store: Store, table: str, from_rows: int) -> None:
    store.open(table).create_scalar_index("clip_id", "BTREE", replace=True)
    _index_vectors(store.open(table), from_rows)


def _index_vectors(dataset: lance.LanceDataset, from_rows: int) -> None:
    rows = dataset.count_rows()
    if rows < from_rows:
        return
    indexed = sum(index.num_rows_indexed for index in dataset.describe_indices() if index.name == VECTOR_INDEX)
    if rows <= indexed * REINDEX_GROWTH:
        dataset.optimize.optimize_indices(index_names=[VECTOR_INDEX])
        return
    dimension = dataset.schema.field("vector").type.list_size
    # A byte for 8 numbers, or for fewer where 8 does not divide the dimension.
    parts = min(n for n in range(1, dimension + 1) if dimension % n == 0 and dimension / n <= 8)
    dataset.create_index(
        "vector",
        "IVF_PQ",
        name=VECTOR_INDEX,
        metric="cosine",
        num_partitions=max(1, rows // PARTITION_ROWS),
        num_sub_vectors=parts,
        replace=True,
    )
