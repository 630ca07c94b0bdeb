"""Fades: stretches of one even colour between two pictures, black or any other. A state machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.signature import LUMA_CELLS, Signature, difference, is_same_picture

__all__ = ["Fade", "FadeFinder", "is_even"]

# Cells of an even picture vary by less than this (standard deviation in 8-bit levels), in luma and in colour, and no
# luma cell differs from another by more: a few words on black are a picture.
EVEN_SPREAD, EVEN_RANGE = 2.0, 12
# A fade goes on while each frame is farther from the even picture than the one nearer to it, by this share of its own
# distance: a fade of 48 frames steps by 2 %.
FADE_SHARE = 0.012
MAX_FADE_FRAMES = 48
# Its steps are about equal, or grow as it sets in: one that is so many times the last and more levels is a cut.
MAX_STEP_GROWTH, MAX_STEP_LEVELS = 3.0, 3.0
# A step of more than this share of the whole way is a cut: a fade has at least three.
CUT_SHARE = 0.6
# An even stretch longer than this is a scene of its own, with a boundary at each end.
MAX_EVEN_FRAMES = 96
# As is one that is entered and left by cuts and longer than this, or not quite even for as long: a night, and no fade.
# Between two cuts it may be shorter.
MAX_GAP_FRAMES, UNEVEN_SPREAD = 24, 0.6
# So many frames from the even picture to a whole one are still a cut: one in between is left by a conversion of rates.
MAX_CUT_FRAMES = 2
# After a blink of at most so many frames the same picture goes on: no boundary.
MAX_BLINK_FRAMES = 12
# From one even picture to the next, so many levels are a cut, if the first was there for longer than a gap.
MIN_EVEN_CHANGE = 8.0
# So many pictures from before are compared with the one after: the last may show the onset of a flash.
LOOK_BACK = 4


@dataclass(frozen=True, slots=True)
class Fade:
    """A change through an even picture: `first` to `last` show neither scene whole (none where last < first).

    `middle`: where the new scene begins, None where none does: the film begins or ends here, or the same picture is
    back soon.
    """

    first: int
    middle: int | None
    last: int


@dataclass(slots=True)
class _Stretch:
    """An even stretch from `start` on, `end` the first frame that is not even any more.

    `even`, `latest`: its first and its last picture. `fade_first`: where the fade to it began, None where the film
    begins with it. `whole`: some pictures before that.
    `least_spread`, `total`: of its frames' luma cells; noise is not in both the least spread and that of the sum.
    """

    even: Signature
    latest: Signature
    start: int
    fade_first: int | None
    whole: list[Signature]
    end: int | None = None
    is_scene: bool = False
    least_spread: float = EVEN_SPREAD
    total: NDArray[np.float32] = field(default_factory=lambda: np.zeros(LUMA_CELLS, np.float32))

    def add(self, now: Signature) -> None:
        self.latest = now
        self.least_spread = min(self.least_spread, now.spread)
        self.total += now.cells[:LUMA_CELLS]

    def is_night(self, frames: int) -> bool:
        """Whether it is not quite even, and not from noise."""
        return self.least_spread > UNEVEN_SPREAD and float(self.total.std()) / frames > UNEVEN_SPREAD


class FadeFinder:
    """Feed signatures in order; get fades when the picture after them is there in full.

    The gap between two scenes is even, lasts up to `MAX_EVEN_FRAMES`, and is faded to or from, or short. Anything else
    that is even is a scene of its own: a long one, a night, or a card that is cut to and from.
    """

    def __init__(self) -> None:
        self._index = -1
        self._before: deque[Signature] = deque(maxlen=MAX_FADE_FRAMES + 1)
        self._rise: list[Signature] = []
        self._stretch: _Stretch | None = None

    @property
    def open_since(self) -> int | None:
        """The first frame of what is not yet known to be a fade or not."""
        stretch = self._stretch
        if stretch is None:
            return None
        return stretch.start if stretch.fade_first is None else stretch.fade_first

    def feed(self, now: Signature) -> list[Fade]:
        self._index += 1
        even, fades = is_even(now), list[Fade]()
        if self._rise and (even or len(self._rise) > MAX_FADE_FRAMES or not self._rises(now)):
            fades += self._close()
        if self._stretch is not None:
            fades += self._go_on(now, even=even)
        elif even:
            self._open(now)
        else:
            self._before.append(now)
        return fades

    def flush(self) -> list[Fade]:
        if self._rise:
            return self._close()
        since = self.open_since
        return [] if since is None else [Fade(since, None, self._index)]

    def _open(self, now: Signature) -> None:
        before = list(self._before)
        fade = fade_length([difference(s, now) for s in reversed(before)])
        fade_first = self._index - fade if before else None
        whole = before[: len(before) - max(0, fade - 1)][-LOOK_BACK:]
        self._stretch = _Stretch(now, now, self._index, fade_first, whole)
        self._stretch.add(now)
        self._before.clear()

    def _go_on(self, now: Signature, *, even: bool) -> list[Fade]:
        stretch = self._stretch
        assert stretch is not None
        if not even:
            stretch.end = self._index if stretch.end is None else stretch.end
            self._rise.append(now)
        elif self._index - stretch.start > MAX_GAP_FRAMES and difference(stretch.latest, now) > MIN_EVEN_CHANGE:
            stretch.end = self._index
            fades = self._close()
            self._stretch = _Stretch(now, now, self._index, self._index, [stretch.latest])
            self._stretch.add(now)
            return fades
        elif not stretch.is_scene and self._is_scene(stretch, now):
            stretch.is_scene = True
            if stretch.fade_first is not None:
                fade = Fade(stretch.fade_first, stretch.start, stretch.start - 1)
                stretch.fade_first = stretch.start
                return [fade]
        return []

    def _is_scene(self, stretch: _Stretch, now: Signature) -> bool:
        frames = self._index - stretch.start
        stretch.add(now)
        return frames >= MAX_EVEN_FRAMES or (frames >= MAX_GAP_FRAMES and stretch.is_night(frames + 1))

    def _rises(self, now: Signature) -> bool:
        assert self._stretch is not None
        distances = [difference(s, self._stretch.even) for s in (*self._rise[-2:], now)]
        return fade_goes_on(distances)

    def _close(self) -> list[Fade]:
        stretch, rise = self._stretch, self._rise
        assert stretch is not None
        assert stretch.end is not None
        fade = fade_length([difference(s, stretch.even) for s in rise])
        # the last frame of a rise is whole
        last = stretch.end + max(0, min(fade, len(rise)) - 1) - 1 if fade else stretch.end - 1
        self._stretch, self._rise = None, []
        self._before.extend(rise[max(0, fade - 1) :])
        if stretch.is_scene:
            return [Fade(stretch.end, stretch.end, last)]
        if stretch.fade_first is None:
            return [Fade(stretch.start, None, last) if rise else Fade(stretch.end, stretch.end, last)]
        frames = stretch.end - stretch.start
        if frames <= MAX_BLINK_FRAMES and any(
            is_same_picture(s, rise[-1], difference(s, stretch.even)) for s in stretch.whole
        ):
            return [Fade(stretch.fade_first, None, last)]
        is_between_cuts = fade <= MAX_CUT_FRAMES and stretch.start - stretch.fade_first <= MAX_CUT_FRAMES
        if is_between_cuts and (frames > MAX_GAP_FRAMES or stretch.is_night(frames)):
            return [
                Fade(stretch.fade_first, stretch.start, stretch.start - 1),
                Fade(stretch.end, stretch.end, last),
            ]
        return [Fade(stretch.fade_first, (stretch.fade_first + last + 1) // 2, last)]


def is_even(signature: Signature) -> bool:
    if signature.spread >= EVEN_SPREAD:
        return False
    luma = signature.cells[:LUMA_CELLS]
    if int(luma.max()) - int(luma.min()) > EVEN_RANGE:
        return False
    blue, red = signature.cells[LUMA_CELLS:].reshape(2, -1)
    return all(float(cv2.meanStdDev(plane)[1][0, 0]) < EVEN_SPREAD for plane in (blue, red))


def fade_length(distances: Iterable[float]) -> int:
    """How many frames, walking away from an even picture, belong to the fade: none where it was a cut.

    The last of them, the farthest, shows its scene whole.
    """
    fade: list[float] = []
    for distance in distances:
        fade.append(distance)
        if not fade_goes_on(fade[-3:]):
            fade.pop()
            break
    return 0 if not fade or fade[0] > CUT_SHARE * fade[-1] else len(fade)


def fade_goes_on(distances: Sequence[float]) -> bool:
    """Whether the last frame belongs to a fade with the ones before, by their distances from the even picture."""
    if len(distances) < 2:
        return True
    *earlier, last, now = distances
    step = last - earlier[-1] if earlier else last
    return FADE_SHARE * last < now - last < MAX_STEP_GROWTH * step + MAX_STEP_LEVELS
