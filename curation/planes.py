"""From a decoded frame to small 8-bit pictures, without converting the whole frame.

Shapes: H, W are the coded picture's; h, w the small picture's. Levels are full range, 0 black to 255 white, whatever
the source's range and bit depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from curation.records import BadSource, SourceState

__all__ = ["Picture", "Planes", "area_luma", "area_picture", "bgr_of", "planes_of", "sampled_picture"]

U8 = NDArray[np.uint8]
Picture = tuple[U8, U8, U8]
"""Luma, blue and red difference, each (h, w) or smaller, full range."""

SAMPLED_SIDE = 160
AREA_SIDE = 320

# Planes that are used as they are: name → (bits, log2 chroma shift across, down). Gray has no chroma planes.
DEPTHS = ((8, ""), (9, "9le"), (10, "10le"), (12, "12le"), (14, "14le"), (16, "16le"))
SHIFTS = {"410": (2, 2), "411": (2, 0), "420": (1, 1), "422": (1, 0), "440": (0, 1), "444": (0, 0)}
PLANAR = {
    f"{family}{chroma}p{suffix}": (bits, *shift)
    for family in ("yuv", "yuvj", "yuva")
    for chroma, shift in SHIFTS.items()
    for bits, suffix in DEPTHS
}
GRAY = {f"gray{suffix}": bits for bits, suffix in DEPTHS}
# swscale ends the process over these (a failed assertion) instead of refusing them.
ENDS_THE_PROCESS = frozenset({"yaf32be", "yaf32le"})


@dataclass(frozen=True, slots=True)
class Planes:
    """Luma (H, W) and two chroma planes of a frame as views of its memory, uint8 or uint16, and how to read them.

    The chroma planes of a gray frame are one neutral pixel each.
    """

    luma: NDArray
    blue: NDArray
    red: NDArray
    bits: int
    chroma_shift_across: int
    chroma_shift_down: int
    is_full_range: bool

    def luma_levels(self, luma: NDArray) -> U8:
        """Luma values of this frame, 2-D, as 8-bit full-range levels."""
        return _to_levels(luma, self.bits, None if self.is_full_range else _limited_luma_levels())

    def chroma_levels(self, chroma: NDArray) -> U8:
        """Chroma values of this frame, 2-D, as 8-bit full-range levels around 128."""
        return _to_levels(chroma, self.bits, None if self.is_full_range else _limited_chroma_levels())


def planes_of(frame: VideoFrame) -> Planes:
    """The planes of a frame, without a copy for planar YUV and gray; other formats go through swscale.

    Raises BadSource `unknown_pixel_format` for a format that swscale cannot read.
    """
    name = frame.format.name
    if name in PLANAR:
        layout, planes = PLANAR[name], frame.planes
        is_full_range = name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        luma, blue, red = (_view(planes[i], layout[0]) for i in range(3))
        return Planes(luma, blue, red, *layout, is_full_range)
    if name in GRAY:  # full range unless the file says otherwise, as FFmpeg takes it
        bits = GRAY[name]
        luma = _view(frame.planes[0], bits)
        neutral = np.full((1, 1), 1 << (bits - 1), luma.dtype)
        return Planes(luma, neutral, neutral, bits, 0, 0, frame.color_range != ColorRange.MPEG)
    try:
        if name in ENDS_THE_PROCESS:
            raise ValueError("not supported")
        frame = frame.reformat(format="yuv444p", dst_color_range=ColorRange.JPEG, threads=1)
    except (av.error.FFmpegError, ValueError) as error:
        detail = f"pictures of the format {name} cannot be converted ({error}); transcode the file"
        raise BadSource(SourceState.FAILED, "unknown_pixel_format", detail) from error
    luma, blue, red = (_view(plane, 8) for plane in frame.planes)
    return Planes(luma, blue, red, *PLANAR["yuv444p"], True)


def _view(plane: VideoPlane, bits: int) -> NDArray:
    line_bytes = plane.line_size
    rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(line_bytes))  # type: ignore[call-overload]
    if line_bytes < 0:  # stored from the bottom up, as in some AVI files
        rows = np.ascontiguousarray(rows[::-1])
    return rows[:, : plane.width] if bits == 8 else rows.view(np.uint16)[:, : plane.width]


@cache
def _limited_luma_levels() -> U8:
    return np.rint(np.clip((np.arange(256.0) - 16) * 255 / 219, 0, 255)).astype(np.uint8)


@cache
def _limited_chroma_levels() -> U8:
    return np.rint(np.clip((np.arange(256.0) - 128) * 255 / 224 + 128, 0, 255)).astype(np.uint8)


def _to_levels(plane: NDArray, bits: int, levels: U8 | None) -> U8:
    eight_bits = plane if bits == 8 else (plane >> (bits - 8)).astype(np.uint8)
    whole = np.ascontiguousarray(eight_bits)
    return whole if levels is None else cv2.LUT(whole, levels)  # type: ignore[return-value]


def sampling_step(width: int, height: int, chroma_shift: int) -> int:
    """Every how many pixels one is taken, so that the longer side is at most SAMPLED_SIDE and chroma lines up."""
    unit = 1 << chroma_shift
    return unit * -(-max(width, height) // (SAMPLED_SIDE * unit))


def sampled_picture(planes: Planes) -> Picture:
    """Every k-th pixel of each plane: reads a 64th of a 720p frame. For statistics and cut detectors.

    Chroma has luma's size (h, w), or less at the edge of odd pictures and for gray.
    """
    height, width = planes.luma.shape
    step = sampling_step(width, height, max(planes.chroma_shift_across, planes.chroma_shift_down))
    luma = _every(planes.luma, step, step)
    h, w = luma.shape
    across, down = step >> planes.chroma_shift_across, step >> planes.chroma_shift_down
    blue, red = (_every(plane, down, across)[:h, :w] for plane in (planes.blue, planes.red))
    return planes.luma_levels(luma), planes.chroma_levels(blue), planes.chroma_levels(red)


def _every(plane: NDArray, down: int, across: int) -> NDArray:
    """Every so many rows and columns, from half a step on: at least one of each, however small the plane."""
    height, width = plane.shape
    return plane[min(down // 2, height // 2) :: down, min(across // 2, width // 2) :: across]


def area_picture(planes: Planes) -> Picture:
    """Averaged planes, the longer luma side at most AREA_SIDE, chroma half of that. For closer looks and thumbnails."""
    luma = area_luma(planes, AREA_SIDE)
    chroma_size = (max(1, luma.shape[1] // 2), max(1, luma.shape[0] // 2))
    blue, red = (planes.chroma_levels(_shrunk(plane, chroma_size)) for plane in (planes.blue, planes.red))
    return luma, blue, red


def area_luma(planes: Planes, longest: int) -> U8:
    """Averaged luma, its longer side at most `longest`; averaging keeps aliasing out of optical flow."""
    height, width = planes.luma.shape
    scale = min(1.0, longest / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return planes.luma_levels(_shrunk(planes.luma, size))


def _shrunk(plane: NDArray, size: tuple[int, int]) -> NDArray:
    """The plane at (width, height), by halving while it can be: several times as fast as one averaging resize."""
    width, height = size
    while plane.shape[0] >= 2 * height and plane.shape[1] >= 2 * width and plane.shape != (height, width):
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = cv2.resize(plane[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA)
    if plane.shape == (height, width):
        return plane
    is_near = plane.shape[0] <= 2 * height and plane.shape[1] <= 2 * width
    return cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR if is_near else cv2.INTER_AREA)


def bgr_of(picture: Picture) -> U8:
    """A picture as BGR, (h, w, 3), by the BT.601 matrix: enough for cut detectors and thumbnails."""
    luma, blue, red = picture
    h, w = luma.shape
    if blue.shape != luma.shape:
        blue, red = (cv2.resize(plane, (w, h), interpolation=cv2.INTER_LINEAR) for plane in (blue, red))
    return cv2.cvtColor(cv2.merge((luma, red, blue)), cv2.COLOR_YCrCb2BGR)  # type: ignore[return-value]
