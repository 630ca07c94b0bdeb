"""Damage that a container's muxer stumbles over: the clip cannot be copied, and that is all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av.error
import pytest

from curation.cut import CannotCopy
from curation.film import Encoding
from curation.media import main_video_stream, open_media
from curation.mux import VideoTrack, mux
from curation.records import Span
from tests import flv
from tests.cutting import LIMITS, cut, decoded, encode, film, packets_of, read


def test_damaged_packets_of_av1_cannot_be_copied(tmp_path: Path) -> None:
    """FFmpeg's mp4 muxer takes their size for its error's number."""
    path = encode(tmp_path / "film.mp4", "libsvtav1", {"preset": "12", "g": "12"}, 36)
    packet = packets_of(path)[15]
    data = bytearray(path.read_bytes())
    assert packet.pos is not None
    assert data[packet.pos : packet.pos + packet.size] == bytes(packet)
    data[packet.pos : packet.pos + packet.size] = b"\x32\x7f" * (packet.size // 2) + b"\x32" * (packet.size % 2)
    path.write_bytes(data)
    source = decoded(path)
    with pytest.raises(CannotCopy, match="damaged"):
        cut(source, 12, len(source.frames))
    assert len(read(cut(source, 0, 10), 10)) == 10


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("ticks", [-(2**62), 2**63 - 1, -(2**63) + 1])
def test_times_out_of_all_bounds_cannot_be_copied(tmp_path: Path, container: str, ticks: int) -> None:
    """As a glitch in the lead-in may have them. What FFmpeg refuses itself, the cutter takes for the same."""
    path = film(tmp_path / "film.mkv", Encoding(gop_frames=12), 24)
    with open_media(path, LIMITS) as opened:
        stream = main_video_stream(opened, LIMITS)
        pictures = [packet for packet in opened.demux(stream) if packet.size]
        pictures[3].pts = ticks
        track = VideoTrack(stream, pictures, Fraction(500), Fraction(900))
        with pytest.raises((CannotCopy, av.error.FFmpegError)):
            mux(container, track, [], Span(500, 900, Fraction(1, 1000)), "none")


def test_a_stream_that_appears_in_the_middle_ends_nothing(tmp_path: Path) -> None:
    """PyAV 18.1 may raise IndexError in such a file."""
    path = encode(tmp_path / "film.flv", "libx264", {"g": "12"}, 48)
    tags = flv.tags(path.read_bytes())
    other_codec = 0x69  # a keyframe's nibble and that of MPEG-4's, so that FLV has another stream
    tags[37] = flv.Tag(tags[37].kind, tags[37].time_ms, bytes([other_codec]) + tags[37].body[1:])
    path.write_bytes(flv.file(tags))
    source = decoded(path)
    assert len(source.frames) == 47
    for first, end in ((0, 30), (0, 47), (23, 47)):
        assert len(read(cut(source, first, end), end - first)) == end - first
