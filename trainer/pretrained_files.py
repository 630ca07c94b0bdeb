"""What the adapters to pretrained models ask of a directory before a library loads it: a config that is JSON, and
weights that are safetensors. Nothing is unpickled and no code of a model's is run.

A pipeline as diffusers lays it out is a directory with a `model_index.json`, its parts in folders of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curation.model_files import BadModel, model_directory

__all__ = ["first_line", "need_safetensors", "part_directory", "read_config"]

LINE_LENGTH = 300


def part_directory(id_or_dir: str, part: str) -> Path:
    """The directory of a model, or that of one part where a whole pipeline is given. Raises BadModel."""
    directory = model_directory(id_or_dir)
    return directory / part if (directory / "model_index.json").is_file() else directory


def read_config(directory: Path, needed: str) -> dict[str, Any]:
    """The object in a directory's `config.json`; `needed` says in the error what to give. Raises BadModel."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        raise BadModel(f"no config.json in {directory}; give the directory of {needed}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadModel(f"{path}: cannot be read ({first_line(error)})") from error
    return config


def need_safetensors(directory: Path) -> None:
    """Raises BadModel where there are no weights, or only pickled ones."""
    if any(directory.glob("*.safetensors")):
        return
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in directory.glob(pattern))
    if pickled:
        raise BadModel(
            f"{directory}: its weights are pickled ({pickled[0]}) and are not read; convert them to safetensors"
        )
    raise BadModel(f"{directory}: has no weights (*.safetensors); was it copied whole?")


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:LINE_LENGTH]
