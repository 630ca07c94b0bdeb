"""Cutting without re-encoding: the packets from the keyframe at or before a span's start, and exactly the span shown.

The frames between that keyframe and the start are the lead-in. In mp4 and mov an edit list hides them from players; in
Matroska a player shows them. Our reader never does: each clip records where its span lies on the file's own clock.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import dropwhile, islice

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.stream import VideoStream

from curation.entry import EntryRule
from curation.mux import CannotCopy, ClipFile, VideoTrack, container_for, mux, pts_of
from curation.reader import DamagedClip, read_frames
from curation.records import Span
from curation.sound import SoundCollector

__all__ = ["CannotCopy", "ClipFile", "Cutter"]

# H.264 and HEVC reorder at most 16 frames, so after this many packets in a row beyond a time none before it can follow.
MAX_REORDERED = 20
GUESSED_FROM = 100
# How far before the keyframe reading begins, tried in turn: some formats land behind it. None is the file's beginning.
SEEK_BACK_S = (0, 1, 10, 60, None)
# In MPEG streams a time belongs to a run of bytes, and right after a seek to the wrong picture: what comes first is
# passed over.
STREAMED_FORMATS = frozenset({"mpegts", "mpeg"})
STREAMED_SEEK_BACK_S = (3, 10, 60, None)
SETTLING_S = 1
# Containers that keep a presentation time for each picture. For others FFmpeg guesses some.
TIMED_FORMATS = frozenset({"mov", "matroska", "mpegts", "flv", "ogg", "asf", "mxf", "nut", "ivf"})


class Cutter:
    """Cuts spans out of one source, best in order: the file is opened once and only the needed parts are read.

    Memory holds the packets of one clip, and of its lead-in, which `max_lead_in_s` bounds.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, max_lead_in_s: float):
        self._container, self._video = container, stream
        self._max_lead_in_s = max_lead_in_s
        assert stream.time_base is not None
        self._time_base: Fraction = stream.time_base
        self._demuxer = container.format.name.split(",")[0]
        context = stream.codec_context
        self._entry_rule = EntryRule(context.name, context.extradata)
        # The codec's parameters by the file's header, and those that the packets being read refer to.
        self._header = self._header_now = context.extradata
        sounds = list(container.streams.audio)
        self._cannot: str | None = None
        self._format, self._sounds = "", []
        try:
            self._format, self._sounds = container_for(stream, sounds, prefer_mov=_is_quicktime(container))
            self._check_source()
        except CannotCopy as error:
            self._cannot = str(error)
        self._left_out = [_left_out(self._format, s) for s in sounds if s not in self._sounds]
        for other in container.streams:
            if other is not stream and other not in self._sounds:
                other.discard = Discard.all  # spares reading it
        hides = self._format != "matroska"
        self._collector = SoundCollector(container, stream, self._sounds, hides=hides)

    def cut(self, span: Span, entry_pts: int, frames: int) -> ClipFile:
        """The span's packets with its sound as a file of their own.

        `entry_pts`: the keyframe from which the span decodes right. `frames`: how many the span has, as they were
        decoded. Raises CannotCopy where only encoding can give exactly these frames.
        """
        if self._cannot:
            raise CannotCopy(self._cannot)
        lead_in_s = float((span.start_pts - entry_pts) * self._time_base)
        if lead_in_s > self._max_lead_in_s:
            raise CannotCopy(f"the keyframe is {lead_in_s:.1f} s before the start, over max_lead_in_seconds")
        try:
            clip, shown = self._cut(self._format, span, entry_pts, frames)
        except av.error.FFmpegError as error:
            if not self._sounds:
                raise CannotCopy(f"{self._format} refuses the packets: {error.strerror}") from error
            self._give_up_sound(error.strerror)
            return self.cut(span, entry_pts, frames)
        if shown > frames or self._demuxer not in TIMED_FORMATS:
            self._check_decoded(clip, frames)
        return clip

    def _cut(self, format_name: str, span: Span, entry_pts: int, frames: int) -> tuple[ClipFile, int]:
        """The clip, and how many of its packets are pictures of the span."""
        video = self._video_track(span, entry_pts)
        shown = [p for p in video.packets if span.start_pts <= pts_of(p) < span.end_pts and self._is_visible(p)]
        if any(packet.is_discard for packet in shown):
            raise CannotCopy("an edit of the source lies inside the span")
        if self._video.codec_context.name == "mpeg4" and any(map(is_packed, video.packets)):
            raise CannotCopy("packets hold two pictures each")
        visible = [packet.pts for packet in video.packets if self._is_visible(packet)]
        if len(set(visible)) < len(visible):
            raise CannotCopy("two packets share a presentation time")
        if len(shown) < frames:
            raise CannotCopy(f"{len(shown)} packets for {frames} frames: the file does not give each frame a packet")
        for packet in video.packets:
            # A player that begins at what is no entry shows garbage, or nothing.
            packet.is_keyframe = self._entry_rule.admits(packet)
        lead_in_s = (span.start_pts - min(map(pts_of, video.packets))) * self._time_base
        sounds = self._collector.collect(span, lead_in_s)
        return mux(format_name, video, sounds, span, self._audio_words(len(sounds))), len(shown)

    def _check_source(self) -> None:
        """Raises CannotCopy where nothing of this source can be copied."""
        context = self._video.codec_context
        if not self._entry_rule.knows(context.codec):
            raise CannotCopy(f"it is not known from which packets {context.name} can be decoded")
        if context.name == "rawvideo" and self._demuxer != "mov":
            raise CannotCopy("containers disagree on the layout of raw pictures")
        if self._demuxer == "flv" and any(self._header_now != self._header for _ in self._packets()):
            # They are not repeated where one seeks to, so that it would not be noticed later.
            raise CannotCopy("the codec's parameters change within the file")
        if self._demuxer == "avi" and context.has_b_frames and not self._is_reordered():
            raise CannotCopy("AVI does not say when pictures are shown, and these packets do not tell either")

    def _is_reordered(self) -> bool:
        """Whether packets have the times of their own pictures: where there are B-frames, not all of them rise."""
        times: list[int] = []
        for packet in islice(self._packets(), GUESSED_FROM):
            if is_packed(packet):
                return False
            times += [packet.pts] if packet.pts is not None else []
        return times != sorted(times)

    def _is_visible(self, packet: Packet) -> bool:
        """VP8 packs pictures that are only referred to into packets of their own (show_frame, RFC 6386, 9.1)."""
        return self._video.codec_context.name != "vp8" or bool(bytes(packet)[0] >> 4 & 1)

    def _check_decoded(self, clip: ClipFile, frames: int) -> None:
        """Decode what was cut where its packets do not surely say what their pictures' times are."""
        try:
            for _ in read_frames(io.BytesIO(clip.data), start_pts=clip.start_pts, end_pts=clip.end_pts, frames=frames):
                pass
        except (DamagedClip, av.error.FFmpegError) as error:
            raise CannotCopy(f"the file does not say when each picture is shown ({error})") from error

    def _audio_words(self, tracks: int) -> str:
        if self._left_out:
            return "left out: " + ", ".join(self._left_out)
        if not self._sounds:
            return "none"
        return "copied" if tracks else "none within the span"

    def _give_up_sound(self, why: str | None) -> None:
        self._left_out += [f"{s.codec_context.name} ({self._format} refuses it: {why})" for s in self._sounds]
        self._sounds = []
        self._collector = SoundCollector(self._container, self._video, [], hides=True)

    def _video_track(self, span: Span, entry_pts: int) -> VideoTrack:
        for seconds in STREAMED_SEEK_BACK_S if self._demuxer in STREAMED_FORMATS else SEEK_BACK_S:
            if packets := self._collect(span, entry_pts, seconds):
                return VideoTrack(self._video, packets, Fraction(span.start_pts), Fraction(span.end_pts))
        raise CannotCopy(f"the keyframe at {float(entry_pts * self._time_base):.3f} s does not lead to the start again")

    def _collect(self, span: Span, entry_pts: int, seconds: int | None) -> list[Packet] | None:
        """The span's packets from the last one before it that decoding may start from, or None where that was missed.

        That one may be hidden: an edit list of the source may begin anywhere in a GOP.
        """
        is_start_of_file = seconds is None
        if not self._seek(entry_pts, seconds):
            return None
        packets: list[Packet] = []
        headers: set[bytes | None] = set()
        is_usable, is_inside, beyond = is_start_of_file, False, 0
        for packet in self._packets() if is_start_of_file else self._settled_packets():
            if not is_inside:
                if self._is_entry_for(packet, span):
                    packets, headers, is_usable = [], set(), True
                elif packet.pts is None or (packet.pts <= span.start_pts and self._is_too_long(packets, packet)):
                    packets, is_usable = [], False
            elif packet.pts is None:
                raise CannotCopy("the file has packets without a presentation time")
            if is_usable:
                packets.append(packet)
                headers.add(self._header_now)
            if packet.pts == span.start_pts and not packet.is_discard and not is_inside:
                if not is_usable:
                    return None
                is_inside, beyond = True, 0
            limit = span.end_pts if is_inside else span.start_pts + 1
            beyond = beyond + 1 if packet.pts is not None and packet.pts >= limit else 0
            if beyond > MAX_REORDERED or (is_inside and packet.dts is not None and packet.dts >= span.end_pts):
                break
        if is_inside and headers != {self._header}:
            raise CannotCopy("the codec's parameters change within the file")
        return self._without_tail(packets, span) if is_inside else None

    def _seek(self, entry_pts: int, seconds: int | None) -> bool:
        """So far before the keyframe or, where that is None, to the beginning of the file."""
        start = min(0, self._video.start_time or 0)
        target = start if seconds is None else entry_pts - int(seconds / self._time_base)
        try:
            if seconds is None and self._demuxer in STREAMED_FORMATS:
                self._container.seek(0, unsupported_byte_offset=True)
            else:
                self._container.seek(target, stream=self._video)
        except av.error.FFmpegError:
            return False
        return True

    def _settled_packets(self) -> Iterator[Packet]:
        """The packets after a seek, without those whose times may be another's."""
        packets = self._packets()
        if self._demuxer not in STREAMED_FORMATS:
            return packets
        first_pts = next((packet.pts for packet in packets if packet.pts is not None), 0)
        settled_pts = first_pts + SETTLING_S / self._time_base
        return dropwhile(lambda packet: packet.pts is None or packet.pts < settled_pts, packets)

    def _packets(self) -> Iterator[Packet]:
        """Up to the end of the file, or to where it is damaged: what lies before is good."""
        try:
            for packet in self._container.demux(self._video):
                if packet.has_sidedata("new_extradata"):
                    self._header_now = bytes(packet.get_sidedata("new_extradata"))
                if packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError, IndexError):  # of PyAV 18.1, see `decode.Decoder._demuxed`
            return

    def _is_entry_for(self, packet: Packet, span: Span) -> bool:
        return packet.pts is not None and packet.pts <= span.start_pts and self._entry_rule.admits(packet)

    def _is_too_long(self, packets: list[Packet], packet: Packet) -> bool:
        if not packets:
            return False
        return (pts_of(packet) - pts_of(packets[0])) * self._time_base > self._max_lead_in_s

    def _without_tail(self, packets: list[Packet], span: Span) -> list[Packet]:
        """Without the packets after the last one that is shown: nothing in the span refers to them."""
        shown = [i for i, p in enumerate(packets) if span.start_pts <= pts_of(p) < span.end_pts and not p.is_discard]
        return packets[: shown[-1] + 1]


def is_packed(packet: Packet) -> bool:
    """Whether it holds two pictures (two VOPs): DivX's way to have B-frames in AVI, unknown to other containers."""
    return bytes(packet).count(b"\0\0\1\xb6") > 1


def _is_quicktime(container: InputContainer) -> bool:
    return container.metadata.get("major_brand", "").strip() == "qt"


def _left_out(format_name: str, sound: AudioStream) -> str:
    codec = sound.codec_context.name if sound.codec_context else "unknown codec"
    return f"{codec} ({format_name} does not carry it)"
