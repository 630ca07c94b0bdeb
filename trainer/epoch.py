"""The plan of an epoch: which clips are in which pack, and in which step and slot each pack is read.

A plan is made once, from clips' shapes and a config alone, and never changed. It has a fixed number of slots a step,
whatever the number of processes: with 8 slots, one process reads all 8 of a step, four read 2 each. So the same packs
make the same step at any world size, and what a run has to remember is the plan's id and the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainer.geometry import Compression, FitConfig
from trainer.packing import PackConfig, plan_packs

__all__ = [
    "EpochConfig",
    "Reason",
    "are_pictures",
    "packs_in_order",
    "reason_for",
    "shard_of",
]

Reason = Literal["too_short", "too_small", "too_long"]


@dataclass(frozen=True, slots=True)
class EpochConfig:
    """How an epoch is planned.

    Attributes:
        seed: Of the order of clips and packs; each epoch has an order of its own.
        epoch: From 0 on.
        slots: Packs of a step; a number that many world sizes divide.
        picture_share: Of clips, how many are read as one frame, an image; which ones is drawn anew in each epoch.
    """

    fit: FitConfig
    pack: PackConfig
    compression: Compression
    seed: int = 0
    epoch: int = 0
    slots: int = 8
    picture_share: float = 0.0

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots={self.slots}: must be at least 1")
        for name in ("seed", "epoch"):
            if not 0 <= getattr(self, name) < 2**63:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 on and below 2^63")
        if not 0 <= self.picture_share <= 1:
            raise ValueError(f"picture_share={self.picture_share}: must be from 0 to 1")
        if self.fit.max_tokens > self.pack.budget_tokens:
            most = self.pack.budget_tokens
            raise ValueError(f"max_tokens={self.fit.max_tokens}: a clip must fit into a pack, budget_tokens={most}")
        if self.pack.max_squares and self.fit.max_tokens**2 > self.pack.max_squares:
            raise ValueError(f"max_squares={self.pack.max_squares}: must have room for a clip of max_tokens, squared")


def packs_in_order(lengths: NDArray[np.int64], config: EpochConfig) -> tuple[list[tuple[int, ...]], int]:
    """The packs of an epoch as they are read, slot by slot, step by step, and how many at the end are the first ones
    again. Clips are numbered in the order of their rows; those of length 0 are left out."""
    random = np.random.Generator(np.random.Philox(key=[config.seed, config.epoch]))
    order = random.permutation(np.flatnonzero(lengths))
    numbers: list[int] = order.tolist()
    packs = [tuple(numbers[i] for i in pack) for pack in plan_packs(lengths[order].tolist(), config.pack)]
    packs = [packs[i] for i in random.permutation(len(packs))]  # they come with the longest clips first
    repeated = -len(packs) % config.slots
    return packs + [packs[i % len(packs)] for i in range(repeated)], repeated


def reason_for(frames: int, height: int, width: int, compression: Compression) -> Reason:
    """Why a clip fits no geometry."""
    if not compression.whole_frames(frames):
        return "too_short"
    return "too_small" if min(height, width) < compression.unit_px else "too_long"


def are_pictures(row_ids: NDArray[np.uint64], config: EpochConfig) -> NDArray[np.bool_]:
    """Which clips an epoch reads as one frame: each by a number from 0 to 1 that its row, the seed and the epoch alone
    decide (the finaliser of SplitMix64, over the row's number and a word of the seed and the epoch)."""
    if not config.picture_share:
        return np.zeros(len(row_ids), bool)
    word = np.random.SeedSequence([config.seed, config.epoch]).generate_state(1, np.uint64)
    mixed = (row_ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ word
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) * 2.0**-53 < config.picture_share


def shard_of(slots: int, rank: int, world_size: int) -> range:
    """The slots that a process reads. Raises ValueError where they cannot be shared evenly."""
    if slots % world_size:
        raise ValueError(f"slots={slots}: must be a multiple of the world size, {world_size}")
    assert 0 <= rank < world_size
    return range(rank * slots // world_size, (rank + 1) * slots // world_size)
