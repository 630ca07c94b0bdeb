"""All that training draws by chance, from a counter: the same for a sample of a step's slot on any machine, in any
order.

Nothing is drawn from a generator that goes on from step to step, so there is no state to save, and a run that is
resumed, or goes on with another number of processes, draws what it would have drawn.

T latent frames, C channels, H latent rows, W latent columns
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainer.geometry import Geometry

__all__ = ["Key", "MaskConfig", "draw_mask", "draw_noise", "draw_normal", "draw_share"]

Mask = Literal["none", "first_frame", "last_frames", "both_ends", "random_frames"]


@dataclass(frozen=True, slots=True)
class Key:
    """Which sample of a run."""

    seed: int
    step: int
    slot: int
    sample: int

    def seed_for(self, purpose: str) -> int:
        """63 bits that this key and this purpose alone decide; those of two purposes have nothing to do with each
        other."""
        digest = hashlib.blake2b(repr((self.seed, self.step, self.slot, self.sample, purpose)).encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") >> 1


def draw_share(key: Key, purpose: str) -> float:
    """From 0 to 1, evenly."""
    return float(np.random.Generator(np.random.Philox(key.seed_for(purpose))).random())


def draw_normal(key: Key, purpose: str) -> float:
    """From the standard normal distribution: what a time is made of."""
    return float(np.random.Generator(np.random.Philox(key.seed_for(purpose))).standard_normal())


def draw_noise(key: Key, geometry: Geometry, channels: int) -> Tensor:
    """float32[C, T, H, W], on the CPU, so that it is the same whatever the device."""
    generator = torch.Generator().manual_seed(key.seed_for("noise"))
    return torch.randn(channels, *geometry.latent_size, generator=generator)


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """Which latent frames of a clip are given. A picture has none that could be.

    Attributes:
        known_share: Of clips that have known frames.
        first_frame, last_frames, both_ends, random_frames: How often each kind is drawn, to the others.
    """

    known_share: float = 0.5
    first_frame: float = 0.5
    last_frames: float = 0.15
    both_ends: float = 0.2
    random_frames: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.known_share <= 1:
            raise ValueError(f"known_share={self.known_share}: must be from 0 to 1")
        for name in ("first_frame", "last_frames", "both_ends", "random_frames"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 on and finite")
        if self.known_share and not sum(self.weights()):
            raise ValueError(f"known_share={self.known_share}: needs a kind that is drawn more often than never")

    def weights(self) -> tuple[float, float, float, float]:
        return self.first_frame, self.last_frames, self.both_ends, self.random_frames


def draw_mask(key: Key, geometry: Geometry, config: MaskConfig) -> tuple[Mask, Tensor]:
    """Its kind, and bool[T]: what is given. There is always something left to make, and patches of time are not
    divided."""
    random = np.random.Generator(np.random.Philox(key.seed_for("mask")))
    slices = geometry.grid[0]
    known = np.zeros(slices, bool)
    kind: Mask = "none"
    if slices > 1 and random.random() < config.known_share:
        kinds: tuple[Mask, ...] = ("first_frame", "last_frames", "both_ends", "random_frames")
        weights = np.array(config.weights()) / sum(config.weights())
        kind = kinds[int(random.choice(4, p=weights))]
        if kind == "both_ends" and slices == 2:
            kind = "first_frame"  # both would be all
        match kind:
            case "first_frame":
                known[0] = True
            case "last_frames":
                known[-int(random.integers(1, slices)) :] = True
            case "both_ends":
                known[[0, -1]] = True
            case _:
                known[random.choice(slices, int(random.integers(1, slices)), replace=False)] = True
    return kind, torch.from_numpy(known).repeat_interleave(geometry.compression.patch_time)
