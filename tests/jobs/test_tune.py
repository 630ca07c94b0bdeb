"""The tuning job as its users start it: killed and gone on with, refused with a clear word, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from captioner.tiny_model import make_tiny_model
from captioner.tune_files import TuneFiles
from curation.store import Store
from jobs.tune import main
from tests.captioned_stores import captioned_store
from tests.jobs.running import run, start, wait_until

JOB = "jobs.tune"
SMALL = [
    *("--short-steps", "2", "--descriptive-steps", "6", "--batch-size", "2", "--held-out-by", "clip"),
    *("--held-out-share", "0.4", "--answer-tokens", "4", "--short-learning-rate", "1e-2"),
    *("--descriptive-learning-rate", "1e-2", "--sample-fps", "4", "--frame-pixels", "4704"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"hidden": 64, "layers": 1, "vision_hidden": 32, "vision_layers": 1}
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", **shape)


@pytest.fixture(scope="module")
def store(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return captioned_store(small_footage, tmp_path_factory.mktemp("captioned") / "store")


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with_by_two_workers_and_leaves_a_model(
    store: Store, model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    out = tmp_path / "out"
    command = [JOB, "--store", store.uri, "--model", model, "--out", out, *SMALL, "--cpus-per-worker", "1"]
    command += ["--checkpoint-steps", "1"]
    files = TuneFiles(out)
    driver = start(*command)
    wait_until(lambda: files.newest().stage == 1, driver, "a checkpoint of the second stage")
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert files.finished() is None
    assert len(files.steps_done()) < 8, "the run was killed too late to test anything"

    code, output = run(*command, "--workers", "2")
    assert code == 0, output
    assert [(line["stage"], line["step"]) for line in files.steps_done()] == [
        *((0, step) for step in (1, 2)),
        *((1, step) for step in range(1, 7)),
    ]
    report = json.loads((out / "tuning.json").read_text())
    assert list(report["tests"]) == ["before", "between", "after"]
    assert report["tests"]["after"]["descriptive"]["loss"] < report["tests"]["before"]["descriptive"]["loss"]
    for words in ("before", "between", "after", "ROUGE-L", "8 of 8 steps"):
        assert words in output
    assert not files.checkpoints.exists()
    assert AutoProcessor.from_pretrained(out).chat_template
    assert len(list(AutoModelForImageTextToText.from_pretrained(out).parameters())) > 20
    assert load_file(out / "model.safetensors").keys() == load_file(model / "model.safetensors").keys()
    (finished,) = [
        row for row in store.open("runs").to_table().to_pylist() if row["job"] == "tune" and row["state"] == "finished"
    ]
    assert json.loads(finished["counts"])["tests"] == report["tests"]

    before = (out / "model.safetensors").stat().st_mtime_ns
    assert main([*map(str, command[1:])]) == 0
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    try:
        code = main([*map(str, arguments)])
    except SystemExit as error:
        code = error.code
    assert code == 2
    return capsys.readouterr().err


def test_what_cannot_be_tuned_is_refused(
    store: Store, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_vision = tmp_path / "llama"
    no_vision.mkdir()
    (no_vision / "config.json").write_text('{"model_type": "llama"}')
    of_store = ["--store", store.uri, "--out", tmp_path / "out"]
    assert "there is no model directory" in refused(capsys, *of_store, "--model", tmp_path / "none")
    assert "no vision-language model" in refused(capsys, *of_store, "--model", no_vision)
    with_model = [*of_store, "--model", model]
    assert "no captions of kind short" in refused(capsys, *with_model, "--captions-where", "text = 'nothing'")
    assert not (tmp_path / "out").exists()
    assert "captions_where=true) OR (true" in refused(capsys, *with_model, "--captions-where", "true) OR (true")
    assert "where=nothing" in refused(capsys, *with_model, "--where", "nothing = 1")
    assert "batch_size=3: must be a multiple of workers=2" in refused(
        capsys, *with_model, "--batch-size", "3", "--workers", "2"
    )
    assert "holds no tuning" in refused(capsys, "--store", store.uri, "--out", model, "--model", model)
    assert (model / "config.json").exists()


def test_a_result_directory_is_of_one_tuning(
    store: Store, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--store", store.uri, "--out", tmp_path, "--model", model]
    TuneFiles(tmp_path).write("started.json", {"tuning_id": "another", "clips_version": 1, "captions_version": 1})
    assert "holds a tuning with other settings" in refused(capsys, *arguments)


def test_a_store_that_is_none_is_not_made(tmp_path: Path, model: Path) -> None:
    arguments = ["--store", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--model", str(model)]
    assert main(arguments) == 4
    assert not (tmp_path / "none").exists()
