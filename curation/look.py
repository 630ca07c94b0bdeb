"""What a closer look keeps of a picture besides the picture: darkest levels for borders, and where text may be."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.planes import Planes, area_luma
from curation.text import TEXT_SIDE, text_cells

__all__ = ["PictureLook", "PictureLooker"]

U8 = NDArray[np.uint8]


# Text stays for seconds, so it is looked for in every so many samples, and where the picture is another one: where its
# blocks have changed by so many levels on average.
TEXT_EVERY, NEW_PICTURE_LEVELS = 5, 32.0


@dataclass(frozen=True, slots=True)
class PictureLook:
    """`row_min`, `column_min`: darkest level of each coded row and column, 8-bit full range. `packed_text`: cells that
    look like text, as bits, with `text_shape` rows and columns that cover the coded picture; None where nobody looked.
    """

    row_min: U8
    column_min: U8
    packed_text: U8 | None = None
    text_shape: tuple[int, int] = (0, 0)

    @property
    def text(self) -> NDArray[np.bool_] | None:
        if self.packed_text is None:
            return None
        rows, columns = self.text_shape
        return np.unpackbits(self.packed_text, count=rows * columns).reshape(rows, columns).astype(bool)


class PictureLooker:
    """Feed the planes of each sample and the means of its blocks, in order."""

    def __init__(self) -> None:
        self._since_text = 0
        self._blocks: NDArray[np.float32] | None = None

    def feed(self, planes: Planes, blocks: NDArray[np.float32], rotation: int) -> PictureLook:
        """`rotation`: counter-clockwise degrees, a multiple of 90, by which the picture is turned to be upright:
        text is looked for as a viewer sees it."""
        row_min = planes.luma_levels(planes.luma.min(axis=1, keepdims=True)).ravel()
        column_min = planes.luma_levels(planes.luma.min(axis=0, keepdims=True)).ravel()
        self._since_text += 1
        if self._since_text < TEXT_EVERY and not self._is_new(blocks):
            return PictureLook(row_min, column_min)
        self._since_text, self._blocks = 0, blocks
        cells = upright_text(planes, rotation)
        return PictureLook(row_min, column_min, np.packbits(cells), cells.shape)

    def _is_new(self, blocks: NDArray[np.float32]) -> bool:
        if self._blocks is None or self._blocks.shape != blocks.shape:
            return True
        return cv2.norm(self._blocks, blocks, cv2.NORM_L1) > NEW_PICTURE_LEVELS * blocks.size


def upright_text(planes: Planes, rotation: int) -> U8:
    """The cells of the coded picture that look like text to a viewer."""
    turns = rotation // 90
    luma = area_luma(planes, TEXT_SIDE)
    return np.rot90(text_cells(np.ascontiguousarray(np.rot90(luma, turns))), -turns)
