"""Every score against procedural footage whose truth is known: how many cases of each it gets right.

A module of cases (`scores_picture`, `scores_time`) has `CASES`: functions that take a seed and give `ScoreCase`s.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import finish
from benchmarks.score_case import CaseMaker
from benchmarks.scores_picture import CASES as PICTURE_CASES
from benchmarks.scores_time import CASES as TIME_CASES
from jobs.cli import parse

TO_REACH = 0.95
ALL_CASES: tuple[CaseMaker, ...] = (*PICTURE_CASES, *TIME_CASES)


@dataclass(frozen=True, slots=True)
class Options:
    """Scores against procedural footage.

    Attributes:
        json: File for the figures, {name: value}.
        seeds: How many different films each case is tried on.
    """

    json: Path | None = None
    seeds: int = 4


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.scores")
    right: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    names: dict[str, dict[str, None]] = {}
    for seed in range(options.seeds):
        for case in (case for make in ALL_CASES for case in make(seed)):
            value = case.value()
            is_right = case.is_right(value)
            tried[case.score] += 1
            right[case.score] += is_right
            names.setdefault(case.score, {})[case.name] = None
            if not is_right:
                print(f"wrong: {case.score}, {case.name}, film {seed}: {value}", flush=True)
    print(f"{'score':26s} {'right':>6s} {'of':>6s}  procedural cases")
    for score, cases in names.items():
        print(f"{score:26s} {right[score]:6d} {tried[score]:6d}  {'; '.join(cases)}")
    figures = {f"{score}_right": right[score] / tried[score] for score in names}
    share = right.total() / tried.total()
    line = f"{right.total()} of {tried.total()} cases right: {share:.3f} (to reach: {TO_REACH} for each score)"
    finish(figures | {"scores_right": share}, [line], options.json)


if __name__ == "__main__":
    sys.exit(main())
