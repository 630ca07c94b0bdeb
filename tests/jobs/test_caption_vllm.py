"""The captioning job with the real vLLM on the CPU and a model made on the spot, one run of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from captioner.windows import windows_of
from curation.model_files import content_id
from curation.store import Store
from tests.captioning import copied, curated, damage, rows_of, runs_of
from tests.jobs.running import start

pytest.importorskip("vllm")
from captioner.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow

JOB = "jobs.caption"
TIMEOUT_S = 270
TOKENS = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny-vl")


@pytest.fixture
def store(small_footage: Path, tmp_path: Path) -> Store:
    return copied(curated(small_footage, tmp_path / "made"), tmp_path)


def ended(store: Store, *arguments: object) -> tuple[int, str]:
    process = start(JOB, "--store", store.uri, *map(str, arguments))
    output, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output


def test_every_window_is_shown_to_a_real_model(store: Store, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a tenth of a second have a frame or two, which is the least that a model of video is shown."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    columns = ["clip_id", "start_pts", "end_pts", "time_base_num", "time_base_den", "duration_s"]
    clips = store.open("clips").to_table(columns, "keep").to_pylist()
    bad = max(clips, key=lambda row: row["duration_s"])["clip_id"]
    damage(store, bad, b"no video")
    windows = Counter({row["clip_id"]: len(windows_of(row, 0.2)) for row in clips})
    asked, damaged = windows.total() - windows[bad], windows[bad]
    assert asked >= 20

    command = ["--model", model, "--window-s", 0.2, "--attempts", 1, "--max-tokens", TOKENS]
    command += ["--engine-args", "enforce_eager", "true"]
    code, output = ended(store, *command)
    assert code == 0, output
    assert f"vLLM, run here, with the model {model}" in output
    assert f"{asked + damaged} windows were asked about" in output
    assert f"nothing said, damaged_clip: {damaged}" in output

    rows = rows_of(store)
    assert len({row["caption_id"] for row in rows}) == len(rows) == 3 * (asked + damaged + len(clips))
    said = [row for row in rows if row["window_index"] is not None and row["clip_id"] != bad]
    assert len(said) == 3 * asked
    for row in said:
        assert (row["captioner"], row["model"]) == ("vllm", "tiny-vl")
        assert row["model_revision"] == content_id("model", model)
        assert row["tokens_in"] > 100
        assert 0 < row["tokens_out"] <= TOKENS
        assert row["finish_reason"] in ("stop", "length")
        assert (row["text"] is None) <= bool(row["flags"])
        assert json.loads(row["fields"])
    assert any("truncated" in row["flags"] for row in said), "so short an answer is cut off"
    begun = {json.loads(row["fields"]).get("unreadable", "{")[:1] for row in said}
    assert begun == {"{"}, "the engine holds the model to the schema"
    for row in rows_of(store, clip_id=bad):
        assert row["text"] is None
        assert row["flags"] == (["empty"] if row["window_index"] is None else ["damaged_clip"])
    (first,) = runs_of(store)
    assert first["state"] == "finished"
    assert first["counts"]["damaged"] == damaged
    assert first["counts"]["clean"] + first["counts"]["flagged"] == asked
    assert first["counts"]["tokens_out"] == sum(row["tokens_out"] for row in said) / 3

    code, output = ended(store, *command)
    assert code == 0, output
    assert "nothing to ask" in output, "no engine is started for nothing"
    assert rows_of(store) == rows
