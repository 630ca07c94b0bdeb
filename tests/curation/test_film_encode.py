"""Files of `encode_film`, measured by their packets and frames."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.film import Edit, Join, SceneSpec, render
from curation.film_encode import Encoding, Picture, encode_film

WIDTH, HEIGHT = 128, 72
HALF = Fraction(1, 2)


def pictures(frames: int = 24, width: int = WIDTH, height: int = HEIGHT) -> Iterator[Picture]:
    return render(Edit((SceneSpec(5, frames, pan_x_px_per_s=40),)), width, height, (i / 24 for i in count()))


def two_scenes(cut: int = 30, frames: int = 60) -> Iterator[Picture]:
    edit = Edit((SceneSpec(1, cut), SceneSpec(2, frames - cut, pan_x_px_per_s=40)), (Join(),))
    return render(edit, WIDTH, HEIGHT, (i / 24 for i in count()))


@dataclass(frozen=True)
class Decoded:
    times_s: list[Fraction]
    keyframes: list[int]
    pictures: list[Picture]
    stream: dict[str, Any]
    duration_s: Fraction


def decode(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = video.time_base or Fraction(0)
        frames = list(container.decode(video))
        context = video.codec_context
        stream = {
            "codec": context.name,
            "pix_fmt": context.pix_fmt,
            "size": (context.width, context.height),
            "pixel_aspect": video.sample_aspect_ratio,
            "rotation": frames[0].rotation % 360,
        }
        return Decoded(
            [(frame.pts or 0) * base for frame in frames],
            [index for index, frame in enumerate(frames) if frame.key_frame],
            [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in frames],
            stream,
            (video.duration or 0) * base,
        )


@dataclass(frozen=True)
class PacketRow:
    pts: int
    dts: int
    is_keyframe: bool
    nal_types: tuple[int, ...]


def packets(path: Path) -> list[PacketRow]:
    """Video packets in decoding order, with the H.264 NAL types inside (4-byte lengths, as mp4 stores them)."""
    with av.open(str(path)) as container:
        return [
            PacketRow(packet.pts or 0, packet.dts or 0, packet.is_keyframe, tuple(nal_types(bytes(packet))))
            for packet in container.demux(container.streams.video[0])
            if packet.size
        ]


def nal_types(data: bytes) -> Iterator[int]:
    position = 0
    while position + 4 < len(data):
        yield data[position + 4] & 31
        position += 4 + int.from_bytes(data[position : position + 4])


# suffix, encoding, name of the decoder, error allowed in grey values
FILES = (
    (".mp4", Encoding(), "h264", 4),
    (".mp4", Encoding(pix_fmt="yuv420p10le", audio_codec="aac"), "h264", 4),
    (".mp4", Encoding("libx265", b_frames=2, preset="ultrafast"), "hevc", 6),
    (".mp4", Encoding("libx265", pix_fmt="yuv420p10le", preset="ultrafast"), "hevc", 6),
    (".mp4", Encoding("mpeg4", bitrate_bps=2_000_000), "mpeg4", 8),
    (".mp4", Encoding("libsvtav1"), "libdav1d", 8),
    (".mov", Encoding("mjpeg", pix_fmt="yuvj420p", audio_codec="pcm_s16le"), "mjpeg", 6),
    (".mov", Encoding("prores_ks", pix_fmt="yuv422p10le"), "prores", 4),
    (".mkv", Encoding("ffv1", pix_fmt="yuv444p"), "ffv1", 4),
    (".mkv", Encoding("mpeg2video", rate=Fraction(25), b_frames=2, open_gop=True), "mpeg2video", 6),
    (".mkv", Encoding("mpeg4", b_frames=2, keyframes_at_cuts=False, audio_codec="libopus"), "mpeg4", 6),
    (".webm", Encoding("libvpx", audio_codec="vorbis"), "vp8", 8),
    (".webm", Encoding("libvpx-vp9", keyframes_at_cuts=False, audio_codec="libopus"), "vp9", 8),
    (".avi", Encoding("mpeg4", audio_codec="pcm_s16le"), "mpeg4", 6),
    (".ts", Encoding(), "h264", 4),
)


@pytest.mark.parametrize(("suffix", "encoding", "decoder", "error"), FILES)
def test_each_codec_gives_back_the_pictures(
    tmp_path: Path, suffix: str, encoding: Encoding, decoder: str, error: float
) -> None:
    path = tmp_path / f"film{suffix}"
    assert encode_film(path, pictures(), encoding) == 24
    decoded = decode(path)
    assert (decoded.stream["codec"], decoded.stream["pix_fmt"]) == (decoder, encoding.pix_fmt)
    assert len(decoded.pictures) == 24
    errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(decoded.pictures, pictures(), strict=True)]
    assert max(errors) < error
    times = [time - decoded.times_s[0] for time in decoded.times_s]
    assert max(abs(time - i / encoding.rate) for i, time in enumerate(times)) <= Fraction(1, 1000)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == (encoding.audio_codec is not None)


@pytest.mark.parametrize(
    ("suffix", "encoding"),
    [
        (".mp4", Encoding(b_frames=3, open_gop=True, gop_frames=20, audio_codec="aac")),
        (".mp4", Encoding(b_frames=2, preset="medium")),
        (".mp4", Encoding("libx265", b_frames=2, preset="ultrafast")),
        (".webm", Encoding("libvpx-vp9", audio_codec="libopus")),
        (".mkv", Encoding("mpeg2video", rate=Fraction(25))),
        (".mp4", Encoding("libsvtav1")),
    ],
)
def test_two_calls_write_the_same_bytes(tmp_path: Path, suffix: str, encoding: Encoding) -> None:
    versions = set()
    for _ in range(3):
        encode_film(tmp_path / f"film{suffix}", two_scenes(), encoding)
        versions.add((tmp_path / f"film{suffix}").read_bytes())
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("rate", "time_base", "offset_s", "pts"),
    [
        (Fraction(24), None, Fraction(0), None),
        (Fraction(30000, 1001), None, Fraction(0), None),
        (Fraction(25), Fraction(1, 90000), HALF, None),
        (Fraction(25), Fraction(1, 1000), Fraction(0), (0, 33, 67, 100, 101, 350, 400, 1400, 1441)),
        (Fraction(30), Fraction(1, 90000), HALF, (0, 1, 3000, 3003, 90000, 90017, 91111, 99999, 100000)),
        (Fraction(24), Fraction(1, 600), Fraction(0), (7, 25, 50, 60, 70, 90, 100, 200, 300)),
    ],
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_times_are_exact_in_mp4(
    tmp_path: Path,
    rate: Fraction,
    time_base: Fraction | None,
    offset_s: Fraction,
    pts: tuple[int, ...] | None,
    b_frames: int,
) -> None:
    encoding = Encoding(rate=rate, time_base=time_base, start_offset_s=offset_s, b_frames=b_frames)
    encode_film(tmp_path / "film.mp4", pictures(9), encoding, pts=pts)
    decoded = decode(tmp_path / "film.mp4")
    expected = [offset_s + (pts[i] * encoding.ticks if pts else i / rate) for i in range(9)]
    assert decoded.times_s == expected
    if pts is None or b_frames == 0:  # else FFmpeg's muxer writes too short a duration
        last_s = round(1 / rate / encoding.ticks) * encoding.ticks
        assert decoded.duration_s == expected[-1] - expected[0] + last_s


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mov"])
def test_start_offset(tmp_path: Path, suffix: str) -> None:
    codec, sound = ("libvpx", "libopus") if suffix == ".webm" else ("libx264", "pcm_s16le")
    encode_film(tmp_path / f"film{suffix}", pictures(), Encoding(codec, start_offset_s=HALF, audio_codec=sound))
    assert decode(tmp_path / f"film{suffix}").times_s[0] == HALF
    with av.open(str(tmp_path / f"film{suffix}")) as container:
        first = next(container.decode(container.streams.audio[0]))
        assert abs((first.time or 0.0) - 0.5) < 0.002


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_rotation_leaves_the_displayed_picture_upright(tmp_path: Path, suffix: str, rotation_deg: int) -> None:
    path = tmp_path / f"film{suffix}"
    encode_film(path, pictures(3), Encoding(rotation_deg=rotation_deg))
    decoded = decode(path)
    assert decoded.stream["rotation"] == rotation_deg
    assert decoded.stream["size"] == ((HEIGHT, WIDTH) if rotation_deg in (90, 270) else (WIDTH, HEIGHT))
    shown = np.rot90(decoded.pictures[0], rotation_deg // 90)
    assert np.abs(shown.astype(int) - next(pictures())).mean() < 4


def test_pixel_aspect(tmp_path: Path) -> None:
    encode_film(tmp_path / "film.mp4", pictures(3), Encoding(pixel_aspect=Fraction(64, 45)))
    assert decode(tmp_path / "film.mp4").stream["pixel_aspect"] == Fraction(64, 45)


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 0), ("libx264", 3), ("libx265", 2)])
def test_keyframes_at_cuts_can_be_had_and_refused(tmp_path: Path, codec: str, b_frames: int) -> None:
    found = {}
    for wanted in (True, False):
        encoding = Encoding(codec, gop_frames=40, b_frames=b_frames, keyframes_at_cuts=wanted)
        encode_film(tmp_path / "film.mp4", two_scenes(), encoding)
        found[wanted] = decode(tmp_path / "film.mp4").keyframes
    assert found == {True: [0, 30], False: [0, 40]}


@pytest.mark.parametrize(("b_frames", "reordered"), [(0, False), (3, True)])
def test_b_frames_reorder(tmp_path: Path, b_frames: int, reordered: bool) -> None:
    encode_film(tmp_path / "film.mp4", two_scenes(), Encoding(b_frames=b_frames))
    rows = packets(tmp_path / "film.mp4")
    assert [row.dts for row in rows] == sorted(row.dts for row in rows)
    assert ([row.pts for row in rows] != sorted(row.pts for row in rows)) == reordered


@pytest.mark.parametrize("open_gop", [True, False])
def test_open_gop_has_keyframes_that_are_no_idr(tmp_path: Path, open_gop: bool) -> None:
    encoding = Encoding(gop_frames=12, b_frames=3, open_gop=open_gop, keyframes_at_cuts=False)
    encode_film(tmp_path / "film.mp4", two_scenes(), encoding)
    rows = packets(tmp_path / "film.mp4")
    keys = [index for index, row in enumerate(rows) if row.is_keyframe]
    assert len(keys) >= 5
    assert [5 in rows[index].nal_types for index in keys] == [True] + [not open_gop] * (len(keys) - 1)
    leading = [sum(row.pts < rows[index].pts for row in rows[index:]) for index in keys[1:]]
    assert all(leading) if open_gop else not any(leading)


BAD_FIELDS = (
    ({"codec": "h266"}, "codec='h266': must be an encoder"),
    ({"codec": "aac"}, "codec='aac': must be an encoder for video"),
    ({"audio_codec": "libx264"}, "audio_codec='libx264': must be an encoder for audio"),
    ({"pix_fmt": "rgb24"}, "pix_fmt='rgb24': must be one of libx264's: yuv420p"),
    ({"rate": Fraction(0)}, "rate=0: must be above 0"),
    ({"time_base": Fraction(-1, 25)}, "time_base=-1/25: must be above 0"),
    ({"gop_frames": 0}, "gop_frames=0: must be 1 or more"),
    ({"b_frames": -1}, "b_frames=-1: must be 0 or more"),
    ({"b_frames": 2, "codec": "libvpx"}, "b_frames=2: must be 0 unless"),
    ({"open_gop": True}, "open_gop=True: needs b_frames"),
    ({"open_gop": True, "codec": "mpeg4", "b_frames": 1}, "open_gop=True: needs b_frames and a codec out of libx264"),
    ({"b_frames": 1, "codec": "mpeg2video"}, "keyframes_at_cuts=True: must be False"),
    ({"rotation_deg": 45}, "rotation_deg=45: must be one of (0, 90, 180, 270)"),
    ({"pixel_aspect": Fraction(0)}, "pixel_aspect=0: must be above 0"),
    ({"bitrate_bps": 0}, "bitrate_bps=0: must be above 0"),
    ({"start_offset_s": Fraction(-1)}, "start_offset_s=-1: must be 0 or more"),
    ({"start_offset_s": Fraction(1, 7)}, "start_offset_s=1/7: must be a whole number of ticks of 1/24 s"),
)


@pytest.mark.parametrize(("fields", "message"), BAD_FIELDS)
def test_impossible_encodings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Encoding(**fields)


def mixed_sizes() -> Iterator[Picture]:
    yield from pictures(2)
    yield from pictures(1, width=64)


BAD_CALLS: tuple[tuple[str, Iterable[Any], Encoding, Any, str], ...] = (
    ("a.mp4", [], Encoding(), None, "frames=(): must be at least one"),
    ("a.mp4", [np.zeros((72, 128), np.uint8)], Encoding(), None, "frames=uint8 (72, 128): must be uint8"),
    ("a.mp4", [np.zeros((72, 128, 3))], Encoding(), None, "frames=float64 (72, 128, 3): must be uint8"),
    ("a.mp4", mixed_sizes(), Encoding(), None, "must have the size of the first, (72, 128, 3)"),
    ("a.mp4", pictures(1, width=127), Encoding(), None, "width=127: must be even with yuv420p"),
    ("a.mp4", pictures(1, height=71), Encoding(), None, "height=71: must be even with yuv420p"),
    ("a.mp4", pictures(3), Encoding(), (0, 1), "pts=2 values: must be one for each frame"),
    ("a.mp4", pictures(3), Encoding(), (0, 2, 2), "pts=2 at frame 2, after 2: must rise strictly"),
    ("a.mp4", pictures(3), Encoding(), (-1, 0, 1), "pts=-1 at frame 0"),
    ("a.mp4", pictures(3), Encoding(time_base=Fraction(1, 1000)), None, "time_base=1/1000: must divide"),
    ("a.webm", pictures(3), Encoding(), None, "codec='libx264': must be a codec that the container webm holds"),
    ("a.webm", pictures(3), Encoding("libvpx", audio_codec="aac"), None, "audio_codec='aac': must be a codec that"),
    ("a.film", pictures(3), Encoding(), None, "path='a.film': its suffix must name a container"),
    ("a.avi", pictures(3), Encoding(rotation_deg=90), None, "rotation_deg=90: must be 0 unless"),
    ("a.avi", pictures(3), Encoding(start_offset_s=HALF), None, "start_offset_s=1/2: must be 0 in '.avi'"),
    ("a.avi", pictures(3), Encoding("mpeg4"), (0, 1, 5), "pts=given: must be left out in '.avi'"),
    ("a.avi", pictures(3), Encoding(audio_codec="libmp3lame"), None, "audio_codec='libmp3lame': must be None or PCM"),
)


@pytest.mark.parametrize(("name", "frames", "encoding", "pts", "message"), BAD_CALLS)
def test_impossible_films_are_refused_and_leave_no_file(
    tmp_path: Path, name: str, frames: Iterable[Any], encoding: Encoding, pts: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        encode_film(tmp_path / name, frames, encoding, pts=pts)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_let_go_as_they_are_written(tmp_path: Path) -> None:
    made: list[weakref.ref[Picture]] = []
    alive: list[int] = []

    def fresh() -> Iterator[Picture]:
        for picture in pictures(200):
            made.append(weakref.ref(picture))
            alive.append(sum(ref() is not None for ref in made))
            yield picture

    assert encode_film(tmp_path / "film.mp4", fresh(), Encoding(b_frames=2), pts=count()) == 200
    assert max(alive) <= 6
