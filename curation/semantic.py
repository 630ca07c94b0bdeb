"""Pairs of clips that mean the same: their embeddings point the same way. Facts in `duplicates`, of the kind semantic.

A clip is compared with all others that are embedded, and then says by which model (`compared_by`): the mark of finished
work. Killed before, its pairs are found again and put in place of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.duplicate_verdicts import LEAST_SEMANTIC_COSINE
from curation.embeddings import EmbeddingModel, models_in, nearest_by_embedding, vectors_of
from curation.store import Store
from curation.tables import CLIPS, DUPLICATES

__all__ = ["NoEmbeddings", "compare_meanings", "model_to_compare_by", "unlike_batches"]

BATCH_CLIPS = 256
# Of clips that mean the same as very many others, the nearest are recorded.
MAX_PAIRS_OF_A_CLIP = 32


class NoEmbeddings(Exception):
    """No clip of the store is embedded; the message says what to do."""


def model_to_compare_by(store: Store) -> EmbeddingModel:
    """The embedding model that was asked for last. Raises NoEmbeddings where no clip of the store is embedded."""
    models = models_in(store)
    if not models:
        rule = f"needs embeddings; python -m jobs.score --store {store.uri} --embedding MODEL makes them"
        raise NoEmbeddings(f"semantic_cosine: {rule}")
    return models[-1]


def unlike_batches(store: Store, model: EmbeddingModel) -> Iterator[list[str]]:
    """The embedded clips that were not compared by this model yet, in batches."""
    due = f"video_bytes IS NOT NULL AND (compared_by IS NULL OR compared_by != '{model.model_id}')"
    # One version for all batches: marking clips makes new ones.
    for batch in store.open("clips").scanner(columns=["clip_id"], filter=due, batch_size=BATCH_CLIPS).to_batches():
        clip_ids = sorted(vectors_of(store, model.model_id, batch["clip_id"].to_pylist()))
        if clip_ids:
            yield clip_ids


def compare_meanings(
    store: Store, model: EmbeddingModel, clip_ids: Sequence[str], before_commit: Callable[[], None]
) -> int:
    """Compare some embedded clips with all others and land the pairs, and that it is done; how many pairs.

    Pairs by another model go: their cosines are not to be compared with these. Raises StoreUnavailable.
    """
    rows = _pair_rows(store, model, clip_ids)
    marks = {"clip_id": list(clip_ids), "compared_by": [model.model_id] * len(clip_ids)}
    others = f"kind = 'semantic' AND model_id != '{model.model_id}'"
    try:
        if store.open("duplicates").count_rows(others):
            before_commit()
            store.open("duplicates").delete(others)
        if rows:
            before_commit()
            merge = store.open("duplicates").merge_insert(["clip_id", "other_id", "kind"])
            table = pa.Table.from_pylist(rows, schema=DUPLICATES)
            merge.when_matched_update_all().when_not_matched_insert_all().execute(table)
    except OSError as error:
        raise store.unavailable("written", error) from error
    before_commit()
    store.update_clips(pa.table(marks, schema=pa.schema([CLIPS.field(name) for name in marks])))
    return len(rows)


def _pair_rows(store: Store, model: EmbeddingModel, clip_ids: Sequence[str]) -> list[dict[str, Any]]:
    cosines: dict[tuple[str, str], float] = {}
    for clip_id, vector in vectors_of(store, model.model_id, clip_ids).items():
        for near in nearest_by_embedding(store, model.model_id, vector, MAX_PAIRS_OF_A_CLIP + 1):
            if near.cosine >= LEAST_SEMANTIC_COSINE and near.clip_id != clip_id:
                cosines[min(clip_id, near.clip_id), max(clip_id, near.clip_id)] = near.cosine
    ids = {clip_id for pair in cosines for clip_id in pair}
    columns, wanted = ["clip_id", "source_id"], pc.field("clip_id").isin(sorted(ids))
    sources = store.open("clips").to_table(columns=columns, filter=wanted).to_pylist() if ids else []
    source_of = {row["clip_id"]: row["source_id"] for row in sources}
    return [
        {
            "clip_id": one,
            "other_id": other,
            "kind": "semantic",
            "source_id": source_of[one],
            "other_source_id": source_of[other],
            "distance": 1.0 - cosine,
            "share": 1.0,
            "other_share": 1.0,
            "model_id": model.model_id,
        }
        for (one, other), cosine in sorted(cosines.items())
    ]
