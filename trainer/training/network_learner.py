"""The compression network as the loop trains it, and its adversary where there is one.

B crops, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainer.network.compression import CompressionNetwork, Posterior
from trainer.network.discriminator import PatchDiscriminator
from trainer.network.losses import LossParts, LossWeights, discriminator_loss, network_loss
from trainer.network.training import Adversary
from trainer.training.config import TrainConfig
from trainer.training.crew import Crew
from trainer.training.learner import SlotLoss
from trainer.training.sharding import cast

__all__ = ["NetworkLearner", "make_adversary"]

ADVERSARY_BETAS = 0.5, 0.9  # as adversaries are trained since 1611.07004


def make_adversary(config: TrainConfig, device: str) -> Adversary:
    """A discriminator with moments from the start, so that a checkpoint has something to fill."""
    discriminator = PatchDiscriminator().to(device)
    optimizer = torch.optim.Adam(discriminator.parameters(), config.learning_rate, ADVERSARY_BETAS)
    for weight in discriminator.parameters():
        zeros = torch.zeros_like(weight)
        optimizer.state[weight] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    return Adversary(discriminator, optimizer)


class NetworkLearner:
    """See `Learner`. A batch is uint8[B, C, T, H, W]; what is learnt are its crops, the loss is a mean over them.

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
        self._weights, self._config, self._crew = weights, config, crew
        self._perceptual, self._adversary = perceptual, adversary
        # Draws the noise of latents. Its state is the only one in a run that goes on from step to step.
        self._generator = torch.Generator(crew.device)
        self._drawn = torch.zeros((), dtype=torch.int64)
        self._seen: list[tuple[Tensor, Tensor]] = []

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return ()

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def tokens(self, batch: Tensor) -> tuple[int, int]:
        """Latent positions; a crop has no padding."""
        _, _, frames, height, width = batch.shape
        time, rows, columns = self.module.config.latent_size(frames, height, width)
        return len(batch) * time * rows * columns, 0

    def flops(self, batch: Tensor) -> float:
        """Unknown, said as none."""
        return 0.0

    def loss(self, batch: Tensor) -> SlotLoss:
        x_BCTHW = batch.to(self._crew.device).float() / 127.5 - 1
        self._generator.manual_seed(self._seed())
        with cast(self._config, self._crew):
            again_BCTHW, posterior = self.module(x_BCTHW, self._generator)
            parts = self._parts(x_BCTHW, again_BCTHW, posterior)
        if self._adversary:
            self._seen.append((x_BCTHW, again_BCTHW.detach()))
        count = len(batch)
        error = (again_BCTHW.detach() - x_BCTHW).square().mean()
        shown = {
            "reconstruction": float(parts.reconstruction.detach()),
            "kl": float(parts.kl.detach()),
            "psnr_db": float(10 * torch.log10(4 / error.clamp(min=1e-10))),
        }
        if self._perceptual:
            shown["perceptual"] = float(parts.perceptual.detach())
        if self._adversary:
            shown["adversarial"] = float(parts.adversarial.detach())
        return SlotLoss(parts.total * count, {name: (value * count, count) for name, value in shown.items()})

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

    def _seed(self) -> int:
        self._drawn += 1
        return hash((self._config.seed, self._crew.rank, int(self._drawn))) % 2**63

    def end_step(self) -> None:
        if not self._adversary:
            return
        discriminator, optimizer = self._adversary.discriminator, self._adversary.optimizer
        optimizer.zero_grad(set_to_none=True)
        for x_BCTHW, again_BCTHW in self._seen:
            loss = discriminator_loss(discriminator(x_BCTHW), discriminator(again_BCTHW))
            (loss / (len(self._seen) * self._crew.size)).backward()
        self._crew.add_gradients(discriminator.parameters())
        optimizer.step()
        self._seen.clear()

    def more_state(self) -> dict[str, Tensor]:
        state = {"drawn": self._drawn}
        if self._adversary:
            for name, weight in self._adversary.discriminator.named_parameters():
                state[f"adversary.{name}"] = weight.detach()
                moments = self._adversary.optimizer.state[weight]
                state |= {f"adversary.{name}.{moment}": value for moment, value in moments.items()}
        return state
