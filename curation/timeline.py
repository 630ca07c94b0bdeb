"""The times of a source's frames as they come: which carry on from one another, and when there are too many."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from curation.media import Limits
from curation.records import BadSource, SourceState

__all__ = ["MAX_STEP_BACK_S", "MAX_STRAYS", "MAX_TICKS", "Meter", "Timeline"]

# A decoder that reorders hands frames back late; a jump back of more than this is a broken or spliced timeline.
MAX_STEP_BACK_S = 1.0
# No picture is shown for longer than this: what claims to come later has a broken time.
MAX_STEP_AHEAD_S = 3600.0
# Times beyond these are broken, and in finer ticks they would not fit 64 bits. Microseconds since 1970 are within.
MAX_TICKS, MAX_TIME_S = 1 << 52, 1 << 36
# So many frames in a row that do not fit are damage; one more, and the rest is taken for another timeline or picture.
MAX_STRAYS = 16


class Timeline:
    """Feed the frames' times as they come; says which carry on from the one before, and when that is over."""

    def __init__(self, time_base: Fraction):
        self._back, self._ahead = (int(s / time_base) for s in (MAX_STEP_BACK_S, MAX_STEP_AHEAD_S))
        self._max_ticks = min(MAX_TICKS, int(MAX_TIME_S / time_base))
        self._last_pts: int | None = None
        self._pts_before_leap: int | None = None
        self._strays = 0
        self.retracts = False

    def admits(self, pts: int | None) -> bool:
        """Whether a frame of this time comes next: later than the last one, but not out of all proportion.

        `retracts` says whether the one before, which leapt ahead, should not have been: this one carries on from the
        one before it.
        """
        self.retracts = False
        if pts is None or abs(pts) > self._max_ticks:
            return False
        before, self._pts_before_leap = self._pts_before_leap, None
        if before is not None and self._last_pts is not None and before < pts < self._last_pts:
            self.retracts, self._last_pts = True, pts
            return True
        if self._last_pts is not None:
            step = pts - self._last_pts
            self._strays = 0 if -self._back <= step <= self._ahead else self._strays + 1
            if not 0 < step <= self._ahead:
                return False
            self._pts_before_leap = self._last_pts if step > self._back else None
        self._last_pts = pts
        return True

    @property
    def is_over(self) -> bool:
        """Whether too many in a row lay far off."""
        return self._strays > MAX_STRAYS


class Meter:
    """Counts time and frames, and raises BadSource `too_long` or `too_many_frames` where they are over the limits."""

    def __init__(self, limits: Limits, time_base: Fraction):
        self._limits, self._time_base = limits, time_base
        # Whole ticks, because this runs once a frame.
        self._max_ticks, self._second_ticks = int(limits.max_source_hours * 3600 / time_base), ceil(1 / time_base)
        self._first_pts: int | None = None
        self._second_began_pts = 0
        self._frames_in_second = 0
        self._ticks = 0

    def feed(self, pts: int) -> None:
        if self._first_pts is None:
            self._first_pts = self._second_began_pts = pts
        self._ticks = pts - self._first_pts
        if self._ticks > self._max_ticks:
            detail = f"it runs longer than max_source_hours={self._limits.max_source_hours}; split the file"
            raise BadSource(SourceState.REJECTED, "too_long", detail)
        if not 0 <= pts - self._second_began_pts < self._second_ticks:
            self._second_began_pts, self._frames_in_second = pts, 0
        self._frames_in_second += 1
        if self._frames_in_second > self._limits.max_rate_fps:
            limit = f"max_rate_fps={self._limits.max_rate_fps}"
            detail = f"over {limit} frames in a second, at {self.elapsed_s:.3f} s; lower its rate"
            raise BadSource(SourceState.REJECTED, "too_many_frames", detail)

    @property
    def elapsed_s(self) -> float:
        return float(self._ticks * self._time_base)
