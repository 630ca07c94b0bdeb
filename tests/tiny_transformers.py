"""Transformers and packs that are small enough to compare in float64, and have nothing that is zero or one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from trainer.flow import rows_of_times
from trainer.geometry import Geometry
from trainer.model.config import TransformerConfig
from trainer.model.pack import Pack, Sample, make_pack
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer

RATE = Fraction(12)
TINY = TransformerConfig(
    width=16,
    depth=2,
    head_width=8,
    mlp_width=24,
    window=(2, 2, 3),
    latent_channels=2,
    text_width=8,
    text_depth=1,
    trained_seconds=2.0,
    trained_tokens=4,
)


def tiny(**changed: Any) -> TransformerConfig:
    return replace(TINY, **changed)


def geometry_of(grid: tuple[int, int, int], config: TransformerConfig = TINY, rate: Fraction = RATE) -> Geometry:
    """Of so many tokens."""
    time, rows, columns = grid
    c = config.compression
    return Geometry(c.frames_of(time * c.patch_time), rows * c.unit_px, columns * c.unit_px, rate, c)


def woken(config: TransformerConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> DiffusionTransformer:
    """A model that is not at its start any more: all that was zero or one is random."""
    torch.manual_seed(seed)
    model = DiffusionTransformer(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def samples_of(
    grids: Sequence[tuple[int, int, int]],
    config: TransformerConfig = TINY,
    known: Sequence[Sequence[int] | None] | None = None,
    seed: int = 0,
) -> list[Sample]:
    """Random latents in float64; sample n is the same whatever the others are."""
    made = []
    for number, grid in enumerate(grids):
        geometry = geometry_of(grid, config, RATE * (1 + number % 2))
        generator = torch.Generator().manual_seed(1000 * seed + number)
        size = (config.latent_channels, *geometry.latent_size)
        is_known = known[number] if known else None
        made.append(
            Sample(
                torch.randn(size, generator=generator, dtype=torch.float64),
                geometry,
                None if is_known is None else torch.tensor(is_known, dtype=torch.bool),
            )
        )
    return made


def predicted(
    model: DiffusionTransformer,
    samples: Sequence[Sample],
    texts: Sequence[str],
    times: Sequence[float],
    *,
    budget: int = 0,
    padding_text: str = "",
    padding: float = 0.0,
) -> tuple[torch.Tensor, Pack]:
    """What a model says of samples in one pack, of their latents as they are; and the pack."""
    pack = make_pack(samples, model.config, budget)
    x_LP = pack.latents_LP.clone()
    x_LP[len(x_LP) - pack.padding :] = padding
    x_LP.requires_grad_()
    text = model.read(texts_of([*texts, padding_text]))
    times_R = rows_of_times(torch.tensor(times, dtype=torch.float64))
    return model(x_LP, times_R, text, pack), pack
