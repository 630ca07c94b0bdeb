"""Cutting by re-encoding, for what no container carries beside its own, or when asked for. Still frame-exact.

We decode, and choose frames and samples by their times, exactly as when the source was measured; the ffmpeg program
only encodes what comes through a pipe. So it never opens a file that nobody has vetted, and another FFmpeg's guess at
the times of an AVI file cannot shift a clip by a frame.
"""

from __future__ import annotations

import errno
import heapq
import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO

import av
import av.error
import ffmpeg
import imageio_ffmpeg
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.decode import Decoder
from curation.geometry import normal_rotation
from curation.media import Limits, main_video_stream, open_media
from curation.mp4_edits import BrokenMovie, TrackEdit, write_edits
from curation.mux import ClipFile, fine_timescale
from curation.records import BadSource, Span
from curation.samples import Samples
from curation.sound import SoundCollector
from curation.x264 import colors_of, converted, mastering_of, x264_pix_fmt

__all__ = ["CannotEncode", "encode_clip"]

# Visually lossless for training: about 45 dB on the footage that was tried.
CRF = 16
PRESET = "veryfast"
AUDIO_BITRATE_BPS = 192_000
AAC_PRIMING_SAMPLES = 1024  # what FFmpeg's encoder puts before the first sample
# Decoding begins so far before the keyframe: some formats land behind where they are told to go, and the first times
# after a seek are wrong in MPEG streams.
SEEK_BACK_S = 3
TURNS = {0: (), 90: (("transpose", "cclock"),), 180: (("hflip",), ("vflip",)), 270: (("transpose", "clock"),)}
MAX_ASPECT_TERM = 65535  # of H.264's VUI
MAX_RATE_TERM = 65535
BOTTOM_FIRST = frozenset({3, 4})  # AV_FIELD_BB, AV_FIELD_TB: the bottom field is shown first


class CannotEncode(Exception):
    """The span could not be encoded; the message says why."""


class _Missed(Exception):
    """Decoding did not begin early enough, or did not give the frames that were promised."""


def encode_clip(path: Path, span: Span, entry_pts: int, frames: int, limits: Limits) -> ClipFile:
    """The span as H.264 with AAC sound in mp4, upright, at its own size, pixel aspect, depth, colours and exact times.

    `entry_pts`: the keyframe from which the span decodes right. `frames`: how many the span has, as they were decoded.
    Raises CannotEncode when ffmpeg fails or the span has another number of frames, and BadSource as the decoder does.
    """
    with suppress(_Missed, BadSource):
        return _encoded(path, span, entry_pts, frames, limits)
    try:
        return _encoded(path, span, None, frames, limits)
    except _Missed as error:
        raise CannotEncode(f"the span's {frames} frames are not found again") from error


def _encoded(path: Path, span: Span, from_pts: int | None, frames: int, limits: Limits) -> ClipFile:
    with (
        open_media(path, limits) as container,
        open_media(path, limits) as with_sound,
        tempfile.TemporaryDirectory(prefix="dailies-encode-") as folder,
    ):
        out = Path(folder) / "clip.mp4"
        stream = main_video_stream(container, limits)
        samples = _samples(with_sound, span, limits)
        pictures = _pictures(container, stream, span, from_pts, limits)
        first = next(pictures, None)
        if first is None or first.pts != span.start_pts:
            raise _Missed
        pix_fmt = x264_pix_fmt(first.format, is_turned=normal_rotation(first.rotation) in (90, 270))
        times: list[int] = []
        arguments = _arguments(first, stream, pix_fmt, len(samples), span.time_base, out)
        with _program(arguments, out.with_suffix(".log")) as pipe, av.open(pipe, "w", format="nut") as nut:
            video = _add_video(nut, first, pix_fmt, span.time_base, rate=frames / span.duration_s)
            packets = [_video_packets(video, chain([first], pictures), pix_fmt, span, times)]
            packets += [_sound_packets(_add_sound(nut, sound), sound) for sound in samples]
            for _, packet in heapq.merge(*packets, key=itemgetter(0)):
                nut.mux_one(packet)
        if len(times) != frames:
            raise _Missed
        return _finished(io.BytesIO(out.read_bytes()), span, times, samples)


def _samples(container: InputContainer, span: Span, limits: Limits) -> list[Samples]:
    stream = main_video_stream(container, limits)
    sounds = [sound for sound in container.streams.audio if sound.codec_context is not None]
    return [Samples(track) for track in SoundCollector(container, stream, sounds, hides=True).collect(span)]


def _pictures(
    container: InputContainer, stream: VideoStream, span: Span, from_pts: int | None, limits: Limits
) -> Iterator[VideoFrame]:
    """The span's frames in order, decoded from a keyframe before it or, where `from_pts` is None, from the start."""
    if from_pts is not None:
        if container.format.name == "flv" and stream.codec_context.extradata:
            raise _Missed  # a change of the codec's parameters would not be noticed
        try:
            container.seek(from_pts - int(SEEK_BACK_S / span.time_base), stream=stream)
        except av.error.FFmpegError as error:
            raise _Missed from error
    is_first = True
    for frame in Decoder(container, stream, limits, skip_loop_filter="default"):
        if is_first and from_pts is not None and frame.pts > from_pts:
            raise _Missed
        is_first = False
        if frame.pts >= span.end_pts:
            return
        if frame.pts >= span.start_pts:
            yield frame.picture


def _arguments(
    first: VideoFrame, stream: VideoStream, pix_fmt: str, sounds: int, time_base: Fraction, out: Path
) -> list[str]:
    """The command line of ffmpeg for a NUT file in its standard input."""
    source = ffmpeg.input("pipe:", format="nut")
    video = source["v:0"].filter("setparams", **colors_of(first))
    aspect = stream.sample_aspect_ratio or Fraction(1)
    video = video.filter("setsar", sar=f"{aspect.numerator}/{aspect.denominator}", max=MAX_ASPECT_TERM)
    rotation = normal_rotation(first.rotation)
    for name, *values in TURNS[rotation]:
        video = video.filter(name, *values)
    flags = "+bitexact"
    if first.interlaced_frame and rotation in (0, 180):
        # Chroma of interlaced pictures lies elsewhere, so it must be said of the encoded ones too.
        video = video.filter("setfield", "bff" if stream.codec_context.field_order in BOTTOM_FIRST else "tff")
        flags += "+ilme+ildct"
    command = ffmpeg.output(
        video,
        *(source[f"a:{number}"] for number in range(sounds)),
        f"file:{out}",
        format="mp4",
        vcodec="libx264",
        preset=PRESET,
        crf=CRF,
        pix_fmt=pix_fmt,
        acodec="aac",
        audio_bitrate=AUDIO_BITRATE_BPS,
        fps_mode="passthrough",
        video_track_timescale=fine_timescale(time_base),
        movie_timescale=fine_timescale(time_base),
        threads=1,
        fflags="+bitexact",
        # Of the picture alone: the sound has a clock of its own.
        **{"enc_time_base:v": f"{time_base.numerator}:{time_base.denominator}", "flags:v": flags},
        **({"x264-params": mastering} if (mastering := mastering_of(first)) else {}),
    )
    return command.global_args("-nostdin", "-loglevel", "error").compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())


@contextmanager
def _program(arguments: list[str], log: Path) -> Iterator[IO[bytes]]:
    """The standard input of a program that runs until it is closed. Raises CannotEncode when the program fails."""
    trouble: Exception | None = None
    with log.open("wb") as errors:
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        assert process.stdin is not None
        try:
            yield process.stdin
        except (BrokenPipeError, av.error.FFmpegError) as error:
            trouble = error  # the program says why
        except BaseException:
            process.kill()
            raise
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
    if process.returncode != 0 or trouble is not None:
        lines = log.read_text(errors="replace").strip().splitlines() or [f"it ended with code {process.returncode}"]
        if any(os.strerror(errno.ENOSPC) in line for line in lines):
            # This machine's fault, not the clip's.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.parent))
        raise CannotEncode(f"ffmpeg failed: {lines[-1]}") from trouble


def _add_video(
    nut: OutputContainer, first: VideoFrame, pix_fmt: str, time_base: Fraction, *, rate: Fraction
) -> VideoStream:
    """`rate`: frames a second, by which ffmpeg will tell how long the last one lasts."""
    stream = nut.add_stream("rawvideo", rate=rate.limit_denominator(MAX_RATE_TERM))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = first.width, first.height, pix_fmt
    context.time_base = stream.time_base = time_base
    return stream


def _video_packets(
    stream: VideoStream, pictures: Iterator[VideoFrame], pix_fmt: str, span: Span, times: list[int]
) -> Iterator[tuple[Fraction, Packet]]:
    """A packet for each picture and its time in seconds; `times` gets it in ticks, counted from the span's start."""
    for picture in pictures:
        assert picture.pts is not None
        ticks = picture.pts - span.start_pts
        times.append(ticks)
        raw = converted(picture, pix_fmt)
        raw.pts, raw.time_base = ticks, span.time_base
        for packet in stream.encode(raw):
            yield ticks * span.time_base, packet


def _add_sound(nut: OutputContainer, samples: Samples) -> AudioStream:
    stream = nut.add_stream("pcm_f32le", rate=samples.rate_hz)
    stream.codec_context.layout = samples.layout
    stream.time_base = Fraction(1, samples.rate_hz)
    return stream


def _sound_packets(stream: AudioStream, samples: Samples) -> Iterator[tuple[Fraction, Packet]]:
    written = 0
    for piece in samples:
        packet = Packet(piece.tobytes())
        packet.stream, packet.time_base = stream, Fraction(1, samples.rate_hz)
        packet.pts = packet.dts = written
        packet.duration = len(piece)
        yield Fraction(written, samples.rate_hz), packet
        written += len(piece)


def _finished(file: io.BytesIO, span: Span, times: list[int], samples: list[Samples]) -> ClipFile:
    """The clip with exact edit lists, once it is sure that every frame has its time."""
    with av.open(file, "r", options={"ignore_editlist": "1"}) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        time_base: Fraction = stream.time_base
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
    if [(ticks - pts[0]) * time_base for ticks in pts] != [ticks * span.time_base for ticks in times]:
        raise CannotEncode(f"{len(pts)} frames were encoded, not all of {len(times)} at their times")
    file.seek(0)
    edits = [TrackEdit(pts[0] * time_base, span.duration_s)]
    edits += [TrackEdit(Fraction(AAC_PRIMING_SAMPLES, s.rate_hz), span.duration_s) for s in samples]
    try:
        write_edits(file, edits)
    except BrokenMovie as error:
        raise CannotEncode(f"ffmpeg wrote a file that is broken: {error}") from error
    end_pts = pts[0] + -int(-span.duration_s // time_base)
    audio = "encoded" if samples else "none"
    return ClipFile(file.getvalue(), "mp4", pts[0], end_pts, time_base, 0, audio)
