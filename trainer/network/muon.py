"""Muon: steps of equal length in all directions of a weight matrix. The compression network is a deep stack of nearly
linear maps, and learns in a fraction of the steps that Adam takes.

M outputs and N inputs of a weight, with the places of a convolution's kernel among the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

__all__ = ["Muon", "orthogonalised"]

# K. Jordan, "Muon: an optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon): a polynomial
# that brings singular values near 1 in few iterations, rather than to 1.
COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
# Steps as long as those of Adam, so that one learning rate serves both (Moonlight, 2502.16982, equation 4).
ROOT_MEAN_SQUARE = 0.2
EPSILON = 1e-8


class Muon(Optimizer):
    """For weights with two dimensions or more; others, biases and scales, take Adam's steps at the same learning rate
    and do not decay."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        *,
        momentum: float = 0.9,
        square_momentum: float = 0.98,
        weight_decay: float = 0.01,
    ) -> None:
        for field, value, most in (
            ("lr", lr, float("inf")),
            ("momentum", momentum, 1),
            ("square_momentum", square_momentum, 1),
            ("weight_decay", weight_decay, float("inf")),
        ):
            if not 0 <= value < most:
                raise ValueError(f"{field}={value}: must be 0 or more, and below {most}")
        defaults = {"lr": lr, "momentum": momentum, "square_momentum": square_momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step with the gradients that are there; without a gradient a weight stays as it is."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.ndim > 1:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                change = (_matrix_step if weight.ndim > 1 else _adam_step)(weight.grad, self.state[weight], group)
                weight.sub_(change, alpha=group["lr"])


def _matrix_step(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    mean = state.setdefault("mean", torch.zeros_like(gradient)).lerp_(gradient, 1 - group["momentum"])
    ahead_MN = gradient.lerp(mean, group["momentum"]).flatten(1)  # Nesterov's momentum
    return ROOT_MEAN_SQUARE * max(ahead_MN.shape) ** 0.5 * orthogonalised(ahead_MN).view_as(gradient)


def _adam_step(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    steps = float(state.setdefault("steps", torch.zeros((), dtype=torch.float64)).add_(1))
    mean = state.setdefault("mean", torch.zeros_like(gradient)).lerp_(gradient, 1 - group["momentum"])
    square = state.setdefault("square", torch.zeros_like(gradient))
    square.lerp_(gradient.square(), 1 - group["square_momentum"])
    size = (square / (1 - group["square_momentum"] ** steps)).sqrt() + EPSILON
    return mean / (1 - group["momentum"] ** steps) / size


def orthogonalised(matrix_MN: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values from about 0.7 to 1.2, whatever its scale; those that
    were under about a thousandth of its length stay smaller. It is computed in bfloat16."""
    is_tall = matrix_MN.shape[0] > matrix_MN.shape[1]
    wide = (matrix_MN.T if is_tall else matrix_MN).bfloat16()
    wide = wide / (wide.norm() + EPSILON)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return (wide.T if is_tall else wide).to(matrix_MN.dtype)
