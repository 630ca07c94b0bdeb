"""What a lossless clip keeps beside its frames, and the clock that it gets."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.film import Encoding
from curation.mux import ClipFile, decode_times, fine_timescale
from tests.cutting import cut, decoded, encode, film, packets_of, program


@given(st.lists(st.integers(-(10**9), 10**9), unique=True, max_size=60))
def test_decode_times_rise_and_never_come_too_late(pts: list[int]) -> None:
    dts = decode_times(pts)
    assert len(dts) == len(pts)
    assert all(earlier < later for earlier, later in pairwise(dts))
    assert all(decoded <= shown for decoded, shown in zip(dts, pts, strict=True))
    # No later start would do: one packet is shown the moment it is decoded.
    assert not pts or any(decoded == shown for decoded, shown in zip(dts, pts, strict=True))


@pytest.mark.parametrize(
    ("pts", "dts"),
    [
        ([], []),
        ([7], [7]),
        ([0, 1, 2], [0, 1, 2]),
        ([0, 3, 1, 2], [-1, 0, 1, 2]),  # one B-frame deep
        ([0, 4, 2, 1, 3], [-2, -1, 0, 1, 2]),  # a pyramid
        ([10, 7, 8, 9, 20], [6, 7, 8, 9, 19]),  # leading pictures
        ([0, 1000, 40], [-960, -920, 40]),  # a varying rate
        ([5, 5, 6], [5, 5, 6]),  # VP8's hidden pictures
    ],
)
def test_decode_times(pts: list[int], dts: list[int]) -> None:
    assert decode_times(pts) == dts


@pytest.mark.parametrize(
    ("time_base", "ticks"),
    [
        (Fraction(1, 24), 10_008),
        (Fraction(1001, 30_000), 30_000),
        (Fraction(1, 90_000), 90_000),
        (Fraction(1, 1000), 10_000),
    ],
)
def test_a_timescale_holds_every_time(time_base: Fraction, ticks: int) -> None:
    assert fine_timescale(time_base) == ticks
    assert (time_base * ticks).denominator == 1


FULL_RANGE = 2  # AVCOL_RANGE_JPEG


def look(file: Path | bytes) -> dict[str, Any]:
    with av.open(io.BytesIO(file) if isinstance(file, bytes) else str(file), "r") as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        notes: Any = frame.side_data
        kept = ("DISPLAYMATRIX", "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
        return {
            "pixel aspect": stream.sample_aspect_ratio or Fraction(1),
            "rotation": frame.rotation,
            "format": frame.format.name,
            "primaries": int(frame.color_primaries),
            "transfer": int(frame.color_trc),
            "matrix": int(frame.colorspace),
            "is full range": int(frame.color_range) == FULL_RANGE,  # limited is what unspecified means
            "interlaced": frame.interlaced_frame,
            **{name: bytes(notes[name]) if notes.get(name) else None for name in kept},
        }


PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1"
DISPLAY = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
HLG = ("-color_primaries", "bt2020", "-color_trc", "arib-std-b67", "-colorspace", "bt2020nc", "-color_range", "tv")
LOOKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, object]]] = {
    # name: options before the input, after it, what must be so
    "hdr10.mp4": (
        (),
        ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", f"log-level=none:{PQ}:{DISPLAY}"),
        {"transfer": 16, "primaries": 9, "matrix": 9, "format": "yuv420p10le"},
    ),
    "hlg.mov": ((), ("-vf", "setparams=color_trc=arib-std-b67", "-c:v", "prores_ks", *HLG), {"transfer": 18}),
    "full.mkv": ((), ("-c:v", "libx264", "-vf", "scale=out_range=full", "-color_range", "pc"), {"is full range": True}),
    "ffv1_full.mkv": ((), ("-c:v", "ffv1", "-g", "12", "-color_range", "pc"), {"is full range": True}),
    "vp9_bt709.webm": ((), ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-colorspace", "bt709"), {"matrix": 1}),
    "ffv1_aspect.mkv": ((), ("-c:v", "ffv1", "-vf", "setsar=16/11"), {"pixel aspect": Fraction(16, 11)}),
    "vp8_aspect.webm": ((), ("-c:v", "libvpx", "-vf", "setsar=16/11"), {"pixel aspect": Fraction(35, 24)}),
    "mjpeg_aspect.mov": ((), ("-c:v", "mjpeg", "-vf", "setsar=16/11"), {"pixel aspect": Fraction(16, 11)}),
    "dv.dv": ((), ("-c:v", "dvvideo", "-s", "720x576"), {"pixel aspect": Fraction(16, 15), "interlaced": True}),
    "mbaff.mp4": ((), ("-c:v", "libx264", "-flags", "+ilme+ildct", "-x264-params", "tff=1"), {"interlaced": True}),
    "turned.mp4": (("-display_rotation", "90"), ("-c", "copy"), {"rotation": 90}),
    "turned.mov": (("-display_rotation", "180"), ("-c", "copy"), {"rotation": -180}),
    "turned.mkv": (("-display_rotation", "270"), ("-c", "copy"), {"rotation": -90}),
    "mirrored.mp4": (("-display_rotation", "90", "-display_hflip"), ("-c", "copy"), {"rotation": 90}),
    "askew.mp4": (("-display_rotation", "33"), ("-c", "copy"), {"rotation": 32}),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_clip_looks_as_its_source(name: str, tmp_path: Path) -> None:
    before, after, expected = LOOKS[name]
    path = tmp_path / name
    source_is_video = after == ("-c", "copy")
    plain = encode(tmp_path / "plain.mp4", "libx264", {"g": "12"}, 30) if source_is_video else None
    given = ("-i", str(plain)) if plain else ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=1")
    program(*before, *given, *after, "-threads", "1", str(path))
    source, theirs = decoded(path), look(path)
    assert {key: theirs[key] for key in expected} == expected
    assert name != "hdr10.mp4" or (theirs["MASTERING_DISPLAY_METADATA"] and theirs["CONTENT_LIGHT_LEVEL"])
    assert name != "mirrored.mp4" or theirs["DISPLAYMATRIX"] != look_of_turned(plain, tmp_path)
    assert look(cut(source, 8, 20).data) == theirs


def look_of_turned(plain: Path | None, folder: Path) -> bytes | None:
    program("-display_rotation", "90", "-i", str(plain), "-c", "copy", str(folder / "only_turned.mp4"))
    return look(folder / "only_turned.mp4")["DISPLAYMATRIX"]


def tag(clip: ClipFile | Path) -> str:
    data = clip.read_bytes() if isinstance(clip, Path) else clip.data
    with av.open(io.BytesIO(data), "r") as container:
        return container.streams.video[0].codec_context.codec_tag


X265 = {"x265-params": "keyint=12:log-level=none"}
TAGS = {
    # Apple's players take HEVC as hvc1 alone; it promises that all parameter sets are in the header.
    "hevc.mp4": ("libx265", X265, "yuv420p", "hev1", "hvc1"),
    "hevc.mkv": ("libx265", X265, "yuv420p", "\0\0\0\0", "hvc1"),
    "hevc.ts": ("libx265", X265, "yuv420p", "HEVC", "hvc1"),
    "prores.mov": ("prores_ks", {"profile": "0"}, "yuv422p10le", "apco", "apco"),
    "prores_4444.mkv": ("prores_ks", {"profile": "4"}, "yuv444p10le", "ap4h", "ap4h"),
}


@pytest.mark.parametrize("name", TAGS)
def test_codec_tags(name: str, tmp_path: Path) -> None:
    codec, options, pix_fmt, before, after = TAGS[name]
    path = encode(tmp_path / name, codec, options, 30, pix_fmt=pix_fmt)
    assert tag(path) == before
    assert tag(cut(decoded(path), 5, 20)) == after


def test_hevc_with_parameter_sets_of_its_own_inside_is_not_hvc1(tmp_path: Path) -> None:
    """From a transport stream, hvc1 would have FFmpeg's muxer leave the sets in the packets out."""
    one = encode(tmp_path / "one.ts", "libx265", X265, 24)
    two = encode(tmp_path / "two.ts", "libx265", {"x265-params": "keyint=12:ref=1:bframes=0:log-level=none"}, 24)
    path = tmp_path / "both.ts"
    program("-i", f"concat:{one}|{two}", "-c", "copy", str(path))
    source = decoded(path)
    assert len({bytes(packet)[:80] for packet in packets_of(path) if packet.is_keyframe}) > 1
    clip = cut(source, 30, 40)
    assert tag(clip) == "hev1"


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_two_cuts_are_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    codec, audio = ("libx264", "aac") if suffix == "mp4" else ("libvpx", "vorbis")
    encoding = Encoding(codec, gop_frames=12, audio_codec=audio)
    source = decoded(film(tmp_path / f"film.{suffix}", encoding))
    assert cut(source, 15, 30).data == cut(source, 15, 30).data
