"""The sound of a lossless clip: in step with the picture to a millisecond, as long as it sounds in the span."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import pytest

from curation import sound
from curation.cut import ClipFile, Cutter
from curation.media import main_video_stream, open_media
from tests import flv
from tests.cutting import LIMITS, NO_LIMIT_S, Source, cut, decoded, played, program
from tests.hearing import Heard, heard, noise, shift

SECONDS = 6
TOLERANCE_MS = 1.5  # a millisecond is what FLV and Matroska round to
PACKET_S = 0.065  # AAC at 16 kHz; others are shorter
X264 = ("-c:v", "libx264", "-g", "25", "-bf", "2", "-preset", "ultrafast")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "25")
MPEG2 = ("-c:v", "mpeg2video", "-g", "12")
SPANS_S = [(0.0, 1.6), (1.0, 2.5), (2.12, 4.04), (4.2, None)]


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("sound") / "noise.wav", SECONDS)


@pytest.fixture(scope="module")
def other_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("sound") / "other.wav", SECONDS, seed=1)


def shoot(path: Path, *sounds: object, video: tuple[str, ...] = X264) -> Path:
    picture = ("-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={SECONDS}")
    program(*picture, *map(str, sounds), *video, "-threads", "1", "-flags", "+bitexact", str(path))
    return path


def index_at(source: Source, seconds: float | None) -> int:
    if seconds is None:
        return len(source.frames)
    first = source.frames[0].pts
    return next(i for i, frame in enumerate(source.frames) if (frame.pts - first) * source.time_base >= seconds - 0.001)


def span_start_s(clip: ClipFile, source: Source, first: int) -> Fraction:
    """The source's time that is 0 for a player of the clip."""
    start_s = source.frames[first].pts * source.time_base
    return start_s - clip.start_pts * clip.time_base if clip.container == "matroska" else start_s


def check(source: Source, original: Heard, first: int, end: int, *, index: int = 0, full: bool = True) -> Heard:
    """The clip's sound, after it was compared. `full`: the source sounds in all of the span."""
    clip = cut(source, first, end)
    assert clip.audio == "copied"
    ours = heard(clip.data, index)
    late_ms, alike = shift(ours, original, span_start_s(clip, source, first))
    assert abs(late_ms) <= TOLERANCE_MS, (first, end, late_ms, alike)
    assert alike > 0.95
    if full:
        length_s = float(source.span(first, end).duration_s)
        assert length_s - PACKET_S < ours.seconds < length_s + 2 * PACKET_S
    return ours


CODECS = {
    "aac.mp4": (X264, ("aac",)),
    "aac.mkv": (X264, ("aac",)),
    "aac.ts": (X264, ("aac",)),
    "aac.flv": (X264, ("aac",)),
    "aac_16k.mp4": (X264, ("aac", "-ar", "16000")),
    "opus.mkv": (X264, ("libopus",)),
    "opus.webm": (VP8, ("libopus",)),
    "vorbis.mkv": (X264, ("libvorbis",)),
    "vorbis.webm": (VP8, ("libvorbis",)),
    "mp3.mp4": (X264, ("libmp3lame",)),
    # At a low rate its frames lean on many before them.
    "mp3_64k.mkv": (X264, ("libmp3lame", "-b:a", "64k")),
    "mp2.mpg": (MPEG2, ("mp2",)),
    "ac3.ts": (X264, ("ac3",)),
    "eac3.mkv": (X264, ("eac3",)),
    "dts.mkv": (X264, ("dca", "-strict", "-2")),
    "flac.mkv": (X264, ("flac",)),
    "alac.mov": (X264, ("alac",)),
    "pcm.mov": (X264, ("pcm_s24be",)),
    "pcm.mkv": (X264, ("pcm_s16le",)),
    "pcm.avi": (("-c:v", "mjpeg"), ("pcm_s16le",)),
    "mp3.avi": (("-c:v", "mjpeg"), ("libmp3lame",)),
}


@pytest.mark.parametrize("name", CODECS)
def test_sound_keeps_in_step(name: str, wav: Path, tmp_path: Path) -> None:
    video, codec = CODECS[name]
    path = shoot(tmp_path / name, "-i", wav, "-c:a", *codec, "-shortest", video=video)
    source, original = decoded(path), heard(path)
    for start_s, end_s in SPANS_S:
        check(source, original, index_at(source, start_s), index_at(source, end_s), full=end_s is not None)


def test_pcm_goes_where_players_take_it(wav: Path, tmp_path: Path) -> None:
    source = decoded(shoot(tmp_path / "pcm.mkv", "-i", wav, "-c:a", "pcm_s16le"))
    assert cut(source, 10, 20).container == "mov"


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_sound_that_begins_late(suffix: str, wav: Path, tmp_path: Path) -> None:
    path = shoot(tmp_path / f"late.{suffix}", "-itsoffset", "2.2", "-i", wav, "-c:a", "aac", "-shortest")
    source, original = decoded(path), heard(path)
    assert cut(source, 0, 50).audio == "none within the span"
    first, end = index_at(source, 1.4), index_at(source, 3.0)
    ours = check(source, original, first, end, full=False)
    assert 0.75 < ours.start_s < 0.81
    assert 0.75 < ours.seconds < 0.88
    check(source, original, index_at(source, 3.2), index_at(source, 4.6))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_sound_that_ends_early(suffix: str, wav: Path, tmp_path: Path) -> None:
    path = shoot(tmp_path / f"short.{suffix}", "-t", "3.1", "-i", wav, "-c:a", "aac")
    source, original = decoded(path), heard(path)
    ours = check(source, original, index_at(source, 2.4), index_at(source, 4.4), full=False)
    assert 0.65 < ours.seconds < 0.76
    clip = cut(source, index_at(source, 4.0), index_at(source, 5.0))
    assert clip.audio == "none within the span"
    with av.open(io.BytesIO(clip.data), "r") as container:
        assert not container.streams.audio


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_that_begins_before_the_picture(suffix: str, wav: Path, tmp_path: Path) -> None:
    path = tmp_path / f"early.{suffix}"
    picture = ("-itsoffset", "1.3", "-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={SECONDS}")
    program(*picture, "-i", str(wav), *X264, "-c:a", "aac", str(path))
    source, original = decoded(path), heard(path)
    assert source.frames[0].pts * source.time_base - original.start_s > 1.2
    check(source, original, 0, 30)
    check(source, original, 40, 70)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_every_sound_stream_goes_along(suffix: str, wav: Path, other_wav: Path, tmp_path: Path) -> None:
    maps = ("-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:a:0", "aac", "-c:a:1", "ac3")
    path = shoot(tmp_path / f"two.{suffix}", "-i", wav, "-i", other_wav, *maps, "-shortest")
    source = decoded(path)
    for index in (0, 1):
        check(source, heard(path, index), 30, 70, index=index)
    second = heard(cut(source, 30, 70).data, 1)
    _, alike = shift(second, heard(path, 0), source.span(30, 70).start_pts * source.time_base)
    assert alike < 0.5


def separated(path: Path, out: Path, *, sound_first: bool) -> Path:
    """The same streams, all of one behind all of the other in the file."""
    with av.open(str(path), "r") as given, av.open(str(out), "w", options={"max_interleave_delta": "1"}) as output:
        streams = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in given.streams}
        packets = [packet for packet in given.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: (packet.stream.type == "audio") != sound_first):
            packet.stream = streams[packet.stream_index]
            output.mux_one(packet)
    return out


@pytest.mark.parametrize("sound_first", [True, False])
@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4"])
def test_sound_far_from_its_picture_in_the_file(
    suffix: str, sound_first: bool, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "MAX_INTERLEAVE_S", 1)
    monkeypatch.setattr(sound, "SEEK_BACK_S", (1,))
    whole = shoot(tmp_path / "whole.mkv", "-i", wav, "-c:a", "aac", "-shortest")
    path = separated(whole, tmp_path / f"apart.{suffix}", sound_first=sound_first)
    source, original = decoded(path), heard(path)
    with open_media(path, LIMITS) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
    assert suffix == "mp4" or (kinds[:140].count("audio") in (0, 140) and kinds.count("video") == 150)
    for start_s, end_s in SPANS_S:
        check(source, original, index_at(source, start_s), index_at(source, end_s), full=end_s is not None)


def test_silence_is_looked_for_once(wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sound ended hours ago, not every clip reads to the end of the file again."""
    path = shoot(tmp_path / "short.mkv", "-t", "1.0", "-i", wav, "-c:a", "aac")
    source = decoded(path)
    with open_media(path, LIMITS) as container:
        cutter = Cutter(container, main_video_stream(container, LIMITS), NO_LIMIT_S)
        alone: list[int] = []
        read_alone = sound.SoundCollector._read_alone
        monkeypatch.setattr(
            sound.SoundCollector, "_read_alone", lambda self, g: (alone.append(1), read_alone(self, g))[1]
        )
        for first in range(30, 130, 20):
            cutter.cut(source.span(first, first + 10), source.entry_pts(first), 10)
    assert len(alone) == 1


def test_what_a_container_does_not_carry_is_said(wav: Path, tmp_path: Path) -> None:
    source = decoded(shoot(tmp_path / "tta.mkv", "-i", wav, "-c:a", "tta"))
    clip = cut(source, 10, 20)
    assert clip.audio == "left out: tta (mp4 does not carry it)"
    assert len(played(clip)) == 10


def test_sound_whose_times_do_not_rise(wav: Path, tmp_path: Path) -> None:
    """Every tenth packet comes twice: it is taken once, and no reason to lose the clip."""
    whole = shoot(tmp_path / "whole.flv", "-i", wav, "-c:a", "aac", "-shortest")
    tags = flv.tags(whole.read_bytes())
    twice = [tag for i, tag in enumerate(tags) for _ in range(1 + (tag.kind == flv.AUDIO and i > 20 and i % 10 == 0))]
    path = tmp_path / "stutter.flv"
    path.write_bytes(flv.file(twice))
    assert len(twice) > len(tags)
    source = decoded(path)
    check(source, heard(whole), index_at(source, 1.0), index_at(source, 3.0))
