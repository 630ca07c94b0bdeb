"""Files that nobody should have: makes each kind of bad file, and says what is to become of it.

`make_bad_files(folder)` writes one of everything and returns what is expected.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.stream import VideoStream

from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from tests.mp4_boxes import box, boxes, patched, with_box

RATE = Fraction(24)
SAMPLE_TABLE = ("moov", "trak", "mdia", "minf", "stbl")


@dataclass(frozen=True, slots=True)
class BadFile:
    """`state` and `reason` of the row that the file is to get; `has_clips`: whether something good is left of it."""

    name: str
    make: Callable[[Path], object]
    state: str
    reason: str | None
    has_clips: bool = False


def film(path: Path, encoding: Encoding | None = None, *, seconds: float = 2.0, width: int = 160) -> Path:
    """A good film of two scenes of equal length, small and quickly made."""
    encoding = encoding or Encoding(rate=RATE)
    frames = int(seconds * encoding.rate / 2)
    specs = (SceneSpec(1, frames, pan_x_px_per_s=30.0), SceneSpec(2, frames, object_x_px_per_s=40.0))
    edit = Edit(specs, (Join("cut"),))
    encode_film(path, render(edit, width, 128, [i / float(encoding.rate) for i in range(edit.frames)]), encoding)
    return path


def make_bad_files(folder: Path) -> dict[str, BadFile]:
    """Write every bad file to a folder; what is expected of each, by name."""
    for bad in BAD_FILES:
        bad.make(folder / bad.name)
    return {bad.name: bad for bad in BAD_FILES}


def flipped(data: bytes, seed: int, flips: int = 20, begin: float = 0.0, end: float = 1.0) -> bytes:
    """The file with some bytes exchanged at random places between two shares of its length."""
    dice, changed = random.Random(seed), bytearray(data)
    for _ in range(flips):
        changed[dice.randrange(int(begin * len(data)), int(end * len(data)))] = dice.randrange(256)
    return bytes(changed)


def remuxed(source: Path, target: Path, *, copies: int = 1, **options: str) -> Path:
    """The same packets, each stream written so many times, with options of the muxer."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options) as written:
        streams = [[written.add_stream_from_template(stream) for _ in range(copies)] for stream in read.streams]
        for packet in read.demux():
            if packet.dts is not None:
                times = packet.pts, packet.dts, packet.time_base
                for stream in streams[packet.stream_index]:
                    packet.stream = stream
                    packet.pts, packet.dts, packet.time_base = times
                    written.mux(packet)
    return target


# -- makers


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _damaged(damage: Callable[[bytes], bytes], encoding: Encoding | None = None) -> Callable[[Path], object]:
    """Of a good film with that suffix, what a function makes of its bytes."""

    def make(path: Path) -> None:
        film(path, encoding)
        path.write_bytes(damage(path.read_bytes()))

    return make


def _cut_at(share: float, encoding: Encoding | None = None) -> Callable[[Path], object]:
    return _damaged(lambda data: data[: int(share * len(data))], encoding)


def _index_in_front(share: float) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        whole = film(path.with_name("whole.mp4"), Encoding(rate=RATE, gop_frames=12))
        remuxed(whole, path, movflags="faststart")
        whole.unlink()
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return make


def _fragment_bomb(path: Path) -> None:
    whole = film(path.with_name("whole.mp4"))
    remuxed(whole, path, movflags="frag_keyframe+empty_moov+default_base_moof")
    whole.unlink()
    path.write_bytes(with_box(path.read_bytes(), ("moof", "traf", "trun"), struct.pack(">II", 0, 60_000_000)))


def _sound_only(path: Path, *, with_cover: bool = False) -> None:
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48_000, layout="stereo")
        cover = container.add_stream("mjpeg", rate=1) if with_cover else None
        if cover is not None:
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), "rgb24")
            container.mux(cover.encode(picture.reformat(format="yuvj420p")))
            container.mux(cover.encode(None))
        for start in range(0, 48_000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def blank_film(
    path: Path, codec: str, sizes: list[tuple[int, int]], pix_fmt: str = "yuv420p", *, streams: int = 1
) -> None:
    """One black frame of each size after the other, in each of some streams."""
    contexts = []
    with av.open(str(path), "w") as container:
        for _ in range(streams):
            stream = container.add_stream(codec, rate=24)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = *sizes[0], pix_fmt
            contexts.append(stream)
        for pts, (width, height) in enumerate(sizes):
            frame = av.VideoFrame(width, height, pix_fmt)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts, frame.time_base = pts, 1 / RATE
            for stream in contexts:
                container.mux(stream.encode(frame))
        for stream in contexts:
            container.mux(stream.encode(None))


def _spliced(*widths: int) -> Callable[[Path], object]:
    """Films of given widths in one transport stream, one file after the other as `cat` would do it."""

    def make(path: Path) -> None:
        parts = []
        for width in widths:
            film(path, Encoding(codec="mpeg2video", rate=Fraction(25)), seconds=4, width=width)
            parts.append(path.read_bytes())
        path.write_bytes(b"".join(parts))

    return make


def external_data(kind: str, body: bytes) -> Callable[[Path], object]:
    entry = struct.pack(">II", 0, 1) + box(kind, struct.pack(">I", 0) + body)
    path = ("moov", "trak", "mdia", "minf", "dinf", "dref")
    return _damaged(lambda data: with_box(data, path, entry))


def _lasting_hours(data: bytes, hours: int = 10) -> bytes:
    """With a header that claims hours: movie, track and media durations and the edit list."""
    for path, at in (
        (("mvhd",), 16),
        (("trak", "tkhd"), 20),
        (("trak", "mdia", "mdhd"), 16),
        (("trak", "edts", "elst"), 8),
    ):
        box_path = ("moov", *path)
        timescale_at = next(boxes(data, ("moov", "trak", "mdia", "mdhd")))[0] + 20
        in_media = path[-1] == "mdhd"
        timescale = struct.unpack_from(">I", data, timescale_at)[0] if in_media else 1000
        data = patched(data, box_path, at, ">I", hours * 3600 * timescale)
    return data


def _ten_hours_two_frames(path: Path) -> None:
    blank_film(path, "libx264", [(160, 128)] * 2)
    path.write_bytes(_lasting_hours(path.read_bytes()))


def _index_bomb(data: bytes) -> bytes:
    """A table of samples that all have one size needs no more room for fifty million than for one."""
    data = patched(data, (*SAMPLE_TABLE, "stsz"), 4, ">II", 1, 50_000_000)
    data = patched(data, (*SAMPLE_TABLE, "stsc"), 8, ">III", 1, 50_000_000, 1)
    return patched(data, (*SAMPLE_TABLE, "stts"), 8, ">II", 50_000_000, 1)


def _edit_bomb(data: bytes) -> bytes:
    """Every edit shows the whole film again, and FFmpeg indexes it again."""
    edits = 500_000
    return with_box(data, ("moov", "trak", "edts", "elst"), struct.pack(">II", 0, edits) + edits * bytes(12))


def _with_packed_header(data: bytes) -> bytes:
    start, end = next(boxes(data, ("moov",)))
    packed = box("dcom", b"zlib") + box("cmvd", struct.pack(">I", end - start) + zlib.compress(data[start:end]))
    return with_box(data, ("moov",), box("cmov", packed))


def _webm_of_ten_hours(data: bytes) -> bytes:
    """Element 0x4489 of a Segment's Info is its duration in milliseconds, here a double."""
    at = data.index(b"\x44\x89\x88") + 3
    return data[:at] + struct.pack(">d", 36_000_000.0) + data[at + 8 :]


def _without_size(path: Path) -> None:
    blank_film(path, "rawvideo", [(64, 64)], "rgb24")
    path.write_bytes(patched(path.read_bytes(), (*SAMPLE_TABLE, "stsd"), 8 + 32, ">HH", 0, 0))


def _huge_png(path: Path, side: int = 16_000) -> None:
    """A picture that is really there: all black, a megabyte, and a gigabyte unpacked."""
    packer = zlib.compressobj(9)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it can be repeated
    rows = megabyte + again * (side * (4 * side + 1) >> 20)
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgba"
        for pts in range(3):
            packet = av.Packet(png)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, pts, pts, 1 / RATE
            packet.is_keyframe = True
            container.mux(packet)


FRAGMENT = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
MPD = '<?xml version="1.0"?>\n<MPD type="static"><Period><BaseURL>{}</BaseURL></Period></MPD>\n'


def playlists(target: str) -> dict[str, bytes]:
    """Files by name that ask their reader to open `target`, a path or address."""
    texts = {
        "hls.mp4": FRAGMENT.format(target),
        "hls.m3u8": FRAGMENT.format(target) + "# no other has this content\n",
        "hls_late.mp4": "\n \n\n" + FRAGMENT.format(target),
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "dash.mp4": MPD.format(target),
        "session.mp4": SDP.format(target.rpartition(":")[2].partition("/")[0]),
        "list.mp4": f"[playlist]\nFile1={target}\n",
        "smil.mp4": f'<smil><body><video src="{target}"/></body></smil>',
        "reference.mp4": f"[Reference]\nRef1={target}\n",
    }
    return {name: text.encode() for name, text in texts.items()}


# -- all of them

WEBM = Encoding(codec="libvpx", rate=Fraction(25), time_base=Fraction(1, 1000), gop_frames=12)
AVI = Encoding(codec="mpeg4", rate=RATE, gop_frames=12)
MPEG = Encoding(codec="mpeg2video", rate=Fraction(25), gop_frames=12)
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
ELSEWHERE = "http://127.0.0.1:9/elsewhere.mp4"

BAD_FILES: tuple[BadFile, ...] = (
    # what is no video at all
    BadFile("empty.mp4", _bytes(b""), "failed", "empty"),
    BadFile("text.mp4", _bytes(b"Remember to copy the footage here.\n"), "failed", "not_media"),
    BadFile("noise.mp4", _bytes(random.Random(0).randbytes(50_000)), "failed", "not_media"),
    BadFile("zeros.mp4", _bytes(bytes(50_000)), "failed", "not_media"),
    BadFile("lfs_pointer.mp4", _bytes(LFS_POINTER), "failed", "not_media"),
    BadFile("web_page.mp4", _bytes(WEB_PAGE), "failed", "not_media"),
    BadFile("sound_only.mp4", _sound_only, "rejected", "no_video"),
    BadFile("sound_with_cover.mp4", lambda path: _sound_only(path, with_cover=True), "rejected", "no_video"),
    *(BadFile(name, _bytes(data), "rejected", "names_other_files") for name, data in playlists(ELSEWHERE).items()),
    # what was cut short
    BadFile("cut_at_05.mp4", _index_in_front(0.05), "failed", "no_frames"),
    BadFile("cut_at_30.mp4", _index_in_front(0.30), "curated", "damaged"),
    BadFile("cut_at_60.mp4", _index_in_front(0.60), "curated", "damaged", True),
    BadFile("cut_at_95.mp4", _index_in_front(0.95), "curated", "damaged", True),
    BadFile("cut.mp4", _cut_at(0.6), "failed", "no_index"),
    BadFile("cut.mov", _cut_at(0.6), "failed", "no_index"),
    BadFile("cut.webm", _cut_at(0.7, WEBM), "curated", None, True),
    BadFile("cut.avi", _cut_at(0.7, AVI), "curated", "damaged", True),
    BadFile("cut.ts", _cut_at(0.7, MPEG), "curated", "damaged", True),
    BadFile("cut.mpg", _cut_at(0.7, MPEG), "curated", "damaged", True),
    # what contradicts itself
    BadFile("ten_hours.mp4", _ten_hours_two_frames, "curated", None),
    BadFile("ten_hours.webm", _damaged(_webm_of_ten_hours, WEBM), "curated", "wrong_duration", True),
    BadFile("size_changes.ts", _spliced(160, 192), "curated", "damaged", True),
    BadFile("time_jumps_back.ts", _spliced(160, 160), "curated", "damaged", True),
    BadFile("without_times.h264", film, "failed", "no_timestamps"),
    BadFile("without_size.mov", _without_size, "failed", "no_picture_size"),
    BadFile(
        "codec.mp4",
        _damaged(lambda d: patched(d, (*SAMPLE_TABLE, "stsd"), 12, "4s", b"zzzz")),
        "failed",
        "unknown_codec",
    ),
    BadFile(
        "pixels.mp4", lambda path: film(path, Encoding(rate=RATE, pixel_aspect=Fraction(50))), "rejected", "odd_pixels"
    ),
    # what asks for too much
    BadFile(
        "huge.y4m", _bytes(b"YUV4MPEG2 W16000 H16000 F25:1 C420\nFRAME\n" + bytes(9000)), "rejected", "too_many_pixels"
    ),
    BadFile("huge.mov", _huge_png, "failed", "no_picture_size"),
    BadFile(
        "streams.mkv", lambda path: blank_film(path, "mpeg4", [(64, 64)], streams=70), "rejected", "too_many_streams"
    ),
    BadFile(
        "streams.mp4", lambda path: blank_film(path, "mpeg4", [(64, 64)], streams=70), "rejected", "too_many_streams"
    ),
    BadFile("index_bomb.mp4", _damaged(_index_bomb), "rejected", "index_too_large"),
    BadFile("fragment_bomb.mp4", _fragment_bomb, "rejected", "index_too_large"),
    BadFile("edit_bomb.mp4", _damaged(_edit_bomb), "rejected", "index_too_large"),
    BadFile("packed.mov", _damaged(_with_packed_header), "rejected", "compressed_header"),
    # what lies elsewhere
    BadFile("external_url.mov", external_data("url ", ELSEWHERE.encode() + b"\0"), "rejected", "names_other_files"),
    BadFile("external_alias.mov", external_data("alis", bytes(200)), "rejected", "names_other_files"),
)
BAD_FILES_BY_NAME = {bad.name: bad for bad in BAD_FILES}
