"""Frames of a clip at asked times: the right pictures with the right times, as they are to be seen, and no more read
than they need. Each picture says its own number."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.clip_frames import frames_at
from curation.film import Encoding, encode_film
from curation.mux import ClipFile
from curation.reader import DamagedClip, read_active_frames
from tests.cutting import cut, decoded
from tests.numbered_film import number_in, numbered_pictures

WIDTH, HEIGHT, FRAMES = 160, 96, 60


def row_of(clip: ClipFile, frames: int, **more: Any) -> dict[str, Any]:
    whole = {"active_x_px": None, "active_y_px": None, "active_width_px": None, "active_height_px": None}
    return {
        "clip_id": "c",
        "frames": frames,
        "width": WIDTH,
        "height": HEIGHT,
        "video_start_pts": clip.start_pts,
        "video_end_pts": clip.end_pts,
        "video_time_base_num": clip.time_base.numerator,
        "video_time_base_den": clip.time_base.denominator,
        **whole,
        **more,
    }


ENCODINGS = {
    "mp4": ("a.mp4", Encoding(rate=Fraction(24), gop_frames=12)),
    "b-frames": ("a.mp4", Encoding(rate=Fraction(24), gop_frames=12, b_frames=3)),
    "open gop": ("a.mp4", Encoding(rate=Fraction(24000, 1001), gop_frames=12, b_frames=3, open_gop=True)),
    "one gop": ("a.mp4", Encoding(rate=Fraction(24), gop_frames=1000, keyframes_at_cuts=False)),
    "late": ("a.mp4", Encoding(rate=Fraction(24), gop_frames=12, start_offset_s=Fraction(1, 2))),
    "matroska": ("a.mkv", Encoding("mpeg4", rate=Fraction(25), gop_frames=12)),
    "webm": ("a.webm", Encoding("libvpx-vp9", rate=Fraction(25), gop_frames=20)),
}


@pytest.fixture(scope="module", params=ENCODINGS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fraction]:
    name, encoding = ENCODINGS[request.param]
    path = tmp_path_factory.mktemp("film") / name
    encode_film(path, numbered_pictures(FRAMES, WIDTH, HEIGHT), encoding)
    return path, encoding.rate


@pytest.mark.parametrize(("first", "end"), [(0, FRAMES), (17, 55), (30, 31)])
def test_pictures_are_those_of_their_times(film: tuple[Path, Fraction], first: int, end: int) -> None:
    path, rate = film
    clip, count = cut(decoded(path), first, end), end - first
    row = row_of(clip, count)
    length_s = count / rate
    for step in (1, 2, 5, 11, 23):
        times_s = [float((n + 0.5) / rate) for n in range(0, count, step)]
        frames = frames_at(row, io.BytesIO(clip.data), times_s, 10**9)
        assert times_s
        for time_s, rgb in frames:
            assert number_in(rgb) - first == round(time_s * rate), "the time is the picture's own"
        found = [number_in(rgb) - first for _, rgb in frames]
        assert found == sorted(set(found))
        early = 0 if step < 8 else 3  # frames on which no other rests are passed over where few are wanted
        assert len(found) == len(times_s)
        assert all(n * step - early <= m <= n * step for n, m in enumerate(found) if n), found
        assert found[0] <= early
    for time_s in (0.0, float(length_s) - 1e-6, float(length_s), float(length_s) + 5):
        ((_, rgb),) = frames_at(row, io.BytesIO(clip.data), [time_s], 10**9)
        assert number_in(rgb) - first in (range(4) if time_s == 0 else range(count - 4, count))


def test_a_time_within_a_frame_is_that_frame(film: tuple[Path, Fraction]) -> None:
    path, rate = film
    clip = cut(decoded(path), 0, FRAMES)
    for share in (0.1, 0.5, 0.9):
        wanted = [7, 8, 9, 11, 12, 24]
        times_s = [float((n + Fraction(share)) / rate) for n in wanted]
        frames = frames_at(row_of(clip, FRAMES), io.BytesIO(clip.data), times_s, 10**9)
        assert [number_in(rgb) for _, rgb in frames] == wanted, share


def test_the_same_frame_is_not_shown_twice(film: tuple[Path, Fraction]) -> None:
    path, rate = film
    clip = cut(decoded(path), 0, FRAMES)
    times_s = [float((20 + n / 10) / rate) for n in range(20)]
    frames = frames_at(row_of(clip, FRAMES), io.BytesIO(clip.data), times_s, 10**9)
    assert [number_in(rgb) for _, rgb in frames] == [20, 21]


# -- a rate that varies


@pytest.fixture(scope="module", params=[0, 2], ids=["plain", "b-frames"])
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipFile, list[int]]:
    """A recording of a screen: quick frames, then one that is on show for 20 s, then quick ones. Times in ms."""
    path = tmp_path_factory.mktemp("held") / "screen.mp4"
    times = [*range(0, 1000, 40), *range(21_000, 22_000, 40), *range(30_000, 31_000, 40)]
    encoding = Encoding(time_base=Fraction(1, 1000), rate=Fraction(25), gop_frames=12, b_frames=request.param)
    encode_film(path, numbered_pictures(len(times), WIDTH, HEIGHT), encoding, pts=times)
    return cut(decoded(path), 0, len(times)), times


def test_a_frame_that_is_held_is_the_one_on_show(held: tuple[ClipFile, list[int]]) -> None:
    clip, times = held
    row = row_of(clip, len(times))
    for wanted_s, number in ([5.0, 24], [20.9, 24], [25.0, 49], [0.5, 12], [30.99, 74], [21.0, 25]):
        ((time_s, rgb),) = frames_at(row, io.BytesIO(clip.data), [wanted_s], 10**9)
        assert number_in(rgb) == number, wanted_s
        assert time_s == pytest.approx(times[number] / 1000)


def test_no_picture_of_a_window_is_of_a_later_one(held: tuple[ClipFile, list[int]]) -> None:
    clip, times = held
    row = row_of(clip, len(times))
    for start_s in (0, 8, 16, 24):
        wanted_s = [start_s + n / 2 + 0.25 for n in range(16)]
        frames = frames_at(row, io.BytesIO(clip.data), wanted_s, 10**9)
        assert frames
        assert all(time_s <= start_s + 8 for time_s, _ in frames)


# -- how it is shown

SIZES = [(10**9, (96, 160)), (96 * 160, (96, 160)), (4000, (49, 81)), (784, (22, 35)), (1, (1, 1))]


@pytest.mark.parametrize(("pixels", "shape"), SIZES)
def test_frames_are_shrunk_at_their_own_aspect(tmp_path: Path, pixels: int, shape: tuple[int, int]) -> None:
    encode_film(tmp_path / "a.mp4", numbered_pictures(3, WIDTH, HEIGHT), Encoding())
    clip = cut(decoded(tmp_path / "a.mp4"), 0, 3)
    ((_, rgb),) = frames_at(row_of(clip, 3), io.BytesIO(clip.data), [0.0], pixels)
    assert abs(rgb.shape[0] - shape[0]) <= 1
    assert abs(rgb.shape[1] - shape[1]) <= 1
    assert rgb.shape[2] == 3
    assert rgb.dtype == np.uint8
    if pixels >= 784:
        assert rgb.shape[0] * rgb.shape[1] <= pixels
        assert rgb.shape[1] / rgb.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.06)


@pytest.mark.parametrize("pixels", [10**9, 3000])
def test_black_bars_are_not_shown(tmp_path: Path, pixels: int) -> None:
    bars = 16
    encode_film(tmp_path / "a.mp4", numbered_pictures(20, WIDTH, HEIGHT, bars), Encoding())
    clip = cut(decoded(tmp_path / "a.mp4"), 0, 20)
    box = {"active_x_px": 0, "active_y_px": bars, "active_width_px": WIDTH, "active_height_px": HEIGHT - 2 * bars}
    row = row_of(clip, 20, **box)
    frames = frames_at(row, io.BytesIO(clip.data), [0.1, 0.5], pixels)
    assert [number_in(rgb) for _, rgb in frames] == [2, 12]
    for _, rgb in frames:
        assert rgb.shape[0] * rgb.shape[1] <= min(pixels, WIDTH * (HEIGHT - 2 * bars))
        assert rgb[-1].mean() > 60, "the lowest row is of the picture"
    barred = frames_at(row_of(clip, 20), io.BytesIO(clip.data), [0.1], pixels)[0][1]
    assert barred[-1].mean() < 20, "it would be black"


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_frames_are_upright(tmp_path: Path, rotation: int) -> None:
    encode_film(tmp_path / "a.mp4", numbered_pictures(20, HEIGHT, WIDTH), Encoding(rotation_deg=rotation))
    clip = cut(decoded(tmp_path / "a.mp4"), 0, 20)
    row = row_of(clip, 20, width=HEIGHT, height=WIDTH)
    for pixels in (10**9, 4000):
        frames = frames_at(row, io.BytesIO(clip.data), [0.2, 0.6], pixels)
        assert [number_in(rgb) for _, rgb in frames] == [4, 14]
        assert all(rgb.shape[0] > rgb.shape[1] for _, rgb in frames)


def test_pixels_that_are_not_square_are_shown_square(tmp_path: Path) -> None:
    encode_film(tmp_path / "a.mp4", numbered_pictures(5, 96, HEIGHT), Encoding(pixel_aspect=Fraction(5, 3)))
    clip = cut(decoded(tmp_path / "a.mp4"), 0, 5)
    ((_, rgb),) = frames_at(row_of(clip, 5), io.BytesIO(clip.data), [0.1], 10**9)
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert number_in(rgb) == 2


def test_frames_are_those_of_the_reader(tmp_path: Path) -> None:
    encode_film(tmp_path / "a.mp4", numbered_pictures(20, WIDTH, HEIGHT), Encoding(b_frames=2))
    clip = cut(decoded(tmp_path / "a.mp4"), 3, 17)
    row = row_of(clip, 14)
    every = list(read_active_frames(row, io.BytesIO(clip.data)))
    frames = frames_at(row, io.BytesIO(clip.data), [(n + 0.5) / 24 for n in range(14)], 10**9)
    assert len(frames) == len(every) == 14
    assert all(np.array_equal(rgb, other) for (_, rgb), other in zip(frames, every, strict=True))


# -- what it costs


class Counted(io.BytesIO):
    """Counts the bytes that are read, as an object store would."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_a_window_of_a_long_clip_reads_its_own_part(tmp_path: Path) -> None:
    rate, count = 12, 720
    encoding = Encoding(rate=Fraction(rate), gop_frames=24, preset="ultrafast")
    encode_film(tmp_path / "a.mp4", numbered_pictures(count, WIDTH, HEIGHT, seed=1), encoding)
    clip = cut(decoded(tmp_path / "a.mp4"), 0, count)
    row = row_of(clip, count)
    assert len(clip.data) > 4 << 20, "there is something to save"
    for start_s in (0, 24, 56):
        video = Counted(clip.data)
        times_s = [start_s + n / 2 + 0.25 for n in range(8)]
        frames = frames_at(row, video, times_s, 4000)
        assert [number_in(rgb) // rate for _, rgb in frames] == [int(time_s) for time_s in times_s]
        share = 4 / 60 * len(clip.data)
        assert video.taken < 3 * share + (1 << 20), f"{video.taken} bytes of {len(clip.data)} for {start_s} s on"


# -- damage


def test_bytes_that_are_no_clip_are_damaged() -> None:
    row = row_of(ClipFile(b"", "mp4", 0, 100, Fraction(1, 100), 0, "none"), 5)
    for video in (b"", b"\0" * 5000, b"GIF89a", b"ftyp" * 100):
        with pytest.raises(DamagedClip):
            frames_at(row, io.BytesIO(video), [0.1, 0.5], 1000)


def test_a_clip_that_breaks_off_gives_what_it_has(tmp_path: Path) -> None:
    encode_film(tmp_path / "a.mp4", numbered_pictures(FRAMES, WIDTH, HEIGHT, seed=2), Encoding(gop_frames=12))
    clip = cut(decoded(tmp_path / "a.mp4"), 0, FRAMES)
    half = clip.data[: len(clip.data) // 2]
    times_s = [n / 4 + 0.1 for n in range(9)]
    try:
        frames = frames_at(row_of(clip, FRAMES), io.BytesIO(half), times_s, 10**9)
    except DamagedClip:
        return  # its index is at the end
    assert all(number_in(rgb) == round(time_s * 24) for time_s, rgb in frames)


class Unreachable(io.BytesIO):
    """A blob in an object store that is gone."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise ConnectionResetError("the object store does not answer")


def test_a_store_that_is_gone_is_no_damage() -> None:
    row = row_of(ClipFile(b"", "mp4", 0, 100, Fraction(1, 100), 0, "none"), 5)
    with pytest.raises(ConnectionResetError):
        frames_at(row, Unreachable(b"x" * 1000), [0.1], 1000)
