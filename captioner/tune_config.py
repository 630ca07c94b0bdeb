"""How a captioner is tuned, in two stages as DALL·E 3's was: short captions of the main subject, then descriptive ones.

Betker et al., "Improving image generation with better captions" (2023), section 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["STAGES", "Moment", "TuneConfig", "learning_rate_at"]

Stage = Literal["short", "descriptive"]
STAGES: tuple[Stage, ...] = ("short", "descriptive")
"""The stages in order; each learns from the captions of the kind that has its name."""


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """What decides, with the model and the data, what comes out.

    Attributes:
        short_steps: Steps of the first stage, on captions of kind `short`; 0 leaves it out.
        descriptive_steps: Steps of the second stage, on captions of kind `descriptive`; 0 leaves it out.
        short_learning_rate: Highest learning rate of the first stage.
        descriptive_learning_rate: Highest learning rate of the second stage.
        replay_share: Share of the captions of a step of the second stage that are short ones again, so that the model,
            asked for one, still gives it.
        warmup_share: Share of a stage's steps in which the rate rises; it falls to nothing along a cosine after.
        batch_size: Captions of a step, of all workers together.
        micro_batch_size: Captions that go through a worker's model at once; less needs less memory.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are cut to this length.
        lora_rank: Rank of the LoRA matrices beside every linear layer; 0 tunes all weights.
        lora_alpha: Their scale is this over the rank.
        gradient_checkpointing: Compute activations twice instead of keeping them: slower, and less memory.
        seed: Of the order of the data and of whatever else is drawn.
        held_out_share: Share of the sources, or clips, whose captions are not learnt from but tested with.
        held_out_by: `source` keeps all clips of a source on one side; `clip` is for stores of few sources.
        held_out_limit: At most so many held-out captions of a kind are tested with.
        answer_tokens: Longest caption that is generated in a test.
    """

    short_steps: int = 500
    descriptive_steps: int = 1000
    short_learning_rate: float = 2e-5
    descriptive_learning_rate: float = 2e-5
    replay_share: float = 0.1
    warmup_share: float = 0.05
    batch_size: int = 16
    micro_batch_size: int = 4
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    lora_rank: int = 0
    lora_alpha: int = 32
    gradient_checkpointing: bool = False
    seed: int = 0
    held_out_share: float = 0.05
    held_out_by: Literal["source", "clip"] = "source"
    held_out_limit: int = 64
    answer_tokens: int = 200

    def __post_init__(self) -> None:
        for name in ("short_steps", "descriptive_steps", "lora_rank", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")
        if not self.short_steps + self.descriptive_steps:
            raise ValueError("descriptive_steps=0: and short_steps=0 leave nothing to do")
        for name in ("batch_size", "micro_batch_size", "held_out_limit", "answer_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("short_learning_rate", "descriptive_learning_rate", "max_grad_norm", "lora_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"warmup_share={self.warmup_share}: must be at least 0 and below 1")
        if not 0 <= self.replay_share <= 0.5:
            raise ValueError(f"replay_share={self.replay_share}: must be within 0 and 0.5")
        if not 0 < self.held_out_share < 1:
            raise ValueError(f"held_out_share={self.held_out_share}: must be above 0 and below 1")

    def steps(self, stage: Stage) -> int:
        return self.short_steps if stage == "short" else self.descriptive_steps

    def learning_rate(self, stage: Stage) -> float:
        return self.short_learning_rate if stage == "short" else self.descriptive_learning_rate

    def replayed(self, stage: Stage) -> int:
        """How many captions of a step are of the stage before."""
        return round(self.replay_share * self.batch_size) if stage == "descriptive" and self.short_steps else 0

    @property
    def total_steps(self) -> int:
        return self.short_steps + self.descriptive_steps


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A point of a tuning: `step` steps of stage number `stage` are done."""

    stage: int = 0
    step: int = 0


def learning_rate_at(step: int, steps: int, highest: float, warmup_share: float) -> float:
    """The rate of step `step` of `steps`, from 0: up a line, then down half a cosine, never 0."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return highest * max(0.01, (1 + math.cos(math.pi * done)) / 2)
