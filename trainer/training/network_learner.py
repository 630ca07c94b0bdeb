"""The compression network as the loop trains it, and its adversary where there is one.

B crops, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.draws import Key
from trainer.network.compression import CompressionNetwork, Posterior
from trainer.network.cost import network_cost
from trainer.network.discriminator import PatchDiscriminator
from trainer.network.losses import LossParts, LossWeights, discriminator_loss, network_loss
from trainer.reading.batch import CropBatch
from trainer.training.config import TrainConfig, learning_rate_at
from trainer.training.crew import Crew
from trainer.training.learner import SlotLoss
from trainer.training.sharding import cast

__all__ = ["Adversary", "NetworkLearner", "make_adversary"]

ADVERSARY_BETAS = 0.5, 0.9  # as adversaries are trained since 1611.07004
ADVERSARY_LEARNING_RATE = 1e-4  # at its highest, on the network's schedule: that of another optimizer says nothing here


@dataclass(frozen=True, slots=True)
class Adversary:
    """A discriminator and what trains it."""

    discriminator: nn.Module
    optimizer: torch.optim.Optimizer


def make_adversary(device: str) -> Adversary:
    """A discriminator with moments from the start, so that a checkpoint has something to fill."""
    discriminator = PatchDiscriminator().to(device)
    optimizer = torch.optim.Adam(discriminator.parameters(), ADVERSARY_LEARNING_RATE, ADVERSARY_BETAS)
    for weight in discriminator.parameters():
        zeros = torch.zeros_like(weight)
        optimizer.state[weight] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    return Adversary(discriminator, optimizer)


class NetworkLearner:
    """See `Learner`. What is learnt are crops, the loss is a mean over them.

    It is for processes that hold all weights: a network is small beside what it computes.
    """

    def __init__(
        self,
        network: CompressionNetwork,
        weights: LossWeights,
        config: TrainConfig,
        crew: Crew,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
        adversary: Adversary | None = None,
    ):
        self.module = network
        self.attention = ""
        self._weights, self._config, self._crew = weights, config, crew
        self._perceptual, self._adversary = perceptual, adversary
        self._generator = torch.Generator(crew.device)  # of latents' noise, from the counter for each slot
        self._seen: list[tuple[Tensor, Tensor]] = []

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return ()

    def count(self, batch: CropBatch) -> int:
        return len(batch.pixels_BCTHW)

    def tokens(self, batch: CropBatch) -> tuple[int, int]:
        """Latent positions; a crop has no padding."""
        crops, _, frames, height, width = batch.pixels_BCTHW.shape
        time, rows, columns = self.module.config.latent_size(frames, height, width)
        return crops * time * rows * columns, 0

    def read(self, batch: CropBatch) -> tuple[str, int]:
        """By the pixels: crops come from anywhere in a clip."""
        return hashlib.sha256(batch.pixels_BCTHW.numpy().tobytes()).hexdigest(), batch.replaced

    def flops(self, batch: CropBatch) -> float:
        """Of the network; what judges it is not counted."""
        return network_cost(self.module.config, tuple(batch.pixels_BCTHW.shape)).flops

    def loss(self, batch: CropBatch) -> SlotLoss:
        x_BCTHW = batch.pixels_BCTHW.to(self._crew.device).float() / 127.5 - 1
        self._generator.manual_seed(Key(self._config.seed, batch.step, batch.slot, 0).seed_for("posterior"))
        with cast(self._config, self._crew):
            again_BCTHW, posterior = self.module(x_BCTHW, self._generator)
            parts = self._parts(x_BCTHW, again_BCTHW, posterior)
        if self._adversary:
            self._seen.append((x_BCTHW, again_BCTHW.detach()))
        count = len(x_BCTHW)
        error = (again_BCTHW.detach() - x_BCTHW).square().mean()
        shown = {
            "reconstruction": parts.reconstruction,
            "kl": parts.kl,
            "psnr_db": 10 * torch.log10(4 / error.clamp(min=1e-10)),
        }
        if self._perceptual:
            shown["perceptual"] = parts.perceptual
        if self._adversary:
            shown["adversarial"] = parts.adversarial
        one = torch.ones((), dtype=torch.float64, device=x_BCTHW.device)
        sums = {name: torch.stack((value.detach().double(), one)) * count for name, value in shown.items()}
        return SlotLoss(parts.total * count, sums)

    def _parts(self, x_BCTHW: Tensor, again_BCTHW: Tensor, posterior: Posterior) -> LossParts:
        return network_loss(
            x_BCTHW,
            again_BCTHW,
            posterior,
            self._weights,
            perceptual=self._perceptual,
            judge=self._adversary.discriminator if self._adversary else None,
            last_weight=self.module.decoder.leave.weight if self._adversary else None,
        )

    def end_step(self, step: int, *, is_taken: bool) -> None:
        """The adversary's step, with the clips of the network's; none with what spoilt that, or would spoil its own."""
        if not self._adversary or not is_taken:
            self._seen.clear()
            return
        discriminator, optimizer = self._adversary.discriminator, self._adversary.optimizer
        optimizer.zero_grad(set_to_none=True)
        for x_BCTHW, again_BCTHW in self._seen:
            with cast(self._config, self._crew):
                loss = discriminator_loss(discriminator(x_BCTHW), discriminator(again_BCTHW))
            (loss / (len(self._seen) * self._crew.size)).backward()
        self._crew.add_gradients(discriminator.parameters())
        self._seen.clear()
        if not nn.utils.clip_grad_norm_(discriminator.parameters(), self._config.max_grad_norm).isfinite():
            return
        share = learning_rate_at(step, self._config) / self._config.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = ADVERSARY_LEARNING_RATE * share
        optimizer.step()

    def more_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        if self._adversary:
            for name, weight in self._adversary.discriminator.named_parameters():
                state[f"adversary.{name}"] = weight.detach()
                moments = self._adversary.optimizer.state[weight]
                state |= {f"adversary.{name}.{moment}": value for moment, value in moments.items()}
        return state
