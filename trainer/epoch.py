"""The plan of an epoch: which clips are in which pack, and in which step and slot each pack is read.

A plan is made once, from clips' shapes and a config alone, and never changed. It has a fixed number of slots a step,
whatever the number of processes: with 8 slots, one process reads all 8 of a step, four read 2 each. So the same packs
make the same step at any world size, and what a run has to remember is the plan's id and the next step.

The fate of every clip is told: at what size it is trained, or why it is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from trainer.geometry import Compression, FitConfig, Geometry, fit
from trainer.packing import PackConfig, plan_packs

__all__ = ["ClipShape", "Epoch", "EpochConfig", "Fate", "Place", "fates_of", "plan_epoch", "shard_of"]

Reason = Literal["too_short", "too_small", "too_long"]


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What of a clip decides its place: its row in the pinned version of the table, and the pixels that are shown."""

    row_id: int
    frames: int
    height: int
    width: int
    rate: Fraction


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


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a clip: its geometry, or why it is left out."""

    shape: ClipShape
    geometry: Geometry | None
    reason: Reason | None = None

    @property
    def frames_left_out(self) -> int:
        """At the clip's end."""
        return self.shape.frames - self.geometry.frames if self.geometry else self.shape.frames


@dataclass(frozen=True, slots=True)
class Place:
    """A clip in a step's slot."""

    step: int
    slot: int
    fate: Fate


@dataclass(frozen=True, slots=True)
class Epoch:
    """All packs of an epoch.

    packs      of each step, of each slot: numbers of fates
    repeated   how many packs of the last step are the first ones again, so that no slot is empty
    """

    config: EpochConfig
    fates: tuple[Fate, ...]
    packs: tuple[tuple[tuple[int, ...], ...], ...]
    repeated: int

    @property
    def steps(self) -> int:
        return len(self.packs)

    def pack(self, step: int, slot: int) -> list[Fate]:
        return [self.fates[number] for number in self.packs[step][slot]]

    @property
    def plan_id(self) -> str:
        """Hash of all that a plan is: another id, other packs."""
        digest = hashlib.sha256(repr((asdict(self.config), self.repeated)).encode())
        for fate in self.fates:
            digest.update(repr((fate.shape, fate.geometry, fate.reason)).encode())
        digest.update(repr(self.packs).encode())
        return digest.hexdigest()[:32]


def plan_epoch(shapes: Sequence[ClipShape], config: EpochConfig) -> Epoch:
    """A pure function of its arguments: neither the order of the shapes nor the number of processes matters.

    Raises ValueError where no clip can be trained on, with the reasons.
    """
    fates = tuple(fates_of(sorted(shapes, key=lambda shape: shape.row_id), config))
    random = np.random.Generator(np.random.Philox(key=[config.seed, config.epoch]))
    kept = [number for number, fate in enumerate(fates) if fate.geometry]
    if not kept:
        raise ValueError(f"no clip can be trained on: {_reasons(fates)}")
    order = [kept[i] for i in random.permutation(len(kept))]
    lengths = [geometry.tokens for number in order if (geometry := fates[number].geometry)]
    packs = [tuple(order[i] for i in pack) for pack in plan_packs(lengths, config.pack)]
    packs = [packs[i] for i in random.permutation(len(packs))]  # they come with the longest clips first
    repeated = -len(packs) % config.slots
    packs += [packs[i % len(packs)] for i in range(repeated)]
    steps = tuple(tuple(packs[i : i + config.slots]) for i in range(0, len(packs), config.slots))
    return Epoch(config, fates, steps, repeated)


def fates_of(shapes: Sequence[ClipShape], config: EpochConfig) -> Iterator[Fate]:
    """Of each clip, in order; which ones become pictures depends on the clip, the seed and the epoch alone."""
    for shape in shapes:
        frames = shape.frames
        if config.picture_share and _share(config.seed, config.epoch, shape.row_id) < config.picture_share:
            frames = 1
        whole = config.compression.whole_frames(frames)
        geometry = fit(frames, shape.height, shape.width, shape.rate, config.compression, config.fit) if whole else None
        if geometry:
            yield Fate(shape, geometry)
        elif not whole:
            yield Fate(shape, None, "too_short")
        elif min(shape.height, shape.width) < config.compression.unit_px:
            yield Fate(shape, None, "too_small")
        else:
            yield Fate(shape, None, "too_long")


def _share(*parts: int) -> float:
    """A number from 0 to 1 that only its parts decide."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _reasons(fates: Sequence[Fate]) -> str:
    reasons = sorted({fate.reason for fate in fates if fate.reason})
    counted = [f"{reason} {sum(fate.reason == reason for fate in fates)}" for reason in reasons]
    return ", ".join(counted) or "there are none"


def shard_of(slots: int, rank: int, world_size: int) -> range:
    """The slots that a process reads. Raises ValueError where they cannot be shared evenly."""
    if slots % world_size:
        raise ValueError(f"slots={slots}: must be a multiple of the world size, {world_size}")
    assert 0 <= rank < world_size
    return range(rank * slots // world_size, (rank + 1) * slots // world_size)
