"""Finding footage: folders, globs, list files and addresses, through fsspec; and bringing one file within reach."""

from __future__ import annotations

import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

from curation.media import VIDEO_SUFFIXES
from curation.records import BadSource, SourceState

__all__ = ["Footage", "Unreadable", "file_hash", "find_footage", "local_copy"]

SCHEMES = frozenset({"s3", "gs", "gcs", "http", "https", "file"})
LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
GLOB_CHARACTERS = frozenset("*?[")
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Footage:
    """A file that was found: its address, size and the mark by which its store tells a change (time or etag)."""

    uri: str
    bytes: int | None
    modified: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was asked for and cannot be reached, with the reason in words."""

    uri: str
    detail: str


def find_footage(wanted: Sequence[str]) -> Iterator[Footage | Unreadable]:
    """Every file of what was asked for, in order of name, each once.

    Folders give the files with a video suffix, wherever they lie below. Globs, list files (`.txt`, `.lst`: one path or
    address a line, `#` begins a comment) and single files are taken at their word, whatever the suffix. A path that
    exists is never read as a glob.
    """
    seen: set[bytes] = set()
    for spec in wanted:
        for found in _find(spec, from_list=False):
            key = hashlib.blake2b(found.uri.encode("utf-8", "surrogateescape"), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                yield found


def _find(spec: str, *, from_list: bool) -> Iterator[Footage | Unreadable]:
    scheme = urlsplit(spec).scheme
    if scheme in SCHEMES - {"file"}:
        yield from _find_remote(spec)
        return
    path = spec.removeprefix("file://") if scheme == "file" else spec
    if os.path.isdir(path):
        yield from _find_in_folder(path)
    elif os.path.lexists(path):
        if Path(path).suffix.lower() in LIST_SUFFIXES and not from_list:
            yield from _find_in_list(path)
        else:
            yield _local(path)
    elif GLOB_CHARACTERS & set(path):
        matches = sorted(p for p in glob.iglob(path, recursive=True) if not os.path.isdir(p))
        yield from (_local(match) for match in matches)
        if not matches:
            yield Unreadable(_absolute(path), "the glob matches no file")
    else:
        yield Unreadable(_absolute(path), "no such file or folder")


def _find_in_folder(folder: str) -> Iterator[Footage | Unreadable]:
    problems: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=problems.append):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield _local(os.path.join(parent, name))
    for problem in problems:
        yield Unreadable(_absolute(str(problem.filename)), f"the folder cannot be listed: {problem.strerror}")


def _find_in_list(path: str) -> Iterator[Footage | Unreadable]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                entry = line.strip()
                if entry and not entry.startswith("#"):
                    is_plain = not urlsplit(entry).scheme and not os.path.isabs(entry)
                    beside = os.path.join(os.path.dirname(os.path.abspath(path)), entry)
                    yield from _find(beside if is_plain else entry, from_list=True)
    except OSError as error:
        yield Unreadable(_absolute(path), f"the list cannot be read: {error.strerror}")


def _find_remote(spec: str) -> Iterator[Footage | Unreadable]:
    try:
        filesystem, path = fsspec.core.url_to_fs(spec)
        if spec.startswith(("http://", "https://")):
            found = {path: filesystem.info(path)}
        elif GLOB_CHARACTERS & set(path):
            found = filesystem.glob(path, detail=True)
        elif filesystem.isfile(path):
            found = {path: filesystem.info(path)}
        else:
            found = filesystem.find(path, detail=True)
            found = {p: info for p, info in found.items() if Path(p).suffix.lower() in VIDEO_SUFFIXES}
    except Exception as error:  # every filesystem has errors of its own, and all of them mean the same here
        yield Unreadable(spec, f"{type(error).__name__}: {error}")
        return
    if not found:
        yield Unreadable(spec, "nothing there: no such bucket or prefix, or no file with a video suffix")
    for path, info in sorted(found.items()):
        if info.get("type") != "directory":
            mark = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified") or ""
            yield Footage(str(filesystem.unstrip_protocol(path)), info.get("size"), str(mark))


def _absolute(path: str) -> str:
    return os.path.abspath(path)


def _local(path: str) -> Footage | Unreadable:
    try:
        status = os.stat(path)
    except OSError as error:
        return Unreadable(_absolute(path), f"{error.strerror}")
    return Footage(_absolute(path), status.st_size, str(status.st_mtime_ns))


@contextmanager
def local_copy(uri: str, max_bytes: int) -> Iterator[Path]:
    """A path where the file of a uri can be read: itself if local, else a copy that is removed again.

    Raises BadSource: `unreadable`, `too_many_bytes`, `not_a_file`.
    """
    if urlsplit(uri).scheme not in SCHEMES - {"file"}:
        path = Path(uri.removeprefix("file://"))
        if path.exists() and not path.is_file():
            raise BadSource(SourceState.REJECTED, "not_a_file", "it is a folder, pipe or device; give files")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="dailies-fetch-") as folder:
        path = Path(folder) / "source"
        _fetch(uri, path, max_bytes)
        yield path


def _fetch(uri: str, path: Path, max_bytes: int) -> None:
    copied = 0
    for chunk in _remote_chunks(uri):
        copied += len(chunk)
        if copied > max_bytes:
            raise BadSource(SourceState.REJECTED, "too_many_bytes", f"over max_source_bytes={max_bytes}")
        with path.open("ab") as local:
            local.write(chunk)


def _remote_chunks(uri: str) -> Iterator[bytes]:
    try:
        with fsspec.open(uri, "rb", block_size=CHUNK_BYTES) as remote:
            while chunk := remote.read(CHUNK_BYTES):  # type: ignore[union-attr]
                yield chunk
    except Exception as error:  # as above: every filesystem has errors of its own
        raise BadSource(SourceState.FAILED, "unreadable", f"{type(error).__name__}: {error}") from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hex: the id of a source. Raises BadSource `unreadable`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        detail = f"{error.strerror}; check that the file is there and may be read"
        raise BadSource(SourceState.FAILED, "unreadable", detail) from error
