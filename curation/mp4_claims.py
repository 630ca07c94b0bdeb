"""What an mp4 or mov file claims of itself, read before FFmpeg believes it.

FFmpeg makes an index entry for every sample that a track claims, about 40 bytes each, and where all samples have one
size the claim is a single number: a file of a few kilobytes could take gigabytes. References to data in other files are
found here as well, because FFmpeg passes over them without a word. Boxes: ISO/IEC 14496-12, QuickTime File Format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["Mp4Claims", "read_claims"]

# Boxes that hold boxes, as FFmpeg's mov demuxer reads them.
PARENTS = frozenset([b"moov", b"trak", b"edts", b"mdia", b"minf", b"dinf", b"stbl", b"mvex", b"moof", b"traf", b"udta"])
# What an mp4 or mov begins with.
FIRST_BOXES = frozenset([b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot"])
# A day in fragments of a second has under a million.
MAX_BOXES = 4_000_000


@dataclass(slots=True)
class _Track:
    samples: int = 0
    edits: int = 0
    handler: bytes = b""
    data_reference: int = 0
    references: list[str | None] = field(default_factory=list)
    # One tick a sample: FFmpeg indexes such sound by chunks, not by samples.
    is_pcm: bool = False


@dataclass(frozen=True, slots=True)
class Mp4Claims:
    """`is_mp4`: it begins as an mp4 or mov. `has_index`: there is a movie header; `is_compressed`: it is packed.
    `index_entries`: how many FFmpeg would make. `other_file`: the first other file that picture or sound is said to lie
    in. `is_overgrown`: over MAX_BOXES boxes."""

    is_mp4: bool
    has_index: bool
    is_compressed: bool
    index_entries: int
    other_file: str | None
    is_overgrown: bool


def read_claims(file: BinaryIO, size_bytes: int) -> Mp4Claims:
    """The claims of an open file of whatever kind: others than mp4 and mov have none. Leaves `file` at any position.

    Only headers are read. Whatever the bytes are, nothing is raised but what `file` raises.
    """
    tracks, fragment_samples, kinds, count = [_Track()], 0, set(), 0
    for count, (kind, body, end) in enumerate(_boxes(file, 0, size_bytes), start=1):  # noqa: B007
        kinds.add(kind)
        if kind == b"trak":
            tracks.append(_Track())
        elif kind == b"trun":
            fragment_samples += _number(file, body + 4)
        else:
            _note(file, kind, body, end, tracks[-1])
    claims = [1 if t.is_pcm and t.handler == b"soun" else t.samples * max(1, t.edits) for t in tracks]
    return Mp4Claims(
        is_mp4=_read_at(file, 4, 4) in FIRST_BOXES,
        has_index=b"moov" in kinds,
        is_compressed=b"cmov" in kinds,
        index_entries=sum(claims) + fragment_samples,
        other_file=next(filter(None, map(_elsewhere, tracks)), None),
        is_overgrown=count >= MAX_BOXES,
    )


def _note(file: BinaryIO, kind: bytes, body: int, end: int, track: _Track) -> None:
    """Take up what a box says of its track."""
    match kind:
        case b"stsz" | b"stz2":
            track.samples = _number(file, body + 8)
        case b"stts":
            track.is_pcm = _number(file, body + 4) == 1 and _number(file, body + 12) == 1
        case b"elst":
            track.edits = _number(file, body + 4)
        case b"hdlr":
            # QuickTime has a second one, of the data handler, in `minf`.
            track.handler = track.handler or _read_at(file, body + 8, 4)
        case b"stsd":
            track.data_reference = int.from_bytes(_read_at(file, body + 22, 2), "big")
        case b"dref":
            track.references = [_reference(file, *entry) for entry in _flat_boxes(file, body + 8, end)]


def _reference(file: BinaryIO, kind: bytes, body: int, end: int) -> str | None:
    """Where a data reference points, None where that is the file itself."""
    is_own = _number(file, body) & 1
    if is_own or end - body <= 4:
        return None
    name = _read_at(file, body + 4, min(end - body - 4, 200))
    return repr(f"{kind.decode('latin-1').strip()} {name.rstrip(bytes(1)).decode('utf-8', 'backslashreplace')}".strip())


def _elsewhere(track: _Track) -> str | None:
    at = track.data_reference - 1
    is_shown_or_heard = track.handler in (b"vide", b"soun")
    return track.references[at] if is_shown_or_heard and 0 <= at < len(track.references) else None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the body and end of each box, parents before their children, at most MAX_BOXES."""
    open_parents = [_flat_boxes(file, start, end)]
    for _ in range(MAX_BOXES):
        while (box := next(open_parents[-1], None)) is None:
            open_parents.pop()
            if not open_parents:
                return
        kind, body, box_end = box
        if kind in (b"free", b"hoov") and _read_at(file, body + 4, 4) in (b"mvhd", b"cmov"):
            kind = b"moov"  # a movie header that an editor crossed out, which FFmpeg reads all the same
        yield kind, body, box_end
        if kind in PARENTS:
            open_parents.append(_flat_boxes(file, body, box_end))


def _flat_boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start + 8 <= end:
        header = _read_at(file, start, 16)
        if len(header) < 8:
            return
        size, kind = struct.unpack_from(">I4s", header)
        body = start + 8
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
            body += 8
        elif size == 0:
            size = end - start
        if size < body - start:
            return
        yield kind, body, min(start + size, end)
        start += size


def _read_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _number(file: BinaryIO, at: int) -> int:
    """Four bytes, big endian; 0 where the file ends before."""
    data = _read_at(file, at, 4)
    return int.from_bytes(data, "big") if len(data) == 4 else 0
