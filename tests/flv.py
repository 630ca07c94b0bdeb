"""FLV files, tag by tag (Adobe Flash Video File Format Specification 10.1, annex E)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

AUDIO, VIDEO = 8, 9


@dataclass(frozen=True, slots=True)
class Tag:
    kind: int
    time_ms: int
    body: bytes


def tags(data: bytes) -> list[Tag]:
    found, at = [], 13
    while at + 11 <= len(data):
        size, time_ms = (int.from_bytes(data[at + place : at + place + 3], "big") for place in (1, 4))
        found.append(Tag(data[at], time_ms, data[at + 11 : at + 11 + size]))
        at += 11 + size + 4
    return found


def file(parts: Iterable[Tag]) -> bytes:
    parts = list(parts)
    holds = 4 * any(tag.kind == AUDIO for tag in parts) + any(tag.kind == VIDEO for tag in parts)
    out = b"FLV\1" + bytes([holds]) + b"\0\0\0\x09\0\0\0\0"
    for tag in parts:
        head = bytes([tag.kind]) + len(tag.body).to_bytes(3, "big") + tag.time_ms.to_bytes(3, "big") + bytes(4)
        out += head + tag.body + (11 + len(tag.body)).to_bytes(4, "big")
    return out
