"""The scores of clips in batches, those that models gave beside those that were measured, as rules look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.model_scores import model_score_columns
from curation.store import Store
from curation.verdicts import RULES

__all__ = ["clip_batches", "floats", "model_score_names", "model_scores_by_clip", "rule_columns", "score_columns"]

RULE_COLUMNS = sorted({rule.column for rule in RULES})


def rule_columns(schema: pa.Schema) -> list[str]:
    """The columns that rules look at, as far as a table has them: an older one may lack some."""
    return sorted(set(RULE_COLUMNS) & set(schema.names))


def score_columns(batch: pa.RecordBatch) -> dict[str, NDArray[np.float64]]:
    """What rules look at as numbers; NaN where there is no value."""
    return {name: floats(batch[name]) for name in rule_columns(batch.schema)}


def floats(values: pa.Array) -> NDArray[np.float64]:
    return values.cast(pa.float64()).to_numpy(zero_copy_only=False)


def model_score_names(store: Store) -> list[str]:
    """Every score that some model gave in this store. Raises StoreUnavailable."""
    models = store.find("models")
    if models is None or "scores" not in models.schema.names:
        return []
    return sorted({score for scores in models.to_table(columns=["scores"])["scores"].to_pylist() for score in scores})


def clip_batches(store: Store, columns: Sequence[str], model_scores: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All clips with some columns of their table and some scores of models. Raises StoreUnavailable."""
    for batch in store.open("clips").to_batches(columns=sorted({"clip_id", *columns})):
        yield with_model_scores(store, batch, model_scores)


def with_model_scores(store: Store, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The batch, which has `clip_id`, with a column for each score that a model gave; null where it gave none."""
    if not names:
        return batch
    for name, values in model_score_columns(store, batch["clip_id"].to_pylist(), names).items():
        batch = batch.append_column(name, pa.array(values, pa.float64(), from_pandas=True))
    return batch


def model_scores_by_clip(
    store: Store, clip_ids: Sequence[str], names: Sequence[str] = RULE_COLUMNS
) -> dict[str, dict[str, float]]:
    """What models said of some clips, by clip id and score; nothing where they said nothing."""
    columns = model_score_columns(store, clip_ids, names)
    return {
        clip_id: {name: float(values[place]) for name, values in columns.items() if not np.isnan(values[place])}
        for place, clip_id in enumerate(clip_ids)
    }
