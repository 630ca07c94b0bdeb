"""Heads over the table of embeddings: no frame is decoded and no model is loaded."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from curation.embeddings import EmbeddingModel, matrix_of, table_of
from curation.heads import AffineHead
from curation.model_scores import ClipScore, score_of, scored_among, write_model_scores
from curation.store import Store

__all__ = ["score_by_head"]

CLIPS_A_COMMIT = 10_000


def score_by_head(
    store: Store, head: AffineHead, model: EmbeddingModel, run_id: str, before_commit: Callable[[], None]
) -> int:
    """Give every embedding that the head has not scored its row; how many. In memory for one chunk.

    `before_commit` is called right before rows land. Raises StoreUnavailable.
    """
    embeddings = store.open(table_of(model.model_id))
    columns = ["clip_id", "vector", "mean_length", "failure"]
    scored = 0
    for batch in embeddings.to_batches(columns=columns, batch_size=CLIPS_A_COMMIT):
        clip_ids = batch["clip_id"].to_pylist()
        done = scored_among(store, head.model_id, clip_ids)
        rows = [score for score in _scores(head, batch) if score.clip_id not in done]
        if rows:
            before_commit()
            write_model_scores(store, rows, run_id)
        scored += len(rows)
    return scored


def _scores(head: AffineHead, batch: pa.RecordBatch) -> list[ClipScore]:
    failures = batch["failure"]
    failed = batch.filter(failures.is_valid())
    rows = [
        ClipScore(clip_id, head.score, head.model_id, failure=failure)
        for clip_id, failure in zip(failed["clip_id"].to_pylist(), failed["failure"].to_pylist(), strict=True)
    ]
    there = batch.filter(failures.is_null())
    values = head.score_clips(matrix_of(there["vector"]), there["mean_length"].to_numpy())
    for clip_id, value in zip(there["clip_id"].to_pylist(), values.tolist(), strict=True):
        rows.append(score_of(head.model_id, clip_id, head.score, value))
    return rows
