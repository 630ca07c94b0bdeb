"""All that a run has to remember, as one flat dictionary of tensors: written, and filled when it is read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.network.muon import Muon
from trainer.training.config import TrainConfig

__all__ = ["Average", "begin_moments", "make_optimizer", "state_of", "trained_parameters"]


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Matrices decay; biases, scales and positions do not. Raises ValueError."""
    parameters = list(trained_parameters(module).values())
    if config.optimizer == "muon":
        return Muon(
            parameters,
            config.learning_rate,
            momentum=config.beta1,
            square_momentum=config.beta2,
            weight_decay=config.weight_decay,
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # Fused, each weight and its moments are read and written once.
    return torch.optim.AdamW(groups, config.learning_rate, (config.beta1, config.beta2), fused=True)


def begin_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight the moments that its first step would give it, so that there is something to fill."""
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state[weight]
            if isinstance(optimizer, Muon):
                state["mean"] = torch.zeros_like(weight)
                if weight.ndim <= 1:
                    state["square"] = torch.zeros_like(weight)
                    state["steps"] = torch.zeros((), dtype=torch.float64)
            else:
                state["step"] = torch.zeros((), device=weight.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)


class Average:
    """Exponential moving average of weights, of those alone that are trained."""

    def __init__(self, module: nn.Module, decay: float):
        self._decay = decay
        self._weights = trained_parameters(module)
        self.means = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """After the step with this number, from 0 on. Young averages follow faster, as (1 + n) / (10 + n)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(list(self.means.values()), list(self._weights.values()), 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module has the average's weights inside the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.means[name])
            self.means[name].copy_(kept)


def state_of(
    module: nn.Module, optimizer: torch.optim.Optimizer, average: Average, more: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The run's own tensors under names, not copies. Weights that are not trained are not part of it."""
    weights = trained_parameters(module)
    state: dict[str, Tensor] = {f"weights.{name}": weight.detach() for name, weight in weights.items()}
    state |= {f"average.{name}": mean for name, mean in average.means.items()}
    for name, weight in weights.items():
        state |= {f"optimizer.{name}.{moment}": value for moment, value in optimizer.state[weight].items()}
    return state | {f"more.{name}": value for name, value in more.items()}
