"""What scores are made of: what was measured over one clip, and what a score is. The scores are in `scores.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.borders import Borders, borders_of
from curation.camera import CameraStep
from curation.camera_label import Camera, camera_of
from curation.geometry import Box, Geometry
from curation.measure import FrameMeasure, Sample
from curation.planes import Picture, bgr_of

__all__ = ["Measured", "Score", "ScoreValue", "within"]


@dataclass(frozen=True)
class Measured:
    """What was measured over the frames of one clip: what scores are computed from."""

    frames: Sequence[FrameMeasure]
    samples: Sequence[Sample]
    end_index: int
    time_base: Fraction
    geometry: Geometry

    @cached_property
    def borders(self) -> Borders | None:
        """None where the clip is as dark as a border all over."""
        return borders_of(self.samples, is_turned=self.geometry.is_turned)

    @cached_property
    def active_box(self) -> Box | None:
        """The picture inside borders and bars with captions, in display pixels. None where there is no telling."""
        return None if self.borders is None else self.geometry.display_box(self.borders.box)

    @cached_property
    def camera_steps(self) -> list[CameraStep]:
        """The camera's steps both of whose frames lie in the clip."""
        first = self.samples[0].index if self.samples else 0
        steps = (step for sample in self.samples for step in sample.camera)
        return [s for s in steps if s.from_index >= first and s.to_index < self.end_index and s.ticks > 0]

    @cached_property
    def camera(self) -> Camera | None:
        """What the camera does, None where nothing can be said."""
        return camera_of(self.camera_steps, self.time_base, self.geometry.rotation)

    @cached_property
    def active_pictures(self) -> list[Picture]:
        """The samples' pictures that are still there, cropped to the active picture; whole where there is no box."""
        size = self.geometry.coded_width, self.geometry.coded_height
        box = Box(0, 0, *size) if self.borders is None else self.borders.box
        pictures = [s.picture for s in self.samples if s.picture is not None]
        return [tuple(within(plane, box, size) for plane in picture) for picture in pictures]  # type: ignore[misc]

    @cached_property
    def active_bgr(self) -> list[NDArray[np.uint8]]:
        """The same as BGR, (h, w, 3), averaged to half the size of their chroma: enough for statistics of colours."""
        return [_small_bgr(picture) for picture in self.active_pictures]


def _small_bgr(picture: Picture) -> NDArray[np.uint8]:
    height, width = picture[1].shape
    size = (max(1, width // 2), max(1, height // 2))
    luma, blue, red = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in picture)
    return bgr_of((luma, blue, red))  # type: ignore[arg-type]


def within(plane: NDArray, box: Box, coded_size: tuple[int, int]) -> NDArray:
    """The part of a plane of any scale that lies in a box of coded pixels, all of its pixels whole; at least one."""
    ranges = []
    for start, length, coded, pixels in (
        (box.y, box.height, coded_size[1], plane.shape[0]),
        (box.x, box.width, coded_size[0], plane.shape[1]),
    ):
        first = min(-(-start * pixels // coded), pixels - 1)
        ranges.append(slice(first, max((start + length) * pixels // coded, first + 1)))
    return plane[tuple(ranges)]


ScoreValue = float | int | bool | str | list[str] | None


@dataclass(frozen=True, slots=True)
class Score:
    """A column of the clips table: its name with its unit, its type, what it says, and how it is computed."""

    column: str
    type: pa.DataType
    says: str
    of: Callable[[Measured], ScoreValue]
