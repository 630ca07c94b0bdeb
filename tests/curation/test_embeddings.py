"""Embeddings in a store: what was put in is found, nearest first, with and without conditions and an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.embeddings import (
    EmbeddedClip,
    EmbeddingModel,
    add_model,
    embedded_among,
    index_embeddings,
    models_in,
    nearest_by_embedding,
    table_of,
    vectors_of,
    write_embeddings,
)
from curation.store import Store
from tests.score_stores import drawn_rows, write_store

CLIPS, DIMENSION = 1200, 24
MODEL = EmbeddingModel("embedding-0123", "tiny", DIMENSION)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Case:
    """A store with embeddings, and the same in memory."""

    def __init__(self, folder: Path):
        rows = drawn_rows(CLIPS, seed=3)
        self.store = write_store(folder, rows)
        self.ids = [row["clip_id"] for row in rows]
        self.start_s = np.array([row["start_s"] for row in rows])
        self.random = np.random.default_rng(0)
        self.vectors = unit(self.random.normal(size=(CLIPS, DIMENSION)).astype(np.float32))
        add_model(self.store, MODEL, "run")

    def write(self, first: int, last: int) -> None:
        clips = [EmbeddedClip(self.ids[i], self.vectors[i], 0.9, 8) for i in range(first, last)]
        write_embeddings(self.store, MODEL, clips, "run")

    def query(self) -> NDArray[np.float32]:
        return self.vectors[5] + 0.2 * self.random.normal(size=DIMENSION).astype(np.float32)

    def truth(self, query: NDArray[np.float32], limit: int, among: NDArray[np.bool_] | None = None) -> list[str]:
        cosines = self.vectors @ unit(query)
        if among is not None:
            cosines = np.where(among, cosines, -2.0)
        best = np.argsort(-cosines)[:limit]
        return [self.ids[i] for i in best if cosines[i] > -2]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("embeddings"))
    case.write(0, 700)
    write_embeddings(case.store, MODEL, [EmbeddedClip("gone", case.vectors[5], 1.0, 3)], "run")
    write_embeddings(case.store, MODEL, [EmbeddedClip("bad", None, failure="damaged")], "run")
    case.write(700, CLIPS)
    return case


CONDITIONS = ["start_s >= 600", "start_s < 3", "start_s > 1e9", "start_s = 5 OR start_s = 9 -- a note"]


def among(case: Case, condition: str) -> NDArray[np.bool_]:
    s = case.start_s
    return {CONDITIONS[0]: s >= 600, CONDITIONS[1]: s < 3, CONDITIONS[2]: s > 1e9, CONDITIONS[3]: (s == 5) | (s == 9)}[
        condition
    ]


def test_the_nearest_are_found_and_clips_that_are_gone_are_not(case: Case) -> None:
    for limit in (1, 10, 50):
        query = case.query()
        found = nearest_by_embedding(case.store, MODEL.model_id, query, limit)
        assert [n.clip_id for n in found] == case.truth(query, limit)
        truth = dict(zip(case.ids, (case.vectors @ unit(query)).tolist(), strict=True))
        assert all(n.cosine == pytest.approx(truth[n.clip_id], abs=1e-5) for n in found)


@pytest.mark.parametrize("few", [0, 20_000], ids=["asked of the nearest", "compared one by one"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_are_kept(case: Case, monkeypatch: pytest.MonkeyPatch, condition: str, few: int) -> None:
    monkeypatch.setattr("curation.embeddings.FEW_CLIPS", few)
    query = case.query()
    found = nearest_by_embedding(case.store, MODEL.model_id, query, 6, condition)
    assert [n.clip_id for n in found] == case.truth(query, 6, among(case, condition))


@pytest.mark.parametrize(
    "vector", [np.ones(DIMENSION + 1), np.zeros(DIMENSION), np.full(DIMENSION, np.nan), np.ones((2, DIMENSION))]
)
def test_another_models_vector_is_refused(case: Case, vector: NDArray) -> None:
    with pytest.raises(ValueError, match=f"needs {DIMENSION}, finite and not all 0"):
        nearest_by_embedding(case.store, MODEL.model_id, vector, 3)


def test_who_has_a_row_and_who_a_vector(case: Case) -> None:
    assert embedded_among(case.store, MODEL.model_id, [case.ids[0], "bad", "unknown"]) == {case.ids[0], "bad"}
    assert embedded_among(case.store, "embedding-other", [case.ids[0]]) == set()
    vectors = vectors_of(case.store, MODEL.model_id, [case.ids[3], "bad", "unknown"])
    assert list(vectors) == [case.ids[3]]
    np.testing.assert_array_equal(vectors[case.ids[3]], case.vectors[3])


def test_models_are_listed_in_the_order_in_which_they_were_asked_for(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    assert models_in(store) == []
    store.create()
    others = [EmbeddingModel(f"embedding-{n}", f"m{n}", 4 + n) for n in range(2)]
    for model in (*others, others[0]):
        add_model(store, model, "run")
    assert models_in(store) == [others[1], others[0]]


def test_an_index_keeps_finding_what_it_holds_and_what_came_after_it(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.write(0, 1000)

    def recall() -> float:
        queries = [case.query() for _ in range(20)]
        found = [nearest_by_embedding(case.store, MODEL.model_id, query, 10) for query in queries]
        truth = [case.truth(query, 10, np.arange(CLIPS) < 1000) for query in queries]
        return sum(len({n.clip_id for n in f} & set(t)) for f, t in zip(found, truth, strict=True)) / 200

    def indexed() -> int:
        described = case.store.open(table_of(MODEL.model_id)).describe_indices()
        return sum(index.num_rows_indexed for index in described if index.name == "vector_idx")

    done = index_embeddings(case.store, 7.0, from_rows=1001)
    assert (list(done), indexed()) == ([table_of(MODEL.model_id)], 0), "an index of few rows costs more than it saves"
    index_embeddings(case.store, 7.0, from_rows=500)
    assert indexed() == 1000
    assert recall() > 0.95
    case.vectors[1000:] = case.vectors[5]
    case.write(1000, 1100)
    assert indexed() == 1000
    found = nearest_by_embedding(case.store, MODEL.model_id, case.vectors[5], 101)
    assert {n.clip_id for n in found} == {case.ids[5], *case.ids[1000:1100]}
    index_embeddings(case.store, 7.0, from_rows=500)
    assert indexed() == 1100
    found = nearest_by_embedding(case.store, MODEL.model_id, case.vectors[5], 101)
    assert {n.clip_id for n in found} == {case.ids[5], *case.ids[1000:1100]}
