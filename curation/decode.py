"""The one decode of a source: frames in order of presentation, packet by packet; damage costs what it covers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.entry import EntryRule
from curation.media import Limits
from curation.records import BadSource, SourceState
from curation.timeline import MAX_STEP_BACK_S, MAX_STRAYS, MAX_TICKS, Meter, Timeline

__all__ = ["DecodedFrame", "Decoder"]

# A last frame that claims to be shown for longer is not believed.
MAX_LAST_FRAME_S = 60.0
# A file that was cut short ends with a picture that is partly there, and those that refer to it.
MAX_TAIL_FRAMES = 4
# Packets are remembered until their frames come out; a decoder holds back far fewer.
MAX_ENTRIES_AHEAD = 1024
# Containers and codecs where each packet is a frame that is shown, unless it is interlaced: a field may have its own.
FRAME_A_PACKET_FORMATS, FRAME_A_PACKET_CODECS = frozenset({"mov", "matroska", "flv"}), frozenset({"h264", "hevc"})


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame as the decoder gave it, with its exact time.

    `pts` and `duration` are ticks of the stream's time base (`duration` 0 where the file does not say). `is_entry`:
    decoding may start here (see `entry.EntryRule`). `is_damaged`: data was refused or errors were concealed, in this
    frame or in one since the last entry, or frames are missing beside it. `packet_bytes`: size of the packet with its
    time; None where no packet has it, as with a field a packet.
    """

    picture: VideoFrame
    pts: int
    duration: int
    is_entry: bool
    is_damaged: bool
    packet_bytes: int | None


@dataclass(frozen=True, slots=True)
class _Gap:
    """Frames are missing here; `retracts`: how many of those before should not have been."""

    retracts: int = 0


class Decoder:
    """Decodes one video stream once, from its first packet to its last. Iterate over it, then read the counts.

    One thread a file: threads cost 25-40 % more CPU, and many files are decoded at once. `skip_loop_filter` leaves the
    deblocking of pictures out that no other picture refers to, which changes no time and no count.

    Damage is passed over: what the decoder refuses or drops costs frames up to the next entry, and where the file ends
    early, or goes over to another timeline or picture size, the part before is what there is. `damage` says so.

    Raises BadSource, made: `decoder_refuses`, `no_time_base`; on iteration: `no_frames`, `no_timestamps`,
    `decode_timeout`, `too_long`, `too_many_frames`, and `unreadable` from the container.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits, skip_loop_filter: str):
        self._container, self._stream, self._limits = container, stream, limits
        if stream.time_base is None:
            raise BadSource(SourceState.FAILED, "no_time_base", "the header gives no unit of time; remux the file")
        self.time_base: Fraction = stream.time_base
        codec = stream.codec_context
        codec.thread_count = 1
        codec.options = {"skip_loop_filter": skip_loop_filter, "max_pixels": str(limits.max_frame_pixels)}
        try:
            codec.open(strict=False)
        except av.error.FFmpegError as error:
            detail = f"the decoder {codec.name} does not take its header ({error.strerror}); convert the file"
            raise BadSource(SourceState.FAILED, "decoder_refuses", detail) from error
        self._awaited = _Awaited(container.format.name.split(",")[0], codec.name)
        self._entry_rule = EntryRule(codec.name, codec.extradata)
        self._entry_pts: dict[int, None] = {}  # a set in order of arrival
        self._packet_bytes: dict[int, int] = {}  # by time, in order of arrival
        self._max_duration = int(MAX_LAST_FRAME_S / self.time_base)
        self._now_pts: int | None = None  # of the last frame that came out
        self._broken_until: int | None = None
        self.packets_refused = 0
        self.frames_damaged = 0
        self.frames_missing = 0
        self.frames_out_of_order = 0
        self.frames_without_time = 0
        self.frames_of_other_size = 0
        self.frames_left_out = 0
        self.frames = 0
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        for frame in self._without_broken_tail(self._timed()):
            self.frames += 1
            self.frames_damaged += frame.is_damaged
            yield frame
        if self.frames == 0 and self.frames_without_time:
            detail = (
                f"none of {self.frames_without_time} frames says when it is shown; put it into a container at its "
                "rate: ffmpeg -framerate RATE -i FILE -c copy NEW.mp4"
            )
            raise BadSource(SourceState.FAILED, "no_timestamps", detail)
        if self.frames == 0:
            why = self.damage or "no packet of the stream lies in the file"
            detail = f"not one frame could be decoded: {why}; copy or convert the file again"
            raise BadSource(SourceState.FAILED, "no_frames", detail)

    def _without_broken_tail(self, frames: Iterator[DecodedFrame | _Gap]) -> Iterator[DecodedFrame]:
        """Marks the frames on both sides of a gap as damaged, and leaves out a few damaged ones at the very end."""
        held: list[DecodedFrame] = []  # the last frame, and up to MAX_TAIL_FRAMES damaged ones since the last good one
        is_gap, run = False, 0
        for frame in frames:
            if isinstance(frame, _Gap):
                is_gap = is_gap or bool(held)
                del held[len(held) - frame.retracts :]
                continue
            if is_gap:
                held[-1:] = [replace(last, is_damaged=True) for last in held[-1:]]
                frame = replace(frame, is_damaged=True)
            is_gap, run = False, run + 1 if frame.is_damaged else 0
            if not 0 < run <= MAX_TAIL_FRAMES:
                yield from held
                held.clear()
            held.append(frame)
        if 0 < run <= MAX_TAIL_FRAMES and self.frames + len(held) > run:
            self.frames_left_out = len(held[-run:])
            del held[-run:]
        yield from held

    def _timed(self) -> Iterator[DecodedFrame | _Gap]:
        """The frames that carry on from one another, and where some were left out between them."""
        timeline, size, strays = Timeline(self.time_base), None, 0
        meter = Meter(self._limits, self.time_base)
        for picture in self._pictures():
            pts = picture.pts
            size = size or (picture.width, picture.height)
            if (picture.width, picture.height) != size:
                self.frames_of_other_size, strays = self.frames_of_other_size + 1, strays + 1
            elif timeline.admits(pts):
                assert pts is not None
                strays = 0
                meter.feed(pts)
                if timeline.retracts:
                    self.frames_out_of_order += 1
                    if self._broken_until is not None:
                        self._broken_until = min(self._broken_until, pts - 1)
                    yield _Gap(retracts=1)
                if missing := self._awaited.passed_by(picture, pts):
                    self.frames_missing += len(missing)
                    self._break(max(missing))
                    yield _Gap()
                yield self._decoded(picture, pts)
                continue
            elif pts is None:
                self.frames_without_time += 1
            else:
                self.frames_out_of_order += 1
            yield _Gap()
            if timeline.is_over or strays > MAX_STRAYS:
                what = "the times jump" if timeline.is_over else f"the picture size changes from {size[0]}x{size[1]}"
                self.stopped_because = f"{what} at {meter.elapsed_s:.3f} s and not back; split the file there"
                return

    def _decoded(self, picture: VideoFrame, pts: int) -> DecodedFrame:
        self._now_pts = pts
        is_entry = pts in self._entry_pts
        if is_entry:  # frames come in order of time, so older entries will not be asked for again
            self._entry_pts = {entry: None for entry in self._entry_pts if entry > pts}
            if self._broken_until is not None and pts > self._broken_until:
                self._broken_until = None
        if picture.is_corrupt:
            self._break(pts)
        packet_bytes = self._packet_bytes.pop(pts, None)
        is_damaged = self._broken_until is not None
        return DecodedFrame(picture, pts, self._duration(picture), is_entry, is_damaged, packet_bytes)

    def _duration(self, picture: VideoFrame) -> int:
        ticks = picture.duration or 0
        return ticks if 0 < ticks <= self._max_duration else 0

    def _break(self, pts: int | None) -> None:
        """From here on pictures may be wrong, until an entry that comes after `pts`, or after now if that is broken."""
        now = self._now_pts
        if pts is None or (now is not None and (pts - now) * self.time_base > MAX_STEP_BACK_S):
            pts = -MAX_TICKS if now is None else now
        self._broken_until = pts if self._broken_until is None else max(pts, self._broken_until)

    def _pictures(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                pictures = self._stream.decode(packet)
            except av.error.FFmpegError:
                # Whatever FFmpeg says of one packet (invalid data, not implemented, an error of an external library),
                # it is this packet that it did not take, and the next may be good. Faults of ours are other classes.
                self.packets_refused += 1
                self._break(None if packet is None else packet.pts)
                self._awaited.remove(packet)
                continue
            yield from pictures

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """The stream's packets, then None, which makes the decoder give out what it holds."""
        minutes = self._limits.max_decode_minutes
        deadline_s = time.monotonic() + 60 * minutes
        for packet in self._demuxed():
            if time.monotonic() > deadline_s:
                detail = f"decoding took longer than max_decode_minutes={minutes}; split the file"
                raise BadSource(SourceState.FAILED, "decode_timeout", detail)
            if packet.size == 0:
                # PyAV's sign for the end; Theora's and VP8's for "show the last frame longer"; in broken files
                # anything. A decoder takes it for the end and nothing after it.
                continue
            self._note(packet)
            yield packet
        yield None

    def _demuxed(self) -> Iterator[Packet[VideoStream]]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:
                return  # PyAV 18.1, at the end of a file in which streams have appeared since it was opened
            except av.error.FFmpegError as error:
                self.stopped_because = f"the file could not be read further: {error.strerror}"
                return
            yield packet

    def _note(self, packet: Packet[VideoStream]) -> None:
        self._awaited.add(packet)
        if packet.is_corrupt:
            self._break(packet.pts)
        if packet.pts is None:
            return
        self._packet_bytes[packet.pts] = packet.size
        if len(self._packet_bytes) > MAX_ENTRIES_AHEAD:
            del self._packet_bytes[next(iter(self._packet_bytes))]
        if self._entry_rule.admits(packet):
            self._entry_pts[packet.pts] = None
            if len(self._entry_pts) > MAX_ENTRIES_AHEAD:
                del self._entry_pts[next(iter(self._entry_pts))]

    def _damage_words(self) -> str:
        counts = {
            "packets refused by the decoder": self.packets_refused,
            "damaged frames": self.frames_damaged,
            "frames missing": self.frames_missing,
            "frames out of order": self.frames_out_of_order,
            "frames without a time": self.frames_without_time,
            "frames of another size": self.frames_of_other_size,
            "damaged frames left out at the end": self.frames_left_out,
        }
        words = [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join([*words, *filter(None, [self.stopped_because])])

    @property
    def damage(self) -> str | None:
        """What went wrong in words, or None if nothing did."""
        return self._damage_words() or None


class _Awaited:
    """The packets whose frames are still to come, where each packet is a frame: H.264 drops some without a word."""

    def __init__(self, format_name: str, codec_name: str):
        self._is_on = format_name in FRAME_A_PACKET_FORMATS and codec_name in FRAME_A_PACKET_CODECS
        self._pts: set[int] = set()
        self._has_begun = False

    def add(self, packet: Packet[VideoStream]) -> None:
        if self._is_on and packet.pts is not None and not packet.is_discard and len(self._pts) < MAX_ENTRIES_AHEAD:
            self._pts.add(packet.pts)

    def remove(self, packet: Packet[VideoStream] | None) -> None:
        if packet is not None and packet.pts is not None:
            self._pts.discard(packet.pts)

    def passed_by(self, picture: VideoFrame, pts: int) -> set[int]:
        """The times before this frame's that had a packet and get no frame. Before the first frame that is usual."""
        self._is_on = self._is_on and not picture.interlaced_frame
        if not self._is_on:
            return set()
        missing = {awaited for awaited in self._pts if awaited < pts} if self._has_begun else set()
        self._pts = {awaited for awaited in self._pts if awaited > pts}
        self._has_begun = True
        return missing
