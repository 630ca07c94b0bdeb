"""Where a model's files are and what identifies them: their content, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

__all__ = ["BadModel", "content_id", "model_directory"]

# What can change what a model says. No pickles among them: weights are safetensors.
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
READ_BYTES = 1 << 22
ID_DIGITS = 16
KEPT_FROM_BYTES = 1 << 26  # less is hashed in the time that a look into the cache is worth
SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's
HASH = re.compile(r"[0-9a-f]{64}")


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
    """`family-` and a hash of files, or of the model's files in directories, by name and content.

    Gigabytes are read once: their hash is kept in the user's cache (`$XDG_CACHE_HOME/dailies`) for as long as no file
    was written, moved or replaced. Snapshots of the hub are files like others: the same content has the same id.
    """
    files = [(file.name if path.is_dir() else "", file) for path in paths for file in _files_of(path)]
    begun_ns, stamps = time.time_ns(), _stamps(files)
    if sum(stamp.size_bytes for stamp in stamps) < KEPT_FROM_BYTES:
        return f"{family}-{_hash(files)[:ID_DIGITS]}"
    kept = _cache_folder() / hashlib.sha256(json.dumps([astuple(stamp) for stamp in stamps]).encode()).hexdigest()
    found = _read(kept)
    if found is None:
        found = _hash(files)
        # A write within a tick of the file system's clock leaves no trace in the times: what is that new is not kept.
        last_ns = max((max(stamp.written_ns, stamp.changed_ns) for stamp in stamps), default=0)
        if _stamps(files) == stamps and last_ns < begun_ns - SETTLED_NS:
            _keep(kept, found)
    return f"{family}-{found[:ID_DIGITS]}"


def _files_of(path: Path) -> list[Path]:
    return sorted({file for pattern in FILES for file in path.glob(pattern)}) if path.is_dir() else [path]


def _hash(files: Sequence[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes where a file is written, moved or replaced. No program can set `changed_ns` back."""

    name: str
    path: str
    inode: int
    size_bytes: int
    written_ns: int
    changed_ns: int


def _stamps(files: Sequence[tuple[str, Path]]) -> list[_Stamp]:
    stamps = []
    for name, file in files:
        stat = file.stat()
        times_ns = stat.st_mtime_ns, stat.st_ctime_ns
        stamps.append(_Stamp(name, os.path.realpath(file), stat.st_ino, stat.st_size, *times_ns))
    return stamps


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "dailies" / "model_hashes"


def _read(kept: Path) -> str | None:
    try:
        text = kept.read_text()
    except (OSError, ValueError):
        return None
    return text if HASH.fullmatch(text) else None


def _keep(kept: Path, found: str) -> None:
    """Whole or not at all; without a place to keep it, it is made again the next time."""
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        written = kept.with_name(f"{kept.name}.{secrets.token_hex(4)}")
        written.write_text(found)
        written.replace(kept)
