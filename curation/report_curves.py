"""Curves over the steps of a training run as shapes, ready for a template to draw as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from curation.report_charts import LETTER, even_ticks, log_ticks
from curation.report_words import number

__all__ = ["Curve", "Drawn", "Mark", "Series", "curve_of", "means_of", "thinned"]

WIDTH, HEIGHT = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 8.0, 20.0
LOG_FROM = 10.0  # the largest over the smallest value from which the axis is logarithmic
LEAST_TICKS = 2
MOST_POINTS = 300  # drawn of every step
MEANS = 40  # that show the way

Points = Sequence[tuple[float, float]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Series:
    """One line: `kind` is its class in the style sheet; one without a name is not told apart in words."""

    kind: str
    points: Points
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A number beside an axis, at a place along it."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line as the `d` of an SVG path; `last` is its last value in words."""

    kind: str
    name: str
    path: str
    last: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart of lines in a box of `width` by `height`."""

    name: str
    says: str
    lines: tuple[Drawn, ...]
    across: tuple[Mark, ...]
    upwards: tuple[Mark, ...]
    is_log: bool
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    baseline: float = HEIGHT - BOTTOM


def thinned(some: Sequence[T], most: int = MOST_POINTS) -> Sequence[T]:
    """At most so many of them, evenly, the last among them."""
    stride = max(1, math.ceil(len(some) / most))
    return some[::-1][::stride][::-1]


def means_of(points: Points, most: int = MEANS) -> Points:
    """Means of runs of as many points each, at their middles; of few points, the points."""
    size = max(1, math.ceil(len(points) / most))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def curve_of(name: str, says: str, series: Sequence[Series]) -> Curve | None:
    """The shapes of one chart; None where there is no line to draw, for want of two points."""
    drawn = [each for each in series if len(each.points) > 1]
    if not drawn:
        return None
    xs, ys = zip(*(point for each in drawn for point in each.points), strict=True)
    is_log = min(ys) > 0 and max(ys) / min(ys) >= LOG_FROM
    across, upwards = (
        _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT),
        _Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, is_log),
    )
    return Curve(
        name,
        says,
        tuple(Drawn(each.kind, each.name, _path(each.points, across, upwards), _last(each)) for each in drawn),
        tuple(Mark(across.place(x), label) for x, label in across.ticks() if _fits(across.place(x), label)),
        tuple(Mark(upwards.place(y), label) for y, label in upwards.ticks()),
        is_log,
    )


class _Axis:
    """From values to places between `begin` and `end`."""

    def __init__(self, low: float, high: float, begin: float, end: float, is_log: bool = False):
        self._is_log, self._begin, self._end = is_log, begin, end
        self._low, self._high = low, high if high > low else low + (abs(low) or 1.0)

    def place(self, value: float) -> float:
        low, high, at = (math.log10(v) if self._is_log else v for v in (self._low, self._high, value))
        return round(self._begin + (at - low) / (high - low) * (self._end - self._begin), 1)

    def ticks(self) -> list[tuple[float, str]]:
        values = log_ticks(self._low, self._high) if self._is_log else []
        held = [value for value in values if self._low <= value <= self._high]
        if len(held) < LEAST_TICKS:
            held = even_ticks(self._low, self._high)
        return [(value, number(value)) for value in held]


def _path(points: Points, across: _Axis, upwards: _Axis) -> str:
    places = [f"{across.place(x):g} {upwards.place(y):g}" for x, y in points]
    return "M" + "L".join(places)


def _last(series: Series) -> str:
    return number(series.points[-1][1])


def _fits(at: float, label: str) -> bool:
    """Whether the words, in the middle below their place, are inside the box."""
    return at + len(label) * LETTER / 2 <= WIDTH
