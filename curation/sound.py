"""The sound that goes along with a lossless clip: which packets of a source's sound streams belong to a span."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curation.mux import SoundTrack, pts_of
from curation.records import Span

__all__ = ["SoundCollector"]

# Further from its picture than this, sound is looked for with a reading of its own.
MAX_INTERLEAVE_S = 10
SEEK_BACK_S = (1, MAX_INTERLEAVE_S)
# What a decoder must have heard before it gives the right samples, beyond the one packet that most overlap with.
# Opus: RFC 7845, 4.6. MP3: up to 511 bytes of earlier frames, ISO/IEC 11172-3, 2.4.2.7 (main_data_begin).
ROLL_S = {"opus": Fraction(8, 100), "mp3": Fraction(1, 4)}
INDEPENDENT = frozenset({"flac", "alac", "truehd", "wavpack", "tta"})  # and PCM: packets that need no other


class SoundCollector:
    """Finds the sound of spans of one source, best in order. Memory holds the packets of one span."""

    def __init__(self, container: InputContainer, video: VideoStream, sounds: list[AudioStream], *, hides: bool):
        """`hides`: whether what a decoder only needs to have heard will be hidden from players."""
        self._container, self._video, self._sounds, self._hides = container, video, sounds, hides
        # Where a stream is known to have no packet, in its ticks: from, to (None: its end).
        self._silences: dict[int, tuple[int, int | None]] = {}

    def collect(self, span: Span, lead_in_s: Fraction = Fraction(0)) -> list[SoundTrack]:
        """A track for each stream that sounds within the span, the packets' times strictly rising.

        `lead_in_s`: how long before the span its picture begins.
        """
        gatherings = {s.index: _Gathering(s, span, self._roll_s(s, lead_in_s)) for s in self._sounds}
        wanted = {index for index, gathering in gatherings.items() if not self._is_silent(index, gathering)}
        for seconds in SEEK_BACK_S:
            missing = {index for index in wanted if not gatherings[index].reaches_back}
            if not missing:
                break
            gatherings |= {index: gatherings[index].again() for index in missing}
            self._read_beside_picture(span, [gatherings[index] for index in missing], seconds)
        for index in wanted:
            if not gatherings[index].is_complete:
                gatherings[index] = self._read_alone(gatherings[index].again())
        tracks = [gathering.track() for gathering in gatherings.values()]
        return [track for track in tracks if track is not None]

    def _roll_s(self, stream: AudioStream, lead_in_s: Fraction) -> Fraction:
        if not self._hides:
            return Fraction(0)
        codec = stream.codec_context.codec.canonical_name
        # Where Opus begins before time 0, Chromium takes a film to be longer by what the picture begins earlier still.
        return max(ROLL_S.get(codec, Fraction(0)), lead_in_s if codec == "opus" else Fraction(0))

    def _is_silent(self, index: int, gathering: _Gathering) -> bool:
        if index not in self._silences:
            return False
        silent_from, silent_to = self._silences[index]
        return gathering.start >= silent_from and (silent_to is None or gathering.end <= silent_to)

    def _read_beside_picture(self, span: Span, gatherings: list[_Gathering], seconds: int) -> None:
        """Sound that lies near its picture in the file."""
        assert self._video.time_base is not None
        ticks = int((seconds + max(g.roll_s for g in gatherings)) / self._video.time_base)
        if not self._seek(span.start_pts - ticks, self._video):
            return
        by_index = {gathering.stream.index: gathering for gathering in gatherings}
        far = span.end_pts + MAX_INTERLEAVE_S / self._video.time_base
        for packet in self._packets([self._video, *(g.stream for g in gatherings)]):
            if packet.stream_index == self._video.index:
                if packet.pts is not None and packet.pts > far:
                    break
            else:
                by_index[packet.stream_index].feed(packet)
                if all(gathering.is_over for gathering in gatherings):
                    break

    def _read_alone(self, gathering: _Gathering) -> _Gathering:
        """Sound that lies anywhere in the file; what was learnt of its absence is kept."""
        stream = gathering.stream
        if self._seek(int(gathering.roll_start), stream):
            gathering.feed_all(self._packets([stream]))
        if not gathering.reaches_back:
            gathering = gathering.again()
            if not self._seek(min(0, stream.start_time or 0), stream):
                return gathering
            gathering.feed_all(self._packets([stream]))
        if not gathering.is_over:
            self._silences[stream.index] = (gathering.heard_until, None)
        elif gathering.track() is None:
            self._silences[stream.index] = (int(gathering.start), gathering.over_pts)
        return gathering

    def _seek(self, pts: int, stream: VideoStream | AudioStream) -> bool:
        try:
            self._container.seek(pts, stream=stream)
        except av.error.FFmpegError:
            return False
        return True

    def _packets(self, streams: list[VideoStream | AudioStream]) -> Iterator[Packet]:
        """Up to the end of the file, or to where it is damaged: what lies before is good."""
        try:
            # The last packets are empty, and of no stream.
            yield from (packet for packet in self._container.demux(streams) if packet.size)
        except (av.error.FFmpegError, OSError, IndexError):  # of PyAV 18.1, see `decode.Decoder._demuxed`
            return


class _Gathering:
    """The packets of one stream that a span needs, fed in the file's order from some point on.

    `reaches_back`: reading began early enough. `is_over`: a packet beyond the span came.
    """

    def __init__(self, stream: AudioStream, span: Span, roll_s: Fraction):
        """`roll_s`: how long before the span a decoder must begin."""
        assert stream.time_base is not None
        self.stream, self._span, self.roll_s = stream, span, roll_s
        ratio = span.time_base / stream.time_base
        self.start, self.end = span.start_pts * ratio, span.end_pts * ratio
        codec = stream.codec_context.codec.canonical_name
        self.roll_start = self.start - self.roll_s / stream.time_base
        self._spare = 0 if codec in INDEPENDENT or codec.startswith("pcm_") else 1
        self._packets: deque[Packet] = deque()
        self.reaches_back = self.is_over = False
        self.over_pts = 0

    def again(self) -> _Gathering:
        return _Gathering(self.stream, self._span, self.roll_s)

    def feed_all(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self.feed(packet)
            if self.is_over:
                return

    def feed(self, packet: Packet) -> None:
        if packet.pts is None or self.is_over:
            return
        if packet.pts >= self.end:
            self.is_over, self.over_pts = True, packet.pts
            return
        if not self._packets and self.stream.start_time is not None and packet.pts <= self.stream.start_time:
            self.reaches_back = True  # the stream's first packet
        # Sound that an edit list of the source hides begins behind what was heard last, or inside the span.
        if (self._packets and packet.pts <= pts_of(self._packets[-1])) or (
            packet.is_discard and packet.pts >= self.start
        ):
            return
        self._packets.append(packet)
        while len(self._packets) > self._spare + 1 and pts_of(self._packets[self._spare + 1]) <= self.roll_start:
            self._packets.popleft()
        if len(self._packets) > self._spare and pts_of(self._packets[self._spare]) <= self.roll_start:
            self.reaches_back = True

    @property
    def is_complete(self) -> bool:
        return self.reaches_back and self.is_over

    @property
    def heard_until(self) -> int:
        """Where the last packet ends. Its duration is that of the one before where the file does not say."""
        if not self._packets:
            return int(self.start)
        last = self._packets[-1]
        before = pts_of(self._packets[-2]) if len(self._packets) > 1 else pts_of(last)
        return pts_of(last) + (last.duration or pts_of(last) - before)

    def track(self) -> SoundTrack | None:
        """None where nothing is heard within the span."""
        if self.heard_until <= self.start:
            return None
        last = self._packets[-1]
        last.duration = self.heard_until - pts_of(last)
        return SoundTrack(self.stream, list(self._packets), self.start, self.end)
