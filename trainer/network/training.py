"""One step of training the compression network, and of its adversary where there is one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.network.compression import CompressionNetwork
from trainer.network.losses import LossWeights, discriminator_loss, network_loss

__all__ = ["Adversary", "Precision", "StepFigures", "train_step"]

Precision = Literal["float32", "bfloat16"]

MOST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Adversary:
    """A discriminator and what trains it."""

    discriminator: nn.Module
    optimizer: Optimizer


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Of one step, before it was taken: the parts of the loss, each before its weight, and the gradient's length before
    it was clipped. They stay on the device, so that no step waits for them."""

    total: Tensor
    reconstruction: Tensor
    perceptual: Tensor
    kl: Tensor
    adversarial: Tensor
    discriminator: Tensor
    gradient: Tensor


def train_step(
    network: CompressionNetwork,
    optimizer: Optimizer,
    x_BCTHW: Tensor,
    weights: LossWeights,
    generator: torch.Generator,
    *,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    adversary: Adversary | None = None,
    precision: Precision = "float32",
) -> StepFigures:
    """Take one step on a batch of videos from -1 to 1: the network's, and then the adversary's on the same batch.

    All that changes is the state of the network, of the adversary, of their optimizers and of the generator, which
    draws the latents' noise. An adversary learns also where its weight is 0, so that it is ready when it counts.
    Weights stay in float32; `precision` is that of the convolutions.
    """
    with _cast(x_BCTHW, precision):
        again_BCTHW, posterior = network(x_BCTHW, generator)
        parts = network_loss(
            x_BCTHW,
            again_BCTHW,
            posterior,
            weights,
            perceptual=perceptual,
            judge=adversary.discriminator if adversary else None,
            last_weight=network.decoder.leave.weight if adversary else None,
        )
    optimizer.zero_grad(set_to_none=True)
    parts.total.backward()
    gradient = nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
    optimizer.step()
    judged = _train_adversary(adversary, x_BCTHW, again_BCTHW.detach(), precision) if adversary else None
    return StepFigures(
        total=parts.total.detach(),
        reconstruction=parts.reconstruction.detach(),
        perceptual=parts.perceptual.detach(),
        kl=parts.kl.detach(),
        adversarial=parts.adversarial.detach(),
        discriminator=torch.zeros_like(parts.total) if judged is None else judged,
        gradient=gradient.detach(),
    )


def _train_adversary(adversary: Adversary, x_BCTHW: Tensor, again_BCTHW: Tensor, precision: Precision) -> Tensor:
    with _cast(x_BCTHW, precision):
        loss = discriminator_loss(adversary.discriminator(x_BCTHW), adversary.discriminator(again_BCTHW))
    adversary.optimizer.zero_grad(set_to_none=True)  # the network's step left gradients here as well
    loss.backward()
    adversary.optimizer.step()
    return loss.detach()


def _cast(x: Tensor, precision: Precision) -> AbstractContextManager[object]:
    return nullcontext() if precision == "float32" else torch.autocast(x.device.type, torch.bfloat16)
