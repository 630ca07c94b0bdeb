"""Where a picture looks like text: rows of thin strokes in one ink, dense along the line, quiet above and below.

No letter is read. What counts is what scripts share: strokes thinner than a line is high, of high contrast to what is
around them, many of them side by side at nearly one level, in a band with an upper and a lower edge. Candidates come
from a top-hat and a black-hat transform (strokes brighter and darker than what is around them), and are joined along
the line, as in Epshtein et al. (2010) and the reviews of text localisation since; the limits below hold for rendered
text over procedural scenes (`benchmarks.scores`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["CELL_PX", "TEXT_SIDE", "text_cells"]

U8 = NDArray[np.uint8]

TEXT_SIDE = 480
"""Longer side of the picture in which text is looked for: a subtitle's capitals are some 12 pixels high there."""
CELL_PX = 4

STROKE_PX = 7  # what is thinner than this in some direction is a stroke
STROKE_KERNEL = np.ones((STROKE_PX, STROKE_PX), np.uint8)
MIN_STROKE_LEVELS = 40
JOIN_KERNEL = np.ones((1, 7), np.uint8)  # words up to 6 cells from one another are one line
MIN_DENSITY = 0.15  # strokes' share of a line; printed text has 0.2 to 0.4
MIN_LINE_PX, MAX_LINE_CELLS = 6, 12
MIN_WIDTH_CELLS, MIN_WIDTH_TO_HEIGHT = 5, 2.5
MAX_LINES = 32  # a picture with more candidates is a texture, and the largest are enough of it
# Of the strokes' peaks, one a column: the contrast of the middle one, and within which share of it half of the peaks'
# contrasts or levels lie, ink being one.
MIN_PEAK_LEVELS, MAX_INK_SPREAD = 70.0, 0.2
MIN_STROKES_PER_HEIGHT = 0.7  # along the line: a letter is at most about as wide as high and has one to three strokes
# Strokes that begin along the rows against such down the columns: letters stand upright, ribs and blinds lie.
MIN_ACROSS_TO_DOWN = 0.8
MAX_QUIET_RATIO = 0.3  # strokes just above and below, against those in the line
EDGE_OF_LINE = 0.25  # a row belongs to the line from this share of its densest row's strokes on


def text_cells(luma: U8) -> U8:
    """1 where a cell of `CELL_PX` squared looks like text, in an 8-bit picture with at most `TEXT_SIDE` on a side.

    Shape (ceil(h / CELL_PX), ceil(w / CELL_PX)). Finds horizontal lines of letters from some 11 to 60 pixels high,
    which is from a 25th of the height of a 16:9 picture on, at two scales, with strokes of 70 levels or more.
    """
    height, width = luma.shape
    cells = _lines(luma)
    if min(height, width) >= 2 * STROKE_PX:
        half = cv2.resize(luma, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        coarse = _lines(np.asarray(half, np.uint8))
        if coarse.any():
            cells |= np.asarray(cv2.resize(coarse, cells.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    return cells


def _lines(luma: U8) -> U8:
    """The cells of lines at one scale."""
    height, width = luma.shape
    cells = np.zeros((-(-height // CELL_PX), -(-width // CELL_PX)), np.uint8)
    if min(height, width) < STROKE_PX:
        return cells
    for operation, ink in ((cv2.MORPH_TOPHAT, luma), (cv2.MORPH_BLACKHAT, np.asarray(cv2.bitwise_not(luma), np.uint8))):
        strokes = cv2.morphologyEx(luma, operation, STROKE_KERNEL)
        _, strong = cv2.threshold(strokes, MIN_STROKE_LEVELS, 255, cv2.THRESH_BINARY)
        density = _cell_means(np.asarray(strong, np.uint8))
        _, dense = cv2.threshold(cv2.blur(density, (3, 1)), MIN_DENSITY * 255, 1, cv2.THRESH_BINARY)
        if not cv2.countNonZero(dense):
            continue
        joined = cv2.morphologyEx(dense, cv2.MORPH_CLOSE, JOIN_KERNEL)
        for x, y, w, h in _candidates(np.asarray(joined, np.uint8)):
            rows = _line_rows(ink, np.asarray(strokes, np.uint8), np.asarray(strong, np.uint8), x, y, w, h)
            if rows is not None:
                cells[rows[0] // CELL_PX : -(-rows[1] // CELL_PX), x : x + w] = 1
    return cells


def _cell_means(plane: U8) -> U8:
    """Means of the cells; those that the picture's edge cuts repeat it, for whole cells are averaged fastest."""
    height, width = plane.shape
    rest = -height % CELL_PX, -width % CELL_PX
    if any(rest):
        plane = np.asarray(cv2.copyMakeBorder(plane, 0, rest[0], 0, rest[1], cv2.BORDER_REPLICATE), np.uint8)
    size = plane.shape[1] // CELL_PX, plane.shape[0] // CELL_PX
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)


def _candidates(joined: U8) -> list[list[int]]:
    """Boxes (x, y, width, height) in cells, the largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=4)
    w, h = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT]
    # The line may be up to two cells less high than the cells that it touches.
    fits = (w >= MIN_WIDTH_CELLS) & (h <= MAX_LINE_CELLS) & (w >= MIN_WIDTH_TO_HEIGHT * (h - 2))
    boxes = stats[1:][fits]
    largest = np.argsort(-boxes[:, cv2.CC_STAT_AREA], kind="stable")[:MAX_LINES]
    return boxes[largest, :4].tolist()


def _line_rows(ink: U8, strokes: U8, strong: U8, x: int, y: int, w: int, h: int) -> tuple[int, int] | None:
    """The half-open range of pixel rows of the line in a box of cells, None where it is not like text."""
    left, right, upper = x * CELL_PX, (x + w) * CELL_PX, y * CELL_PX
    within = strong[upper : (y + h) * CELL_PX, left:right]
    least_starts = MIN_STROKES_PER_HEIGHT * (right - left)
    if np.count_nonzero(within[:, 1:] > within[:, :-1]) < least_starts:
        return None
    shares = within.mean(axis=1)
    rows = np.flatnonzero(shares > EDGE_OF_LINE * shares.max())
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    line_px = bottom - top
    if line_px < MIN_LINE_PX or right - left < MIN_WIDTH_TO_HEIGHT * line_px:
        return None
    line = within[top:bottom]
    across, down = np.count_nonzero(line[:, 1:] > line[:, :-1]), np.count_nonzero(line[1:] > line[:-1])
    if across < max(least_starts, MIN_ACROSS_TO_DOWN * down):
        return None
    band = max(2, line_px // 3)
    top, bottom = upper + top, upper + bottom
    for beside in (strong[max(0, top - band) : top, left:right], strong[bottom : bottom + band, left:right]):
        if not beside.size or beside.mean() > MAX_QUIET_RATIO * line.mean():
            return None
    peaks = strokes[top:bottom, left:right].max(axis=0)
    is_stroke = peaks > MIN_STROKE_LEVELS
    contrast = float(np.median(peaks[is_stroke]))
    if contrast < MIN_PEAK_LEVELS:
        return None
    levels = cv2.bitwise_and(ink[top:bottom, left:right], strong[top:bottom, left:right]).max(axis=0)
    low, high = np.percentile((peaks[is_stroke], levels[is_stroke]), (25, 75), axis=1)
    return (top, bottom) if (high - low).min() <= MAX_INK_SPREAD * contrast else None
