"""From frames and boundaries to takes: scenes, with long ones split as they stream by, in memory that does not grow.

Everything counts frames by their index in the source; times stay the stream's ticks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from curation.measure import FrameMeasure, Sample

__all__ = ["Take", "TakeConfig", "TakeSplitter", "trimmed"]

# Detectors may place a boundary a little in the past (a fade is known when it is over), so a scene is closed only when
# this many frames have passed since its end.
HOLD_FRAMES = 64
# More thumbnail candidates than this are thinned to every second one: memory stays flat however long a take is.
MAX_PICTURES = 24


@dataclass(frozen=True, slots=True)
class TakeConfig:
    """How scenes become clips.

    Attributes:
        max_seconds: Scenes longer than this are split into equal parts, none longer.
        trim_seconds: Left out at both ends of every scene, where a transition may linger.
        snap_frames: A clip's start moves forward to a keyframe when one is at most this many frames away, which
            saves the lead-in. 0 keeps every frame.
    """

    max_seconds: float = 60.0
    trim_seconds: float = 0.0
    snap_frames: int = 0

    def __post_init__(self) -> None:
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds={self.max_seconds}: must be positive")
        if self.trim_seconds < 0:
            raise ValueError(f"trim_seconds={self.trim_seconds}: must not be negative")
        if self.snap_frames < 0:
            raise ValueError(f"snap_frames={self.snap_frames}: must not be negative")


@dataclass(frozen=True, slots=True)
class Take:
    """A run of frames without a boundary inside: a scene, or a part of a long one.

    `entry_pts` is the last keyframe at or before the first frame. `starts_scene` and `ends_scene` say at which ends a
    real boundary lies. `end_pts` is the time of the frame after the last one, or where the last one stops showing.
    """

    scene_index: int
    first_index: int
    frames: Sequence[FrameMeasure]
    samples: Sequence[Sample]
    end_pts: int
    entry_pts: int
    starts_scene: bool
    ends_scene: bool

    @property
    def start_pts(self) -> int:
        return self.frames[0].pts


class TakeSplitter:
    """Feed frames, samples and boundaries as they come; get takes as soon as they are certain.

    A scene that runs on is split while it runs: once it is twice `max_seconds` long, its first `max_seconds` go out.
    """

    def __init__(self, config: TakeConfig, time_base: Fraction):
        self._max_ticks = config.max_seconds / time_base
        self._frames: list[FrameMeasure] = []
        self._samples: list[Sample] = []
        self._boundaries: set[int] = set()
        self._first_index = 0
        self._scene_index = 0
        self._entry_pts: int | None = None
        self._starts_scene = True

    def feed(self, frame: FrameMeasure, sample: Sample | None, boundaries: Sequence[int]) -> Iterator[Take]:
        """Add the next frame, the sample that it completed, and the boundaries that were found with it."""
        self._frames.append(frame)
        self._add(sample, boundaries)
        last_index = self._first_index + len(self._frames) - 1
        while self._boundaries and min(self._boundaries) <= last_index - HOLD_FRAMES:
            yield from self._close_scene(min(self._boundaries))
        if frame.pts - self._frames[0].pts > 2 * self._max_ticks + HOLD_FRAMES * frame.duration:
            yield self._take(self._index_at(self._frames[0].pts + self._max_ticks), ends_scene=False)

    def flush(self, sample: Sample | None, boundaries: Sequence[int]) -> Iterator[Take]:
        """What is left after the last frame."""
        self._add(sample, boundaries)
        while self._boundaries:
            yield from self._close_scene(min(self._boundaries))
        if self._frames:
            yield from self._close_scene(self._first_index + len(self._frames))

    def _add(self, sample: Sample | None, boundaries: Sequence[int]) -> None:
        if sample is not None:
            self._samples = thinned([*self._samples, sample])
        # A boundary inside what already went out comes too late to matter: only a black stretch longer than
        # max_seconds can bring one.
        self._boundaries.update(b for b in boundaries if b > self._first_index)

    def _close_scene(self, end_index: int) -> Iterator[Take]:
        end_index = min(end_index, self._first_index + len(self._frames))
        ticks = self._end_pts(end_index) - self._frames[0].pts
        parts = max(1, -int(-ticks // self._max_ticks))
        start_pts = self._frames[0].pts
        for part in range(1, parts):
            split = self._index_at(start_pts + Fraction(ticks * part, parts))
            if self._first_index < split < end_index:
                yield self._take(split, ends_scene=False)
        yield self._take(end_index, ends_scene=True)
        self._boundaries = {b for b in self._boundaries if b > self._first_index}

    def _index_at(self, pts: Fraction | float) -> int:
        """The first frame at or after a time, always past the first frame."""
        offset = next((i for i, frame in enumerate(self._frames) if frame.pts >= pts), len(self._frames))
        return self._first_index + max(1, offset)

    def _end_pts(self, end_index: int) -> int:
        count = end_index - self._first_index
        if count < len(self._frames):
            return self._frames[count].pts
        last = self._frames[-1]
        before = self._frames[-2].pts if len(self._frames) > 1 else last.pts - 1
        return last.pts + (last.duration or last.pts - before)

    def _take(self, end_index: int, *, ends_scene: bool) -> Take:
        count = end_index - self._first_index
        assert 0 < count <= len(self._frames)
        frames, end_pts = self._frames[:count], self._end_pts(end_index)
        if frames[0].is_entry or self._entry_pts is None:
            self._entry_pts = frames[0].pts
        take = Take(
            self._scene_index,
            self._first_index,
            frames,
            [s for s in self._samples if s.index < end_index],
            end_pts,
            self._entry_pts,
            self._starts_scene,
            ends_scene,
        )
        self._entry_pts = next((f.pts for f in reversed(frames) if f.is_entry), self._entry_pts)
        self._frames = self._frames[count:]
        self._samples = [s for s in self._samples if s.index >= end_index]
        self._first_index, self._starts_scene = end_index, ends_scene
        self._scene_index += ends_scene
        return take


def thinned(samples: list[Sample]) -> list[Sample]:
    """The samples, every second picture dropped once there are too many; the numbers all stay."""
    with_picture = [sample.index for sample in samples if sample.picture is not None]
    if len(with_picture) <= MAX_PICTURES:
        return samples
    dropped = set(with_picture[1::2])
    return [replace(s, picture=None) if s.index in dropped else s for s in samples]


def trimmed(take: Take, config: TakeConfig, time_base: Fraction) -> Take:
    """The take without its trimmed ends, its start moved to a near keyframe where the settings ask for it.

    A take too short to be trimmed stays whole: it is left to the verdict on its length.
    """
    trim_ticks = config.trim_seconds / time_base
    earliest = take.start_pts + (trim_ticks if take.starts_scene else 0)
    latest = take.end_pts - (trim_ticks if take.ends_scene else 0)
    ends = [f.pts for f in take.frames[1:]] + [take.end_pts]
    kept = [i for i, frame in enumerate(take.frames) if frame.pts >= earliest and ends[i] <= latest]
    if not kept:
        return take
    first, last = kept[0], kept[-1]
    near = range(first, min(first + config.snap_frames, last) + 1)
    first = next((i for i in near if take.frames[i].is_entry), first)
    entries = [f.pts for f in take.frames[: first + 1] if f.is_entry]
    return Take(
        take.scene_index,
        take.first_index + first,
        take.frames[first : last + 1],
        [s for s in take.samples if first <= s.index - take.first_index <= last],
        ends[last],
        entries[-1] if entries else take.entry_pts,
        take.starts_scene,
        take.ends_scene,
    )
