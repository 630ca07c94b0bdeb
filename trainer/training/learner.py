"""What the loop trains: something with weights that gives the loss of what one slot holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["Learner", "SlotLoss"]


@dataclass(frozen=True, slots=True)
class SlotLoss:
    """Of one slot: a sum with a gradient, and sums that are only shown.

    total    over all that is to be learnt, to be divided by the step's count of it
    shown    name to float64[2]: a sum and a count, of which the mean over a step's slots is shown
    """

    total: Tensor
    shown: Mapping[str, Tensor] = field(default_factory=dict)


class Learner(Protocol):
    """`module` is what is trained; a batch is whatever the reader gives for a slot."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Parts that are compiled and shared out by themselves."""
        ...

    @property
    def attention(self) -> str:
        """What works it out; empty where there is none."""
        ...

    def count(self, batch: Any) -> int:
        """How much there is to learn in a slot; known before anything is computed."""
        ...

    def tokens(self, batch: Any) -> tuple[int, int]:
        """Of a slot, and how many of them are padding."""
        ...

    def read(self, batch: Any) -> tuple[str, int]:
        """What says which samples a slot has, and how many of them stand in for others."""
        ...

    def flops(self, batch: Any) -> float:
        """Of a training step on it."""
        ...

    def loss(self, batch: Any) -> SlotLoss: ...

    def end_step(self, step: int, *, is_taken: bool) -> None:
        """After the optimizer's step, or in its place where it was left out: what else learns from the same slots."""
        ...

    def more_state(self) -> dict[str, Tensor]:
        """What else a checkpoint has to hold, in tensors that are filled when it is read."""
        ...
