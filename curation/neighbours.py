"""The clips of a store that look most like given pictures: by keys in an index, then by their overlap in time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.analysis import Analysis
from curation.fingerprint import Fingerprint, InvalidFingerprint, fingerprint_of_thumbs, thumb_of
from curation.fingerprint_keys import CHECK_BITS, CONTENT_BAND, FEW_KEYS, KEY_BITS, MAX_CHECK_BITS_APART, keys_of
from curation.media import Limits, main_video_stream, open_media
from curation.overlap import Overlap, overlap_of
from curation.records import BadSource, SourceState
from curation.shots import ShotConfig
from curation.store import Store
from curation.takes import TakeConfig

__all__ = [
    "Candidates",
    "Neighbour",
    "QueryClip",
    "candidates_of",
    "fingerprints_by_id",
    "fingerprints_of_file",
    "most_shared",
    "nearest_by_fingerprint",
    "numbered_keys",
    "shared_keys",
    "weight_of",
]

LOOK_UP_KEYS = 4096
LOOK_UP_CLIPS = 512
# Clips that share a key and are looked at closer, those that share most first: beyond are title cards and the like.
MAX_CANDIDATES = 4096
# Looked at closer for each that is asked for, when nothing shares a key.
ALIGNED_FOR_EACH = 8
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CHECK = np.uint64(CHECK_BITS)
ALL_CHECK_BITS = np.uint64((1 << CHECK_BITS) - 1)
Candidates = Counter[str]
"""Clips by how many keys they share, see `candidates_of`."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A clip of the store. `distance`: see `overlap.Overlap`, under 0.15 for copies, around 1 for strangers.
    `offset_s`: where the clip starts on the query's clock."""

    clip_id: str
    distance: float
    overlap_s: float
    offset_s: float


@dataclass(frozen=True, slots=True)
class QueryClip:
    """One scene of a file to search with; a picture is one that lasts an instant."""

    start_s: float
    duration_s: float
    fingerprint: Fingerprint


def nearest_by_fingerprint(
    store: Store, fingerprint: Fingerprint, limit: int, *, without: Collection[str] = ()
) -> list[Neighbour]:
    """The nearest clips, nearest first, `without` some. Where fewer than `limit` share a key with the query, the whole
    index is read for those whose keys are least unlike."""
    clips, index = store.open("clips"), store.open("fingerprints")
    keys = keys_of(fingerprint)
    found = candidates_of(index, [keys])[0]
    wanted = [clip_id for clip_id, _ in most_shared(found) if clip_id not in without][:MAX_CANDIDATES]
    if len(wanted) < limit:
        alike = _least_unlike(index, keys, ALIGNED_FOR_EACH * limit + len(without))
        wanted += [clip_id for clip_id in alike if clip_id not in found and clip_id not in without]
    neighbours = []
    for clip_id, (_, other) in fingerprints_by_id(clips, wanted).items():
        if (overlap := overlap_of(fingerprint, other)) is not None:
            neighbours.append(_neighbour(clip_id, overlap))
    return sorted(neighbours, key=lambda n: (n.distance, n.clip_id))[:limit]


def _neighbour(clip_id: str, found: Overlap) -> Neighbour:
    return Neighbour(clip_id, found.distance, found.overlap_s, found.offset_s)


def candidates_of(index: lance.LanceDataset, keys: Sequence[NDArray[np.uint64]]) -> list[Candidates]:
    """For the keys of each of some clips, the clips of the index that share any, by `weight_of`."""
    found: list[Candidates] = [Counter() for _ in keys]
    mine, clip = numbered_keys(keys)
    has_few = np.array([len(of_clip) < FEW_KEYS for of_clip in keys])
    wanted = np.unique(mine >> CHECK)
    for begin in range(0, len(wanted), LOOK_UP_KEYS):
        some = ",".join(map(str, wanted[begin : begin + LOOK_UP_KEYS].tolist()))
        for batch in index.to_batches(columns=["key", "check", "has_few", "clip"], filter=f"key IN ({some})"):
            at, rows = shared_keys(mine, join_keys(batch["key"], batch["check"]))
            weight = weight_of(mine[at], has_few[clip[at]] | np.asarray(batch["has_few"])[rows])
            others = batch["clip"].take(pa.array(rows)).to_pylist()
            for number, other, counts in zip(clip[at].tolist(), others, weight.tolist(), strict=True):
                found[number][other.hex()] += counts
    return found


def weight_of(keys: NDArray[np.uint64], either_has_few: NDArray[np.bool_]) -> NDArray[np.intp]:
    """What shared keys count: two where either clip has few, for the content and for a coarse one; else one."""
    return 1 + (either_has_few | (keys >> CHECK >> np.uint64(KEY_BITS) >= CONTENT_BAND)).astype(np.intp)


def numbered_keys(keys: Sequence[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """The keys of some clips in rising order, and the number of the clip that each is of."""
    together = np.concatenate([np.zeros(0, np.uint64), *keys])
    number = np.repeat(np.arange(len(keys)), [len(of_clip) for of_clip in keys])
    order = np.argsort(together, kind="stable")
    return together[order], number[order]


def most_shared(found: Candidates) -> list[tuple[str, int]]:
    """Those that share most first, then by id, so that the order says nothing of how the index was filled."""
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def shared_keys(mine: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where two lists of keys, of which the first rises, have the same key with hardly any check bits apart: the
    positions in each."""
    begin = np.searchsorted(mine, theirs >> CHECK << CHECK, side="left")
    end = np.searchsorted(mine, theirs | ALL_CHECK_BITS, side="right")
    count = end - begin
    at_theirs = np.repeat(np.arange(len(theirs)), count)
    at_mine = np.arange(len(at_theirs)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
    near = np.bitwise_count((mine[at_mine] ^ theirs[at_theirs]) & ALL_CHECK_BITS) <= MAX_CHECK_BITS_APART
    return at_mine[near], at_theirs[near]


def join_keys(key: pa.Array, check: pa.Array) -> NDArray[np.uint64]:
    """Columns of the index as `fingerprint_keys.keys_of` gives them."""
    return np.asarray(key).astype(np.uint64) << CHECK | np.asarray(check)


def fingerprints_by_id(clips: lance.LanceDataset, clip_ids: Iterable[str]) -> Mapping[str, tuple[str, Fingerprint]]:
    """Sources and fingerprints of clips, as far as the table has them, readable ones only."""
    ids = sorted(set(clip_ids))
    found: dict[str, tuple[str, Fingerprint]] = {}
    for begin in range(0, len(ids), LOOK_UP_CLIPS):
        some = pc.field("clip_id").isin(ids[begin : begin + LOOK_UP_CLIPS])
        rows = clips.to_table(columns=["clip_id", "source_id", "fingerprint"], filter=some)
        for clip_id, source_id, data in zip(*(column.to_pylist() for column in rows.columns), strict=True):
            try:
                found[clip_id] = source_id, Fingerprint.from_bytes(data or b"")
            except InvalidFingerprint:
                continue  # curated by an older version, or damaged: it is compared with nothing
    return found


def _least_unlike(index: lance.LanceDataset, keys: NDArray[np.uint64], limit: int) -> list[str]:
    """Clips by the least number of bits between a key of theirs and of the query, both of the whole picture's looks."""
    mine = (keys >> CHECK).astype(np.uint32)
    mine = mine[mine < 1 << KEY_BITS]
    if not len(mine):
        return []
    nearest: dict[bytes, int] = {}
    for batch in index.to_batches(columns=["key", "clip"], filter=f"key < {1 << KEY_BITS}"):
        theirs = np.asarray(batch["key"])
        bits = np.bitwise_count(theirs[:, None] ^ mine[None, :]).min(axis=1)
        order = np.argsort(bits, kind="stable")[: 4 * limit]
        for clip, distance in zip(batch["clip"].take(pa.array(order)).to_pylist(), bits[order].tolist(), strict=True):
            nearest[clip] = min(distance, nearest.get(clip, distance))
        nearest = dict(heapq.nsmallest(limit, nearest.items(), key=lambda item: (item[1], item[0])))
    return [clip.hex() for clip in nearest]


def fingerprints_of_file(path: str | Path, limits: Limits | None = None) -> list[QueryClip]:
    """The scenes of a video, or the one picture of an image file, to search with.

    Raises BadSource where the file cannot be used.
    """
    path, limits = Path(path), limits or Limits()
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [QueryClip(0.0, 0.0, fingerprint_of_image(path))]
    with open_media(path, limits) as container:
        stream = main_video_stream(container, limits)
        analysis = Analysis(
            "query", container, stream, shots=ShotConfig(), takes=TakeConfig(), limits=limits, skip_loop_filter="noref"
        )
        return [
            QueryClip(
                float((clip.span.start_pts - analysis.first_pts) * clip.span.time_base),
                float(clip.span.duration_s),
                Fingerprint.from_bytes(clip.fingerprint),
            )
            for clip in analysis
            if clip.fingerprint is not None
        ]


def fingerprint_of_image(path: Path) -> Fingerprint:
    """Raises BadSource."""
    try:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    except (OSError, cv2.error) as error:
        raise BadSource(SourceState.FAILED, "unreadable", f"the picture cannot be read ({error})") from error
    if picture is None:
        raise BadSource(SourceState.FAILED, "not_a_picture", "no picture of a format that is known; give a JPEG or PNG")
    return fingerprint_of_thumbs(thumb_of(picture.astype(np.uint8))[None], np.zeros(1), 0.0)
