"""A few pictures of a file that is searched with, for models that look at pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.clip_frames import RGB
from curation.geometry import Geometry, normal_rotation
from curation.media import Limits, main_video_stream, open_media
from curation.neighbours import IMAGE_SUFFIXES
from curation.reader import upright_rgb
from curation.records import BadSource, SourceState

__all__ = ["pictures_of_file"]

PICTURES = 8


def pictures_of_file(path: Path, side_px: int) -> list[RGB]:
    """The picture of an image file, or some of a video, from the keyframes nearest to the middles of equal parts.

    Upright, with square pixels, shrunk where the shorter side is over `side_px`. Raises BadSource.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise BadSource(SourceState.FAILED, "not_a_picture", "no picture of a format that is known")
        return [shrunk(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8), side_px)]
    limits = Limits()
    with open_media(path, limits) as container:
        stream = main_video_stream(container, limits)
        pictures = [shrunk(as_seen(frame, stream), side_px) for frame in _spread(container, stream)]
    if not pictures:
        raise BadSource(SourceState.FAILED, "no_frames", "no frame of it can be decoded")
    return pictures


def _spread(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """A frame of each part, without repeats where one keyframe serves several."""
    stream.thread_count = 1
    start, length = stream.start_time or 0, stream.duration
    # Of a container that does not say how long it is, the beginning has to do.
    middles = [start + length * (2 * part + 1) // (2 * PICTURES) for part in range(PICTURES)] if length else [start]
    seen: set[int | None] = set()
    for pts in middles:
        try:
            container.seek(pts, stream=stream)
            frame = next(container.decode(stream), None)
        except av.error.FFmpegError:
            continue
        if frame is not None and frame.pts not in seen:
            seen.add(frame.pts)
            yield frame


def as_seen(frame: VideoFrame, stream: VideoStream) -> RGB:
    aspect = stream.sample_aspect_ratio or 1
    geometry = Geometry(frame.width, frame.height, aspect, normal_rotation(frame.rotation))  # type: ignore[arg-type]
    return upright_rgb(frame, width=geometry.width, height=geometry.height)


def shrunk(picture: RGB, side_px: int) -> RGB:
    height, width = picture.shape[:2]
    scale = side_px / min(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
