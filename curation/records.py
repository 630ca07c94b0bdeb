"""The records of the vocabulary: frozen, linked by id, made once and never filled in later."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

__all__ = ["BadSource", "Clip", "SourceState", "Span", "clip_id_of", "digest"]


class SourceState(StrEnum):
    """What became of a source: `curated` has clips, `rejected` fell under a rule, `failed` could not be worked on."""

    CURATED = "curated"
    REJECTED = "rejected"
    FAILED = "failed"


class BadSource(Exception):
    """A source that cannot be curated: its state, a short named reason for funnels, and a sentence for people."""

    def __init__(self, state: SourceState, reason: str, detail: str):
        super().__init__(state, reason, detail)  # all three, so that it survives pickling between Ray processes
        self.state, self.reason, self.detail = state, reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open interval `[start_pts, end_pts)` in a stream's ticks of `time_base` seconds."""

    start_pts: int
    end_pts: int
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.end_pts <= self.start_pts:
            raise ValueError(f"Span.end_pts={self.end_pts}: must be after start_pts={self.start_pts}")
        if self.time_base <= 0:
            raise ValueError(f"Span.time_base={self.time_base}: must be positive")

    @property
    def duration_s(self) -> Fraction:
        return (self.end_pts - self.start_pts) * self.time_base


@dataclass(frozen=True, slots=True)
class Clip:
    """The training unit as it was measured: one span of one scene, before any verdict.

    `entry_pts` is the presentation time of the keyframe at or before the start from which a decoder gets the span's
    frames right; a lossless cut begins there. `scores` has one value for each column of `scores.SCORES`, None where
    a clip is too short to be measured. `thumbnail` is a JPEG, upright and with square pixels. `fingerprint`: see
    `fingerprint.Fingerprint`.
    """

    source_id: str
    span: Span
    entry_pts: int
    scene_index: int
    frames: int
    rate_fps: float
    width: int
    height: int
    scores: dict[str, float | int | bool | str | list[str] | None]
    perceptual_hash: int | None
    thumbnail: bytes | None
    fingerprint: bytes | None


def digest(*parts: object) -> str:
    """Hex SHA-256, cut to 32 digits, of parts joined by a separator that none contains: numbers, ids, names."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:32]


def clip_id_of(source_id: str, span: Span, cut: str) -> str:
    """Identity of a clip: what it was cut from, where, and how. The same in every run and on every machine."""
    base = span.time_base
    return digest("clip", source_id, span.start_pts, span.end_pts, base.numerator, base.denominator, cut)
