"""Edit lists as bytes: what is written, into which boxes, and what stays as it was."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.film import Encoding
from curation.mp4_edits import BrokenMovie, TrackEdit, write_edits
from tests.cutting import film
from tests.mp4_boxes import box, boxes


def full_box(kind: str, version: int, before: bytes, after: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]) + before + after)


def header(kind: str, version: int, timescale: int, duration: int) -> bytes:
    """An mvhd or mdhd: times, timescale, duration, and something behind."""
    times, width = (bytes(16), ">IQ") if version == 1 else (bytes(8), ">II")
    return full_box(kind, version, times, struct.pack(width, timescale, duration) + b"behind")


def track_header(version: int) -> bytes:
    return full_box("tkhd", version, bytes(24 if version == 1 else 16), bytes(8 if version == 1 else 4) + b"behind")


def movie(*, version: int, timescale: int, media_timescales: list[int], with_old_list: bool) -> bytes:
    old = box("edts", box("elst", struct.pack(">IIIiI", 0, 1, 7, 7, 1 << 16))) if with_old_list else b""
    tracks = b"".join(
        box("trak", track_header(version) + old + box("mdia", header("mdhd", version, scale, 0) + box("minf", b"x")))
        for scale in media_timescales
    )
    moov = box("moov", header("mvhd", version, timescale, 0) + tracks + box("udta", b"kept"))
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"media"
    return box("ftyp", b"isom") + large + moov


def edit_lists(data: bytes) -> list[list[tuple[int, int, int]]]:
    found = []
    for start, _ in boxes(data[data.index(b"moov") - 4 :], ("moov", "trak", "edts", "elst")):
        at = data.index(b"moov") - 4 + start + 8
        version, count = data[at], struct.unpack_from(">I", data, at + 4)[0]
        assert version == 1
        found.append([struct.unpack_from(">QqI", data, at + 8 + 20 * i) for i in range(count)])
    return found


def written(data: bytes, edits: list[TrackEdit | None]) -> bytes:
    file = io.BytesIO(data)
    write_edits(file, edits)
    return file.getvalue()


NORMAL_RATE = 1 << 16
SECONDS = st.fractions(min_value=0, max_value=10_000, max_denominator=48_000)
POSITIVE = SECONDS.filter(lambda seconds: seconds > 0)


@given(
    st.lists(
        st.tuples(st.builds(TrackEdit, SECONDS, POSITIVE, SECONDS), st.integers(1, 10**6)), min_size=1, max_size=3
    ),
    st.sampled_from([0, 1]),
    st.integers(600, 100_000),
    st.booleans(),
)
def test_every_track_gets_its_list(
    tracks: list[tuple[TrackEdit, int]], version: int, timescale: int, with_old_list: bool
) -> None:
    scales = [media_timescale for _, media_timescale in tracks]
    data = movie(version=version, timescale=timescale, media_timescales=scales, with_old_list=with_old_list)
    edited = written(data, [edit for edit, _ in tracks])
    assert edited[: data.index(b"moov") - 4] == data[: data.index(b"moov") - 4]
    assert edited.endswith(box("udta", b"kept"))
    assert edited.count(b"elst") == len(tracks)
    for (edit, media_timescale), entries in zip(tracks, edit_lists(edited), strict=True):
        shown = (round(edit.duration_s * timescale), round(edit.media_start_s * media_timescale), NORMAL_RATE)
        delay = (round(edit.delay_s * timescale), -1, NORMAL_RATE)
        assert entries == ([delay, shown] if edit.delay_s else [shown])


def test_durations_are_those_that_are_shown() -> None:
    data = movie(version=0, timescale=1000, media_timescales=[90_000, 48_000], with_old_list=False)
    edits: list[TrackEdit | None] = [
        TrackEdit(Fraction(1), Fraction(2)),
        TrackEdit(Fraction(0), Fraction(3), Fraction(1, 2)),
    ]
    edited = written(data, edits)
    mvhd = edited.index(b"mvhd") + 4
    assert struct.unpack_from(">I", edited, mvhd + 16)[0] == 3500
    tkhds = [i + 4 for i in range(len(edited)) if edited[i : i + 4] == b"tkhd"]
    assert [struct.unpack_from(">I", edited, at + 20)[0] for at in tkhds] == [2000, 3500]


def test_a_track_can_be_left_as_it_is() -> None:
    data = movie(version=0, timescale=1000, media_timescales=[90_000, 48_000], with_old_list=True)
    edited = written(data, [TrackEdit(Fraction(1), Fraction(2)), None])
    assert edited.count(b"elst") == 2
    assert struct.pack(">IIIiI", 0, 1, 7, 7, 1 << 16) in edited


def test_a_duration_beyond_32_bits_is_cut_to_them() -> None:
    data = movie(version=0, timescale=1_000_000, media_timescales=[1000], with_old_list=False)
    edited = written(data, [TrackEdit(Fraction(0), Fraction(10_000))])
    assert struct.unpack_from(">I", edited, edited.index(b"mvhd") + 20)[0] == 0xFFFFFFFF
    assert edit_lists(edited) == [[(10_000_000_000, 0, NORMAL_RATE)]]


BROKEN = {
    "the movie is not last": lambda data: data + box("free", b""),
    "a box longer than the file": lambda data: data[:-4],
    "a box of no size": lambda data: data[:-12] + bytes(12),
    "another number of tracks": lambda data: data[:-12] + box("trak", b""),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_no_muxer_writes_is_an_error(fault: str) -> None:
    """As FFmpeg leaves what it was given damaged packets for: found at once, not written on."""
    data = movie(version=0, timescale=1000, media_timescales=[1000], with_old_list=False)
    file = io.BytesIO(BROKEN[fault](data))
    before = file.getvalue()
    with pytest.raises(BrokenMovie):
        write_edits(file, [TrackEdit(Fraction(0), Fraction(1))])
    assert file.getvalue() == before


def test_times_that_no_box_holds_are_an_error() -> None:
    data = movie(version=0, timescale=1000, media_timescales=[1000], with_old_list=False)
    for edit in (TrackEdit(Fraction(0), Fraction(2**61)), TrackEdit(Fraction(-(2**61)), Fraction(1))):
        with pytest.raises(BrokenMovie):
            written(data, [edit])


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_player_shows_what_the_list_says(suffix: str, tmp_path: Path) -> None:
    encoding = Encoding(rate=Fraction(24), gop_frames=12, b_frames=2, audio_codec="aac")
    path = film(tmp_path / f"film.{suffix}", encoding)
    with av.open(str(path), "r") as container:
        whole = [frame.pts for frame in container.decode(container.streams.video[0])]
    first_s = Fraction(2, 24)  # two frames of reordering before the first
    edits: list[TrackEdit | None] = [
        TrackEdit(first_s + Fraction(10, 24), Fraction(7, 24), Fraction(1, 4)),
        TrackEdit(Fraction(10, 24), Fraction(7, 24)),
    ]
    data = written(path.read_bytes(), edits)
    with av.open(io.BytesIO(data), "r") as container:
        video: Any = container.streams.video[0]
        shown = [frame.pts * video.time_base for frame in container.decode(video)]
    assert len(whole) == 48
    assert shown == [Fraction(1, 4) + Fraction(index, 24) for index in range(7)]
