"""Where a model's files are and what identifies them: their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["BadModel", "content_id", "model_directory"]

# What can change what a model says. No pickles among them: weights are safetensors.
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
READ_BYTES = 1 << 22
ID_DIGITS = 16


class BadModel(Exception):
    """A model cannot be had, is of another kind than needed, or broke its contract. The message says what to do."""


def model_directory(id_or_dir: str) -> Path:
    """A directory as it is, or that of a model on the hub, fetched unless it was before. Raises BadModel."""
    path = Path(id_or_dir)
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or id_or_dir.startswith((".", "~")) or id_or_dir.count("/") != 1:
        raise BadModel(f"there is no model directory {id_or_dir}; give a directory, or NAME/MODEL of the hub")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(id_or_dir, allow_patterns=list(FILES)))
    except ImportError as error:
        raise BadModel(f"{id_or_dir}: {error}; install the extra `cpu` or `gpu`") from error
    except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadModel(f"{id_or_dir} is no directory here and cannot be had from the hub: {text}") from error


def content_id(family: str, *paths: Path) -> str:
    """`family-` and a hash of files, or of the model's files in directories, by name and content."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted({f for pattern in FILES for f in path.glob(pattern)}) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.name if path.is_dir() else ''}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as opened:
                while block := opened.read(READ_BYTES):
                    digest.update(block)
    return f"{family}-{digest.hexdigest()[:ID_DIGITS]}"
