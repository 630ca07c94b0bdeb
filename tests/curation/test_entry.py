"""Which packets decoding may start from: by bytes written here, and by what encoders write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.entry import EntryRule, nal_units
from tests.cutting import encode, packets_of

START = b"\0\0\0\1"
AVCC = b"\1\x64\0\x1f\xff\xe1\0\0"
HVCC = b"\1" + bytes(20) + b"\xff" + bytes(8)
IDR, SLICE, SPS, DELIMITER = b"\x65\x88\x80", b"\x41\x9a\x20", b"\x67\x64\x00", b"\x09\xf0"


def recovery(bits: str, before: bytes = b"") -> bytes:
    """An SEI NAL unit with a recovery point message, perhaps behind another message."""
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\x06" + before + bytes([6, len(payload)]) + payload + b"\x80"


NOW, NOW_ABOUT, IN_1, IN_11 = recovery("11000"), recovery("10000"), recovery("0101000"), recovery("00011001")
LONG_USER_DATA = b"\x05\xff\x2d" + bytes(range(1, 256)) + bytes(range(1, 46))


def annex_b(*nals: bytes) -> bytes:
    return b"".join(START + nal for nal in nals)


def with_lengths(*nals: bytes, length_bytes: int = 4) -> bytes:
    return b"".join(len(nal).to_bytes(length_bytes, "big") + nal for nal in nals)


@dataclass(frozen=True)
class Case:
    codec: str
    data: bytes
    starts: bool
    extradata: bytes | None = None


H264 = {
    "idr": (True, [IDR]),
    "idr behind parameters": (True, [DELIMITER, SPS, NOW, IDR]),
    "a slice": (False, [SLICE]),
    "recovers at once": (True, [DELIMITER, NOW, SLICE]),
    "recovers at once, about": (False, [NOW_ABOUT, SLICE]),
    "recovers in a frame": (False, [IN_1, SLICE]),
    "recovers in eleven": (False, [IN_11, SLICE]),
    "behind another message": (True, [recovery("11000", b"\x01\x02\x11\x22"), SLICE]),
    "behind a long message": (True, [recovery("11000", LONG_USER_DATA), SLICE]),
    "with emulation prevention": (True, [recovery("11000", b"\x05\x04\0\0\3\1\x22"), SLICE]),
    "recovery behind the slice": (False, [SLICE, NOW]),
    "parameters alone": (False, [SPS]),
    "an empty message": (False, [b"\x06", SLICE]),
    "a message cut short": (False, [b"\x06\x06", SLICE]),
    "a message of endless kind": (False, [b"\x06" + b"\xff" * 300, SLICE]),
}
HEVC = {
    "idr with leading": (True, 19),
    "idr alone": (True, 20),
    "cra": (True, 21),
    "bla": (True, 16),
    "trailing": (False, 1),
    "rasl": (False, 9),
    "radl": (False, 7),
}
OTHERS = {
    "mpeg2 i": Case("mpeg2video", b"\0\0\1\xb3abcd\0\0\1\0\0\x08", True),
    "mpeg2 p": Case("mpeg2video", b"\0\0\1\0\0\x10", False),
    "mpeg1 b": Case("mpeg1video", b"\0\0\1\0\0\x18", False),
    "mpeg2 header alone": Case("mpeg2video", b"\0\0\1\xb3abcd", False),
    "mpeg2 cut short": Case("mpeg2video", b"\0\0\1\0\0", False),
    "mpeg4 i": Case("mpeg4", b"\0\0\1\xb0\1\0\0\1\xb6\x10", True),
    "mpeg4 p": Case("mpeg4", b"\0\0\1\xb6\x56", False),
    "mpeg4 sprite": Case("mpeg4", b"\0\0\1\xb6\xc0", False),
    "mpeg4 cut short": Case("mpeg4", b"\0\0\1\xb6", False),
    "vp8 key": Case("vp8", b"\x10\x02\0\x9d\1\x2a", True),
    "vp8 inter": Case("vp8", b"\x31\x02\0", False),
    "vp9 key": Case("vp9", b"\x82\x49\x83\x42", True),
    "vp9 inter": Case("vp9", b"\x86\0", False),
    "vp9 shows an earlier one": Case("vp9", b"\x88", False),
    "vp9 of profile 3, key": Case("vp9", b"\xb0\x49", True),
    "vp9 of profile 3, inter": Case("vp9", b"\xb2\x49", False),
    "vp9 without its marker": Case("vp9", b"\x02\x49", False),
    "theora intra": Case("theora", b"\x3b", True),
    "theora inter": Case("theora", b"\x7b", False),
    "ffv1 key": Case("ffv1", b"\x80\0", True),
    "ffv1 inter": Case("ffv1", b"\x7f\x7f", False),
    # OBU headers: type << 3 | has_size << 1. Frame header: show_existing, type (2 bits), show.
    "av1 key": Case("av1", b"\x12\0\x0a\1\0\x32\2\x10\0", True),
    "av1 key, without sizes at the end": Case("av1", b"\x0a\1\0\x30\x10", True),
    "av1 key without a sequence header": Case("av1", b"\x12\0\x32\2\x10\0", False),
    "av1 forward key": Case("av1", b"\x0a\1\0\x32\2\x00\0", False),
    "av1 inter": Case("av1", b"\x0a\1\0\x32\2\x30\0", False),
    "av1 intra only": Case("av1", b"\x0a\1\0\x32\2\x50\0", False),
    "av1 shows an earlier one": Case("av1", b"\x0a\1\0\x1a\1\x80", False),
    "av1 still picture": Case("libdav1d", b"\x0a\1\x18\x32\1\x00", True),
    "av1 with an extension": Case("av1", b"\x0e\0\1\0\x36\0\1\x10", True),
    "av1 of endless size": Case("av1", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff", False),
    "mjpeg": Case("mjpeg", b"\xff\xd8", True),
}


def admits(case: Case, *, is_keyframe: bool = True) -> bool:
    packet = av.Packet(case.data)
    packet.is_keyframe = is_keyframe
    return EntryRule(case.codec, case.extradata).admits(packet)


@pytest.mark.parametrize("name", H264)
def test_h264(name: str) -> None:
    starts, nals = H264[name]
    assert admits(Case("h264", annex_b(*nals), starts)) == starts
    for length_bytes in (1, 2, 4) if len(max(nals, key=len)) < 256 else (2, 4):
        extradata = AVCC[:4] + bytes([0xFC | length_bytes - 1]) + AVCC[5:]
        data = with_lengths(*nals, length_bytes=length_bytes)
        assert admits(Case("h264", data, starts, extradata)) == starts


@pytest.mark.parametrize("name", HEVC)
def test_hevc(name: str) -> None:
    starts, kind = HEVC[name]
    nals = [b"\x40\1", b"\x42\1\1", bytes([kind << 1, 1, 0x80])]  # parameter sets first
    assert admits(Case("hevc", annex_b(*nals), starts)) == starts
    assert admits(Case("hevc", with_lengths(*nals), starts, HVCC)) == starts
    of_version_0 = b"\0\1" + HVCC[2:]
    assert admits(Case("hevc", with_lengths(*nals), starts, of_version_0)) == starts


@pytest.mark.parametrize("name", OTHERS)
def test_other_codecs(name: str) -> None:
    case = OTHERS[name]
    assert admits(case) == case.starts
    assert not admits(case, is_keyframe=False)


CODECS = ("h264", "hevc", *sorted({case.codec for case in OTHERS.values()}))


@given(st.sampled_from(CODECS), st.binary(max_size=64), st.sampled_from([None, AVCC, HVCC, b"", b"\1"]))
def test_no_bytes_do_harm(codec: str, data: bytes, extradata: bytes | None) -> None:
    assert admits(Case(codec, data, False, extradata)) in (True, False)
    assert not admits(Case(codec, b"", False, extradata))


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda nal: b"\0\0" not in nal + b"\0"), min_size=1))
def test_nal_units_are_found_again(nals: list[bytes]) -> None:
    assert [nal.rstrip(b"\0") for nal in nal_units(annex_b(*nals), 0)] == nals
    assert list(nal_units(with_lengths(*nals), 4)) == nals


def test_only_the_head_of_a_nal_unit_is_copied() -> None:
    data = annex_b(SPS, IDR + bytes(100_000), b"\x61" + b"x" * 100_000)
    assert [len(nal) <= 4096 for nal in nal_units(data, 0)] == [True] * 3


ENCODERS = {
    # What is written: the encoder, options, which of 36 pictures may be started from.
    "closed.mp4": ("libx264", {"x264-params": "keyint=12:scenecut=0:bframes=2"}, [0, 12, 24]),
    "open.mp4": ("libx264", {"x264-params": "keyint=12:scenecut=0:bframes=3:open-gop=1"}, [0, 12, 24]),
    "open.ts": ("libx264", {"x264-params": "keyint=12:scenecut=0:bframes=3:open-gop=1"}, [0, 12, 24]),
    "refresh.mp4": ("libx264", {"x264-params": "keyint=12:scenecut=0:intra-refresh=1"}, [0]),
    "refresh.ts": ("libx264", {"x264-params": "keyint=12:scenecut=0:intra-refresh=1"}, [0]),
    "cra.mkv": ("libx265", {"x265-params": "keyint=12:scenecut=0:bframes=3:open-gop=1:log-level=none"}, [0, 12, 24]),
    "refresh.mkv": ("libx265", {"x265-params": "keyint=12:scenecut=0:bframes=0:intra-refresh=1:log-level=none"}, [0]),
    "forward.mkv": ("libsvtav1", {"preset": "10", "g": "12", "svtav1-params": "irefresh-type=1:lp=1"}, [0]),
    "golden.webm": (
        "libvpx-vp9",
        {"cpu-used": "8", "deadline": "realtime", "g": "12", "keyint_min": "12"},
        [0, 12, 24],
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_what_encoders_write(name: str, tmp_path: Path) -> None:
    codec, options, expected = ENCODERS[name]
    path = encode(tmp_path / name, codec, options, frames=36)
    packets = packets_of(path)
    context = packets[0].stream.codec_context
    rule = EntryRule(context.name, context.extradata)
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    entries = [times.index(packet.pts) for packet in packets if packet.pts is not None and rule.admits(packet)]
    assert entries == expected
    is_promised = sum(packet.is_keyframe for packet in packets)
    assert is_promised > len(entries) if name in ("refresh.mp4", "refresh.ts") else is_promised == len(entries)
