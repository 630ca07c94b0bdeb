"""Writing chosen packets as a file of their own, on a new clock, with what a player is to show and what not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import Flags, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from curation.entry import nal_length_bytes, nal_units
from curation.matroska_aspect import write_pixel_aspect
from curation.mp4_edits import TrackEdit, write_edits
from curation.records import Span

__all__ = ["CannotCopy", "ClipFile", "Track", "container_for", "decode_times", "fine_timescale", "mux"]

MIN_TIMESCALE = 10_000
MATROSKA_TICK_S = Fraction(1, 1000)
# Codecs that mp4 or mov name but that ordinary players only take from Matroska. (From mp4, FFmpeg splits MPEG-1 anew
# and loses sight of what the edit list hides.)
MATROSKA_VIDEO = frozenset({"vp8", "theora", "mpeg1video"})
# Sound that many players take from mp4 but not from mov. PCM is the reverse.
MP4_SOUND = frozenset({"flac", "opus", "vorbis"})
DEFAULT_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# FFmpeg's decoders tell profiles of these apart by the tag alone.
TAGGED_CODECS = frozenset({"prores", "hap", "dxv", "rawvideo"})
HEVC_PARAMETER_SETS = range(32, 35)
HVCC_BYTES = 23  # of an hvcC without a parameter set


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
class Track:
    """Packets of one stream in decode order, with the ticks that the span covers on that stream's clock."""

    stream: VideoStream | AudioStream
    packets: list[Packet]
    start: Fraction
    end: Fraction

    @property
    def time_base(self) -> Fraction:
        assert self.stream.time_base is not None
        return self.stream.time_base

    @property
    def pixel_aspect(self) -> Fraction | None:
        return self.stream.sample_aspect_ratio if isinstance(self.stream, VideoStream) else None


def container_for(
    video: VideoStream, sounds: list[AudioStream], *, prefer_mov: bool
) -> tuple[str, list[AudioStream]]:
    """The container for a lossless clip, and the sound streams that it takes.

    mp4 or mov where the picture goes into one, whichever takes more of the sound, else Matroska. Raises ValueError
    where none takes the picture.
    """
    preferred = ("mov", "mp4") if prefer_mov else ("mp4", "mov")
    codec = video.codec_context.name
    formats = ("matroska",) if codec in MATROSKA_VIDEO else preferred
    able = [name for name in formats if codec in _supported(name)] or ["matroska"]
    if codec not in _supported(able[0]):
        raise ValueError(f"no container carries {codec} beside its own")
    carried = {name: [s for s in sounds if s.codec_context and s.codec_context.name in _supported(name)] for name in able}
    # The first of equals.
    best = max(able, key=lambda name: (len(carried[name]), sum(_is_usual(name, sound) for sound in carried[name])))
    return best, carried[best]


def _is_usual(format_name: str, sound: AudioStream) -> bool:
    codec = sound.codec_context.codec.canonical_name
    return not codec.startswith("pcm_") if format_name == "mp4" else codec not in MP4_SOUND


def _supported(format_name: str) -> set[str]:
    if format_name not in _SUPPORTED:
        with av.open(io.BytesIO(), "w", format=format_name) as container:
            _SUPPORTED[format_name] = container.supported_codecs
    return _SUPPORTED[format_name]


_SUPPORTED: dict[str, set[str]] = {}


def pts_of(packet: Packet) -> int:
    assert packet.pts is not None
    return packet.pts


def decode_times(pts: list[int]) -> list[int]:
    """Decode times for packets in decode order: rising, never after their presentation, as early as need be.

    The sorted presentation times are rising already; shifted by the largest lag of a packet behind its place in them
    they never come too late. Containers' own decode times are missing or wrong too often to be passed on.
    """
    in_order = sorted(pts)
    delay = max((sorted_pts - own for sorted_pts, own in zip(in_order, pts, strict=True)), default=0)
    return [sorted_pts - delay for sorted_pts in in_order]


def mux(format_name: str, tracks: list[Track], span: Span, audio: str) -> ClipFile:
    """One file of tracks, the first of them the picture, whose packets all have different presentation times.

    Raises CannotCopy where the container has no place for something, av.error.FFmpegError where it refuses it.
    """
    file = io.BytesIO()
    video = tracks[0]
    dts = decode_times([pts_of(p) for p in video.packets])
    timescale = fine_timescale(span.time_base)
    is_mp4 = format_name in ("mp4", "mov")
    firsts_s = [dts[0] * span.time_base, *(pts_of(t.packets[0]) * t.time_base for t in tracks[1:])]
    # Matroska has one clock, which starts with the earliest packet. In mp4 each track starts at 0 and its edit list
    # says when: a track that starts later would have its first frame stretched by FFmpeg.
    origins_s = firsts_s if is_mp4 else [min(firsts_s)] * len(tracks)
    edits = [video_edit(video, dts[0], span), *(sound_edit(track) for track in tracks[1:])]
    # The media then lasts as long as the edit that shows it; in mp4 only the last duration is stored.
    video.packets[-1].duration = max(video.packets[-1].duration or 1, span.end_pts - dts[-1])
    lead_in_frames = sum(pts_of(p) < span.start_pts for p in video.packets)
    options = {"video_track_timescale": str(timescale), "movie_timescale": str(timescale), "use_editlist": "0"}
    options |= {"strict": "experimental"}  # TrueHD
    with av.open(file, "w", format=format_name, options=options if is_mp4 else {}) as output:
        output.flags |= Flags.bitexact.value
        outputs = [_add_stream(output, track) for track in tracks]
        for packet, track in _in_order(tracks, dts):
            number = tracks.index(track)
            _move(packet, origins_s[number], track.time_base if is_mp4 else MATROSKA_TICK_S)
            packet.stream = outputs[number]
            output.mux_one(packet)
    if is_mp4:
        write_edits(file, edits)
    elif video.pixel_aspect not in (None, 1) and not write_pixel_aspect(file, video.pixel_aspect):
        raise CannotCopy("the pixel aspect finds no room in Matroska")
    time_base = Fraction(1, timescale) if is_mp4 else MATROSKA_TICK_S
    start_s = span.start_pts * span.time_base - origins_s[0]
    return ClipFile(
        data=file.getvalue(),
        container=format_name,
        start_pts=_nearest_tick(start_s, time_base),
        end_pts=_nearest_tick(start_s + span.duration_s, time_base),
        time_base=time_base,
        lead_in_frames=lead_in_frames,
        audio=audio,
    )


def fine_timescale(time_base: Fraction) -> int:
    """Ticks a second that hold every time of the source exactly and are fine enough for sound."""
    return time_base.denominator * -(-MIN_TIMESCALE // time_base.denominator)


def _nearest_tick(seconds: Fraction, time_base: Fraction) -> int:
    """As FFmpeg rounds when it changes time bases: to the nearest, halves away from zero."""
    return int(seconds / time_base + Fraction(1, 2))


def _add_stream(output: OutputContainer, track: Track) -> Stream:
    template = track.stream
    stream = output.add_stream_from_template(template, opaque=True)
    stream.time_base = template.time_base
    context = stream.codec_context
    if isinstance(template, AudioStream):
        layout = DEFAULT_LAYOUTS.get(template.codec_context.channels)
        if layout and "channels" in template.codec_context.layout.name:  # AVI and Matroska say only how many
            context.layout = layout
        return stream
    # What the container said of the shape of a pixel overrides the codec, and only the codec's word is copied.
    if template.sample_aspect_ratio:
        context.sample_aspect_ratio = template.sample_aspect_ratio
    codec = template.codec_context.codec.canonical_name
    if codec == "hevc" and output.format.name in ("mp4", "mov") and _has_all_parameter_sets(track):
        context.codec_tag = "hvc1"  # Apple's players refuse hev1
    elif codec in TAGGED_CODECS and output.format.name == "mov":
        context.codec_tag = template.codec_context.codec_tag
    return stream


def _has_all_parameter_sets(track: Track) -> bool:
    """Whether the stream's header has every parameter set of its packets, which hvc1 asks for and hev1 does not."""
    header = track.stream.codec_context.extradata or b""
    length_bytes = nal_length_bytes("hevc", header)
    sets = {
        nal.rstrip(b"\0")  # zeros belong to the next start code
        for packet in track.packets
        for nal in nal_units(bytes(packet), length_bytes)
        if nal[0] >> 1 & 0x3F in HEVC_PARAMETER_SETS
    }
    return len(header) > HVCC_BYTES and all(nal in header for nal in sets)


def _in_order(tracks: list[Track], video_dts: list[int]) -> Iterator[tuple[Packet, Track]]:
    """All packets in order of decode time, which they are given."""
    for track, dts in zip(tracks, (video_dts, *([pts_of(p) for p in t.packets] for t in tracks[1:])), strict=True):
        for packet, ticks in zip(track.packets, dts, strict=True):
            packet.dts = ticks
    timed = [((packet.dts or 0) * track.time_base, n, i) for n, track in enumerate(tracks) for i, packet in enumerate(track.packets)]
    for _, number, index in sorted(timed):
        yield tracks[number].packets[index], tracks[number]


def _move(packet: Packet, origin_s: Fraction, tick_s: Fraction) -> None:
    """Put a packet on a clock that starts at `origin_s`, in ticks of its own."""
    base = Fraction(packet.time_base)
    assert packet.dts is not None
    packet.pts, packet.dts = (_nearest_tick(ticks * base - origin_s, tick_s) for ticks in (pts_of(packet), packet.dts))
    packet.duration = _nearest_tick((packet.duration or 0) * base, tick_s)
    packet.time_base = tick_s


def video_edit(track: Track, first_dts: int, span: Span) -> TrackEdit:
    return TrackEdit((span.start_pts - first_dts) * track.time_base, span.duration_s)


def sound_edit(track: Track) -> TrackEdit:
    """The part of the sound inside the span, as far as there is sound."""
    pts = [pts_of(packet) for packet in track.packets]
    shown_from = max(track.start, pts[0])
    if track.stream.codec_context.name == "vorbis":
        # FFmpeg cannot begin inside a packet of Vorbis: it would show the next one there, up to 20 ms early.
        shown_from = next((Fraction(p) for p in pts if p >= track.start), shown_from)
    end = min(track.end, Fraction(pts[-1] + (track.packets[-1].duration or 0)))
    base = track.time_base
    return TrackEdit(
        media_start_s=(shown_from - pts[0]) * base,
        duration_s=max(Fraction(0), end - shown_from) * base,
        delay_s=(shown_from - track.start) * base,
    )
