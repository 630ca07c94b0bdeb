"""Decoding what is damaged: no exception but BadSource, no hang, and damage costs only the frames that it covers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import pytest

from curation.decode import DecodedFrame, Decoder
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.media import Limits, main_video_stream, open_media
from curation.records import BadSource
from curation.timeline import Timeline
from tests import hostile
from tests.hostile import RATE, film, flipped

LIMITS = Limits()


@contextmanager
def decoder_of(path: Path, limits: Limits = LIMITS) -> Iterator[Decoder]:
    with open_media(path, LIMITS) as container:
        yield Decoder(container, main_video_stream(container, LIMITS), limits, "noref")


def decoded(path: Path, limits: Limits = LIMITS) -> tuple[list[DecodedFrame], Decoder]:
    with decoder_of(path, limits) as decoder:
        return list(decoder), decoder


@pytest.mark.parametrize(
    ("times", "admitted", "is_over"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], False),
        ([5, 5, 6], [5, 6], False),  # a time twice
        ([5, 3, 4, 6], [5, 6], False),  # a small step back
        ([-3, -2, 0], [-3, -2, 0], False),  # before the beginning, as edit lists have it
        ([None, 4, None, 5], [4, 5], False),
        ([0, 1 << 62, 1, 2], [0, 1, 2], False),  # no file lasts so long
        ([1 << 62, -1 << 62, 1, 2], [1, 2], False),
        ([17 * 10**10, 17 * 10**10 + 4], [17 * 10**10, 17 * 10**10 + 4], False),  # counted from 1970
        ([0, 100, 10**7, 101, 102], [0, 100, 101, 102], False),  # one glitch far ahead
        ([1000, 1001, 3, 1002], [1000, 1001, 1002], False),  # one glitch far back
        ([1000, *range(17)], [1000], True),  # a second timeline behind the first
        ([0, *range(10**7, 10**7 + 17)], [0], True),  # a second timeline, far ahead
        ([1000, *range(16), 1001], [1000, 1001], False),  # one less, and it was damage
        ([0] * 100, [0], False),  # time that stands still
        ([0, 1, 900, 2, 3], [0, 1, 2, 3], False),  # one glitch ahead that could be a pause, but for what follows
        ([0, 900, 901, 902], [0, 900, 901, 902], False),  # a pause
        ([0, 900, 900, 901], [0, 900, 901], False),
    ],
)
def test_timeline(times: list[int | None], admitted: list[int], is_over: bool) -> None:
    timeline = Timeline(Fraction(1, 100))
    taken: list[int | None] = []
    for pts in times:
        if timeline.admits(pts):
            del taken[len(taken) - timeline.retracts :]
            taken.append(pts)
    assert taken == admitted
    assert timeline.is_over == is_over


@pytest.mark.parametrize("time_base", [Fraction(1, 2**31 - 1), Fraction(1), Fraction(2**31 - 1)])
def test_timeline_with_any_time_base(time_base: Fraction) -> None:
    timeline = Timeline(time_base)
    assert timeline.admits(0)
    assert timeline.admits(1) == (time_base <= 3600)


def four_scenes(path: Path, encoding: Encoding) -> Path:
    specs = tuple(SceneSpec(seed, 24, pan_x_px_per_s=30.0) for seed in range(4))
    times_s = [i / float(encoding.rate) for i in range(96)]
    encode_film(path, render(Edit(specs, (Join("cut"),) * 3), 160, 128, times_s), encoding)
    return path


def damage_packet(path: Path, index: int, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of one packet of the video where they lie."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][index]
        assert packet.pos is not None
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    changed = change(bytes(data[position : position + size]))
    assert len(changed) == size
    data[position : position + size] = changed
    path.write_bytes(data)


GARBAGE = {
    "zeros": lambda data: data[:8] + bytes(len(data) - 8),
    "ones": lambda data: b"\xff" * len(data),
    "noise": lambda data: data[:6] + random.Random(1).randbytes(len(data) - 6),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_damage_reaches_from_the_packet_to_the_next_entry(tmp_path: Path, garbage: str, b_frames: int) -> None:
    path = four_scenes(tmp_path / "a.mp4", Encoding(rate=RATE, gop_frames=24, b_frames=b_frames))
    good, _ = decoded(path)
    damage_packet(path, 31, GARBAGE[garbage])  # a P-frame in the middle of the second scene's group of pictures
    frames, decoder = decoded(path)
    damaged = {frame.pts for frame in frames if frame.is_damaged} | {f.pts for f in good} - {f.pts for f in frames}
    second_scene = {frame.pts for frame in good[24:48]}
    assert damaged
    assert damaged <= second_scene
    assert good[47].pts in damaged, "nothing after the damage is trusted before the next entry"
    assert sum(not frame.is_damaged for frame in frames) >= 72
    assert f"{sum(frame.is_damaged for frame in frames)} damaged frames" in str(decoder.damage)


def test_frames_that_are_dropped_without_a_word_are_missed(tmp_path: Path) -> None:
    path = four_scenes(tmp_path / "a.mp4", Encoding(rate=RATE, gop_frames=24, b_frames=2))
    damage_packet(path, 30, GARBAGE["noise"])  # a B-frame, which FFmpeg passes over as if it had not been there
    frames, decoder = decoded(path)
    assert decoder.packets_refused == 0
    assert decoder.frames_missing == 96 - len(frames) == 1
    assert [i for i, frame in enumerate(frames) if frame.is_damaged] == list(range(28, 47))
    assert "1 frames missing" in str(decoder.damage)


def test_damage_in_a_keyframe_costs_its_group_of_pictures(tmp_path: Path) -> None:
    path = four_scenes(tmp_path / "a.mp4", Encoding(rate=RATE, gop_frames=24))
    damage_packet(path, 24, GARBAGE["ones"])
    frames, decoder = decoded(path)
    good = {frame.pts // 512 for frame in frames if not frame.is_damaged}
    assert good == {*range(23), *range(48, 96)}, "all but the group and the frame that it follows"
    assert decoder.packets_refused
    assert decoder.damage


def test_every_frame_of_an_intra_codec_is_an_entry(tmp_path: Path) -> None:
    path = four_scenes(tmp_path / "a.mov", Encoding(codec="mjpeg", pix_fmt="yuvj420p", rate=RATE))
    damage_packet(path, 30, GARBAGE["ones"])
    frames, _ = decoded(path)
    assert len(frames) >= 94
    assert sum(frame.is_damaged for frame in frames) <= 1
    assert not frames[31].is_damaged


def test_what_is_good_before_a_broken_end_is_good(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", Encoding(codec="mpeg2video", rate=Fraction(25), gop_frames=12))
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    frames, decoder = decoded(path)
    assert not any(frame.is_damaged for frame in frames)
    assert decoder.frames == len(frames) > 30
    assert 0 < decoder.frames_left_out <= 4
    assert "left out at the end" in str(decoder.damage)


def test_a_long_broken_end_is_not_left_out(tmp_path: Path) -> None:
    path = four_scenes(tmp_path / "a.mp4", Encoding(rate=RATE, gop_frames=24))
    damage_packet(path, 80, GARBAGE["noise"])
    frames, decoder = decoded(path)
    assert len(frames) >= 95
    assert decoder.frames_left_out == 0
    assert all(frame.is_damaged for frame in frames[82:])


FUZZED: dict[str, Encoding] = {
    "a.mp4": Encoding(rate=RATE, b_frames=2, audio_codec="aac"),
    "a.mov": Encoding(codec="mjpeg", pix_fmt="yuvj420p", rate=RATE, audio_codec="pcm_s16le"),
    "a.mkv": Encoding(codec="libx265", preset="ultrafast", rate=RATE),
    "a.webm": Encoding(codec="libvpx-vp9", rate=Fraction(25), time_base=Fraction(1, 1000)),
    "b.webm": Encoding(codec="libvpx", rate=Fraction(25), time_base=Fraction(1, 1000)),
    "a.ts": Encoding(rate=Fraction(25), b_frames=2, audio_codec="aac"),
    "a.avi": Encoding(codec="mpeg4", rate=RATE, audio_codec="pcm_s16le"),
    "a.mpg": Encoding(codec="mpeg2video", rate=Fraction(25)),
    "a.flv": Encoding(rate=RATE),
    "a.mxf": Encoding(codec="mpeg2video", rate=Fraction(25)),
    "a.wmv": Encoding(codec="wmv2", rate=RATE),
    "a.nut": Encoding(codec="mpeg4", rate=RATE),
}
SEEDS = 40


def harmed(data: bytes, seed: int) -> bytes:
    """One of: bytes exchanged anywhere, or in the first or last kilobytes; a stretch of zeros; a stretch cut out."""
    dice = random.Random(seed)
    start = dice.randrange(len(data))
    stop = min(len(data), start + dice.randrange(1, len(data) // 3))
    match seed % 5:
        case 0:
            return flipped(data, seed, flips=dice.randrange(1, 30))
        case 1:
            return flipped(data, seed, flips=4, end=min(1.0, 1500 / len(data)))
        case 2:
            return flipped(data, seed, flips=4, begin=max(0.0, 1 - 4000 / len(data)))
        case 3:
            return data[:start] + bytes(stop - start) + data[stop:]
        case _:
            return data[:start] + data[stop:]


@pytest.mark.parametrize("name", FUZZED)
def test_no_damage_raises_anything_but_bad_source(name: str, tmp_path: Path) -> None:
    path = film(tmp_path / name, FUZZED[name], seconds=1)
    good = path.read_bytes()
    outcomes: dict[str, int] = {}
    for seed in range(SEEDS):
        path.write_bytes(harmed(good, seed))
        try:
            frames, decoder = decoded(path)
        except BadSource as error:
            outcomes[error.reason] = outcomes.get(error.reason, 0) + 1
            continue
        outcome = "damaged" if decoder.damage or any(frame.is_damaged for frame in frames) else "whole"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        times = [frame.pts for frame in frames]
        assert times == sorted(set(times))
        assert all(0 <= frame.duration * decoder.time_base <= 60 for frame in frames)
    assert name == "b.webm" or outcomes.get("damaged"), outcomes  # VP8 takes any bytes for a picture
    assert len(outcomes) >= 2, outcomes


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_source_hours": 1 / 3600}, "too_long"),
        ({"max_rate_fps": 20.0}, "too_many_frames"),
        ({"max_decode_minutes": 1e-9}, "decode_timeout"),
    ],
)
def test_limits_of_decoding(limits: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    with pytest.raises(BadSource) as caught:
        decoded(path, Limits(**limits))
    assert caught.value.reason == reason
    assert next(iter(limits)) in caught.value.detail


def test_limits_that_are_just_met_are_no_limits(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    frames, _ = decoded(path, Limits(max_source_hours=2 / 3600, max_rate_fps=24))
    assert len(frames) == 48


def test_packets_without_a_byte_do_not_end_the_stream(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4")
    path = tmp_path / "a.nut"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if index == 20:
                empty = av.Packet(b"")
                empty.stream, empty.pts, empty.dts = stream, packet.pts, packet.dts
                empty.time_base = packet.time_base
                target.mux(empty)
                continue
            packet.stream = stream
            target.mux(packet)
    frames, _ = decoded(path)
    assert len(frames) > 40


def test_frames_without_times_are_named_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"no_timestamps: none of 48 frames .*ffmpeg -framerate"):
        decoded(film(tmp_path / "a.h264"))


def test_a_spliced_file_gives_its_first_part(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    hostile.BAD_FILES_BY_NAME["time_jumps_back.ts"].make(path)
    frames, decoder = decoded(path)
    assert 90 <= len(frames) <= 100
    assert "split the file there" in str(decoder.stopped_because)


class Fake:
    """What a Decoder asks of a container and a stream, with a decoder that does as the test says."""

    def __init__(self, real: Any, decode: Callable[[Any], list[Any]]):
        self._real, self._decode = real, decode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def decode(self, packet: Any) -> list[Any]:
        return self._decode(packet)


PACKET_ERRORS = [
    av.error.InvalidDataError,  # damaged data
    av.error.ArgumentError,  # a header that contradicts itself (EINVAL)
    av.error.PatchWelcomeError,  # a feature that FFmpeg lacks
    av.error.ExternalError,  # dav1d, libvpx
    av.error.UnknownError,
    av.error.BugError,
    av.error.MemoryError,  # a packet that asks for more than there is
    av.error.BlockingIOError,
    av.error.EOFError,
]


@pytest.mark.parametrize("error", PACKET_ERRORS)
def test_whatever_ffmpeg_says_of_a_packet_the_next_is_tried(error: type[av.error.FFmpegError], tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", Encoding(rate=RATE, gop_frames=12))
    with open_media(path, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)
        count = 0

        def decode(packet: Any) -> list[Any]:
            nonlocal count
            count += 1
            if count == 15:
                raise error(1, "as said")
            return stream.decode(packet)

        decoder = Decoder(container, stream, LIMITS, "noref")
        decoder._stream = Fake(stream, decode)  # type: ignore[assignment]
        decoder._demuxed = lambda: iter(container.demux(stream))  # type: ignore[method-assign]
        frames = list(decoder)
    assert decoder.packets_refused == 1
    assert [i for i, frame in enumerate(frames) if frame.is_damaged] == list(range(14, 23))


def test_faults_of_ours_are_not_taken_for_damage(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    with open_media(path, LIMITS) as container:
        stream = main_video_stream(container, LIMITS)

        def decode(packet: Any) -> list[Any]:
            raise ValueError("a fault")

        decoder = Decoder(container, stream, LIMITS, "noref")
        decoder._stream = Fake(stream, decode)  # type: ignore[assignment]
        decoder._demuxed = lambda: iter(container.demux(stream))  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="a fault"):
            list(decoder)
