"""Turn pictures into a real video file whose timing and structure are exactly known.

`encode_film` writes an iterator of RGB pictures with the encoder, time base, GOP structure, rotation, pixel aspect,
start and sound that an `Encoding` asks for. Memory does not grow with the length, and two calls with the same input
write the same bytes.

What the containers do to time: mp4 and mov keep every time exactly; Matroska and WebM round it to a millisecond; AVI
knows only a frame number; MPEG program and transport streams tick in 1/90000 s and begin later than asked, because
their decoding times must not be negative. FFmpeg's mp4 and mov have two more traps. AAC that does not begin at 0 begins
1024 samples of encoder delay early. With B-frames and a variable rate the header's duration is too short, because it is
a sum over decoding times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import lcm
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

__all__ = ["Encoding", "Picture", "encode_film"]

Picture = NDArray[np.uint8]
"""RGB, shape (height, width, 3)."""

AUDIO_RATE_HZ = 48_000
AUDIO_CHUNK_SAMPLES = 4_800
LEFT_TONE_HZ = 220.0
# A sweep of whole cycles (200 * 2 + 200 * 2**2 / 2 = 800), so that its repetition has no click.
RIGHT_SWEEP_FROM_HZ, RIGHT_SWEEP_HZ_PER_S, RIGHT_SWEEP_S = 200.0, 200.0, 2.0

REORDERING_CODECS = ("libx264", "libx265", "mpeg2video", "mpeg4")
OPEN_GOP_CODECS = ("libx264", "libx265", "mpeg2video")
LARGEST_TIMESCALE = (1 << 31) - 1
EDIT_LIST_SUFFIXES = (".mp4", ".mov", ".m4v")
ROTATING_SUFFIXES = (*EDIT_LIST_SUFFIXES, ".mkv", ".webm")
FRAME_NUMBER_SUFFIXES = (".avi",)
EXPERIMENTAL_AUDIO_CODECS = ("opus", "vorbis")

NO_SCENE_CUT_THRESHOLD = "1000000000"
QSCALE_UNIT = 118  # FF_QP2LAMBDA, https://ffmpeg.org/doxygen/trunk/group__lavu__misc.html
QSCALE_CODECS = {"mpeg4": 4, "mpeg2video": 4, "mjpeg": 4}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures become a file. Raises ValueError, naming field, value and rule, for what no encoder here can do.

    rate                frames per second; with explicit pts only the length of the last frame and a hint to the encoder
    time_base           seconds per tick of the pts; None means one tick a frame
    gop_frames          most frames from one keyframe to the next
    open_gop            pictures shown before a keyframe may refer across it (leading pictures, non-IDR keyframes)
    keyframes_at_cuts   let the encoder begin a GOP where it sees a cut: libx264 does, libx265 if it has B-frames,
                        the others seldom
    preset              speed of libx264 and libx265; other encoders ignore it
    bitrate_bps         None means the constant quality that is set here for each codec
    rotation_deg        counter-clockwise degrees by which a player turns the coded picture, as `VideoFrame.rotation`
    pixel_aspect        width of a pixel over its height
    start_offset_s      time of the first frame
    audio_codec         None for a silent film; else a tone on the left and a sweep on the right, as long as the video
    """

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    rate: Fraction = Fraction(24)
    time_base: Fraction | None = None
    gop_frames: int = 48
    b_frames: int = 0
    open_gop: bool = False
    keyframes_at_cuts: bool = True
    preset: str = "veryfast"
    bitrate_bps: int | None = None
    rotation_deg: int = 0
    pixel_aspect: Fraction = Fraction(1)
    start_offset_s: Fraction = Fraction(0)
    audio_codec: str | None = None

    def __post_init__(self) -> None:
        _check_codecs(self)
        _refuse(self.rate <= 0, "rate", self.rate, "must be above 0")
        _refuse(self.ticks <= 0, "time_base", self.time_base, "must be above 0")
        _refuse(self.gop_frames < 1, "gop_frames", self.gop_frames, "must be 1 or more")
        turns = (0, 90, 180, 270)
        _refuse(self.rotation_deg not in turns, "rotation_deg", self.rotation_deg, f"must be one of {turns}")
        _refuse(self.pixel_aspect <= 0, "pixel_aspect", self.pixel_aspect, "must be above 0")
        bitrate_bps = self.bitrate_bps
        _refuse(bitrate_bps is not None and bitrate_bps <= 0, "bitrate_bps", bitrate_bps, "must be above 0")
        _refuse(self.start_offset_s < 0, "start_offset_s", self.start_offset_s, "must be 0 or more")
        whole = (self.start_offset_s / self.ticks).denominator == 1
        _refuse(not whole, "start_offset_s", self.start_offset_s, f"must be a whole number of ticks of {self.ticks} s")
        _check_gop(self)

    @property
    def ticks(self) -> Fraction:
        """Seconds per tick of the pts."""
        return 1 / self.rate if self.time_base is None else self.time_base


def encode_film(
    path: str | Path, frames: Iterable[Picture], encoding: Encoding | None = None, *, pts: Iterable[int] | None = None
) -> int:
    """Write upright RGB uint8 pictures of one size to a file whose suffix names the container; return their number.

    `encoding` None means `Encoding()`. `pts` has a time for each frame in ticks of `encoding.time_base`, strictly
    rising and without the start offset; without it frames are 1/rate apart. With a rotation the pictures are turned
    back before they are coded, so a player shows them upright. Raises ValueError for what the container cannot hold,
    and for frames or pts that break these rules; then no file is left.
    """
    path, encoding = Path(path), encoding or Encoding()
    _check_container(path, encoding, pts is not None)
    timed = _timed(iter(frames), encoding, pts)
    first = next(timed, None)
    if first is None:
        raise ValueError("frames=(): must be at least one")
    _check_picture(first[0], first[0].shape)
    _check_size(first[0], encoding)
    try:
        with _open(path, encoding) as container:
            return _write(container, first, timed, encoding)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


Timed = tuple[Picture, int, int]
"""A picture, its pts and its duration in ticks."""


def _open(path: Path, encoding: Encoding) -> OutputContainer:
    # Without this flag Matroska draws random identifiers and no two files are alike.
    options = {"fflags": "+bitexact"}
    if path.suffix.lower() in EDIT_LIST_SUFFIXES:
        # Edit lists, which hold the start of each stream, are in the movie's time base: 1 ms unless it is set.
        options["movie_timescale"] = str(min(lcm(encoding.ticks.denominator, AUDIO_RATE_HZ), LARGEST_TIMESCALE))
    try:
        return av.open(str(path), "w", options=options)
    except ValueError:
        raise ValueError(f"path={path.name!r}: its suffix must name a container") from None


def _add_stream(
    container: OutputContainer, codec: str, field: str, rate: Fraction | int, options: dict[str, str]
) -> Any:
    try:
        return container.add_stream(codec, rate=rate, options=options)
    except ValueError:
        rule = f"must be a codec that the container {container.format.name} holds"
        raise ValueError(f"{field}={codec!r}: {rule}") from None


def _write(container: OutputContainer, first: Timed, rest: Iterator[Timed], encoding: Encoding) -> int:
    video = _add_video(container, first[0], encoding)
    sound = _Sound(container, encoding) if encoding.audio_codec else None
    start = int(encoding.start_offset_s / encoding.ticks)
    count = end = 0
    for picture, pts, duration in chain([first], rest):
        _check_picture(picture, first[0].shape)
        frame = av.VideoFrame.from_ndarray(_coded(picture, encoding), format="rgb24")
        frame.pts, frame.duration, frame.time_base = start + pts, duration, encoding.ticks
        container.mux(video.encode(frame))
        count, end = count + 1, pts + duration
        if sound is not None:
            sound.write_until(end * encoding.ticks)
    container.mux(video.encode(None))
    if sound is not None:
        sound.finish(end * encoding.ticks)
    return count


def _timed(frames: Iterator[Picture], encoding: Encoding, pts: Iterable[int] | None) -> Iterator[Timed]:
    """Each picture with its pts and the ticks to the next; the last one lasts as long as the rate says."""
    frame_ticks = 1 / (encoding.rate * encoding.ticks)
    if pts is None:
        for index, picture in enumerate(frames):
            yield picture, index * int(frame_ticks), int(frame_ticks)
        return
    ticks = iter(pts)
    picture = next(frames, None)
    now = _next_pts(ticks, 0, None) if picture is not None else 0
    for index, following in enumerate(frames, start=1):
        then = _next_pts(ticks, index, now)
        assert picture is not None
        yield picture, now, then - now
        picture, now = following, then
    if picture is not None:
        yield picture, now, max(1, round(frame_ticks))


def _next_pts(ticks: Iterator[int], index: int, before: int | None) -> int:
    value = next(ticks, None)
    if value is None:
        raise ValueError(f"pts={index} values: must be one for each frame, and there are more frames")
    if value < 0 or (before is not None and value <= before):
        raise ValueError(f"pts={value} at frame {index}, after {before}: must rise strictly, from 0 or more")
    return value


def _coded(picture: Picture, encoding: Encoding) -> Picture:
    """The picture as it is stored: turned clockwise by what a player will turn it counter-clockwise."""
    if encoding.rotation_deg == 0:
        return picture
    return np.ascontiguousarray(np.rot90(picture, -encoding.rotation_deg // 90))


def _add_video(container: OutputContainer, picture: Picture, encoding: Encoding) -> VideoStream:
    height, width = _coded(picture, encoding).shape[:2]
    stream = _add_stream(container, encoding.codec, "codec", encoding.rate, _codec_options(encoding))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, encoding.pix_fmt
    context.time_base = stream.time_base = encoding.ticks
    context.sample_aspect_ratio = encoding.pixel_aspect
    context.gop_size, context.max_b_frames = encoding.gop_frames, encoding.b_frames
    context.thread_count = 1
    context.flags |= CodecFlags.bitexact
    # mpeg2video and mpeg4 refuse closed GOPs with cut detection; without B-frames every GOP is closed anyway.
    if encoding.b_frames and not encoding.open_gop:
        context.flags |= CodecFlags.closed_gop
    if encoding.bitrate_bps is not None:
        context.bit_rate = encoding.bitrate_bps
    elif encoding.codec in QSCALE_CODECS:
        context.qscale, context.global_quality = True, QSCALE_CODECS[encoding.codec] * QSCALE_UNIT
    if encoding.rotation_deg:
        stream.set_display_rotation(encoding.rotation_deg)
    return stream


def _codec_options(encoding: Encoding) -> dict[str, str]:
    """The encoder's own options: one thread, a fixed B-frame pattern, cuts as asked, quality where no bit rate is."""
    cuts, free = encoding.keyframes_at_cuts, encoding.bitrate_bps is None
    match encoding.codec:
        case "libx264":
            # Said outright because the preset ultrafast switches it off.
            threshold = "40" if cuts else "0"
            options = {"preset": encoding.preset, "sc_threshold": threshold, "x264-params": _x264_params(encoding)}
            return options | ({"crf": "20"} if free else {})
        case "libx265":
            return {"preset": encoding.preset, "x265-params": _x265_params(encoding)} | ({"crf": "24"} if free else {})
        case "libvpx" | "libvpx-vp9":
            # A least distance between keyframes equal to the greatest switches libvpx's placement by content off.
            still = {} if cuts else {"keyint_min": str(encoding.gop_frames)}
            # libvpx's VP8 ignores the constant quality unless it has a bit rate as well.
            quality = {"crf": "24", "b": "2000000" if encoding.codec == "libvpx" else "0"} if free else {}
            return {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"} | still | quality
        case "libsvtav1":
            return {"preset": "10", "svtav1-params": "lp=1"} | ({"crf": "35"} if free else {})
        case "mpeg4" | "mpeg2video":
            return {"sc_threshold": "0" if cuts else NO_SCENE_CUT_THRESHOLD}
        case _:
            return {}


def _x264_params(encoding: Encoding) -> str:
    # The macroblock tree with B-frames gives other bytes from call to call on processors with AVX-512.
    params = "threads=1:lookahead-threads=1:b-adapt=0:mbtree=0"
    return params + (":open-gop=1:b-pyramid=normal" if encoding.open_gop else "")


def _x265_params(encoding: Encoding) -> str:
    threshold = 40 if encoding.keyframes_at_cuts else 0
    params = f"pools=none:frame-threads=1:wpp=0:log-level=error:b-adapt=0:scenecut={threshold}"
    return params + f":open-gop={int(encoding.open_gop)}"


class _Sound:
    """Writes the sound track up to a given time, chunk by chunk, so that it lies beside the pictures it goes with."""

    def __init__(self, container: OutputContainer, encoding: Encoding) -> None:
        assert encoding.audio_codec is not None
        options = {"strict": "experimental"} if encoding.audio_codec in EXPERIMENTAL_AUDIO_CODECS else {}
        stream = _add_stream(container, encoding.audio_codec, "audio_codec", AUDIO_RATE_HZ, options)
        stream.codec_context.layout = "stereo"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= CodecFlags.bitexact
        self._container, self._stream = container, stream
        self._start = round(encoding.start_offset_s * AUDIO_RATE_HZ)
        self._written = 0

    def write_until(self, seconds: Fraction) -> None:
        while self._written + AUDIO_CHUNK_SAMPLES <= seconds * AUDIO_RATE_HZ:
            self._write(AUDIO_CHUNK_SAMPLES)

    def finish(self, seconds: Fraction) -> None:
        self.write_until(seconds)
        rest = round(seconds * AUDIO_RATE_HZ) - self._written
        if rest:
            self._write(rest)
        self._container.mux(self._stream.encode(None))

    def _write(self, samples: int) -> None:
        frame = av.AudioFrame.from_ndarray(_stereo(self._written, samples), format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base = AUDIO_RATE_HZ, Fraction(1, AUDIO_RATE_HZ)
        frame.pts = self._start + self._written
        self._written += samples
        self._container.mux(self._stream.encode(frame))


def _stereo(first_sample: int, samples: int) -> NDArray[np.float32]:
    """Samples of the sound from `first_sample` on, shape (2, samples), peak 0.25."""
    seconds = np.arange(first_sample, first_sample + samples) / AUDIO_RATE_HZ
    within = seconds % RIGHT_SWEEP_S
    cycles = np.stack([LEFT_TONE_HZ * seconds, (RIGHT_SWEEP_FROM_HZ + RIGHT_SWEEP_HZ_PER_S * within / 2) * within])
    return (0.25 * np.sin(2 * np.pi * cycles)).astype(np.float32)


def _refuse(broken: bool, field: str, value: object, rule: str) -> None:
    if broken:
        raise ValueError(f"{field}={value}: {rule}")


def _encoder(name: str, kind: str, field: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
    except ValueError:
        rule = "must be an encoder of the FFmpeg that PyAV carries"
        raise ValueError(f"{field}={name!r}: {rule}") from None
    _refuse(codec.type != kind, field, repr(name), f"must be an encoder for {kind}")
    return codec


def _check_codecs(encoding: Encoding) -> None:
    known = [f.name for f in _encoder(encoding.codec, "video", "codec").video_formats or ()]
    if known and encoding.pix_fmt not in known:
        _refuse(True, "pix_fmt", repr(encoding.pix_fmt), f"must be one of {encoding.codec}'s: {', '.join(known)}")
    if encoding.audio_codec is not None:
        _encoder(encoding.audio_codec, "audio", "audio_codec")


def _check_gop(encoding: Encoding) -> None:
    _refuse(encoding.b_frames < 0, "b_frames", encoding.b_frames, "must be 0 or more")
    reorders = encoding.codec in REORDERING_CODECS
    rule = f"must be 0 unless the codec is one of {', '.join(REORDERING_CODECS)}"
    _refuse(encoding.b_frames > 0 and not reorders, "b_frames", encoding.b_frames, rule)
    if encoding.open_gop:
        rule = f"needs b_frames and a codec out of {', '.join(OPEN_GOP_CODECS)}"
        _refuse(encoding.codec not in OPEN_GOP_CODECS or encoding.b_frames == 0, "open_gop", True, rule)
    elif encoding.b_frames and encoding.codec in ("mpeg4", "mpeg2video"):
        rule = f"must be False for closed GOPs with B-frames in {encoding.codec}"
        _refuse(encoding.keyframes_at_cuts, "keyframes_at_cuts", True, rule)


def _check_container(path: Path, encoding: Encoding, explicit_pts: bool) -> None:
    suffix = path.suffix.lower()
    if encoding.rotation_deg:
        rule = f"must be 0 unless the container is one of {', '.join(ROTATING_SUFFIXES)}"
        _refuse(suffix not in ROTATING_SUFFIXES, "rotation_deg", encoding.rotation_deg, f"{rule}, not {suffix!r}")
    if suffix in FRAME_NUMBER_SUFFIXES:
        _refuse(encoding.start_offset_s > 0, "start_offset_s", encoding.start_offset_s, f"must be 0 in {suffix!r}")
        _refuse(explicit_pts, "pts", "given", f"must be left out in {suffix!r}")
        # An encoder delay of the sound shifts the pictures too, and a frame number goes missing.
        delayed = encoding.audio_codec is not None and not encoding.audio_codec.startswith("pcm_")
        _refuse(delayed, "audio_codec", repr(encoding.audio_codec), f"must be None or PCM in {suffix!r}")
    if not explicit_pts:
        whole = (1 / (encoding.rate * encoding.ticks)).denominator == 1
        _refuse(not whole, "time_base", encoding.ticks, f"must divide the frame's {1 / encoding.rate} s without pts")


def _check_picture(picture: Picture, shape: tuple[int, ...]) -> None:
    given, rule = f"{picture.dtype} {picture.shape}", "must be uint8 (height, width, 3)"
    _refuse(picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3, "frames", given, rule)
    _refuse(picture.shape != shape, "frames", given, f"must have the size of the first, {shape}")


def _check_size(picture: Picture, encoding: Encoding) -> None:
    """Subsampled chroma needs even sides: some encoders refuse odd ones, others crop them without a word."""
    height, width = _coded(picture, encoding).shape[:2]
    layout = av.VideoFormat(encoding.pix_fmt, width, height)
    for field, side, chroma in (("width", width, layout.chroma_width), ("height", height, layout.chroma_height)):
        _refuse(chroma(2) == 1 and side % 2 == 1, field, side, f"must be even with {encoding.pix_fmt}")
