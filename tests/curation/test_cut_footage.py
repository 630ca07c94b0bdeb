"""Real footage: phones, film encoders, formats that nothing here can write (Theora)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from tests.cutting import cut, decoded, played, read
from tests.hearing import heard, shift

pytestmark = pytest.mark.footage


@dataclass(frozen=True)
class Film:
    name: str
    codec: str
    container: str
    spans: tuple[tuple[int, int], ...]
    has_sound: bool = False


FILMS = [
    Film("web-platform-tests__big-buck-bunny-240p.ogv", "theora", "matroska", ((0, 9), (300, 340), (801, 804)), True),
    Film("PHP-FFMpeg__portrait.MOV", "h264", "mov", ((0, 5), (17, 45), (61, 62)), True),
    Film("lpms__videotest.mp4", "h264", "mp4", ((0, 42), (11, 30), (41, 42)), True),
    Film("torchcodec__nasa_13013_vfr.mp4", "h264", "mp4", ((0, 50), (13, 14), (20, 49))),
    Film("torchcodec__nasa_13013_hdr.mp4", "hevc", "mp4", ((100, 130), (201, 205), (202, 203))),
    Film("torchcodec__nasa_13013_rotated.mp4", "h264", "mp4", ((0, 2), (150, 260)), True),
    Film("mediabunny__no-correct-videoframe-format.mov", "hevc", "mov", ((0, 6), (2, 5))),
    Film("format-corpus__apple-prores-422-proxy.mov", "prores", "mov", ((0, 25), (7, 8))),
    Film("format-corpus__dv-dvchd-ntsc-interlaced.mov", "dvvideo", "mov", ((0, 25), (7, 8))),
    Film("format-corpus__photo-jpeg.mov", "mjpeg", "mov", ((0, 25), (7, 8))),
]


@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.name)
def test_clips_of_real_footage(film: Film, real_footage: Path) -> None:
    path = real_footage / film.name
    source = decoded(path)
    assert source.codec == film.codec
    original = heard(path) if film.has_sound else None
    for first, end in film.spans:
        clip, expected = cut(source, first, end), source.shown(first, end)
        assert clip.container == film.container
        ours = read(clip, end - first)
        assert [frame.pixels for frame in ours] == [frame.pixels for frame in expected]
        assert [frame.rotation for frame in ours] == [frame.rotation for frame in expected]
        assert film.container == "matroska" or played(clip) == expected
        if original is not None and end - first > 20:
            zero_s = clip.start_pts * clip.time_base if film.container == "matroska" else Fraction(0)
            start_s = source.frames[first].pts * source.time_base - zero_s
            late_ms, alike = shift(heard(clip.data), original, start_s)
            assert abs(late_ms) < 2
            assert alike > 0.6
