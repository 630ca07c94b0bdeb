"""Which packets a decoder can really start from. A container's keyframe flag alone is a promise that some break.

H.264 marks three kinds of picture as "key": IDR pictures, open-GOP I pictures with a recovery point of 0 frames (all
pictures shown after them are right), and gradual refreshes with a recovery point of n frames (the next n are not).
The last kind must not start a lossless cut. ITU-T H.264, D.1.8 and D.2.8 (recovery point SEI message).
"""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet

__all__ = ["EntryRule"]

H264_SLICE, H264_IDR, H264_SEI = 1, 5, 6
SEI_RECOVERY_POINT = 6


class EntryRule:
    """Says of a packet whether decoding may start there, for the codec it was made for."""

    def __init__(self, codec_name: str, extradata: bytes | None):
        self._is_h264 = codec_name == "h264"
        is_avcc = extradata is not None and len(extradata) > 6 and extradata[0] == 1
        self._length_bytes = (extradata[4] & 3) + 1 if is_avcc and extradata is not None else 0

    def admits(self, packet: Packet) -> bool:
        if not packet.is_keyframe or packet.is_corrupt:
            return False
        return not self._is_h264 or h264_starts_clean(bytes(packet), self._length_bytes)


def h264_starts_clean(data: bytes, length_bytes: int) -> bool:
    """Whether an access unit is an IDR picture or an I picture with a recovery point of no frames.

    `length_bytes` is the size of the length before each NAL unit (avcC), 0 for Annex B start codes.
    """
    for nal in _nal_units(data, length_bytes):
        kind = nal[0] & 0x1F
        if kind == H264_SEI and _recovery_frames(nal) == 0:
            return True
        if kind == H264_IDR:
            return True
        if kind == H264_SLICE:
            return False
    return False


def _nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    if length_bytes:
        at = 0
        while at + length_bytes < len(data):
            size = int.from_bytes(data[at : at + length_bytes], "big")
            at += length_bytes
            if size == 0:
                continue
            yield data[at : at + min(size, 4096)]  # the type and an SEI lie at the beginning
            at += size
        return
    at = data.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(data):
        following = data.find(b"\0\0\1", at + 3)
        yield data[at + 3 : following if following >= 0 else min(len(data), at + 3 + 4096)]
        at = following


def _recovery_frames(sei: bytes) -> int | None:
    """The recovery_frame_cnt of the first recovery point message of an SEI NAL unit, None if there is none."""
    body = sei[1:].replace(b"\0\0\3", b"\0\0")  # emulation prevention, 7.4.1
    at = 0
    while at + 2 <= len(body) and body[at] != 0x80:
        kind, at = _sei_number(body, at)
        size, at = _sei_number(body, at)
        if kind == SEI_RECOVERY_POINT:
            return _exp_golomb(body[at : at + size])
        at += size
    return None


def _sei_number(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(body) and body[at] == 0xFF:
        value, at = value + 255, at + 1
    return value + (body[at] if at < len(body) else 0), at + 1


def _exp_golomb(data: bytes) -> int | None:
    bits = "".join(f"{byte:08b}" for byte in data[:8])
    zeros = len(bits) - len(bits.lstrip("0"))
    code = bits[zeros : 2 * zeros + 1]
    return int(code, 2) - 1 if len(code) == zeros + 1 else None
