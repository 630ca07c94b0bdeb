"""Opening a file that nobody has vetted: only known containers, nothing but the one file, and bounded in every way."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import NoReturn

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from curation.mp4_claims import Mp4Claims, read_claims
from curation.records import BadSource, SourceState

__all__ = ["SELF_CONTAINED_FORMATS", "VIDEO_SUFFIXES", "Limits", "main_video_stream", "open_file", "open_media"]

# Demuxers that read one self-contained file, of what cameras, broadcasters, screens and the web make. Everything that
# names further files or addresses (hls, dash, concat, image2, sdp, rtsp, ...) is left out, so FFmpeg refuses it before
# it opens anything; so are the formats of games. Those of sound only are there to say `no_video` of them.
SELF_CONTAINED_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,ogg,avi,flv,live_flv,asf,mpegts,mpeg,mpegvideo,mxf,dv,gif,nut,ivf,"
    "h264,hevc,av1,obu,m4v,vc1,rm,wtv,gxf,yuv4mpegpipe,"
    "mp3,wav,flac,aac,ac3,eac3,dts,aiff,caf,amr"
)
SUFFIX_NAMES = (
    "264,265,3g2,3gp,amv,asf,avi,divx,dv,f4v,flv,gif,gxf,h264,hevc,insv,ivf,m1v,m2t,m2ts,m2v,m4v,mj2,mk3d,mkv,mov,mp4,"
    "mpe,mpeg,mpg,mts,mxf,nut,obu,ogg,ogm,ogv,qt,rm,rmvb,tod,trp,ts,vob,webm,wmv,wtv,y4m"
)
VIDEO_SUFFIXES = frozenset(f".{name}" for name in SUFFIX_NAMES.split(","))

HEAD_BYTES = 4096
BUFFER_BYTES = 1 << 20
PROBE_BYTES = 32 << 20
PROBE_US = 10_000_000
# A day of 60 frames a second with sound is half of this; FFmpeg takes about 40 bytes for each.
MAX_INDEX_ENTRIES = 20_000_000
# Anamorphic lenses squeeze by 2, broadcasting by less.
MAX_PIXEL_ASPECT = 8
# Errors of opening a file that say that this machine is at its end, not that the file is bad.
MACHINE_ERRORS = frozenset([errno.EMFILE, errno.ENFILE, errno.ENOMEM])

PLAYLIST = "it is a playlist; give the files that it names instead"
WEB_PAGE = "it is a web page, perhaps an error or a login page, not the video; download it again"
# How text begins that is often found under a video's name → state, reason, detail. Letters small, white space left out.
TEXT_HEADS: tuple[tuple[bytes, SourceState, str, str], ...] = (
    *(
        (head, SourceState.REJECTED, "names_other_files", PLAYLIST)
        for head in (
            b"#extm3u",
            b"ffconcat",
            b"[playlist]",
            b"<smil",
            b"<asx",
            b"<playlist",
            b"rtsptext",
            b"[reference]",
            b"v=0\r",
            b"v=0\n",
        )
    ),
    (
        b"version https://git-lfs",
        SourceState.FAILED,
        "not_media",
        "it is a Git LFS pointer, not the video; run `git lfs pull` where it comes from",
    ),
    *((head, SourceState.FAILED, "not_media", WEB_PAGE) for head in (b"<!doctype html", b"<html", b"<head", b"<body")),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one source may cost. Over a limit it is rejected with a reason that names the limit.

    Attributes:
        max_source_bytes: Largest file.
        max_source_hours: Longest running time, counted in frames that were decoded, not in what the header says.
        max_frame_pixels: Largest coded picture, width times height (default: a little over 8k by 8k).
        max_rate_fps: Most frames in any second of the source.
        max_streams: Most streams in one file.
        max_video_streams: Most of them with pictures: FFmpeg looks into all of them, and holds pictures of each.
        max_decode_minutes: Longest time that one source may take to decode.
    """

    max_source_bytes: int = 1 << 40
    max_source_hours: float = 24.0
    max_frame_pixels: int = 8192 * 8320
    max_rate_fps: float = 2000.0
    max_streams: int = 64
    max_video_streams: int = 8
    max_decode_minutes: float = 720.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value}: must be positive and finite")


def _reject(reason: str, detail: str) -> NoReturn:
    raise BadSource(SourceState.REJECTED, reason, detail)


def _fail(reason: str, detail: str) -> NoReturn:
    raise BadSource(SourceState.FAILED, reason, detail)


def _unreadable(error: OSError) -> NoReturn:
    raise BadSource(
        SourceState.FAILED, "unreadable", f"{error.strerror}; check that the file is there and may be read"
    ) from error


def _refuse_other_files(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    _reject("names_other_files", f"it asks to open {url[:200]!r}; only the file itself is read")


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    """A regular file, open for reading without a buffer. Pipes, sockets and devices are not opened nor waited for.

    Raises BadSource: `unreadable`, `not_a_file`. Raises OSError where this machine is at fault (too many open files).
    """
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
        # Not blocking: what was a file a moment ago may be a pipe now.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC) if is_file else None
    except OSError as error:
        if error.errno in MACHINE_ERRORS:
            raise
        _unreadable(error)
    if handle is None:
        _reject("not_a_file", "it is a folder, pipe, socket or device; give files")
    with open(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            _reject("not_a_file", "it became a pipe, socket or device while it was opened; give files")
        yield file


class _SourceBytes:
    """What FFmpeg gets of a file: its bytes, without its name, until a deadline.

    Without a name the content alone decides what the file is taken for. Every read passes here, so a demuxer that
    reads on and on without giving a packet is stopped as well.
    """

    def __init__(self, file: FileIO, size_bytes: int, limits: Limits):
        self._file, self._size_bytes = file, size_bytes
        self._minutes = limits.max_decode_minutes
        self._deadline_s = time.monotonic() + 60 * self._minutes

    def read(self, count: int) -> bytes:
        if time.monotonic() > self._deadline_s:
            _fail("decode_timeout", f"reading it took longer than max_decode_minutes={self._minutes}")
        try:
            return self._file.read(count)
        except OSError as error:
            _unreadable(error)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # Broken files send FFmpeg anywhere; the system refuses what no file can have, the end is all that is meant.
        return self._file.seek(min(offset, self._size_bytes) if whence == os.SEEK_SET else offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _check_head(head: bytes) -> None:
    if not head:
        _fail("empty", "the file has no bytes; copy it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, state, reason, detail in TEXT_HEADS:
        if text.startswith(start):
            raise BadSource(state, reason, detail)
    if text.startswith(b"<") and (b"<mpd" in text[:1024] or b"<smoothstreamingmedia" in text[:1024]):
        _reject("names_other_files", PLAYLIST)
    if head.count(0) == len(head) and len(head) == HEAD_BYTES:
        _fail("not_media", "it begins with nothing but zeros: an unfinished copy or download; copy it again")


def _check_claims(claims: Mp4Claims, size_bytes: int) -> None:
    if claims.other_file is not None:
        _reject(
            "names_other_files",
            f"its picture or sound lies in another file ({claims.other_file}); save it as a self-contained movie",
        )
    if claims.is_compressed:
        _reject("compressed_header", "its header is compressed; rewrite it: ffmpeg -i FILE -map 0 -c copy NEW.mov")
    if claims.is_overgrown or claims.index_entries > MAX_INDEX_ENTRIES:
        _reject(
            "index_too_large",
            f"it claims {claims.index_entries} samples in {size_bytes} bytes, over {MAX_INDEX_ENTRIES}; split the file",
        )


def _demuxer_options(limits: Limits, *, with_decoders: bool) -> dict[str, str]:
    return ({} if with_decoders else {"codec_whitelist": "none"}) | {
        "format_whitelist": SELF_CONTAINED_FORMATS,
        "protocol_whitelist": "none",  # the bytes come from Python: no protocol is needed
        "enable_drefs": "0",  # mov: never follow a reference to data in another file
        "max_streams": str(limits.max_streams + 1),  # one more, so that too many can be told from as many as allowed
        "max_pixels": str(limits.max_frame_pixels),  # reaches the decoders that look at the first frames
        "probesize": str(PROBE_BYTES),
        "analyzeduration": str(PROBE_US),
    }


def _open_container(source: _SourceBytes, claims: Mp4Claims, limits: Limits, *, with_decoders: bool) -> InputContainer:
    source.seek(0)
    try:
        return av.open(
            source,
            mode="r",
            options=_demuxer_options(limits, with_decoders=with_decoders),
            io_open=_refuse_other_files,
            buffer_size=BUFFER_BYTES,
            metadata_errors="replace",
        )
    except av.error.MemoryError:  # what most demuxers answer when they may make no more streams
        limit = f"max_streams={limits.max_streams}"
        _reject("too_many_streams", f"more than {limit} streams, or a header that fits no memory; leave some out")
    except av.error.FFmpegError as error:
        # Every error of FFmpeg's: whichever it is, this file could not be opened and another may be.
        if claims.is_mp4 and not claims.has_index:
            detail = "an mp4 or mov without its index (moov): recording or copying was cut short; copy it again"
            raise BadSource(SourceState.FAILED, "no_index", detail) from error
        detail = f"no known container could be read ({error.strerror}); is the file whole? Copy it again"
        raise BadSource(SourceState.FAILED, "not_media", detail) from error
    except UnicodeDecodeError:  # PyAV hands addresses on as text, and this one is none
        _reject("names_other_files", "it asks to open an address that is no text; only the file itself is read")


def _check_streams(container: InputContainer, limits: Limits) -> None:
    for count, limit in ((len(container.streams), "max_streams"), (len(container.streams.video), "max_video_streams")):
        if count > getattr(limits, limit):
            _reject("too_many_streams", f"{count} or more, over {limit}={getattr(limits, limit)}; leave some out")
    shown = _shown_stream(container)
    if shown is not None and shown.codec_context is not None:
        _check_pixels(shown.codec_context, limits)  # by the header: the decoder forgets a size that it may not have


@contextmanager
def open_media(path: str | os.PathLike[str], limits: Limits) -> Iterator[InputContainer]:
    """The container of a local file, opened so that FFmpeg can reach no other file and no address.

    The bytes go through a Python file object, only self-contained formats are tried, every further open is refused, and
    no protocol is left to a demuxer that opens by itself. FFmpeg never sees the name, so any spelling of it is safe.

    Raises BadSource: `unreadable`, `not_a_file`, `empty`, `not_media`, `no_index`, `names_other_files`,
    `too_many_bytes`, `too_many_streams`, `too_many_pixels`, `index_too_large`, `compressed_header`, `decode_timeout`;
    the first and the last also later, when the container reads. Raises OSError where this machine is at fault.
    """
    with open_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > limits.max_source_bytes:
            _reject("too_many_bytes", f"{size_bytes} bytes, over max_source_bytes={limits.max_source_bytes}")
        try:
            _check_head(file.read(HEAD_BYTES))
            claims = read_claims(file, size_bytes)
        except OSError as error:
            _unreadable(error)
        _check_claims(claims, size_bytes)
        source = _SourceBytes(file, size_bytes, limits)
        # FFmpeg decodes the first pictures of every stream at once, so the streams are counted before it may.
        with _open_container(source, claims, limits, with_decoders=False) as container:
            _check_streams(container, limits)
        with _open_container(source, claims, limits, with_decoders=True) as container:
            _check_streams(container, limits)
            yield container


def main_video_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """The video stream that players show: the first that is marked as default, else the first; never a cover picture.

    Raises BadSource: `no_video`, `unknown_codec`, `no_picture_size`, `too_many_pixels`, `odd_pixels`.
    """
    stream = _shown_stream(container)
    if stream is None:
        others = ", ".join(sorted({s.type for s in container.streams})) or "none"
        _reject("no_video", f"no video stream (streams: {others})")
    codec = stream.codec_context
    if codec is None:
        _fail("unknown_codec", "FFmpeg has no decoder for its video; convert it with the program that made it")
    _check_pixels(codec, limits)
    if codec.width * codec.height == 0:
        limit = f"max_frame_pixels={limits.max_frame_pixels}"
        _fail("no_picture_size", f"no picture size: none in the header, and no first frame that decodes within {limit}")
    aspect = stream.sample_aspect_ratio or 1
    if not 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT:
        _reject("odd_pixels", f"its pixels are said to be {aspect} as wide as high; mend the header")
    return stream


def _shown_stream(container: InputContainer) -> VideoStream | None:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    return next((s for s in streams if s.disposition & Disposition.default), streams[0] if streams else None)


def _check_pixels(codec: VideoCodecContext, limits: Limits) -> None:
    if codec.width * codec.height > limits.max_frame_pixels:
        limit = f"max_frame_pixels={limits.max_frame_pixels}"
        _reject("too_many_pixels", f"{codec.width}x{codec.height}, over {limit}; scale it down")
