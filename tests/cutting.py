"""What the tests of cutting share: sources whose every frame is known, clips as our reader and players show them."""

from __future__ import annotations

import hashlib
import io
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from av.video.frame import VideoFrame

from curation.cut import Cutter
from curation.decode import Decoder
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.media import Limits, main_video_stream, open_media
from curation.mux import ClipFile
from curation.reader import read_frames
from curation.records import Span

LIMITS = Limits()
NO_LIMIT_S = 1e9
WIDTH, HEIGHT = 96, 64
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@dataclass(frozen=True)
class Shown:
    """A frame as somebody saw it: when, its pixels' hash, and the turn that makes it upright."""

    time_s: Fraction
    pixels: str
    rotation: int = 0


@dataclass(frozen=True)
class SourceFrame:
    pts: int
    duration: int
    is_entry: bool
    pixels: str
    rotation: int


@dataclass(frozen=True)
class Source:
    """A file, every frame of it decoded once from its first packet on, as curation does."""

    path: Path
    codec: str
    time_base: Fraction
    pixel_aspect: Fraction | None
    frames: tuple[SourceFrame, ...]

    @property
    def entries(self) -> list[int]:
        return [index for index, frame in enumerate(self.frames) if frame.is_entry]

    def span(self, first: int, end: int) -> Span:
        if end < len(self.frames):
            return Span(self.frames[first].pts, self.frames[end].pts, self.time_base)
        last = self.frames[-1]
        return Span(self.frames[first].pts, last.pts + max(1, last.duration), self.time_base)

    def entry_pts(self, first: int) -> int:
        """As takes have it: of the last entry at or before a frame, else of the first frame."""
        return next((f.pts for f in reversed(self.frames[: first + 1]) if f.is_entry), self.frames[0].pts)

    def shown(self, first: int, end: int) -> list[Shown]:
        start_pts = self.frames[first].pts
        return [Shown((f.pts - start_pts) * self.time_base, f.pixels, f.rotation) for f in self.frames[first:end]]

    def spans(self) -> list[tuple[int, int]]:
        """The whole file, its first and last frames, and one or two frames before, at, across and after an entry."""
        n = len(self.frames)
        entry = next((e for e in self.entries if e >= n // 3), n // 2)
        spans = {(0, n), (0, 1), (n - 1, n), (0, 2), (1, n - 1), (n // 2, n // 2 + 1), (n // 2 + 1, n // 2 + 3)}
        spans |= {(entry, entry + 5), (entry - 2, entry + 2), (entry + 1, entry + 4), (entry - 3, entry)}
        return sorted((first, end) for first, end in spans if 0 <= first < end <= n)


def decoded(path: Path) -> Source:
    with open_media(path, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)
        decoder = Decoder(container, stream, LIMITS, skip_loop_filter="none")
        frames = tuple(
            SourceFrame(f.pts, f.duration, f.is_entry, pixels_of(f.picture), f.picture.rotation) for f in decoder
        )
        return Source(path, stream.codec_context.name, decoder.time_base, stream.sample_aspect_ratio, frames)


def pixels_of(frame: VideoFrame) -> str:
    """MD5 of the visible bytes, plane after plane: what FFmpeg's own framemd5 says of the same picture."""
    digest = hashlib.md5(usedforsecurity=False)
    for plane in frame.planes:
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
        digest.update(rows[:, : _row_bytes(frame, plane.width)].tobytes())
    return digest.hexdigest()


def _row_bytes(frame: VideoFrame, width: int) -> int:
    components = frame.format.components
    depth_bytes = 2 if max(component.bits for component in components) > 8 else 1
    is_packed = len(frame.planes) == 1 and len(components) > 1
    return width * depth_bytes * (len(components) if is_packed else 1)


def cut(source: Source, first: int, end: int, max_lead_in_s: float = NO_LIMIT_S) -> ClipFile:
    with open_media(source.path, LIMITS) as container:
        cutter = Cutter(container, main_video_stream(container, LIMITS), max_lead_in_s)
        return cutter.cut(source.span(first, end), source.entry_pts(first), end - first)


def read(clip: ClipFile, frames: int) -> list[Shown]:
    """By our reader."""
    span = {"start_pts": clip.start_pts, "end_pts": clip.end_pts, "frames": frames}
    return [_shown(frame) for frame in read_frames(io.BytesIO(clip.data), **span)]


def played(clip: ClipFile) -> list[Shown]:
    """By a player that honours edit lists: PyAV's FFmpeg."""
    with av.open(io.BytesIO(clip.data), "r") as container:
        return [_shown(frame) for frame in container.decode(container.streams.video[0])]


def _shown(frame: VideoFrame) -> Shown:
    assert frame.pts is not None
    assert frame.time_base is not None
    return Shown(frame.pts * frame.time_base, pixels_of(frame), frame.rotation)


def played_by_program(clip: ClipFile, folder: Path) -> list[Shown]:
    """By the ffmpeg program, which is another build of another version."""
    path = folder / f"clip.{clip.container}"
    path.write_bytes(clip.data)
    out = [*("-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framemd5", "-")]
    lines = program("-threads", "1", "-noautorotate", "-i", str(path), "-c:v", "rawvideo", *out).splitlines()
    base = next(Fraction(line.split(":")[1].strip()) for line in lines if line.startswith("#tb"))
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return [Shown(int(row[2]) * base, row[-1].strip()) for row in rows]


def program(*arguments: str) -> str:
    command = [FFMPEG, "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pictures(frames: int, width: int = WIDTH, height: int = HEIGHT) -> Iterator[np.ndarray]:
    edit = Edit((SceneSpec(5, frames // 2, pan_x_px_per_s=40), SceneSpec(6, frames - frames // 2)), (Join(),))
    return render(edit, width, height, (index / 24 for index in count()))


def film(path: Path, encoding: Encoding, frames: int = 48, **more: Any) -> Path:
    size = {name: more.pop(name) for name in ("width", "height") if name in more}
    encode_film(path, pictures(frames, **size), encoding, **more)
    return path


def encode(
    path: Path, codec: str, options: Mapping[str, str], frames: int = 48, *, pix_fmt: str = "yuv420p", rate: int = 24
) -> Path:
    """For what `encode_film` has no words for."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.thread_count = WIDTH, HEIGHT, pix_fmt, 1
        for index, picture in enumerate(pictures(frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packets_of(path: Path, **options: str) -> list[av.Packet]:
    """The video packets of a file, with no protection: it is ours."""
    with av.open(str(path), "r", options=options) as container:
        return [packet for packet in container.demux(container.streams.video[0]) if packet.size]
