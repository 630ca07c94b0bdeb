"""What the captioning job refuses, before it starts anything and with nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from curation.model_files import BadModel
from curation.store import Store
from jobs.caption import main
from jobs.caption_engines import refuse_unless_vision_model
from tests.captioning import caption, curated
from tests.hostile_server import MODEL, Act, error, hostile_server, models_reply

VISION = {"architectures": ["Qwen2VLForConditionalGeneration"], "vision_config": {"depth": 2}}


@pytest.fixture(scope="module")
def store(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return curated(small_footage, tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def nothing_is_written_or_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray is not to be reached, and the store is to stay as it is."""

    def refuse(**_: object) -> None:
        raise AssertionError("Ray was started for what cannot be")

    monkeypatch.setattr("jobs.caption_windows.connect_for_data", refuse)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-no-server-0123456789")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = {path: path.stat().st_mtime_ns for path in Path(store.uri).rglob("*")}
    yield
    after = {path: path.stat().st_mtime_ns for path in Path(store.uri).rglob("*")}
    assert after == before


def refused(store: Store, capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """What is said about options that cannot be."""
    assert caption(store, *arguments) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    assert said.err.strip(), "it says why"
    return said.err


OPTIONS = [
    (["--captioner", "vllm"], "model: captioner=vllm needs a directory or a hub id"),
    (["--captioner", "openai", "--model", "m"], "server: captioner=openai needs an address and a model's name"),
    (["--server", "http://127.0.0.1:9/v1"], "server: captioner=openai needs an address and a model's name"),
    (["--captioner", "facts", "--model", "m"], "captioner=facts: uses no model and no server"),
    (["--captioner", "vllm", "--model", "m", "--server", "http://h/v1"], "server=http://h/v1: is for captioner=openai"),
    (["--kinds"], "kinds"),
    (["--kinds", "poem"], "poem"),
    (["--attempts", "0"], "attempts=0: must be at least 1"),
    (["--max-tokens", "0"], "max_tokens=0: must be at least 1"),
    (["--temperature", "-0.1"], "temperature=-0.1: must"),
    (["--temperature", "nan"], "temperature=nan: must"),
    (["--temperature", "inf"], "temperature=inf: must"),
    (["--seed", "-1"], "seed=-1: must"),
    (["--seed", str(2**63)], f"seed={2**63}: must"),
    (["--limit", "-1"], "limit=-1: must"),
    (["--max-failed-share", "1.5"], "max_failed_share=1.5: must be within 0 and 1"),
    (["--max-failed-share", "nan"], "max_failed_share=nan: must be within 0 and 1"),
    (["--window-s", "0"], "window_s=0.0: must"),
    (["--window-s", "nan"], "window_s=nan: must"),
    (["--sample-fps", "1000"], "sample_fps=1000.0: 768 frames a window are the most"),
    (["--show-as", "gif"], "gif"),
    (["--tensor-parallel", "0"], "tensor_parallel=0: must be at least 1"),
    (["--decode-cpus", "nan"], "decode_cpus=nan: must"),
    (["--decode-cpus", "inf"], "decode_cpus=inf: must"),
    (["--engine-args", "dtype", "{"], "engine_args: dtype={: is no YAML"),
    (["--engine-args", "dtype"], "engine-args"),
    (["--server-attempts", "0"], "server_attempts=0: must be at least 1"),
    (["--max-in-flight", "0"], "max_in_flight=0: must be at least 1"),
    (["--timeout-s", "nan"], "timeout_s=nan: must"),
    (["--give-up-after", "0"], "give_up_after=0: must be at least 1"),
    (["--server", "ftp://h/v1", "--model", "m"], "server='ftp://h/v1': must be an address"),
    (["--server", "http://h:port/v1", "--model", "m"], "server: is no address"),
    (["--where", "no_such_column > 1"], "where=no_such_column > 1: cannot be asked of the clips"),
    (["--where", "keep) OR (true"], "where=keep) OR (true: cannot be asked of the clips"),
    (["--where", "keep; DROP TABLE clips"], "cannot be asked of the clips"),
    (["--where", ""], "cannot be asked of the clips"),
    (["--where", "clip_id"], "cannot be asked of the clips"),
    (["--no-such-option"], "no-such-option"),
]


@pytest.mark.parametrize(("arguments", "said"), OPTIONS)
def test_impossible_options(store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    told = " ".join(refused(store, capsys, *arguments).replace("│", " ").split())
    assert said in told


def test_a_password_in_an_address_is_not_repeated(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(store, capsys, "--server", "http://me:hunter2@h/v1?key=hunter3", "--model", "m")
    assert "server: has a password" in told
    assert "hunter" not in told


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = Store.at(str(tmp_path / "typo"))
    assert "there is no store" in refused(nowhere, capsys, code=4)
    assert not (tmp_path / "typo").exists()


# -- originals

BAD_TABLES: dict[str, tuple[bytes | None, str]] = {
    "nowhere.csv": (None, "there is no such file"),
    "texts.xlsx": (b"PK", "its suffix is '.xlsx'"),
    "texts.csv": (b"uri,words\na.mp4,hello\n", "no column for the text"),
    "keyless.csv": (b"text\nhello\n", "no column says what a text is of"),
    "ragged.csv": (b"uri,text\na.mp4\n", "cannot be read as csv"),
    "broken.jsonl": (b'{"uri": "a.mp4", "text": "a"\n', "cannot be read as jsonl"),
    "broken.parquet": (b"PAR1 but no more", "parquet"),
    "empty.csv": (b"", "csv"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_of_originals_that_are_none(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, said = BAD_TABLES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    told = refused(store, capsys, "--originals", tmp_path / name)
    assert said in told
    assert name in told


# -- models


def model_of(folder: Path, config: object = VISION, *, weights: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        save_file({"a": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


BAD_CONFIGS: list[tuple[object, str]] = [
    ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM sees no pictures"),
    ({"model_type": "bert"}, "sees no pictures"),
    ({"architectures": "Llama"}, "sees no pictures"),
    ({"architectures": [1, None]}, "sees no pictures"),
    ({"architectures": 7}, "sees no pictures"),
    ({}, "sees no pictures"),
    ("[]", "config.json"),
    ("null", "config.json"),
    ('"vision"', "config.json"),
    ("[" * 100_000, "config.json"),
    ("{", "config.json cannot be read"),
    ("", "config.json cannot be read"),
]


@pytest.mark.parametrize(("config", "said"), BAD_CONFIGS)
def test_directories_without_a_vision_model(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: object, said: str
) -> None:
    told = refused(store, capsys, "--model", model_of(tmp_path / "model", config))
    assert said in told
    assert str(tmp_path / "model") in told


MISSING: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: folder / "nowhere", "there is no model directory"),
    (lambda folder: folder, "config.json cannot be read"),
    (lambda folder: model_of(folder / "model", weights=False), "no weights"),
    (lambda folder: "no-slash", "there is no model directory no-slash"),
    (lambda folder: "../up/and/away", "there is no model directory"),
    (lambda folder: "nobody/nothing-of-this-name", "cannot be had from the hub"),
]


@pytest.mark.parametrize(("made", "said"), MISSING)
def test_directories_without_a_model(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made: Callable[[Path], object],
    said: str,
) -> None:
    assert said in refused(store, capsys, "--model", made(tmp_path))


@pytest.mark.parametrize(
    "config",
    [VISION, {"architectures": ["LlavaForX"], "vision_feature_layer": -2}, {"mm_vision_tower": "a"}, {"visual": {}}],
)
def test_vision_models_are_let_through(tmp_path: Path, config: dict[str, Any]) -> None:
    directory = model_of(tmp_path / "model", config)
    assert refuse_unless_vision_model("m", directory) is None
    (directory / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(BadModel, match="sees no pictures"):
        refuse_unless_vision_model("m", directory)


def test_an_embedding_model_that_is_not_the_stores(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hostile_server() as server:
        told = refused(store, capsys, "--server", server.url, "--model", MODEL, "--agreement-model", tmp_path)
    assert str(tmp_path) in told


# -- prompts


@pytest.mark.parametrize("text", ["Look at {clip}.", "{facts.__class__}", "an open {", ""])
def test_prompts_that_cannot_be_filled(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "prompt.txt").write_text(text)
    with hostile_server() as server:
        told = refused(store, capsys, "--server", server.url, "--model", MODEL, "--prompt", tmp_path / "prompt.txt")
        assert all(seen.path.endswith("/models") for seen in server.seen), "nothing was asked"
    assert str(tmp_path / "prompt.txt") in told


def test_a_prompt_that_is_not_there(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with hostile_server() as server:
        told = refused(store, capsys, "--server", server.url, "--model", MODEL, "--prompt", "/nowhere/p.txt")
    assert "prompt=/nowhere/p.txt: cannot be read" in told


# -- servers

HTML = Act(body=b"<html><body>Welcome</body></html>", content_type="text/html")
BAD_LISTS: list[tuple[Act, str]] = [
    (error(401, "bad key"), "OPENAI_API_KEY holds its key"),
    (error(403, "not you"), "OPENAI_API_KEY"),
    (models_reply("another"), "has no model 'hostile-1'; it has another"),
    (HTML, "does not list models"),
    (Act(body=b"[]"), "does not list models"),
    (error(301, "moved", headers={"Location": "http://127.0.0.1:9/v1/models"}), "redirects are not followed"),
]


@pytest.mark.parametrize(("models", "said"), BAD_LISTS)
def test_servers_that_cannot_be_asked(store: Store, capsys: pytest.CaptureFixture[str], models: Act, said: str) -> None:
    with hostile_server(models=models) as server:
        told = refused(store, capsys, "--server", server.url, "--model", MODEL)
    assert said in told
    assert "sk-of-no-server" not in told


def test_a_server_that_is_not_there(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(store, capsys, "--server", "http://127.0.0.1:9/v1", "--model", MODEL)
    assert "no server answers there" in told


def test_a_key_that_cannot_be_sent(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret part-two")
    with hostile_server() as server:
        told = refused(store, capsys, "--server", server.url, "--model", MODEL)
    assert "OPENAI_API_KEY" in told
    assert "part-two" not in told


def test_help_tells_every_exit_and_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "Exit codes" in said
    assert "OPENAI_API_KEY" in said
    assert "sk-of-no-server" not in said
