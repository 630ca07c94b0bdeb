"""What a size, length and rate would cost, before anything is run. Needs no cluster, no store and no GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from jobs.cli import parse
from trainer.cost import REPORTS, Cost, Report, cost_of
from trainer.geometry import Asked
from trainer.model.config import TransformerConfig, parameters_of, preset
from trainer.model.layouts import ATTENTIONS, Attention
from trainer.sampling import SamplingConfig

__all__ = ["Options", "main", "table"]

GIB, TERA = 1024.0**3, 1e12
COLUMNS = "{:16} {:>22} {:>11} {:>15} {:>10} {:>11} {:>11} {:>7} {:>11} {:>7}"
HEADS = (
    COLUMNS.format("", "asked", "attention", "sampled", "tokens", "one pass", "sample", "memory", "step", "memory"),
    COLUMNS.format("", "", "", "", "", "TFLOP", "TFLOP", "GiB", "TFLOP", "GiB"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Tokens, operations and memory of a sample and of a training step, for one geometry or for what reports claim.

    Attributes:
        preset: Size of the model.
        width: In pixels; any size is made.
        height: In pixels.
        seconds: 0 for an image.
        fps: Frames per second, 24 or 30000/1001.
        reports: The table of published systems instead, from Gen-2 to Sora.
        attention: One alone; without it all three, so that they can be compared.
        ratio_time: Frames of a latent frame.
        ratio_space: Pixels along a side of a latent cell.
        latent_channels: Of the compression network.
        steps: Of the solver.
        solver: euler asks the model once a step, heun twice.
        guidance: 1 halves the work.
        words: Of the prompt.
    """

    preset: str = "1.3b"
    width: int = 1280
    height: int = 720
    seconds: float = 5.0
    fps: str = "24"
    reports: bool = False
    attention: Attention | None = None
    ratio_time: int = 4
    ratio_space: int = 8
    latent_channels: int = 16
    steps: int = 40
    solver: Literal["euler", "heun"] = "heun"
    guidance: float = 4.0
    words: int = 100

    def __post_init__(self) -> None:
        _ = self.transformer, self.sampling, self.asked
        if self.words < 1:
            raise ValueError(f"words={self.words}: must be at least 1")

    @property
    def transformer(self) -> TransformerConfig:
        return replace(
            preset(self.preset),
            ratio_time=self.ratio_time,
            ratio_space=self.ratio_space,
            latent_channels=self.latent_channels,
        )

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(self.steps, self.solver, self.guidance)

    @property
    def asked(self) -> Report:
        try:
            rate = Fraction(self.fps)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"fps={self.fps}: must be a number or a fraction, such as 24 or 30000/1001") from None
        return Report("asked", Asked(self.width, self.height, self.seconds, rate))


def table(options: Options) -> list[str]:
    """Lines of text, one a geometry and attention."""
    config = options.transformer
    lines = [f"{options.preset}: {parameters_of(config) / 1e9:.2f} billion parameters", *HEADS]
    for report in REPORTS if options.reports else (options.asked,):
        for attention in (options.attention,) if options.attention else ATTENTIONS:
            cost = cost_of(report.asked, config, options.sampling, attention, options.words)
            lines.append(_line(report, cost))
    lines.append(
        f"one pass: the model asked once; sample: {options.steps} steps of {options.solver} with guidance "
        f"{options.guidance:g}, weights and activations in half precision, without the compression network;\n"
        "step: forward and backward over one such clip, weights and moments in float32, activations recomputed"
    )
    return lines


def _line(report: Report, cost: Cost) -> str:
    asked, made = report.asked, cost.geometry
    wanted = f"{asked.width}x{asked.height}, {asked.seconds:g} s, {asked.rate}"
    return COLUMNS.format(
        report.name,
        wanted,
        cost.attention,
        f"{made.width}x{made.height}x{made.frames}",
        f"{cost.tokens:,}",
        f"{cost.forward_flops / TERA:,.1f}",
        f"{cost.sampling_flops / TERA:,.0f}",
        f"{cost.sampling_bytes / GIB:.1f}",
        f"{cost.step_flops / TERA:,.1f}",
        f"{cost.training_bytes / GIB:.1f}",
    )


def main() -> None:
    print("\n".join(table(parse(Options, prog="python -m jobs.cost"))))


if __name__ == "__main__":
    main()
