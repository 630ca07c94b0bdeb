"""Fingerprints: what a clip looks like over time, in about half a kilobyte a second, robust to copying.

While decoding, the picture is averaged to a `THUMB_SIDE` square eight times a second. When a clip is closed, each
thumbnail becomes an 8 by 8 block of low cosine terms of the active picture (borders removed, by integrating the cosines
over the exact box instead of cropping pixels). Low terms survive scaling, re-encoding, grading and a small logo.

Terms and not signs of them (a perceptual hash) are kept, one byte each, because a decision about duplicates needs more
than "looks alike": two takes from one tripod have the same hash in every frame. The terms can be interpolated, so that
copies cut at other moments or shown at another rate align, and subtracted in time, which leaves the motion alone.

A clip with borders has a second track, of the whole picture: a border that one copy's encoder blurred or a dark scene
feigned must not hide a duplicate.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.geometry import Box, Geometry

__all__ = ["STEP_S", "TERMS", "Fingerprint", "InvalidFingerprint", "ThumbSampler", "fingerprint_of_thumbs"]

STEP_S = Fraction(1, 8)
THUMB_SIDE = 32
SIDE_TERMS = 8
TERMS = SIDE_TERMS * SIDE_TERMS
# A pixel of which so little is outside counts as inside.
PARTLY = 1e-3
# Clips are no longer than this, but for a few frames (`takes.LONGEST_S`).
MAX_STEPS = 8 * 600
# A picture whose terms, the mean left out, have a smaller norm shows nothing to be recognised: 8-bit levels.
MIN_CONTRAST_LEVELS = 4.0
# Terms are stored as signed roots, so that a byte holds both the faint and the strong with errors in proportion.
ROOT_START, ROOT_SCALE = 1.0, 12.3
FORMAT = 1
HEADER = struct.Struct("<BBHQ")


class InvalidFingerprint(ValueError):
    """Bytes that are not a fingerprint of this format."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A clip's looks: `tracks` of (N, 64) signed bytes, one row a `STEP_S`; the first of the active picture, the
    second, if any, of the whole. `content` is the same for clips with the same pictures, 0 where that is not known."""

    tracks: tuple[NDArray[np.int8], ...]
    content: int = 0

    @property
    def steps(self) -> int:
        return len(self.tracks[0])

    @property
    def duration_s(self) -> float:
        return self.steps * float(STEP_S)

    def to_bytes(self) -> bytes:
        head = HEADER.pack(FORMAT, len(self.tracks), self.steps, self.content)
        return head + b"".join(track.tobytes() for track in self.tracks)

    @staticmethod
    def from_bytes(data: bytes) -> Fingerprint:
        """Raises InvalidFingerprint."""
        if len(data) < HEADER.size:
            raise InvalidFingerprint(f"{len(data)} bytes are no fingerprint")
        kind, tracks, steps, content = HEADER.unpack_from(data)
        is_whole = len(data) == HEADER.size + tracks * steps * TERMS
        if kind != FORMAT or tracks not in (1, 2) or not 0 < steps <= MAX_STEPS or not is_whole:
            raise InvalidFingerprint(
                f"no fingerprint of format {FORMAT}: {kind=}, {tracks=}, {steps=}, {len(data)} bytes"
            )
        values = np.frombuffer(data, np.int8, offset=HEADER.size).reshape(tracks, steps, TERMS)
        return Fingerprint(tuple(values), content)

    def levels(self, track: int) -> NDArray[np.float32]:
        """The cosine terms in 8-bit levels, (N, 64): as they were measured, but for rounding."""
        roots = self.tracks[track].astype(np.float32) / ROOT_SCALE
        return np.sign(roots) * ((np.abs(roots) + np.float32(ROOT_START**0.5)) ** 2 - np.float32(ROOT_START))


class ThumbSampler:
    """Feed the luma of every frame in order of time; get a thumbnail eight times a second, else None."""

    def __init__(self, time_base: Fraction):
        self._step_ticks = STEP_S / time_base
        self._first_pts: int | None = None
        self._due_pts: Fraction | int = 0

    def feed(self, pts: int, luma: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """`luma`: a small picture, full range. The thumbnail is (32, 32) whatever its shape."""
        if self._first_pts is None:
            self._first_pts = self._due_pts = pts
        if pts < self._due_pts:
            return None
        steps = int((pts - self._first_pts) / self._step_ticks) + 1
        self._due_pts = self._first_pts + steps * self._step_ticks
        return thumb_of(luma)


def thumb_of(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture averaged to a square, whatever its shape."""
    return cv2.resize(luma, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


class _Frame(Protocol):
    @property
    def pts(self) -> int: ...
    @property
    def luma_mean(self) -> float: ...
    @property
    def luma_spread(self) -> float: ...
    @property
    def thumb(self) -> NDArray[np.uint8] | None: ...


def content_id(frames: Sequence[_Frame]) -> int:
    """64 bits that two clips share if all their frames have the very same brightness and spread: the same pictures.

    Both are means over thousands of pixels in double precision, so any other encoding of a frame changes them. Where
    the pixels do not change at all (fewer than two different frames) that is too weak: 0, not known.
    """
    numbers = np.array([(f.luma_mean, f.luma_spread) for f in frames])
    if len(np.unique(numbers, axis=0)) < 2:
        return 0
    return int.from_bytes(hashlib.sha256(numbers.tobytes()).digest()[:8], "little") or 1


def fingerprint_of(
    frames: Sequence[_Frame], end_pts: int, time_base: Fraction, geometry: Geometry, active: Box | None
) -> Fingerprint | None:
    """The fingerprint of a clip's frames, None where it is too short to have a thumbnail."""
    thumbs = [(f.pts, f.thumb) for f in frames if f.thumb is not None]
    if not thumbs:
        return None
    first_pts = thumbs[0][0]
    times_s = np.array([float((pts - first_pts) * time_base) for pts, _ in thumbs])
    seconds = float((end_pts - first_pts) * time_base)
    whole = Box(0, 0, geometry.width, geometry.height)
    boxes = [active or whole] + ([whole] if active not in (None, whole) else [])
    shares = [box_shares(box, geometry) for box in boxes]
    turned = np.rot90(np.stack([thumb for _, thumb in thumbs]), geometry.rotation // 90, axes=(1, 2))
    return fingerprint_of_thumbs(turned, times_s, seconds, shares, content_id(frames))


def box_shares(box: Box, geometry: Geometry) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box as shares of the upright picture."""
    width, height = geometry.width, geometry.height
    return box.x / width, box.y / height, (box.x + box.width) / width, (box.y + box.height) / height


def fingerprint_of_thumbs(
    thumbs: NDArray[np.uint8],
    times_s: NDArray[np.float64],
    seconds: float,
    boxes: Sequence[tuple[float, float, float, float]] = ((0.0, 0.0, 1.0, 1.0),),
    content: int = 0,
) -> Fingerprint:
    """The fingerprint of upright thumbnails (N, 32, 32) taken at rising times from 0 on; the clip lasts `seconds`.

    At every step stands the picture that is on display then; a gap repeats the picture before it.
    """
    steps = min(max(1, int(seconds / float(STEP_S) + 0.5)), MAX_STEPS)
    shown = np.searchsorted(times_s, (np.arange(steps) + 0.5) * float(STEP_S), side="right") - 1
    tracks = tuple(rooted(cosine_terms(thumbs, box))[shown] for box in boxes)
    return Fingerprint(tracks, content)


def cosine_terms(thumbs: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """The 64 lowest terms of the two-dimensional cosine transform of the part of the pictures inside `box`, (N, 64).

    `box`: left, top, right, bottom as shares of the side. Orthonormal on the box, so levels: the sum of all squares
    would be the mean square of the picture.
    """
    left, top, right, bottom = box
    rows, columns = _cosines(top, bottom), _cosines(left, right)
    terms = rows @ thumbs.astype(np.float32) @ columns.T
    return terms.reshape(len(thumbs), TERMS).astype(np.float32, copy=False)


@cache
def _cosines(begin: float, end: float) -> NDArray[np.float32]:
    """Weights (8, 32): the integral of each cosine on [begin, end) over each pixel, the whole being 1. A pixel partly
    outside is a mixture with the border: the one beside it stands for it."""
    edges = np.clip((np.arange(THUMB_SIDE + 1) / THUMB_SIDE - begin) / (end - begin), 0, 1)
    order = np.arange(1, SIDE_TERMS)[:, None]
    integrals = np.vstack([edges, np.sqrt(2) * np.sin(np.pi * order * edges) / (np.pi * order)])
    weights = np.diff(integrals, axis=1)
    covered = np.diff(edges) * (end - begin) * THUMB_SIDE
    inside = np.flatnonzero(covered > 1 - PARTLY)
    if len(inside):
        for partly in np.flatnonzero((covered > 0) & (covered <= 1 - PARTLY)):
            weights[:, min(max(partly, inside[0]), inside[-1])] += weights[:, partly]
            weights[:, partly] = 0
    return weights.astype(np.float32)


def rooted(terms: NDArray[np.float32]) -> NDArray[np.int8]:
    """Terms as signed bytes, see `Fingerprint.levels`."""
    roots = np.sign(terms) * (np.sqrt(np.abs(terms) + ROOT_START) - ROOT_START**0.5) * ROOT_SCALE
    return np.clip(np.rint(roots), -127, 127).astype(np.int8)
