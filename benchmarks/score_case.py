"""What a case for a score is: footage with a known truth, and what the score may say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from curation.measured import ScoreValue

__all__ = ["CaseMaker", "ScoreCase", "at_least", "is_exactly", "near"]

Check = Callable[[ScoreValue], bool]


@dataclass(frozen=True, slots=True)
class ScoreCase:
    """`value` makes the footage and gives what the column `score` says of it; `is_right` judges that."""

    score: str
    name: str
    value: Callable[[], ScoreValue]
    is_right: Check


CaseMaker = Callable[[int], Iterable[ScoreCase]]
"""Cases from a seed."""


def near(expected: float, within: float) -> Check:
    return lambda value: isinstance(value, int | float) and abs(value - expected) <= within


def at_least(least: float) -> Check:
    return lambda value: isinstance(value, int | float) and value >= least


def is_exactly(expected: ScoreValue) -> Check:
    return lambda value: value == expected
