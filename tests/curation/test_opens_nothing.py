"""Whatever a file says and however it is called, opening it opens nothing else: no file, no address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from curation import media
from curation.film import Encoding
from curation.media import Limits, main_video_stream, open_media
from curation.records import BadSource, SourceState
from tests import hostile
from tests.hostile import film, playlists
from tests.watching import Watch, server

LIMITS = Limits()
MPEG2 = Encoding(codec="mpeg2video", rate=Fraction(25))


def reason_of(path: Path) -> BadSource:
    with pytest.raises(BadSource) as caught, open_media(path, LIMITS) as container:
        main_video_stream(container, LIMITS)
    return caught.value


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
    """With a playlist's demuxer let in, its name known and the first look left out, the hook stands between."""
    other, watch = other_file
    monkeypatch.setattr(media, "SELF_CONTAINED_FORMATS", "hls,mpegts")
    monkeypatch.setattr(media, "_check_head", lambda head: None)
    monkeypatch.setattr(media._SourceBytes, "name", "x.m3u8", raising=False)
    with server() as (address, requests):
        for target in (address, str(other), other.name):
            path = tmp_path / "x.m3u8"
            path.write_bytes(playlists(target)["hls.m3u8"])
            error = reason_of(path)
            assert (error.state, error.reason) == (SourceState.REJECTED, "names_other_files")
            assert f"it asks to open '{target}'" in error.detail
        path.write_bytes(playlists("X")["hls.m3u8"].replace(b"X\n", b"\xff\xfe.ts\n"))
        assert reason_of(path).reason == "names_other_files"
        assert requests == []
    assert not watch.was_opened()


@pytest.mark.parametrize("format_name", ["concat", "hls", "sdp"])
def test_without_the_list_of_formats_no_protocol_is_left(
    format_name: str, tmp_path: Path, other_file: tuple[Path, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The concat demuxer opens files past the hook; then it may use no protocol."""
    other, watch = other_file
    monkeypatch.setattr(media, "SELF_CONTAINED_FORMATS", f"{format_name},mpegts")
    monkeypatch.setattr(media, "_check_head", lambda head: None)
    monkeypatch.setattr(media._SourceBytes, "name", "x.m3u8", raising=False)
    with server() as (address, requests):
        for target in (address, str(other), other.name, f"file:{other}"):
            for text in playlists(target).values():
                (tmp_path / "x.m3u8").write_bytes(text)
                assert reason_of(tmp_path / "x.m3u8").reason in ("not_media", "names_other_files")
        assert requests == []
    assert not watch.was_opened()


def ebml(element: str, body: bytes) -> bytes:
    """An element of Matroska with a size of one byte."""
    assert len(body) < 127
    return bytes.fromhex(element) + bytes([0x80 | len(body)]) + body


def test_a_matroska_file_that_is_linked_to_others_opens_nothing(
    tmp_path: Path, other_file: tuple[Path, Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordered chapters in another segment, and the name of the file with the next one (RFC 9559, 17 and 20)."""
    other, watch = other_file
    monkeypatch.chdir(tmp_path)
    path = film(tmp_path / "a.mkv", Encoding(codec="mpeg4", rate=Fraction(24)))
    data = path.read_bytes()
    atom = ebml("73C4", b"\1") + ebml("91", b"\0") + ebml("6E67", bytes(16))
    chapters = ebml("1043A770", ebml("45B9", ebml("45DD", b"\1") + ebml("B6", atom)))
    linked = chapters + ebml("1549A966", ebml("3E83BB", other.name.encode()))
    void = b"\xec\x01" + bytes(6)  # what the muxer leaves free, with a size of eight bytes
    at = data.index(void)
    free = 9 + data[at + 8]
    rest = ebml("EC", bytes(free - len(linked) - 2))
    path.write_bytes(data[:at] + linked + rest + data[at + free :])
    with open_media(path, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)
        assert len(container.chapters()) == 1, "guard: the chapters are read"
        assert sum(len(packet.decode()) for packet in container.demux(stream)) == 48
    assert not watch.was_opened()
