"""From frames and boundaries to takes: scenes, with long ones split as they stream by, in memory that does not grow.

Everything counts frames by their index in the source; times stay the stream's ticks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import inf

from curation.boundary import Boundary
from curation.measure import FrameMeasure, Sample

__all__ = ["Take", "TakeConfig", "TakeSplitter", "trimmed"]

# A boundary becomes certain some frames after its place (see `boundary.BoundaryDetector`), so a scene is closed, and a
# long one split, only where this many frames have been seen since.
HOLD_FRAMES = 256
# With more thumbnail candidates than this, the one nearest to its neighbours goes: memory stays flat however long a
# take is, and what is left stays evenly spread.
MAX_PICTURES = 24
# Seconds of the settings become fractions with at most this denominator, so that 0.3 s are 300 ms to the tick.
SECONDS_DENOMINATOR = 1_000_000
# Of a clip no more is compared with others (`fingerprint.MAX_STEPS`), and no model is trained on a longer one.
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class TakeConfig:
    """How scenes become clips.

    Attributes:
        max_seconds: Scenes longer than this are split into equal parts, none longer by more than a frame.
        trim_seconds: Left out at both ends of every scene, where a transition may linger.
        snap_frames: A clip's start moves forward to a keyframe when one is at most this many frames away, which
            saves the lead-in. 0 keeps every frame.
    """

    max_seconds: float = 60.0
    trim_seconds: float = 0.0
    snap_frames: int = 0

    def __post_init__(self) -> None:
        if not 1 / SECONDS_DENOMINATOR <= self.max_seconds <= LONGEST_S:
            raise ValueError(f"max_seconds={self.max_seconds}: must be a positive number, at most {LONGEST_S:g}")
        if not 0 <= self.trim_seconds < inf:
            raise ValueError(f"trim_seconds={self.trim_seconds}: must be a number, not negative")
        if self.snap_frames < 0:
            raise ValueError(f"snap_frames={self.snap_frames}: must not be negative")


@dataclass(frozen=True, slots=True)
class Take:
    """A run of frames without a boundary inside: a scene, or a part of a long one.

    `entry_pts` is the last entry at or before the first frame; the first frame of all counts as one. `starts_scene`
    and `ends_scene` say at which ends a scene begins or ends. `end_pts` is the time of the frame after the last one, or
    where the last one stops showing. `changing_first` and `changing_last`: so many frames at its ends belong to a
    gradual change of scene (see `boundary.Boundary`).
    """

    scene_index: int
    first_index: int
    frames: Sequence[FrameMeasure]
    samples: Sequence[Sample]
    end_pts: int
    entry_pts: int
    starts_scene: bool
    ends_scene: bool
    changing_first: int = 0
    changing_last: int = 0

    @property
    def start_pts(self) -> int:
        return self.frames[0].pts


class TakeSplitter:
    """Feed frames, samples and boundaries as they come; get takes as soon as they are certain.

    Every frame lands in exactly one take. A scene that runs on is split while it runs: once it is twice `max_seconds`
    long, its first `max_seconds` go out, so no more than twice that and `HOLD_FRAMES` are held. Boundaries may come
    late, twice and out of order; one inside what went out already is void (only a black stretch longer than
    `max_seconds` can bring such a one).
    """

    def __init__(self, config: TakeConfig, time_base: Fraction):
        self._max_ticks = max(1, int(_exact(config.max_seconds) / time_base))
        self._frames: list[FrameMeasure] = []
        self._samples: list[Sample] = []
        self._boundaries: dict[int, Boundary] = {}
        self._changing_first = 0  # frames of the scene that began last
        self._first_index = 0
        self._scene_index = 0
        self._entry_pts: int | None = None
        self._starts_scene = True
        self._step_ticks = 1  # from the last frame but one to the last
        self._last_pts: int | None = None

    def feed(self, frame: FrameMeasure, sample: Sample | None, boundaries: Sequence[Boundary]) -> list[Take]:
        """Add the next frame, the sample that it completed, and the boundaries that were found with it."""
        if self._last_pts is not None:
            self._step_ticks = frame.pts - self._last_pts
        self._last_pts = frame.pts
        self._frames.append(frame)
        self._add(sample, boundaries)
        certain_index = self._first_index + len(self._frames) - 1 - HOLD_FRAMES
        takes: list[Take] = []
        while self._boundaries and min(self._boundaries) <= certain_index:
            takes += self._close_scene(min(self._boundaries))
        if not self._boundaries and certain_index > self._first_index:
            certain_ticks = self._frames[certain_index - self._first_index].pts - self._frames[0].pts
            if certain_ticks > 2 * self._max_ticks:
                takes.append(self._take(self._index_at(self._frames[0].pts + self._max_ticks)))
        return takes

    def flush(self, sample: Sample | None, boundaries: Sequence[Boundary]) -> list[Take]:
        """What is left after the last frame."""
        self._add(sample, boundaries)
        takes: list[Take] = []
        while self._boundaries:
            takes += self._close_scene(min(self._boundaries))
        if self._frames:
            takes += self._close_scene(self._first_index + len(self._frames))
        return takes

    def _add(self, sample: Sample | None, boundaries: Sequence[Boundary]) -> None:
        if sample is not None:
            self._samples = thinned([*self._samples, sample])
        end_index = self._first_index + len(self._frames)
        assert all(b.index < end_index for b in boundaries), "a boundary is a frame that was seen"
        self._boundaries |= {b.index: b for b in boundaries if b.index > self._first_index}

    def _close_scene(self, end_index: int) -> list[Take]:
        """The takes of the scene that ends before frame `end_index`: one, or equal parts of it."""
        boundary = self._boundaries.get(end_index, Boundary(end_index))
        self._boundaries = {index: b for index, b in self._boundaries.items() if index > end_index}
        start_pts, count = self._frames[0].pts, end_index - self._first_index
        ticks = self._end_pts(count) - start_pts
        parts = -(-ticks // self._max_ticks)
        part_of = [(frame.pts - start_pts) * parts // ticks for frame in self._frames[:count]] if parts > 1 else []
        splits = [i for i, (before, after) in enumerate(pairwise(part_of), self._first_index + 1) if after > before]
        takes = [*(self._take(i) for i in splits), self._take(end_index, boundary)]
        self._changing_first = boundary.after
        return takes

    def _index_at(self, pts: int) -> int:
        """The first frame at or after a time, always past the first frame."""
        return self._first_index + max(1, bisect_left(self._frames, pts, key=lambda frame: frame.pts))

    def _end_pts(self, count: int) -> int:
        """When the first `count` frames end. Where nothing says how long the very last one lasts: as the one before."""
        if count < len(self._frames):
            return self._frames[count].pts
        last = self._frames[-1]
        return last.pts + (last.duration or self._step_ticks)

    def _take(self, end_index: int, boundary: Boundary | None = None) -> Take:
        """The next take, up to a frame; where a scene ends there, the boundary says how."""
        count = end_index - self._first_index
        assert 0 < count <= len(self._frames)
        frames, end_pts = self._frames[:count], self._end_pts(count)
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
            boundary is not None,
            min(self._changing_first, count),
            min(boundary.before, count) if boundary else 0,
        )
        self._entry_pts = next((f.pts for f in reversed(frames) if f.is_entry), self._entry_pts)
        self._frames = self._frames[count:]
        self._samples = [s for s in self._samples if s.index >= end_index]
        self._first_index, self._starts_scene = end_index, boundary is not None
        self._changing_first = max(0, self._changing_first - count)
        self._scene_index += boundary is not None
        return take


def _exact(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(SECONDS_DENOMINATOR)


def thinned(samples: list[Sample]) -> list[Sample]:
    """The samples, with one picture let go if there are too many of them; the numbers all stay."""
    held = [sample.index for sample in samples if sample.picture is not None]
    if len(held) <= MAX_PICTURES:
        return samples
    _, crowded = min((after - before, index) for before, index, after in zip(held, held[1:], held[2:], strict=False))
    return [replace(s, picture=None) if s.index == crowded else s for s in samples]


def trimmed(take: Take, config: TakeConfig, time_base: Fraction) -> Take:
    """The take without the frames of gradual changes and the trimmed ends beside them, its start moved to a near
    keyframe where the settings ask for it.

    A take too short to be trimmed stays whole: it is left to the verdict on its length.
    """
    trim_ticks = _exact(config.trim_seconds) / time_base
    ends = [f.pts for f in take.frames[1:]] + [take.end_pts]
    if take.changing_first + take.changing_last >= len(take.frames):
        return take
    earliest = take.frames[take.changing_first].pts + (trim_ticks if take.starts_scene else 0)
    latest = ends[-1 - take.changing_last] - (trim_ticks if take.ends_scene else 0)
    first = bisect_left(take.frames, earliest, key=lambda frame: frame.pts)
    end = bisect_right(ends, latest)
    if first >= end:
        return take
    near = range(first, min(first + config.snap_frames + 1, end))
    first = next((i for i in near if take.frames[i].is_entry), first)
    entries = [f.pts for f in take.frames[: first + 1] if f.is_entry]
    return replace(
        take,
        first_index=take.first_index + first,
        frames=take.frames[first:end],
        samples=[s for s in take.samples if first <= s.index - take.first_index < end],
        end_pts=ends[end - 1],
        entry_pts=entries[-1] if entries else take.entry_pts,
        changing_first=0,
        changing_last=0,
    )
