"""Cuts, dissolves and fades of one film, put together: every change of scene is one boundary."""

from __future__ import annotations

from collections import deque

from curation.boundary import Boundary, Look
from curation.cuts import CutFinder
from curation.fades import Fade, FadeFinder
from curation.mixes import Mix, MixFinder
from curation.signature import signature_of

__all__ = ["CombinedDetector"]


class CombinedDetector:
    """A `boundary.BoundaryDetector`: cuts by `CutFinder`, dissolves by `MixFinder`, fades by `FadeFinder`.

    A fade takes in all cuts and mixes that touch it. A dissolve is void where a cut lies in it. Boundaries are at
    least `min_scene_frames` from each other: the one that was certain first stays.
    """

    def __init__(self, min_scene_frames: int):
        self._min_frames = min_scene_frames
        self._cuts, self._fades, self._mixes = CutFinder(min_scene_frames), FadeFinder(), MixFinder()
        self._waiting_cuts: list[Boundary] = []
        self._waiting_mixes: list[Mix] = []
        self._past_fades: deque[Fade] = deque(maxlen=16)
        self._given: deque[int] = deque(maxlen=64)
        self._last_cut = 0

    def feed(self, look: Look) -> list[Boundary]:
        now = signature_of(look.picture)
        fades = self._fades.feed(now)
        cuts = self._cuts.feed(now)
        self._last_cut = cuts[-1].index + cuts[-1].after if cuts else self._last_cut
        mixes = self._mixes.feed(now.cells, now.columns, self._last_cut)
        return self._put_together(fades, cuts, mixes, self._fades.open_since)

    def flush(self) -> list[Boundary]:
        return self._put_together(self._fades.flush(), self._cuts.flush(), self._mixes.flush(), None)

    def _put_together(
        self, fades: list[Fade], cuts: list[Boundary], mixes: list[Mix], open_since: int | None
    ) -> list[Boundary]:
        self._past_fades.extend(fades)
        self._waiting_cuts += cuts
        self._waiting_mixes += mixes
        given: list[Boundary] = []
        for fade in fades:
            if fade.middle is not None:
                given += self._give(Boundary(fade.middle, fade.middle - fade.first, fade.last + 1 - fade.middle))
        for cut in self._ripe_cuts(open_since):
            given += self._give(cut)
        for mix in self._ripe_mixes(open_since):
            given += self._give(Boundary(mix.middle, mix.middle - mix.first, mix.last + 1 - mix.middle))
        return given

    def _ripe_cuts(self, open_since: int | None) -> list[Boundary]:
        ripe = [c for c in self._waiting_cuts if open_since is None or c.index < open_since]
        self._waiting_cuts = [c for c in self._waiting_cuts if c not in ripe]
        return [c for c in ripe if not any(f.first <= c.index <= f.last + 1 for f in self._past_fades)]

    def _ripe_mixes(self, open_since: int | None) -> list[Mix]:
        ripe = [m for m in self._waiting_mixes if open_since is None or m.last < open_since]
        self._waiting_mixes = [m for m in self._waiting_mixes if m not in ripe]
        ripe = [m for m in ripe if not any(f.first <= m.last + 1 and m.first <= f.last + 1 for f in self._past_fades)]
        return [m for m in ripe if not any(m.first <= b <= m.last + 1 for b in self._given)]

    def _give(self, boundary: Boundary) -> list[Boundary]:
        if any(abs(boundary.index - given) < self._min_frames for given in self._given):
            return []
        self._given.append(boundary.index)
        return [boundary]
