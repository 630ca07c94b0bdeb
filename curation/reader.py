"""Reading a clip: exactly the frames of its span, whatever else its bytes hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import av
from av.video.frame import VideoFrame

__all__ = ["DamagedClip", "read_frames"]


class DamagedClip(Exception):
    """The clip's bytes do not give the frames that its row promises."""


def read_frames(video: BinaryIO, *, start_pts: int, end_pts: int, frames: int) -> Iterator[VideoFrame]:
    """The clip's frames in order, as decoded: coded size, with `frame.rotation` to be applied by who shows them.

    `video` is the blob as a file object (only the bytes that are needed are read). `start_pts`, `end_pts` and `frames`
    are the row's `video_start_pts`, `video_end_pts` and `frames`. Frame times start at 0, in `frame.time_base`.

    Raises DamagedClip when the bytes hold another number of frames than promised.
    """
    # Edit lists only repeat for players what the row says exactly.
    with av.open(video, options={"ignore_editlist": "1"}, buffer_size=1 << 18) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        count = 0
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:
                continue
            for frame in packet.decode():
                if frame.pts is not None and start_pts <= frame.pts < end_pts:
                    frame.pts -= start_pts
                    count += 1
                    yield frame
        if count != frames:
            raise DamagedClip(f"{count} frames in the clip's bytes, {frames} promised")
