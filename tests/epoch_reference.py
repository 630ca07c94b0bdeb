"""An epoch planned clip by clip, in plain Python: what the plans of whole columns (`trainer.reading.plan_table`) are
held against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from trainer.epoch import EpochConfig, Reason, are_pictures, packs_in_order, reason_for
from trainer.geometry import Geometry, fit


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What of a clip decides its place: its row in the pinned version of the table, and the pixels that are shown."""

    row_id: int
    frames: int
    height: int
    width: int
    rate: Fraction


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
    lengths = np.array([fate.geometry.tokens if fate.geometry else 0 for fate in fates], np.int64)
    if not lengths.any():
        raise ValueError(f"no clip can be trained on: {_reasons(fates)}")
    packs, repeated = packs_in_order(lengths, config)
    steps = tuple(tuple(packs[i : i + config.slots]) for i in range(0, len(packs), config.slots))
    return Epoch(config, fates, steps, repeated)


def fates_of(shapes: Sequence[ClipShape], config: EpochConfig) -> Iterator[Fate]:
    """Of each clip, in order; which ones become pictures depends on the clip, the seed and the epoch alone."""
    pictures = are_pictures(np.array([shape.row_id for shape in shapes], np.uint64), config)
    for shape, is_picture in zip(shapes, pictures, strict=True):
        frames = 1 if is_picture else shape.frames
        whole = config.compression.whole_frames(frames)
        geometry = fit(frames, shape.height, shape.width, shape.rate, config.compression, config.fit) if whole else None
        reason = None if geometry else reason_for(frames, shape.height, shape.width, config.compression)
        yield Fate(shape, geometry, reason)


def _reasons(fates: Sequence[Fate]) -> str:
    reasons = sorted({fate.reason for fate in fates if fate.reason})
    counted = [f"{reason} {sum(fate.reason == reason for fate in fates)}" for reason in reasons]
    return ", ".join(counted) or "there are none"
