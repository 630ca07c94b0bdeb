"""From coded pixels to what a viewer sees: pixel aspect applied, then rotation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Geometry", "normal_rotation"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: its left upper corner and its size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Coded picture size, pixel aspect (width over height of a pixel) and the turn that makes the picture upright.

    `rotation` is counter-clockwise in degrees, one of 0, 90, 180, 270: what FFmpeg reports for a display matrix.
    """

    coded_width: int
    coded_height: int
    pixel_aspect: Fraction
    rotation: int

    @property
    def is_turned(self) -> bool:
        return self.rotation in (90, 270)

    @property
    def square_width(self) -> int:
        """Width with square pixels, before turning; the height stays as coded."""
        return max(1, round(self.coded_width * self.pixel_aspect))

    @property
    def width(self) -> int:
        return self.coded_height if self.is_turned else self.square_width

    @property
    def height(self) -> int:
        return self.square_width if self.is_turned else self.coded_height

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A (h, w, 3) picture of the coded frame, at any scale, as a viewer sees it."""
        height, width = picture.shape[:2]
        squared_width = max(1, round(width * self.pixel_aspect))
        if squared_width != width:
            picture = cv2.resize(picture, (squared_width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
        return cv2.rotate(picture, turns[self.rotation]) if self.rotation else picture  # type: ignore[return-value]

    def display_box(self, box: Box) -> Box:
        """A box of coded pixels in display pixels, at least one wide and high."""
        left = min(round(box.x * self.pixel_aspect), self.square_width - 1)
        right = min(max(round((box.x + box.width) * self.pixel_aspect), left + 1), self.square_width)
        top, bottom = box.y, box.y + box.height
        if self.rotation == 90:
            left, right, top, bottom = top, bottom, self.square_width - right, self.square_width - left
        elif self.rotation == 180:
            left, right = self.square_width - right, self.square_width - left
            top, bottom = self.coded_height - bottom, self.coded_height - top
        elif self.rotation == 270:
            left, right, top, bottom = self.coded_height - bottom, self.coded_height - top, left, right
        return Box(left, top, right - left, bottom - top)


def normal_rotation(degrees: float) -> int:
    """Any display rotation as one of 0, 90, 180, 270: pictures are only ever shown upright."""
    return round(degrees / 90) % 4 * 90
