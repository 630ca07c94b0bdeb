"""Takes and trimming, with numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, cycle, islice, pairwise

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from curation.boundary import Boundary
from curation.measure import FrameMeasure, Sample
from curation.shots import DETECTOR_DELAY_FRAMES, MAX_MIN_SCENE_FRAMES
from curation.takes import HOLD_FRAMES, MAX_PICTURES, Take, TakeConfig, TakeSplitter, thinned, trimmed

MS = Fraction(1, 1000)
PIXEL = np.zeros((1, 1), np.uint8)


def frame(pts: int, duration: int = 0, *, is_entry: bool = False) -> FrameMeasure:
    return FrameMeasure(pts, duration, is_entry, False, 0.0, 0.0)


def sample(index: int) -> Sample:
    nothing = np.zeros(1, np.uint8)
    return Sample(index, 0, 0.0, nothing, nothing, nothing.astype(np.float32), (PIXEL, PIXEL, PIXEL))


@dataclass(frozen=True)
class Shoot:
    """A source in numbers.

    heard   frame at which the splitter is told → the boundaries that it is told
    """

    frames: tuple[FrameMeasure, ...]
    heard: dict[int, list[Boundary]]
    max_ticks: int

    @property
    def config(self) -> TakeConfig:
        return TakeConfig(max_seconds=self.max_ticks / 1000)

    @property
    def boundaries(self) -> set[int]:
        return {b.index for boundaries in self.heard.values() for b in boundaries}

    @property
    def end_pts(self) -> int:
        *before, last = self.frames
        return last.pts + (last.duration or (last.pts - before[-1].pts if before else 1))


@st.composite
def shoots(draw: st.DrawFn, latest: int) -> Shoot:
    """Rates that vary, gaps, entries anywhere, boundaries up to `latest` frames late and some of them twice."""
    count = draw(st.integers(1, 4 * HOLD_FRAMES))
    pattern = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6))
    steps = list(islice(cycle(pattern), count - 1))
    for at in draw(st.lists(st.integers(0, count), max_size=2)):
        steps[at : at + 1] = [5000] * (at < len(steps))
    pts = list(accumulate(steps, initial=draw(st.sampled_from([0, -40, 10**12]))))
    entry_every = draw(st.integers(1, 90))
    first_entry = draw(st.integers(0, 90))
    last_duration = draw(st.sampled_from([0, 40]))
    frames = [frame(p, is_entry=i >= first_entry and (i - first_entry) % entry_every == 0) for i, p in enumerate(pts)]
    frames[-1] = replace(frames[-1], duration=last_duration)
    heard: dict[int, list[Boundary]] = {}
    told = st.tuples(st.integers(0, count - 1), st.integers(0, latest), st.integers(1, 2))
    changing = st.tuples(st.integers(0, 30), st.integers(0, 30)) if draw(st.booleans()) else st.just((0, 0))
    for index, delay, times in draw(st.lists(told, max_size=8, unique_by=lambda each: each[0])):
        boundary = Boundary(index, *draw(changing))
        for more in range(times):
            heard.setdefault(min(index + delay + more, count - 1), []).append(boundary)
    return Shoot(tuple(frames), heard, max_ticks=draw(st.integers(1, 20_000)))


def takes_of(shoot: Shoot, samples: Sequence[int] = ()) -> list[Take]:
    splitter, last = TakeSplitter(shoot.config, MS), len(shoot.frames) - 1
    takes: list[Take] = []
    for index, each in enumerate(shoot.frames[:-1]):
        takes += splitter.feed(each, sample(index - 1) if index - 1 in samples else None, shoot.heard.get(index, []))
    takes += splitter.feed(shoot.frames[-1], sample(last - 1) if last - 1 in samples else None, [])
    takes += splitter.flush(sample(last) if last in samples else None, shoot.heard.get(last, []))
    return takes


def check_partition(shoot: Shoot, takes: list[Take]) -> None:
    """Every frame in exactly one take, in order; no time between takes; scenes numbered and marked alike."""
    assert [f for take in takes for f in take.frames] == list(shoot.frames)
    assert [take.first_index for take in takes] == list(
        accumulate((len(take.frames) for take in takes[:-1]), initial=0)
    )
    assert takes[0].starts_scene
    assert takes[-1].ends_scene
    assert takes[-1].end_pts == shoot.end_pts
    for before, after in pairwise(takes):
        assert before.end_pts == after.start_pts
        assert before.ends_scene == after.starts_scene
        assert after.scene_index == before.scene_index + before.ends_scene


@settings(deadline=None)
@given(shoots(latest=4 * HOLD_FRAMES))
def test_every_frame_lands_in_one_take_however_late_the_boundaries(shoot: Shoot) -> None:
    check_partition(shoot, takes_of(shoot))


@settings(deadline=None)
@given(shoots(latest=HOLD_FRAMES))
def test_boundaries_in_time_all_begin_a_scene_and_nothing_else_does(shoot: Shoot) -> None:
    takes = takes_of(shoot)
    check_partition(shoot, takes)
    assert {take.first_index for take in takes if take.starts_scene} == shoot.boundaries | {0}
    event(f"{len(takes) > takes[-1].scene_index + 1 = }")


@settings(deadline=None)
@given(shoots(latest=HOLD_FRAMES))
def test_no_take_is_longer_than_allowed_by_more_than_a_frame(shoot: Shoot) -> None:
    for take in takes_of(shoot):
        ends = [f.pts for f in take.frames[1:]] + [take.end_pts]
        longest = max(end - f.pts for f, end in zip(take.frames, ends, strict=True))
        assert take.end_pts - take.start_pts <= shoot.max_ticks + longest


@settings(deadline=None)
@given(shoots(latest=2 * HOLD_FRAMES))
def test_entry_is_the_last_one_at_or_before_the_first_frame(shoot: Shoot) -> None:
    for take in takes_of(shoot):
        entries = [f.pts for f in shoot.frames if f.is_entry and f.pts <= take.start_pts]
        assert take.entry_pts == (entries[-1] if entries else shoot.frames[0].pts)


@settings(deadline=None)
@given(shoots(latest=2 * HOLD_FRAMES), st.sets(st.integers(0, 4 * HOLD_FRAMES)))
def test_samples_stay_with_their_frames(shoot: Shoot, sampled: set[int]) -> None:
    takes = takes_of(shoot, samples=sorted(sampled))
    for take in takes:
        assert all(0 <= s.index - take.first_index < len(take.frames) for s in take.samples)
        assert sum(s.picture is not None for s in take.samples) <= MAX_PICTURES
    assert [s.index for take in takes for s in take.samples] == sorted(s for s in sampled if s < len(shoot.frames))


@settings(deadline=None)
@given(shoots(latest=0), st.data())
def test_stopping_early_changes_only_the_last_scene(shoot: Shoot, data: st.DataObject) -> None:
    stop = data.draw(st.integers(1, len(shoot.frames)))
    start = replace(shoot, frames=shoot.frames[:stop], heard={i: b for i, b in shoot.heard.items() if i < stop})
    takes = takes_of(start)
    check_partition(start, takes)
    done = [take for take in takes if take.scene_index < takes[-1].scene_index]
    assert takes_of(shoot)[: len(done)] == done


@pytest.mark.parametrize(
    ("seconds", "max_seconds", "frame_counts"),
    [
        (10, 60, [240]),
        (60, 60, [1440]),
        (61, 60, [732, 732]),
        (100, 60, [1200, 1200]),
        (119, 60, [1428, 1428]),
        (120, 60, [1440, 1440]),
        (121, 60, [968, 968, 968]),
        (150, 60, [1440, 1080, 1080]),  # while it runs the first minute goes out; the rest is split equally
        (300, 60, [1440, 1440, 1440, 1440, 1440]),
        (1, 0.3, [6, 6, 6, 6]),
        (3, 0.3, [7, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6]),  # 0.3 s are 7 whole ticks
    ],
)
def test_a_long_scene_gives_equal_parts(seconds: float, max_seconds: float, frame_counts: list[int]) -> None:
    splitter = TakeSplitter(TakeConfig(max_seconds=max_seconds), Fraction(1, 24))
    takes: list[Take] = []
    for pts in range(int(seconds * 24)):
        takes += splitter.feed(frame(pts, 1), None, [])
    takes += splitter.flush(None, [])
    assert [len(take.frames) for take in takes] == frame_counts


@pytest.mark.parametrize(("max_seconds", "ticks"), [(0.3, 300), (0.1, 100), (1.1, 1100), (1 / 3, 333)])
def test_seconds_are_exact_ticks(max_seconds: float, ticks: int) -> None:
    splitter = TakeSplitter(TakeConfig(max_seconds=max_seconds), MS)
    for pts in range(ticks):
        assert splitter.feed(frame(pts, 1), None, []) == []
    assert [len(take.frames) for take in splitter.flush(None, [])] == [ticks]


def test_memory_stays_flat_in_an_endless_take() -> None:
    splitter, given_out, most_held, most_pictures = TakeSplitter(TakeConfig(max_seconds=8), MS), 0, 0, 0
    for index in range(20_000):
        taken = splitter.feed(frame(index * 40, 40), sample(index - 1) if index % 3 == 1 else None, [])
        given_out += sum(len(take.frames) for take in taken)
        most_held = max(most_held, index + 1 - given_out)
        most_pictures = max(most_pictures, *(sum(s.picture is not None for s in t.samples) for t in taken), 0)
    assert given_out > 19_000
    assert most_held <= 2 * 8 * 25 + HOLD_FRAMES + 2
    assert 1 <= most_pictures <= MAX_PICTURES


@settings(deadline=None)
@given(st.integers(0, 500))
def test_pictures_are_thinned_evenly(count: int) -> None:
    samples: list[Sample] = []
    for index in range(count):
        samples = thinned([*samples, sample(index)])
    held = [s.index for s in samples if s.picture is not None]
    assert len(samples) == count
    assert len(held) == min(count, MAX_PICTURES)
    assert max(after - before for before, after in pairwise([-1, *held, count])) <= 2 * count / MAX_PICTURES + 1


@pytest.mark.parametrize(
    ("frames", "boundaries", "ends"),
    [
        ([frame(7, 5)], [], [12]),
        ([frame(7, 0)], [], [8]),  # nothing says how long it lasts
        ([frame(7, 0), frame(10, 0)], [], [13]),
        ([frame(7, 0), frame(10, 0)], [1], [10, 13]),
        ([frame(0, 9), frame(4, 9), frame(10, 2)], [], [12]),  # the next frame's time counts, not a claimed duration
        ([frame(-3, 1), frame(-2, 1)], [1], [-2, -1]),
        ([frame(0, 1), frame(1, 10**15)], [], [1 + 10**15]),  # a broken duration costs no time and no memory
    ],
)
def test_where_takes_end(frames: list[FrameMeasure], boundaries: list[int], ends: list[int]) -> None:
    splitter = TakeSplitter(TakeConfig(max_seconds=600), MS)
    early = [take for each in frames for take in splitter.feed(each, None, [])]
    assert [take.end_pts for take in [*early, *splitter.flush(None, [Boundary(b) for b in boundaries])]] == ends


def test_a_duration_out_of_all_proportion_makes_no_more_parts_than_frames() -> None:
    splitter = TakeSplitter(TakeConfig(max_seconds=0.001), MS)
    splitter.feed(frame(0), None, [])
    splitter.feed(frame(10**14, 10**15), None, [])
    assert [len(take.frames) for take in splitter.flush(None, [])] == [1, 1]


def test_takes_wait_for_the_slowest_boundary() -> None:
    assert HOLD_FRAMES >= 2 * MAX_MIN_SCENE_FRAMES + DETECTOR_DELAY_FRAMES


@settings(deadline=None)
@given(shoots(latest=HOLD_FRAMES))
def test_takes_know_which_of_their_frames_are_changing(shoot: Shoot) -> None:
    by_index = {b.index: b for boundaries in shoot.heard.values() for b in boundaries if b.index > 0}
    for take in takes_of(shoot):
        count, end = len(take.frames), take.first_index + len(take.frames)
        starts, ends = by_index.get(take.first_index), by_index.get(end)
        if take.starts_scene:
            assert take.changing_first == (min(starts.after, count) if starts else 0)
        assert take.changing_last == (min(ends.before, count) if ends and take.ends_scene else 0)


def take_of(
    pts: Sequence[int],
    end_pts: int,
    *,
    entries: Sequence[int] = (),
    is_part: bool = False,
    changing: tuple[int, int] = (0, 0),
) -> Take:
    frames = [frame(p, is_entry=p in entries) for p in pts]
    samples = [sample(100 + i) for i in range(0, len(pts), 2)]
    return Take(3, 100, frames, samples, end_pts, -7, not is_part, not is_part, *changing)


TENS = range(0, 100, 10)


@pytest.mark.parametrize(
    ("take", "config", "kept", "end", "entry"),
    [
        (take_of(TENS, 100), TakeConfig(), list(TENS), 100, -7),
        (take_of(TENS, 100), TakeConfig(trim_seconds=0.02), [20, 30, 40, 50, 60, 70], 80, -7),
        (take_of(TENS, 100), TakeConfig(trim_seconds=0.021), [30, 40, 50, 60], 70, -7),
        (take_of(TENS, 100), TakeConfig(trim_seconds=0.05), list(TENS), 100, -7),  # too short to be trimmed
        (take_of(TENS, 100), TakeConfig(trim_seconds=9), list(TENS), 100, -7),
        (take_of(TENS, 100, is_part=True), TakeConfig(trim_seconds=0.02), list(TENS), 100, -7),  # no scene ends here
        (take_of(TENS, 100, entries=[0, 40]), TakeConfig(trim_seconds=0.02), [20, 30, 40, 50, 60, 70], 80, 0),
        (take_of(TENS, 100, entries=[40]), TakeConfig(snap_frames=3), list(TENS), 100, -7),
        (take_of(TENS, 100, entries=[40]), TakeConfig(snap_frames=4), [40, 50, 60, 70, 80, 90], 100, 40),
        (take_of(TENS, 100, entries=[0, 40]), TakeConfig(snap_frames=4), list(TENS), 100, 0),
        (take_of(TENS, 100, entries=[90]), TakeConfig(snap_frames=99), [90], 100, 90),
        (take_of(TENS, 100, entries=[40]), TakeConfig(trim_seconds=0.02, snap_frames=2), [40, 50, 60, 70], 80, 40),
        (take_of(TENS, 100, entries=[80]), TakeConfig(trim_seconds=0.02, snap_frames=9), list(TENS)[2:8], 80, -7),
        (take_of([0, 1, 50], 60), TakeConfig(trim_seconds=0.01), [], 0, 0),
        (take_of([5], 6), TakeConfig(trim_seconds=1, snap_frames=3), [5], 6, -7),
        (take_of(TENS, 100, changing=(2, 1)), TakeConfig(), [20, 30, 40, 50, 60, 70, 80], 90, -7),
        (take_of(TENS, 100, changing=(0, 3)), TakeConfig(), [0, 10, 20, 30, 40, 50, 60], 70, -7),
        (take_of(TENS, 100, changing=(2, 1)), TakeConfig(trim_seconds=0.02), [40, 50, 60], 70, -7),
        (take_of(TENS, 100, changing=(2, 0), entries=[0, 40]), TakeConfig(snap_frames=2), list(TENS)[4:], 100, 40),
        (take_of(TENS, 100, changing=(6, 4)), TakeConfig(), list(TENS), 100, -7),  # nothing but change
        (take_of(TENS, 100, changing=(10, 10)), TakeConfig(), list(TENS), 100, -7),
    ],
)
def test_trim_and_snap(take: Take, config: TakeConfig, kept: list[int], end: int, entry: int) -> None:
    result = trimmed(take, config, MS)
    if not kept:  # no frame lies wholly inside: whole again
        assert result == take
        return
    assert [f.pts for f in result.frames] == kept
    assert (result.end_pts, result.entry_pts, result.start_pts) == (end, entry, kept[0])
    assert result.first_index == 100 + [f.pts for f in take.frames].index(kept[0])
    inside = range(result.first_index, result.first_index + len(kept))
    assert [s.index for s in result.samples] == [s.index for s in take.samples if s.index in inside]
    assert (result.scene_index, result.starts_scene, result.ends_scene) == (3, take.starts_scene, take.ends_scene)


@settings(deadline=None)
@given(shoots(latest=HOLD_FRAMES), st.integers(0, 500), st.integers(0, 40))
def test_trimming_keeps_whole_frames_and_accounts_for_the_rest(shoot: Shoot, trim_ms: int, snap_frames: int) -> None:
    config = TakeConfig(max_seconds=shoot.max_ticks / 1000, trim_seconds=trim_ms / 1000, snap_frames=snap_frames)
    kept_ticks = left_out_ticks = 0
    for take in takes_of(shoot):
        kept = trimmed(take, config, MS)
        offset = kept.first_index - take.first_index
        assert take.frames[offset : offset + len(kept.frames)] == kept.frames
        assert (
            offset + len(kept.frames) == len(take.frames) or kept.end_pts == take.frames[offset + len(kept.frames)].pts
        )
        if kept != take and take.starts_scene and not kept.frames[0].is_entry:
            changed_ms = take.frames[take.changing_first].pts - take.start_pts
            assert 0 <= kept.start_pts - take.start_pts - changed_ms - trim_ms < 5000
        entries = [f.pts for f in shoot.frames if f.is_entry and f.pts <= kept.start_pts]
        assert kept.entry_pts == (entries[-1] if entries else shoot.frames[0].pts)
        kept_ticks += kept.end_pts - kept.start_pts
        left_out_ticks += (kept.start_pts - take.start_pts) + (take.end_pts - kept.end_pts)
    assert kept_ticks + left_out_ticks == shoot.end_pts - shoot.frames[0].pts


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_seconds": 0.0}, "max_seconds=0.0: must be a positive number"),
        ({"max_seconds": -1.0}, "max_seconds=-1.0"),
        ({"max_seconds": float("nan")}, "max_seconds=nan"),
        ({"max_seconds": float("inf")}, "max_seconds=inf"),
        ({"trim_seconds": -0.1}, "trim_seconds=-0.1: must be a number, not negative"),
        ({"trim_seconds": float("nan")}, "trim_seconds=nan"),
        ({"trim_seconds": float("inf")}, "trim_seconds=inf"),
        ({"snap_frames": -1}, "snap_frames=-1: must not be negative"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TakeConfig(**fields)  # type: ignore[arg-type]
