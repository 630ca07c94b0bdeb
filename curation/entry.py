"""Which packets a decoder can really start from. A container's keyframe flag alone is a promise that some break.

The flag is asked first, then the packet itself, for the codecs whose headers say it in the first few bytes:

* H.264 marks three kinds of picture as "key": IDR pictures, open-GOP I pictures with a recovery point of 0 frames (all
  pictures shown after them are right), and gradual refreshes with a recovery point of n frames (the next n are not).
  The last kind must not start a lossless cut. ITU-T H.264, D.1.8 and D.2.8 (recovery point SEI message).
* HEVC: an IRAP picture (ITU-T H.265, table 7-1). A gradual refresh is none.
* MPEG-1, 2 and 4 part 2: an intra picture; AVI files exist whose index calls every picture a keyframe.
* VP8, VP9, AV1, Theora, FFV1: a key frame. One that AV1 decodes now and shows later ("forward key frame") is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from av.codec import Codec
from av.packet import Packet

__all__ = ["EntryRule", "nal_length_bytes", "nal_units"]

# A NAL unit's type and its whole SEI message lie in so many bytes; the slices after it may be long.
NAL_HEAD_BYTES = 4096
H264_SLICE, H264_IDR, H264_SEI = 1, 5, 6
SEI_RECOVERY_POINT = 6
HEVC_VCL = range(32)
HEVC_IRAP = range(16, 24)  # BLA, IDR, CRA
# Beside those that FFmpeg calls so.
INTRA_ONLY = frozenset({"png", "cfhd"})
AV1_SEQUENCE_HEADER, AV1_FRAME_HEADER, AV1_FRAME = 1, 3, 6


class EntryRule:
    """Says of a packet whether decoding may start there, for the codec it was made for."""

    def __init__(self, codec_name: str, extradata: bytes | None):
        self._length_bytes = nal_length_bytes(codec_name, extradata)
        self._starts_clean: Callable[[bytes], bool] | None = STARTS.get(codec_name)
        if codec_name == "h264":
            self._starts_clean = lambda data: h264_starts_clean(data, self._length_bytes)
        elif codec_name == "hevc":
            self._starts_clean = lambda data: hevc_starts_clean(data, self._length_bytes)

    @staticmethod
    def knows(codec: Codec) -> bool:
        """Whether the rule can tell: it reads the codec's packets, or each of them stands alone."""
        return codec.name in {*STARTS, "h264", "hevc"} or codec.intra_only or codec.name in INTRA_ONLY

    def admits(self, packet: Packet) -> bool:
        if not packet.is_keyframe or packet.is_corrupt or packet.size == 0:
            return False
        return self._starts_clean is None or self._starts_clean(bytes(packet))


def h264_starts_clean(data: bytes, length_bytes: int) -> bool:
    """Whether an access unit is an IDR picture or an I picture with an exact recovery point of no frames.

    `length_bytes` is the size of the length before each NAL unit (avcC), 0 for Annex B start codes.
    """
    for nal in nal_units(data, length_bytes):
        kind = nal[0] & 0x1F
        if kind == H264_IDR or (kind == H264_SEI and _recovers_at_once(nal)):
            return True
        if kind == H264_SLICE:
            return False
    return False


def hevc_starts_clean(data: bytes, length_bytes: int) -> bool:
    """Whether the first slice of an access unit belongs to an IRAP picture."""
    kinds = ((nal[0] >> 1) & 0x3F for nal in nal_units(data, length_bytes))
    return next((kind in HEVC_IRAP for kind in kinds if kind in HEVC_VCL), False)


def mpeg12_starts_clean(data: bytes) -> bool:
    """Whether a picture header says intra: picture_coding_type 1 (ISO/IEC 13818-2, 6.3.9)."""
    at = data.find(b"\0\0\1\0")
    return 0 <= at < len(data) - 5 and (data[at + 5] >> 3) & 7 == 1


def mpeg4_starts_clean(data: bytes) -> bool:
    """Whether a VOP header says intra: vop_coding_type 0 (ISO/IEC 14496-2, 6.3.5)."""
    at = data.find(b"\0\0\1\xb6")
    return 0 <= at < len(data) - 4 and data[at + 4] >> 6 == 0


def vp8_starts_clean(data: bytes) -> bool:
    """RFC 6386, 9.1: the lowest bit is 0 for a key frame."""
    return data[0] & 1 == 0


def vp9_starts_clean(data: bytes) -> bool:
    """Uncompressed header, VP9 bitstream specification 6.2: marker 2, profile, show_existing_frame 0, frame_type 0."""
    profile = (data[0] >> 5 & 1) | (data[0] >> 3 & 2)
    reserved_bits = 1 if profile == 3 else 0
    shows_existing, frame_type = (data[0] >> shift - reserved_bits & 1 for shift in (3, 2))
    return data[0] >> 6 == 2 and not shows_existing and frame_type == 0


def theora_starts_clean(data: bytes) -> bool:
    """Theora specification, 7.1: a data packet (0) of an intra frame (0)."""
    return data[0] & 0xC0 == 0


def av1_starts_clean(data: bytes) -> bool:
    """Whether a temporal unit has a sequence header, then a key frame that is shown (AV1 specification, 5.9.2)."""
    has_sequence_header = False
    for kind, payload in _av1_units(data):
        if kind == AV1_SEQUENCE_HEADER:
            has_sequence_header = True
            if payload and payload[0] >> 3 & 1:  # reduced_still_picture_header: nothing but key frames
                return True
        elif kind in (AV1_FRAME_HEADER, AV1_FRAME):
            # show_existing_frame 0, frame_type 0 (2 bits), show_frame 1
            return has_sequence_header and bool(payload) and payload[0] >> 4 == 0b0001
    return False


def ffv1_starts_clean(data: bytes) -> bool:
    """RFC 9043, 4.4: keyframe, the first symbol, range coded with even odds (3.8.1: range 0xFF00, state 128)."""
    return int.from_bytes(data[:2], "big") >= 0xFF00 - (0xFF00 * 128 >> 8)


STARTS: dict[str, Callable[[bytes], bool]] = {
    "mpeg1video": mpeg12_starts_clean,
    "mpeg2video": mpeg12_starts_clean,
    "mpeg4": mpeg4_starts_clean,
    "vp8": vp8_starts_clean,
    "vp9": vp9_starts_clean,
    "theora": theora_starts_clean,
    "av1": av1_starts_clean,
    "libdav1d": av1_starts_clean,
    "libaom-av1": av1_starts_clean,
    "ffv1": ffv1_starts_clean,
}


def nal_length_bytes(codec_name: str, extradata: bytes | None) -> int:
    """The size of the length before each NAL unit by avcC or hvcC, 0 where start codes are used."""
    head = extradata or b""
    if codec_name == "h264" and len(head) >= 7 and head[0] == 1:
        return (head[4] & 3) + 1
    # Early hvcC has version 0, so that only its not being a start code tells.
    if codec_name == "hevc" and len(head) >= 23 and (head[0] or head[1] or head[2] > 1):
        return (head[21] & 3) + 1
    return 0


def nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    """The beginnings of the NAL units of an access unit (`NAL_HEAD_BYTES` of each), none empty."""
    if length_bytes:
        at = 0
        while at + length_bytes < len(data):
            size = int.from_bytes(data[at : at + length_bytes], "big")
            at += length_bytes
            if size:
                yield data[at : at + min(size, NAL_HEAD_BYTES)]
            at += size
        return
    at = data.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(data):
        end = data.find(b"\0\0\1", at + 3, at + 3 + NAL_HEAD_BYTES)
        yield data[at + 3 : end if end >= 0 else at + 3 + NAL_HEAD_BYTES]
        at = data.find(b"\0\0\1", at + 3)


def _recovers_at_once(sei: bytes) -> bool:
    """Whether an SEI NAL unit has a recovery point that is exact (exact_match_flag) from its own picture on."""
    body = sei[1:].replace(b"\0\0\3", b"\0\0")  # emulation prevention, 7.4.1
    at = 0
    while at + 2 <= len(body) and body[at] != 0x80:
        kind, at = _sei_number(body, at)
        size, at = _sei_number(body, at)
        if kind == SEI_RECOVERY_POINT:
            # recovery_frame_cnt as an Exp-Golomb code (0 is one set bit), then exact_match_flag
            return at < len(body) and body[at] >> 6 == 0b11
        at += size
    return False


def _sei_number(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(body) and body[at] == 0xFF:
        value, at = value + 255, at + 1
    return value + (body[at] if at < len(body) else 0), at + 1


def _av1_units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and the first byte of the payload of each OBU (AV1 specification, 5.3)."""
    at = 0
    while at < len(data):
        kind, has_extension, has_size = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + has_extension
        size = len(data) - at
        if has_size:
            size, at = _leb128(data, at)
        yield kind, data[at : at + 1]
        at += max(size, 0)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + 8]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    return value, min(at + 8, len(data))
