"""Cuts: frames from which on the picture is another one, told from motion, shaking and flashes. A state machine."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import log2

from curation.boundary import Boundary
from curation.signature import (
    LUMA_CELLS,
    Signature,
    difference,
    is_recolored,
    is_same_picture,
    likeness,
    unexplained,
)

__all__ = ["CutFinder"]

# Frames on each side of a cut that are compared with each other and across it.
SIDE = 3
# Frames less different than this are never cut apart, in 8-bit levels averaged over the picture: coding noise and text.
# In dark pictures less counts, a share of their brightness.
MIN_CHANGE, MIN_DARK_CHANGE, MIN_CHANGE_SHARE = 3.0, 2.0, 0.25
# A conversion of rates may leave up to so many frames at a cut that are a mix of both sides: each of the steps through
# them is at least this share of the whole way, and all together are hardly longer.
MAX_MIXED, MIN_MIXED_STEP, MAX_MIXED_WAY = 2, 0.15, 1.2
# Where the change stands out that much, they may also show something else, such as a flash.
SURE_RATIO = 3.0
# A jump is worth its closer look where it is at least this share of the motion around it.
MIN_RATIO = 0.65
# However much a jump stands out from the motion around it: light that is switched on does, too.
MAX_RATIO_BITS = 2.5
# Hardly any two pictures have less in common than this (`signature.unexplained`).
MAX_UNEXPLAINED = 0.75
# A change of colour alone is a light that was switched where the picture from before is back within so many frames, or
# was so many frames ago.
LIGHT_FRAMES = 48


@dataclass(frozen=True, slots=True)
class _Jump:
    """`strength`: of jumps near each other the strongest stays, and rather one without mixed frames."""

    boundary: Boundary
    strength: float
    change: float
    is_in_color_alone: bool = False

    @property
    def index(self) -> int:
        return self.boundary.index


class CutFinder:
    """Feed signatures in order; get cuts, `delay` frames after they happened.

    A cut is where all frames just before differ from all frames just after by more than either differ among
    themselves. That alone tells cuts from steady motion; for the doubtful ones it also counts how alike the two
    pictures are, and whether one can be found in the other by moving parts of it (`signature.unexplained`). Where it
    can, the colours may still be others (`signature.is_recolored`).
    """

    def __init__(self, min_scene_frames: int):
        self._reach = max(min_scene_frames - 1, SIDE)
        self._first = 0  # index of the oldest held
        self._held: deque[Signature] = deque(maxlen=2 * self._reach + 2 * SIDE + 2 * MAX_MIXED + 2 + LIGHT_FRAMES)
        self._steps: deque[float] = deque(maxlen=self._held.maxlen)  # difference to the frame before
        self._jumps: deque[_Jump] = deque()
        self._index = -1
        self._judged = 0  # the last frame that was judged
        self._last_cut = 0
        self._last_light = -LIGHT_FRAMES - 1  # the last frame at which a light was switched

    @property
    def delay(self) -> int:
        return SIDE - 1 + MAX_MIXED + self._reach

    def feed(self, now: Signature) -> list[Boundary]:
        self._index += 1
        self._steps.append(difference(self._held[-1], now) if self._held else 0.0)
        self._held.append(now)
        self._first = self._index - len(self._held) + 1
        judged = self._index - SIDE + 1 - MAX_MIXED
        if judged > 0:
            self._judge(judged)
        return self._settle()

    def flush(self) -> list[Boundary]:
        for index in range(max(1, self._judged + 1), self._index + 1):
            self._judge(index)
        return self._settle(ends=True)

    def _at(self, index: int) -> Signature:
        return self._held[index - self._first]

    def _step(self, index: int) -> float:
        return self._steps[index - self._first] if self._first <= index <= self._index else 0.0

    def _judge(self, index: int) -> None:
        """Whether a cut is at a frame, or begins there with up to `MAX_MIXED` frames that are a mix."""
        self._judged = index
        if self._step(index) < MIN_DARK_CHANGE * MIN_MIXED_STEP:
            return
        for mixed in range(min(MAX_MIXED, self._index - index) + 1):
            steps = [self._step(i) for i in range(index, index + mixed + 1)]
            is_peak = min(steps) >= self._step(index - 1) and min(steps) > self._step(index + mixed + 1)
            if is_peak and sum(steps) >= MIN_DARK_CHANGE and self._judge_gap(index, mixed, steps):
                return

    def _judge_gap(self, index: int, mixed: int, steps: list[float]) -> bool:
        way = difference(self._at(index - 1), self._at(index + mixed)) if mixed else steps[0]
        if mixed and min(steps) < MIN_MIXED_STEP * way:
            return False
        if way < MIN_RATIO * (1 + max(self._step(index - 1), self._step(index + mixed + 1))):
            return False
        before = range(max(self._first, index - SIDE), index)
        after = range(index + mixed, min(index + mixed + SIDE, self._index + 1))
        across = min(difference(self._at(a), self._at(b)) for a in before for b in after)
        within = max(
            (difference(self._at(a), self._at(b)) for side in (before, after) for a in side for b in side if a < b),
            default=0.0,
        )
        ratio = across / (within + 1)
        if mixed and ratio < SURE_RATIO and sum(steps) > MAX_MIXED_WAY * way:
            return False
        brightness = max(self._at(index - 1).mean, self._at(index + mixed).mean)
        if across < max(MIN_DARK_CHANGE, min(MIN_CHANGE, MIN_CHANGE_SHARE * brightness)) or ratio < MIN_RATIO:
            return False
        # Through the gap motion goes on, too: so many steps more than within a side.
        old, new, boundary = self._at(index - 1), self._at(index + mixed), Boundary(index, 0, mixed)
        strength = cut_strength(ratio / (1 + mixed), old, new)
        if strength > 0:
            self._jumps.append(_Jump(boundary, strength - mixed, across))
        elif ratio > SURE_RATIO and is_recolored(old, new):
            self._jumps.append(_Jump(boundary, 0.0, across, is_in_color_alone=True))
        else:
            return False
        return True

    def _settle(self, *, ends: bool = False) -> list[Boundary]:
        cuts = []
        while self._jumps and (ends or self._jumps[0].index + self._watch(self._jumps[0]) <= self._index):
            jump = self._jumps.popleft()
            back = self._back_at(jump)
            if jump.is_in_color_alone and (back is not None or jump.index - self._last_light <= LIGHT_FRAMES):
                self._last_light = jump.index if back is None else back
                continue
            if back is not None:
                while self._jumps and self._jumps[0].index <= back:
                    self._jumps.popleft()
                continue
            if any(j.index - jump.index < self._reach + 1 and j.strength > jump.strength for j in self._jumps):
                continue
            if self._last_cut and jump.index - self._last_cut <= self._reach:
                continue
            self._last_cut = jump.index
            cuts.append(jump.boundary)
        return cuts

    def _watch(self, jump: _Jump) -> int:
        """How many frames after a jump it is decided."""
        return self.delay + LIGHT_FRAMES * jump.is_in_color_alone

    def _back_at(self, jump: _Jump) -> int | None:
        """The frame soon after a jump that shows the picture from before it again."""
        before, reach = self._at(jump.index - 1), max(self._reach, LIGHT_FRAMES * jump.is_in_color_alone)
        for index in range(jump.index + 1, min(jump.index + reach, self._index) + 1):
            if is_same_picture(before, self._at(index), jump.change):
                return index
        return None


def cut_strength(ratio: float, before: Signature, after: Signature) -> float:
    """Positive for a cut. A bit of standing out counts as much as 0.2 of the texture being new, or 0.5 less likeness. A
    shaking camera (nothing stands out, 0.35 new, 0.4 alike) is well below 0, as is light that is switched on over an
    unmoved picture; a usual cut is at about 3."""
    alike = likeness(before.cells[:LUMA_CELLS], after.cells[:LUMA_CELLS])
    strength = min(log2(ratio), MAX_RATIO_BITS) + 2 * (0.35 - alike) - 0.5
    if strength + 5 * (MAX_UNEXPLAINED - 0.45) <= 0:
        return strength
    return strength + 5 * (unexplained(before.luma, after.luma) - 0.45)
