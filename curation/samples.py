"""The samples of a sound track within a span, decoded, without gaps, as many as the span is long."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from curation.mux import SoundTrack

__all__ = ["Samples"]

# What the AAC encoder takes; others become 48 kHz.
AAC_RATES_HZ = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350})
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}  # others are mixed down to stereo
# Times of sound are often rounded to a millisecond, and jitter by as much: less than this is no gap.
JITTER_S = Fraction(1, 50)

Piece = NDArray[np.float32]
"""Samples, shape (samples, channels)."""


class Samples:
    """Iterate for pieces that follow on one another from the span's first moment to its last, silent where it was."""

    def __init__(self, track: SoundTrack):
        context = track.stream.codec_context
        self._track = track
        self.rate_hz = context.sample_rate if context.sample_rate in AAC_RATES_HZ else 48_000
        self.layout = LAYOUTS.get(context.channels, "stereo")
        self.channels = av.AudioLayout(self.layout).nb_channels
        self.count = int((track.end - track.start) * track.time_base * self.rate_hz)

    def __iter__(self) -> Iterator[Piece]:
        jitter = 0  # where sound begins is exact
        written = 0
        for place, piece in self._placed():
            if place > written + jitter:
                yield from self._silence(min(place, self.count) - written)
                written = min(place, self.count)
            elif place < written - jitter:  # before the span, or heard already
                piece = piece[written - place :]
            piece = piece[: self.count - written]
            if len(piece):
                yield piece
                written, jitter = written + len(piece), int(JITTER_S * self.rate_hz)
        yield from self._silence(self.count - written)

    def _silence(self, samples: int) -> Iterator[Piece]:
        for done in range(0, samples, self.rate_hz):  # a second at a time
            yield np.zeros((min(self.rate_hz, samples - done), self.channels), np.float32)

    def _placed(self) -> Iterator[tuple[int, Piece]]:
        """Decoded samples, and the place of the first in the span."""
        resampler = av.AudioResampler("flt", self.layout, self.rate_hz)
        start_s = self._track.start * self._track.time_base
        for frame in self._frames():
            for part in resampler.resample(frame):
                assert part.pts is not None
                assert part.time_base is not None
                place = round((part.pts * part.time_base - start_s) * self.rate_hz)
                yield place, part.to_ndarray().reshape(-1, self.channels).astype(np.float32, copy=False)

    def _frames(self) -> Iterator[AudioFrame]:
        """Packets that the decoder refuses are passed over."""
        for packet in [*self._track.packets, None]:
            try:
                frames = self._track.stream.decode(packet)
            except av.error.FFmpegError:
                continue
            yield from (frame for frame in frames if frame.pts is not None)
