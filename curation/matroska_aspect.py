"""The shape of a pixel in a Matroska file (RFC 9559, 5.1.4.1.28: DisplayWidth, DisplayHeight).

Codecs such as VP8 have no place for it, and PyAV gives no way to hand it to FFmpeg's muxer, so it is written here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

__all__ = ["write_pixel_aspect"]

SEGMENT, TRACKS, TRACK, VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
PIXEL_WIDTH, PIXEL_HEIGHT = 0xB0, 0xBA
DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
DISPLAY = (DISPLAY_WIDTH, DISPLAY_HEIGHT, DISPLAY_UNIT)
CRC, VOID = 0xBF, 0xEC


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    start: int
    body: int
    end: int


def write_pixel_aspect(file: io.BytesIO, aspect: Fraction) -> bool:
    """Give the picture of a finished file its pixel aspect, in place; False where there is no room for it.

    FFmpeg's muxer leaves a void at the end of a track's entry, which takes what is added: nothing else moves.
    """
    data = file.getbuffer()
    try:
        tracks = _child(data, _child(data, _Element(0, 0, 0, len(data)), SEGMENT), TRACKS)
        track = next(t for t in _elements(data, tracks) if t.kind == TRACK and _has(data, t, VIDEO))
        entry = _edited_entry(data, track, aspect)
        if entry is None:
            return False
        data[track.body : track.end] = entry
        crc = next(_elements(data, tracks))
        if crc.kind == CRC:
            data[crc.body : crc.end] = zlib.crc32(data[crc.end : tracks.end]).to_bytes(4, "little")
        return True
    finally:
        data.release()


def _edited_entry(data: memoryview, track: _Element, aspect: Fraction) -> bytes | None:
    """The body of a track's entry, as long as before, or None where its void is too small."""
    children = list(_elements(data, track))
    video = next(child for child in children if child.kind == VIDEO)
    display = _video_with_aspect(data, video, aspect)
    room = next((child for child in reversed(children) if child.kind == VOID), None)
    if room is None:
        return None
    left = (room.end - room.start) - (len(display) - (video.end - video.start))
    if not 2 <= left <= 128:
        return None
    parts = {video: display, room: bytes([VOID, 0x80 | left - 2]) + bytes(left - 2)}
    return b"".join(parts.get(child, bytes(data[child.start : child.end])) for child in children)


def _video_with_aspect(data: memoryview, video: _Element, aspect: Fraction) -> bytes:
    children = list(_elements(data, video))
    width, height = (_value(data, children, kind) for kind in (PIXEL_WIDTH, PIXEL_HEIGHT))
    scaled = width * aspect.numerator
    common = gcd(scaled, aspect.denominator)
    kept = [bytes(data[child.start : child.end]) for child in children if child.kind not in DISPLAY]
    sizes = [(DISPLAY_WIDTH, scaled // common), (DISPLAY_HEIGHT, height * aspect.denominator // common)]
    return _element(VIDEO, b"".join([*kept, *(_element(kind, _number(size)) for kind, size in sizes)]))


def _elements(data: memoryview, parent: _Element) -> Iterator[_Element]:
    at = parent.body
    while at < parent.end:
        kind, body = _variable(data, at, keep_marker=True)
        size, body = _variable(data, body, keep_marker=False)
        end = min(body + size, parent.end)  # a size of all ones means: to the end
        yield _Element(kind, at, body, end)
        at = end


def _child(data: memoryview, parent: _Element, kind: int) -> _Element:
    return next(child for child in _elements(data, parent) if child.kind == kind)


def _has(data: memoryview, parent: _Element, kind: int) -> bool:
    return any(child.kind == kind for child in _elements(data, parent))


def _value(data: memoryview, children: list[_Element], kind: int) -> int:
    child = next(child for child in children if child.kind == kind)
    return int.from_bytes(data[child.body : child.end], "big")


def _variable(data: memoryview, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length (RFC 8794, section 4) and where it ends."""
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    return (value if keep_marker else value & (1 << 7 * length) - 1), at + length


def _element(kind: int, body: bytes) -> bytes:
    assert len(body) < 127
    return _number(kind) + bytes([0x80 | len(body)]) + body


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
