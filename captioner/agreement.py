"""How far captions go with their clips: the cosine of text and pictures by the model that has embedded the store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curation.embed import Embedder
from curation.embeddings import table_of, vectors_of
from curation.store import Store

__all__ = ["agreements_of"]

TEXTS_A_BATCH = 64


def agreements_of(
    store: Store, embedder: Embedder | None, clip_ids: Sequence[str], texts: Sequence[str | None]
) -> list[float | None]:
    """The cosine of each text with the clip at the same place, -1 to 1.

    None where there is no text, no embedder, no vector of the clip by this model. A model reads the beginning of a text
    that is longer than its own length (CLIP: 77 tokens, some 50 words), and that is what is compared. Cosines of two
    models do not compare. Raises StoreUnavailable, and BadModel where the model takes no texts.
    """
    if len(clip_ids) != len(texts):
        raise ValueError(f"{len(texts)} texts for {len(clip_ids)} clips: must be one a clip")
    agreements: list[float | None] = [None] * len(texts)
    if embedder is None or not texts or store.find(table_of(embedder.model.model_id)) is None:
        return agreements
    vectors = vectors_of(store, embedder.model.model_id, sorted(set(clip_ids)))
    told = [i for i, text in enumerate(texts) if text and text.strip() and clip_ids[i] in vectors]
    for start in range(0, len(told), TEXTS_A_BATCH):
        batch = told[start : start + TEXTS_A_BATCH]
        of_texts = embedder.embed_text([str(texts[i]) for i in batch])
        for i, vector in zip(batch, of_texts, strict=True):
            cosine = float(np.dot(vector, vectors[clip_ids[i]]))
            agreements[i] = max(-1.0, min(1.0, cosine)) if np.isfinite(cosine) else None
    return agreements
