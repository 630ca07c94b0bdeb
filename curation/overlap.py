"""Where in time two fingerprints show the same, and how surely: the decision about near-duplicates.

All offsets are tried at once: the products of every step of one with every step of the other, summed along diagonals.
Two things are asked of an offset. The pictures must agree (cosine between their terms, the mean brightness left out),
and so must what changes from picture to picture: of two takes from one tripod the pictures agree at every offset, their
changes at none. Where nothing changes in either there is nothing to tell apart but the picture, which must agree more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from curation.fingerprint import MIN_CONTRAST_LEVELS, SIDE_TERMS, STEP_S, Fingerprint

__all__ = ["Overlap", "is_near_duplicate", "overlap_of"]

# A film shown at 25 instead of 24 frames a second runs 4 % faster; 24000/1001 against 24 drifts 0.06 s a minute.
RATES = (1.0, 24 / 25, 25 / 24)
# Copies are sampled at other moments, so the second is also tried half a step later.
PHASES = (0.0, 0.5)
# Change is the difference over half a second: over less, slow motion drowns in the noise of low bit rates.
CHANGE_STEPS = 4
# Pictures count fully from this contrast on, the norm of their terms without the mean.
FULL_CONTRAST_LEVELS = 16.0
# Norm of the change of all terms, 8-bit levels, under which it may be noise of a starved encoder.
MIN_CHANGE_LEVELS = 2.0

# Of the shorter clip: less in common than this is no duplicate. Where nothing moves, nearly all must agree.
MIN_SHARE, MIN_SHARE_STILL = 0.5, 0.8
MIN_OVERLAP_S = 1.0
# With so much in common the rate is right; of clips that begin and end elsewhere the other rates are tried too.
FULL_SHARE = 0.9
MIN_LOOKS, MIN_LOOKS_STILL = 0.85, 0.97
# Change agrees by chance the better the shorter the overlap, so that a second needs 0.8 and four need 0.61.
MIN_CHANGE, MIN_CHANGE_SECONDS = 0.55, 0.25
# Change that agrees so well is of the same take, though a logo and a subtitle make the pictures differ.
SURE_CHANGE, MIN_LOOKS_SURE = 0.93, 0.7
# Where nothing moves, no block may be off by more than a quarter of the spread: so much takes the looks to the least.
SPOT_WEIGHT = (1 - MIN_LOOKS_STILL) / 0.25
CHANGE_WEIGHT = 0.5
# Pictures and change that agree so little at the best offset are no copies at any rate or phase: looks of 0.7 with no
# change to ask for have 0.97.
HOPELESS_SCORE = 0.8
# Overlays cover at most this share of the picture; they are left out in so many rounds.
OVERLAY_SHARE, OVERLAY_ROUNDS = 0.25, 3
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Overlap:
    """`other` runs `rate` times as fast and its start lies `offset_s` after the first's, in the first's time.

    `looks`: mean cosine of the pictures over the overlap, 1 for the same. `change`: cosine of all change over the
    overlap. `is_moving`: whether there is so much change that it must agree; what little there is else may be noise.
    `overlap_s`: how long both show what can be recognised.
    """

    looks: float
    change: float
    is_moving: bool
    overlap_s: float
    offset_s: float
    rate: float = 1.0

    @property
    def score(self) -> float:
        """What the best offset has most of."""
        return self.looks + CHANGE_WEIGHT * (self.change if self.is_moving else max(self.change, MIN_CHANGE))

    @property
    def distance(self) -> float:
        """0 for the same, around 1 for unrelated: how far looks and change are from agreeing, whichever is further."""
        return max(0.0, 1 - self.looks, (1 - self.change) / 2 if self.is_moving else 0.0)


def is_near_duplicate(found: Overlap, shorter_s: float) -> bool:
    """Whether two clips, the shorter of which lasts `shorter_s`, show the same take."""
    least_s = max(MIN_SHARE * shorter_s, min(MIN_OVERLAP_S, MIN_SHARE_STILL * shorter_s))
    if found.overlap_s >= least_s and found.change >= _least_change(found.overlap_s):
        return found.looks >= (MIN_LOOKS_SURE if found.change >= SURE_CHANGE else MIN_LOOKS)
    is_still = not found.is_moving and found.overlap_s >= MIN_SHARE_STILL * shorter_s
    return is_still and found.looks >= MIN_LOOKS_STILL


def _least_change(overlap_s: float) -> float:
    return MIN_CHANGE + MIN_CHANGE_SECONDS / max(overlap_s, MIN_OVERLAP_S)


def overlap_of(first: Fingerprint, other: Fingerprint, rates: tuple[float, ...] = RATES) -> Overlap | None:
    """The best overlap of two fingerprints over their tracks, rates and offsets. None if nothing can be compared.

    Rates after the first are tried only for those that do not agree without but may.
    """
    shorter_s = min(first.duration_s, other.duration_s)
    levels = [[f.levels(track) for track in range(len(f.tracks))] for f in (first, other)]
    best: Overlap | None = None
    for rate in rates:
        for one, two in product(*levels):
            for found in _overlaps(one, two, rate):
                if best is None or found.score > best.score:
                    best = found
        is_found = best is not None and is_near_duplicate(best, shorter_s) and best.overlap_s >= FULL_SHARE * shorter_s
        if best is None or is_found or best.score < HOPELESS_SCORE:
            return best
    return best


def _overlaps(first: Floats, other: Floats, rate: float) -> Iterator[Overlap]:
    step_s = float(STEP_S)
    for phase in PHASES:
        shown = _shown_at(other, rate, phase)
        if shown is not None and (found := _best_offset(first, shown)) is not None:
            looks, change, is_moving, steps, offset = found
            if looks < MIN_LOOKS and change >= SURE_CHANGE:
                looks = max(looks, _looks_without_overlays(first, shown, offset))
            if not is_moving and looks >= MIN_LOOKS_STILL:
                looks = min(looks, 1 - SPOT_WEIGHT * _other_spot(first, shown, offset))
            overlap = Overlap(looks, change, is_moving, steps * step_s, (offset - phase / rate) * step_s, rate)
            yield overlap
            if overlap.score < HOPELESS_SCORE:
                return


def _shown_at(terms: Floats, rate: float, phase: float) -> Floats | None:
    """Terms at steps of the first's time: `phase` steps in, then `rate` steps apart; between two steps interpolated."""
    if rate == 1 and phase == 0:
        return terms
    at = phase + rate * np.arange(len(terms) / rate)
    at = at[at <= len(terms) - 1]
    if not len(at):
        return None
    before = np.minimum(at.astype(np.intp), max(0, len(terms) - 2))
    share = (at - before).astype(np.float32)[:, None]
    return (1 - share) * terms[before] + share * terms[np.minimum(before + 1, len(terms) - 1)]


def _best_offset(first: Floats, other: Floats) -> tuple[float, float, bool, int, int] | None:
    """Looks, change, whether they move, steps in common and offset in steps, where the two agree most."""
    a, b = _unit(first), _unit(other)
    shorter = min(len(a), len(b))
    weight_a, weight_b = (np.linalg.norm(unit, axis=1) for unit in (a, b))
    shared = _along_diagonals(np.outer(weight_a > 0, weight_b > 0).astype(np.float32))
    looks = _along_diagonals(a @ b.T) / np.maximum(_along_diagonals(np.outer(weight_a, weight_b)), 1e-6)
    change, is_moving = _change_along_diagonals(first, other)
    least = min(MIN_OVERLAP_S / float(STEP_S), MIN_SHARE_STILL * shorter)
    # A stretch where nothing moves says nothing of clips that move elsewhere.
    may_be_short = is_moving | (change >= SURE_CHANGE)
    usable = shared >= np.where(may_be_short, max(1, least), max(1, MIN_SHARE_STILL * shorter))
    if not usable.any():
        return None
    # Where all look the same, the longest overlap is taken.
    asked = np.where(is_moving, change, np.maximum(change, MIN_CHANGE))
    score = looks + CHANGE_WEIGHT * asked + 0.02 * shared / shorter
    best = int(np.argmax(np.where(usable, score, -np.inf)))
    return float(looks[best]), float(change[best]), bool(is_moving[best]), int(shared[best]), best - len(b) + 1


def _looks_without_overlays(first: Floats, other: Floats, offset: int) -> float:
    """Correlation between the mean pictures of the overlap, without the blocks that differ most: a logo or a subtitle
    stands in a few, and what is left agrees up to brightness and contrast."""
    a, b = _mean_blocks(first, other, offset)
    for _ in range(OVERLAY_ROUNDS):
        if min(np.ptp(a), np.ptp(b)) < MIN_CONTRAST_LEVELS:
            return 0.0
        slope, level = np.polyfit(a, b, 1)
        misfit = np.abs(b - slope * a - level)
        kept = misfit <= np.quantile(misfit, 1 - OVERLAY_SHARE / OVERLAY_ROUNDS)
        a, b = a[kept], b[kept]
    return float(np.corrcoef(a, b)[0, 1]) if min(np.ptp(a), np.ptp(b)) > MIN_CONTRAST_LEVELS else 0.0


def _other_spot(first: Floats, other: Floats, offset: int) -> float:
    """How far the block that agrees least is off, up to brightness and contrast, as a share of the picture's spread:
    what stands still elsewhere in another take of the same place."""
    a, b = _mean_blocks(first, other, offset)
    if min(np.ptp(a), np.ptp(b)) < MIN_CONTRAST_LEVELS:
        return 1.0
    slope, level = np.polyfit(a, b, 1)
    return float(np.abs(b - slope * a - level).max() / b.std())


def _mean_blocks(first: Floats, other: Floats, offset: int) -> tuple[Floats, Floats]:
    """The mean pictures of both over the overlap, as levels of blocks."""
    begin, end = max(0, offset), min(len(first), len(other) + offset)
    mine, theirs = first[begin:end], other[begin - offset : end - offset]
    return mine.mean(axis=0) @ BLOCKS, theirs.mean(axis=0) @ BLOCKS


def _unit(terms: Floats) -> Floats:
    """Signed roots of the terms without the mean, so that the strongest few do not decide alone; each row of norm 1,
    less where the picture is faint, as in a fade, and 0 where it shows nothing."""
    seen = terms[:, 1:]
    looks = np.sign(seen) * np.sqrt(np.abs(seen))
    contrast = np.linalg.norm(seen, axis=1, keepdims=True)
    weight = np.where(contrast >= MIN_CONTRAST_LEVELS, np.minimum(contrast / FULL_CONTRAST_LEVELS, 1), 0)
    return weight * looks / np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6)


def _change_along_diagonals(first: Floats, other: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """For every offset the cosine between all change of one and of the other over the overlap, and whether there is
    much of it in either."""
    n, m = len(first), len(other)
    cosine, is_moving = np.zeros(n + m - 1, np.float32), np.zeros(n + m - 1, np.bool_)
    if min(n, m) <= CHANGE_STEPS:
        return cosine, is_moving
    a, b = (terms[CHANGE_STEPS:] - terms[:-CHANGE_STEPS] for terms in (first, other))
    together = _along_diagonals(a @ b.T)
    energy_a, count = _along_diagonals_of_rows((a * a).sum(axis=1), len(b))
    energy_b = _along_diagonals_of_rows((b * b).sum(axis=1), len(a))[0][::-1]
    inner = slice(CHANGE_STEPS, n + m - 1 - CHANGE_STEPS)
    cosine[inner] = together / np.sqrt(np.maximum(energy_a * energy_b, 1e-6))
    is_moving[inner] = np.maximum(energy_a, energy_b) >= count * MIN_CHANGE_LEVELS**2
    return cosine, is_moving


def _along_diagonals(products: Floats) -> Floats:
    """Sums of an (n, m) matrix along its n + m - 1 diagonals, by the row's index less the column's, from -(m - 1) to
    n - 1."""
    n, m = products.shape
    sheared = np.zeros((n, n + m), np.float32)
    sheared[:, :m] = products[:, ::-1]
    return sheared.ravel()[: n * (n + m - 1)].reshape(n, n + m - 1).sum(axis=0)


def _along_diagonals_of_rows(values: Floats, m: int) -> tuple[Floats, Floats]:
    """The same of a matrix with (n) `values` in each of its m columns, and how many there are on each diagonal."""
    n = len(values)
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    offset = np.arange(-(m - 1), n)
    begin, end = np.maximum(offset, 0), np.minimum(offset + m, n)
    return (total[end] - total[begin]).astype(np.float32), (end - begin).astype(np.float32)


def _blocks() -> Floats:
    """Weights (64, 64) from cosine terms to the levels of the 8 by 8 blocks of the picture that they make up."""
    order, at = np.arange(SIDE_TERMS)[:, None], (np.arange(SIDE_TERMS) + 0.5)[None, :] / SIDE_TERMS
    side = np.where(order == 0, 1, np.sqrt(2)) * np.cos(np.pi * order * at)
    return np.kron(side, side).astype(np.float32)


BLOCKS = _blocks()
