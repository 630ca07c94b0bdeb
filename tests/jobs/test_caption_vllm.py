"""The real vLLM on the CPU with a model made on the spot: one run of the captioning job, and one round of questions in
words alone. Both on one Ray."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from captioner.requests import Request
from captioner.windows import windows_of
from curation.model_files import content_id
from curation.store import Store
from jobs.caption_engines import EngineConfig
from jobs.cluster import connect_for_data
from jobs.text_engine import ask_vllm
from tests.captioning import caption, copied, curated, damage, rows_of, runs_of

pytest.importorskip("vllm")
from captioner.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow

TOKENS = 64
COLOR_TOKENS = 32
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "green", "blue"]}},
    "required": ["color"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny-vl")


@pytest.fixture(scope="module", autouse=True)
def on_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        connect_for_data()
        yield
        ray.shutdown()


@pytest.fixture
def store(small_footage: Path, tmp_path: Path) -> Store:
    return copied(curated(small_footage, tmp_path / "made"), tmp_path)


def test_every_window_is_shown_to_a_real_model(store: Store, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Windows of a tenth of a second have a frame or two, which is the least that a model of video is shown."""
    columns = ["clip_id", "start_pts", "end_pts", "time_base_num", "time_base_den", "duration_s"]
    clips = store.open("clips").to_table(columns, "keep").to_pylist()
    bad = max(clips, key=lambda row: row["duration_s"])["clip_id"]
    damage(store, bad, b"no video")
    windows = Counter({row["clip_id"]: len(windows_of(row, 0.2)) for row in clips})
    asked, damaged = windows.total() - windows[bad], windows[bad]
    assert asked >= 20

    command = ["--model", model, "--window-s", 0.2, "--attempts", 1, "--max-tokens", TOKENS]
    command += ["--engine-args", "enforce_eager", "true"]
    assert caption(store, *command) == 0
    output = capfd.readouterr().out
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

    assert caption(store, *command) == 0
    assert "nothing to ask" in capfd.readouterr().out, "no engine is started for nothing"
    assert rows_of(store) == rows


def test_each_request_in_words_gets_its_own_answer(model: Path) -> None:
    """By a model of random weights: what it says means nothing, but it says it as the schema has it. One request is
    longer than the engine reads, and costs no other its answer."""
    requests = [
        Request(f"r{number}", [{"role": "user", "content": f"What color? {number}"}], SCHEMA, COLOR_TOKENS, 0.5, number)
        for number in range(5)
    ]
    requests.append(Request("long", [{"role": "user", "content": "a red kite " * 900}], SCHEMA, COLOR_TOKENS))
    ask = ask_vllm(model, EngineConfig(max_model_len=512, engine_args={"enforce_eager": "true"}))
    answers = {answer.request_id: answer for answer in ask(requests)}
    assert sorted(answers) == sorted(request.request_id for request in requests)
    assert (answers["long"].text, bool(answers.pop("long").error)) == ("", True)
    for answer in answers.values():
        assert answer.error is None
        assert answer.finish_reason == "stop"
        assert json.loads(answer.text)["color"] in ("red", "green", "blue")
        assert 0 < answer.tokens_in < 512
        assert 0 < answer.tokens_out < COLOR_TOKENS
