"""Writing chosen packets as a file of their own, on a new clock, with what a player is to show and what not."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from typing import Any, Generic, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import Flags, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from curation.entry import nal_length_bytes, nal_units
from curation.matroska_aspect import write_pixel_aspect
from curation.mp4_edits import BrokenMovie, TrackEdit, write_edits
from curation.records import Span

__all__ = [
    "CannotCopy",
    "ClipFile",
    "SoundTrack",
    "VideoTrack",
    "container_for",
    "decode_times",
    "fine_timescale",
    "mux",
    "pts_of",
]

MIN_TIMESCALE = 10_000
MATROSKA_TICK_S = Fraction(1, 1000)
# Codecs that mp4 or mov name but that ordinary players only take from Matroska. (From mp4, FFmpeg splits MPEG-1 anew
# and loses sight of what the edit list hides.)
MATROSKA_VIDEO = frozenset({"vp8", "theora", "mpeg1video"})
# Sound that many players take from mp4 but not from mov. PCM is the reverse.
MP4_SOUND = frozenset({"flac", "opus", "vorbis"})
DEFAULT_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# FFmpeg's decoders tell profiles and layouts of these apart by the tag alone.
TAGGED_CODECS = frozenset({"prores", "hap", "dxv", "rawvideo"})
HEVC_PARAMETER_SETS = range(32, 35)
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
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


AnyStream = TypeVar("AnyStream", VideoStream, AudioStream)


@dataclass(frozen=True, eq=False)  # no slots: Python 3.11 cannot make a frozen generic one
class _Track(Generic[AnyStream]):
    """Packets of one stream in decode order, with the ticks that the span covers on that stream's clock."""

    stream: AnyStream
    packets: list[Packet[Any]]
    start: Fraction
    end: Fraction

    @property
    def time_base(self) -> Fraction:
        assert self.stream.time_base is not None
        return self.stream.time_base


VideoTrack = _Track[VideoStream]
SoundTrack = _Track[AudioStream]


def container_for(
    video: VideoStream, sounds: Sequence[AudioStream], *, prefer_mov: bool
) -> tuple[str, list[AudioStream]]:
    """The container for a lossless clip, and the sound streams that it takes.

    mp4 or mov where the picture goes into one, whichever takes more of the sound, else Matroska. Raises CannotCopy
    where none takes the picture.
    """
    preferred = ("mov", "mp4") if prefer_mov else ("mp4", "mov")
    codec = video.codec_context.name
    # FFV1 leaves it to the container to say that it is of full range, and mp4 says nothing of range alone.
    is_full_range_ffv1 = codec == "ffv1" and video.codec_context.color_range == FULL_RANGE
    formats = ("matroska",) if codec in MATROSKA_VIDEO or is_full_range_ffv1 else preferred
    able = [name for name in formats if codec in _supported(name)] or ["matroska"]
    if codec not in _supported(able[0]):
        raise CannotCopy(f"no container carries {codec} beside its own")
    known = [sound for sound in sounds if sound.codec_context is not None]
    carried = {name: [sound for sound in known if sound.codec_context.name in _supported(name)] for name in able}
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


def pts_of(packet: Packet[Any]) -> int:
    assert packet.pts is not None
    return packet.pts


def decode_times(pts: list[int]) -> list[int]:
    """Decode times for packets in decode order: rising, never after their presentation, as late as they can be.

    The sorted presentation times are rising already; shifted by the largest lag of a packet behind its place in them
    they never come too late. Containers' own decode times are missing or wrong too often to be passed on.
    """
    in_order = sorted(pts)
    delay = max((sorted_pts - own for sorted_pts, own in zip(in_order, pts, strict=True)), default=0)
    return [sorted_pts - delay for sorted_pts in in_order]


def mux(format_name: str, video: VideoTrack, sounds: list[SoundTrack], span: Span, audio: str) -> ClipFile:
    """One file of tracks. Packets of pictures in mp4 must all have different times, those of sound rising ones.

    Raises CannotCopy where the container has no place for something, av.error.FFmpegError where it refuses it.
    """
    try:
        return _muxed(format_name, video, sounds, span, audio)
    except OverflowError as error:  # of PyAV, which holds times in 64 bits
        raise CannotCopy("a packet's time is out of all bounds") from error
    except BrokenMovie as error:  # FFmpeg adds its error for a damaged packet of AV1 to the size of the media
        raise CannotCopy(f"{format_name} does not take the packets, damaged as they are ({error})") from error


def _muxed(format_name: str, video: VideoTrack, sounds: list[SoundTrack], span: Span, audio: str) -> ClipFile:
    file = io.BytesIO()
    is_mp4 = format_name in ("mp4", "mov")
    first_dts = _give_times(video, sounds, span, hides=is_mp4)
    timescale = fine_timescale(span.time_base)
    firsts_s = [first_dts * span.time_base, *(pts_of(t.packets[0]) * t.time_base for t in sounds)]
    # Matroska has one clock, which starts with the earliest packet. In mp4 each track starts at 0 and its edit list
    # says when: a track that starts later would have its first frame stretched by FFmpeg.
    origins_s = firsts_s if is_mp4 else [min(firsts_s)] * len(firsts_s)
    start_s = span.start_pts * span.time_base - origins_s[0]
    edits = [TrackEdit(start_s, span.duration_s), *(_sound_edit(track) for track in sounds)]
    lead_in_frames = sum(pts_of(p) < span.start_pts for p in video.packets)
    scales = {"video_track_timescale": str(timescale), "movie_timescale": str(timescale)}
    options = {"use_editlist": "0", "strict": "experimental", **scales} if is_mp4 else {}  # strict: for TrueHD
    with av.open(file, "w", format=format_name, options=options) as output:
        output.flags |= Flags.bitexact.value
        outputs = [_add_video(output, video), *(_add_sound(output, track) for track in sounds)]
        for number, packet in _in_order([video, *sounds]):
            _move(packet, origins_s[number], None if is_mp4 else MATROSKA_TICK_S)
            packet.stream = outputs[number]
            output.mux_one(packet)
    aspect = video.stream.sample_aspect_ratio
    if is_mp4:
        write_edits(file, edits)
    elif aspect and aspect != 1 and not write_pixel_aspect(file, aspect):
        raise CannotCopy("the pixel aspect finds no room in Matroska")
    time_base = Fraction(1, timescale) if is_mp4 else MATROSKA_TICK_S
    return ClipFile(
        data=file.getvalue(),
        container=format_name,
        start_pts=_nearest_tick(start_s, time_base),
        end_pts=_nearest_tick(start_s + span.duration_s, time_base),
        time_base=time_base,
        lead_in_frames=lead_in_frames,
        audio=audio,
    )


def _give_times(video: VideoTrack, sounds: list[SoundTrack], span: Span, *, hides: bool) -> int:
    """Sets the decode time of every packet, and how long each picture lasts; the picture's first decode time.

    `hides`: an edit list will hide what lies beyond the span.
    """
    in_time = sorted(video.packets, key=pts_of)
    _give_durations(in_time, span)
    tail = [packet for packet in in_time if pts_of(packet) >= span.end_pts] if hides else []
    # Some pictures between these are missing. mp4 stores what lies between decode times as durations, so the gap would
    # be a long one near the end.
    step = span.end_pts - pts_of(in_time[-len(tail) - 1])
    for number, packet in enumerate(tail):
        packet.pts = min(pts_of(packet), span.end_pts + number * step)
    for packet, ticks in zip(video.packets, decode_times([pts_of(p) for p in video.packets]), strict=True):
        packet.dts = ticks
    # And to Chromium a film lasts until its last picture, be it hidden.
    for number, packet in enumerate(tail):
        packet.pts = span.end_pts + number
    for track in sounds:
        for packet in track.packets:
            packet.dts = packet.pts
    assert video.packets[0].dts is not None
    return video.packets[0].dts


def _give_durations(in_time: list[Packet[Any]], span: Span) -> None:
    """A picture lasts until the next, and in the span no longer than the span."""
    for packet, following in zip_longest(in_time, in_time[1:]):
        end_pts = span.end_pts if following is None else pts_of(following)
        if pts_of(packet) < span.end_pts:
            end_pts = min(end_pts, span.end_pts)
        if end_pts > pts_of(packet):
            packet.duration = end_pts - pts_of(packet)


def fine_timescale(time_base: Fraction) -> int:
    """Ticks a second that hold every time of the source exactly and are fine enough for sound."""
    return time_base.denominator * -(-MIN_TIMESCALE // time_base.denominator)


def _nearest_tick(seconds: Fraction, time_base: Fraction) -> int:
    """As FFmpeg rounds when it changes time bases: to the nearest, halves away from zero."""
    return int(seconds / time_base + Fraction(1, 2))


def _add_video(output: OutputContainer, track: VideoTrack) -> Stream:
    stream = output.add_stream_from_template(track.stream, opaque=True)
    stream.time_base = track.time_base
    given, context = track.stream.codec_context, stream.codec_context
    # What the container said of the shape of a pixel overrides the codec, and only the codec's word is copied.
    if track.stream.sample_aspect_ratio:
        context.sample_aspect_ratio = track.stream.sample_aspect_ratio
    codec = given.codec.canonical_name
    if codec == "hevc" and output.format.name in ("mp4", "mov") and _has_all_parameter_sets(track):
        context.codec_tag = "hvc1"  # Apple's players refuse hev1
    elif codec in TAGGED_CODECS and output.format.name == "mov":
        context.codec_tag = given.codec_tag
    return stream


def _has_all_parameter_sets(track: VideoTrack) -> bool:
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


def _add_sound(output: OutputContainer, track: SoundTrack) -> Stream:
    stream = output.add_stream_from_template(track.stream, opaque=True)
    stream.time_base = track.time_base
    given = track.stream.codec_context
    layout = DEFAULT_LAYOUTS.get(given.channels)
    if layout and "channels" in given.layout.name:  # AVI and Matroska say only how many
        stream.codec_context.layout = layout
    return stream


def _in_order(tracks: list[VideoTrack | SoundTrack]) -> Iterator[tuple[int, Packet[Any]]]:
    """All packets in order of decode time, with the number of their track."""
    timed = [
        (p.dts * t.time_base, n, i) for n, t in enumerate(tracks) for i, p in enumerate(t.packets) if p.dts is not None
    ]
    for _, number, index in sorted(timed):
        yield number, tracks[number].packets[index]


def _move(packet: Packet[Any], origin_s: Fraction, tick_s: Fraction | None) -> None:
    """Put a packet on a clock that starts at `origin_s`, in ticks of `tick_s` or, where that is None, its own."""
    base = Fraction(packet.time_base)
    tick_s = tick_s or base
    assert packet.dts is not None
    packet.pts = _nearest_tick(pts_of(packet) * base - origin_s, tick_s)
    packet.dts = _nearest_tick(packet.dts * base - origin_s, tick_s)
    packet.duration = _nearest_tick((packet.duration or 0) * base, tick_s)
    packet.time_base = tick_s


def _sound_edit(track: SoundTrack) -> TrackEdit:
    """The part of the sound inside the span, as far as there is sound."""
    pts = [pts_of(packet) for packet in track.packets]
    shown_from = max(track.start, Fraction(pts[0]))
    if track.stream.codec_context.codec.canonical_name == "vorbis":
        # FFmpeg cannot begin inside a packet of Vorbis: it would show the next one there, up to 20 ms early.
        shown_from = next((Fraction(p) for p in pts if p >= track.start), shown_from)
    end = min(track.end, Fraction(pts[-1] + (track.packets[-1].duration or 0)))
    base = track.time_base
    return TrackEdit(
        media_start_s=(shown_from - pts[0]) * base,
        duration_s=max(Fraction(0), end - shown_from) * base,
        delay_s=(shown_from - track.start) * base,
    )
