"""Cutting without re-encoding: the packets from the keyframe at or before a span's start, and exactly the span shown.

The frames between that keyframe and the start are the lead-in. In mp4 and mov an edit list hides them from players; in
Matroska a player shows them. Our reader never does: each clip records where its span lies on the file's own clock.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from curation.mp4_edits import TrackEdit, write_edits
from curation.records import Span

__all__ = ["CannotCopy", "ClipFile", "Cutter"]

# H.264 and HEVC reorder at most 16 frames, so after this many packets in a row beyond the end none before it can follow.
MAX_REORDERED = 20
# How far behind the picture its sound may lie in the file before it is given up.
MAX_INTERLEAVE_S = 10
# Codecs that mp4 or mov name but that ordinary players only take from Matroska.
MATROSKA_CODECS = frozenset({"vp8", "theora"})
MIN_TIMESCALE = 10_000
SEEK_BACK_S = (0, 1, 10, 60)


class CannotCopy(Exception):
    """This span cannot be cut without re-encoding; the message says why."""


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A clip as playable bytes, and where its span lies in them.

    A frame belongs to the clip if its time in the file, edit list ignored, is in `[start_pts, end_pts)` ticks of
    `time_base`. `lead_in_frames` packets come before the span. `audio` says what became of the sound.
    """

    data: bytes
    container: str
    start_pts: int
    end_pts: int
    time_base: Fraction
    lead_in_frames: int
    audio: str


@dataclass(frozen=True, slots=True)
class _Track:
    """Packets of one stream in decode order, with the ticks that the span covers on that stream's clock."""

    stream: Stream
    packets: list[Packet]
    start: Fraction
    end: Fraction


class Cutter:
    """Cuts spans out of one source, best in order: the file is opened once and only the needed parts are read."""

    def __init__(self, container: InputContainer, stream: VideoStream, max_lead_in_s: float):
        self._container, self._video = container, stream
        self._max_lead_in_s = max_lead_in_s
        assert stream.time_base is not None
        self._time_base: Fraction = stream.time_base
        self.demuxer = container.format.name.split(",")[0]
        self.stream_index = stream.index
        first = next(iter(container.demux(stream)))
        self._first_pts = first.pts
        self._format = container_for(stream.codec_context.name, _is_quicktime(container))
        self._audio = [s for s in container.streams.audio if s.codec_context is not None and self._carries(s)]
        self._audio_left_out = [s for s in container.streams.audio if s not in self._audio]

    def _carries(self, stream: AudioStream) -> bool:
        return self._format is not None and stream.codec_context.name in _supported(self._format)

    def cut(self, span: Span, entry_pts: int, frames: int) -> ClipFile:
        """The span's packets with its sound as a file of their own.

        `entry_pts`: the keyframe to begin with. `frames`: how many the span has, as they were decoded.
        Raises CannotCopy where only encoding can give exactly these frames.
        """
        if self._format is None:
            raise CannotCopy(f"no container carries {self._video.codec_context.name} beside its own")
        lead_in_s = float((span.start_pts - entry_pts) * self._time_base)
        if lead_in_s > self._max_lead_in_s:
            raise CannotCopy(f"the keyframe is {lead_in_s:.1f} s before the start, over max_lead_in_seconds")
        tracks = self._tracks(span, entry_pts)
        video = tracks[0]
        shown = sum(span.start_pts <= _pts(p) < span.end_pts for p in video.packets)
        if shown < frames:
            raise CannotCopy(f"{shown} packets for {frames} frames: the file does not give each frame a packet")
        return _mux(self._format, tracks, span, self._audio_words())

    def _audio_words(self) -> str:
        if self._audio_left_out:
            names = ", ".join(s.codec_context.name if s.codec_context else "unknown" for s in self._audio_left_out)
            return f"left out: {self._format} does not carry {names}"
        return "copied" if self._audio else "none"

    def _tracks(self, span: Span, entry_pts: int) -> list[_Track]:
        for seconds in SEEK_BACK_S:
            if found := self._collect(span, entry_pts, self._seek_target(entry_pts, seconds)):
                return found
        if found := self._collect(span, entry_pts, None):
            return found
        raise CannotCopy(f"the keyframe at {float(entry_pts * self._time_base):.3f} s is not found again")

    def _seek_target(self, entry_pts: int, seconds: int) -> int:
        return entry_pts - int(seconds / self._time_base)

    def _collect(self, span: Span, entry_pts: int, seek_pts: int | None) -> list[_Track] | None:
        """The tracks of a span, read from a seek point, or None where reading began behind the keyframe."""
        try:
            self._container.seek(self._first_seek() if seek_pts is None else seek_pts, stream=self._video)
        except av.error.FFmpegError:
            return None
        tracks = [_Track(self._video, [], Fraction(span.start_pts), Fraction(span.end_pts))]
        tracks += [_Track(s, [], *_on_clock_of(s, span)) for s in self._audio]
        by_index = {track.stream.index: track for track in tracks}
        open_tracks = set(by_index)
        beyond = 0
        for packet in self._container.demux([track.stream for track in tracks]):
            track = by_index[packet.stream_index]
            if packet.size == 0 or packet.stream_index not in open_tracks:
                continue
            if track.stream is not self._video:
                if _add_sound(track, packet):
                    open_tracks.discard(packet.stream_index)
            elif track.packets or self._is_entry(packet, entry_pts):
                self._check(packet, span)
                track.packets.append(packet)
                beyond = beyond + 1 if _pts(packet) >= span.end_pts else 0
                if beyond > MAX_REORDERED or (packet.dts is not None and packet.dts >= span.end_pts):
                    open_tracks.discard(self._video.index)
            elif packet.is_keyframe and packet.pts is not None and packet.pts > entry_pts:
                return None  # read too late
            if not open_tracks or (track.stream is self._video and self._is_far_past(packet, span)):
                break
        if not tracks[0].packets:
            return None
        return [_without_tail(tracks[0]), *(track for track in tracks[1:] if track.packets)]

    def _first_seek(self) -> int:
        return min(0, self._first_pts or 0, self._video.start_time or 0)

    def _is_entry(self, packet: Packet, entry_pts: int) -> bool:
        return packet.pts == entry_pts and (packet.is_keyframe or packet.pts == self._first_pts)

    def _is_far_past(self, packet: Packet, span: Span) -> bool:
        return packet.pts is not None and (packet.pts - span.end_pts) * self._time_base > MAX_INTERLEAVE_S

    def _check(self, packet: Packet, span: Span) -> None:
        if packet.pts is None:
            raise CannotCopy("the file has packets without a presentation time")
        if packet.is_discard and span.start_pts <= packet.pts < span.end_pts:
            raise CannotCopy("an edit of the source lies inside the span")
        if packet.has_sidedata("new_extradata"):
            raise CannotCopy("the codec's parameters change inside the span")


def container_for(codec_name: str, prefer_mov: bool) -> str | None:
    """The container for a lossless clip: mp4 or mov where the codec goes into one, else Matroska, else None."""
    preferred = ("mov", "mp4", "matroska") if prefer_mov else ("mp4", "mov", "matroska")
    candidates = ("matroska",) if codec_name in MATROSKA_CODECS else preferred
    return next((name for name in candidates if codec_name in _supported(name)), None)


def _supported(format_name: str) -> set[str]:
    if format_name not in _SUPPORTED:
        with av.open(io.BytesIO(), "w", format=format_name) as container:
            _SUPPORTED[format_name] = container.supported_codecs
    return _SUPPORTED[format_name]


_SUPPORTED: dict[str, set[str]] = {}


def _is_quicktime(container: InputContainer) -> bool:
    return container.metadata.get("major_brand", "").strip() == "qt"


def _pts(packet: Packet) -> int:
    assert packet.pts is not None
    return packet.pts


def _on_clock_of(stream: Stream, span: Span) -> tuple[Fraction, Fraction]:
    assert stream.time_base is not None
    ratio = span.time_base / stream.time_base
    return span.start_pts * ratio, span.end_pts * ratio


def _add_sound(track: _Track, packet: Packet) -> bool:
    """Keep the packet if it sounds inside the span, and one before it, which decoders need. True when the span is over."""
    if packet.pts is None:
        return False
    if packet.pts >= track.end:
        return True
    if packet.pts + (packet.duration or 0) <= track.start:
        track.packets.clear()
    track.packets.append(packet)
    return False


def _without_tail(track: _Track) -> _Track:
    """Without the packets after the last one that is shown: nothing in the span refers to them."""
    last = max((i for i, p in enumerate(track.packets) if _pts(p) < track.end), default=-1)
    return _Track(track.stream, track.packets[: last + 1], track.start, track.end)


def decode_times(pts: list[int]) -> list[int]:
    """Decode times for packets in decode order: rising, never after their presentation, as early as need be.

    The sorted presentation times are rising already; shifted by the largest lag of a packet behind its place in them
    they never come too late. Containers' own decode times are missing or wrong too often to be passed on.
    """
    in_order = sorted(pts)
    delay = max(sorted_pts - own for sorted_pts, own in zip(in_order, pts, strict=True))
    return [sorted_pts - delay for sorted_pts in in_order]


def _mux(format_name: str, tracks: list[_Track], span: Span, audio: str) -> ClipFile:
    file = io.BytesIO()
    video = tracks[0]
    dts = decode_times([_pts(p) for p in video.packets])
    if any(later <= earlier for earlier, later in zip(dts, dts[1:], strict=False)):
        raise CannotCopy("two packets of the span share a presentation time")
    timescale = _timescale(span.time_base)
    is_mp4 = format_name in ("mp4", "mov")
    firsts_s = [dts[0] * span.time_base, *(_first_s(track) for track in tracks[1:])]
    # Matroska has one clock, which starts with the earliest packet. In mp4 each track starts at 0 and its edit list
    # says when: a track that starts later would have its first frame stretched by FFmpeg.
    origins_s = firsts_s if is_mp4 else [min(firsts_s)] * len(tracks)
    edits = [_edit_of(track, dts[0] if track is video else None, span) for track in tracks]
    lead_in_frames = sum(_pts(p) < span.start_pts for p in video.packets)
    options = {"video_track_timescale": str(timescale), "movie_timescale": str(timescale), "use_editlist": "0"}
    with av.open(file, "w", format=format_name, options=options if is_mp4 else {}) as output:
        output.flags |= av.container.Flags.bitexact.value
        outputs = [_add_stream(output, track.stream) for track in tracks]
        for packet, output_stream in _interleaved(tracks, dts, outputs, origins_s):
            packet.stream = output_stream
            output.mux_one(packet)
    if is_mp4:
        write_edits(file, edits)
    time_base = Fraction(1, timescale if is_mp4 else 1000)
    start_s = (
        (span.start_pts - dts[0]) * span.time_base
        if is_mp4
        else (span.start_pts - origins_s[0] // span.time_base) * span.time_base
    )
    return ClipFile(
        data=file.getvalue(),
        container=format_name,
        start_pts=_nearest_tick(start_s, time_base),
        end_pts=_nearest_tick(start_s + span.duration_s, time_base),
        time_base=time_base,
        lead_in_frames=lead_in_frames,
        audio=audio,
    )


def _timescale(time_base: Fraction) -> int:
    """Ticks a second that hold every time of the source exactly and are fine enough for sound."""
    return time_base.denominator * -(-MIN_TIMESCALE // time_base.denominator)


def _nearest_tick(seconds: Fraction, time_base: Fraction) -> int:
    """As FFmpeg rounds when it changes time bases: to the nearest, halves away from zero."""
    return int(seconds / time_base + Fraction(1, 2))


def _first_s(track: _Track) -> Fraction:
    assert track.stream.time_base is not None
    return _pts(track.packets[0]) * track.stream.time_base


def _add_stream(output: OutputContainer, template: Stream) -> Stream:
    stream = output.add_stream_from_template(template, opaque=True)
    stream.time_base = template.time_base
    return stream


def _interleaved(
    tracks: list[_Track], video_dts: list[int], outputs: list[Stream], origins_s: list[Fraction]
) -> Iterator[tuple[Packet, Stream]]:
    """All packets in order of decode time, each on its track's clock in the file."""
    timed = []
    for number, track in enumerate(tracks):
        base = track.stream.time_base
        assert base is not None
        origin = origins_s[number] // base  # a floor: no time falls below 0
        times = video_dts if number == 0 else [_pts(p) for p in track.packets]
        for dts, packet in zip(times, track.packets, strict=True):
            timed.append((dts * base, number, packet, dts - origin, _pts(packet) - origin))
    timed.sort(key=lambda entry: entry[:2])
    for _, number, packet, dts, pts in timed:
        packet.dts, packet.pts = dts, pts
        yield packet, outputs[number]


def _edit_of(track: _Track, video_first_dts: int | None, span: Span) -> TrackEdit:
    base = track.stream.time_base
    assert base is not None
    if video_first_dts is not None:
        return TrackEdit((span.start_pts - video_first_dts) * base, span.duration_s)
    first, last = track.packets[0], track.packets[-1]
    delay = max(Fraction(0), _pts(first) - track.start)
    end = min(track.end, Fraction(_pts(last) + (last.duration or 0)))
    return TrackEdit(
        media_start_s=max(Fraction(0), track.start - _pts(first)) * base,
        duration_s=(end - track.start - delay) * base,
        delay_s=delay * base,
    )
