"""Shot boundaries against a truth made by eye: reading it, and the rules of scoring."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ShotScore", "TrueChange", "read_truth", "score", "total"]

TOLERANCE_FRAMES = 2
ROUNDING_S = 1e-3
USUAL_FRAME_S = 1 / 25  # where the truth has no row that tells


@dataclass(frozen=True, slots=True)
class TrueChange:
    """A row of a truth table: a change of scene from `start_s`, the first frame that changes, to `end_s`, the first
    that shows the new scene whole; the same for a cut. An optional one costs nothing either way."""

    start_s: float
    end_s: float
    frame: int
    is_cut: bool
    is_optional: bool


@dataclass(frozen=True, slots=True)
class ShotScore:
    """Changes found and to be found, without the optional ones, and boundaries that are none."""

    cuts_found: int
    cuts: int
    gradual_found: int
    gradual: int
    false: int

    @property
    def found(self) -> int:
        return self.cuts_found + self.gradual_found

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.false)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.cuts + self.gradual)

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(1e-9, self.precision + self.recall)


def read_truth(path: Path) -> list[TrueChange]:
    """The rows of a file with the columns frame, time_s, kind, end_frame, end_time_s and note."""
    with path.open(newline="") as file:
        return [
            TrueChange(
                start_s=float(row["time_s"]),
                end_s=float(row["end_time_s"] or row["time_s"]),
                frame=int(row["frame"]),
                is_cut=row["kind"] == "cut",
                is_optional="OPTIONAL" in (row["note"] or ""),
            )
            for row in csv.DictReader(file)
        ]


def score(changes: Sequence[TrueChange], boundaries_s: Sequence[float]) -> ShotScore:
    """A boundary finds a change if it lies between its start and end, widened by two frames; each change and each
    boundary counts once, and several boundaries within one gradual change are one."""
    tolerance_s = TOLERANCE_FRAMES * frame_seconds(changes) + ROUNDING_S
    free, found = sorted(boundaries_s), list[bool]()
    for change in changes:
        within = [b for b in free if change.start_s - tolerance_s <= b <= change.end_s + tolerance_s]
        found.append(bool(within))
        if within and change.is_cut:
            free.remove(min(within, key=lambda b: abs(b - change.start_s)))
        else:
            free = [b for b in free if b not in within]
    counted = [(change, is_found) for change, is_found in zip(changes, found, strict=True) if not change.is_optional]
    return ShotScore(
        cuts_found=sum(is_found for change, is_found in counted if change.is_cut),
        cuts=sum(change.is_cut for change, _ in counted),
        gradual_found=sum(is_found for change, is_found in counted if not change.is_cut),
        gradual=sum(not change.is_cut for change, _ in counted),
        false=len(free),
    )


def total(scores: Sequence[ShotScore]) -> ShotScore:
    return ShotScore(
        cuts_found=sum(s.cuts_found for s in scores),
        cuts=sum(s.cuts for s in scores),
        gradual_found=sum(s.gradual_found for s in scores),
        gradual=sum(s.gradual for s in scores),
        false=sum(s.false for s in scores),
    )


def frame_seconds(changes: Sequence[TrueChange]) -> float:
    """How long a frame lasts, as the rows' frames and times say."""
    lengths = sorted(change.start_s / change.frame for change in changes if change.frame > 0 and change.start_s > 0)
    return lengths[len(lengths) // 2] if lengths else USUAL_FRAME_S
