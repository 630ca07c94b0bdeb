"""The one decode of a source: frames in order of presentation, packet by packet, so that damage costs what it covers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from curation.entry import EntryRule
from curation.media import Limits
from curation.records import BadSource, SourceState

__all__ = ["DecodedFrame", "Decoder"]

# A decoder that reorders hands frames back late; a jump back of more than this is a broken or spliced timeline.
MAX_STEP_BACK_S = 1.0


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame as the decoder gave it, with its exact time.

    `pts` and `duration` are ticks of the stream's time base (`duration` 0 where the file does not say). `is_entry`:
    decoding may start here (see `entry.EntryRule`). `is_damaged`: the decoder refused data just before this frame,
    or concealed errors inside it.
    """

    picture: VideoFrame
    pts: int
    duration: int
    is_entry: bool
    is_damaged: bool


class Decoder:
    """Decodes one video stream once, from its first packet to its last. Iterate over it, then read the counts.

    One thread a file: threads cost 25-40 % more CPU, and many files are decoded at once. `skip_loop_filter` leaves the
    deblocking of pictures out that no other picture refers to, which changes no time and no count.

    Raises BadSource on iteration: `no_frames`, `decode_timeout`, `too_long`.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, limits: Limits, skip_loop_filter: str):
        self._container, self._stream, self._limits = container, stream, limits
        assert stream.time_base is not None
        self.time_base: Fraction = stream.time_base
        codec = stream.codec_context
        codec.thread_count = 1
        codec.options = {"skip_loop_filter": skip_loop_filter, "max_pixels": str(limits.max_frame_pixels)}
        codec.open(strict=False)
        self._entry_rule = EntryRule(codec.name, codec.extradata)
        self._entry_pts: set[int] = set()
        self._damage_pending = False
        self.packets_refused = 0
        self.frames_out_of_order = 0
        self.frames = 0
        self.stopped_because: str | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        deadline_s = time.monotonic() + self._limits.max_decode_minutes * 60
        max_ticks = int(self._limits.max_source_hours * 3600 / self.time_base)
        first_pts: int | None = None
        last_pts: int | None = None
        for picture in self._pictures():
            if time.monotonic() > deadline_s:
                limit = f"max_decode_minutes={self._limits.max_decode_minutes}"
                raise BadSource(SourceState.FAILED, "decode_timeout", f"decoding took longer than {limit}")
            pts = picture.pts
            if pts is None or (last_pts is not None and pts <= last_pts):
                self.frames_out_of_order += 1
                if pts is not None and last_pts is not None and (last_pts - pts) * self.time_base > MAX_STEP_BACK_S:
                    self.stopped_because = f"timestamps jump back at {float(last_pts * self.time_base):.3f} s"
                    break
                continue
            first_pts = pts if first_pts is None else first_pts
            if pts - first_pts > max_ticks:
                detail = f"it runs longer than max_source_hours={self._limits.max_source_hours}"
                raise BadSource(SourceState.REJECTED, "too_long", detail)
            last_pts = pts
            self.frames += 1
            yield self._decoded(picture, pts)
        if self.frames == 0:
            raise BadSource(SourceState.FAILED, "no_frames", "not one frame could be decoded; " + self._damage_words())

    def _decoded(self, picture: VideoFrame, pts: int) -> DecodedFrame:
        is_entry = pts in self._entry_pts
        if is_entry:  # frames come in order of time, so older entries will not be asked for again
            self._entry_pts = {entry for entry in self._entry_pts if entry > pts}
        is_damaged = self._damage_pending or picture.is_corrupt
        self._damage_pending = False
        return DecodedFrame(picture, pts, picture.duration or 0, is_entry, is_damaged)

    def _pictures(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                yield from self._stream.decode(packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                self.packets_refused += 1
                self._damage_pending = True
            except av.error.FFmpegError as error:
                self.packets_refused += 1
                self._damage_pending = True
                self.stopped_because = f"the decoder gave up: {error.strerror}"
                return

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                self.stopped_because = f"the file could not be read further: {error.strerror}"
                yield None  # flushes the decoder: the frames before the damage are good
                return
            if packet.size == 0 and packet.dts is not None:
                continue  # Theora and VP8: "show the last frame longer", which PyAV takes for an error
            if packet.pts is not None and self._entry_rule.admits(packet):
                self._entry_pts.add(packet.pts)
            yield packet

    def _damage_words(self) -> str:
        words = [f"{self.packets_refused} packets refused by the decoder"] if self.packets_refused else []
        words += [f"{self.frames_out_of_order} frames out of order"] if self.frames_out_of_order else []
        words += [self.stopped_because] if self.stopped_because else []
        return ", ".join(words) or "the stream is empty"

    @property
    def damage(self) -> str | None:
        """What went wrong in words, or None if nothing did."""
        is_whole = not (self.packets_refused or self.frames_out_of_order or self.stopped_because)
        return None if is_whole else self._damage_words()
