"""What an mp4 claims of itself is read from any bytes without an exception, and from good ones rightly."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from curation import mp4_claims
from curation.film import Encoding
from curation.mp4_claims import Mp4Claims, read_claims
from tests.hostile import BAD_FILES_BY_NAME, RATE, film, flipped


def claims_of(data: bytes) -> Mp4Claims:
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


@pytest.mark.parametrize(
    ("name", "entries"),
    [("index_bomb.mp4", 50_000_000), ("fragment_bomb.mp4", 60_000_000), ("edit_bomb.mp4", 24_000_000)],
)
def test_bombs_are_counted(name: str, entries: int, tmp_path: Path) -> None:
    BAD_FILES_BY_NAME[name].make(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert entries <= claims_of(data).index_entries <= entries + 1000


def test_a_header_that_was_crossed_out_is_read_as_ffmpeg_does(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mp4").read_bytes()
    for kind in (b"free", b"hoov"):
        crossed_out = data.replace(b"moov", kind)
        assert crossed_out != data
        assert claims_of(crossed_out).index_entries == 48


def test_boxes_without_end_are_not_counted_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4_claims, "MAX_BOXES", 1000)
    claims = claims_of(b"\0\0\0\x08free" * 2000)
    assert claims.is_overgrown
    assert not claims_of(b"\0\0\0\x08free" * 500).is_overgrown


def test_parents_in_parents_do_not_exhaust_anything() -> None:
    depth = 50_000
    nested = b"".join((8 * (depth - i)).to_bytes(4, "big") + b"moov" for i in range(depth))
    assert claims_of(nested).has_index
