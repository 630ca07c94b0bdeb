"""Which of several clips that show the same is kept: derived from the facts in `duplicates`, whatever their order.

Clips that pass all other rules are taken from the best down: more pixels of picture first, then more bits a second,
then the lesser id. Each is kept unless one that is kept already shows at least half of it. So a clip rejected for
another reason beats nobody, nor does one that is itself a duplicate, and every duplicate names a clip that is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import lance
import pyarrow as pa
import pyarrow.compute as pc

from curation.store import Store
from curation.tables import CLIPS

__all__ = [
    "DUPLICATE",
    "KINDS",
    "LEAST_SEMANTIC_COSINE",
    "DuplicateConfig",
    "Loss",
    "Settled",
    "losses_of",
    "pairs_around",
    "rank_of",
    "settle",
]

DUPLICATE = "duplicate"
KINDS = ("exact", "near", "semantic")  # the surest first
LOOK_UP_IDS = 1000
# Pairs under this are not recorded.
LEAST_SEMANTIC_COSINE = 0.85
RANK_COLUMNS = (
    *("clip_id", "width", "height", "active_width_px", "active_height_px", "rate_fps", "duration_s", "video_bytes"),
    "bits_per_px",
)
PAIR_COLUMNS = ("clip_id", "other_id", "kind", "distance", "share", "other_share")
VERDICT_COLUMNS = ("keep", "reason", "duplicate_of", "duplicate_kind")


@dataclass(frozen=True, slots=True)
class DuplicateConfig:
    """What becomes of clips that show the same as a better one.

    Attributes:
        duplicates: drop rejects them with the reason duplicate; keep only records them, in the table duplicates.
        min_duplicate_share: Share of a clip that the better one must show.
        semantic_cosine: Clips whose embeddings agree by this cosine are duplicates too; none leaves them (Movie Gen:
            0.99). jobs.score makes embeddings, and then jobs.verdict compares by them.
    """

    duplicates: Literal["drop", "keep"] = "drop"
    min_duplicate_share: float = 0.5
    semantic_cosine: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_duplicate_share <= 1:
            raise ValueError(f"min_duplicate_share={self.min_duplicate_share}: must be above 0 and at most 1")
        if self.semantic_cosine is not None and not LEAST_SEMANTIC_COSINE <= self.semantic_cosine <= 1:
            raise ValueError(f"semantic_cosine={self.semantic_cosine}: must be within {LEAST_SEMANTIC_COSINE} and 1")

    def counts(self, pair: Mapping[str, Any]) -> bool:
        """Whether a row of `duplicates` is to be heeded: all are, but semantic ones only if they are near enough."""
        if pair["kind"] != "semantic":
            return True
        return self.semantic_cosine is not None and 1 - pair["distance"] >= self.semantic_cosine


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a clip is a duplicate: the clip that is kept in its place, and how the two are the same."""

    winner: str
    kind: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A verdict that changed, `before` and `now` as a reason or `kept`; `run_id` is of the run that made the clip."""

    clip_id: str
    run_id: str
    before: str
    now: str
    duration_s: float


def rank_of(clip: Mapping[str, Any]) -> tuple[float, float, str]:
    """What clips are sorted by, the best first. `clip` has `RANK_COLUMNS`; the picture is what is inside borders."""
    width, height = (clip.get(f"active_{side}_px") or clip[side] for side in ("width", "height"))
    bits_per_px = clip.get("bits_per_px")
    if bits_per_px is not None:
        bitrate_bps = bits_per_px * clip["width"] * clip["height"] * clip["rate_fps"]
    else:
        bitrate_bps = 8 * (clip["video_bytes"] or 0) / clip["duration_s"]
    return -float(width * height), -float(bitrate_bps), clip["clip_id"]


def losses_of(
    pairs: Iterable[Mapping[str, Any]], contenders: Sequence[Mapping[str, Any]], config: DuplicateConfig
) -> dict[str, Loss]:
    """The contenders that are duplicates, by clip_id. `contenders`: clips that pass all other rules, with
    `RANK_COLUMNS`; `pairs`: rows of `duplicates`, of which those count whose two clips are contenders."""
    if config.duplicates == "keep":
        return {}
    shown_by: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for pair in filter(config.counts, pairs):
        for one, two, share in (("clip_id", "other_id", "share"), ("other_id", "clip_id", "other_share")):
            if pair[share] >= config.min_duplicate_share:
                shown_by[pair[one]].append((pair[two], pair["kind"]))
    kept: dict[str, int] = {}
    losses: dict[str, Loss] = {}
    for clip in sorted(contenders, key=rank_of):
        clip_id = clip["clip_id"]
        better = [(kept[other], KINDS.index(kind), other) for other, kind in shown_by[clip_id] if other in kept]
        if better:
            _, kind, winner = min(better)
            losses[clip_id] = Loss(winner, KINDS[kind])
        else:
            kept[clip_id] = len(kept)
    return losses


def pairs_around(duplicates: lance.LanceDataset, clip_ids: Collection[str]) -> list[dict[str, Any]]:
    """All pairs that are connected with these clips, directly or through others. Memory is that of these pairs."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    seen: set[str] = set()
    frontier = set(clip_ids)
    while frontier:
        seen |= frontier
        for some in chunked(sorted(frontier)):
            near = pc.field("clip_id").isin(some) | pc.field("other_id").isin(some)
            for row in duplicates.to_table(columns=list(PAIR_COLUMNS), filter=near).to_pylist():
                found[row["clip_id"], row["other_id"], row["kind"]] = row
        frontier = {clip_id for pair in found for clip_id in pair[:2]} - seen
    return list(found.values())


def chunked(ids: Sequence[str]) -> Iterator[list[str]]:
    for begin in range(0, len(ids), LOOK_UP_IDS):
        yield list(ids[begin : begin + LOOK_UP_IDS])


def rows_by_id(clips: lance.LanceDataset, clip_ids: Collection[str], columns: Collection[str]) -> list[dict[str, Any]]:
    """Some columns of clips, as far as the table has them."""
    present = sorted({"clip_id", *columns} & set(clips.schema.names))
    return [
        row
        for some in chunked(sorted(clip_ids))
        for row in clips.to_table(columns=present, filter=pc.field("clip_id").isin(some)).to_pylist()
    ]


def settle(
    store: Store,
    clip_ids: Collection[str],
    config: DuplicateConfig,
    before_commit: Callable[[], None],
    *,
    without: Collection[tuple[str, str, str]] = (),
) -> list[Settled]:
    """Bring the verdicts of clips, and of all that pairs connect them with, in line with `duplicates`; what changed.

    Other rules are not asked again: a clip contends if it is kept or was rejected as a duplicate only, and has its
    video. `without`: pairs (clip_id, other_id, kind) that are about to go. Raises StoreUnavailable.
    """
    pairs = pairs_around(store.open("duplicates"), clip_ids)
    ids = set(clip_ids).union(*((pair["clip_id"], pair["other_id"]) for pair in pairs))
    pairs = [pair for pair in pairs if (pair["clip_id"], pair["other_id"], pair["kind"]) not in without]
    rows = rows_by_id(store.open("clips"), ids, {*RANK_COLUMNS, *VERDICT_COLUMNS, "run_id"})
    contenders = [row for row in rows if row["reason"] in (None, DUPLICATE) and row["video_bytes"] is not None]
    losses = losses_of(pairs, contenders, config)
    changed = []
    settled = []
    for row in contenders:
        loss = losses.get(row["clip_id"])
        now = verdict_columns(loss)
        if any(row[name] != value for name, value in now.items()):
            changed.append({"clip_id": row["clip_id"], **now})
        if row["reason"] != now["reason"]:
            before_words, now_words = row["reason"] or "kept", now["reason"] or "kept"
            settled.append(Settled(row["clip_id"], row["run_id"], before_words, now_words, row["duration_s"]))
    if changed:
        before_commit()
        schema = pa.schema([CLIPS.field(name) for name in ("clip_id", *VERDICT_COLUMNS)])
        store.update_clips(pa.Table.from_pylist(changed, schema=schema))
    return settled


def verdict_columns(loss: Loss | None, reason: str | None = None) -> dict[str, Any]:
    """The columns of a clip that another rule rejects for `reason`, or that passes all of them."""
    if loss is None or reason is not None:
        return {"keep": reason is None, "reason": reason, "duplicate_of": None, "duplicate_kind": None}
    return {"keep": False, "reason": DUPLICATE, "duplicate_of": loss.winner, "duplicate_kind": loss.kind}
