"""Windows cover their clip exactly, and frames are looked at inside them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from captioner.windows import MAX_FRAMES, Window, WindowConfig, sample_times_s, windows_of

TICK_BASES = [(1, 24), (1, 1000), (1001, 24000), (1001, 30000), (1, 90000), (1, 12800), (1, 1), (3, 1), (7, 3)]


def clip_of(start: int, ticks: int, base: tuple[int, int]) -> dict[str, Any]:
    return {"start_pts": start, "end_pts": start + ticks, "time_base_num": base[0], "time_base_den": base[1]}


WINDOWS = [
    # ticks, time base, window_s → edges in ticks of the clip
    (1, (1, 1000), 16.0, [0, 1]),
    (1, (1, 24), 0.1, [0, 1]),
    (16_000, (1, 1000), 16.0, [0, 16_000]),
    (16_001, (1, 1000), 16.0, [0, 8000, 16_001]),
    (48_000, (1, 1000), 16.0, [0, 16_000, 32_000, 48_000]),
    (10, (1, 1000), 0.1, [0, 10]),
    (384, (1, 24), 16.0, [0, 384]),
    # A third of a second is no whole number of milliseconds, and 0.1 no sum of halves.
    (1000, (1, 1000), 1 / 3, [0, 250, 500, 750, 1000]),
    (300, (1, 1000), 0.1, [0, 100, 200, 300]),
    # 16 s are 383.6 ticks: two windows of 767 would be 383 and 384, and the second of these is too long.
    (767, (1001, 24000), 16.0, [0, 255, 511, 767]),
    # A tick is longer than a window may be: there is nothing shorter.
    (3, (3, 1), 1.0, [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("ticks", "base", "window_s", "edges"), WINDOWS)
def test_windows_are_equal_parts(ticks: int, base: tuple[int, int], window_s: float, edges: list[int]) -> None:
    windows = windows_of(clip_of(500, ticks, base), window_s)
    assert [window.start_pts - 500 for window in windows] == edges[:-1]
    assert [window.end_pts - 500 for window in windows] == edges[1:]
    assert [window.index for window in windows] == ([None] if len(windows) == 1 else list(range(len(windows))))


@given(
    start=st.integers(-(2**40), 2**40),
    ticks=st.integers(1, 5000),
    base=st.sampled_from(TICK_BASES),
    window_s=st.floats(0.1, 384.0),
)
@example(start=-7, ticks=1, base=(1, 90000), window_s=0.1)
def test_windows_cover_a_clip_exactly(start: int, ticks: int, base: tuple[int, int], window_s: float) -> None:
    windows = windows_of(clip_of(start, ticks, base), window_s)
    assert (windows[0].start_pts, windows[-1].end_pts) == (start, start + ticks)
    assert all(one.end_pts == other.start_pts for one, other in pairwise(windows))
    assert all(window.end_pts > window.start_pts for window in windows)
    tick_s = Fraction(*base)
    longest, shortest = (extreme(window.end_pts - window.start_pts for window in windows) for extreme in (max, min))
    assert longest - shortest <= 1
    assert longest == 1 or float(longest * tick_s) <= window_s + 1e-6
    for window in windows:
        assert window.start_s == pytest.approx(float((window.start_pts - start) * tick_s))
        assert window.end_s == pytest.approx(float((window.end_pts - start) * tick_s))


@given(start_s=st.floats(0, 1e5), length_s=st.floats(1e-5, 384), sample_fps=st.floats(0.01, 240))
@example(start_s=0.0, length_s=16.0, sample_fps=2.0)
@example(start_s=0.3, length_s=0.3, sample_fps=10.0)
def test_frames_are_looked_at_inside_the_window(start_s: float, length_s: float, sample_fps: float) -> None:
    window = Window(None, 0, 1, start_s, start_s + length_s)
    times_s = sample_times_s(window, sample_fps)
    assert len(times_s) >= 2
    assert len(times_s) <= max(2, length_s * sample_fps + 1e-3)
    assert times_s == sorted(times_s)
    assert window.start_s <= times_s[0]
    assert times_s[-1] <= window.end_s
    if len(times_s) > 2:
        assert times_s[1] - times_s[0] == pytest.approx(1 / sample_fps, rel=1e-4)
        # Nothing longer than a step is left out at the end.
        assert window.end_s - times_s[-1] <= 1.5 / sample_fps + 1e-3


def test_a_whole_window_has_all_its_frames() -> None:
    """Where floats would lose one: 0.7 * 10 is a little less than 7."""
    assert len(sample_times_s(Window(None, 0, 1, 0.0, 0.7), 10.0)) == 7
    assert sample_times_s(Window(None, 0, 1, 0.0, 2.0), 2.0) == [0.25, 0.75, 1.25, 1.75]
    assert sample_times_s(Window(1, 0, 1, 8.0, 8.5), 2.0) == [8.125, 8.375]


REFUSED = [
    ({"window_s": 0.0}, "window_s=0.0: must be"),
    ({"window_s": -1.0}, "window_s=-1.0: must be"),
    ({"window_s": nan}, "window_s=nan: must be"),
    ({"window_s": inf}, "window_s=inf: must be"),
    ({"window_s": 1e-9}, "window_s=1e-09: must be"),
    ({"sample_fps": 0.0}, "sample_fps=0.0: must be"),
    ({"sample_fps": nan}, "sample_fps=nan: must be"),
    ({"sample_fps": inf}, "sample_fps=inf: must be"),
    ({"sample_fps": 48.1}, "sample_fps=48.1: 768 frames a window are the most, with window_s=16.0 these are 770"),
    ({"frame_pixels": 783}, "frame_pixels=783: must be at least 784"),
    ({"window_pixels": 0}, "window_pixels=0: must be at least 784"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_impossible_windows_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"must be|the most") as raised:
        WindowConfig(**values)
    assert said in str(raised.value)


def test_the_most_that_is_allowed_goes() -> None:
    config = WindowConfig(window_s=384.0, sample_fps=2.0)
    (window,) = windows_of(clip_of(0, 384, (1, 1)), config.window_s)
    assert len(sample_times_s(window, config.sample_fps)) == MAX_FRAMES
