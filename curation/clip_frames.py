"""A few frames of a clip, spread evenly over it, for models that look at pictures: only what they need is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import sqrt
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

__all__ = ["CLIP_COLUMNS", "RGB", "TIMED_CLIP_COLUMNS", "frames_at", "sampled_frames"]

RGB = NDArray[np.uint8]
"""A picture, shape (height, width, 3), 8-bit."""

ACTIVE_BOX = ("active_x_px", "active_y_px", "active_width_px", "active_height_px")
CLIP_COLUMNS = ("clip_id", "frames", "width", "height", "video_start_pts", "video_end_pts", *ACTIVE_BOX)
"""What `sampled_frames` has to know of a clip."""
TIMED_CLIP_COLUMNS = (*CLIP_COLUMNS, "video_time_base_num", "video_time_base_den")
"""What `frames_at` has to know of a clip."""
# Where fewer frames than this lie between two that are wanted, every frame is decoded.
FRAMES_BETWEEN = 8


def sampled_frames(row: Mapping[str, Any], video: ReadableFile, count: int, side_px: int) -> list[RGB]:
    """Up to `count` frames of a clip near the middles of as many equal parts, upright, in order.

    Only the active picture is shown, shrunk where its shorter side is over `side_px`. `row` has `CLIP_COLUMNS`;
    `video` is its blob as a file object. Stretches without a wanted frame are jumped over from keyframe to keyframe,
    and frames on which no other rests may be, so that a frame may be a few earlier than asked. The same bytes give the
    same frames. Fewer than `count` come of a clip with fewer frames, or where the end of its bytes is damaged.

    Raises DamagedClip where there is none, and what `video` raises as it is.
    """
    count = min(count, row["frames"])
    start, end = row["video_start_pts"], row["video_end_pts"]
    wanted = [start + (2 * part + 1) * (end - start) // (2 * count) for part in range(count)]
    return [_shown(frame, row, _scale_to_side(row, side_px)) for frame in _decoded(row, video, wanted)]


def frames_at(
    row: Mapping[str, Any], video: ReadableFile, times_s: Sequence[float], max_pixels: int
) -> list[tuple[float, RGB]]:
    """The frame on show at each time of the clip's clock, or one a few before it, with its own time; none twice, in
    order.

    Only the active picture is shown, shrunk at its own aspect to at most `max_pixels`. `row` has `TIMED_CLIP_COLUMNS`;
    `video` is its blob as a file object, of which only what is needed is read. Raises as `sampled_frames` does.
    """
    tick_s = row["video_time_base_num"] / row["video_time_base_den"]
    start, end = row["video_start_pts"], row["video_end_pts"]
    wanted = [min(start + round(time_s / tick_s), end - 1) for time_s in times_s]
    scale = _scale_to_pixels(row, max_pixels)
    return [((_pts(frame) - start) * tick_s, _shown(frame, row, scale)) for frame in _decoded(row, video, wanted)]


def _decoded(row: Mapping[str, Any], video: ReadableFile, wanted: Sequence[int]) -> Iterator[VideoFrame]:
    found = False
    try:
        with opened(video) as container:
            for frame in _on_show(container, row, wanted):
                found = True
                yield frame
    except av.error.FFmpegError as error:
        raise DamagedClip(f"the clip's bytes cannot be read ({error.strerror})") from error
    if not found:
        raise DamagedClip("no frame in the clip's bytes can be decoded")


def _on_show(container: InputContainer, row: Mapping[str, Any], all_wanted: Sequence[int]) -> Iterator[VideoFrame]:
    """The last frame at or before each wanted time, where it is not given yet; the first of all where none is."""
    if not container.streams.video or container.streams.video[0].codec_context is None:
        return
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    start, end = row["video_start_pts"], row["video_end_pts"]
    between = (all_wanted[-1] - all_wanted[0]) / (len(all_wanted) - 1) if len(all_wanted) > 1 else end - start
    if between * row["frames"] >= FRAMES_BETWEEN * (end - start):
        stream.codec_context.skip_frame = "NONREF"
    entries = sorted(entry.timestamp for entry in stream.index_entries if entry.is_keyframe)
    frames = _frames(container, stream)
    shown: VideoFrame | None = None
    ahead: VideoFrame | None = None  # the one after it, where that is decoded already
    given = seen = start - 1  # times of the last frame that was given, and of the last that was decoded
    for wanted in all_wanted:
        if ahead is None or seen <= wanted:
            shown, ahead = ahead or shown, None
            if any(seen < entry <= wanted for entry in entries):
                frames = _frames_from(container, stream, [entry for entry in entries if entry <= wanted], wanted)
            for frame in frames:
                if not max(start, seen + 1) <= _pts(frame) < end:
                    continue
                seen = _pts(frame)
                if seen > wanted:
                    ahead = frame
                    break
                shown = frame
        frame = shown or ahead
        if frame is not None and _pts(frame) > given:
            given = _pts(frame)
            yield frame


def _frames_from(
    container: InputContainer, stream: VideoStream, entries: Sequence[int], wanted: int
) -> Iterator[VideoFrame]:
    """Frames from the last entry on that is shown at or before a wanted time: an index may have decoding times, and
    these are earlier."""
    for entry in reversed(entries):
        container.seek(entry, stream=stream, backward=True)
        frames = _frames(container, stream)
        first = next(frames, None)
        if first is not None and (_pts(first) <= wanted or entry == entries[0]):
            return chain([first], frames)
    return iter(())


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None
    return frame.pts


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """What the decoder gives from here on; packets that it refuses, and frames without a time, are passed over."""
    for packet in container.demux(stream):
        yield from (frame for frame in pictures_of(packet) if frame.pts is not None)


def _shown(frame: VideoFrame, row: Mapping[str, Any], scale: float) -> RGB:
    """The active picture, upright and shrunk, in one conversion of the frame."""
    width, height = row["width"], row["height"]
    box = _active(row)
    left, top, across, down = (round(side * scale) for side in (box.x, box.y, box.width, box.height))
    small = Box(left, top, max(1, across), max(1, down))
    return upright_rgb(frame, width=max(1, round(width * scale)), height=max(1, round(height * scale)), box=small)


def _active(row: Mapping[str, Any]) -> Box:
    return active_box(row) or Box(0, 0, row["width"], row["height"])


def _scale_to_side(row: Mapping[str, Any], side_px: int) -> float:
    return min(1.0, side_px / max(1, min(_active(row).width, _active(row).height)))


def _scale_to_pixels(row: Mapping[str, Any], max_pixels: int) -> float:
    across, down = _active(row).width, _active(row).height
    scale = min(1.0, sqrt(max_pixels / (across * down)))
    while round(across * scale) * round(down * scale) > max_pixels:  # both sides may have been rounded up
        scale *= 0.995
    return scale
