"""Opening hostile files: nothing else is opened, everything is bounded, and what is wrong is said."""

from __future__ import annotations

import ctypes
import errno
import http.server
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from curation.mp4_claims import read_claims
from curation.records import BadSource, SourceState
from tests import hostile
from tests.hostile import BAD_FILES_BY_NAME, RATE, blank_film, film, flipped, playlists

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
OPENS_OTHERS = set(
    [
        "hls",
        "concat",
        "dash",
        "image2",
        "image2pipe",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "imf",
        "vobsub",
        "lavfi",
        "x11grab",
        "alsa",
        "oss",
        "fbdev",
        "kmsgrab",
        "v4l2",
        "video4linux2",
        "webm_dash_manifest",
        "mlv",
        "ivr",
        "ffmetadata",
        "tty",
        "mpjpeg",
    ]
)


def test_the_formats_are_real_and_self_contained() -> None:
    known = set().union(*demuxers().values())
    ours = SELF_CONTAINED_FORMATS.split(",")
    assert len(ours) == len(set(ours))
    assert set(ours) <= known
    assert not set(ours) & OPENS_OTHERS
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


# -- nothing else is opened


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on the loopback: its address, and the requests that it gets."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/x.ts", requests
        running.shutdown()


class Watch:
    """Sees every opening of a file, also by C code (inotify, Linux)."""

    def __init__(self, path: Path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        assert libc.inotify_add_watch(self._handle, os.fsencode(path), in_open) >= 0

    def was_opened(self) -> bool:
        ready, _, _ = select.select([self._handle], [], [], 0)
        return bool(ready and os.read(self._handle, 4096))

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture
def other_file(tmp_path: Path) -> Iterator[tuple[Path, Watch]]:
    path = film(tmp_path / "other.ts", MPEG2, seconds=0.5)
    watch = Watch(path)
    yield path, watch
    watch.close()


def test_the_watches_see_something(other_file: tuple[Path, Watch]) -> None:
    path, watch = other_file
    assert not watch.was_opened()
    with av.open(str(path)):
        pass
    assert watch.was_opened()


@pytest.mark.parametrize("name", playlists(""))
def test_a_playlist_opens_nothing(name: str, tmp_path: Path, other_file: tuple[Path, Watch]) -> None:
    other, watch = other_file
    with server() as (address, requests):
        for target in (address, str(other), other.name, f"file:{other}", f"subfile,,start,0,end,0,,:{other}"):
            path = tmp_path / name
            path.write_bytes(playlists(target)[name])
            error = reason_of(path)
            assert (error.state, error.reason) == (SourceState.REJECTED, "names_other_files")
        assert requests == []
    assert not watch.was_opened()


def test_a_playlist_in_disguise_opens_nothing(tmp_path: Path, other_file: tuple[Path, Watch]) -> None:
    other, watch = other_file
    with server() as (address, requests):
        for target in (address, str(other)):
            for before in (b"\xef\xbb\xbf", b"# a comment\n", b"<?xml version='1.0'?><!-- -->", b"\0", b" " * 5000):
                for text in playlists(target).values():
                    path = tmp_path / "x.mp4"
                    path.write_bytes(before + text)
                    assert reason_of(path).reason in ("names_other_files", "not_media")
        assert requests == []
    assert not watch.was_opened()


NAMES = (
    "img%03d.mp4",
    "concat:a|b.mp4",
    "-i.mp4",
    "subfile,,start,0,end,100,,:other.ts",
    "file:other.ts",
    "data:text,x.mp4",
    "pipe:0",
    "a b'c\"d.mp4",
    "new\nline.mp4",
    "film 🎬 ö.mp4",
    "$(true).mp4",
    "a[1]*?.mp4",
    "x" * 251 + ".mp4",
    "playlist.m3u8",
    os.fsdecode(b"caf\xe9\xff.mp4"),
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("is_relative", [True, False])
def test_a_name_is_only_a_name(
    name: str, is_relative: bool, tmp_path: Path, other_file: tuple[Path, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, watch = other_file
    film(tmp_path / "made.mp4", seconds=0.5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with open_media(name if is_relative else tmp_path / name, LIMITS) as container:
        assert main_video_stream(container, LIMITS).codec_context.width == 160
    assert not watch.was_opened()


def test_a_movie_whose_data_lies_elsewhere_opens_nothing(tmp_path: Path, other_file: tuple[Path, Watch]) -> None:
    other, watch = other_file
    for kind, target in (("url ", f"file://{other}"), ("url ", other.name), ("alis", other.name), ("rsrc", other.name)):
        path = tmp_path / "a.mov"
        hostile.external_data(kind, target.encode() + bytes(200))(path)
        error = reason_of(path)
        assert (error.state, error.reason) == (SourceState.REJECTED, "names_other_files")
    assert not watch.was_opened()


def test_what_ffmpeg_asks_to_open_arrives_as_a_reason(
    tmp_path: Path, other_file: tuple[Path, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the playlist demuxers let in and the first look at the file left out, the hook is what stands between."""
    other, watch = other_file
    monkeypatch.setattr(media, "SELF_CONTAINED_FORMATS", "concat,mov,mpegts")
    monkeypatch.setattr(media, "_check_head", lambda head: None)
    with server() as (address, requests):
        for target in (address, other.name, f"file:{other.name}"):
            path = tmp_path / "list.mp4"
            path.write_bytes(f"ffconcat version 1.0\nfile '{target}'\noption safe 0\n".encode())
            error = reason_of(path)
            assert (error.state, error.reason) == (SourceState.REJECTED, "names_other_files")
            assert repr(target.rpartition("/")[2])[1:-1] in error.detail
        (tmp_path / "bytes.mp4").write_bytes(b"ffconcat version 1.0\nfile '\xff\xfe.ts'\n")
        assert reason_of(tmp_path / "bytes.mp4").reason == "names_other_files"
        assert requests == []
    assert not watch.was_opened()


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
    content = film(
        tmp_path / "a.ts", Encoding(codec="mpeg2video", rate=Fraction(25), bitrate_bps=4_000_000)
    ).read_bytes()
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


# -- what an mp4 claims


def claims_of(data: bytes) -> Any:
    return read_claims(BytesIO(data), len(data))


def test_the_claims_of_a_good_file(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", Encoding(rate=RATE, audio_codec="aac"))
    claims = claims_of(path.read_bytes())
    assert claims.is_mp4
    assert claims.has_index
    assert 48 + 94 <= claims.index_entries <= 48 + 100
    assert claims.other_file is None
    assert (claims.is_compressed, claims.is_overgrown) == (False, False)


def test_sound_without_packets_is_indexed_by_chunks(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mov", Encoding(rate=RATE, audio_codec="pcm_s16le"))
    assert claims_of(path.read_bytes()).index_entries < 100


def test_claims_are_read_from_anything(tmp_path: Path) -> None:
    good = film(tmp_path / "a.mp4", Encoding(rate=RATE, audio_codec="aac")).read_bytes()
    seen = set()
    for seed in range(300):
        claims = claims_of(flipped(good, seed, flips=30, begin=0.7)[: len(good) - seed])
        assert claims.index_entries >= 0
        seen.add((claims.has_index, claims.index_entries > 200))
    assert len(seen) >= 3
    for data in (b"", b"\0" * 7, b"\0" * 4000, b"\0\0\0\1moov" * 3, b"\0\0\0\x08moov" * 1000, os.urandom(4000)):
        assert claims_of(data).index_entries >= 0
