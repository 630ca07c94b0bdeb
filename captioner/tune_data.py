"""What a captioner learns from: caption rows of a store, which of them it is tested with, and in what order they come.

The order is a pure function of the seed, the stage and the step, so a run that goes on after a kill sees what it would
have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.tune_config import STAGES, Stage, TuneConfig
from captioner.windows import Window
from curation.clip_frames import TIMED_CLIP_COLUMNS
from curation.conditions import narrowed
from curation.records import digest
from curation.store import Store

__all__ = ["BadTuning", "Example", "Examples", "TuneSource", "examples_of", "positions_at"]

CLIP_COLUMNS = (*TIMED_CLIP_COLUMNS, "source_id", "start_pts", "end_pts", "time_base_num", "time_base_den")
CAPTION_COLUMNS = ("caption_id", "clip_id", "kind", "text", "window_index", "window_start_pts", "window_end_pts")
DIGITS = 8  # of the hash that draws what is held out


class BadTuning(Exception):
    """What was asked cannot be tuned: no captions, a directory of something else. The message says what to do."""


@dataclass(frozen=True, slots=True)
class TuneSource:
    """Which captions: versions of the tables are pinned, so that workers and later runs find the same.

    `where` is a condition on the columns of `clips`, `captions_where` on those of `captions`.
    """

    store: Store
    clips_version: int
    captions_version: int
    where: str
    captions_where: str


@dataclass(frozen=True, slots=True)
class Example:
    """A caption and the window of the clip that it is of. `row` is the clip's, `row_id` its place in the table."""

    caption_id: str
    kind: Stage
    text: str
    row: dict[str, Any]
    row_id: int
    window: Window


@dataclass(frozen=True, slots=True)
class Examples:
    """By kind, in order of their ids: those that are learnt from, and those that are tested with. A kind that no stage
    learns from may have none."""

    learnt: dict[Stage, list[Example]]
    held_out: dict[Stage, list[Example]]

    @property
    def data_id(self) -> str:
        """Identity of the captions and of which are held out."""
        ids = [e.caption_id for part in (self.learnt, self.held_out) for kind in STAGES for e in part[kind]]
        return digest("tune-data", [len(self.learnt[kind]) for kind in STAGES], *ids)


def examples_of(source: TuneSource, config: TuneConfig) -> Examples:
    """The captions with text, of clips with video, that both conditions choose. Raises BadTuning, StoreUnavailable."""
    clips = _clips(source)
    kinds = ", ".join(f"'{kind}'" for kind in STAGES)
    asked = narrowed(source.captions_where, f"kind IN ({kinds}) AND text IS NOT NULL AND text != ''")
    captions = source.store.open("captions", source.captions_version)
    with source.store.reading():
        rows = captions.to_table(columns=list(CAPTION_COLUMNS), filter=asked).to_pylist()
    rows.sort(key=lambda row: row["caption_id"])
    learnt: dict[Stage, list[Example]] = {kind: [] for kind in STAGES}
    held_out: dict[Stage, list[Example]] = {kind: [] for kind in STAGES}
    for row in rows:
        if (clip := clips.get(row["clip_id"])) is not None:
            example = _example(row, *clip)
            key = clip[0][f"{config.held_out_by}_id"]
            (held_out if is_held_out(key, config) else learnt)[example.kind].append(example)
    found = Examples(learnt, {kind: held_out[kind][: config.held_out_limit] for kind in STAGES})
    _refuse_unless_enough(found, source, config)
    return found


def is_held_out(key: str, config: TuneConfig) -> bool:
    drawn = int(digest("held-out", config.seed, key)[:DIGITS], 16) / 16**DIGITS
    return drawn < config.held_out_share


def _clips(source: TuneSource) -> dict[str, tuple[dict[str, Any], int]]:
    """Rows of the chosen clips that have video, with their row ids, by clip id."""
    clips = source.store.open("clips", source.clips_version)
    asked = narrowed(source.where, "video_bytes IS NOT NULL")
    with source.store.reading():
        rows = clips.to_table(columns=list(CLIP_COLUMNS), filter=asked, with_row_id=True).to_pylist()
    return {row["clip_id"]: (row, row.pop("_rowid")) for row in rows}


def _example(row: dict[str, Any], clip: dict[str, Any], row_id: int) -> Example:
    tick_s = clip["time_base_num"] / clip["time_base_den"]
    start, end = row["window_start_pts"], row["window_end_pts"]
    start_s, end_s = ((pts - clip["start_pts"]) * tick_s for pts in (start, end))
    window = Window(row["window_index"], start, end, start_s, end_s)
    return Example(row["caption_id"], row["kind"], row["text"], clip, row_id, window)


def _refuse_unless_enough(found: Examples, source: TuneSource, config: TuneConfig) -> None:
    chosen = f"where={source.where} and captions_where={source.captions_where}"
    for kind in STAGES:
        if config.steps(kind) and not found.learnt[kind] and not found.held_out[kind]:
            raise BadTuning(
                f"{source.store.uri} has no captions of kind {kind} with {chosen}; make some with jobs.caption, or "
                f"leave that stage out with --{kind}-steps 0"
            )
        if config.steps(kind) and not (found.learnt[kind] and found.held_out[kind]):
            sides = Counter(learnt=len(found.learnt[kind]), held_out=len(found.held_out[kind]))
            raise BadTuning(
                f"captions of kind {kind} with {chosen}: {sides['learnt']} to learn from and {sides['held_out']} held "
                f"out, with held_out_share={config.held_out_share} by {config.held_out_by}; a store of few sources "
                "wants --held-out-by clip, a small one a larger --held-out-share"
            )


def positions_at(seed: int, stage: int, step: int, batch_size: int, count: int) -> list[int]:
    """Which of `count` examples step `step` of stage number `stage` learns from: every example once in each pass, in
    an order of its own, passes following each other without a gap."""
    positions: list[int] = []
    first = step * batch_size
    while len(positions) < batch_size:
        done, place = divmod(first + len(positions), count)
        order = np.random.default_rng([seed, stage, done]).permutation(count)
        positions += order[place : place + batch_size - len(positions)].tolist()
    return positions


def share_of(positions: Sequence[int], rank: int, workers: int) -> list[int]:
    """What one of several workers takes of a step; all together take everything once."""
    return list(positions[rank::workers])
