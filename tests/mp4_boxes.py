"""Patching the boxes of an mp4 or mov (ISO/IEC 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def boxes(data: bytes, path: tuple[str, ...], start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Start and end of every box at a path such as `("moov", "trak")`."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if kind == path[0].encode():
            yield from [(start, start + size)] if len(path) == 1 else boxes(data, path[1:], start + 8, start + size)
        start += max(size, 8)


def patched(data: bytes, path: tuple[str, ...], offset: int, layout: str, *values: int | bytes) -> bytes:
    """The file with values written into each box at a path, `offset` bytes after its size and kind."""
    changed = bytearray(data)
    found = list(boxes(data, path))
    assert found, f"no box {path}"
    for start, _ in found:
        struct.pack_into(layout, changed, start + 8 + offset, *values)
    return bytes(changed)


def with_box(data: bytes, path: tuple[str, ...], body: bytes) -> bytes:
    """The file with another body in the first box at a path; what lies behind moves, so media data must come before."""
    start, end = next(boxes(data, path))
    parents = [next(boxes(data, path[: depth + 1]))[0] for depth in range(len(path) - 1)]
    changed = bytearray(data[: start + 8] + body + data[end:])
    for at in [*parents, start]:
        size = struct.unpack_from(">I", changed, at)[0] + len(body) - (end - start - 8)
        struct.pack_into(">I", changed, at, size)
    return bytes(changed)


def box(kind: str, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind.encode()) + body
