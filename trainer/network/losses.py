"""What the compression network is trained on: likeness to the original, to an eye and to an adversary, and the KL term.

B clips, C channels, T frames, H rows, W columns. Videos are from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.network.compression import Posterior

__all__ = [
    "LossParts",
    "LossWeights",
    "adaptive_weight",
    "discriminator_loss",
    "kl_divergence",
    "network_loss",
    "reconstruction_loss",
]

Reconstruction = Literal["l1", "charbonnier", "mse"]

CHARBONNIER_EPSILON = 1e-2  # of the range of 2: a difference of a level of 8 bits is nearly square, larger ones are L1
MOST_ADAPTIVE_WEIGHT = 1e4  # as in VQGAN's code


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The kind of reconstruction loss, whose weight is 1, and the weights of what is added. 0 leaves a part out."""

    reconstruction: Reconstruction = "charbonnier"
    perceptual: float = 0.0
    kl: float = 1e-6
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        if self.reconstruction not in get_args(Reconstruction):
            raise ValueError(f"reconstruction={self.reconstruction!r}: must be one of {get_args(Reconstruction)}")
        for field in ("perceptual", "kl", "adversarial"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ValueError(f"{field}={getattr(self, field)}: must be 0 or more, and finite")


@dataclass(frozen=True, slots=True)
class LossParts:
    """`total` has the gradient; the others are its parts before their weights, 0 where left out."""

    total: Tensor
    reconstruction: Tensor
    perceptual: Tensor
    kl: Tensor
    adversarial: Tensor


def network_loss(
    x_BCTHW: Tensor,
    again_BCTHW: Tensor,
    posterior: Posterior,
    weights: LossWeights,
    *,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    judge: Callable[[Tensor], Tensor] | None = None,
    last_weight: Tensor | None = None,
) -> LossParts:
    """The loss of a video and its reconstruction. `perceptual` gives the distance of two videos, `judge` the logits of
    a discriminator; each is needed where its weight is not 0. With `last_weight`, the decoder's last, the adversarial
    part is scaled to pull on it as hard as the rest does (VQGAN, 2012.09841, equation 7)."""
    nothing = again_BCTHW.new_zeros(())
    likeness = reconstruction_loss(x_BCTHW, again_BCTHW, weights.reconstruction)
    seen = kl = trick = nothing
    total = likeness
    if weights.perceptual:
        assert perceptual is not None, "a perceptual weight without a perceptual module"
        seen = perceptual(x_BCTHW, again_BCTHW)
        total = total + weights.perceptual * seen
    if weights.adversarial:
        assert judge is not None, "an adversarial weight without a discriminator"
        trick = -judge(again_BCTHW).mean()
        scale = 1.0 if last_weight is None else adaptive_weight(total, trick, last_weight)
        total = total + weights.adversarial * scale * trick
    if weights.kl:
        kl = kl_divergence(posterior)
        total = total + weights.kl * kl
    return LossParts(total, likeness, seen, kl, trick)


def reconstruction_loss(x_BCTHW: Tensor, again_BCTHW: Tensor, kind: Reconstruction) -> Tensor:
    """Averaged over all values. Charbonnier is √(d² + ε²) less ε, so that a perfect reconstruction has 0."""
    match kind:
        case "l1":
            return F.l1_loss(again_BCTHW, x_BCTHW)
        case "mse":
            return F.mse_loss(again_BCTHW, x_BCTHW)
        case "charbonnier":
            square = (again_BCTHW - x_BCTHW).square()
            return torch.sqrt(square + CHARBONNIER_EPSILON**2).mean() - CHARBONNIER_EPSILON


def kl_divergence(posterior: Posterior) -> Tensor:
    """From the standard normal distribution, in nats for each number of the latent (1312.6114, appendix B)."""
    variance = torch.exp(posterior.logvar_BCTHW)
    return 0.5 * (posterior.mean_BCTHW.square() + variance - 1 - posterior.logvar_BCTHW).mean()


def discriminator_loss(real_logits: Tensor, again_logits: Tensor) -> Tensor:
    """The hinge loss (1705.02894): 0 where the original is above 1 and the reconstruction below -1."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + again_logits).mean())


def adaptive_weight(loss: Tensor, adversarial: Tensor, last_weight: Tensor) -> Tensor:
    """The ratio of the gradients at the decoder's last weight, without a gradient of its own."""
    (pull,) = torch.autograd.grad(loss, last_weight, retain_graph=True)
    (push,) = torch.autograd.grad(adversarial, last_weight, retain_graph=True)
    return (pull.norm() / (push.norm() + 1e-4)).clamp(0, MOST_ADAPTIVE_WEIGHT).detach()
