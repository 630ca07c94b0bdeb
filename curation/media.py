"""Opening a file that nobody has vetted: only known containers, nothing but the one file, and bounded in every way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from curation.records import BadSource, SourceState

__all__ = ["VIDEO_SUFFIXES", "Limits", "main_video_stream", "open_media"]

# Demuxers that read one self-contained file. Everything that names further files or addresses (hls, dash, concat,
# image2, sdp, rtsp, ...) is left out, so FFmpeg refuses it before it opens anything.
SELF_CONTAINED_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,avi,flv,live_flv,asf,mpegts,mpeg,mpegvideo,mxf,dv,gif,nut,ivf,"
    "h264,hevc,av1,obu,m4v,vc1,rm,wtv,gxf,yuv4mpegpipe,amv,roq,bink,smk,swf,apng,"
    "mp3,wav,flac,aac,ac3,eac3,dts,aiff,caf,w64,ape,wv,tta,amr,au"
)
VIDEO_SUFFIXES = frozenset(
    [
        ".3g2",
        ".3gp",
        ".amv",
        ".asf",
        ".avi",
        ".dv",
        ".f4v",
        ".flv",
        ".gif",
        ".gxf",
        ".h264",
        ".hevc",
        ".264",
        ".265",
        ".ivf",
        ".m1v",
        ".m2t",
        ".m2ts",
        ".m2v",
        ".m4v",
        ".mj2",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".nut",
        ".obu",
        ".ogg",
        ".ogm",
        ".ogv",
        ".qt",
        ".rm",
        ".rmvb",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
        ".wtv",
        ".y4m",
    ]
)
PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<smil", b"RTSPtext", b"v=0\r\n", b"v=0\n", b"[Reference]")
BUFFER_BYTES = 1 << 20
PROBE_BYTES = 32 << 20
PROBE_US = 10_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one source may cost. Over a limit it is rejected with the limit's name as the reason.

    Attributes:
        max_source_bytes: Largest file.
        max_source_hours: Longest running time, counted in frames that were decoded, not in what the header says.
        max_frame_pixels: Largest coded picture, width times height (default: a little over 8k by 8k).
        max_streams: Most streams in one file.
        max_decode_minutes: Longest time that one source may take to decode.
    """

    max_source_bytes: int = 1 << 40
    max_source_hours: float = 24.0
    max_frame_pixels: int = 8192 * 8320
    max_streams: int = 64
    max_decode_minutes: float = 720.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise BadSource(SourceState.REJECTED, "names_other_files", f"it asks to open {url!r}; only the file itself is read")


def _reject(reason: str, detail: str) -> NoReturn:
    raise BadSource(SourceState.REJECTED, reason, detail)


def _fail(reason: str, detail: str) -> NoReturn:
    raise BadSource(SourceState.FAILED, reason, detail)


def _check_head(head: bytes, size_bytes: int) -> None:
    if size_bytes == 0:
        _fail("empty", "the file has no bytes; copy it again")
    if head.startswith(b"version https://git-lfs"):
        _fail("not_media", "it is a Git LFS pointer, not the video; run `git lfs pull` where it comes from")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(PLAYLIST_STARTS) or b"<MPD" in text[:1024] or b"<SmoothStreamingMedia" in text[:1024]:
        _reject("names_other_files", "it is a playlist; give the files that it names instead")


def _demuxer_options(limits: Limits) -> dict[str, str]:
    return {
        "format_whitelist": SELF_CONTAINED_FORMATS,
        "protocol_whitelist": "file",
        "enable_drefs": "0",  # mov: never follow a reference to data in another file
        "max_streams": str(limits.max_streams),
        "max_pixels": str(limits.max_frame_pixels),  # reaches the decoders that look at the first frames
        "probesize": str(PROBE_BYTES),
        "analyzeduration": str(PROBE_US),
    }


@contextmanager
def open_media(path: str | os.PathLike[str], limits: Limits) -> Iterator[InputContainer]:
    """The container of a local file, opened so that FFmpeg can reach no other file and no address.

    The bytes go through a Python file object, every further open is refused, and only self-contained formats are
    tried, so a path of any spelling is safe too (a name such as `concat:x` is only a name).

    Raises BadSource: `unreadable`, `empty`, `not_media`, `names_other_files`, `too_many_bytes`.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, after the container
    except OSError as error:
        _fail("unreadable", f"{error.strerror}; check that the file is there and may be read")
    with file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > limits.max_source_bytes:
            _reject("too_many_bytes", f"{size_bytes} bytes, over max_source_bytes={limits.max_source_bytes}")
        _check_head(file.read(4096), size_bytes)
        file.seek(0)
        try:
            container = av.open(
                file,
                options=_demuxer_options(limits),
                io_open=_refuse_other_files,
                buffer_size=BUFFER_BYTES,
                metadata_errors="replace",
            )
        except av.error.FFmpegError as error:
            _fail("not_media", f"no known container could be read ({error.strerror}); is the file whole?")
        with container:
            yield container


def main_video_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """The video stream that players show: the first that is marked as default, else the first; never a cover picture.

    Raises BadSource: `too_many_streams`, `no_video`, `unknown_codec`, `no_picture_size`, `too_many_pixels`.
    """
    if len(container.streams) > limits.max_streams:
        _reject("too_many_streams", f"{len(container.streams)} streams, over max_streams={limits.max_streams}")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams})) or "none"
        _reject("no_video", f"no video stream (streams: {others})")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        _fail("unknown_codec", f"no decoder for codec tag {stream.codec_tag!r}")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > limits.max_frame_pixels:
        _reject(
            "too_many_pixels",
            f"{stream.codec_context.width}x{stream.codec_context.height}, over max_frame_pixels={limits.max_frame_pixels}",
        )
    if pixels == 0:
        _fail("no_picture_size", "the header gives a picture of no size and no frame says otherwise")
    return stream
