"""How a run trains. What it trains, and on what, is said elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, inf, pi
from typing import Literal

from trainer.model.config import Recompute

__all__ = ["TrainConfig", "learning_rate_at"]

OptimizerName = Literal["adamw", "muon"]
Schedule = Literal["constant", "cosine", "linear"]
Precision = Literal["auto", "float32", "bfloat16"]
Parallel = Literal["auto", "replicate", "shard"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a run trains.

    Attributes:
        steps: Of the run.
        learning_rate: At its highest.
        warmup_steps: Over which the learning rate rises from 0.
        schedule: How it falls from there to `final_share` of itself at the last step.
        final_share: Of the learning rate, at the end.
        optimizer: adamw; or muon, which learns in fewer steps and is for whole weights, so not for parallel=shard.
        beta1, beta2: Decays of the optimizer's moments.
        weight_decay: Of matrices.
        max_grad_norm: Longer gradients are shortened to this length.
        spike_factor: A step whose gradient is so many times as long as the median of the last ones is left out; 0
            leaves none out.
        ema: Decay of the average of weights that is sampled from; it begins faster, so that short runs have one, too.
        precision: Of the products; weights, moments and sums stay in float32. auto is bfloat16 on a GPU.
        parallel: replicate holds all weights in each process, shard a part (FSDP2); auto shards where GPUs are several.
        context_parallel: Processes that share each pack's tokens, by heads in attention; the others share the packs.
        compile: Blocks by torch.compile, on a GPU.
        flash: FlashAttention of a GPU: the newest whose package is installed and works; or torch's own, FA2, which is
            quicker for clips of less than about 2000 tokens.
        recompute: Activations of blocks that are made again in the backward pass, to save memory: elementwise halves
            them and costs little; most keeps an eighth, all that attention gave, and costs a fifth.
        seed: Of weights, plans and all that is drawn.
        checkpoint_steps: A checkpoint is written after so many steps, beside the training.
        keep_checkpoints: The newest so many stay.
        sample_steps: Samples are made after so many steps, to look at; 0 for never.
    """

    steps: int = 100_000
    learning_rate: float = 1e-4
    warmup_steps: int = 1000
    schedule: Schedule = "cosine"
    final_share: float = 0.1
    optimizer: OptimizerName = "adamw"
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    spike_factor: float = 8.0
    ema: float = 0.9995
    precision: Precision = "auto"
    parallel: Parallel = "auto"
    context_parallel: int = 1
    compile: bool = True
    flash: Literal["newest", "FA2"] = "newest"
    recompute: Recompute = "nothing"
    seed: int = 0
    checkpoint_steps: int = 500
    keep_checkpoints: int = 2
    sample_steps: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "context_parallel", "checkpoint_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("warmup_steps", "sample_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0 and finite")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 on and below 1")
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"final_share={self.final_share}: must be from 0 to 1")
        if not 0 <= self.weight_decay < inf:
            raise ValueError(f"weight_decay={self.weight_decay}: must be from 0 on and finite")
        if self.spike_factor and not 1 < self.spike_factor < inf:
            raise ValueError(f"spike_factor={self.spike_factor}: must be above 1, or 0")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed}: must be from 0 on and below 2^63")
        if self.optimizer == "muon" and self.parallel == "shard":
            raise ValueError("optimizer=muon: works on whole weights; give parallel=replicate, or optimizer=adamw")


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Of the step with this number, from 0 on: a pure function, so that nothing of it has to be saved."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    fall = {"constant": 0.0, "cosine": (1 - cos(pi * done)) / 2, "linear": done}[config.schedule]
    return config.learning_rate * (1 - (1 - config.final_share) * fall)
