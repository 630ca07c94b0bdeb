"""Cutting by re-encoding, for what no container carries beside its own, or when asked for. Still frame-exact."""

from __future__ import annotations

import io
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg

from curation.cut import ClipFile
from curation.media import SELF_CONTAINED_FORMATS
from curation.records import Span

__all__ = ["CannotEncode", "encode_clip"]

# Visually lossless for training: about 45 dB on the footage that was tried.
CRF = 16
PRESET = "veryfast"
X264_PIX_FMTS = frozenset(
    [
        "yuv420p",
        "yuvj420p",
        "yuv422p",
        "yuvj422p",
        "yuv444p",
        "yuvj444p",
        "yuv420p10le",
        "yuv422p10le",
        "yuv444p10le",
        "gray",
        "gray10le",
    ]
)


class CannotEncode(Exception):
    """ffmpeg could not encode the span; the message is its last line."""


def encode_clip(path: Path, demuxer: str, stream_index: int, span: Span, frames: int, pix_fmt: str) -> ClipFile:
    """The span of one stream as H.264 with AAC sound in mp4, upright, at its own size and exact times.

    Frames are chosen by their presentation time, never by counting, so a stream that does not start at 0 or varies in
    rate comes out right. Raises CannotEncode when ffmpeg fails or gives another number of frames than `frames`.
    """
    with tempfile.TemporaryDirectory(prefix="dailies-encode-") as folder:
        out = Path(folder) / "clip.mp4"
        _run(path, demuxer, stream_index, span, pix_fmt, out)
        data = out.read_bytes()
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        encoded = sum(packet.size > 0 for packet in container.demux(stream))
        assert stream.time_base is not None
        time_base: Fraction = stream.time_base
        has_audio = bool(container.streams.audio)
    if encoded != frames:
        raise CannotEncode(f"{encoded} frames were encoded, the span has {frames}")
    end_pts = -int(-span.duration_s // time_base)
    return ClipFile(data, "mp4", 0, end_pts, time_base, 0, "encoded" if has_audio else "none")


def _run(path: Path, demuxer: str, stream_index: int, span: Span, pix_fmt: str, out: Path) -> None:
    start_s, end_s = (float(pts * span.time_base) for pts in (span.start_pts, span.end_pts))
    source = ffmpeg.input(
        f"file:{path}",
        format=demuxer,
        format_whitelist=SELF_CONTAINED_FORMATS,
        protocol_whitelist="file",
        copyts=None,
        threads=1,
    )
    video = source[str(stream_index)].filter("trim", start_pts=span.start_pts, end_pts=span.end_pts)
    video = video.filter("setpts", "PTS-STARTPTS")
    outputs = [video]
    if _has_audio(path):
        audio = source.audio.filter("atrim", start=start_s, end=end_s).filter("asetpts", f"PTS-({start_s!r})/TB")
        outputs.append(audio)
    command = ffmpeg.output(
        *outputs,
        f"file:{out}",
        format="mp4",
        vcodec="libx264",
        preset=PRESET,
        crf=CRF,
        pix_fmt=pix_fmt if pix_fmt in X264_PIX_FMTS else "yuv420p",
        acodec="aac",
        fps_mode="passthrough",
        enc_time_base="demux",
        video_track_timescale=span.time_base.denominator,
        threads=1,
        fflags="+bitexact",
    )
    arguments = command.global_args("-nostdin", "-loglevel", "error").compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CannotEncode(f"ffmpeg failed: {last_line}")


def _has_audio(path: Path) -> bool:
    with av.open(str(path)) as container:
        return bool(container.streams.audio)
