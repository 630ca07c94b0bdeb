"""Text and overlays: what lies on the picture rather than in it, as logos, subtitles, tickers, timecodes do.

An overlay shows in that it stays in place while the rest changes. Where the camera stands still that is no sign, and
the scores that rest on it are null. Text is told from its looks (`text.py`), so scene text counts as well.
"""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.geometry import Box
from curation.measured import Measured, Score, within

__all__ = ["OVERLAY_SCORES"]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

MIN_PICTURES, MAX_PICTURES = 5, 12  # looked at
# Edges of the averaged pictures, as gradients in levels a pixel, from `EDGE_LEVELS` on. One stays where in nine samples
# of ten the gradient goes at least half as far in the mean direction as on the mean. That the median gradient over time
# is the overlay's is how Dekel et al., "On the effectiveness of visible watermarks" (2017), find watermarks.
EDGE_LEVELS, STAYS_SHARE, STAYS_SAMPLES = 8.0, 0.5, 0.9
# The picture stands still unless nearly all edges go elsewhere in so many of the blocks that have any, and so many of
# the pixels change by more than noise does: a smooth picture may have few edges but an overlay's, a dark one few pixels
# that change.
BLOCK_PX, MIN_EDGE_SHARE, MAX_STAYING_EDGES = 20, 0.03, 0.1
NOISE_LEVELS, ENOUGH_MOTION = 16, ((0.85, 0.3), (0.5, 0.85))
# What stays is joined over gaps of letters and strokes, and counts from so many edge pixels on; the box around it
# counts where so much of it keeps its level.
JOIN_PX, MIN_EDGE_PX, MIN_STILL_BOX_SHARE = 9, 16, 0.7
# A band of subtitles: text in its rows in this share of the samples, over this share of the width, from a fixed height
# to the frame's edge and in at most this share of its height; and at most this share of that text's amount elsewhere.
BAND_SAMPLES, BAND_WIDTH, MAX_BAND_SHARE, MAX_TEXT_ELSEWHERE = 0.25, 0.08, 0.3, 0.5


def overlay_share(clip: Measured) -> float | None:
    """Share of the active picture covered by what stays in place while the rest changes, 0 to 1.

    Logos, captions, tickers' frames, watermarks of some contrast. Null with fewer than five samples, and where the
    picture stands still apart from moving objects.
    """
    lumas = [luma for luma, _, _ in clip.active_pictures]
    lumas = lumas[:: max(1, -(-len(lumas) // MAX_PICTURES))]
    if len(lumas) < MIN_PICTURES or min(lumas[0].shape) < 2 * BLOCK_PX:
        return None
    spread = np.maximum.reduce(lumas) - np.minimum.reduce(lumas)
    staying, moving_blocks = _staying_edges(lumas)
    changing = float((spread > NOISE_LEVELS).mean())
    if not any(moving_blocks >= blocks and changing >= pixels for blocks, pixels in ENOUGH_MOTION):
        return None
    return float(_regions(staying, spread <= NOISE_LEVELS).mean())


def _staying_edges(lumas: list[U8]) -> tuple[U8, float]:
    """Where edges stay in place, 1 or 0; and of the blocks with edges, the share where most of them do not stay."""
    gradients = [_gradient(luma) for luma in lumas]
    mean_x, mean_y = (np.asarray(sum(g[i] for g in gradients), np.float32) / len(lumas) for i in (0, 1))
    length = np.asarray(cv2.magnitude(mean_x, mean_y), np.float32)
    needed = STAYS_SHARE * length * length
    agreeing, edges = np.zeros(length.shape, np.uint8), np.zeros(length.shape, np.float32)
    for x, y in gradients:
        agreeing += x * mean_x + y * mean_y >= needed
        edges += x * x + y * y > EDGE_LEVELS**2
    staying = ((length > EDGE_LEVELS) & (agreeing >= STAYS_SAMPLES * len(lumas))).astype(np.uint8)
    size = (staying.shape[1] // BLOCK_PX, staying.shape[0] // BLOCK_PX)
    in_block, stays_in_block = (
        np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
        for plane in (edges / len(lumas), staying.astype(np.float32))
    )
    with_edges = in_block > MIN_EDGE_SHARE
    moving = with_edges & (stays_in_block < MAX_STAYING_EDGES * in_block)
    staying[:2], staying[-2:], staying[:, :2], staying[:, -2:] = 0, 0, 0, 0  # the picture's own edge stays as well
    return staying, np.count_nonzero(moving) / max(1, np.count_nonzero(with_edges))


def _gradient(luma: U8) -> tuple[F32, F32]:
    x, y = (cv2.Sobel(luma, cv2.CV_32F, *order, scale=1 / 4) for order in ((1, 0), (0, 1)))
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _regions(staying: U8, is_still: Bools) -> U8:
    """What the staying edges cover, 1 or 0."""
    kernel = np.ones((JOIN_PX, JOIN_PX), np.uint8)
    joined = np.asarray(cv2.morphologyEx(staying, cv2.MORPH_CLOSE, kernel), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    covered = np.zeros(staying.shape, np.uint8)
    for index in range(1, count):
        x, y, w, h, _ = stats[index].tolist()
        box = slice(y, y + h), slice(x, x + w)
        is_this = labels[box] == index
        if np.count_nonzero(staying[box] & is_this) < MIN_EDGE_PX:
            continue
        if is_still[box].mean() >= MIN_STILL_BOX_SHARE:
            covered[box] = 1
        else:
            covered[box] |= is_this
    return covered


def text_share(clip: Measured) -> float | None:
    """Share of the active picture that looks like lines of text, 0 to 1: burnt in or in the scene, the samples' mean.

    Capitals from a 25th of a wide picture's height on, of high contrast, in horizontal lines; looked for every two to
    three seconds and where the picture has changed. Null where no sample was looked at.
    """
    texts = _texts(clip)
    if not texts:
        return None
    size = clip.geometry.coded_width, clip.geometry.coded_height
    box = clip.borders.box if clip.borders else Box(0, 0, *size)
    return float(np.mean([within(text, box, size).mean() for text in texts]))


def _texts(clip: Measured) -> list[Bools]:
    texts = (s.look.text for s in clip.samples if s.look is not None)
    return [text for text in texts if text is not None]


def caption_band_share(clip: Measured) -> float | None:
    """Share of the height that a fixed band of captions takes above the lower edge, and below the upper one, 0 to 1.

    A bar with text on a flat colour (which the active box leaves out), or a band where lines of text come again and
    again at one height, with little text elsewhere: subtitles, a ticker. Null where such text is in a picture that
    stands still, which may be the scene's own, and where there is no sample.
    """
    texts = _texts(clip)
    if not texts:
        return None
    bars = clip.borders.caption_px if clip.borders else (0, 0)
    turned = [np.rot90(text, clip.geometry.rotation // 90) for text in texts]
    along = clip.geometry.coded_width if clip.geometry.is_turned else clip.geometry.coded_height
    if any(bars):
        return sum(bars) / along
    band = _band_share(np.stack(turned))
    return None if band and overlay_share(clip) is None else band


def _band_share(texts: Bools) -> float:
    """Of upright cells, shape (samples, rows, columns)."""
    rows = texts.shape[1]
    has_line = texts.mean(axis=2) >= BAND_WIDTH
    often = has_line.mean(axis=0) >= BAND_SAMPLES
    most = int(MAX_BAND_SHARE * rows)
    amount = has_line.sum(axis=0)
    bands = []
    for is_often, amounts in ((often, amount), (often[::-1], amount[::-1])):
        within_band = np.flatnonzero(is_often[:most])
        if within_band.size and amounts[most:-most].sum() <= MAX_TEXT_ELSEWHERE * amounts[:most].sum():
            bands.append((int(within_band[-1]) + 1) / rows)
    return sum(bands)


OVERLAY_SCORES: tuple[Score, ...] = (
    Score("text_share", pa.float64(), "share of the active picture that looks like text, 0 to 1", text_share),
    Score("overlay_share", pa.float64(), "share that stays in place while the rest changes, 0 to 1", overlay_share),
    Score("caption_band_share", pa.float64(), "share of the height with captions, 0 to 1", caption_band_share),
)
