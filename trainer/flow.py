"""Rectified flow: what is between noise and a clip, what the model is to say, the loss, and the way back.

The one file with these conventions, so that signs and times cannot drift apart (arXiv 2209.03003, 2403.03206):

    x_t = (1 - t) x + t ε        t = 0 is the clip, t = 1 is noise
    v   = dx_t/dt = ε - x        the velocity; sampling goes from t = 1 to 0 along it

Known latents stay as they are, with t = 0 of their own and no loss. Image to video, extension, and filling in are all
that.

L tokens of a pack, P numbers of a patch, R rows (2n: what sample n is to make, 2n+1: what of it is known, last:
padding)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, sqrt
from typing import Literal

import torch
from torch import Tensor

__all__ = [
    "FlowConfig",
    "Solver",
    "draw_times",
    "flow_loss",
    "noised",
    "rows_of_times",
    "shift_for",
    "shifted",
    "solve",
    "time_grid",
    "velocity_of",
]

Solver = Literal["euler", "heun"]
LEAST_TIME = 0.05  # by which the loss divides a clean latent's error at least: at t = 0 it would be by nothing


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How times are drawn and what the model predicts.

    Attributes:
        prediction: The velocity, or the clean latent; the loss is on the velocity either way.
        logit_mean, logit_std: Of the normal distribution of log(t / (1 - t)).
        shift_tokens: Samples of so many tokens have their times as drawn. Longer ones have them moved towards noise, by
            the root of how much longer: more tokens show more of a picture at the same noise (arXiv 2403.03206, 5.3.2).
            0 moves none.
        max_shift: Bound of that factor either way.
    """

    prediction: Literal["v", "x0"] = "v"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift_tokens: int = 1024
    max_shift: float = 12.0

    def __post_init__(self) -> None:
        if self.prediction not in ("v", "x0"):
            raise ValueError(f"prediction={self.prediction}: must be v or x0")
        if not isfinite(self.logit_mean):
            raise ValueError(f"logit_mean={self.logit_mean}: must be finite")
        if not 0 < self.logit_std < inf:
            raise ValueError(f"logit_std={self.logit_std}: must be above 0 and finite")
        if self.shift_tokens < 0:
            raise ValueError(f"shift_tokens={self.shift_tokens}: must be at least 0")
        if not 1 <= self.max_shift < inf:
            raise ValueError(f"max_shift={self.max_shift}: must be at least 1 and finite")


def shift_for(tokens: int, config: FlowConfig) -> float:
    """The factor of `shifted` for a sample of so many tokens; grows with them, 1 at `shift_tokens`."""
    if not config.shift_tokens:
        return 1.0
    return min(max(sqrt(tokens / config.shift_tokens), 1 / config.max_shift), config.max_shift)


def shifted(times: Tensor, alpha: float | Tensor) -> Tensor:
    """t' = at / (1 + (a - 1)t) with a = alpha: keeps 0 and 1; the identity for 1."""
    return (alpha * times / (1 + (alpha - 1) * times)).clamp(max=1)  # 1 is missed by rounding otherwise


def draw_times(normal_N: Tensor, tokens_N: Tensor, config: FlowConfig) -> Tensor:
    """float32[N]: a time for each sample, from numbers drawn from a standard normal distribution."""
    times_N = torch.sigmoid(config.logit_mean + config.logit_std * normal_N.float())
    alphas = torch.tensor([shift_for(int(n), config) for n in tokens_N], device=times_N.device)
    return shifted(times_N, alphas)


def rows_of_times(times_N: Tensor) -> Tensor:
    """The times of a pack's rows: each sample's, 0 for what of it is known, and 0 for padding."""
    both_N2 = torch.stack((times_N, torch.zeros_like(times_N)), dim=-1)
    return torch.cat((both_N2.flatten(), torch.zeros_like(times_N[:1])))


def noised(clean_LP: Tensor, noise_LP: Tensor, times_L: Tensor) -> Tensor:
    """x_t in the clean latent's precision; to the bit the clean latent where t = 0.

    Mixed in float32: the model is told t in float32, and near noise a half's t is another signal by a tenth.
    """
    t = times_L[:, None].to(torch.promote_types(clean_LP.dtype, torch.float32))
    mixed_LP = ((1 - t) * clean_LP + t * noise_LP).to(clean_LP.dtype)
    return torch.where(t == 0, clean_LP, mixed_LP)


def velocity_of(predicted_LP: Tensor, x_LP: Tensor, times_L: Tensor, config: FlowConfig) -> Tensor:
    """The velocity that a model's prediction means; 0 for a clean latent at t = 0, where there is no way to go."""
    if config.prediction == "v":
        return predicted_LP
    t = times_L[:, None].to(x_LP.dtype)
    return torch.where(t > 0, (x_LP - predicted_LP) / torch.where(t > 0, t, 1), 0)


def flow_loss(
    predicted_LP: Tensor,
    clean_LP: Tensor,
    noise_LP: Tensor,
    x_LP: Tensor,
    times_L: Tensor,
    is_known_L: Tensor,
    config: FlowConfig,
) -> Tensor:
    """float32[L]: mean squared error of each token's velocity, 0 where it is known. The mean over the tokens that are
    to be made is the loss; weigh it as the step needs. `x_LP` is what the model was shown."""
    bounded_L = times_L.clamp(min=LEAST_TIME)  # of no account for a velocity, which is what is predicted
    velocity_LP = velocity_of(predicted_LP.float(), x_LP.float(), bounded_L, config)
    target_LP = noise_LP.float() - clean_LP.float()
    if config.prediction == "x0":  # the same bound on both sides: below it the target is no velocity any more
        target_LP = velocity_of(clean_LP.float(), x_LP.float(), bounded_L, config)
    error_L = (velocity_LP - target_LP).square().mean(dim=-1)
    return torch.where(is_known_L, torch.zeros_like(error_L), error_L)


def time_grid(steps: int, alpha: float = 1.0) -> Tensor:
    """float32[steps + 1] from 1 down to 0, evenly spaced and then shifted. Raises ValueError."""
    if steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1")
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), alpha).float()


def solve(
    velocity: Callable[[Tensor, int], Tensor],
    noise: Tensor,
    times: Sequence[Tensor],
    solver: Solver = "heun",
    seen: Callable[[int], None] = lambda step: None,
) -> Tensor:
    """Follow dx/dt = velocity(x, k), at times[k], from the first of the falling times to the last.

    Each of `times` is one number, or one for each part of x that it is spread over. `heun` is of second order and asks
    twice a step but the last (arXiv 2206.00364, algorithm 1). `seen` is told of each step that is done. Raises
    ValueError.
    """
    if solver not in ("euler", "heun"):
        raise ValueError(f"solver={solver}: must be euler or heun")
    x, last = noise, len(times) - 1
    for k, (now, then) in enumerate(pairwise(times)):
        here = velocity(x, k)
        ahead = x + (then - now) * here
        if solver == "heun" and k + 1 < last:
            ahead = x + (then - now) * (here + velocity(ahead, k + 1)) / 2
        x = ahead
        seen(k + 1)
    return x
