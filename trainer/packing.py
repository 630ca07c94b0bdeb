"""Packs: several clips' tokens in one sequence of a fixed budget.

Which clips share a pack is decided from their lengths alone, the longest first, each into the fullest pack that has
room (best fit decreasing: where tokens are the only bound at most 11/9 of the least number of packs, and next to none
too many where there are short ones). The work of a pack is bounded, too: attention costs the sum of its clips' squared
lengths.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

__all__ = ["PackConfig", "padding_share", "plan_packs", "squares_bound"]


@dataclass(frozen=True, slots=True)
class PackConfig:
    """How clips are packed.

    Attributes:
        budget_tokens: Of one pack.
        max_squares: Bound on the sum of squared lengths of a pack; 0 for none.
        max_clips: Of one pack; 0 for no limit.
        window_clips: Clips that are looked at together. They are packed in the order of windows, so a shuffled list
            stays shuffled; packs that are not full wait for the next window, once.
        full_share: A pack that has at least this share of one of its bounds does not wait.
    """

    budget_tokens: int
    max_squares: int = 0
    max_clips: int = 0
    window_clips: int = 8192
    full_share: float = 0.99

    def __post_init__(self) -> None:
        for name in ("budget_tokens", "window_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("max_squares", "max_clips"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0")
        if not 0 < self.full_share <= 1:
            raise ValueError(f"full_share={self.full_share}: must be above 0 and at most 1")


Members = list[tuple[int, int]]
"""Length and number of each clip of a pack."""


def plan_packs(lengths: Sequence[int], config: PackConfig) -> Iterator[tuple[int, ...]]:
    """Packs of clip numbers, each clip in exactly one, in order of windows. A pure function of its arguments.

    Raises ValueError for a clip that is longer than the budget, or has no tokens, or whose square is above the bound.
    """
    waiting: Members = []
    for start in range(0, len(lengths), config.window_clips):
        window = [(lengths[i], i) for i in range(start, min(start + config.window_clips, len(lengths)))]
        for length, number in window:
            _refuse(length, number, config)
        is_last = start + config.window_clips >= len(lengths)
        packs = _best_fit(sorted(waiting, reverse=True) + sorted(window, reverse=True), config)
        waiting = []
        for members in packs:
            has_waited = min(number for _, number in members) < start
            if is_last or has_waited or _is_full(members, config):
                yield tuple(number for _, number in members)
            else:
                waiting += members


def squares_bound(lengths: Sequence[int], budget_tokens: int, factor: float) -> int:
    """A bound on a pack's squared lengths: `factor` times those of a full pack in the mean, and at least those of the
    longest clip; 0, which is none, for a factor of 0."""
    if not factor or not lengths:
        return 0
    full = sum(n * n for n in lengths) / sum(lengths) * budget_tokens
    return max(int(factor * full), max(lengths) ** 2)


def _refuse(length: int, number: int, config: PackConfig) -> None:
    if not 1 <= length <= config.budget_tokens:
        raise ValueError(f"clip {number}: length={length}: must be from 1 to budget_tokens={config.budget_tokens}")
    if config.max_squares and length * length > config.max_squares:
        raise ValueError(f"clip {number}: length={length}: its square is above max_squares={config.max_squares}")


def _is_full(members: Members, config: PackConfig) -> bool:
    tokens, squares = (sum(length**power for length, _ in members) for power in (1, 2))
    bounds = ((tokens, config.budget_tokens), (squares, config.max_squares), (len(members), config.max_clips))
    return any(bound and has >= config.full_share * bound for has, bound in bounds)


def _best_fit(clips: Members, config: PackConfig) -> list[Members]:
    """Clips, those that waited and then the longest first, each into the fullest open pack that can take it."""
    packs: list[Members] = []
    left: list[tuple[int, int]] = []  # tokens and squares that each pack has room for
    rooms: list[tuple[int, int]] = []  # the longest clip that each can still take, and which pack; least first
    for length, number in clips:
        at = bisect_left(rooms, (length, -1))
        if at < len(rooms):
            _, pack = rooms.pop(at)
        else:
            pack = len(packs)
            packs.append([])
            left.append((config.budget_tokens, config.max_squares or config.budget_tokens**2))
        packs[pack].append((length, number))
        tokens, squares = left[pack] = left[pack][0] - length, left[pack][1] - length * length
        room = min(tokens, isqrt(squares))
        if room and len(packs[pack]) != config.max_clips:
            insort(rooms, (room, pack))
    return packs


def padding_share(packs: Iterable[Sequence[int]], lengths: Sequence[int], budget_tokens: int) -> float:
    """The share of all packs' tokens that belong to no clip; 0 for no packs."""
    filled = total = 0
    for pack in packs:
        filled += sum(lengths[number] for number in pack)
        total += budget_tokens
    return 1 - filled / total if total else 0.0
