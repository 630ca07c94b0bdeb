"""Opening hostile files: nothing else is opened, everything is bounded, and what is wrong is said."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import nullcontext
from dataclasses import fields
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.error
import pytest
from av.format import ContainerFormat, formats_available

from curation import media
from curation.film import Encoding
from curation.media import SELF_CONTAINED_FORMATS, VIDEO_SUFFIXES, Limits, main_video_stream, open_file, open_media
from curation.records import BadSource, SourceState
from tests import hostile
from tests.hostile import BAD_FILES_BY_NAME, RATE, blank_film, film

LIMITS = Limits()


def reason_of(path: Path | str, limits: Limits = LIMITS) -> BadSource:
    with pytest.raises(BadSource) as caught, open_media(path, limits) as container:
        main_video_stream(container, limits)
    assert caught.value.detail
    return caught.value


# -- formats


def demuxers() -> dict[str, set[str]]:
    """Demuxers of this FFmpeg by full name, with the single names that they go by."""
    names = set()
    for name in formats_available:
        try:
            names.add(ContainerFormat(name, "r").name)
        except ValueError:  # one that only writes
            continue
    return {name: set(name.split(",")) for name in names}


# Demuxers of FFmpeg 8.1 that open what a file names, or devices and addresses. `mov` can, and is told not to.
OPENS_OTHERS = (
    "hls,concat,dash,image2,image2pipe,sdp,rtsp,rtp,sap,imf,vobsub,lavfi,x11grab,alsa,oss,fbdev,kmsgrab,v4l2,"
    "video4linux2,webm_dash_manifest,mlv,ivr,ffmetadata,tty,mpjpeg"
)


def test_the_formats_are_real_and_self_contained() -> None:
    known = set().union(*demuxers().values())
    ours = SELF_CONTAINED_FORMATS.split(",")
    assert len(ours) == len(set(ours))
    assert set(ours) <= known
    assert not set(ours) & set(OPENS_OTHERS.split(","))
    assert {"hls", "concat", "image2"} <= known, "guard: this FFmpeg could, if it were let"


MPEG2 = Encoding(codec="mpeg2video", rate=Fraction(25))
VP9 = Encoding(codec="libvpx-vp9", rate=Fraction(25), time_base=Fraction(1, 1000))
BY_SUFFIX: dict[str, Encoding] = {
    **dict.fromkeys(
        [".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".f4v", ".flv", ".ts", ".264", ".h264"], Encoding(rate=RATE)
    ),
    **dict.fromkeys([".m2ts", ".mts"], Encoding(rate=Fraction(25))),
    **dict.fromkeys([".mpg", ".mpeg", ".vob", ".m2v", ".mxf", ".wtv"], MPEG2),
    **dict.fromkeys([".mkv", ".asf", ".nut", ".avi"], Encoding(codec="mpeg4", rate=RATE)),
    ".wmv": Encoding(codec="wmv2", rate=RATE),
    ".webm": VP9,
    ".ivf": Encoding(codec="libvpx", rate=RATE),
    ".hevc": Encoding(codec="libx265", preset="ultrafast", rate=RATE),
    ".m1v": Encoding(codec="mpeg1video", rate=Fraction(25)),
    ".y4m": Encoding(codec="rawvideo", rate=RATE),
    ".gif": Encoding(codec="gif", pix_fmt="rgb8", rate=Fraction(25), time_base=Fraction(1, 100)),
}


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_each_suffix_is_read_without_its_name(suffix: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"a{suffix}", BY_SUFFIX[suffix], seconds=0.5)
    nameless = path.rename(tmp_path / "source")
    with open_media(nameless, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)
        assert (stream.codec_context.width, stream.codec_context.height) == (160, 128)
    assert suffix in VIDEO_SUFFIXES


def test_the_suffixes_are_small_and_have_a_point() -> None:
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in VIDEO_SUFFIXES)
    assert not VIDEO_SUFFIXES & {".m3u8", ".mpd", ".sdp", ".txt", ".ffconcat", ".jpg", ".png", ".mp3", ".wav"}


# -- what is not a file


def special_files(folder: Path) -> dict[str, str]:
    """Makes what has a video's name and is no file; the reason for each."""
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path may have 108 bytes
        listening.bind("socket.mp4")
        os.chdir(here)
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    not_files = dict.fromkeys(["folder.mp4", "pipe.mp4", "socket.mp4", "device.mp4"], "not_a_file")
    return not_files | dict.fromkeys(["nowhere.mp4", "loop.mp4", "missing.mp4", "y" * 300 + ".mp4"], "unreadable")


@pytest.mark.timeout(20)
def test_what_is_not_a_file_is_neither_opened_nor_waited_for(tmp_path: Path) -> None:
    for name, reason in special_files(tmp_path).items():
        assert reason_of(tmp_path / name).reason == reason, name


def test_this_machines_limits_are_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    path = film(tmp_path / "a.mp4", seconds=0.5)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"), open_file(path):
        pass


class FailingBytes(BytesIO):
    """A file on a disk that gives up at some byte."""

    def __init__(self, content: bytes, until: int):
        super().__init__(content)
        self._until = until

    def fileno(self) -> int:
        return -1

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() + (size or 0) > self._until:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_failing_disk_is_unreadable_at_whatever_byte(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.ts", Encoding(codec="mpeg2video", rate=Fraction(25), bitrate_bps=4_000_000))
    content = path.read_bytes()
    monkeypatch.setattr(media, "BUFFER_BYTES", 1 << 12)
    failing = FailingBytes(content, int(share * len(content)))
    monkeypatch.setattr(media, "open_file", lambda path: nullcontext(failing))
    monkeypatch.setattr(os, "fstat", lambda handle: os.stat(path))

    def read_all() -> None:
        with open_media(path, LIMITS) as container:
            for packet in container.demux(main_video_stream(container, LIMITS)):
                packet.decode()

    with pytest.raises(BadSource) as caught:
        read_all()
    assert caught.value.reason == "unreadable"
    assert caught.value.state is SourceState.FAILED


# -- limits


def just_under(name: str, path: Path) -> Limits:
    values: dict[str, Any] = {"max_source_bytes": path.stat().st_size - 1, "max_frame_pixels": 160 * 128 - 1}
    return Limits(**{name: values.get(name, 1)})


@pytest.mark.parametrize(
    ("limit", "reason", "streams"),
    [
        ("max_source_bytes", "too_many_bytes", 1),
        ("max_frame_pixels", "too_many_pixels", 1),
        ("max_streams", "too_many_streams", 2),
        ("max_video_streams", "too_many_streams", 2),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".nut"])
def test_each_limit_is_met_and_named(limit: str, reason: str, streams: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    blank_film(path, "libx264", [(160, 128)] * 25, streams=streams)
    error = reason_of(path, just_under(limit, path))
    assert error.state is SourceState.REJECTED
    assert error.reason == reason
    assert limit in error.detail
    with open_media(path, LIMITS) as container:
        assert main_video_stream(container, LIMITS)


def test_a_file_that_takes_too_long_to_look_at(tmp_path: Path) -> None:
    error = reason_of(film(tmp_path / "a.mp4"), Limits(max_decode_minutes=1e-9))
    assert (error.state, error.reason) == (SourceState.FAILED, "decode_timeout")
    assert "max_decode_minutes" in error.detail


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_impossible_limits_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.*must be positive"):
        Limits(**{name: value})


# -- the stream that is shown


def with_cover(path: Path) -> None:
    film(path.with_name("plain.mp4"))
    with av.open(str(path.with_name("plain.mp4"))) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=1)
        assert isinstance(cover, hostile.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = hostile.Disposition.attached_pic
        film_stream = target.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame(64, 64, "yuvj420p")
        for packet in [*cover.encode(picture), *cover.encode(None)]:
            target.mux(packet)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = film_stream
                target.mux(packet)


def test_a_cover_picture_is_not_the_film(tmp_path: Path) -> None:
    with_cover(tmp_path / "a.mp4")
    with open_media(tmp_path / "a.mp4", LIMITS) as container:
        assert len(container.streams.video) == 2
        assert main_video_stream(container, LIMITS).codec_context.name == "h264"


@pytest.mark.parametrize("name", ["codec.mp4", "pixels.mp4", "without_size.mov", "sound_with_cover.mp4"])
def test_streams_that_cannot_be_shown(name: str, tmp_path: Path) -> None:
    bad = BAD_FILES_BY_NAME[name]
    bad.make(tmp_path / name)
    error = reason_of(tmp_path / name)
    assert (error.state, error.reason) == (bad.state, bad.reason)
