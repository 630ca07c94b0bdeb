"""Clips that have to be encoded: exactly the span's frames at their times, upright, with their colours and sound."""

from __future__ import annotations

import io
import os
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.format import VideoFormat

from curation import encode as encoding_module
from curation.cut import CannotCopy
from curation.encode import CannotEncode, encode_clip
from curation.film import Encoding, encode_film
from curation.geometry import normal_rotation
from curation.media import main_video_stream, open_media
from curation.mux import ClipFile
from curation.reader import read_frames, upright_rgb
from curation.records import BadSource
from curation.x264 import x264_pix_fmt
from tests.cutting import LIMITS, Source, cut, decoded, encode, film, played, played_by_program, program
from tests.hearing import heard, noise, shift

FLAT = np.ones((64, 96, 3), np.uint8)


def encoded(source: Source, first: int, end: int) -> ClipFile:
    return encode_clip(source.path, source.span(first, end), source.entry_pts(first), end - first, LIMITS)


def numbered(path: Path, encoding: Encoding, frames: int = 60, pts: list[int] | None = None) -> Path:
    """A film whose pictures tell their number by their brightness, which no encoder loses."""
    encode_film(path, (FLAT * (20 + 3 * number) for number in range(frames)), encoding, pts=pts)
    return path


def numbers(clip: ClipFile, frames: int) -> list[int]:
    span = {"start_pts": clip.start_pts, "end_pts": clip.end_pts, "frames": frames}
    pictures = read_frames(io.BytesIO(clip.data), **span)
    return [round((upright_rgb(f, width=f.width, height=f.height).mean() - 20) / 3) for f in pictures]


def check(source: Source, first: int, end: int, folder: Path) -> ClipFile:
    """Which frames they are, and when, for our reader and for players."""
    clip, times_s = encoded(source, first, end), [frame.time_s for frame in source.shown(first, end)]
    assert numbers(clip, end - first) == list(range(first, end))
    assert [frame.time_s for frame in played(clip)] == times_s
    assert [frame.time_s for frame in played_by_program(clip, folder)] == times_s
    with av.open(io.BytesIO(clip.data), "r") as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - float(source.span(first, end).duration_s)) < 0.03
    return clip


VARIED = [40 * index + (index * index % 7) * 3 for index in range(60)]
SOURCES: dict[str, tuple[Encoding, list[int] | None]] = {
    "plain.mp4": (Encoding(gop_frames=12, b_frames=2, keyframes_at_cuts=False), None),
    "late.mov": (Encoding(gop_frames=12, b_frames=2, start_offset_s=Fraction(3), keyframes_at_cuts=False), None),
    "late.mkv": (Encoding(gop_frames=12, b_frames=2, start_offset_s=Fraction(1, 2), keyframes_at_cuts=False), None),
    "stream.ts": (Encoding(gop_frames=12, b_frames=3, open_gop=True, keyframes_at_cuts=False), None),
    "stream.mpg": (Encoding("mpeg2video", rate=Fraction(25), gop_frames=12, b_frames=2, keyframes_at_cuts=False), None),
    "varied.mp4": (Encoding(time_base=Fraction(1, 1000), gop_frames=12, keyframes_at_cuts=False), VARIED),
    "varied.mkv": (Encoding(time_base=Fraction(1, 1000), gop_frames=12, keyframes_at_cuts=False), VARIED),
    "ntsc.mp4": (Encoding("libx265", rate=Fraction(30000, 1001), gop_frames=12, b_frames=3), None),
    "index.avi": (Encoding("mpeg4", rate=Fraction(25), gop_frames=12, b_frames=2, keyframes_at_cuts=False), None),
    "web.webm": (Encoding("libvpx-vp9", rate=Fraction(25), gop_frames=12), None),
}


@pytest.mark.parametrize("name", SOURCES)
def test_exactly_the_spans_frames(name: str, tmp_path: Path) -> None:
    encoding, pts = SOURCES[name]
    source = decoded(numbered(tmp_path / name, encoding, pts=pts))
    assert len(source.frames) == 60
    for first, end in [(0, 60), (0, 1), (59, 60), (17, 19), (24, 37), (31, 32)]:
        check(source, first, end, tmp_path)


REFUSED = {
    "flash.flv": ("flv", {"g": "12"}, "yuv420p"),
    "cinepak.avi": ("cinepak", {"g": "12"}, "rgb24"),
    "utvideo.avi": ("utvideo", {}, "yuv422p"),
    "raw.avi": ("rawvideo", {}, "yuv420p"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_is_encoded(name: str, tmp_path: Path) -> None:
    codec, options, pix_fmt = REFUSED[name]
    source = decoded(encode(tmp_path / name, codec, options, pix_fmt=pix_fmt))
    with pytest.raises(CannotCopy):
        cut(source, 20, 30)
    clip = encoded(source, 20, 30)
    assert [frame.time_s for frame in played(clip)] == [frame.time_s for frame in source.shown(20, 30)]
    assert likeness_db(source, 20, 30, clip) > 28


def pictures(source: Source, first: int, end: int) -> list[Any]:
    """Upright RGB, in the source's own size."""
    span = source.span(first, end)
    with open_media(source.path, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)
        frames = [f for f in container.decode(stream) if f.pts is not None and span.start_pts <= f.pts < span.end_pts]
        return [upright(frame) for frame in frames]


def upright(frame: av.VideoFrame) -> Any:
    is_turned = normal_rotation(frame.rotation) in (90, 270)
    width, height = (frame.height, frame.width) if is_turned else (frame.width, frame.height)
    return upright_rgb(frame, width=width, height=height)


def likeness_db(source: Source, first: int, end: int, clip: ClipFile) -> float:
    span = {"start_pts": clip.start_pts, "end_pts": clip.end_pts, "frames": end - first}
    ours = [upright(frame).astype(float) for frame in read_frames(io.BytesIO(clip.data), **span)]
    errors = [np.mean((a - b) ** 2) for a, b in zip(ours, pictures(source, first, end), strict=True)]
    return float(10 * np.log10(255**2 / max(errors)))


@pytest.mark.parametrize("pixel_aspect", [Fraction(1), Fraction(4, 3), Fraction(399, 400)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright_with_the_pixels_shape(rotation: int, pixel_aspect: Fraction, tmp_path: Path) -> None:
    source = decoded(film(tmp_path / "turned.mp4", Encoding(rotation_deg=rotation, pixel_aspect=pixel_aspect), 12))
    assert source.pixel_aspect == pixel_aspect
    clip = encoded(source, 3, 7)
    with av.open(io.BytesIO(clip.data), "r") as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert (frame.width, frame.height, frame.rotation) == (96, 64, 0)
        assert stream.sample_aspect_ratio == (1 / pixel_aspect if rotation in (90, 270) else pixel_aspect)
    assert likeness_db(source, 3, 7, clip) > 32


PIX_FMTS = {
    # format and size of the source, whether it is turned: what is encoded
    ("yuv420p", 96, False): "yuv420p",
    ("yuvj420p", 96, False): "yuv420p",
    ("nv12", 96, False): "yuv420p",
    ("yuv420p", 95, False): "yuv444p",
    ("yuv420p10le", 96, True): "yuv420p10le",
    ("yuv420p12le", 96, False): "yuv420p10le",
    ("yuv422p", 96, False): "yuv422p",
    ("yuv422p", 96, True): "yuv444p",
    ("yuyv422", 95, False): "yuv444p",
    ("yuv422p10le", 96, False): "yuv422p10le",
    ("yuv411p", 96, False): "yuv422p",
    ("yuv410p", 96, False): "yuv420p",
    ("yuv440p", 96, False): "yuv444p",
    ("yuva444p12le", 96, False): "yuv444p10le",
    ("rgb24", 95, False): "yuv444p",
    ("gbrp10le", 96, False): "yuv444p10le",
    ("bgra", 96, False): "yuv444p",
    ("pal8", 96, False): "yuv444p",
    ("rgb555le", 96, False): "yuv444p",
    ("gray", 95, False): "gray",
    ("gray16le", 96, False): "gray10le",
    ("ya8", 96, False): "gray",
}


@pytest.mark.parametrize(("name", "width", "is_turned"), PIX_FMTS)
def test_depth_and_chroma_are_kept(name: str, width: int, is_turned: bool) -> None:
    assert x264_pix_fmt(VideoFormat(name, width, 64), is_turned=is_turned) == PIX_FMTS[name, width, is_turned]


PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none:keyint=12:bframes=0"
DISPLAY = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
LOOKS = {
    "hdr10.mp4": ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", f"{PQ}:{DISPLAY}"),
    "full.mp4": ("-vf", "scale=out_range=full", "-c:v", "libx264", "-color_range", "pc", "-colorspace", "bt709"),
    "jpeg.avi": ("-c:v", "mjpeg", "-q:v", "2"),
    "interlaced.ts": ("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-g", "12", "-q:v", "2"),
    "dv.dv": ("-vf", "scale=720:576", "-c:v", "dvvideo", "-pix_fmt", "yuv420p"),
    "deep.mov": ("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"),
    "rgb.mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "odd.mkv": ("-vf", "scale=95:63", "-c:v", "ffv1", "-pix_fmt", "yuv420p"),
    "gray.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray", "-color_range", "pc"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_colors_are_kept(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    program("-f", "lavfi", "-i", "testsrc=s=128x96:r=25:d=1", *LOOKS[name], "-threads", "1", str(path))
    source = decoded(path)
    clip = encoded(source, 5, 9)
    assert likeness_db(source, 5, 9, clip) > 24
    with av.open(str(path), "r") as given, av.open(io.BytesIO(clip.data), "r") as container:
        theirs, ours = (next(file.decode(file.streams.video[0])) for file in (given, container))
    is_rgb = name == "rgb.mkv"
    assert is_rgb or int(ours.colorspace) == int(theirs.colorspace)
    assert is_rgb or (int(ours.color_range) == 2) == (int(theirs.color_range) == 2)
    assert (int(ours.color_trc), int(ours.color_primaries)) == (int(theirs.color_trc), int(theirs.color_primaries))
    assert ours.interlaced_frame == theirs.interlaced_frame == (name in ("interlaced.ts", "dv.dv"))
    bits = [max(component.bits for component in frame.format.components) for frame in (theirs, ours)]
    assert bits[1] == min(10, bits[0])
    notes: list[Any] = [theirs.side_data, ours.side_data]
    for kind in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"):
        given_note, our_note = (bytes(note[kind]) if note.get(kind) else None for note in notes)
        assert (given_note is not None) == (name == "hdr10.mp4")
        assert our_note == given_note


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounding")
    wav, other = noise(folder / "noise.wav", 5), noise(folder / "other.wav", 5, seed=1)
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=5", "-i", str(wav), "-i", str(other))
    maps = (
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-map",
        "2:a",
        "-c:v",
        "libx264",
        "-g",
        "25",
        "-bf",
        "2",
        "-preset",
        "ultrafast",
    )
    program(*picture, *maps, "-c:a:0", "aac", "-c:a:1", "ac3", "-ar:a:1", "32000", str(folder / "two.mp4"))
    program(*picture, "-map", "0:v", "-map", "1:a", "-c:v", "mjpeg", "-c:a", "pcm_s16le", str(folder / "pcm.avi"))
    late = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=5", "-itsoffset", "2.2", "-i", str(wav), "-shortest")
    program(*late, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(folder / "late.mkv"))
    return folder


@pytest.mark.parametrize(("name", "streams"), [("two.mp4", 2), ("pcm.avi", 1)])
def test_sound_keeps_in_step(name: str, streams: int, sounding: Path) -> None:
    source = decoded(sounding / name)
    for first, end in [(0, 40), (31, 77), (80, 125)]:
        clip = encoded(source, first, end)
        assert clip.audio == "encoded"
        for index in range(streams):
            ours, original = heard(clip.data, index), heard(source.path, index)
            late_ms, alike = shift(ours, original, source.frames[first].pts * source.time_base)
            assert abs(late_ms) < 1
            assert alike > 0.9
            assert abs(ours.seconds - float(source.span(first, end).duration_s)) < 0.035


def test_sound_that_begins_late_is_silent_until_then(sounding: Path) -> None:
    source = decoded(sounding / "late.mkv")
    assert encoded(source, 0, 50).audio == "none"
    ours = heard(encoded(source, 40, 90).data)
    assert abs(ours.seconds - 2.0) < 0.035
    assert np.abs(ours.samples[: int(0.55 * 48_000)]).max() < 0.01
    assert np.abs(ours.samples[int(0.65 * 48_000) :]).max() > 0.1
    assert shift(ours, heard(source.path), source.frames[40].pts * source.time_base)[1] > 0.9


def test_decoding_begins_near_the_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = decoded(encode(tmp_path / "long.mp4", "libx264", {"g": "24", "sc_threshold": "0"}, 480))
    begun: list[int] = []
    decode = encoding_module.Decoder.__iter__

    def watched(self: Any) -> Any:
        for number, frame in enumerate(decode(self)):
            begun.extend([frame.pts] if number == 0 else [])
            yield frame

    monkeypatch.setattr(encoding_module.Decoder, "__iter__", watched)
    assert likeness_db(source, 440, 450, encoded(source, 440, 450)) > 28
    before_s = (source.frames[440].pts - begun[0]) * source.time_base
    assert before_s < 440 / 24 / 2
    assert len(begun) == 1


def test_frames_that_are_not_found_behind_a_seek_are_sought_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = decoded(numbered(tmp_path / "film.mp4", Encoding(gop_frames=12)))
    monkeypatch.setattr(encoding_module, "SEEK_BACK_S", -1)  # as a format does that lands behind
    check(source, 30, 34, tmp_path)


def test_what_was_promised_must_be_there(tmp_path: Path) -> None:
    source = decoded(numbered(tmp_path / "film.mp4", Encoding(gop_frames=12)))
    span = source.span(10, 20)
    for frames in (9, 11):
        with pytest.raises(CannotEncode, match=f"the span's {frames} frames are not found again"):
            encode_clip(source.path, span, source.entry_pts(10), frames, LIMITS)
    source.path.write_bytes(source.path.read_bytes()[:-2000])
    with pytest.raises(BadSource):
        encode_clip(source.path, span, source.entry_pts(10), 10, LIMITS)


def program_that(folder: Path, *lines: str) -> str:
    path = folder / "ffmpeg"
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["echo 'Unknown encoder' >&2", "exit 1"], "Unknown encoder"),
        (["cat > /dev/null", "echo one >&2; echo 'Conversion failed!' >&2; exit 1"], "Conversion failed!"),
        (["kill -9 $$"], "it ended with code -9"),
    ],
)
def test_a_failing_program_is_an_error(
    lines: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = decoded(numbered(tmp_path / "film.mp4", Encoding(gop_frames=12)))
    fake = program_that(tmp_path, *lines)
    monkeypatch.setattr(encoding_module.imageio_ffmpeg, "get_ffmpeg_exe", lambda: fake)
    with pytest.raises(CannotEncode, match=says):
        encoded(source, 0, 60)


def test_a_full_disk_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = decoded(numbered(tmp_path / "film.mp4", Encoding(gop_frames=12)))
    fake = program_that(tmp_path, "cat > /dev/null", "echo 'Error writing: No space left on device' >&2", "exit 1")
    monkeypatch.setattr(encoding_module.imageio_ffmpeg, "get_ffmpeg_exe", lambda: fake)
    with pytest.raises(OSError, match="No space left on device"):
        encoded(source, 0, 60)


def test_the_program_never_opens_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = decoded(numbered(tmp_path / "film.mp4", Encoding(gop_frames=12)))
    seen: list[list[str]] = []
    popen = encoding_module.subprocess.Popen

    def watched(arguments: list[str], **more: Any) -> Any:
        seen.append(arguments)
        return popen(arguments, **more)

    monkeypatch.setattr(encoding_module.subprocess, "Popen", watched)
    encoded(source, 0, 5)
    inputs = [seen[0][i + 1] for i, word in enumerate(seen[0]) if word == "-i"]
    assert inputs == ["pipe:"]
    assert not any(str(source.path) in word or os.fspath(source.path.name) in word for word in seen[0])
