"""A vision-language model of transformers that can be tuned: loaded, with LoRA or without, and written as a directory
that vLLM serves."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captioner.tiny_model import save_processor
from captioner.tune_config import TuneConfig
from curation.model_files import BadModel, model_directory

__all__ = ["Tunable", "load_tunable", "refuse_unless_tunable", "save_served", "trained_parameters"]

RESULT_FOLDER = ".result"


@dataclass(slots=True)
class Tunable:
    """A loaded model and its processor. `dtype` is that of the files it came from and of those that are written."""

    model: nn.Module
    processor: Any
    dtype: torch.dtype
    is_lora: bool


def refuse_unless_tunable(id_or_dir: str) -> Path:
    """The model's directory, looked at without loading it. Raises BadModel."""
    directory = model_directory(id_or_dir)
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"{id_or_dir}: its config.json cannot be read ({error}); give a model's directory") from error
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    kind = config.get("model_type")
    if kind not in KNOWN:
        raise BadModel(
            f"{id_or_dir}: a {kind} is no vision-language model of transformers; give one, such as a Qwen-VL"
        )
    if not any(directory.glob("*.safetensors")):
        raise BadModel(f"{id_or_dir}: no .safetensors in {directory}; weights of other kinds are not loaded")
    return directory


def load_tunable(id_or_dir: str, config: TuneConfig, device: str) -> Tunable:
    """Full tuning holds weights in float32, because small steps are lost in 16 bits; with LoRA only its own are.

    No code of the model's is run. Raises BadModel.
    """
    directory = refuse_unless_tunable(id_or_dir)
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            directory, use_safetensors=True, output_loading_info=True, dtype="auto"
        )
        model, report = loaded
        processor = AutoProcessor.from_pretrained(directory)
    except Exception as error:  # files that do not fit raise errors of many kinds, none of them a fault of ours
        line = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise BadModel(f"{id_or_dir}: cannot be loaded: {line}") from error
    if report["missing_keys"]:
        raise BadModel(f"{id_or_dir}: its weights lack {sorted(report['missing_keys'])[0]} and others")
    if getattr(processor, "chat_template", None) is None:
        raise BadModel(f"{id_or_dir}: has no chat template; give a model that was tuned to answer")
    dtype = model.dtype
    if config.lora_rank:
        from peft import LoraConfig, get_peft_model

        with seeded(config.seed):
            lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules="all-linear")
            model = get_peft_model(model, lora)
    elif dtype in (torch.float16, torch.bfloat16):
        model = model.float()
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return Tunable(model.to(device), processor, dtype, bool(config.lora_rank))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What a step changes, by name; a weight that is used in two places is there once."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def save_served(tunable: Tunable, directory: Path, *, is_last: bool) -> None:
    """Write model and processor so that transformers and vLLM load them, LoRA merged into the weights.

    Files land one after another from a folder beside them, `config.json` last. `is_last` says that the model is not
    needed after, which spares a copy.
    """
    written = directory / RESULT_FOLDER
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    model: Any = tunable.model if is_last else copy.deepcopy(tunable.model)
    if tunable.is_lora:
        model = model.merge_and_unload()
    model.to(tunable.dtype).save_pretrained(written)
    save_processor(tunable.processor, written)
    for file in sorted(written.iterdir(), key=lambda file: file.name == "config.json"):
        os.replace(file, directory / file.name)
    written.rmdir()
