"""Sources that say odd things of their time: edit lists, other beginnings, other headers, guessed times, damage."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from curation.cut import CannotCopy, Cutter
from curation.film import Encoding
from curation.media import main_video_stream, open_media
from tests import flv, mp4_boxes
from tests.cutting import LIMITS, NO_LIMIT_S, Source, cut, decoded, encode, film, packets_of, played, program, read

FRAME_S = Fraction(1, 24)
Entry = tuple[int, int] | Fraction
"""Frames of the source from and to, or seconds of nothing."""

# In each, frame 0 is a keyframe, and so is every twelfth.
EDITS: dict[str, list[Entry]] = {
    "begins inside a GOP": [(7, 48)],
    "ends early": [(0, 29)],
    "begins and ends inside a GOP": [(5, 38)],
    "begins late": [Fraction(1, 2), (0, 48)],
    "begins late, inside a GOP": [Fraction(1, 2), (17, 44)],
    "leaves frames out": [(0, 20), (36, 48)],
    "leaves frames out inside GOPs": [(9, 22), (31, 46)],
    "shows frames twice": [(0, 20), (5, 25)],
    "shows the second half first": [(24, 48), (0, 24)],
    "a pause": [(0, 20), Fraction(1, 2), (30, 48)],
    "overlaps": [(0, 30), (27, 48)],
}
WHOLE_EDIT = {name for name, entries in EDITS.items() if sum(isinstance(entry, tuple) for entry in entries) == 1}
MAKERS = {
    "h264": Encoding(gop_frames=12, b_frames=3, keyframes_at_cuts=False),
    "open": Encoding(gop_frames=12, b_frames=3, open_gop=True, keyframes_at_cuts=False),
    "hevc": Encoding("libx265", gop_frames=12, b_frames=3, open_gop=True, keyframes_at_cuts=False, preset="fast"),
}


def timescale(data: bytes, *path: str) -> int:
    start, _ = next(mp4_boxes.boxes(data, ("moov", *path)))
    assert data[start + 8] == 0, "version"
    return struct.unpack_from(">I", data, start + 8 + 12)[0]


def with_edits(data: bytes, entries: list[Entry]) -> bytes:
    movie, media = timescale(data, "mvhd"), timescale(data, "trak", "mdia", "mdhd")
    start, _ = next(mp4_boxes.boxes(data, ("moov", "trak", "edts", "elst")))
    assert data[start + 8] == 0, "version"
    first_s = Fraction(struct.unpack_from(">i", data, start + 8 + 12)[0], media)  # of the first frame in the media
    body = struct.pack(">II", 1 << 24, len(entries))
    for entry in entries:
        seconds = entry if isinstance(entry, Fraction) else (entry[1] - entry[0]) * FRAME_S
        from_s = None if isinstance(entry, Fraction) else first_s + entry[0] * FRAME_S
        body += struct.pack(">QqI", round(seconds * movie), -1 if from_s is None else round(from_s * media), 1 << 16)
    return mp4_boxes.with_box(data, ("moov", "trak", "edts", "elst"), body)


def check(source: Source, first: int, end: int) -> None:
    clip, expected = cut(source, first, end), source.shown(first, end)
    assert read(clip, end - first) == expected
    assert played(clip) == expected


def outcomes(source: Source) -> Counter[str]:
    """Of every span: copied, and then exact, or why not."""
    counts: Counter[str] = Counter()
    for first, end in source.spans():
        try:
            check(source, first, end)
            counts["copied"] += 1
        except CannotCopy as error:
            counts[str(error)] += 1
    return counts


@pytest.mark.parametrize("maker", MAKERS)
def test_edit_lists_of_the_source(maker: str, tmp_path: Path) -> None:
    """A clip of an edited film is exact or refused. One edit hides, and nothing of it need be refused."""
    whole = film(tmp_path / "whole.mp4", MAKERS[maker])
    pixels = [frame.pixels for frame in decoded(whole).frames]
    for name, entries in EDITS.items():
        path = tmp_path / "edited.mp4"
        path.write_bytes(with_edits(whole.read_bytes(), entries))
        source = decoded(path)
        assert [frame.pixels for frame in source.frames] != pixels or name == "begins late", name
        counts = outcomes(source)
        assert counts["copied"] > 0, (name, counts)
        assert counts.keys() == {"copied"} or name not in WHOLE_EDIT, (name, counts)


def test_a_hidden_keyframe_starts_a_clip(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", MAKERS["h264"])
    path = tmp_path / "edited.mp4"
    path.write_bytes(with_edits(whole.read_bytes(), [(7, 48)]))
    source = decoded(path)
    assert any(packet.is_discard for packet in packets_of(path))
    assert source.entries[0] > 0
    assert cut(source, 0, 3).lead_in_frames == 7


TRANSPORTS = {
    "the clock turns over": ["-output_ts_offset", "95442"],
    "ten hours in": ["-output_ts_offset", "36000"],
    "Blu-ray": ["-mpegts_m2ts_mode", "1"],
}


@pytest.mark.parametrize("name", TRANSPORTS)
def test_transport_streams(name: str, tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", MAKERS["open"], 72)
    path = tmp_path / "moved.ts"
    program("-i", str(whole), "-c", "copy", *TRANSPORTS[name], str(path))
    source = decoded(path)
    if name == "the clock turns over":
        assert source.frames[0].pts < 0 < source.frames[-1].pts
    assert outcomes(source).keys() == {"copied"}


MP4_LAYOUTS = {
    "fragments": ["-movflags", "frag_keyframe+empty_moov"],
    "negative offsets": ["-movflags", "negative_cts_offsets"],
    "index in front": ["-movflags", "faststart"],
}


@pytest.mark.parametrize("name", MP4_LAYOUTS)
def test_mp4_layouts(name: str, tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", MAKERS["h264"])
    path = tmp_path / "other.mp4"
    program("-i", str(whole), "-c", "copy", *MP4_LAYOUTS[name], str(path))
    assert outcomes(decoded(path)).keys() == {"copied"}


def test_matroska_without_cues(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", MAKERS["h264"], 96)
    path = tmp_path / "live.mkv"
    program("-i", str(whole), "-c", "copy", "-live", "1", str(path))
    assert b"\x1c\x53\xbb\x6b" not in path.read_bytes()
    assert outcomes(decoded(path)).keys() == {"copied"}


@pytest.fixture
def two_headers(tmp_path: Path) -> Path:
    """Two encodings of the same film, one behind the other in one stream, each with parameters of its own."""
    one = encode(tmp_path / "one.flv", "libx264", {"g": "12", "bf": "2"})
    two = encode(tmp_path / "two.flv", "libx264", {"g": "10", "profile": "baseline"})
    ends_sequence = 2
    first, second = (
        [tag for tag in flv.tags(path.read_bytes()) if tag.kind == flv.VIDEO and tag.body[1] != ends_sequence]
        for path in (one, two)
    )
    path = tmp_path / "both.flv"
    path.write_bytes(flv.file([*first, *(replace(tag, time_ms=tag.time_ms + 3000) for tag in second)]))
    return path


def test_a_change_of_parameters_that_a_seek_jumps_over(two_headers: Path) -> None:
    """FLV says them once, where they change; whoever begins behind that decodes with the wrong ones."""
    source = decoded(two_headers)
    assert len(source.frames) == 96
    assert sum(packet.has_sidedata("new_extradata") for packet in packets_of(two_headers)) == 1
    assert outcomes(source).keys() == {"the codec's parameters change within the file"}


def test_two_sample_descriptions(two_headers: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.mp4"
    with av.open(str(two_headers), "r") as both, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(both.streams.video[0], opaque=True)
        for packet in both.demux(both.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert path.read_bytes().count(b"avcC") == 2
    source = decoded(path)
    check(source, 20, 30)
    with open_media(path, LIMITS) as container:
        cutter = Cutter(container, main_video_stream(container, LIMITS), NO_LIMIT_S)
        for first, end in [(60, 70), (40, 60), (90, 96)]:
            with pytest.raises(CannotCopy, match="parameters change"):
                cutter.cut(source.span(first, end), source.entry_pts(first), end - first)
        clip = cutter.cut(source.span(5, 12), source.entry_pts(5), 7)
    assert read(clip, 7) == source.shown(5, 12)


def test_the_first_times_after_a_seek_in_a_program_stream_are_wrong(tmp_path: Path) -> None:
    """Small pictures share a packet of the multiplex, and its time goes to whichever comes first after a seek."""
    path = encode(tmp_path / "small.mpg", "mpeg1video", {"g": "12", "bf": "2", "b": "60000"}, 250, rate=25)
    source = decoded(path)
    truth = {packet.pts: bytes(packet) for packet in packets_of(path)}
    with av.open(str(path), "r") as container:
        video = container.streams.video[0]
        lies = 0
        for index in range(40, 240, 20):
            container.seek(source.frames[index].pts, stream=video)
            after = islice(container.demux(video), 3)
            lies += any(truth.get(packet.pts) != bytes(packet) for packet in after)
        assert lies
    for first in range(40, 240, 17):
        clip, expected = cut(source, first, first + 5), source.shown(first, first + 5)
        assert [frame.pixels for frame in read(clip, 5)] == [frame.pixels for frame in expected]


def test_packed_pictures_are_refused(tmp_path: Path) -> None:
    """DivX's way: a packet with a P and a B picture, then an empty one."""
    whole = encode(tmp_path / "whole.mp4", "mpeg4", {"g": "12", "bf": "1"})
    path = tmp_path / "packed.mkv"
    with av.open(str(whole), "r") as given, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0], opaque=True)
        packets = [packet for packet in given.demux(given.streams.video[0]) if packet.size]
        for index, packet in enumerate(packets):
            merged = av.Packet(bytes(packet) + (bytes(packets[index + 1]) if index == 20 else b""))
            merged.stream, merged.time_base = stream, packet.time_base
            merged.pts, merged.dts, merged.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
            output.mux(merged)
    source = decoded(path)
    with pytest.raises(CannotCopy, match="two pictures each"):
        cut(source, 18, 24)


def test_damage_before_a_span_costs_it_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "damaged.mp4", "libx264", {"g": "12", "bf": "0", "x264-params": "scenecut=0"})
    packet = packets_of(path)[14]
    assert packet.pos is not None
    data = bytearray(path.read_bytes())
    data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    source = decoded(path)
    assert len(source.frames) < 48
    first = next(index for index, frame in enumerate(source.frames) if frame.pts * source.time_base >= 20 * FRAME_S)
    clip = cut(source, first, first + 6)
    assert clip.lead_in_frames > 0
    assert read(clip, 6) == source.shown(first, first + 6)


@pytest.mark.parametrize("suffix", ["ts", "mp4", "mkv", "flv"])
def test_a_file_that_ends_early(suffix: str, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", "libx264", {"g": "12", "bf": "2"}, 96)
    path = tmp_path / f"short.{suffix}"
    front = ("-movflags", "faststart") if suffix == "mp4" else ()
    program("-i", str(whole), "-c", "copy", *front, str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    source = decoded(path)
    n = len(source.frames)
    assert 40 < n < 96
    check(source, 30, 38)
    check(source, n - 6, n - 2)


def test_cuts_in_any_order_with_one_cutter(tmp_path: Path) -> None:
    source = decoded(film(tmp_path / "open.ts", MAKERS["open"], 96))
    with open_media(source.path, LIMITS) as container:
        cutter = Cutter(container, main_video_stream(container, LIMITS), NO_LIMIT_S)
        for first, end in [(80, 90), (3, 9), (40, 60), (0, 2), (95, 96), (40, 60)]:
            clip = cutter.cut(source.span(first, end), source.entry_pts(first), end - first)
            assert read(clip, end - first) == source.shown(first, end)


PEAK_OF_CUTS = """
import resource, sys
from pathlib import Path
from curation.cut import Cutter
from curation.media import Limits, main_video_stream, open_media
from curation.records import Span

class LikeOneWithoutAnIndex(Cutter):
    def _seek(self, entry_pts, seconds):
        return super()._seek(entry_pts, None)

with open_media(Path(sys.argv[1]), Limits()) as container:
    stream = main_video_stream(container, Limits())
    cutter = LikeOneWithoutAnIndex(container, stream, 20.0)
    for start, end in zip(map(int, sys.argv[2::2]), map(int, sys.argv[3::2])):
        cutter.cut(Span(start, end, stream.time_base), start, 5)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_way_to_the_span(tmp_path: Path) -> None:
    path = tmp_path / "noise.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "gray"
        for index in range(400):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (240, 320), np.uint8), format="gray")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    pts = [packet.pts for packet in packets_of(path)]
    spans = [str(pts[index]) for index in (5, 10, 390, 395)]
    done = subprocess.run([sys.executable, "-c", PEAK_OF_CUTS, str(path), *spans], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    near_kb, far_kb = map(int, done.stdout.split())
    assert path.stat().st_size > 25e6
    assert far_kb - near_kb < 5e3
