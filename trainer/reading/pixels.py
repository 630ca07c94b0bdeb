"""A clip's pixels at the size it is trained at: the active picture, upright, resized; cropped for a comparison only.

T frames, H rows, W columns
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from torch import Tensor

from curation.geometry import Box, normal_rotation
from curation.reader import DamagedClip, ReadableFile, active_box, read_clip_frames, upright_rgb
from trainer.geometry import Geometry

__all__ = ["PIXEL_COLUMNS", "clip_pixels", "shown_box"]

ACTIVE_BOX = ("active_x_px", "active_y_px", "active_width_px", "active_height_px")
PIXEL_COLUMNS = ("clip_id", "frames", "width", "height", "video_start_pts", "video_end_pts", *ACTIVE_BOX)
"""What `clip_pixels` has to know of a clip."""


def shown_box(row: Mapping[str, Any]) -> Box:
    """What a viewer sees of a clip: its active picture, in display pixels."""
    return active_box(row) or Box(0, 0, row["width"], row["height"])


def clip_pixels(
    row: Mapping[str, Any], video: ReadableFile, geometry: Geometry, *, square_crop: bool = False
) -> Tensor:
    """uint8[3, T, H, W]: the first frames of a clip, resized to its geometry.

    `row` has `PIXEL_COLUMNS`; of `video`, its blob as a file object, no more is read than these frames need. Raises
    DamagedClip where it holds fewer, and what `video` raises.
    """
    box = _middle_square(shown_box(row)) if square_crop else shown_box(row)
    scale_x, scale_y = geometry.width / box.width, geometry.height / box.height
    width, height = (max(1, round(side)) for side in (row["width"] * scale_x, row["height"] * scale_y))
    width, height = max(width, geometry.width), max(height, geometry.height)  # rounding may not cost a pixel
    left, top = (
        min(round(box.x * scale_x), width - geometry.width),
        min(round(box.y * scale_y), height - geometry.height),
    )
    part = Box(left, top, geometry.width, geometry.height)
    pictures = np.empty((geometry.frames, geometry.height, geometry.width, 3), np.uint8)
    count = 0
    with closing(read_clip_frames(row, video)) as frames:  # pyright: ignore[reportArgumentType]
        for frame in islice(frames, geometry.frames):
            try:
                pictures[count] = _small_rgb(frame, width, height, part)
            except (ValueError, MemoryError) as error:  # FFmpeg's refusals of what damage claims: sizes, formats
                raise DamagedClip(f"a frame cannot be converted ({error})") from error
            count += 1
    if count < geometry.frames:
        raise DamagedClip(f"{count} frames in the clip's bytes, {geometry.frames} are needed")
    return torch.from_numpy(pictures).permute(3, 0, 1, 2).contiguous()


def _small_rgb(frame: VideoFrame, width: int, height: int, part: Box) -> NDArray[np.uint8]:
    """As `upright_rgb`, with all the colour that there is: where it converts and scales at once, swscale makes two
    pixels beside each other share theirs."""
    if frame.format.is_rgb or frame.format.chroma_width(2) == 2:
        return upright_rgb(frame, width=width, height=height, box=part)
    rotation, levels = normal_rotation(frame.rotation), int(frame.color_range)
    sides = (height, width) if rotation in (90, 270) else (width, height)
    small = frame.reformat(*sides, format="yuv444p", src_color_range=levels, dst_color_range=levels)
    rgb = small.to_ndarray(format="rgb24", src_color_range=levels)
    upright = np.rot90(rgb, rotation // 90)
    return upright[part.y : part.y + part.height, part.x : part.x + part.width].astype(np.uint8, copy=False)


def _middle_square(box: Box) -> Box:
    side = min(box.width, box.height)
    return Box(box.x + (box.width - side) // 2, box.y + (box.height - side) // 2, side, side)
