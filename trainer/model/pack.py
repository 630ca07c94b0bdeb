"""A pack as the transformer takes it: made from samples on the host, in the data worker, with all that a step needs to
know.

L tokens of all samples and padding, P numbers of a patch, R rows (pairs of a sample and a time), N samples, C channels,
T latent frames, H, W latent rows and columns, A angles of a head
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from einops import rearrange
from torch import Tensor

from trainer.geometry import Compression, Geometry
from trainer.model.attention import Segments
from trainer.model.config import TransformerConfig
from trainer.model.layouts import Layout, layouts_of
from trainer.model.rotary import angles, positions

__all__ = ["Pack", "Sample", "make_pack", "patches_of", "unpatched"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip's latent and what of it is known.

    latent_CTHW   of unit variance
    is_known_T    bool: latent frames that are given and not to be made; None for none
    """

    latent_CTHW: Tensor
    geometry: Geometry
    is_known_T: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """Samples in one sequence.

    latents_LP   patches of the clean latents, zeros for padding
    is_known_L   bool: given; padding is known, so that it has no loss
    row_L        int64: which row, 2n for what sample n is to make, 2n+1 for what of it is known, 2N for padding
    cos_LA, sin_LA   rotary positions
    layouts      who sees whom, for a model's blocks by turns
    sample_segments   tokens of each sample, then of padding: the queries over texts
    geometries   of the samples
    """

    latents_LP: Tensor
    is_known_L: Tensor
    row_L: Tensor
    cos_LA: Tensor
    sin_LA: Tensor
    layouts: tuple[Layout, ...]
    sample_segments: Segments
    geometries: tuple[Geometry, ...]

    @property
    def padding(self) -> int:
        return len(self.row_L) - sum(geometry.tokens for geometry in self.geometries)

    def to(self, device: torch.device | str) -> Pack:
        tensors = (self.latents_LP, self.is_known_L, self.row_L, self.cos_LA, self.sin_LA)
        latents_LP, is_known_L, row_L, cos_LA, sin_LA = (x.to(device, non_blocking=True) for x in tensors)
        layouts = tuple(layout.to(device) for layout in self.layouts)
        segments = self.sample_segments.to(device)
        return Pack(latents_LP, is_known_L, row_L, cos_LA, sin_LA, layouts, segments, self.geometries)

    def split(self, x_LP: Tensor) -> list[Tensor]:
        """Patches of the whole pack back as one [C, T, H, W] a sample."""
        parts = torch.split(x_LP[: len(x_LP) - self.padding], [geometry.tokens for geometry in self.geometries])
        return [unpatched(part, geometry) for part, geometry in zip(parts, self.geometries, strict=True)]


def make_pack(samples: Sequence[Sample], config: TransformerConfig, budget_tokens: int = 0) -> Pack:
    """One pack, padded to the budget; without a budget as long as its samples. Raises ValueError where there are none,
    they do not fit, or a latent is not what its geometry says."""
    if not samples:
        raise ValueError("samples=0: must be at least 1")
    for number, sample in enumerate(samples):
        _refuse(sample, number, config)
    geometries = tuple(sample.geometry for sample in samples)
    lengths = [geometry.tokens for geometry in geometries]
    padding = max(budget_tokens, sum(lengths)) - sum(lengths)
    if budget_tokens and sum(lengths) > budget_tokens:
        raise ValueError(f"budget_tokens={budget_tokens}: {len(samples)} samples have {sum(lengths)} tokens")
    latents = [patches_of(sample.latent_CTHW, config.compression) for sample in samples]
    latents.append(torch.zeros(padding, config.patch_numbers, dtype=latents[0].dtype))
    known = [_known_tokens(sample) for sample in samples] + [torch.ones(padding, dtype=torch.bool)]
    is_known_L = torch.cat(known)
    numbers = torch.repeat_interleave(torch.arange(len(samples) + 1), torch.tensor([*lengths, padding]))
    row_L = torch.where(numbers < len(samples), 2 * numbers + is_known_L, 2 * len(samples))
    rotary = config.rotary
    angles_of = {g: angles(positions(g, rotary), g, config.head_width, rotary) for g in dict.fromkeys(geometries)}
    angles_LA = torch.cat([*(angles_of[g] for g in geometries), torch.zeros(padding, config.head_width // 2)])
    return Pack(
        torch.cat(latents),
        is_known_L,
        row_L,
        angles_LA.cos(),
        angles_LA.sin(),
        layouts_of([g.grid for g in geometries], config.attention, config.window, padding=padding),
        Segments.of([*lengths, padding], longest=budget_tokens),
        geometries,
    )


def _refuse(sample: Sample, number: int, config: TransformerConfig) -> None:
    geometry, shape = sample.geometry, tuple(sample.latent_CTHW.shape)
    wanted = (config.latent_channels, *geometry.latent_size)
    if geometry.compression != config.compression:
        raise ValueError(f"sample {number}: geometry is for {geometry.compression}, the model for {config.compression}")
    if shape != wanted:
        raise ValueError(f"sample {number}: latent is {list(shape)}, its geometry says {list(wanted)}")
    known = sample.is_known_T
    if known is not None and known.dtype != torch.bool:
        raise ValueError(f"sample {number}: is_known is {known.dtype}, must be torch.bool")
    if known is not None and tuple(known.shape) != wanted[1:2]:
        raise ValueError(f"sample {number}: is_known is {list(known.shape)}, there are {wanted[1]} latent frames")
    if known is not None and config.compression.patch_time > 1:
        by_patch = rearrange(known, "(t p) -> t p", p=config.compression.patch_time)
        if (by_patch.any(1) != by_patch.all(1)).any():
            raise ValueError(f"sample {number}: is_known divides a patch of {config.compression.patch_time} frames")


def _known_tokens(sample: Sample) -> Tensor:
    time, rows, columns = sample.geometry.grid
    if sample.is_known_T is None:
        return torch.zeros(time * rows * columns, dtype=torch.bool)
    return sample.is_known_T[:: sample.geometry.compression.patch_time].repeat_interleave(rows * columns)


def patches_of(x_CTHW: Tensor, compression: Compression) -> Tensor:
    """[L, P], in the order (t, h, w)."""
    p, q = compression.patch_time, compression.patch_space
    return rearrange(x_CTHW, "c (t pt) (h ph) (w pw) -> (t h w) (c pt ph pw)", pt=p, ph=q, pw=q)


def unpatched(x_LP: Tensor, geometry: Geometry) -> Tensor:
    """The inverse of `patches_of`."""
    time, rows, columns = geometry.grid
    assert len(x_LP) == prod(geometry.grid)
    p, q = geometry.compression.patch_time, geometry.compression.patch_space
    pattern = "(t h w) (c pt ph pw) -> c (t pt) (h ph) (w pw)"
    return rearrange(x_LP, pattern, t=time, h=rows, w=columns, pt=p, ph=q, pw=q)
