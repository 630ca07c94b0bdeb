"""A few frames of a clip, spread evenly over it, for models that look at pictures: only what they need is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curation.geometry import Box
from curation.reader import DamagedClip, ReadableFile, active_box, opened, pictures_of, upright_rgb

__all__ = ["CLIP_COLUMNS", "RGB", "sampled_frames"]

RGB = NDArray[np.uint8]
"""A picture, shape (height, width, 3), 8-bit."""

ACTIVE_BOX = ("active_x_px", "active_y_px", "active_width_px", "active_height_px")
CLIP_COLUMNS = ("clip_id", "frames", "width", "height", "video_start_pts", "video_end_pts", *ACTIVE_BOX)
"""What `sampled_frames` has to know of a clip."""
# Where fewer frames than this lie between two that are wanted, every frame is decoded.
FRAMES_BETWEEN = 8


def sampled_frames(row: Mapping[str, Any], video: ReadableFile, count: int, side_px: int) -> list[RGB]:
    """Up to `count` frames of a clip near the middles of as many equal parts, upright, in order.

    Only the active picture is shown, shrunk where its shorter side is over `side_px`. `row` has `CLIP_COLUMNS`;
    `video` is its blob as a file object. Stretches without a wanted frame are jumped over from keyframe to keyframe,
    and frames on which no other rests may be, so that a frame may be a few later than asked. The same bytes give the
    same frames. Fewer than `count` come of a clip with fewer frames, or where the end of its bytes is damaged.

    Raises DamagedClip where there is none, and what `video` raises as it is.
    """
    count = min(count, row["frames"])
    try:
        with opened(video) as container:
            frames = [_shown(frame, row, side_px) for frame in _near(container, row, count)]
    except av.error.FFmpegError as error:
        raise DamagedClip(f"the clip's bytes cannot be read ({error.strerror})") from error
    if not frames:
        raise DamagedClip("no frame in the clip's bytes can be decoded")
    return frames


def _near(container: InputContainer, row: Mapping[str, Any], count: int) -> Iterator[VideoFrame]:
    """The first frame at or after each wanted time that is not given yet, the last of all where none follows."""
    if not container.streams.video or container.streams.video[0].codec_context is None:
        return
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    if row["frames"] >= count * FRAMES_BETWEEN:
        stream.codec_context.skip_frame = "NONREF"
    start, end = row["video_start_pts"], row["video_end_pts"]
    entries = [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]
    given = seen = start - 1  # times of the last frame that was given, and of the last that was decoded
    last: VideoFrame | None = None
    frames = _frames(container, stream)
    for part in range(count):
        # Half a frame before the middle of the part: at a steady rate the first frame from there on is the nearest.
        wanted = start + ((2 * part + 1) * row["frames"] - count) * (end - start) // (2 * count * row["frames"])
        if seen >= wanted:  # the last one given stands for this time too
            continue
        if any(seen < entry <= wanted for entry in entries):
            container.seek(wanted, stream=stream, backward=True)
            frames = _frames(container, stream)
        for frame in frames:
            if frame.pts is None or not max(start, given + 1) <= frame.pts < end:
                continue
            last, seen = frame, frame.pts
            if seen >= wanted:
                given = seen
                yield frame
                break
    if last is not None and given < seen:
        yield last


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """What the decoder gives from here on; packets that it refuses are passed over."""
    for packet in container.demux(stream):
        yield from pictures_of(packet)


def _shown(frame: VideoFrame, row: Mapping[str, Any], side_px: int) -> RGB:
    """The active picture, upright and shrunk, in one conversion of the frame."""
    width, height = row["width"], row["height"]
    box = active_box(row) or Box(0, 0, width, height)
    scale = min(1.0, side_px / max(1, min(box.width, box.height)))
    left, top, across, down = (round(side * scale) for side in (box.x, box.y, box.width, box.height))
    small = Box(left, top, max(1, across), max(1, down))
    return upright_rgb(frame, width=max(1, round(width * scale)), height=max(1, round(height * scale)), box=small)
