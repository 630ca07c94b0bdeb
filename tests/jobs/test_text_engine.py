"""How much a language model is taken to read, and what is refused before an engine is started for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.model_files import BadModel
from jobs.caption_engines import EngineConfig, ServerConfig
from jobs.text_engine import TextModel, ask_vllm, text_model_of

CONTEXTS: list[tuple[dict[str, Any], int, int, int | None]] = [
    ({"max_position_embeddings": 4096}, 0, 0, 4096),
    ({"max_position_embeddings": 128_000}, 0, 0, 32_768),
    ({"max_position_embeddings": 128_000}, 0, 64_000, 64_000),
    ({"max_position_embeddings": 512, "text_config": {"max_position_embeddings": 9000}}, 0, 0, 9000),
    ({"n_positions": 1024}, 0, 0, 1024),
    ({"max_position_embeddings": "many"}, 0, 0, None),
    ({}, 0, 0, None),
    ({}, 0, 5000, 5000),
    ({"max_position_embeddings": 4096}, 2048, 0, 2048),
]


def model_of(folder: Path, config: object, max_model_len: int = 0, context_tokens: int = 0) -> TextModel:
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text(json.dumps(config))
    return text_model_of(str(folder), None, EngineConfig(max_model_len=max_model_len), ServerConfig(), context_tokens)


@pytest.mark.parametrize(("config", "max_model_len", "asked", "context"), CONTEXTS)
def test_how_much_a_model_reads(
    tmp_path: Path, config: dict[str, Any], max_model_len: int, asked: int, context: int | None
):
    model = model_of(tmp_path, config, max_model_len, asked)
    assert (model.captioner, model.name, model.context_tokens) == ("vllm", tmp_path.name, context)
    assert model.revision


def test_a_model_is_not_asked_to_read_more_than_it_can(tmp_path: Path):
    with pytest.raises(ValueError, match="context_tokens=5000: the model reads at most 4096"):
        model_of(tmp_path, {"max_position_embeddings": 4096}, 0, 5000)
    with pytest.raises(ValueError, match="at most 2048"):
        model_of(tmp_path, {"max_position_embeddings": 4096}, 2048, 4096)


@pytest.mark.parametrize("config", [[], "text", 3])
def test_a_model_without_a_readable_config_is_refused(tmp_path: Path, config: object):
    with pytest.raises(BadModel, match=r"config\.json"):
        model_of(tmp_path, config)


def test_a_model_without_weights_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadModel, match="no weights"):
        text_model_of(str(tmp_path), None, EngineConfig(), ServerConfig())


def test_nothing_is_started_for_no_request(tmp_path: Path):
    assert list(ask_vllm(tmp_path, EngineConfig())([])) == []
