"""A model on disk: `config.json` and `model.safetensors` in a directory. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

__all__ = ["CONFIG", "WEIGHTS", "BadCheckpoint", "load_weights", "read_checkpoint", "read_config", "write_checkpoint"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
HASH = "config_sha256"  # in the metadata of the weights
KINDS_SHOWN = 3

Config = TypeVar("Config")


class BadCheckpoint(ValueError):
    """A directory that holds no whole checkpoint of what was asked for; it names the file and what to do."""


def write_checkpoint(directory: Path, config: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a frozen dataclass (of numbers, texts, tuples and such dataclasses) and tensors. Raises OSError, and what
    was there before stays.

    Each file appears whole, once both are on the disk, the weights first. They hold their config's hash: a writer that
    dies between the two leaves a directory that is refused, not one that is read wrongly.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps({"kind": type(config).__name__, **asdict(config)}, indent=1)
    files = directory / WEIGHTS, directory / CONFIG
    try:
        save_file(content, _part(files[0]), {HASH: _hash(text)})
        _part(files[1]).write_text(text + "\n", encoding="utf-8")
        for file in files:
            _to_disk(_part(file))
    except (SafetensorError, OSError) as error:  # the first is how a full disk is said there
        for file in files:
            _part(file).unlink(missing_ok=True)
        raise OSError(f"{directory}: the checkpoint cannot be written: {error}") from error
    for file in files:
        os.replace(_part(file), file)


def _hash(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()


def _to_disk(path: Path) -> None:
    """A file that is renamed before it is written out can be empty after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def read_checkpoint(directory: Path, config_type: type[Config]) -> tuple[Config, dict[str, torch.Tensor]]:
    """The config and the tensors, on the CPU. Raises BadCheckpoint."""
    config = read_config(directory, config_type)
    weights = directory / WEIGHTS
    try:
        with safe_open(weights, "pt") as file:
            said = (file.metadata() or {}).get(HASH)
        if said != _hash((directory / CONFIG).read_text(encoding="utf-8")):
            raise BadCheckpoint(f"{directory}: its config is not its weights' own; take an earlier checkpoint")
        return config, load_file(weights)
    except FileNotFoundError:
        raise BadCheckpoint(f"{weights}: is missing; was {directory} copied whole?") from None
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(
            f"{weights}: cannot be read ({error}); take another copy or an earlier checkpoint"
        ) from error


def read_config(directory: Path, config_type: type[Config]) -> Config:
    """The config alone. Raises BadCheckpoint."""
    path = directory / CONFIG
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("no JSON object")
    except FileNotFoundError:
        raise BadCheckpoint(f"{path}: is missing; give the directory of a checkpoint") from None
    except (ValueError, OSError, RecursionError) as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error})") from error
    kind = said.pop("kind", None)
    if kind != config_type.__name__:
        raise BadCheckpoint(f"{path}: is a {str(kind)[:60]}, and a {config_type.__name__} is needed")
    try:
        return _made(config_type, said, str(path))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, BadCheckpoint) else BadCheckpoint(f"{path}: {error}") from error


def _made(config_type: type[Config], said: dict[str, Any], path: str) -> Config:
    types = get_type_hints(config_type)
    known = {field.name for field in fields(config_type)}  # pyright: ignore[reportArgumentType]
    if strange := sorted(set(said) - known):
        raise BadCheckpoint(f"{path}: has fields that this version does not know: {', '.join(strange)[:200]}")
    return config_type(**{name: _value(types[name], value, path) for name, value in said.items()})


def _value(kind: Any, value: Any, path: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _made(kind, value, path)
    return tuple(value) if isinstance(value, list) else value


def load_weights(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Fill a module, to the last tensor. Raises BadCheckpoint with the first names and shapes that do not fit."""
    wanted = module.state_dict()
    faults = [f"{name} is missing" for name in wanted if name not in tensors]
    faults += [f"{name} is not of this model" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {list(tensors[name].shape)}, and {list(wanted[name].shape)} is needed"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if faults:
        more = f", and {len(faults) - KINDS_SHOWN} more" if len(faults) > KINDS_SHOWN else ""
        raise BadCheckpoint(f"{where}: weights of another config: {'; '.join(faults[:KINDS_SHOWN])}{more}")
    module.load_state_dict(dict(tensors))
