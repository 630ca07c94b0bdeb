"""From a decoded frame to small 8-bit pictures, without converting the whole frame.

Shapes: H, W are the coded picture's; h, w the small picture's. Levels are full range, 0 black to 255 white, whatever
the source's range and bit depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

__all__ = ["Planes", "area_picture", "bgr_of", "planes_of", "sampled_picture"]

U8 = NDArray[np.uint8]
Picture = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

SAMPLED_SIDE = 160
AREA_SIDE = 320
FULL_RANGE = 2  # AVCOL_RANGE_JPEG

# Planar formats whose three planes are used as they are: name → (bits, log2 chroma shift across, down, full range).
PLANAR = {
    f"{family}{chroma}p{suffix}": (bits, *shift, family == "yuvj")
    for family in ("yuv", "yuvj", "yuva")
    for chroma, shift in (("420", (1, 1)), ("422", (1, 0)), ("444", (0, 0)), ("411", (2, 0)), ("440", (0, 1)))
    for bits, suffix in ((8, ""), (9, "9le"), (10, "10le"), (12, "12le"), (14, "14le"), (16, "16le"))
}


@dataclass(frozen=True, slots=True)
class Planes:
    """Luma and two chroma planes of a frame as views of its memory, uint8 or uint16, with what is needed to read them."""

    luma: NDArray
    blue: NDArray
    red: NDArray
    bits: int
    chroma_shift_across: int
    chroma_shift_down: int
    is_full_range: bool


def planes_of(frame: VideoFrame) -> Planes:
    """The planes of a frame, without a copy for planar YUV; other formats (RGB, NV12, palettes) go through swscale."""
    layout = PLANAR.get(frame.format.name)
    if layout is None:
        frame = frame.reformat(format="yuv444p" if frame.format.is_rgb else "yuv420p")
        layout = PLANAR[frame.format.name]
    bits, across, down, is_full_range = layout
    luma, blue, red = (_view(plane, bits) for plane in frame.planes[:3])
    return Planes(luma, blue, red, bits, across, down, is_full_range or frame.color_range == FULL_RANGE)


def _view(plane, bits: int) -> NDArray:
    width_bytes = plane.line_size
    rows = np.frombuffer(plane, np.uint8).reshape(-1, width_bytes)[: plane.height]
    return rows[:, : plane.width] if bits == 8 else rows.view(np.uint16)[:, : plane.width]


@cache
def _luma_levels(is_full_range: bool) -> U8:
    levels = np.arange(256.0)
    return levels.astype(np.uint8) if is_full_range else np.clip((levels - 16) * 255 / 219, 0, 255).astype(np.uint8)


@cache
def _chroma_levels(is_full_range: bool) -> U8:
    levels = np.arange(256.0)
    scaled = levels if is_full_range else np.clip((levels - 128) * 255 / 224 + 128, 0, 255)
    return scaled.astype(np.uint8)


def _to_levels(plane: NDArray, bits: int, levels: U8) -> U8:
    eight_bits = plane if bits == 8 else (plane >> (bits - 8)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(eight_bits), levels)  # type: ignore[return-value]


def sampling_step(width: int, height: int, chroma_shift: int) -> int:
    """Every how many pixels one is taken, so that the longer side comes near SAMPLED_SIDE and chroma lines up."""
    unit = 1 << chroma_shift
    return unit * max(1, round(max(width, height) / (SAMPLED_SIDE * unit)))


def sampled_picture(planes: Planes) -> Picture:
    """Every k-th pixel of each plane, (h, w) each: reads a 64th of a 720p frame. For statistics and cut detectors."""
    height, width = planes.luma.shape
    step = sampling_step(width, height, max(planes.chroma_shift_across, planes.chroma_shift_down))
    across, down = step >> planes.chroma_shift_across, step >> planes.chroma_shift_down
    luma = planes.luma[step // 2 :: step, step // 2 :: step]
    h, w = luma.shape
    blue = planes.blue[down // 2 :: down, across // 2 :: across][:h, :w]
    red = planes.red[down // 2 :: down, across // 2 :: across][:h, :w]
    return _levelled(planes, luma, blue, red)


def area_picture(planes: Planes) -> Picture:
    """Area-averaged planes, the longer luma side at most AREA_SIDE, free of aliasing. For optical flow and thumbnails."""
    height, width = planes.luma.shape
    scale = min(1.0, AREA_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    chroma_size = (max(1, size[0] // 2), max(1, size[1] // 2))
    luma = cv2.resize(planes.luma, size, interpolation=cv2.INTER_AREA)
    blue, red = (cv2.resize(plane, chroma_size, interpolation=cv2.INTER_AREA) for plane in (planes.blue, planes.red))
    return _levelled(planes, luma, blue, red)


def _levelled(planes: Planes, luma: NDArray, blue: NDArray, red: NDArray) -> Picture:
    chroma_levels = _chroma_levels(planes.is_full_range)
    return (
        _to_levels(luma, planes.bits, _luma_levels(planes.is_full_range)),
        _to_levels(blue, planes.bits, chroma_levels),
        _to_levels(red, planes.bits, chroma_levels),
    )


def bgr_of(picture: Picture) -> U8:
    """A picture as BGR, (h, w, 3), by the BT.601 matrix: enough for cut detectors and thumbnails."""
    luma, blue, red = picture
    h, w = luma.shape
    if blue.shape != luma.shape:
        blue, red = (cv2.resize(plane, (w, h), interpolation=cv2.INTER_LINEAR) for plane in (blue, red))
    return cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2BGR)  # type: ignore[return-value]
