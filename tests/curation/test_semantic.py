"""Semantic duplicates: facts from embeddings, compared once, and verdicts only where they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curation.duplicate_verdicts import DuplicateConfig
from curation.embeddings import EmbeddedClip, EmbeddingModel, add_model, write_embeddings
from curation.reverdict import Changes, apply_verdicts
from curation.semantic import NoEmbeddings, compare_meanings, model_to_compare_by, unlike_batches
from curation.store import Store
from curation.verdicts import Thresholds
from tests.stores import compare_in_process, curate_in_process

ANGLES = (0.0, 0.1, 1.2)  # cosines: 0.995 between the first two, under 0.5 to the third


@pytest.fixture
def store(small_footage: Path, tmp_path: Path) -> Store:
    """Clips that look different, some of them embedded."""
    store = Store.at(str(tmp_path / "store"))
    curate_in_process([small_footage], store)
    compare_in_process(store)
    embed(store, "one", kept(store)[: len(ANGLES)], ANGLES)
    return store


def kept(store: Store) -> list[str]:
    return sorted(store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist())


def embed(store: Store, model_id: str, clip_ids: list[str], angles: tuple[float, ...]) -> None:
    model = EmbeddingModel(model_id, model_id, 2)
    add_model(store, model, "run")
    vectors = [np.array([np.cos(a), np.sin(a)], np.float32) for a in angles]
    rows = [EmbeddedClip(i, v, 1.0, 8) for i, v in zip(clip_ids, vectors, strict=True)]
    write_embeddings(store, model, rows, "run")


def compare(store: Store) -> int:
    model = model_to_compare_by(store)
    return sum(compare_meanings(store, model, batch, lambda: None) for batch in list(unlike_batches(store, model)))


def semantic_pairs(store: Store) -> list[tuple[str, str, str]]:
    rows = store.open("duplicates").to_table(filter="kind = 'semantic'").to_pylist()
    return sorted((row["clip_id"], row["other_id"], row["model_id"]) for row in rows)


def decide(store: Store, cosine: float | None) -> dict[str, str | None]:
    apply_verdicts(store, Thresholds(), Changes(), lambda: None, DuplicateConfig(semantic_cosine=cosine))
    rows = store.open("clips").to_table(columns=["clip_id", "duplicate_of"], filter="duplicate_kind = 'semantic'")
    return {row["clip_id"]: row["duplicate_of"] for row in rows.to_pylist()}


def test_clips_that_mean_the_same_are_found_once(store: Store) -> None:
    first, second, _ = kept(store)[: len(ANGLES)]
    compare(store)
    assert semantic_pairs(store) == [(first, second, "one")]
    assert compare(store) == 0
    assert semantic_pairs(store) == [(first, second, "one")]


def test_verdicts_heed_them_only_where_asked_to(store: Store) -> None:
    before = kept(store)
    compare(store)
    assert decide(store, None) == {}
    assert kept(store) == before
    losers = decide(store, 0.99)
    assert len(losers) == 1
    assert {*losers, *losers.values()} == {*before[:2]}
    assert kept(store) == sorted({*before} - {*losers})
    assert decide(store, 0.999) == {}  # not near enough
    assert kept(store) == before


def test_a_clip_that_is_embedded_later_is_compared_with_all(store: Store) -> None:
    clips = kept(store)
    compare(store)
    embed(store, "one", [clips[3]], (1.25,))
    assert compare(store) == 1
    assert semantic_pairs(store) == [(clips[0], clips[1], "one"), (clips[2], clips[3], "one")]


def test_pairs_by_another_model_go(store: Store) -> None:
    clips = kept(store)
    compare(store)
    embed(store, "two", clips[:3], (0.0, 1.3, 1.35))
    compare(store)
    assert semantic_pairs(store) == [(clips[1], clips[2], "two")]


def test_killed_before_the_mark_it_is_found_again(store: Store) -> None:
    model = model_to_compare_by(store)
    (batch,) = unlike_batches(store, model)
    calls: list[None] = []

    def killed_the_second_time() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_meanings(store, model, batch, killed_the_second_time)
    found = semantic_pairs(store)
    assert len(found) == 1
    compare(store)
    assert semantic_pairs(store) == found


def test_without_embeddings_it_is_said_what_to_do(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    store.create()
    with pytest.raises(NoEmbeddings, match=r"semantic_cosine: needs embeddings; python -m jobs\.score"):
        model_to_compare_by(store)


@pytest.mark.parametrize("cosine", [0.5, 1.01, -1.0])
def test_impossible_cosines_are_refused(cosine: float) -> None:
    with pytest.raises(ValueError, match="semantic_cosine="):
        DuplicateConfig(semantic_cosine=cosine)
