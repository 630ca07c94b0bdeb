"""The captioners that need a model: vLLM through `ray.data.llm`, and any server of OpenAI's API."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import ray
import ray.data
import yaml
from ray.data.llm import (
    ChatTemplateStageConfig,
    PrepareMultimodalStageConfig,
    build_processor,
    vLLMEngineProcessorConfig,
)

from captioner.openai_api import OpenAIConfig, answers
from captioner.prompts import media_io
from captioner.requests import Answer, Request
from captioner.windows import WindowConfig
from captioner.work import Task
from curation.model_files import BadModel
from jobs.caption_requests import asked_of
from jobs.cluster import cpus
from jobs.runs import MachineFault

__all__ = [
    "DAMAGE",
    "EngineConfig",
    "ServerConfig",
    "answer_in",
    "answered_by_server",
    "answered_by_vllm",
    "engine_input",
    "engine_output",
    "read_model_config",
    "refuse_unless_vision_model",
    "refuse_unless_weights",
    "through_vllm",
]

# Of a CPU, for the small stages around the engine: whole ones would leave a small machine none for the engine.
SMALL_STAGE_CPUS = 0.25
MANY_CPUS = 8
ENGINE_STAGE, ENGINE_RESTARTS = "vLLMEngineStage", 3
CPU_ENGINE_GIB = "2"  # vLLM's room for keys and values where there is no GPU; it takes half of the memory otherwise
# One schema, no white space between its tokens: a weak model would fill its answer with it.
STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How vLLM runs.

    Attributes:
        tensor_parallel: GPUs that share one copy of the model.
        replicas: Copies of the model, each with its own engine.
        batch_size: Windows that are handed to an engine together.
        batches_in_flight: Such batches at once. The engine takes a window into its running batch as soon as there is
            room, so batch_size times this is what it can choose from.
        max_model_len: Longest prompt and answer together, in tokens; 0 for the model's own.
        engine_args: More of vLLM's engine arguments, name and value: gpu_memory_utilization 0.8.
        decode_cpus: CPUs of a task that decodes frames; 0 for one, or a fraction on a small machine.
    """

    tensor_parallel: int = 1
    replicas: int = 1
    batch_size: int = 16
    batches_in_flight: int = 8
    max_model_len: int = 0
    engine_args: dict[str, str] = field(default_factory=dict)
    decode_cpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "replicas", "batch_size", "batches_in_flight"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("max_model_len", "decode_cpus"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 on and finite")
        for name, value in self.engine_args.items():
            try:
                yaml.safe_load(value)
            except yaml.YAMLError:
                raise ValueError(f"engine_args: {name}={value}: is no YAML; quote it, or write it as JSON") from None

    def task_cpus(self) -> float:
        return self.decode_cpus or (1.0 if cpus() >= MANY_CPUS else SMALL_STAGE_CPUS)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server is asked. Its key is in the environment, as OPENAI_API_KEY, and nowhere else.

    Attributes:
        max_in_flight: Requests that wait for their answers at once.
        timeout_s: For one answer.
        server_attempts: Tries of one request where the server refuses it for now, fails, or talks nonsense.
        give_up_after: Requests failing in a row, each after all its tries, after which the server is taken to be gone.
    """

    max_in_flight: int = 16
    timeout_s: float = 300.0
    server_attempts: int = 6
    give_up_after: int = 20

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "server_attempts", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 < self.timeout_s < inf:
            raise ValueError(f"timeout_s={self.timeout_s}: must be above 0 and finite")

    def at(self, base_url: str, model: str) -> OpenAIConfig:
        """Raises ValueError where there is no such address."""
        try:
            return OpenAIConfig(
                base_url=base_url,
                model=model,
                max_in_flight=self.max_in_flight,
                timeout_s=self.timeout_s,
                attempts=self.server_attempts,
                give_up_after=self.give_up_after,
            )
        except ValueError as error:
            raise ValueError(str(error).replace("base_url", "server", 1)) from None


def read_model_config(id_or_dir: str, directory: os.PathLike[str]) -> dict[str, Any]:
    """A model's own config.json. Raises BadModel."""
    path = os.path.join(directory, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise BadModel(f"{id_or_dir}: its config.json cannot be read ({error}); give a model's directory") from error
    return config


def refuse_unless_vision_model(id_or_dir: str, directory: os.PathLike[str]) -> None:
    """Before an engine is started for it. Raises BadModel, naming what is missing."""
    config = read_model_config(id_or_dir, directory)
    named = config.get("architectures")
    kinds = ", ".join(map(str, named)) if isinstance(named, list) and named else "a model of no named kind"
    if not any("vision" in key or "visual" in key or key.startswith("mm_") for key in config):
        raise BadModel(f"{id_or_dir}: {kinds} sees no pictures; give a vision-language model, such as a Qwen-VL")
    refuse_unless_weights(id_or_dir, directory)


def refuse_unless_weights(id_or_dir: str, directory: os.PathLike[str]) -> None:
    """Raises BadModel."""
    if not any(Path(directory).glob("*.safetensors")):
        raise BadModel(f"{id_or_dir}: there are no weights in it (*.safetensors); was it copied whole?")


def answered_by_vllm(
    requests: ray.data.Dataset,
    model: str,
    windows: WindowConfig,
    engine: EngineConfig,
    seed: int,
    *,
    is_careful: bool = False,
) -> Iterator[tuple[Task, Answer]]:
    """Each window with its answer, as they come; an answer with an `error` where the engine refused the request.

    The rows carry their windows through the engine, so none can be given another's answer. `is_careful` asks about one
    at a time, in order. Raises MachineFault, and what Ray raises where an engine dies again and again.
    """
    if is_careful:
        engine = replace(engine, batch_size=1, batches_in_flight=1, replicas=1)
    for row in through_vllm(requests, model, windows, engine, _to_engine, _from_engine, seed):
        yield Task.from_json(row["task"]), answer_in(row)


def through_vllm(
    requests: ray.data.Dataset,
    model: str,
    windows: WindowConfig | None,
    engine: EngineConfig,
    to_engine: Callable[..., Row],
    from_engine: Callable[[Row], Row],
    seed: int = 0,
) -> Iterator[Row]:
    """The rows of a dataset as they come out of vLLM; without `windows` it is asked in words only.

    `to_engine` is called with `has_seeds` and makes of a row what `engine_input` does of a request. What the engine
    refuses has its columns still, and an error that `answer_in` finds. `seed` is the engine's own. Raises MachineFault
    where the cluster has no room for the engines: Ray would wait for it without a word.
    """
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    _refuse_unless_room(engine, has_gpu=has_gpu)
    processor = build_processor(
        _processor_config(model, windows, engine, seed, has_gpu=has_gpu),
        preprocess=partial(to_engine, has_seeds=has_gpu),
        postprocess=from_engine,
        preprocess_map_kwargs={"num_cpus": SMALL_STAGE_CPUS},
        postprocess_map_kwargs={"num_cpus": SMALL_STAGE_CPUS},
    )
    # An engine that dies is started again, but not without end: what kills it may be what it is asked.
    processor.get_stage_by_name(ENGINE_STAGE).map_batches_kwargs.update(
        max_restarts=ENGINE_RESTARTS, max_task_retries=ENGINE_RESTARTS
    )
    yield from processor(requests).iter_rows()


def _refuse_unless_room(engine: EngineConfig, *, has_gpu: bool) -> None:
    kind = "GPU" if has_gpu else "CPU"
    there = ray.cluster_resources().get(kind, 0.0)
    # Two small stages an engine, and two that all share.
    small = 0.0 if has_gpu else 2 * SMALL_STAGE_CPUS * (engine.replicas + 1)
    needed = engine.tensor_parallel * engine.replicas + small
    if needed > there:
        raise MachineFault(
            f"tensor_parallel={engine.tensor_parallel}, replicas={engine.replicas}: need {needed:g} {kind}s, "
            f"the cluster has {there:g}"
        )


def _processor_config(
    model: str, windows: WindowConfig | None, engine: EngineConfig, seed: int, *, has_gpu: bool
) -> vLLMEngineProcessorConfig:
    kwargs: dict[str, Any] = {
        "tensor_parallel_size": engine.tensor_parallel,
        **_shown(windows),
        "structured_outputs_config": STRUCTURED,
        "seed": seed,
    }
    if engine.max_model_len:
        kwargs["max_model_len"] = engine.max_model_len
    kwargs |= {name: yaml.safe_load(value) for name, value in engine.engine_args.items()}
    more: dict[str, Any] = {}
    if not has_gpu:
        more["placement_group_config"] = {"bundles": [{"CPU": 1, "GPU": 0}] * engine.tensor_parallel}
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            more["runtime_env"] = {"env_vars": {"VLLM_CPU_KVCACHE_SPACE": CPU_ENGINE_GIB}}
    small = {"num_cpus": SMALL_STAGE_CPUS, "concurrency": engine.replicas}
    if windows is not None:
        more["prepare_multimodal_stage"] = PrepareMultimodalStageConfig(
            chat_template_content_format="openai",
            model_config_kwargs={name: kwargs[name] for name in _shown(windows)},
            **small,
        )
    return vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=kwargs,
        batch_size=engine.batch_size,
        max_concurrent_batches=engine.batches_in_flight,
        # All that is handed over goes to the engine at once: it chooses, and the clock of an answer runs from then on.
        max_pending_requests=engine.batch_size * engine.batches_in_flight,
        concurrency=(engine.replicas, engine.replicas),
        should_continue_on_error=True,
        log_engine_metrics=False,
        chat_template_stage=ChatTemplateStageConfig(**small),
        tokenize_stage=False,
        detokenize_stage=False,
        **more,
    )


def _shown(windows: WindowConfig | None) -> dict[str, Any]:
    """The engine's arguments that say which pictures come."""
    if windows is None:
        return {"limit_mm_per_prompt": {"video": 0, "image": 0}}  # what sees pictures is not even loaded
    limits = {"video": 1, "image": 1 if windows.show_as == "video" else 1024}
    return {"media_io_kwargs": media_io(windows), "limit_mm_per_prompt": limits}


# Rows that have an error pass by every stage of the processor; the column has this name there.
ERROR = "__inference_error__"
DAMAGE = "damage: "


def _to_engine(row: dict[str, Any], *, has_seeds: bool) -> dict[str, Any]:
    asked = asked_of(row)
    kept = {"task": row["task"], "request": "", "damage": row["damage"]}
    if asked.request is None:
        return {**kept, ERROR: DAMAGE + str(asked.damage)}
    return {**kept, **engine_input(asked.request, has_seeds), ERROR: ""}


def engine_input(request: Request, has_seeds: bool) -> dict[str, Any]:
    """A request as the engine's stages take it.

    Without a GPU no request has a seed of its own: vLLM 0.29 takes back the random numbers of a prompt that it reads in
    parts, a CPU's generator cannot, and the engine dies. What is asked again draws on the engine's own generator.
    """
    parameters: dict[str, Any] = {"max_tokens": request.max_tokens, "temperature": request.temperature}
    if has_seeds:
        parameters["seed"] = request.seed
    if request.schema is not None:  # as text: Arrow would change a nested one
        parameters["structured_outputs"] = {"json": json.dumps(request.schema)}
    return {
        "request_id_asked": request.request_id,
        "max_tokens_asked": request.max_tokens,
        "messages": request.messages,
        "sampling_params": parameters,
    }


def _from_engine(row: dict[str, Any]) -> dict[str, Any]:
    return {"task": row["task"], **engine_output(row)}


def engine_output(row: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a row that the engine answered."""
    tokens_out = int(row["num_generated_tokens"])
    queued_s = float((row["metrics"] or {}).get("arrival_time", 0.0))
    return {
        "request_id_asked": row["request_id_asked"],
        "text": row["generated_text"],
        "tokens_in": int(row["num_input_tokens"]),
        "tokens_out": tokens_out,
        "queued_s": queued_s,
        "done_s": queued_s + float(row["time_taken_llm"]),
        # The engine's rows do not say why an answer ended; one that used all that it may is cut off.
        "finish_reason": "length" if tokens_out >= int(row["max_tokens_asked"]) else "stop",
    }


def answer_in(row: dict[str, Any]) -> Answer:
    """The answer of a row that came out of the engine, or that passed by it."""
    if error := row.get(ERROR):
        return Answer(str(row.get("request_id_asked", "")), "", error=str(error))
    return Answer(
        row["request_id_asked"],
        row["text"],
        row["finish_reason"],
        row["tokens_in"],
        row["tokens_out"],
        queued_s=row["queued_s"] or None,
        done_s=row["done_s"] or None,
    )


def answered_by_server(requests: ray.data.Dataset, config: OpenAIConfig) -> Iterator[tuple[Task, Answer]]:
    """The same by a server. Raises BadServer, ServerGone.

    Requests are pulled from the dataset as the server takes them, so only those in flight are in memory.
    """
    waiting: dict[str, Task] = {}
    damages: list[tuple[Task, Answer]] = []

    def asked() -> Iterator[Request]:
        for row in requests.iter_rows():
            found = asked_of(row)
            if found.request is None:
                damages.append((found.task, Answer("", "", error=DAMAGE + str(found.damage))))
                continue
            waiting[found.request.request_id] = found.task
            yield found.request

    for answer in answers(asked(), config):
        yield waiting.pop(answer.request_id), answer
        while damages:
            yield damages.pop()
    while damages:
        yield damages.pop()
