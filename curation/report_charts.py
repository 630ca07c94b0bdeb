"""Histograms as shapes, ready for a template to draw as inline SVG.

Why not plotly here: its script is 4.8 MB beside a page of a few hundred kB, it has one look for light and dark, and
these charts need neither zoom nor a legend each. SVG in the page takes its colours from the page's style sheet, prints,
and works without a script; each bar carries its bin, so that a script can colour it anew when thresholds are moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curation.report_distributions import Histogram, round_step
from curation.report_words import count, number, visible

__all__ = ["Bar", "Chart", "Line", "Part", "Tick", "chart_of", "even_ticks", "log_ticks"]

WIDTH, HEIGHT = 360.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 6.0, 6.0, 26.0, 20.0
MIN_BAR = 1.5  # a bin with one clip among thousands is still to be seen
TICKS = 5
LETTER = 6.4  # about how wide a character of a label is

# Drawn from the axis upwards, in this order; also the names of the classes in the style sheet.
GROUPS = ("kept", "rejected_here", "rejected_elsewhere")
GROUP_WORDS = ("kept", "rejected for this", "rejected for another reason")


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of one group; `share` is its height as a share of the tallest bar."""

    group: str
    y: float
    height: float
    share: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: its counts stacked, and what it is in words."""

    x: float
    width: float
    parts: tuple[Part, ...]
    says: str
    label: str
    total: int
    index: int


@dataclass(frozen=True, slots=True)
class Tick:
    """A number below the axis; `anchor` keeps its words inside the chart."""

    x: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Line:
    """A threshold: where it stands, what it says, and whether the words go to its left or right, or to the middle."""

    x: float
    label: str
    anchor: str
    row: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram as shapes in a box of `width` by `height`; where its bins have labels, the bars are drawn as rows."""

    histogram: Histogram
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    off_axis: tuple[str, ...]
    width: float = WIDTH
    height: float = HEIGHT
    baseline: float = HEIGHT - BOTTOM
    top: float = TOP


def chart_of(histogram: Histogram, group_words: Sequence[str] = GROUP_WORDS) -> Chart:
    """The shapes of one histogram. `group_words` say what its three groups of counts are."""
    axis = _Axis(histogram)
    lines, off_axis = [], []
    for limit in histogram.limits:
        if limit.value is None or histogram.has_names or limit.value == limit.rule.off:
            continue
        value = float(limit.value)
        # An integer column is rejected from the next integer on: the line goes between the two bins.
        edge = value + 1 if limit.rule.bound == "max" and histogram.column.is_integer else value
        sign = "<" if limit.rule.bound == "min" else ">"
        label = f"{limit.rule.reason} {sign} {number(limit.value)}"
        if axis.holds(edge):
            x = axis.x(edge)
            fits_right = x + 4 + len(label) * LETTER < WIDTH
            lines.append(Line(x, label, "start" if fits_right else "end", len(lines) % 2))
        else:
            off_axis.append(f"{label} lies {'left' if edge < histogram.edges[0] else 'right'} of the axis")
    bars = _bars(histogram, axis, group_words)
    return Chart(histogram, bars, _ticks(histogram, axis), tuple(lines), tuple(off_axis))


class _Axis:
    """From values to places across the chart."""

    def __init__(self, histogram: Histogram):
        self._is_log = histogram.is_log
        self._low, self._high = (self._scaled(edge) for edge in (histogram.edges[0], histogram.edges[-1]))

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def holds(self, value: float) -> bool:
        return (value > 0 or not self._is_log) and self._low <= self._scaled(value) <= self._high

    def x(self, value: float) -> float:
        across = (self._scaled(value) - self._low) / (self._high - self._low)
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 2)


def _bars(histogram: Histogram, axis: _Axis, group_words: Sequence[str]) -> tuple[Bar, ...]:
    counts = list(zip(histogram.kept, histogram.rejected_here, histogram.rejected_elsewhere, strict=True))
    tallest = max(map(sum, counts), default=0) or 1
    bars = []
    for index, groups in enumerate(counts):
        x, end = axis.x(histogram.edges[index]), axis.x(histogram.edges[index + 1])
        gap = 0.5 if end - x > 3 else 0.0
        label = visible(_bin_words(histogram, index))
        parts = ", ".join(f"{count(n)} {words}" for n, words in zip(groups, group_words, strict=True) if n)
        says = f"{label}: {parts}"
        bars.append(Bar(x + gap, end - x - 2 * gap, _parts(groups, tallest), says, label, sum(groups), index))
    return tuple(bars)


def _parts(groups: tuple[int, ...], tallest: int) -> tuple[Part, ...]:
    room, y = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    parts = []
    for group, n in zip(GROUPS, groups, strict=True):
        if n:
            height = max(MIN_BAR, room * n / tallest)
            y -= height
            parts.append(Part(group, round(y, 2), round(height, 2), n / tallest))
    return tuple(parts)


def _bin_words(histogram: Histogram, index: int) -> str:
    if histogram.has_names:
        return histogram.labels[index]
    low, high = histogram.edges[index], histogram.edges[index + 1]
    if index == 0 and histogram.is_open_below:
        return f"under {number(high)}"
    if index == len(histogram.kept) - 1 and histogram.is_open_above:
        return f"{number(low)} and over"
    if histogram.column.is_integer and high - low == 1:
        return number(int(low))
    return f"{number(low)} to {number(high)}"


def _ticks(histogram: Histogram, axis: _Axis) -> tuple[Tick, ...]:
    if histogram.has_names:
        return ()
    low, high = histogram.edges[0], histogram.edges[-1]
    if histogram.column.is_integer and len(histogram.kept) <= TICKS and histogram.edges[1] - low == 1:
        named = [(edge + 0.5, number(int(edge))) for edge in histogram.edges[:-1]]  # a bin is one number
    else:
        values = log_ticks(low, high) if histogram.is_log else even_ticks(low, high)
        named = [(value, number(value)) for value in values if axis.holds(value)]
    return tuple(_tick(axis.x(value), label) for value, label in named)


def _tick(x: float, label: str) -> Tick:
    half = len(label) * LETTER / 2
    return Tick(x, label, "start" if x < half else "end" if x > WIDTH - half else "middle")


def even_ticks(low: float, high: float) -> list[float]:
    step = round_step((high - low) / TICKS)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    per_decade = (1.0,) if len(decades) > 3 else (1.0, 2.0, 5.0)
    return [m * 10.0**decade for decade in decades for m in per_decade]
