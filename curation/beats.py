"""Where frames repeat, and in which steady pattern: on lists of how much each frame differs from the one before.

A step is the root mean square change of luma in 8-bit levels, NaN where nobody can tell; `steps[i]` leads to frame i+1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import inf

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BEAT_HOLD",
    "CLEAR_HOLD",
    "STILL_S",
    "HoldRule",
    "beat_kinds",
    "is_pulldown",
    "on_beat",
    "pattern_of",
    "repeats",
]

# A still picture held for this long is a still; held for less, its frames repeat one another.
STILL_S = 1.0
# Less change from frame to frame than this is no motion that a repeat could be told from (RMS of 8-bit levels).
MIN_MOTION_LEVELS = 1.0
# Steps on both sides of a hold are no less than this share of any of so many that lie before, or after.
FULL_SHARE, FULL_REACH = 0.5, 4
# The longest period looked for (24 to 25 frames repeats one of 25), how often each place of it has been seen at least,
# how many frames there are at least, and how many of those at one place must agree.
MAX_PERIOD, MIN_CYCLES, MIN_STEADY_FRAMES, AGREEING = 30, 4, 16, 0.85

REPEATED, MOVING, MAYBE, UNKNOWN = 1, 0, 2, -1


@dataclass(frozen=True, slots=True)
class HoldRule:
    """A repeat changes at most this share of what the frames on both sides of the hold change by, and at most so much
    (RMS of 8-bit levels)."""

    share: float
    most_levels: float


CLEAR_HOLD = HoldRule(0.25, 1.5)
# Where repeats come at a steady beat, noise of a starved codec may be louder.
BEAT_HOLD = HoldRule(0.5, inf)


def repeats(steps: NDArray[np.float64], times_s: NDArray[np.float64], rule: HoldRule) -> NDArray[np.bool_]:
    """For each step whether it repeats the frame before, between two steps that move. `steps[i]` leads to frame i+1."""
    repeated = np.zeros(len(steps), bool)
    levels: list[float] = steps.tolist()
    start = 1
    while start < len(levels):
        before = levels[start - 1]
        most = min(rule.share * before, rule.most_levels)
        if not (before >= MIN_MOTION_LEVELS and levels[start] <= most):
            start += 1
            continue
        end = start
        while end < len(levels) and levels[end] <= most:
            end += 1
        is_short = end < len(levels) and times_s[end + 1] - times_s[start] < STILL_S
        if is_short and levels[end] >= max(MIN_MOTION_LEVELS, max(levels[start:end]) / rule.share):
            is_sudden = _is_full(levels[max(0, start - FULL_REACH) : start], before)
            repeated[start:end] = is_sudden and _is_full(levels[end : end + FULL_REACH], levels[end])
        start = end
    return repeated


def _is_full(levels: list[float], level: float) -> bool:
    """Whether motion stops or sets in at full speed, and does not just turn back as a shaking camera's does."""
    return not any(level < FULL_SHARE * other for other in levels)


def beat_kinds(steps: NDArray[np.float64], times_s: NDArray[np.float64], rule: HoldRule) -> NDArray[np.int8]:
    """For each step REPEATED or MOVING; MAYBE where motion around it is not seen to stop and to set in again, as beside
    a keyframe and at the clip's ends; UNKNOWN where nothing moves."""
    if not len(steps):
        return np.zeros(0, np.int8)
    moves = np.nan_to_num(steps).astype(np.float32)[None]
    most = cv2.dilate(moves, np.ones((1, 2 * FULL_REACH + 1), np.uint8))[0]
    kinds = np.where(steps > rule.share * most, MOVING, MAYBE)  # where there is no step, MAYBE
    kinds = np.where(most >= MIN_MOTION_LEVELS, kinds, UNKNOWN).astype(np.int8)
    kinds[repeats(steps, times_s, rule)] = REPEATED
    return kinds


def pattern_of(kinds: NDArray[np.int8]) -> str | None:
    """The shortest steady period of repeats, in words; None without one."""
    period = steady_period(kinds)
    if period is None:
        return None
    repeated = [kind == REPEATED for kind in phases_of(kinds, period)]
    fresh = [place for place, is_repeat in enumerate(repeated) if not is_repeat]
    lengths = [after - before for before, after in pairwise([*fresh, fresh[0] + period])]
    if len(lengths) == 1 and period < MAX_PERIOD:
        return f"{lengths[0]}:{lengths[0]}"
    return "2:3" if sorted(lengths) == [2, 3] else f"{sum(repeated)} of {period} repeated"


def steady_period(kinds: NDArray[np.int8]) -> int | None:
    repeated, moving = np.count_nonzero(kinds == REPEATED), np.count_nonzero(kinds == MOVING)
    if repeated + moving < MIN_STEADY_FRAMES or repeated < MIN_CYCLES:
        return None
    for period in range(2, min(MAX_PERIOD, len(kinds) // MIN_CYCLES) + 1):
        phases = phases_of(kinds, period)
        if UNKNOWN not in phases and REPEATED in phases and MOVING in phases:
            return period
    return None


def phases_of(kinds: NDArray[np.int8], period: int) -> list[int]:
    """What the frames at each place of a period agree on being, UNKNOWN where they do not or are too few."""
    place = np.arange(len(kinds)) % period
    repeated = np.bincount(place[kinds == REPEATED], minlength=period)
    seen = repeated + np.bincount(place[kinds == MOVING], minlength=period)
    share = repeated / np.maximum(seen, 1)
    phases = np.where(share >= AGREEING, REPEATED, np.where(share <= 1 - AGREEING, MOVING, UNKNOWN))
    return np.where(seen >= MIN_CYCLES, phases, UNKNOWN).tolist()


def is_pulldown(even: NDArray[np.int8], odd: NDArray[np.int8]) -> bool:
    """Whether each field repeats once in five frames, the two of them two frames apart."""
    phases = [phases_of(kinds, 5) for kinds in (even, odd)]
    if any(UNKNOWN in kinds or sum(kind == REPEATED for kind in kinds) != 1 for kinds in phases):
        return False
    places = [kinds.index(REPEATED) for kinds in phases]
    return (places[0] - places[1]) % 5 in (2, 3)


def on_beat(kinds: NDArray[np.int8]) -> NDArray[np.bool_]:
    """For each step whether it is, or may be, a repeat and has its place among those of a steady pattern."""
    period = steady_period(kinds)
    if period is None:
        return np.zeros(len(kinds), bool)
    is_due = np.array(phases_of(kinds, period))[np.arange(len(kinds)) % period] == REPEATED
    return is_due & ((kinds == REPEATED) | (kinds == MAYBE))
