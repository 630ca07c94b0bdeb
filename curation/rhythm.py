"""Scores of a clip's rhythm: repeated frames and their pattern, held stills, flashes. Made of `steps.Step`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import nan
from statistics import median

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.beats import BEAT_HOLD, CLEAR_HOLD, STILL_S, beat_kinds, is_pulldown, on_beat, pattern_of, repeats
from curation.measure import FrameMeasure, Sample
from curation.measured import Measured, Score
from curation.steps import Step

__all__ = ["RHYTHM_SCORES"]

# A picture with less spread of luma is plain: nobody can tell whether it is repeated (8-bit levels).
MIN_SPREAD_LEVELS = 1.0
# A still picture changes by no more than this from frame to frame, and by less most of the time (RMS of 8-bit levels).
# At keyframes a starved codec's picture jumps by up to the third value. No block strays further from its beginning than
# the fourth (as `scores.is_still`).
STILL_STEP_LEVELS, STILL_MEDIAN_LEVELS, KEYFRAME_JUMP_LEVELS, STILL_BLOCK_LEVELS = 1.0, 0.3, 4.0, 6.0
# After a cut a starved codec's picture takes up to so long to become what it is.
SETTLING_S = 1
# A flash is a pair of opposing changes of relative luminance by a tenth or more: WCAG 2.2, "general flash and red flash
# thresholds", and ITU-R BT.1702. Ours: slower changes than this are fades, not flashes, and what is not back
# after a second has not flashed.
FLASH_CHANGE, MIN_FLASH_PER_S, MAX_FLASH_S = 0.1, 1.0, 1.0


def repeated_frames_share(clip: Measured) -> float | None:
    """Share of frames that show the picture of the frame before again, exactly or up to the codec's noise, 0 to 1.

    Counted only between frames that move: the picture changes, holds for less than a second, and changes again, each
    time by four times as much as within the hold or more; by twice as much where the holds keep a steady beat. So
    drawings on twos count, and conversions of the frame rate, stalled captures; a pause of all motion, which sets in
    and ends gradually, does not, nor does a still. What an encoder left out altogether is no frame and does not count.
    None where the clip is one frame long.
    """
    steps, times_s = _luma_steps(clip), _times_s(clip)
    if not len(steps):
        return None
    repeated = repeats(steps, times_s, CLEAR_HOLD)
    repeated |= on_beat(beat_kinds(steps, times_s, BEAT_HOLD))
    return float(np.count_nonzero(repeated)) / len(clip.frames)


def telecine(clip: Measured) -> str | None:
    """The pattern in which frames or fields repeat, where it is a steady one.

    `2:2`, `3:3`: every picture is shown for two or three frames (25 made 50 a second, drawings on twos). `2:3`: two and
    three in turn, in frames (24 made 60 a second) or in fields (24 made 29.97, where two of five frames are combed).
    `1 of 5 repeated` and the like: any other period of up to 30 frames (24 made 30; `1 of 25`: 24 made 25). None where
    there is none, where the clip hardly moves, or where it is too short to be sure: four periods.
    """
    times_s = _times_s(clip)
    even, odd = _field_steps(clip)
    if is_pulldown(beat_kinds(even, times_s, BEAT_HOLD), beat_kinds(odd, times_s, BEAT_HOLD)):
        return "2:3"
    steps = _luma_steps(clip)
    # A long period is seen only a few times, and then not even a loud codec may look like a repeat elsewhere.
    kinds = (beat_kinds(steps, times_s, hold) for hold in (BEAT_HOLD, CLEAR_HOLD))
    return next(filter(None, map(pattern_of, kinds)), None)


def slideshow_share(clip: Measured) -> float | None:
    """Share of the clip's time in which a still picture is held for a second or more, 0 to 1.

    A held picture changes by the codec's noise alone: mostly under a third of a level from frame to frame, never over
    one but at keyframes, and, once settled, not in any block of 16 by 16 pixels. Cuts, dissolves,
    pans and zooms between or over the stills are no part of it. A live scene is none though the camera stands: its
    noise shows, or somebody in it moves. A clip that is one still from end to end has 1. A single frame that is shown
    so long counts as well. None where the clip is one frame of unknown length.
    """
    times_s = _times_s(clip)
    if times_s[-1] <= 0:
        return None
    held_s = float(sum(times_s[end] - times_s[first] for first, end in holds(clip, times_s)))
    return min(1.0, held_s / float(times_s[-1]))


def flashes_per_s(clip: Measured) -> float | None:
    """Flashes a second, from 0: most of the picture becomes brighter or darker by a tenth of full luminance, and back.

    General flashes of WCAG 2.2 and ITU-R BT.1702 (a pair of opposing changes of relative luminance of 0.1 or more, the
    darker below 0.8), on at least half of the picture instead of a quarter of it, so that pans and cuts of small parts
    are none; both changes sudden, within a second. Over 3 in any second is what both call unsafe; this is the mean over
    the clip. None where the clip is one frame long.
    """
    times_s = _times_s(clip)
    if len(clip.frames) < 2:
        return None
    luminance = [step.luminance if step else 0.0 for step in _steps(clip)]
    flashes, first = 0, None
    for began_s, sign in luminance_jumps(luminance, times_s):
        if first is not None and sign != first[1] and began_s - first[0] <= MAX_FLASH_S:
            flashes, first = flashes + 1, None
        else:
            first = began_s, sign
    return flashes / float(times_s[-1])


def _steps(clip: Measured) -> list[Step | None]:
    """Of every frame but the first, whose step leads here from another scene."""
    return [frame.step for frame in clip.frames[1:]]


def _luma_steps(clip: Measured) -> NDArray[np.float64]:
    """NaN where nobody can tell motion from none: on plain pictures, and where a keyframe may make a still jump."""
    return np.array([_luma_step(frame, before) for before, frame in pairwise(clip.frames)], np.float64)


def _luma_step(frame: FrameMeasure, before: FrameMeasure) -> float:
    if frame.step is None or frame.luma_spread < MIN_SPREAD_LEVELS or _jumps_at_keyframe(frame, before):
        return nan
    return frame.step.luma_levels


def _jumps_at_keyframe(frame: FrameMeasure, before: FrameMeasure) -> bool:
    """Where all frames are keyframes, none is coded otherwise than the one before."""
    assert frame.step is not None
    return frame.is_entry and not before.is_entry and frame.step.luma_levels <= KEYFRAME_JUMP_LEVELS


def _field_steps(clip: Measured) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of even and odd rows, from where they were measured on; empty where they never were."""
    steps = [step for step in _steps(clip) if step is not None and step.even_levels is not None]
    even, odd = [step.even_levels for step in steps], [step.odd_levels for step in steps]
    return np.array(even, np.float64), np.array(odd, np.float64)


def _times_s(clip: Measured) -> NDArray[np.float64]:
    """When each frame begins, and when the last one ends (lasting as the one before, where nothing is said)."""
    ticks = [frame.pts for frame in clip.frames]
    last = clip.frames[-1].duration or (ticks[-1] - ticks[-2] if len(ticks) > 1 else 0)
    return (np.array([*ticks, ticks[-1] + last]) - ticks[0]) * float(clip.time_base)


def holds(clip: Measured, times_s: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Frames, from and to, in which a still is held for `STILL_S` or more, each hold half-open."""
    still = [_may_be_still(frame, before) for before, frame in pairwise(clip.frames)]
    edges = [0, *(i for i, may_be in enumerate(still, 1) if not may_be), len(clip.frames)]
    long = [(first, end) for first, end in pairwise(edges) if times_s[end] - times_s[first] >= STILL_S]
    return [(first, end) for first, end in long if _keeps_still(clip, first, end)]


def _may_be_still(frame: FrameMeasure, before: FrameMeasure) -> bool:
    step = frame.step
    return step is not None and (step.luma_levels <= STILL_STEP_LEVELS or _jumps_at_keyframe(frame, before))


def _keeps_still(clip: Measured, first: int, end: int) -> bool:
    """Whether no noise is seen, and no block of the picture drifts, as it does in slow pans, zooms and fades."""
    steps = [frame.step.luma_levels for frame in clip.frames[first + 1 : end] if frame.step]
    if steps and median(steps) > STILL_MEDIAN_LEVELS:
        return False
    first_index = clip.end_index - len(clip.frames)
    held = [s for s in clip.samples if first <= s.index - first_index < end]
    settled = [s for s in held if (s.pts - clip.frames[first].pts) * clip.time_base >= SETTLING_S]
    return _same_blocks(held) or (len(settled) > 1 and _same_blocks(settled))


def _same_blocks(samples: list[Sample]) -> bool:
    blocks = [sample.blocks for sample in samples]
    return len(blocks) < 2 or bool(np.ptp(np.stack(blocks), axis=0).max() <= STILL_BLOCK_LEVELS)


def luminance_jumps(changes: Sequence[float], times_s: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Sudden changes of a tenth or more: when each began, and its sign. `changes[i]` leads to frame i+1."""
    jumps: list[tuple[float, int]] = []
    total, began_s, is_counted = 0.0, 0.0, False
    for change, before_s, now_s in zip(changes, times_s.tolist(), times_s[1:].tolist(), strict=False):
        if abs(change) < MIN_FLASH_PER_S * (now_s - before_s) or change == 0.0:
            continue
        if total * change <= 0 or now_s - began_s > MAX_FLASH_S:
            total, began_s, is_counted = 0.0, now_s, False
        total += change
        if abs(total) >= FLASH_CHANGE and not is_counted:
            jumps.append((began_s, 1 if total > 0 else -1))
            is_counted = True
    return jumps


RHYTHM_SCORES: tuple[Score, ...] = (
    Score(
        "repeated_frames_share",
        pa.float64(),
        "share of frames that repeat the one before amid motion, 0 to 1",
        repeated_frames_share,
    ),
    Score("telecine", pa.string(), "steady pattern of repeated frames or fields, as 2:3", telecine),
    Score("slideshow_share", pa.float64(), "share of time in which a still is held for 1 s, 0 to 1", slideshow_share),
    Score("flashes_per_s", pa.float64(), "flashes of most of the picture a second, from 0", flashes_per_s),
)
