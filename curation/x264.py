"""What libx264 can keep of a picture: depth, chroma, range, the meaning of its colours, the light it was made for."""

from __future__ import annotations

import struct
from fractions import Fraction

from av.video.format import VideoFormat
from av.video.frame import VideoFrame

__all__ = ["colors_of", "converted", "mastering_of", "x264_pix_fmt"]

MATRIX_RGB, BT709 = 0, 1  # AVCOL_SPC_RGB, AVCOL_SPC_BT709
LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
# Units of ITU-T H.264, D.2.29 (mastering display colour volume SEI message).
CHROMATICITY_UNIT, LUMINANCE_UNIT = 50_000, 10_000


def x264_pix_fmt(given: VideoFormat, *, is_turned: bool) -> str:
    """The format of libx264 that keeps most of a format's depth and chroma, for a picture of the same size."""
    colors = [component for component in given.components if not component.is_alpha]
    bits = "10le" if max(component.bits for component in colors) > 8 else ""
    if len(colors) == 1 and not given.has_palette:
        return f"gray{bits}"
    across, down = given.chroma_width(4) < 4, given.chroma_height(4) < 4
    is_odd = (across and given.width % 2 == 1) or (down and given.height % 2 == 1)
    # Chroma that is halved in one direction only would be halved in the other after a turn.
    if given.is_rgb or given.has_palette or not across or is_odd or (is_turned and not down):
        return f"yuv444p{bits}"
    return f"yuv420p{bits}" if down else f"yuv422p{bits}"


def converted(picture: VideoFrame, pix_fmt: str) -> VideoFrame:
    """The picture in another format, with the same range and matrix unless it is RGB, which becomes BT.709."""
    if _is_rgb(picture):
        return picture.reformat(format=pix_fmt, dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
    if picture.format.name in (pix_fmt, pix_fmt.replace("yuv", "yuvj")):
        return picture
    color_range = _range(picture)
    return picture.reformat(format=pix_fmt, src_color_range=color_range, dst_color_range=color_range)


def colors_of(picture: VideoFrame) -> dict[str, int]:
    """What the numbers in a converted picture mean, in the terms of FFmpeg's filter `setparams`."""
    return {
        "range": LIMITED_RANGE if _is_rgb(picture) else _range(picture),
        "colorspace": BT709 if _is_rgb(picture) else int(picture.colorspace),
        "color_primaries": int(picture.color_primaries),
        "color_trc": int(picture.color_trc),
    }


def mastering_of(picture: VideoFrame) -> str | None:
    """What HDR10 says of the display and the light that a film was made for, as libx264's parameters."""
    words = []
    if display := picture.side_data.get("MASTERING_DISPLAY_METADATA"):
        # AVMasteringDisplayMetadata: fractions, which are x and y of red, green, blue and white, least and greatest
        # light; and whether there are such.
        *terms, has_primaries, has_luminance = struct.unpack("20i2i", bytes(display)[:88])
        if has_primaries and has_luminance and all(terms[1::2]):
            red, green, blue, white = (_units(terms, (at, at + 1), CHROMATICITY_UNIT) for at in (0, 2, 4, 6))
            light = _units(terms, (9, 8), LUMINANCE_UNIT)
            words.append(f"mastering-display=G({green})B({blue})R({red})WP({white})L({light})")
    if level := picture.side_data.get("CONTENT_LIGHT_LEVEL"):
        words.append("cll={},{}".format(*struct.unpack("2I", bytes(level)[:8])))
    return ":".join(words) or None


def _units(terms: list[int], indices: tuple[int, int], unit: int) -> str:
    return ",".join(str(round(Fraction(terms[2 * index], terms[2 * index + 1]) * unit)) for index in indices)


def _is_rgb(picture: VideoFrame) -> bool:
    return picture.format.is_rgb or picture.format.has_palette or picture.colorspace == MATRIX_RGB


def _range(picture: VideoFrame) -> int:
    return FULL_RANGE if picture.format.name.startswith("yuvj") else int(picture.color_range)
