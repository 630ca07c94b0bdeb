"""Language models that are asked in words alone, as films and rewritten prompts need: by vLLM here, or by a server.

Each call of an `Ask` by vLLM starts the engine and ends it, so what is to be asked goes into few calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.data
import ray.exceptions

from captioner.openai_api import OpenAIConfig, answers, check_server
from captioner.requests import Answer, Ask, Request
from curation.model_files import content_id, model_directory
from jobs.caption_engines import (
    EngineConfig,
    ServerConfig,
    answer_in,
    engine_input,
    engine_output,
    read_model_config,
    refuse_unless_weights,
    through_vllm,
)
from jobs.caption_windows import cause_of
from jobs.cluster import connect_for_data
from jobs.runs import MachineFault

__all__ = ["TextModel", "ask_vllm", "text_model_of"]

# A longer context takes an engine's memory, and weak models lose the middle of it.
MOST_CONTEXT_TOKENS = 32_768
CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
INNER_CONFIGS = ("text_config", "llm_config", "language_config")
REQUESTS_A_BLOCK = 64


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that can be asked, looked at before it is started. `context_tokens` None: it is not known."""

    captioner: str
    name: str
    revision: str
    words: str
    context_tokens: int | None
    ask: Ask


def text_model_of(
    model: str, server: str | None, engine: EngineConfig, requests: ServerConfig, context_tokens: int = 0
) -> TextModel:
    """The name of a server's model where there is a server, else a directory or hub id that vLLM runs here.

    `context_tokens` 0 for what the model can read, within reason. Raises BadModel, BadServer, and ValueError where the
    model cannot read so much.
    """
    if server:
        return _served_model(requests.at(server, model), context_tokens)
    return _local_model(model, engine, context_tokens)


def _local_model(model: str, engine: EngineConfig, context_tokens: int) -> TextModel:
    directory = model_directory(model)
    own = _context_of(read_model_config(model, directory))
    refuse_unless_weights(model, directory)
    context = _context(engine.max_model_len or own, context_tokens)
    if not engine.max_model_len and context:
        engine = replace(engine, max_model_len=context)
    return TextModel(
        "vllm",
        directory.resolve().name if Path(model).is_dir() else model,
        content_id("model", directory),
        f"vLLM, run here, with the model {model}",
        context,
        ask_vllm(directory, engine),
    )


def _served_model(server: OpenAIConfig, context_tokens: int) -> TextModel:
    named = [model for model in check_server(server) if model.name == server.model]
    context = _context(named[0].max_model_len if named else None, context_tokens)
    words = f"the server {server.base_url} with its model {server.model}"
    return TextModel("openai", server.model, "", words, context, partial(answers, config=server))


def _context(own: int | None, asked: int) -> int | None:
    """Raises ValueError."""
    if own and asked > own:
        raise ValueError(f"context_tokens={asked}: the model reads at most {own}")
    return asked or (min(own, MOST_CONTEXT_TOKENS) if own else None)


def _context_of(config: dict[str, Any]) -> int | None:
    inner = [config[name] for name in INNER_CONFIGS if isinstance(config.get(name), dict)]
    found = [values[key] for values in (*inner, config) for key in CONTEXT_KEYS if isinstance(values.get(key), int)]
    return found[0] if found and found[0] > 0 else None


def ask_vllm(model_dir: Path, engine: EngineConfig) -> Ask:
    """A model that vLLM runs, through `ray.data.llm`. Raises MachineFault where Ray or the engine gives up."""

    def ask(requests: Iterable[Request]) -> Iterator[Answer]:
        waiting = {request.request_id: request for request in requests}
        if not waiting:
            return
        connect_for_data()
        try:
            for row in _rows_through(list(waiting.values()), model_dir, engine):
                answer = answer_in(row)
                if waiting.pop(answer.request_id, None) is not None:
                    yield answer
        except ray.exceptions.RayError as error:
            raise MachineFault(f"the language model cannot go on: {cause_of(error)}") from error
        for request_id in waiting:
            yield Answer(request_id, "", error="the engine gave no answer")

    return ask


def _rows_through(requests: list[Request], model_dir: Path, engine: EngineConfig) -> Iterator[dict[str, Any]]:
    rows = [{"request_id_asked": request.request_id, "request": json.dumps(asdict(request))} for request in requests]
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // REQUESTS_A_BLOCK))
    # Where requests have no seed of their own, those of another attempt draw from another engine's.
    return through_vllm(dataset, str(model_dir), None, engine, _to_engine, engine_output, requests[0].seed)


def _to_engine(row: dict[str, Any], *, has_seeds: bool) -> dict[str, Any]:
    return engine_input(Request(**json.loads(row["request"])), has_seeds)
