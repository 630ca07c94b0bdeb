"""Noise that can be found again, and how far a clip's sound lies from its source's."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48_000
SEARCHED_S = 0.08


def noise(path: Path, seconds: float, seed: int = 0) -> Path:
    """A stereo WAV file of noise without the highest tones, which every codec keeps."""
    samples = np.random.default_rng(seed).standard_normal((int(seconds * RATE_HZ), 2))
    window = np.hanning(31) / np.hanning(31).sum()
    smooth = np.stack([np.convolve(channel, window, "same") for channel in samples.T], axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((smooth / np.abs(smooth).max() * 20_000).astype(np.int16).tobytes())
    return path


@dataclass(frozen=True)
class Heard:
    """What a player plays of one sound stream: from when on, and the samples, mixed to one channel."""

    start_s: float
    samples: NDArray[np.float64]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE_HZ


def heard(file: Path | bytes, index: int = 0) -> Heard:
    """Edit lists honoured, gaps filled with silence."""
    with av.open(io.BytesIO(file) if isinstance(file, bytes) else str(file), "r") as container:
        stream = container.streams.audio[index]
        stream.codec_context.thread_count = 1
        resampler = av.AudioResampler("flt", "mono", RATE_HZ)
        pieces: list[tuple[int, NDArray]] = []
        end = None
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                assert part.pts is not None
                assert part.time_base is not None
                place, samples = round(part.pts * part.time_base * RATE_HZ), part.to_ndarray()[0]
                # Times in milliseconds jitter.
                place = end if end is not None and abs(place - end) < 0.003 * RATE_HZ else place
                pieces.append((place, samples))
                end = place + len(samples)
    first = pieces[0][0]
    together = np.zeros(max(place + len(samples) for place, samples in pieces) - first)
    for place, samples in pieces:
        together[place - first : place - first + len(samples)] = samples
    return Heard(first / RATE_HZ, together)


def shift(clip: Heard, source: Heard, span_start_s: Fraction) -> tuple[float, float]:
    """By how many milliseconds the clip's sound comes late, and how alike both then are (1: the same)."""
    near = round(SEARCHED_S * RATE_HZ)
    place = round((float(span_start_s) + clip.start_s - source.start_s) * RATE_HZ)
    around = np.pad(source.samples, near + len(clip.samples))[near + len(clip.samples) + place - near :]
    around = around[: len(clip.samples) + 2 * near]
    size = 1 << int(np.ceil(np.log2(len(around) + len(clip.samples))))
    alike = np.fft.irfft(np.fft.rfft(around, size) * np.conj(np.fft.rfft(clip.samples, size)), size)[: 2 * near + 1]
    best = int(np.argmax(alike))
    matched = around[best : best + len(clip.samples)]
    norm = float(np.linalg.norm(matched) * np.linalg.norm(clip.samples))
    return (near - best) / RATE_HZ * 1000, float(alike[best]) / norm if norm else 0.0
