"""The exact frame rate of a stream, or the knowledge that it has none."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

__all__ = ["RateMeter"]

COMMON_RATES = tuple(
    [Fraction(n) for n in (5, 8, 10, 12, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)]
    + [Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120, 240)]
    + [Fraction(25, 2), Fraction(15, 2)]
)


# A claim this near to a common rate means that one: headers hold 29.97, or an average over a rounded duration. Half of
# what lies between 30 and 30000/1001.
CLAIM_TOLERANCE = 0.0005


class RateMeter:
    """Feed presentation times in order. A rate holds if every frame i lies less than a tick from `first + i / rate`.

    So much is allowed because containers round (Matroska to milliseconds); where frames are whole ticks apart nothing
    rounds, and one dropped frame makes the rate vary. Candidates are the rates that the container claims and the common
    ones; memory is one number each.
    """

    def __init__(self, time_base: Fraction, declared: Iterable[Fraction | None]):
        claims = [rate for rate in declared if rate is not None and rate > 0]
        meant = [rate for claim in claims for rate in COMMON_RATES if abs(rate / claim - 1) < CLAIM_TOLERANCE]
        self._preferred = (*meant, *claims)
        # Ticks a frame as numerator and denominator: integers, because this runs once a frame.
        rates = (*self._preferred, *COMMON_RATES)
        self._ticks_a_frame = {rate: (1 / (rate * time_base)).as_integer_ratio() for rate in rates}
        self._first_pts = 0
        self._last_pts = 0
        self._frames = 0
        self._time_base = time_base

    def feed(self, pts: int) -> None:
        if self._frames == 0:
            self._first_pts = pts
        elapsed = pts - self._first_pts
        broken = [
            rate
            for rate, (ticks, over) in self._ticks_a_frame.items()
            if abs(elapsed * over - self._frames * ticks) >= over
        ]
        for rate in broken:
            del self._ticks_a_frame[rate]
        self._last_pts = pts
        self._frames += 1

    @property
    def exact(self) -> Fraction | None:
        """Frames a second, None where the rate varies or two frames were not seen.

        Where a short stream fits several: what the container claims, else the common rate nearest to the average.
        """
        average_fps = self.average_fps
        if average_fps is None:
            return None
        claimed = next((rate for rate in self._preferred if rate in self._ticks_a_frame), None)
        return claimed or min(self._ticks_a_frame, key=lambda rate: abs(float(rate) - average_fps), default=None)

    @property
    def average_fps(self) -> float | None:
        """Mean frames a second between the first and the last frame, None where two frames were not seen."""
        if self._frames < 2:
            return None
        return (self._frames - 1) / float((self._last_pts - self._first_pts) * self._time_base)
