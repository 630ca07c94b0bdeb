"""Colours of a clip: contrast, saturation, colourfulness, and its dominant colours by name, inside the active picture.

Contrast comes from the averaged luma of the samples, the rest from pictures a quarter of its size, as BGR by the BT.601
matrix: an error of a few levels for material in BT.709, and HDR is taken as it is coded.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.measured import Measured, Score
from curation.planes import bgr_of

__all__ = ["COLOR_SCORES", "color_name", "share_by_name"]

U8 = NDArray[np.uint8]

LOW_SHARE, HIGH_SHARE = 0.05, 0.95
MIN_COLOR_SHARE = 0.1
NAME_BITS = 5  # of each channel: a table of 2 ** 15 colours

D65_WHITE = np.array([[0.9504559], [1.0], [1.0890578]])
SRGB_TO_XYZ = np.array(
    [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
)

# sRGB of typical colours of each name: the eleven basic terms of Berlin and Kay (1969) and cyan, each at some tones.
NAMED: dict[str, tuple[int, ...]] = {
    "black": (0x000000, 0x1C1C1C),
    "gray": (0x404040, 0x606060, 0x808080, 0xA0A0A0, 0xC0C0C0, 0xD0D0D0, 0x59626B, 0x8C96A0, 0x96908A),
    "white": (0xFFFFFF, 0xE6E6E6),
    "red": (0xFF0000, 0xCC1A1A, 0xA01010, 0x6E0A0A, 0xE0403A, 0xB03040),
    "orange": (0xFF8000, 0xFF5A14, 0xFFA500, 0xE07820, 0xF0A050, 0xF0C090),
    "yellow": (0xFFFF00, 0xFFD700, 0xE6C832, 0xFFF08C, 0xC8B432),
    "green": (0x00FF00, 0x00A000, 0x006400, 0x50B450, 0x90DC78, 0x556B2F, 0x2E5A3C, 0x9ACD32, 0x78966E, 0x8C9632),
    "cyan": (0x00FFFF, 0x00C8C8, 0x008B8B, 0x40D0D0, 0xA0F0F0, 0x1E6E78),
    "blue": (
        *(0x0000FF, 0x0000A0, 0x000064, 0x1428A0, 0x3264C8, 0x1E90FF, 0x64A0E6, 0xA0C8F0, 0xB0D4E8),
        *(0x4A6FA0, 0x6E8CB4, 0x1E3250),
    ),
    "purple": (0x800080, 0x6A0DAD, 0xA050C8, 0xC8A0E6, 0x4B0082, 0x7850A0, 0x9370DB, 0x3C1E50),
    "pink": (0xFF69B4, 0xFFC0CB, 0xFF1493, 0xE6A0B4, 0xFF80A0, 0xF000A0, 0xFF00FF),
    "brown": (0x8B4513, 0x5A2D0C, 0xA0522D, 0x7B5A3C, 0xA88660, 0x3C2314, 0xC8A078),
}


def contrast_levels(clip: Measured) -> float | None:
    """From the 5th to the 95th percentile of luma, 0 to 255, as the samples' median.

    A range of percentiles, because the standard deviation is there already (`luma_spread_levels`), and because a lamp
    in a dark room, or a thin border that was missed, moves it little.
    """
    ranges = []
    for luma, _, _ in clip.active_pictures:
        below = np.bincount(luma[::2, ::2].ravel(), minlength=256).cumsum()
        low, high = np.searchsorted(below, (LOW_SHARE * below[-1], HIGH_SHARE * below[-1]))
        ranges.append(high - low)
    return float(np.median(ranges)) if ranges else None


def saturation_share(clip: Measured) -> float | None:
    """Saturation as in HSV, 0 for gray to 1, each pixel weighing as much as it is bright; the samples' mean.

    Unweighted, the noise of dark pixels would count as colour.
    """
    shares = []
    for bgr in clip.active_bgr:
        blue, green, red = cv2.split(bgr)
        most = cv2.max(cv2.max(blue, green), red)
        least = cv2.min(cv2.min(blue, green), red)
        total = cv2.sumElems(most)[0]
        shares.append(1 - cv2.sumElems(least)[0] / total if total else 0.0)
    return float(np.mean(shares)) if shares else None


def colorfulness(clip: Measured) -> float | None:
    """0 for gray, about 15 slightly, 45 averagely, 82 highly colourful, 109 extremely; the samples' mean.

    Hasler and Süsstrunk, "Measuring colourfulness in natural images" (2003), equation 3 and table 2.
    """
    values = [_colorfulness(bgr) for bgr in clip.active_bgr]
    return float(np.mean(values)) if values else None


def _colorfulness(bgr: U8) -> float:
    blue, green, red = cv2.split(bgr.astype(np.float32))
    (rg_mean, rg_spread), (yb_mean, yb_spread) = (
        (float(mean[0, 0]), float(spread[0, 0]))
        for mean, spread in (cv2.meanStdDev(red - green), cv2.meanStdDev((red + green) / 2 - blue))
    )
    return float(np.hypot(rg_spread, yb_spread) + 0.3 * np.hypot(rg_mean, yb_mean))


def dominant_colors(clip: Measured) -> list[str] | None:
    """Names of the colours that cover a tenth of the active picture or more, over all samples, the most first.

    Each pixel has the name of the nearest of some typical colours in CIELAB.
    """
    pictures = clip.active_bgr
    if not pictures:
        return None
    shares = share_by_name(np.concatenate([bgr.reshape(-1, 3) for bgr in pictures]))
    return [name for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= MIN_COLOR_SHARE]


def border_color(clip: Measured) -> str | None:
    borders = clip.borders
    if borders is None or borders.color is None:
        return None
    luma, blue, red = (np.full((1, 1), level, np.uint8) for level in borders.color)
    return color_name(bgr_of((luma, blue, red))[0, 0])


def share_by_name(bgr: U8) -> dict[str, float]:
    """How much of some pixels, shape (n, 3), each name covers."""
    coarse = bgr >> (8 - NAME_BITS)
    index = (coarse[:, 0].astype(np.intp) << 2 * NAME_BITS) | (coarse[:, 1].astype(np.intp) << NAME_BITS) | coarse[:, 2]
    counts = np.bincount(_name_table()[index], minlength=len(NAMED))
    return {name: float(count) / len(bgr) for name, count in zip(NAMED, counts, strict=True)}


def color_name(bgr: U8) -> str:
    """The name of one colour, shape (3,)."""
    shares = share_by_name(bgr.reshape(1, 3))
    return max(shares, key=lambda name: shares[name])


@cache
def _name_table() -> NDArray[np.uint8]:
    """The index in NAMED of each colour's name, by its upper bits as blue, green, red."""
    steps = 1 << NAME_BITS
    tone = np.rint((np.arange(steps) + 0.5) * 256 / steps - 0.5)
    every = np.stack(np.meshgrid(tone, tone, tone, indexing="ij"), axis=-1).reshape(-1, 3)
    typical = [(index, rgb) for index, tones in enumerate(NAMED.values()) for rgb in tones]
    prototypes = np.array([(rgb & 255, rgb >> 8 & 255, rgb >> 16) for _, rgb in typical])
    lab, lab_of_typical = (_lab(colors) for colors in (every, prototypes))
    # |a - b|² without |a|², which is the same for all b
    distances = (lab_of_typical**2).sum(axis=1) - 2 * lab @ lab_of_typical.T
    return np.array([name for name, _ in typical], np.uint8)[distances.argmin(axis=1)]


def _lab(bgr: NDArray) -> NDArray[np.float32]:
    """CIELAB of sRGB colours under D65, shape (n, 3): https://www.w3.org/TR/css-color-4/#color-conversion-code

    OpenCV's own builds tables for whole pictures first, which takes longer than all that a clip's colours cost.
    """
    share = bgr[:, ::-1].astype(np.float32) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (SRGB_TO_XYZ / D65_WHITE).T.astype(np.float32)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1).astype(np.float32)


COLOR_SCORES: tuple[Score, ...] = (
    Score("contrast_levels", pa.float64(), "5th to 95th percentile of brightness, 0 to 255", contrast_levels),
    Score("saturation_share", pa.float64(), "saturation (HSV) weighted by brightness, 0 to 1", saturation_share),
    Score("colorfulness", pa.float64(), "colourfulness by Hasler and Süsstrunk, from 0, 82 is high", colorfulness),
    Score("dominant_colors", pa.list_(pa.string()), "colours that cover a tenth or more, most first", dominant_colors),
    Score("border_color", pa.string(), "colour of the border, null where there is none", border_color),
)
