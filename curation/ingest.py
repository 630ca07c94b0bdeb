"""Finding footage: folders, globs, list files and addresses, through fsspec; and bringing one file within reach."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from curation.address import PATIENCE_S, SCHEMES, WEB, filesystem_of, path_of, scheme_of, uri_of
from curation.media import VIDEO_SUFFIXES, open_file
from curation.records import BadSource, SourceState

__all__ = ["SCHEMES", "Footage", "FootageSearch", "Unreadable", "file_hash", "find_footage", "local_copy"]

LIST_SUFFIXES = frozenset({".txt", ".lst", ".list"})
GLOB_CHARACTERS = frozenset("*?[")
APPLE_DOUBLE = "._"  # what macOS writes beside every file on a disk of another kind: not the video, whatever its suffix
LONGEST_LINE = 1 << 16
CHUNK_BYTES = 4 << 20
# A server that sends less than this in the long run is given up: it would hold a worker for ever.
MIN_FETCH_BYTES_PER_S = 1000
LONGEST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class Footage:
    """A file that was found: its address, size and the mark by which its store tells a change (time or etag).

    `uri` is a local path or an address. It is proper text, whatever the file is called: see `address.uri_of`.
    """

    uri: str
    bytes: int | None
    modified: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that was asked for and cannot be reached, with the reason in words."""

    uri: str
    detail: str


def find_footage(wanted: Sequence[str]) -> FootageSearch:
    """Every file of what was asked for, in order of name, each once.

    Folders give the files with a video suffix, wherever they lie below; links to folders are not followed. Globs, list
    files (`.txt`, `.lst`, `.list`: one path or address a line, relative to the list, `#` begins a comment) and single
    files are taken at their word, whatever the suffix. What exists is never read as a glob.
    """
    return FootageSearch(wanted)


class FootageSearch(Iterator[Footage | Unreadable]):
    """Iterate for what was found; afterwards `passed_over` counts what lay there and was left alone, by its kind."""

    def __init__(self, wanted: Sequence[str]):
        self.passed_over: Counter[str] = Counter()
        self._found = _each_once(found for spec in wanted for found in self._find(spec, from_list=False))

    def __next__(self) -> Footage | Unreadable:
        return next(self._found)

    @property
    def passed_over_words(self) -> str:
        """As in "12 passed over (10 .jpg, 2 .wav)", empty where there is nothing to say."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.passed_over.most_common(8))
        more = ", ..." if len(self.passed_over) > 8 else ""
        return f"{self.passed_over.total()} passed over ({kinds}{more})" if self.passed_over else ""

    def _find(self, spec: str, *, from_list: bool) -> Iterator[Footage | Unreadable]:
        path = path_of(spec)
        if path is None and uri_of(spec) != spec:
            yield Unreadable(spec.encode(errors="replace").decode(), "the address is no proper text; percent-encode it")
        elif path is None:
            yield from self._find_remote(spec)
        elif os.path.isdir(path):
            yield from self._find_in_folder(path)
        elif os.path.lexists(path):
            is_list = Path(path).suffix.lower() in LIST_SUFFIXES and not from_list
            yield from self._find_in_list(path) if is_list else [_local(path)]
        elif GLOB_CHARACTERS & set(path):
            yield from self._find_by_glob(path)
        else:
            yield Unreadable(_absolute_uri(path), "no such file or folder; check the spelling")

    def _find_in_folder(self, folder: str) -> Iterator[Footage | Unreadable]:
        problems: list[OSError] = []
        for parent, folders, names in os.walk(folder, onerror=problems.append):
            folders.sort()
            if links := sum(os.path.islink(os.path.join(parent, name)) for name in folders):
                self.passed_over["links to folders"] += links
            yield from (_local(os.path.join(parent, name)) for name in sorted(names) if self._is_video(name))
        yield from map(_unlistable, problems)

    def _is_video(self, name: str) -> bool:
        """Whether a file found by looking around is footage; if not, it is counted."""
        suffix = Path(name).suffix.lower()
        is_apple_double = name.startswith(APPLE_DOUBLE)
        if suffix in VIDEO_SUFFIXES and not is_apple_double:
            return True
        kind = APPLE_DOUBLE if is_apple_double else suffix if len(suffix) <= 8 else "other"
        self.passed_over[uri_of(kind) or "without suffix"] += 1
        return False

    def _find_by_glob(self, pattern: str) -> Iterator[Footage | Unreadable]:
        is_found = False
        root, *parts = Path(pattern).parts
        start, parts = (root, parts) if os.path.isabs(pattern) else (".", [root, *parts])
        for match in _matches(start, parts):
            is_found = True
            if isinstance(match, OSError):
                yield _unlistable(match)
            elif os.path.isdir(match):
                self.passed_over["folders"] += 1
            else:
                yield _local(match)
        if not is_found:
            yield Unreadable(_absolute_uri(pattern), "the glob matches no file; check the spelling")

    def _find_in_list(self, path: str) -> Iterator[Footage | Unreadable]:
        folder = os.path.dirname(os.path.abspath(path))
        try:
            with open_file(path) as file, open(file.fileno(), "rb", closefd=False) as lines:
                while line := lines.readline(LONGEST_LINE):
                    if len(line) == LONGEST_LINE:
                        yield Unreadable(_absolute_uri(path), f"it is no list: a line has over {LONGEST_LINE} bytes")
                        return
                    entry = os.fsdecode(line.removeprefix(b"\xef\xbb\xbf")).strip()
                    if entry and not entry.startswith("#"):
                        beside = entry if scheme_of(entry) else os.path.join(folder, entry)
                        yield from self._find(beside, from_list=True)
        except BadSource as error:
            yield Unreadable(_absolute_uri(path), f"the list cannot be read: {error.detail}")

    def _find_remote(self, spec: str) -> Iterator[Footage | Unreadable]:
        try:
            filesystem, path = filesystem_of(spec)
            found = self._remote_files(filesystem, path, spec)
        except Exception as error:  # every filesystem has errors of its own, and all of them mean the same here
            yield Unreadable(spec, _words(error))
            return
        if not found:
            yield Unreadable(spec, "nothing there: no such bucket or prefix, or no file with a video suffix")
        for path, info in sorted(found.items()):
            marks = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "Last-Modified"))
            mark = next(filter(None, marks), "")
            yield Footage(str(filesystem.unstrip_protocol(path)), info.get("size"), str(mark))

    def _remote_files(self, filesystem: Any, path: str, spec: str) -> dict[str, dict[str, Any]]:
        if scheme_of(spec) in WEB or filesystem.isfile(path):
            return {path: filesystem.info(path)}
        if GLOB_CHARACTERS & set(path):
            found = filesystem.glob(path, detail=True)
            return {p: info for p, info in found.items() if info.get("type") != "directory"}
        found = filesystem.find(path, detail=True)
        return {p: info for p, info in found.items() if self._is_video(p.rpartition("/")[2])}


def _each_once(everything: Iterable[Footage | Unreadable]) -> Iterator[Footage | Unreadable]:
    seen: set[bytes] = set()
    for found in everything:
        key = hashlib.blake2b(found.uri.encode(), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield found


def _matches(folder: str, parts: list[str]) -> Iterator[str | OSError]:
    """What lies below a folder and fits a pattern, part by part, in order of name; what could not be listed as well.

    `**` is any depth, without following links: they can be circular. As in a shell, only `.*` finds hidden names.
    """
    if not parts:
        yield folder
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        problems: list[OSError] = []
        for parent, folders, _ in os.walk(folder, onerror=problems.append):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from _matches(parent, rest or ["*"])
        yield from problems
    elif GLOB_CHARACTERS & set(part):
        try:
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        except OSError as error:
            yield error
            return
        for name in names:
            if fnmatchcase(name, part) and name.startswith(".") <= part.startswith("."):
                yield from _matches(os.path.join(folder, name), rest)
    elif os.path.lexists(os.path.join(folder, part)):
        yield from _matches(os.path.join(folder, part), rest)


def _absolute_uri(path: str) -> str:
    """With `..` behind a link, only the system knows where a path leads; else it stays as it was given."""
    folder, name = os.path.split(path)
    resolved = os.path.realpath(folder) if ".." in Path(folder).parts else os.path.abspath(folder)
    return uri_of(os.path.abspath(path) if name in ("", ".", "..") else os.path.join(resolved, name))


def _local(path: str) -> Footage | Unreadable:
    try:
        status = os.stat(path)
    except OSError as error:
        kind = "a link that leads nowhere" if os.path.islink(path) else "the file cannot be looked at"
        return Unreadable(_absolute_uri(path), f"{kind}: {error.strerror}")
    return Footage(_absolute_uri(path), status.st_size, str(status.st_mtime_ns))


def _unlistable(problem: OSError) -> Unreadable:
    detail = f"the folder cannot be listed: {problem.strerror}; check its permissions"
    return Unreadable(_absolute_uri(str(problem.filename)), detail)


def _words(error: Exception) -> str:
    """What an error says, and what caused it, in one line: a server may have written it."""
    texts = [f"{type(e).__name__}: {e}" for e in (error, error.__cause__) if e is not None]
    line = " ".join("; ".join(texts).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:LONGEST_DETAIL]


@contextmanager
def local_copy(uri: str, max_bytes: int) -> Iterator[Path]:
    """A path where the file of a uri can be read: itself if local, else a copy that is removed again.

    Copies lie in the folder for temporary files (TMPDIR). Raises BadSource `unreadable`, `too_many_bytes`, and at the
    end `changed_while_read`; OSError where this machine is at fault (no space for the copy).
    """
    local = path_of(uri)
    if local is None:
        with tempfile.TemporaryDirectory(prefix="dailies-fetch-") as folder:
            path = Path(folder) / "source"
            _fetch(uri, path, max_bytes)
            yield path
        return
    before = _mark(local)
    if before is not None and before[0] > max_bytes:
        raise _too_many_bytes(max_bytes)
    try:
        yield Path(local)
    except BadSource as error:
        if changed := _changed_since(before, local):
            raise changed from error
        raise
    if changed := _changed_since(before, local):
        raise changed


def _mark(path: str) -> tuple[int, int, int] | None:
    """By which a change of a file is told; None for what is no file, which whoever opens it will say."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _changed_since(before: tuple[int, int, int] | None, path: str) -> BadSource | None:
    """What to raise if a file is not what it was. That it is gone does no harm: who had it open has read it."""
    after = _mark(path)
    detail = "it was written to while it was read; run again when it is complete"
    is_same = after is None or after == before
    return None if is_same else BadSource(SourceState.FAILED, "changed_while_read", detail)


def _too_many_bytes(max_bytes: int) -> BadSource:
    return BadSource(SourceState.REJECTED, "too_many_bytes", f"over max_source_bytes={max_bytes}; split the file")


def _fetch(uri: str, path: Path, max_bytes: int) -> None:
    copied, began_s = 0, time.monotonic()
    with path.open("wb") as local:
        for chunk in _remote_chunks(uri):
            copied += len(chunk)
            if copied > max_bytes:
                raise _too_many_bytes(max_bytes)
            if time.monotonic() - began_s > PATIENCE_S + copied / MIN_FETCH_BYTES_PER_S:
                detail = f"it comes slower than {MIN_FETCH_BYTES_PER_S} bytes a second; try another time or mirror"
                raise BadSource(SourceState.FAILED, "unreadable", detail)
            local.write(chunk)


def _remote_chunks(uri: str) -> Iterator[bytes]:
    try:
        filesystem, path = filesystem_of(uri)
        is_web = scheme_of(uri) in WEB
        # On the web one request for all, with nothing asked before: many servers know neither ranges nor sizes.
        how = {"block_size": 0, "size": 1} if is_web else {"block_size": CHUNK_BYTES}
        with filesystem.open(path, "rb", **how) as remote:
            while chunk := remote.read(CHUNK_BYTES):
                yield chunk
    except MemoryError:
        raise
    except Exception as error:  # as above: every filesystem has errors of its own
        detail = f"{_words(error)}; check that it is there and may be read"
        raise BadSource(SourceState.FAILED, "unreadable", detail) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hex: the id of a source. Raises BadSource `unreadable`, `not_a_file`."""
    with open_file(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            detail = f"{error.strerror}; check that the file is there and may be read"
            raise BadSource(SourceState.FAILED, "unreadable", detail) from error
