"""A guard against single steps that would spoil a run: gradients that are no numbers, or far longer than usual."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Diverged", "SpikeGuard"]

Verdict = Literal["taken", "spike", "not_finite"]
REMEMBERED = 128
ENOUGH = 20  # lengths that are remembered before any step is left out
MOST_IN_A_ROW = 20


class Diverged(Exception):
    """A run whose loss or gradients are no numbers, or keep jumping: it would not come back by itself."""


class SpikeGuard:
    """Remembers the lengths of the last gradients. Its state is two tensors, to be saved with the run's."""

    def __init__(self, factor: float):
        """`factor` times the median is too long; 0 looks for numbers only."""
        self._factor = factor
        self.lengths = torch.full((REMEMBERED,), torch.nan, dtype=torch.float64)
        self.counts = torch.zeros(2, dtype=torch.int64)  # remembered so far; left out in a row

    def judge(self, length: float) -> Verdict:
        """Of a step's gradient, the same on all processes. Raises Diverged where too many in a row are left out."""
        seen = int(self.counts[0])
        known = self.lengths[: min(seen, REMEMBERED)]
        verdict: Verdict = "taken"
        if not isfinite(length):
            verdict = "not_finite"
        elif self._factor and seen >= ENOUGH and length > self._factor * float(known.median()):
            verdict = "spike"
        if verdict == "taken":
            self.counts[1] = 0
        else:
            self.counts[1] += 1
            if self.counts[1] >= MOST_IN_A_ROW:
                said = "no finite number" if verdict == "not_finite" else f"{self._factor:g} times as long as before"
                raise Diverged(f"the gradients of {MOST_IN_A_ROW} steps in a row were {said}")
        if verdict != "not_finite":  # while few are known, a new level soon becomes the usual; later it ends the run
            self.lengths[seen % REMEMBERED] = length
            self.counts[0] += 1
        return verdict

    def state(self) -> dict[str, Tensor]:
        return {"lengths": self.lengths, "counts": self.counts}
