"""Every codec and container: a clip's frames are the source's, bit by bit, for our reader and for players."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from curation.cut import CannotCopy
from curation.film import Encoding
from tests import cutting
from tests.cutting import Source, cut, decoded, encode, film, packets_of, played, played_by_program, program, read

PAL, NTSC = Fraction(25), Fraction(30000, 1001)


@dataclass(frozen=True)
class Case:
    """A source, the container that its clips must get, and what it must really have for the case to mean something."""

    name: str
    encoding: Encoding
    container: str = "mp4"
    reorders: bool = False
    leading: bool = False
    all_entries: bool = False
    pts: tuple[int, ...] | None = None
    size: tuple[int, int] = (cutting.WIDTH, cutting.HEIGHT)


def h264(**more: Any) -> Encoding:
    return Encoding(**{"gop_frames": 12, "b_frames": 3, "audio_codec": "aac", **more})


OPEN: dict[str, Any] = {"open_gop": True, "keyframes_at_cuts": False}
VARIED = tuple(40 * index + (index * index % 7) * 3 for index in range(48))
X265 = Encoding("libx265", gop_frames=12, b_frames=4, preset="fast", **OPEN)
MPEG2: dict[str, Any] = {"rate": PAL, "gop_frames": 12, "b_frames": 2, "keyframes_at_cuts": False}

CASES = [
    Case("h264.mp4", h264(), reorders=True),
    Case("open.mp4", h264(**OPEN), reorders=True, leading=True),
    Case("open.mkv", h264(**OPEN, start_offset_s=Fraction(1, 2), audio_codec="libopus"), reorders=True, leading=True),
    Case("open.ts", h264(**OPEN), reorders=True, leading=True),
    Case("late.mov", h264(start_offset_s=Fraction(3), audio_codec="pcm_s16le"), "mov", reorders=True),
    Case("varied.mp4", h264(time_base=Fraction(1, 1000)), reorders=True, pts=VARIED),
    Case("varied.mkv", h264(time_base=Fraction(1, 1000)), reorders=True, pts=VARIED),
    Case("flash.flv", h264(time_base=Fraction(1, 1000)), reorders=True, pts=tuple(42 * i for i in range(48))),
    Case("plain.avi", h264(b_frames=0, audio_codec="pcm_s16le"), "mov"),
    Case("turned.mp4", h264(rotation_deg=90, pixel_aspect=Fraction(4, 3)), reorders=True),
    Case("turned.mkv", h264(rotation_deg=270), reorders=True),
    Case("deep.mp4", h264(pix_fmt="yuv420p10le", rate=NTSC), reorders=True),
    Case("hevc.mp4", X265, reorders=True, leading=True),
    Case("hevc.ts", X265, reorders=True, leading=True),
    Case("deep.mkv", Encoding("libx265", pix_fmt="yuv420p10le", gop_frames=12, b_frames=2), reorders=True),
    Case("mpeg2.ts", Encoding("mpeg2video", open_gop=True, **MPEG2), reorders=True, leading=True),
    Case("mpeg2.mpg", Encoding("mpeg2video", open_gop=True, **MPEG2), reorders=True, leading=True),
    Case("mpeg2.mkv", Encoding("mpeg2video", **MPEG2), reorders=True),
    Case("mpeg4.avi", Encoding("mpeg4", **MPEG2), reorders=True),
    Case("mpeg4.mp4", Encoding("mpeg4", **MPEG2), reorders=True),
    Case("vp8.webm", Encoding("libvpx", rate=PAL, gop_frames=12, audio_codec="vorbis"), "matroska"),
    Case("vp9.webm", Encoding("libvpx-vp9", rate=PAL, gop_frames=12, audio_codec="libopus")),
    Case("av1.webm", Encoding("libsvtav1", rate=PAL, gop_frames=12)),
    Case("av1.mp4", Encoding("libsvtav1", rate=PAL, gop_frames=12, pixel_aspect=Fraction(4, 3))),
    Case("ffv1.mkv", Encoding("ffv1", rate=PAL, gop_frames=10)),
    Case("ffv1_deep.mkv", Encoding("ffv1", pix_fmt="yuv422p10le", rate=PAL, gop_frames=10)),
    Case("mjpeg.avi", Encoding("mjpeg", pix_fmt="yuvj420p", rate=PAL), all_entries=True),
    Case("mjpeg.mov", Encoding("mjpeg", pix_fmt="yuvj422p", rate=PAL), "mov", all_entries=True),
    Case("prores.mov", Encoding("prores_ks", pix_fmt="yuv422p10le", rate=PAL), "mov", all_entries=True),
    # Of another profile than the one that FFmpeg's muxer would write: decoded as it, every pixel would be another.
    Case("prores_4444.mkv", Encoding("prores_ks", pix_fmt="yuv444p10le", rate=PAL), "mov", all_entries=True),
    Case("dv.avi", Encoding("dvvideo", pix_fmt="yuv411p", rate=NTSC), "mov", all_entries=True, size=(720, 480)),
]


def make(folder: Path, case: Case) -> Path:
    width, height = case.size
    frames = 48 if width < 720 else 8
    return film(folder / case.name, case.encoding, frames, pts=case.pts, width=width, height=height)


def leading_pictures(path: Path) -> int:
    """Packets that come after a keyframe and are shown before it."""
    found, entry_pts = 0, None
    for packet in packets_of(path):
        assert packet.pts is not None
        entry_pts = packet.pts if packet.is_keyframe else entry_pts
        found += entry_pts is not None and packet.pts < entry_pts
    return found


def check_frames(source: Source, first: int, end: int, container: str, folder: Path) -> int:
    """The packets of the lead-in, after everything was compared."""
    clip, expected = cut(source, first, end), source.shown(first, end)
    assert clip.container == container
    ours = read(clip, end - first)
    assert [frame.pixels for frame in ours] == [frame.pixels for frame in expected]
    assert [frame.rotation for frame in ours] == [frame.rotation for frame in expected]
    # Matroska rounds to a millisecond.
    tolerance_s = Fraction(1, 1000) if container == "matroska" else 0
    assert all(abs(a.time_s - b.time_s) <= tolerance_s for a, b in zip(ours, expected, strict=True))
    if container == "matroska":
        assert {frame.pixels for frame in expected} <= {frame.pixels for frame in played(clip)}
    else:
        assert played(clip) == expected
        with_rotation = [(frame.time_s, frame.pixels) for frame in expected]
        assert [(frame.time_s, frame.pixels) for frame in played_by_program(clip, folder)] == with_rotation
    return clip.lead_in_frames


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frames_are_the_sources(case: Case, tmp_path: Path) -> None:
    path = make(tmp_path, case)
    source = decoded(path)
    assert (leading_pictures(path) > 0) == case.leading
    times = [packet.pts for packet in packets_of(path)]
    assert (times != sorted(times, key=lambda pts: pts or 0)) == case.reorders
    assert (len(source.entries) == len(source.frames)) == case.all_entries
    assert len(source.entries) > 2
    lead_ins = [check_frames(source, first, end, case.container, tmp_path) for first, end in source.spans()]
    assert any(lead_ins) != case.all_entries


RECIPES = {
    # name: encoder, its options, the clips' container
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}, "mp4"),
    "refresh.ts": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=2"}, "mp4"),
    "refresh_hevc.mkv": ("libx265", {"x265-params": "intra-refresh=1:keyint=12:bframes=0:log-level=none"}, "mp4"),
    "mbaff.ts": ("libx264", {"flags": "+ilme+ildct", "x264-params": "tff=1:keyint=12:bframes=2"}, "mp4"),
    "fields.mkv": ("libx265", {"x265-params": "interlace=tff:keyint=12:log-level=none"}, "mp4"),
    "radl.mp4": ("libx265", {"x265-params": "open-gop=1:keyint=12:bframes=8:radl=2:log-level=none"}, "mp4"),
    "hidden_vp9.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "5"}, "mp4"),
    "mpeg1.mpg": ("mpeg1video", {"g": "12", "bf": "2"}, "matroska"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_frames_are_the_sources_in_rarer_streams(name: str, tmp_path: Path) -> None:
    codec, options, container = RECIPES[name]
    rate = 25 if codec.startswith("mpeg") else 24
    source = decoded(encode(tmp_path / name, codec, options, frames=60, rate=rate))
    lead_ins = [check_frames(source, first, end, container, tmp_path) for first, end in source.spans()]
    assert any(lead_ins)


def test_a_refresh_point_starts_nothing(tmp_path: Path) -> None:
    """Gradual refreshes are keyframes to FFmpeg, in the source as in the clip, but no picture is whole there."""
    options = {"x264-params": "intra-refresh=1:keyint=12:bframes=0:scenecut=0"}
    path = encode(tmp_path / "refresh.mp4", "libx264", options)
    source = decoded(path)
    assert sum(packet.is_keyframe for packet in packets_of(path)) > 2
    assert source.entries == [0]
    clip = cut(source, 24, 26)
    assert clip.lead_in_frames == 24
    with av.open(io.BytesIO(clip.data), "r") as container:
        index = container.streams.video[0].index_entries
        assert [entry.is_keyframe for entry in index] == [True] + [False] * 25


def test_vp8_has_pictures_that_are_never_shown(tmp_path: Path) -> None:
    """Alternate references lie in packets of their own, with the time of the picture after them."""
    path = tmp_path / "hidden.webm"
    for number in "12":  # libvpx makes none in a single pass
        pass_of_two = ("-pass", number, "-passlogfile", str(tmp_path / "log"), "-threads", "1")
        options = ("-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "20", "-b:v", "300k")
        program("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24:d=3", "-c:v", "libvpx", *options, *pass_of_two, str(path))
    source, packets = decoded(path), packets_of(path)
    assert len(packets) > len({packet.pts for packet in packets}) == len(source.frames) == 72
    assert any([check_frames(source, *span, "matroska", tmp_path) for span in source.spans()])  # noqa: C419 - all of them


REFUSED = {
    # No container beside its own.
    "utvideo.avi": ("utvideo", {}, "yuv420p", "no container carries utvideo"),
    "flash.flv": ("flv", {"g": "12"}, "yuv420p", "no container carries flv"),
    # Containers take them, but nothing tells whether a packet can be decoded alone.
    "cinepak.avi": ("cinepak", {"g": "12"}, "rgb24", "not known from which packets"),
    "h263.avi": ("h263p", {"g": "12"}, "yuv420p", "not known from which packets"),
    "picture.gif": ("gif", {}, "rgb8", "not known from which packets"),
    "raw.avi": ("rawvideo", {}, "yuv420p", "layout of raw pictures"),
    # Times that FFmpeg makes up from the order of the packets, which is not that of the pictures.
    "h264.avi": ("libx264", {"bf": "2", "g": "12"}, "yuv420p", "AVI does not say"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_copied_exactly_is_refused(name: str, tmp_path: Path) -> None:
    codec, options, pix_fmt, because = REFUSED[name]
    source = decoded(encode(tmp_path / name, codec, options, pix_fmt=pix_fmt))
    for first, end in source.spans():
        with pytest.raises(CannotCopy, match=because):
            cut(source, first, end)


def test_a_far_keyframe_is_refused(tmp_path: Path) -> None:
    source = decoded(encode(tmp_path / "one.mp4", "libx264", {"g": "1000", "sc_threshold": "0"}, frames=60))
    assert source.entries == [0]
    assert cut(source, 47, 50, max_lead_in_s=2.0).lead_in_frames == 47
    with pytest.raises(CannotCopy, match=r"keyframe is 2\.0 s before the start, over max_lead_in_seconds"):
        cut(source, 49, 52, max_lead_in_s=2.0)
