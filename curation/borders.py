"""Where a clip's active picture lies: inside flat borders of one colour, and inside bars with captions on a flat one.

A border spans the whole side of the frame, keeps one level over the whole clip, and ends at a straight edge: the rows
just inside differ from it along much of their length. A night sky, a white wall or a cartoon's empty background ends
where something happens to stand, so it is not cut; rather is a border missed than picture lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.geometry import Box
from curation.measure import Sample
from curation.planes import Picture

__all__ = ["Borders", "borders_of", "lit_range"]

U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Range = tuple[int, int]

MAX_PICTURES = 6  # looked at; the extremes of rows and columns are of all samples
# A border is black up to codec noise: no pixel of its rows or columns is ever brighter than this (8-bit levels).
BORDER_MAX_LEVEL = 32
# A coloured one stays this near to its own level.
BORDER_TOLERANCE = 20
# At low bit rates the picture's edge rings up to a transform block into the border, at this share of its brightness.
RINGING_PX, RINGING_SHARE = 8, 0.25
# A pixel just inside differs from the border by so many levels of luma or chroma. An edge is straight where in a
# quarter of the samples or more, in nearly all of so many parts of it, half of the pixels do: a line of letters, or
# what a figure's head touches, spans fewer parts. Two black bars of one size are hardly chance, so less is enough there
# (the picture may be dark). Of a single bar more is asked, and that it is black: a flat sky ends in a straight horizon.
EDGE_LEVELS, EDGE_PARTS, STRAIGHT_SHARE, STRAIGHT_PARTS, SINGLE_STRAIGHT_SHARE = 12, 8, 0.5, 7, 0.9
SYMMETRIC_STRAIGHT_SHARE, SYMMETRIC_PARTS, SYMMETRIC_PX, SYMMETRIC_PX_SHARE = 0.2, 4, 4, 0.02
ABRUPT_SHARE = 0.5
# What is left inside differs from the border over this share at least; letters on an empty ground cover a quarter.
# Along each side at least this share is left: a tall telephone's picture in a wide frame has 0.32.
MIN_PICTURE_SHARE, MIN_ACTIVE_SHARE = 0.4, 0.2
MAX_UNEVEN_SHARE = 0.1  # of the border's outermost pixels: what is black up to noise may still be a dark picture
# A bar with captions: flat but for letters, which cover less than this of it in every sample, with some flat rows
# between picture and letters, and no higher than this share of the frame.
MAX_INK_SHARE, MIN_FLAT_ROWS, MIN_FLAT_SHARE, MAX_BAR_SHARE = 0.45, 3, 0.006, 0.35


@dataclass(frozen=True, slots=True)
class Borders:
    """The active picture in coded pixels; the border's luma, blue and red difference in 8-bit full-range levels, None
    where there is no border; and which coded pixels across the captions' lines are bars with captions, at the axis'
    beginning and end."""

    box: Box
    color: tuple[int, int, int] | None = None
    caption_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One side of the frame: extremes of each of its rows (or columns) over the clip, the samples' small pictures and
    text with that side first, and the bars that are flat, before it is known whether they are borders."""

    low: U8 | None
    high: U8
    pictures: Sequence[Picture]
    texts: Sequence[Bools]

    @property
    def flipped(self) -> _Axis:
        low = None if self.low is None else self.low[::-1]
        pictures = [(luma[::-1], blue[::-1], red[::-1]) for luma, blue, red in self.pictures]
        return _Axis(low, self.high[::-1], pictures, [text[::-1] for text in self.texts])

    @property
    def level(self) -> int | None:
        """Of the flat bar at the beginning; 0 where it is black, None where there is none."""
        if self.high[0] <= BORDER_MAX_LEVEL:
            return 0
        if self.low is None or int(self.high[0]) - int(self.low[0]) > 2 * BORDER_TOLERANCE:
            return None
        return (int(self.high[0]) + int(self.low[0])) // 2

    def distances(self, level: int) -> tuple[NDArray, int]:
        """How far each row goes from the level at most, and how far the rows of a border may go."""
        if level == 0 or self.low is None:
            return self.high, BORDER_MAX_LEVEL
        return np.maximum(self.high.astype(np.int16) - level, level - self.low.astype(np.int16)), BORDER_TOLERANCE


def lit_range(levels: NDArray, tolerance: int = BORDER_MAX_LEVEL) -> Range | None:
    """From each row's or column's greatest distance from the border's level (its brightest level, the border being
    black) to the half-open range of the picture, None if all is border."""
    lit = np.flatnonzero(levels > tolerance)
    if lit.size == 0:
        return None
    first, last = int(lit[0]), int(lit[-1])
    clear = np.flatnonzero(levels > max(tolerance, RINGING_SHARE * int(levels.max())))
    if first > 0 and clear[0] < first + RINGING_PX:
        first = int(clear[0])
    if last < len(levels) - 1 and clear[-1] > last - RINGING_PX:
        last = int(clear[-1])
    return first, last + 1


def borders_of(samples: Sequence[Sample], *, is_turned: bool) -> Borders | None:
    """The borders of a clip, None where there is no sample or the clip is as dark as a border all over.

    `is_turned`: captions run along the coded columns, as the picture is turned by 90 degrees when it is shown.
    """
    samples = [s for s in samples if _is_varied(s)] or samples
    if not samples or max(int(s.row_max.max()) for s in samples) <= BORDER_MAX_LEVEL:
        return None
    rows, columns = _axes(samples)
    flat_rows, flat_columns = _flat_bars(rows), _flat_bars(columns)
    row_bars, column_bars = flat_rows, flat_columns
    for _ in range(2):  # first between all that is flat across, then between what was found to be a border there
        bars = row_bars, column_bars
        row_bars, column_bars = (
            _borders(rows, flat_rows, _inner(columns, column_bars)),
            _borders(columns, flat_columns, _inner(rows, row_bars)),
        )
        if bars == (row_bars, column_bars):
            break
    (top, bottom), (left, right) = row_bars, column_bars
    if is_turned:
        captions = _caption_bars(columns, (left, right), _inner(rows, (top, bottom)))
        left, right = max(left, captions[0]), max(right, captions[1])
    else:
        captions = _caption_bars(rows, (top, bottom), _inner(columns, (left, right)))
        top, bottom = max(top, captions[0]), max(bottom, captions[1])
    box = Box(left, top, len(columns.high) - left - right, len(rows.high) - top - bottom)
    return Borders(box, _color(rows, columns, (top, bottom), (left, right)), captions)


def _is_varied(sample: Sample) -> bool:
    """False for what fades in from one colour or out to it, where a border has no level of its own."""
    darkest = 0 if sample.look is None else int(sample.look.row_min.min())
    return int(sample.row_max.max()) - darkest > BORDER_MAX_LEVEL


def _axes(samples: Sequence[Sample]) -> tuple[_Axis, _Axis]:
    looks = [s.look for s in samples if s.look is not None]
    pictures = [s.picture for s in samples if s.picture is not None]
    pictures = pictures[:: max(1, -(-len(pictures) // MAX_PICTURES))]
    texts = [text for text in (look.text for look in looks) if text is not None]
    row_low = np.min([look.row_min for look in looks], axis=0) if looks else None
    column_low = np.min([look.column_min for look in looks], axis=0) if looks else None
    turned = [(luma.T, blue.T, red.T) for luma, blue, red in pictures]
    return (
        _Axis(row_low, np.max([s.row_max for s in samples], axis=0), pictures, texts),
        _Axis(column_low, np.max([s.column_max for s in samples], axis=0), turned, [text.T for text in texts]),
    )


def _inner(axis: _Axis, bars: Range) -> tuple[float, float]:
    """What is left between two bars, as shares of the axis."""
    return bars[0] / len(axis.high), 1 - bars[1] / len(axis.high)


def _flat_bars(axis: _Axis) -> Range:
    """How many rows are flat at the beginning and at the end, where the picture's edge does not matter yet."""
    first, last = axis.level, axis.flipped.level
    size = len(axis.high)
    counts = [0, 0]
    for end, level in enumerate((first, last)):
        if level is None:
            continue
        picture = lit_range(*axis.distances(level))
        if picture is not None:
            counts[end] = picture[0] if end == 0 else size - picture[1]
    return counts[0], counts[1]


def _borders(axis: _Axis, bars: Range, across: tuple[float, float]) -> Range:
    """Those of the flat bars that are borders: with a straight edge, on both sides or black."""
    if not any(bars):
        return bars
    flipped, size = axis.flipped, len(axis.high)
    levels = (axis.level, flipped.level)
    if sum(bars) > (1 - MIN_ACTIVE_SHARE) * size or not _has_picture(axis, bars, across):
        return 0, 0
    edges = (_edge(axis, bars[0], across), _edge(flipped, bars[1], across))
    straight, sharp = (
        [int((edge >= least).sum()) >= STRAIGHT_PARTS for edge in edges]
        for least in (STRAIGHT_SHARE, SINGLE_STRAIGHT_SHARE)
    )
    if min(bars) > 0 and levels[0] is not None and levels[1] is not None:
        is_one_color = abs(levels[0] - levels[1]) <= BORDER_TOLERANCE
        if is_one_color and all(straight):
            return bars
        is_symmetric = abs(bars[0] - bars[1]) <= max(SYMMETRIC_PX, SYMMETRIC_PX_SHARE * size)
        parts = np.concatenate(edges) >= SYMMETRIC_STRAIGHT_SHARE
        is_edge = not axis.pictures or (parts.sum() >= 2 * SYMMETRIC_PARTS and _is_abrupt(axis.high, bars))
        if levels == (0, 0) and is_symmetric and is_edge:
            return bars
    first, last = (
        bar if level == 0 and is_sharp else 0 for bar, level, is_sharp in zip(bars, levels, sharp, strict=True)
    )
    return first, last


def _is_abrupt(high: U8, bars: Range) -> bool:
    """Whether the picture is about as bright beside its black bars as further inside: light falls off slowly."""
    inside = high[bars[0] : len(high) - bars[1]]
    least = ABRUPT_SHARE * float(np.median(inside))
    return min(inside[:RINGING_PX].max(), inside[-RINGING_PX:].max()) >= least


def _has_picture(axis: _Axis, bars: Range, across: tuple[float, float]) -> bool:
    """Whether between the bars most pixels are not of a bar's colour, in a quarter of the samples or more."""
    if not axis.pictures:
        return True
    rows, end = _inner(axis, bars), 0 if bars[0] else -1
    shares = []
    for picture in axis.pictures:
        by_plane = [
            _is_other(_part(plane, rows, across), int(np.median(plane[end]))).mean(dtype=np.float64)
            for plane in picture
        ]
        shares.append(max(by_plane))
    return float(_upper_quarter(shares)) >= MIN_PICTURE_SHARE


def _edge(axis: _Axis, bar: int, across: tuple[float, float]) -> NDArray[np.float64]:
    """For each part of the edge of a bar at the axis' beginning, the share of the pixels just inside that differ from
    the bar, in the samples' upper quarter; 0 where there is no bar or no picture."""
    if bar == 0 or not axis.pictures:
        return np.zeros(EDGE_PARTS)
    return _upper_quarter([_differences(picture, bar / len(axis.high), across) for picture in axis.pictures])


def _differences(picture: Picture, bar_share: float, across: tuple[float, float]) -> NDArray[np.float64]:
    by_plane = []
    for plane in picture:
        row = min(int(np.ceil(bar_share * len(plane))), len(plane) - 1)
        inside = _part(plane, (row / len(plane), min(row + 2, len(plane)) / len(plane)), across)
        level = int(np.median(plane[0]))
        if _is_other(plane[0], level).mean() > MAX_UNEVEN_SHARE:
            return np.zeros(EDGE_PARTS)
        differs = _is_other(inside, level).mean(axis=0)
        places = np.arange(EDGE_PARTS) * len(differs) // EDGE_PARTS
        by_plane.append(np.add.reduceat(differs, places) / np.maximum(np.diff(places, append=len(differs)), 1))
    return np.max(by_plane, axis=0)


def _upper_quarter(values: Sequence[float] | Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What a quarter of the values reach."""
    return np.sort(np.asarray(values), axis=0)[-max(1, len(values) // 4)]


def _is_other(plane: U8, level: int) -> Bools:
    return np.abs(plane.astype(np.int16) - level) > EDGE_LEVELS


def _part(plane: U8, rows: tuple[float, float], columns: tuple[float, float]) -> U8:
    """The whole pixels of a plane between shares of its sides, at least one."""
    ranges = []
    for (start, end), size in zip((rows, columns), plane.shape, strict=True):
        first = min(int(np.ceil(start * size - 1e-6)), size - 1)
        ranges.append(slice(first, max(int(end * size + 1e-6), first + 1)))
    return plane[tuple(ranges)]


def _caption_bars(axis: _Axis, borders: Range, across: tuple[float, float]) -> Range:
    """Rows at the beginning and the end that are bars with captions, 0 where there is none."""
    flipped = axis.flipped
    mirrored = (borders[1] if flipped.level == 0 else 0, borders[0] if axis.level == 0 else 0)
    first = _caption_bar(axis, borders[0], mirrored[0], across)
    last = _caption_bar(flipped, borders[1], mirrored[1], across)
    return first, last


def _caption_bar(axis: _Axis, border: int, mirrored: int, across: tuple[float, float]) -> int:
    """At the axis' beginning, beyond its plain border; `mirrored`: how large the black border opposite is."""
    if axis.level is None or not axis.pictures or not axis.texts:
        return 0
    distances, tolerance = axis.distances(axis.level)
    mirror = (mirrored, SYMMETRIC_STRAIGHT_SHARE, SYMMETRIC_PARTS, 1 / len(axis.texts))
    others = [rows for rows in _ends_of_flat_runs(distances <= tolerance) if rows > border]
    candidates = [mirror] if mirrored > border else []
    for rows, least, parts, with_text in [*candidates, *((r, STRAIGHT_SHARE, STRAIGHT_PARTS, 0.5) for r in others)]:
        share = rows / len(distances)
        if np.mean([text[: round(share * len(text))].any() for text in axis.texts]) < with_text:
            continue
        is_straight = (_edge(axis, rows, across) >= least).sum() >= parts
        if is_straight and _ink_share(axis, rows, axis.level) <= MAX_INK_SHARE:
            return rows
    return 0


def _ends_of_flat_runs(is_flat: Bools) -> list[int]:
    """Where flat rows go over into other ones, in the part of the frame that may be a bar, the innermost first."""
    within = int(MAX_BAR_SHARE * len(is_flat))
    least = max(MIN_FLAT_ROWS, round(MIN_FLAT_SHARE * len(is_flat)))
    ends, run = [], 0
    for row in range(within):
        if is_flat[row]:
            run += 1
            continue
        if run >= least:
            ends.append(row)
        run = 0
    return ends[::-1]


def _ink_share(axis: _Axis, rows: int, level: int) -> float:
    """The largest share, in any sample, of a bar's pixels that are not of its level."""
    tolerance = BORDER_MAX_LEVEL if level == 0 else BORDER_TOLERANCE
    shares = []
    for luma, _, _ in axis.pictures:
        bar = luma[: max(1, int(rows / len(axis.high) * len(luma)))].astype(np.int16)
        shares.append(float((np.abs(bar - level) > tolerance).mean()))
    return max(shares)


def _color(rows: _Axis, columns: _Axis, row_bars: Range, column_bars: Range) -> tuple[int, int, int] | None:
    """The colour of the frame's outermost pixels at its largest border."""
    sides = [(row_bars[0], rows), (row_bars[1], rows.flipped), (column_bars[0], columns)]
    size, axis = max([*sides, (column_bars[1], columns.flipped)], key=lambda side: side[0] / len(side[1].high))
    if size == 0:
        return None
    if not axis.pictures:
        return 0, 128, 128
    luma, blue, red = (round(float(np.median([picture[i][0] for picture in axis.pictures]))) for i in range(3))
    return luma, blue, red
