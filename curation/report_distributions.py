"""How numbers about clips are distributed: counts in bins at round numbers, kept apart from rejected.

The bins are chosen by a sample of the rows and filled in one pass over the columns, so memory does not grow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.measured import Score
from curation.report_data import KEPT, Limit, limits_on, outcomes_of, sampled_rows
from curation.score_batches import clip_batches, model_score_names, model_scores_by_clip
from curation.scores import SCORES
from curation.store import Store
from curation.verdicts import RULES, Thresholds

__all__ = [
    "COLUMNS",
    "SIZE_COLUMN",
    "Column",
    "Histogram",
    "bin_edges",
    "columns_of",
    "distributions",
    "names_in",
    "size_names",
]

SAMPLE_ROWS = 20_000
BINS = 36
LONG_TAIL = 5.0  # the 95th percentile over the median from which the axis is logarithmic
MAX_DECADES = 5
MAX_NAMES = 12
SIZE_COLUMN = "width, height"


@dataclass(frozen=True, slots=True)
class Column:
    """Something about a clip that is shown as a distribution: a number, a flag, a name, or several names."""

    name: str
    says: str
    is_integer: bool = False
    is_flag: bool = False
    is_name: bool = False
    is_list: bool = False

    @staticmethod
    def of(score: Score) -> Column:
        kind = score.type
        return Column(
            score.column,
            score.says,
            is_integer=pa.types.is_integer(kind),
            is_flag=pa.types.is_boolean(kind),
            is_name=pa.types.is_string(kind) or pa.types.is_list(kind),
            is_list=pa.types.is_list(kind),
        )


# A score that is added to scores.SCORES is here, and on the page, of itself.
COLUMNS: tuple[Column, ...] = (
    Column("duration_s", "length, seconds"),
    Column("rate_fps", "mean frames a second"),
    *map(Column.of, SCORES),
)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of one column in bins `[edges[i], edges[i+1])`; the first and the last also hold what lies beyond.

    The counts are split into clips that were kept, that were rejected for this very column, and for another one.
    `labels` name the bins where they are no ranges: no and yes, names, picture sizes; with `has_others`, the last bin
    holds the names that are too many. `missing` clips have no value. A clip is counted under each of several names.
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
    has_others: bool = False

    @property
    def has_names(self) -> bool:
        """Whether the bins are named: then the bars are rows."""
        return self.column.is_name or self.column.is_flag

    @property
    def is_open_below(self) -> bool:
        return self.minimum is not None and self.minimum < self.edges[0]

    @property
    def is_open_above(self) -> bool:
        return self.maximum is not None and not self.has_names and self.maximum >= self.edges[-1]


def columns_of(store: Store) -> list[Column]:
    """What is shown as a distribution: as much of COLUMNS as the table has, and what models say."""
    named = set(store.open("clips").schema.names)
    models = [Column(name, "as a model says") for name in model_score_names(store) if name not in named]
    return [*(column for column in COLUMNS if column.name in named), *models]


def distributions(store: Store, thresholds: Thresholds | None) -> list[Histogram]:
    """A histogram of each column of `columns_of`, and one of the picture sizes; none of an empty store.

    `thresholds` are drawn in; None where they are not known. A score in words that a model gave has no histogram.
    """
    clips, columns = store.open("clips"), columns_of(store)
    names = [column.name for column in columns if column.name in clips.schema.names]
    of_models = [column.name for column in columns if column.name not in clips.schema.names]
    sample = sampled_rows(clips, None, ["clip_id", *names], SAMPLE_ROWS)
    if not sample:
        return []
    said = model_scores_by_clip(store, [row["clip_id"] for row in sample], of_models)
    sample = [dict.fromkeys(of_models) | row | said[row["clip_id"]] for row in sample]
    columns = [
        column for column in columns if column.name in names or any(column.name in each for each in said.values())
    ]
    of_models = [column.name for column in columns if column.name not in names]
    bins = [_bins_of(column, [row[column.name] for row in sample], thresholds) for column in columns]
    sizes = _Names(Column(SIZE_COLUMN, "picture size, display pixels", is_name=True))
    for batch in clip_batches(store, ["keep", "reason", "width", "height", *names], of_models):
        outcomes = np.array(outcomes_of(batch), dtype=object)
        for column_bins in bins:
            column_bins.feed(batch[column_bins.column.name].to_pylist(), outcomes)
        sizes.feed(size_names(batch), outcomes)
    shown = [column_bins.histogram(thresholds) for column_bins in bins]
    return [*shown[:2], sizes.histogram(thresholds), *shown[2:]]


def size_names(batch: pa.RecordBatch) -> list[str]:
    pairs = zip(batch["width"].to_pylist(), batch["height"].to_pylist(), strict=True)
    return [f"{width}×{height}" for width, height in pairs]  # noqa: RUF001 - a times sign


def _bins_of(column: Column, sample: Sequence[Any], thresholds: Thresholds | None) -> _Bins | _Names:
    return _Names(column) if column.is_name else _Bins.chosen(column, sample, thresholds)


def groups_of(outcomes: NDArray[np.object_], column: str) -> NDArray[np.int64]:
    """0 for clips that were kept, 1 for those rejected for this column, 2 for another."""
    here = [rule.reason for rule in RULES if rule.column == column]
    return np.where(outcomes == KEPT, 0, np.where(np.isin(outcomes, here), 1, 2))


class _Bins:
    """Counts one column of numbers, batch by batch."""

    def __init__(self, column: Column, edges: NDArray[np.float64], is_log: bool):
        self.column, self._edges, self._is_log = column, edges, is_log
        self._counts = np.zeros((3, len(edges) - 1), np.int64)
        self._missing = 0
        self._minimum, self._maximum = np.inf, -np.inf

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
        groups = groups_of(outcomes, self.column.name)
        for group in range(3):
            self._counts[group] += np.bincount(at[groups == group], minlength=last + 1)

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


class _Names:
    """Counts one column of names, or of lists of names, batch by batch: the commonest are shown, the rest together."""

    def __init__(self, column: Column):
        self.column = column
        self._counts: defaultdict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
        self._missing = 0

    def feed(self, values: Sequence[str | list[str] | None], outcomes: NDArray[np.object_]) -> None:
        for value, group in zip(values, groups_of(outcomes, self.column.name).tolist(), strict=True):
            if value is None:
                self._missing += 1
            for name in names_in(value):
                self._counts[name][group] += 1

    def histogram(self, thresholds: Thresholds | None) -> Histogram:
        """The commonest names; sizes in order of size."""
        common = sorted(self._counts, key=lambda name: (-self._counts[name].sum(), name))[:MAX_NAMES]
        if self.column.name == SIZE_COLUMN:
            common.sort(key=lambda name: (-math.prod(map(int, name.split("×"))), name))  # noqa: RUF001 - a times sign
        labels, counts = list(common), [self._counts[name] for name in common]
        if others := self._counts.keys() - set(common):
            labels.append(f"{len(others)} others")
            counts.append(np.sum([self._counts[name] for name in others], axis=0))
        kept, here, elsewhere = (tuple(group) for group in np.array(counts, np.int64).reshape(-1, 3).T.tolist())
        return Histogram(
            column=self.column,
            edges=tuple(float(i) for i in range(len(labels) + 1)),
            is_log=False,
            labels=tuple(labels),
            kept=kept,
            rejected_here=here,
            rejected_elsewhere=elsewhere,
            missing=self._missing,
            minimum=None,
            maximum=None,
            limits=limits_on(self.column.name, thresholds),
            has_others=bool(others),
        )


def names_in(value: str | list[str] | None) -> list[str]:
    """The names that a clip has; an empty list is one of them, called none."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(dict.fromkeys(value)) or ["none"]


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
