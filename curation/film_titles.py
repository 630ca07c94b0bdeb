"""What is laid over procedural footage with known truth: text, logos and borders. Pictures are RGB, (h, w, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.film_encode import Picture

__all__ = ["Title", "bordered", "logo_mask", "stamped", "titled"]

HERSHEY_CAP_PX = 21.0  # height of a capital letter of FONT_HERSHEY_SIMPLEX at scale 1
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Title:
    """A line of text: its middle as shares of the picture's sides, the height of its capitals as a share of the height.

    `outline_px` of the other tone is drawn around the strokes, as subtitles have it. `font` is an index of `FONTS`.
    """

    text: str
    middle: tuple[float, float] = (0.5, 0.9)
    cap_share: float = 0.045
    ink: Color = (255, 255, 255)
    outline_px: int = 1
    font: int = 1


def titled(picture: Picture, title: Title) -> tuple[Picture, NDArray[np.bool_]]:
    """The picture with the line on it, and where its box from baseline to capitals is."""
    height, width = picture.shape[:2]
    cap = title.cap_share * height
    scale, stroke = cap / HERSHEY_CAP_PX, max(1, round(cap / 8))
    font = FONTS[title.font]
    (w, h), _ = cv2.getTextSize(title.text, font, scale, stroke)
    x, y = round(title.middle[0] * width - w / 2), round(title.middle[1] * height + h / 2)
    drawn = np.ascontiguousarray(picture).copy()
    outline = (0, 0, 0) if sum(title.ink) > 3 * 127 else (255, 255, 255)
    if title.outline_px:
        cv2.putText(drawn, title.text, (x, y), font, scale, outline, stroke + 2 * title.outline_px, cv2.LINE_AA)
    cv2.putText(drawn, title.text, (x, y), font, scale, title.ink, stroke, cv2.LINE_AA)
    covered = np.zeros((height, width), bool)
    covered[max(0, y - h) : max(0, y), max(0, x) : max(0, x + w)] = True
    return drawn, covered


def logo_mask(width: int, height: int, seed: int, *, side_share: float = 0.12) -> NDArray[np.float32]:
    """How much of a logo covers each pixel, 0 to 1: a ring around a shape, in a corner that the seed chooses."""
    side = max(8, round(side_share * height))
    mask = np.zeros((height, width), np.float32)
    x = side if seed % 2 else width - side
    y = side if seed // 2 % 2 else height - side
    cv2.circle(mask, (x, y), side // 2, 1.0, max(2, side // 8), cv2.LINE_AA)
    corners = cv2.ellipse2Poly((x, y), (side // 4, side // 4), 30 * seed, 0, 360, 360 // (3 + seed % 4))
    cv2.fillPoly(mask, [np.array(corners)], 1.0, cv2.LINE_AA)
    return mask


def stamped(picture: Picture, mask: NDArray[np.float32], ink: Color, opacity: float = 1.0) -> Picture:
    """The picture with the ink laid over it where the mask is, at some opacity."""
    share = (opacity * mask)[..., None]
    return np.rint(picture * (1 - share) + np.array(ink, np.float32) * share).astype(np.uint8)


def bordered(picture: Picture, rows: tuple[int, int], columns: tuple[int, int], color: Color) -> Picture:
    """The picture within so many rows of a colour above and below, and so many columns left and right."""
    return np.asarray(cv2.copyMakeBorder(picture, *rows, *columns, cv2.BORDER_CONSTANT, value=color), np.uint8)
