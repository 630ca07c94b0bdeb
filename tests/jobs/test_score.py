"""The scoring job as its users start it: what it gives, once, and that one bad clip costs one row."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from safetensors.numpy import save_file

from curation.embeddings import models_in, nearest_by_embedding, table_of
from curation.lease import Lease
from curation.model_scores import model_score_columns
from curation.scoring import AskedModels, ClipScorer, wanted_clips
from curation.store import Store, blob_table
from jobs import compact
from jobs.score import main
from tests.jobs.running import descendants, end, run, start, wait_until
from tests.stores import curate_in_process
from tests.tiny_models import make_embedding_model

JOB = "jobs.score"
BRIGHTNESS = "tests.tiny_models:Brightness"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedding_model(tmp_path_factory.mktemp("model") / "clip", "clip")


@pytest.fixture
def store(small_footage: Path, tmp_path: Path) -> Store:
    """Clips, the bytes of one of which are none."""
    store = Store.at(str(tmp_path / "store"))
    curate_in_process([small_footage], store)
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    row = min(clips.to_table(columns=columns, filter="keep").to_pylist(), key=lambda row: row["clip_id"])
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": b"no video"}]))
    return store


def rows_of(store: Store, table: str) -> list[dict[str, Any]]:
    rows = store.open(table).to_table().to_pylist()
    keys = ("clip_id", "score", "model_id")
    without_run = [{name: value for name, value in row.items() if name != "run_id"} for row in rows]
    return sorted(without_run, key=lambda row: [str(row.get(key)) for key in keys])


def test_a_killed_run_is_made_good_and_then_nothing_is_left_to_do(store: Store, model: Path, tmp_path: Path) -> None:
    kept = store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist()
    assert len(kept) >= 4
    weights = {"weight": np.eye(1, 16, dtype=np.float32), "bias": np.array([5], np.float32)}
    save_file(weights, tmp_path / "head.safetensors")
    models = ["--embedding", model, "--aesthetic-head", tmp_path / "head.safetensors", "--plugin", BRIGHTNESS]
    command = [JOB, "--store", store.uri, *models, "--batch-size", "2", "--max-failed-share", "0.5"]

    driver = start(*command)
    wait_until(lambda: any("ray::ScoreActor" in name for name in descendants(driver.pid).values()), driver, "an actor")
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    code, output = run(*command)
    assert code == 0, output
    assert f"{len(kept)} clips were shown: {len(kept) - 1} scored, 1 failed" in output
    assert "failed, damaged: 1" in output

    (embedding,) = models_in(store)
    embeddings, scores = rows_of(store, table_of(embedding.model_id)), rows_of(store, "model_scores")
    assert [row["clip_id"] for row in embeddings] == sorted(kept)
    assert [row["clip_id"] for row in embeddings if row["failure"] == "damaged"] == [min(kept)]
    assert len({(row["clip_id"], row["score"], row["model_id"]) for row in scores}) == len(scores) == 3 * len(kept)
    assert {row["clip_id"] for row in scores if row["failure"]} == {min(kept)}

    asked = AskedModels.of(str(model), [BRIGHTNESS], 8)
    (emptied,) = wanted_clips(store, store.open("clips").version, "keep", asked)
    assert emptied == []
    beside = score_in_process(store, asked)
    for row in embeddings:
        if row["failure"] is None:
            np.testing.assert_allclose(row["vector"], beside[row["clip_id"]].embedding.vector, atol=1e-4)
            assert nearest_by_embedding(store, embedding.model_id, row["vector"], 1)[0].clip_id == row["clip_id"]
    first = np.array([np.nan if row["failure"] else 5 + row["vector"][0] * row["mean_length"] for row in embeddings])
    columns = model_score_columns(store, sorted(kept), ["aesthetic"])
    np.testing.assert_allclose(columns["aesthetic"], first, rtol=1e-5)

    versions = [store.open(table).version for table in (table_of(embedding.model_id), "model_scores")]
    code, output = run(*command)
    assert code == 0, output
    assert "nothing to show" in output
    assert [store.open(table).version for table in (table_of(embedding.model_id), "model_scores")] == versions
    runs = sorted(store.open("runs").to_table().to_pylist(), key=lambda row: row["started_at"])
    assert [row["state"] for row in runs] == ["interrupted", "finished", "finished"]
    assert json.loads(runs[1]["counts"])["failed"] == {"damaged": 1}


def score_in_process(store: Store, asked: AskedModels) -> dict[str, Any]:
    """What the job must give, from a store without scores."""
    version = store.open("clips").version
    none_yet = AskedModels(asked.embedding, "embedding-none", (), (), asked.frames_per_clip)
    (wanted,) = wanted_clips(store, version, "keep", none_yet)
    scorer = ClipScorer(AskedModels.of(asked.embedding, (), asked.frames_per_clip), "cpu", 1)
    return {clip.clip_id: clip for clip in scorer.score(store, version, wanted)}


def test_a_clip_that_kills_its_worker_costs_only_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = store.open("clips").version
    asked = AskedModels.of(None, [BRIGHTNESS], 8)
    (wanted,) = wanted_clips(store, version, "keep", asked)
    said = [clip for clip in ClipScorer(asked, "cpu", 1).score(store, version, wanted) if clip.failure is None]
    monkeypatch.setenv("DEADLY_SHARE", f"{said[0].scores[0].value:.6f}")
    command = [JOB, "--store", store.uri, "--plugin", "tests.tiny_models:Deadly", "--cpus-per-actor", "1"]
    code, output = end(start(*command, "--actors", "1"))
    assert code == 1, output
    assert "failed, worker_died" in output
    landed = {row["clip_id"] for row in rows_of(store, "model_scores")}
    assert landed == {clip.row["clip_id"] for clip in wanted} - {said[0].clip_id}, "it is tried again in another run"


class Unreachable(io.BytesIO):
    """A blob in an object store that is gone."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError("the object store does not answer")


def test_a_clip_whose_bytes_cannot_be_had_is_not_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version = store.open("clips").version
    asked = AskedModels.of(None, [BRIGHTNESS], 8)
    (wanted,) = wanted_clips(store, version, "keep", asked)
    take_blobs = lance.LanceDataset.take_blobs

    def first_unreachable(self: lance.LanceDataset, *args: Any, **named: Any) -> list[Any]:
        return [Unreachable(), *take_blobs(self, *args, **named)[1:]]

    monkeypatch.setattr(lance.LanceDataset, "take_blobs", first_unreachable)
    first, *rest = ClipScorer(asked, "cpu", 1).score(store, version, wanted)
    assert (first.scores, first.fault) == ((), "ConnectionResetError: the object store does not answer")
    assert [clip.fault for clip in rest] == [None] * len(rest)
    assert all(clip.scores for clip in rest)


@pytest.mark.parametrize("name", ["clips", "model_scores"])
def test_compaction_waits_for_neither_job_that_is_at_work(
    store: Store, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease.take(store, name, "other-run", tell=print):
        assert compact.main(["--store", store.uri]) == 3
    assert "run other-run" in capsys.readouterr().err
    assert compact.main(["--store", store.uri]) == 0


REFUSED = [
    ([], "embedding: give a model directory or hub id, or a plugin"),
    (["--embedding", "/nowhere"], "there is no model directory /nowhere"),
    (["--plugin", BRIGHTNESS, "--aesthetic-head", "h"], "aesthetic_head=h: needs the embedding model"),
    (["--plugin", BRIGHTNESS, "--where", "no_such_column > 1"], "where=no_such_column > 1: cannot be asked"),
    (
        ["--plugin", BRIGHTNESS, "--where", "keep) OR (true"],
        "(true: cannot be asked of the clips: not one whole",
    ),
    (["--plugin", BRIGHTNESS, "--frames-per-clip", "0"], "frames_per_clip=0: must be at least 1"),
    (["--plugin", "tests.tiny_models:Missing"], "plugin tests.tiny_models:Missing cannot be made"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_is_refused_by_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    try:
        code = main(["--store", store.uri, *options])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert store.open("runs").count_rows() == 0
