"""Dissolves and wipes: pictures that are a mix of one from before and one from after. A state machine.

For three frames A, M, B at equal distances, M is a mix if the way from A to M and the way from M to B point the same
way, in the space of all cells. Frames of one moving scene do not: from one to the next the way turns. (Of three
pictures that have nothing to do with each other, the cosine of both ways is -1/2; of a smooth picture that moves, it
is high only while all three look alike.) Where both scenes move during the dissolve the cosine drops, but the contrast
of the mix still is what two pictures that have nothing to do with each other give: the variance of M is less than
theirs, by the share of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2, sqrt
from operator import mul

import numpy as np
from numpy.typing import NDArray

from curation.signature import LUMA_CELLS, dark_level
from curation.wipes import is_wipe

__all__ = ["MIX_BIAS", "MIX_WEIGHTS", "Mix", "MixFinder", "mix_features"]

# Every other frame is enough for what takes at least four.
STEP = 2
# Distances from A to M and from M to B that are tried, in steps: dissolves of up to about twice the longest.
HALVES = (1, 2, 3, 4, 6, 9, 13, 18, 24, 31)
HELD_STEPS = 2 * HALVES[-1] + 1
# A and B differ by at least 8 levels (root mean square).
MIN_CHANGE_SQUARED = 8.0**2 * LUMA_CELLS * 3 / 2
# Ways that turn by more are no mix, whatever the rest says; nor is M one that is nearly A or nearly B.
MIN_COSINE, MIN_SHARE = 0.1, 0.2
# Of a wipe, the way turns by a right angle: first one part of the picture changes, then the other.
MIN_WIPE_COSINE, MIN_WIPE_HALF = -0.25, 2
# A new scene changes most of the picture, beyond its brightness: so many cells by so many 8-bit levels.
MIN_CHANGED_CELLS, CHANGED_LEVELS = 0.5, 8.0
# So far before a mix is looked for a picture that is as near to the one after it as this share of the change.
BACK_STEPS, BACK_SHARE = 12, 0.5
# A mix is settled when none of the distances can better it any more.
WAIT_FRAMES = STEP * HALVES[-1] + 4
# Shares of the new picture at which a dissolve begins and ends: motion moves the share a little, too.
FIRST_SHARE, LAST_SHARE = 0.08, 0.92
# From a logistic regression, rounded, on dissolves of 4 to 60 frames between moving shots, filmed and painted, against
# the same shots alone; that set is not kept. `benchmarks.fit_dissolves` makes one like it. What it fits does better on
# its own held-out threes, but finds a dissolve in a film of one scene, where these find none: there is no telling from
# single threes what the most suspicious of a whole film looks like. So these stayed.
MIX_WEIGHTS = (3.0, -4.2, 6.7, -5.2, -1.7, -3.7)
MIX_BIAS = -0.5


@dataclass(frozen=True, slots=True)
class Mix:
    """A dissolve or a wipe: its first and last mixed frame, and the one that is half of each."""

    first: int
    middle: int
    last: int
    is_wipe: bool = False


@dataclass(slots=True)
class _Open:
    mix: Mix
    change: float
    since: int


class MixFinder:
    """Feed every frame's cells in order, their columns, and the latest cut before; get mixes that lie between cuts."""

    def __init__(self) -> None:
        self._cells = np.zeros((HELD_STEPS, LUMA_CELLS * 3 // 2), np.float32)
        self._products: list[list[float]] = [[]] * HELD_STEPS  # of each held step with all that were held then
        self._index, self._columns = -1, 1
        self._open: list[_Open] = []
        self._last_end = 0  # of the mixes that are settled

    def feed(self, cells: NDArray[np.uint8], columns: int, last_cut: int) -> list[Mix]:
        self._index += 1
        self._columns = columns
        if self._index % STEP == 0:
            step = self._index // STEP
            slot = step % HELD_STEPS
            np.subtract(cells, 128, out=self._cells[slot], dtype=np.float32)
            self._products[slot] = (self._cells @ self._cells[slot]).tolist()
            begin = max(last_cut, self._last_end)
            self._try_all(step, min(step, HELD_STEPS - 1, step - -(-begin // STEP)))
        return self._settle()

    def flush(self) -> list[Mix]:
        return self._settle(ends=True)

    def _try_all(self, step: int, reach: int) -> None:
        """Take the current frame for B; A is at most `reach` steps back."""
        slot = step % HELD_STEPS
        row = self._products[slot]
        bb = row[slot]
        for half in HALVES:
            if 2 * half > reach:
                return
            a, m = (step - 2 * half) % HELD_STEPS, (step - half) % HELD_STEPS
            aa, ab = self._products[a][a], row[a]
            dd = aa + bb - 2 * ab
            if dd < MIN_CHANGE_SQUARED:
                continue
            am, mm, mb = self._products[m][a], self._products[m][m], row[m]
            share = (mb - ab - am + aa) / dd
            if not MIN_SHARE < share < 1 - MIN_SHARE:
                continue
            uu, vv = aa + mm - 2 * am, mm + bb - 2 * mb
            cosine = (dd - uu - vv) / (2 * sqrt(max(uu, 1.0) * max(vv, 1.0)))
            if cosine > MIN_COSINE and self._is_news(step, half, dd * cosine):
                strength = mix_strength(self._cells[[a, m, slot], :LUMA_CELLS], share)
                if strength > 0:
                    self._note(self._extent(step, half), dd * cosine)
            elif cosine > MIN_WIPE_COSINE and half >= MIN_WIPE_HALF and self._is_news(step, half, dd):
                old, middle, new = self._cells[[a, m, slot], :LUMA_CELLS]
                if is_wipe(old, middle, new, self._columns):
                    self._note(replace(self._extent(step, half), is_wipe=True), dd)

    def _is_news(self, step: int, half: int, change: float) -> bool:
        """Whether no mix is known here that shows as much of the change."""
        middle = STEP * (step - half)
        return not any(o.change >= change and o.mix.first <= middle <= o.mix.last for o in self._open)

    def _note(self, mix: Mix, change: float) -> None:
        """Keep the mix, in place of others there, unless one of them shows more of the change."""
        there = [
            o for o in self._open if o.mix.first <= mix.middle <= o.mix.last or mix.first <= o.mix.middle <= mix.last
        ]
        if any(o.change >= change for o in there):
            return
        since = min((o.since for o in there), default=self._index)
        self._open = [o for o in self._open if o not in there] + [_Open(mix, change, since)]

    def _extent(self, step: int, half: int) -> Mix:
        steps = range(step - 2 * half, step + 1)
        slots = [s % HELD_STEPS for s in steps]
        a = self._cells[slots[0]]
        way = self._cells[slots[-1]] - a
        shares = (self._cells[slots] - a) @ way / float(way @ way)
        middle = int(np.argmin(np.abs(shares - 0.5)))
        before = [i for i in range(middle) if shares[i] <= FIRST_SHARE]
        after = [i for i in range(middle + 1, len(slots)) if shares[i] >= LAST_SHARE]
        first = before[-1] if before else 0
        last = after[0] if after else len(slots) - 1
        return Mix(STEP * (steps[first]) + 1, STEP * steps[middle], STEP * steps[last] - 1)

    def _settle(self, *, ends: bool = False) -> list[Mix]:
        done = [o for o in self._open if ends or self._index - o.since >= WAIT_FRAMES]
        self._open = [o for o in self._open if o not in done]
        self._last_end = max([self._last_end, *(o.mix.last + 1 for o in done)])
        return [o.mix for o in done if not self._is_back(o.mix)]

    def _is_back(self, mix: Mix) -> bool:
        """Whether the picture after a mix is what was there shortly before it: the light of an explosion goes out.

        Of what seems a wipe, whether any picture before it comes back: something large passed by.
        """
        oldest, newest = max(0, self._index // STEP - HELD_STEPS + 1), self._index // STEP
        first, after = mix.first // STEP, min(-(-mix.last // STEP) + 1, newest)
        if first < oldest:
            return False
        new = self._cells[after % HELD_STEPS]
        if mix.is_wipe:
            change = float(np.square(self._cells[first % HELD_STEPS] - new).sum())
            return self._least_way(range(oldest, first + 1), range(after, newest + 1)) < BACK_SHARE**2 * change
        earlier = [k % HELD_STEPS for k in range(max(oldest, first - BACK_STEPS), first)]
        distances = np.square(self._cells[[*earlier, first % HELD_STEPS]] - new).sum(axis=1)
        return bool(np.any(distances[:-1] < BACK_SHARE**2 * distances[-1]))

    def _least_way(self, earlier: range, later: range) -> float:
        """The least squared distance of a picture of some steps to one of others."""
        x, y = ([step % HELD_STEPS for step in steps] for steps in (earlier, later))
        lengths = [products[slot] for slot, products in enumerate(self._products) if slot < len(products)]
        return min(lengths[i] + lengths[j] - 2 * self._products[j][i] for i in x for j in y)


def mix_strength(luma: NDArray[np.float32], share: float) -> float:
    """Positive for a mix. `luma`: cells of A, M and B, less 128. Where nothing is lit, or too little changes, -1."""
    features = mix_features(luma, share)
    return -1.0 if features is None else sum(map(mul, MIX_WEIGHTS, features)) + MIX_BIAS


def mix_features(luma: NDArray[np.float32], share: float) -> tuple[float, ...] | None:
    """What tells mixes, in the order of `MIX_WEIGHTS`; None where nothing is lit, or too little changes.

    How straight the way from A over M to B is, how alike A and B are, how much of their contrast is gone in M, by how
    many bits that is too much and too little for a mix, and how far it is from half of each.
    """
    brightest = luma.max(axis=0)
    lit = brightest > dark_level(float(brightest.sum()) / LUMA_CELLS + 128) - 128
    count = np.count_nonzero(lit)
    if count < LUMA_CELLS // 50:
        return None
    cells = luma[:, lit]
    cells -= cells.sum(axis=1, keepdims=True) / count
    if np.count_nonzero(np.abs(cells[0] - cells[2]) > CHANGED_LEVELS) < MIN_CHANGED_CELLS * count:
        return None
    (aa, am, ab), (_, mm, mb), (_, _, bb) = (cells @ cells.T / count).tolist()
    aa, mm, bb = aa + 1, mm + 1, bb + 1  # a level's noise, so that no division is by nothing
    uu, vv = aa + mm - 2 * am, mm + bb - 2 * mb
    cosine = (aa + bb - 2 * ab - uu - vv) / (2 * sqrt(max(uu, 1.0) * max(vv, 1.0)))
    alike = max(0.0, ab / sqrt(aa * bb))
    dip = min(0.5, 1 - mm / ((aa + bb) / 2))  # no mix of two has less than half of their contrast
    expected = (1 - share) ** 2 * aa + share**2 * bb + 2 * share * (1 - share) * ab
    excess = log2(mm / (expected + 1))
    return cosine, alike, dip, max(excess, 0.0), max(-excess, 0.0), abs(share - 0.5)
