"""Reading a clip: exactly the frames of its span, whatever else its bytes hold."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curation.geometry import Box, normal_rotation

__all__ = [
    "DamagedClip",
    "active_box",
    "opened",
    "pictures_of",
    "read_active_frames",
    "read_clip_frames",
    "read_frames",
    "upright_rgb",
]

BUFFER_BYTES = 1 << 18
DEMUXER_OPTIONS = {
    "ignore_editlist": "1",  # edit lists only repeat for players what the row says exactly
    # A store may come from elsewhere: its bytes are a clip or nothing, and lead to no other file.
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
    "protocol_whitelist": "none",
    "enable_drefs": "0",
}

ReadableFile = BinaryIO | io.BufferedIOBase
"""Anything that reads and seeks, such as an open file or a blob of Lance."""


class DamagedClip(Exception):
    """The clip's bytes do not give the frames that its row promises."""


def opened(video: ReadableFile) -> InputContainer:
    """The clip's container. Raises av.error.FFmpegError, and what `video` raises."""
    return av.open(video, "r", options=DEMUXER_OPTIONS, buffer_size=BUFFER_BYTES, metadata_errors="replace")


def read_clip_frames(row: Mapping[str, Any], video: ReadableFile) -> Iterator[VideoFrame]:
    """`read_frames` for a row of the clips table; `video` is its blob as a file object."""
    start_pts, end_pts = row["video_start_pts"], row["video_end_pts"]
    return read_frames(video, start_pts=start_pts, end_pts=end_pts, frames=row["frames"])


def read_frames(video: ReadableFile, *, start_pts: int, end_pts: int, frames: int) -> Iterator[VideoFrame]:
    """The clip's frames in order, as decoded: coded size, to be shown by `upright_rgb`.

    `video` is the blob as a file object (only the bytes that are needed are read). `start_pts`, `end_pts` and `frames`
    are the row's `video_start_pts`, `video_end_pts` and `frames`. Frame times start at 0, in `frame.time_base`.

    Raises DamagedClip when the bytes hold another number of frames than promised.
    """
    try:
        container = opened(video)
    except av.error.FFmpegError as error:
        raise DamagedClip(f"the clip's bytes are of no known container ({error.strerror})") from error
    with container:
        count = 0
        for frame in _decoded(container):
            if frame.pts is not None and start_pts <= frame.pts < end_pts:
                frame.pts -= start_pts
                count += 1
                yield frame
        if count != frames:
            raise DamagedClip(f"{count} frames in the clip's bytes, {frames} promised")


def _decoded(container: InputContainer) -> Iterator[VideoFrame]:
    """What the decoder gives. Packets that it refuses were refused in the source too, and cost what they hold."""
    if not container.streams.video or container.streams.video[0].codec_context is None:
        return
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    try:
        packets = container.demux(stream)
        while (packet := next(packets, None)) is not None:
            yield from pictures_of(packet)
    except (av.error.FFmpegError, OSError) as error:
        raise DamagedClip(f"the clip's bytes cannot be read further ({error.strerror})") from error


def pictures_of(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """What the decoder makes of a packet: nothing of an empty one, or of one that it refuses."""
    if packet.size == 0 and packet.dts is not None:
        return []
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


def read_active_frames(row: Mapping[str, Any], video: ReadableFile) -> Iterator[NDArray[np.uint8]]:
    """The clip's frames as a viewer sees them, cropped to the row's active picture; the stored bytes stay whole.

    `row` has `video_start_pts`, `video_end_pts`, `frames`, `width`, `height` and the four `active_*_px` of the clips
    table. Shape (active_height_px, active_width_px, 3), 8-bit RGB: see `upright_rgb`.

    Raises DamagedClip as `read_frames` does.
    """
    box = active_box(row)
    for frame in read_clip_frames(row, video):
        yield upright_rgb(frame, width=row["width"], height=row["height"], box=box)


def active_box(row: Mapping[str, Any]) -> Box | None:
    """A row's active picture in display pixels; None where it is not known, which is to say the whole frame."""
    sides = [row[f"active_{side}_px"] for side in ("x", "y", "width", "height")]
    return None if None in sides else Box(*sides)


def upright_rgb(frame: VideoFrame, *, width: int, height: int, box: Box | None = None) -> NDArray[np.uint8]:
    """A frame as a viewer sees it, shape (height, width, 3), 8-bit RGB by the frame's own matrix and range.

    `width` and `height` are the row's: upright, pixels square. The frame's own turn is applied, not the row's, which is
    the source's: an encoded clip is upright already. HDR is not mapped to other tones.

    `box`, in display pixels, is cut out of the converted frame: its pixels are the whole frame's to the last bit, at
    odd places and with subsampled chroma too, and as many as the box says. Its corners are the border's coded pixels
    times the pixel aspect, rounded to the nearest; so where that is not 1, half a pixel at a side may be border.
    """
    rotation = normal_rotation(frame.rotation)
    if rotation in (90, 270):
        width, height = height, width
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height, src_color_range=int(frame.color_range))
    upright = np.rot90(rgb, rotation // 90)
    if box is not None:
        upright = upright[box.y : box.y + box.height, box.x : box.x + box.width]
    return np.ascontiguousarray(upright).astype(np.uint8, copy=False)
