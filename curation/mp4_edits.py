"""Edit lists in mp4 and mov files: which part of each track a player shows, and when.

FFmpeg's muxer writes edit lists that hide frames before time 0, but none that hide frames after a clip's end, which
open GOPs and reordered frames need, so the lists are written here. ISO/IEC 14496-12, 8.6.5 and 8.6.6.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["BrokenMovie", "TrackEdit", "write_edits"]


class BrokenMovie(Exception):
    """The file is not as muxers should write it: it was made of damaged packets, or a time fits into no box."""


@dataclass(frozen=True, slots=True)
class TrackEdit:
    """A track shows its media from `media_start_s` for `duration_s`, beginning `delay_s` into the movie.

    Times are exact seconds; media time 0 is the decode time of the track's first sample.
    """

    media_start_s: Fraction
    duration_s: Fraction
    delay_s: Fraction = Fraction(0)


def write_edits(file: io.BytesIO, edits: Sequence[TrackEdit | None]) -> None:
    """Give each track of a finished mp4 or mov its edit list, in track order, in place; None leaves a track as it is.

    The movie header must be the last box, as muxers leave it when they cannot know its size ahead: nothing moves.
    Raises BrokenMovie, and leaves the file as it was.
    """
    try:
        moov_start, moov = _movie_header(file)
        edited = _box(b"moov", _edited_movie(moov, edits))
    except struct.error as error:
        raise BrokenMovie(f"a box does not hold what it must: {error}") from error
    file.seek(moov_start)
    file.truncate()
    file.write(edited)


def _movie_header(file: io.BytesIO) -> tuple[int, bytes]:
    """Where it begins, and its content."""
    with file.getbuffer() as data:
        kind, start, body_start, end = list(_boxes(data, 0, len(data)))[-1]
        if kind != b"moov":
            raise BrokenMovie(f"the last box is {kind!r}")
        return start, bytes(data[body_start:end])


def _edited_movie(moov: bytes, edits: Sequence[TrackEdit | None]) -> bytes:
    boxes = [(kind, moov[start:end]) for kind, start, _, end in _boxes(moov, 0, len(moov))]
    header = next(box for kind, box in boxes if kind == b"mvhd")
    timescale = _timescale(header)
    tracks = sum(kind == b"trak" for kind, _ in boxes)
    if tracks != len(edits):
        raise BrokenMovie(f"{tracks} tracks for {len(edits)} streams")
    remaining = iter(edits)
    parts = []
    for kind, box in boxes:
        if kind == b"mvhd":
            longest_s = max(edit.delay_s + edit.duration_s for edit in edits if edit is not None)
            parts.append(_with_duration(box, _ticks(longest_s, timescale), at_version_0=16, at_version_1=24))
        elif kind == b"trak" and (edit := next(remaining)) is not None:
            parts.append(_edited_track(box[8:], edit, timescale))
        else:
            parts.append(box)
    return b"".join(parts)


def _edited_track(trak: bytes, edit: TrackEdit, movie_timescale: int) -> bytes:
    boxes = [(kind, trak[start:end]) for kind, start, _, end in _boxes(trak, 0, len(trak))]
    media = next(box for kind, box in boxes if kind == b"mdia")
    media_header = next(media[start:end] for kind, start, _, end in _boxes(media, 8, len(media)) if kind == b"mdhd")
    duration = _ticks(edit.delay_s, movie_timescale) + _ticks(edit.duration_s, movie_timescale)
    parts = []
    for kind, box in boxes:
        if kind == b"tkhd":
            parts.append(_with_duration(box, duration, at_version_0=20, at_version_1=28))
            parts.append(_box(b"edts", _edit_list(edit, movie_timescale, _timescale(media_header))))
        elif kind != b"edts":
            parts.append(box)
    return _box(b"trak", b"".join(parts))


def _edit_list(edit: TrackEdit, movie_timescale: int, media_timescale: int) -> bytes:
    normal_rate = 1 << 16
    entries = [(_ticks(edit.duration_s, movie_timescale), _ticks(edit.media_start_s, media_timescale), normal_rate)]
    if edit.delay_s > 0:
        entries.insert(0, (_ticks(edit.delay_s, movie_timescale), -1, normal_rate))  # -1: show nothing
    version_1 = 1 << 24
    body = struct.pack(">II", version_1, len(entries)) + b"".join(struct.pack(">QqI", *entry) for entry in entries)
    return _box(b"elst", body)


def _ticks(seconds: Fraction, timescale: int) -> int:
    return round(seconds * timescale)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def _boxes(data: bytes | memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, start, start of the body and end of each box between two offsets."""
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        if not 8 <= size <= end - start:
            raise BrokenMovie(f"box {kind!r} of {size} bytes at {start}")
        yield kind, start, body, start + size
        start += size


def _timescale(full_box: bytes) -> int:
    """Of an mvhd or mdhd box, whose first fields are alike."""
    offset = 8 + 4 + (16 if full_box[8] == 1 else 8)
    return struct.unpack_from(">I", full_box, offset)[0]


def _with_duration(full_box: bytes, duration: int, *, at_version_0: int, at_version_1: int) -> bytes:
    """The box with its duration replaced; the offsets count from after size and kind (8.2.2, 8.3.2)."""
    changed = bytearray(full_box)
    if full_box[8] == 1:
        struct.pack_into(">Q", changed, 8 + at_version_1, duration)
    else:
        struct.pack_into(">I", changed, 8 + at_version_0, min(duration, 0xFFFFFFFF))
    return bytes(changed)
