"""How numbers about clips are distributed: counts in bins at round numbers, kept apart from rejected.

The bins are chosen by a sample of the rows and filled in one pass over the columns, so memory does not grow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.report_data import KEPT, Limit, limits_on, outcomes_of, sampled_rows
from curation.scores import SCORES
from curation.verdicts import RULES, Thresholds

__all__ = ["COLUMNS", "Column", "Histogram", "bin_edges", "distributions"]

SAMPLE_ROWS = 20_000
BINS = 36
LONG_TAIL = 5.0  # the 95th percentile over the median from which the axis is logarithmic
MAX_DECADES = 5
MAX_SIZES = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A number about a clip that is shown as a distribution."""

    name: str
    says: str
    is_integer: bool = False
    is_flag: bool = False


# A score that is added to scores.SCORES is here, and on the page, of itself.
COLUMNS: tuple[Column, ...] = (
    Column("duration_s", "length, seconds"),
    Column("rate_fps", "mean frames a second"),
    *(Column(s.column, s.says, pa.types.is_integer(s.type), pa.types.is_boolean(s.type)) for s in SCORES),
)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one column in bins `[edges[i], edges[i+1])`; the first and the last also hold what lies beyond.

    The counts are split into clips that were kept, that were rejected for this very column, and for another one.
    `labels` name the bins where they are no ranges: no and yes, picture sizes. `missing` clips have no value.
    """

    column: Column
    edges: tuple[float, ...]
    is_log: bool
    labels: tuple[str, ...]
    kept: tuple[int, ...]
    rejected_here: tuple[int, ...]
    rejected_elsewhere: tuple[int, ...]
    missing: int
    minimum: float | None
    maximum: float | None
    limits: tuple[Limit, ...]

    @property
    def is_open_below(self) -> bool:
        return self.minimum is not None and self.minimum < self.edges[0]

    @property
    def is_open_above(self) -> bool:
        return self.maximum is not None and not self.labels and self.maximum >= self.edges[-1]


def distributions(clips: lance.LanceDataset, thresholds: Thresholds | None) -> list[Histogram]:
    """A histogram of every column of COLUMNS, and one of the picture sizes; none of an empty table.

    `thresholds` are drawn in; None where they are not known.
    """
    names = [column.name for column in COLUMNS]
    sample = sampled_rows(clips, None, ["clip_id", *names], SAMPLE_ROWS)
    if not sample:
        return []
    bins = [_Bins.chosen(column, [row[column.name] for row in sample], thresholds) for column in COLUMNS]
    sizes: defaultdict[tuple[int, int], NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
    for batch in clips.to_batches(columns=["keep", "reason", "width", "height", *names]):
        outcomes = np.array(outcomes_of(batch), dtype=object)
        for column_bins in bins:
            column_bins.feed(batch[column_bins.column.name].to_pylist(), outcomes)
        pairs = zip(batch["width"].to_pylist(), batch["height"].to_pylist(), outcomes == KEPT, strict=True)
        for width, height, is_kept in pairs:
            sizes[width, height][0 if is_kept else 2] += 1
    shown = [column_bins.histogram(thresholds) for column_bins in bins]
    return [*shown[:2], _size_histogram(sizes), *shown[2:]]


class _Bins:
    """Counts one column, batch by batch."""

    def __init__(self, column: Column, edges: NDArray[np.float64], is_log: bool):
        self.column, self._edges, self._is_log = column, edges, is_log
        self._counts = np.zeros((3, len(edges) - 1), np.int64)
        self._missing = 0
        self._minimum, self._maximum = np.inf, -np.inf
        self._here = [rule.reason for rule in RULES if rule.column == column.name]

    @staticmethod
    def chosen(column: Column, sample: Sequence[float | None], thresholds: Thresholds | None) -> _Bins:
        if column.is_flag:
            return _Bins(column, np.array([0.0, 1.0, 2.0]), False)
        values = np.array([v for v in sample if v is not None], np.float64)
        wanted = [float(limit.value) for limit in limits_on(column.name, thresholds) if limit.value is not None]
        return _Bins(column, *bin_edges(values, wanted, is_integer=column.is_integer))

    def feed(self, values: Sequence[float | None], outcomes: NDArray[np.object_]) -> None:
        numbers = np.array(values, np.float64)  # None becomes NaN
        is_there = ~np.isnan(numbers)
        self._missing += int((~is_there).sum())
        if not is_there.any():
            return
        numbers, outcomes = numbers[is_there], outcomes[is_there]
        self._minimum = min(self._minimum, float(numbers.min()))
        self._maximum = max(self._maximum, float(numbers.max()))
        last = len(self._edges) - 2
        at = np.clip(np.searchsorted(self._edges, numbers, side="right") - 1, 0, last)
        is_kept, is_here = outcomes == KEPT, np.isin(outcomes, self._here)
        for group, mask in enumerate((is_kept, is_here, ~is_kept & ~is_here)):
            self._counts[group] += np.bincount(at[mask], minlength=last + 1)

    def histogram(self, thresholds: Thresholds | None) -> Histogram:
        has_values = self._maximum >= self._minimum
        kept, here, elsewhere = (tuple(counts) for counts in self._counts.tolist())
        return Histogram(
            column=self.column,
            edges=tuple(self._edges.tolist()),
            is_log=self._is_log,
            labels=("no", "yes") if self.column.is_flag else (),
            kept=kept,
            rejected_here=here,
            rejected_elsewhere=elsewhere,
            missing=self._missing,
            minimum=self._minimum if has_values else None,
            maximum=self._maximum if has_values else None,
            limits=limits_on(self.column.name, thresholds),
        )


def _size_histogram(sizes: Mapping[tuple[int, int], NDArray[np.int64]]) -> Histogram:
    """The commonest sizes, largest first, the rest in one bin."""
    common = sorted(sizes, key=lambda size: (-sizes[size].sum(), size))[:MAX_SIZES]
    common.sort(key=lambda size: (-size[0] * size[1], size))
    labels = [f"{width}×{height}" for width, height in common]  # noqa: RUF001 - a times sign
    counts = [sizes[size] for size in common]
    if others := sizes.keys() - set(common):
        labels.append(f"{len(others)} others")
        counts.append(np.sum([sizes[size] for size in others], axis=0))
    kept, here, elsewhere = (tuple(group) for group in np.array(counts).T.tolist())
    return Histogram(
        column=Column("width, height", "picture size, display pixels"),
        edges=tuple(float(i) for i in range(len(labels) + 1)),
        is_log=False,
        labels=tuple(labels),
        kept=kept,
        rejected_here=here,
        rejected_elsewhere=elsewhere,
        missing=0,
        minimum=None,
        maximum=None,
        limits=(),
    )


def bin_edges(
    values: NDArray[np.float64], wanted: Sequence[float], *, is_integer: bool
) -> tuple[NDArray[np.float64], bool]:
    """Edges of about BINS bins at round numbers, and whether they are logarithmic.

    Outliers do not stretch the axis: they fall into a bin at its end. `wanted` are thresholds that the axis reaches
    where they are not far off.
    """
    if values.size == 0:
        return np.array([0.0, 1.0]), False
    least, most = float(values.min()), float(values.max())
    positive = values[values > 0]
    if least >= 0 and positive.size and not is_integer:
        median, p95 = np.quantile(positive, (0.5, 0.95))
        if p95 > LONG_TAIL * median:
            return _log_edges(float(np.quantile(positive, 0.01)), most, wanted), True
    p5, p95 = (float(q) for q in np.quantile(values, (0.05, 0.95)))
    low, high = max(least, p5 - 1.5 * (p95 - p5)), min(most, p95 + 1.5 * (p95 - p5))
    reach = max(high - low, abs(high))
    near = [w for w in wanted if low - reach <= w <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    step = round_step((high - low) / BINS or max(abs(high) / 100, 1e-3))
    step = float(np.ceil(step)) if is_integer else step
    first = np.floor(low / step) - (least < np.floor(low / step) * step)
    last = np.floor(high / step) + 1 + (most >= (np.floor(high / step) + 1) * step)
    return np.arange(first, last + 1) * step, False


def _log_edges(low: float, high: float, wanted: Sequence[float]) -> NDArray[np.float64]:
    near = [w for w in wanted if low / 100 <= w <= high * 100 and w > 0]
    low, high = min([low, *near]), max([high, *near])
    low = max(low, high / 10**MAX_DECADES)
    per_decade = max(4, round(BINS / np.log10(high / low)))
    first, last = np.floor(np.log10(low) * per_decade), np.floor(np.log10(high) * per_decade) + 1
    return 10 ** (np.arange(first, last + 1) / per_decade)


def round_step(at_least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least so large."""
    power = 10.0 ** np.floor(np.log10(at_least))
    return float(next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= at_least * (1 - 1e-9)))
