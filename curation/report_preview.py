"""Small pictures of a clip's frames as a viewer sees them: an H.264 preview that every browser plays, and a poster.

Frames keep their exact times. Transfer and primaries stay as they are and are written down, so that a browser maps HDR
to its screen as it would map the clip itself. A preview has no sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import cv2
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from curation.reader import DamagedClip

__all__ = ["write_poster", "write_preview"]

MAX_HEIGHT, MAX_WIDTH = 480, 1280
POSTER_HEIGHT = 240
POSTER_QUALITY = 80
X264 = {"preset": "veryfast", "crf": "23", "bf": "0", "threads": "1"}  # no B-frames: packets come in order of time
MAX_RATE_FPS = 240
# Matrix coefficients, ITU-T H.273 table 4. Players take 709 for a file that does not say, where it is high enough.
RGB, BT709, UNSPECIFIED, BT601 = 0, 1, 2, 6
HD_HEIGHT = 720
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


def write_preview(
    path: Path, frames: Iterator[VideoFrame], *, width: int, height: int, rotation: int, end_s: Fraction
) -> str | None:
    """Write frames as H.264 in mp4, upright, with square pixels, at most MAX_HEIGHT high; None, or what ended it early.

    `width`, `height` and `rotation` are the clip's, as displayed. `end_s` is when the last frame stops showing.
    Raises DamagedClip where there is not one frame.
    """
    size = small_size(width, height, MAX_HEIGHT)
    damage: list[str] = []
    pictures = (small_frame(frame, size, rotation) for frame in _until_damage(frames, damage))
    first = next(pictures, None)
    if first is None:
        raise DamagedClip(damage[0] if damage else "no frame in the clip's bytes")
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as output:
        output.flags |= av.container.Flags.bitexact.value
        stream = output.add_stream("libx264", rate=MAX_RATE_FPS, options=X264)
        _set_up(stream.codec_context, first)
        for packet in _with_durations(_encoded(stream.codec_context, first, pictures), end_s):
            packet.stream = stream
            output.mux_one(packet)
    return damage[0] if damage else None


def write_poster(path: Path, frame: VideoFrame, *, width: int, height: int, rotation: int) -> None:
    """Write one frame as a JPEG, as a viewer sees it."""
    picture = small_frame(frame, small_size(width, height, POSTER_HEIGHT), rotation).to_ndarray(format="bgr24")
    is_encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, POSTER_QUALITY])
    assert is_encoded
    path.write_bytes(jpeg.tobytes())


def small_size(width: int, height: int, max_height: int) -> tuple[int, int]:
    """The size to show a picture at: never larger than it is, its sides even, as 4:2:0 needs."""
    scale = min(1.0, max_height / height, MAX_WIDTH / width)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def small_frame(frame: VideoFrame, size: tuple[int, int], rotation: int) -> VideoFrame:
    """A decoded frame as upright 8-bit 4:2:0 of limited range, of this (width, height), at its own time."""
    width, height = size[::-1] if rotation in (90, 270) else size
    is_full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    picture = frame.reformat(
        width,
        height,
        "yuv420p",
        dst_colorspace="ITU601" if frame.format.is_rgb else None,
        interpolation="AREA",
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
    if rotation in TURNS:
        picture = _turned(picture, rotation)
    picture.pts, picture.time_base = frame.pts, frame.time_base
    picture.colorspace, picture.color_trc = matrix_of(frame), frame.color_trc
    picture.color_primaries = frame.color_primaries
    return picture


def matrix_of(frame: VideoFrame) -> int:
    """By which matrix the planes of the small picture are to be read."""
    if frame.format.is_rgb or frame.colorspace == RGB:
        return BT601
    if frame.colorspace == UNSPECIFIED:
        return BT709 if frame.height >= HD_HEIGHT else BT601
    return frame.colorspace


def _turned(picture: VideoFrame, rotation: int) -> VideoFrame:
    """Plane by plane: the chroma planes lie below the luma plane, each half as wide and half as high."""
    height, width = picture.height, picture.width
    stacked = picture.to_ndarray()
    chroma = stacked[height:].reshape(2, height // 2, width // 2)
    turned = [cv2.rotate(plane, TURNS[rotation]) for plane in (stacked[:height], *chroma)]
    flat = np.concatenate([plane.reshape(-1) for plane in turned]).astype(np.uint8)
    return VideoFrame.from_ndarray(flat.reshape(-1, turned[0].shape[1]), format="yuv420p")


def _until_damage(frames: Iterator[VideoFrame], damage: list[str]) -> Iterator[VideoFrame]:
    try:
        yield from frames
    except DamagedClip as error:
        damage.append(str(error))
    except av.error.FFmpegError as error:
        damage.append(error.strerror or type(error).__name__)


def _set_up(context: VideoCodecContext, first: VideoFrame) -> None:
    context.width, context.height, context.pix_fmt = first.width, first.height, "yuv420p"
    assert first.time_base is not None
    context.time_base = first.time_base
    context.color_range = ColorRange.MPEG
    context.colorspace, context.color_trc = first.colorspace, first.color_trc
    context.color_primaries = first.color_primaries


def _encoded(context: VideoCodecContext, first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[Packet]:
    yield from context.encode(first)
    for picture in rest:
        yield from context.encode(picture)
    yield from context.encode(None)


def _with_durations(packets: Iterator[Packet], end_s: Fraction) -> Iterator[Packet]:
    """Each packet with the time to the next, so that the last frame, or the only one, lasts as long as it should."""
    held: Packet | None = None
    for packet in packets:
        if held is not None:
            yield _lasting_until(held, packet.pts)
        held = packet
    if held is not None:
        yield _lasting_until(held, round(end_s / held.time_base))


def _lasting_until(packet: Packet, end_pts: int | None) -> Packet:
    assert packet.pts is not None
    assert end_pts is not None
    packet.duration = max(1, end_pts - packet.pts)
    return packet
