"""From noise to latents: any number of samples in one pack, each of its own size, with texts, guidance and known
frames.

L tokens of a pack, P numbers of a patch, C channels, T latent frames, H, W latent rows and columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from trainer.flow import FlowConfig, Solver, rows_of_times, shift_for, solve, time_grid, velocity_of
from trainer.geometry import Asked, Geometry
from trainer.model.pack import Pack, Sample, make_pack, patches_of
from trainer.model.transformer import DiffusionTransformer, TextTokens

__all__ = ["Known", "SamplingConfig", "cut", "noise_of", "sample_latents"]


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How samples are made.

    Attributes:
        steps: Of the solver; heun asks the model about twice a step.
        solver: euler, or heun, of second order.
        guidance: How far to go from what the negative prompt says to what the prompt says and beyond; 1 is the prompt
            alone.
        seed: Of the noise; sample n of a call has seed + n.
    """

    steps: int = 40
    solver: Solver = "heun"
    guidance: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: must be at least 1")
        if self.solver not in ("euler", "heun"):
            raise ValueError(f"solver={self.solver}: must be euler or heun")
        if not 0 <= self.guidance < inf:
            raise ValueError(f"guidance={self.guidance}: must be from 0 on and finite")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: must be from 0 on and below 2^63")


@dataclass(frozen=True, slots=True)
class Known:
    """Latent frames that are given: image to video where the first is, extension where the last or first some are,
    filling in where both ends are. They come back to the bit.

    latent_CTHW   of the sample's whole size; what is not known is not looked at
    is_known_T    bool
    """

    latent_CTHW: Tensor
    is_known_T: Tensor


def noise_of(geometry: Geometry, channels: int, seed: int) -> Tensor:
    """float32[C, T, H, W] in a grid of the asked size, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(channels, *geometry.latent_size, generator=generator)


@torch.no_grad()
def sample_latents(
    model: DiffusionTransformer,
    flow: FlowConfig,
    geometries: Sequence[Geometry],
    prompts: TextTokens,
    negatives: TextTokens | None,
    config: SamplingConfig,
    *,
    known: Sequence[Known | None] | None = None,
    dtype: torch.dtype | None = None,
    seen: Callable[[int], None] = lambda step: None,
) -> list[Tensor]:
    """One float32[C, T, H, W] a sample, on the model's device.

    `prompts` and `negatives` hold a text for each sample, and the padding's; without negatives there is no guidance.
    `dtype` is what the model computes in, its weights' own where none is named; the path itself is followed in float32.
    Raises ValueError.
    """
    if config.guidance != 1 and negatives is None:
        raise ValueError(f"guidance={config.guidance}: needs negative prompts, which may be empty texts; or give 1")
    for name, text in (("prompts", prompts), ("negatives", negatives)):
        if text is not None and len(text.segments.lengths) != len(geometries) + 1:
            found, samples = len(text.segments.lengths), len(geometries)
            raise ValueError(f"{name}: are {found} texts, and {samples} samples and the padding need one each")
    device = next(model.parameters()).device
    channels = model.config.latent_channels
    given = list(known) if known is not None else [None] * len(geometries)
    if len(given) != len(geometries):
        raise ValueError(f"known: are {len(given)}, and {len(geometries)} samples need one each, which may be None")
    pack = make_pack([_start(g, k, channels) for g, k in zip(geometries, given, strict=True)], model.config).to(device)
    noise = [noise_of(geometry, channels, config.seed + n) for n, geometry in enumerate(geometries)]
    noise_LP = torch.cat([patches_of(x, model.config.compression) for x in noise]).to(device)
    grids = [time_grid(config.steps, shift_for(geometry.tokens, flow)) for geometry in geometries]
    rows = [rows_of_times(times_N).to(device) for times_N in torch.stack(grids, dim=1)]

    def velocity(x_LP: Tensor, k: int) -> Tensor:
        v_LP = _velocity(model, flow, x_LP, rows[k], prompts, pack, dtype)
        if config.guidance != 1 and negatives is not None:
            away_LP = _velocity(model, flow, x_LP, rows[k], negatives, pack, dtype)
            v_LP = away_LP + config.guidance * (v_LP - away_LP)
        return v_LP

    start_LP = torch.where(pack.is_known_L[:, None], pack.latents_LP, noise_LP)
    times = [times_R[pack.row_L, None] for times_R in rows]
    made_LP = solve(velocity, start_LP, times, config.solver, seen)
    return pack.split(torch.where(pack.is_known_L[:, None], pack.latents_LP, made_LP))


def _velocity(
    model: DiffusionTransformer,
    flow: FlowConfig,
    x_LP: Tensor,
    times_R: Tensor,
    text: TextTokens,
    pack: Pack,
    dtype: torch.dtype | None,
) -> Tensor:
    own = next(model.parameters()).dtype
    with torch.autocast(x_LP.device.type, dtype or own, enabled=dtype not in (None, own)):
        predicted_LP = model(x_LP.to(dtype or own), times_R, text, pack)
    return velocity_of(predicted_LP.float(), x_LP, times_R[pack.row_L], flow)


def _start(geometry: Geometry, known: Known | None, channels: int) -> Sample:
    blank_CTHW = torch.zeros(channels, *geometry.latent_size)
    if known is None:
        return Sample(blank_CTHW, geometry)
    if known.latent_CTHW.shape != blank_CTHW.shape:
        given, needed = list(known.latent_CTHW.shape), list(blank_CTHW.shape)
        raise ValueError(f"known: latent is {given}, and the sample's is {needed}")
    return Sample(known.latent_CTHW.float().cpu(), geometry, known.is_known_T.cpu())


def cut(video_CTHW: Tensor, asked: Asked) -> Tensor:
    """Exactly what was asked for, of a decoded sample that covers it."""
    return video_CTHW[:, : asked.frames, : asked.height, : asked.width]
