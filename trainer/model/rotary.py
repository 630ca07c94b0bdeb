"""Rotary positions over time, rows and columns that mean the same at every size, length and rate.

Time is in seconds and space in tokens, both from the clip's middle: a clip at twice the rate has its tokens half as far
apart, and a larger one goes on where a smaller one ends. What turns so slowly that it has not come full circle within a
clip of the largest trained extent has never been seen further round; beyond that extent it is slowed down, to stay
within what was seen, while what turns fast, and tells neighbours apart, stays as it is ("NTK by parts", arXiv
2309.00071, section 3.2).

L tokens, A angles (half the width of a head), H heads, K width of a head
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from einops import rearrange
from torch import Tensor

from trainer.geometry import Geometry

__all__ = ["RotaryConfig", "angles", "apply_rotary", "positions"]

SLOW_TURNS, FAST_TURNS = 1.0, 4.0  # turns within the trained extent: below, slowed wholly; above, not at all


@dataclass(frozen=True, slots=True)
class RotaryConfig:
    """Positions of a model.

    Attributes:
        trained_seconds: Longest clip that it is trained on; longer ones are slowed down.
        trained_tokens: Most tokens along a side that it is trained on.
        tokens_per_s: What one second counts in time, in units of neighbouring tokens.
        period: The slowest angle turns once in 2π times so many tokens.
    """

    trained_seconds: float = 10.0
    trained_tokens: int = 64
    tokens_per_s: float = 6.0
    period: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("trained_seconds", "trained_tokens", "tokens_per_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        if not self.period > 1:
            raise ValueError(f"period={self.period}: must be above 1")


def positions(geometry: Geometry, config: RotaryConfig) -> Tensor:
    """float32[L, 3]: time, row, column of each token of a clip, from its middle, in the order (t, h, w)."""
    time, rows, columns = geometry.grid
    c = geometry.compression
    step = c.ratio_time * c.patch_time / float(geometry.rate) * config.tokens_per_s
    axes = (_centred(time) * step, _centred(rows), _centred(columns))
    return rearrange(torch.stack(torch.meshgrid(*axes, indexing="ij")), "a t h w -> (t h w) a")


def _centred(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float32) - (count - 1) / 2


def angles(positions_L3: Tensor, geometry: Geometry, head_width: int, config: RotaryConfig) -> Tensor:
    """float32[L, A]: how far each pair of a head's numbers is turned. A quarter of the pairs is time's, rows and
    columns share the rest."""
    shares = _pairs(head_width // 2)
    extents = (geometry.seconds * config.tokens_per_s, *map(float, geometry.grid[1:]))
    trained = (config.trained_seconds * config.tokens_per_s, *[float(config.trained_tokens)] * 2)
    parts = [
        positions_L3[:, axis, None] * _speeds(pairs, extent, limit, config.period)
        for axis, (pairs, extent, limit) in enumerate(zip(shares, extents, trained, strict=True))
    ]
    return torch.cat(parts, dim=-1)


def _pairs(count: int) -> tuple[int, int, int]:
    space = (count - count // 4) // 2
    return count - 2 * space, space, space


def _speeds(pairs: int, extent: float, trained: float, period: float) -> Tensor:
    """Radians a token, for each pair of an axis."""
    speeds = period ** -(torch.arange(pairs, dtype=torch.float32) / max(pairs, 1))
    if extent <= trained:
        return speeds
    turns = speeds * trained / (2 * pi)
    kept = ((turns - SLOW_TURNS) / (FAST_TURNS - SLOW_TURNS)).clamp(0, 1)
    return speeds * (kept + (1 - kept) * trained / extent)


def apply_rotary(x_LHK: Tensor, cos_LA: Tensor, sin_LA: Tensor) -> Tensor:
    """Turn each pair (i, i + K/2) of each head by its token's angle. Computed in the angles' float32, or better; given
    back as it came."""
    a, b = x_LHK.chunk(2, dim=-1)
    cos, sin = cos_LA[:, None], sin_LA[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x_LHK.dtype)
