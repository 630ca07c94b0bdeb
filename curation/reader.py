"""Reading a clip: exactly the frames of its span, whatever else its bytes hold."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from curation.geometry import normal_rotation

__all__ = ["DamagedClip", "read_clip_frames", "read_frames", "upright_rgb"]

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
        container = av.open(video, "r", options=DEMUXER_OPTIONS, buffer_size=BUFFER_BYTES)
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
    if not container.streams.video:
        return
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            raise DamagedClip(f"the clip's bytes cannot be read further ({error.strerror})") from error
        if packet is None:
            return
        if packet.size == 0 and packet.dts is not None:
            continue
        try:
            pictures = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from pictures


def upright_rgb(frame: VideoFrame, *, width: int, height: int) -> NDArray[np.uint8]:
    """A frame as a viewer sees it, shape (height, width, 3), 8-bit RGB by the frame's own matrix and range.

    `width` and `height` are the row's: upright, pixels square. The frame's own turn is applied, not the row's, which is
    the source's: an encoded clip is upright already. HDR is not mapped to other tones.
    """
    rotation = normal_rotation(frame.rotation)
    if rotation in (90, 270):
        width, height = height, width
    rgb = frame.to_ndarray(format="rgb24", width=width, height=height, src_color_range=int(frame.color_range))
    return np.ascontiguousarray(np.rot90(rgb, rotation // 90)).astype(np.uint8, copy=False)
