"""What a geometry costs before it is run: tokens, operations, memory.

Operations count multiplications and additions of matrix products and attention, as every report of model FLOPs does
(arXiv 2204.02311, appendix B): norms, positions and activations are left out, and what is recomputed is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from trainer.geometry import Asked, Geometry
from trainer.model.config import Recompute, TransformerConfig, parameters_of
from trainer.model.layouts import Attention, Grid, Window
from trainer.sampling import SamplingConfig

__all__ = [
    "REPORTS",
    "Cost",
    "Report",
    "activation_bytes",
    "cost_of",
    "forward_flops",
    "sampling_bytes",
    "squares_of",
    "step_flops",
    "training_bytes",
]

BACKWARD = 2  # times the forward pass: by the inputs and by the weights
TRAINING_BYTES = 16  # of a parameter: itself, its gradient and two moments, in float32
HALF_BYTES, FLOAT_BYTES = 2, 4
# Numbers of a token that a block's backward pass needs, in widths, and its MLP's: counted in tests, the first of blocks
# that are not compiled, the others of those that are. Norms and positions are in float32, which counts twice.
SAVED: dict[Recompute, tuple[int, int]] = {"nothing": (36, 2), "elementwise": (11, 1), "most": (3, 0)}
SAVED_COMPILED = (20, 2)  # in place of the first
AT_ONCE_WIDTHS, AT_ONCE_MLPS = 12, 2  # of a block that is only run forward; `benchmarks.reports` measures it
PATH_PATCHES = 6  # float32 patches of a path: noise, what is known, where it is, velocities


@dataclass(frozen=True, slots=True)
class Report:
    """What a published system is said to make."""

    name: str
    asked: Asked


def _report(name: str, width: int, height: int, seconds: float, rate: int) -> Report:
    return Report(name, Asked(width, height, seconds, Fraction(rate)))


REPORTS = (
    _report("Gen-2", 1792, 1024, 4, 24),
    _report("Pika 1.0", 768, 768, 3, 24),
    _report("Emu Video", 512, 512, 4, 16),
    _report("Lumiere, 16 fps", 1024, 1024, 5, 16),
    _report("Lumiere, 24 fps", 1024, 1024, 5, 24),
    _report("PYoCo", 1024, 1024, 4.75, 16),
    _report("Sora, image", 2048, 2048, 0, 30),
    _report("Sora, wide", 1920, 1080, 60, 30),
    _report("Sora, tall", 1080, 1920, 60, 30),
)


def squares_of(grid: Grid, attention: Attention, window: Window) -> float:
    """Sum of squared segment lengths of a clip: what its attention costs, in the mean over blocks."""
    if attention == "full":
        return float(prod(grid)) ** 2
    if attention == "factorised":
        time, rows, columns = grid
        space = rows * columns
        return (time * float(space) ** 2 + space * float(time) ** 2) / 2
    still, moved = (
        prod(_axis_squares(n, b or n, b // 2 if is_moved else 0) for n, b in zip(grid, window, strict=True))
        for is_moved in (False, True)
    )
    return (still + moved) / 2


def _axis_squares(count: int, block: int, shift: int) -> float:
    """Sum of squared lengths of an axis cut into blocks, the first one shorter by the shift."""
    if count <= block:
        return float(count) ** 2
    first = block - shift
    whole, rest = divmod(count - first, block)
    return float(first**2 + whole * block**2 + rest**2)


def forward_flops(config: TransformerConfig, grids: Sequence[Grid], words: Sequence[int]) -> float:
    """Of one forward pass over clips with texts of so many words (without the text encoder)."""
    width = config.width
    tokens, all_words = sum(map(prod, grids)), sum(words)
    products = tokens * (6 * width * width + 2 * width * config.mlp_width) + all_words * 2 * width * width
    seen = sum(squares_of(grid, config.attention, config.window) for grid in grids)
    read = sum(prod(grid) * n for grid, n in zip(grids, words, strict=True))
    block = 2 * products + 4 * width * (seen + read)
    ends = 2 * tokens * 2 * config.patch_numbers * width + 2 * all_words * config.text_width * width
    return config.depth * block + ends


def step_flops(config: TransformerConfig, grids: Sequence[Grid], words: Sequence[int]) -> float:
    """Of one training step: forward and backward."""
    return (1 + BACKWARD) * forward_flops(config, grids, words)


def training_bytes(config: TransformerConfig, tokens: int, *, recompute: Recompute, is_compiled: bool = False) -> float:
    """Weights, gradients and moments, and activations of a pack in half precision."""
    activations = activation_bytes(config, tokens, recompute=recompute, is_compiled=is_compiled)
    return TRAINING_BYTES * parameters_of(config) + activations


def activation_bytes(config: TransformerConfig, tokens: int, *, recompute: Recompute, is_compiled: bool) -> float:
    """Of a pack in half precision: those that are kept, and all of the one block whose are made again."""
    everything = SAVED_COMPILED if is_compiled else SAVED["nothing"]
    kept, all_of_one = (
        HALF_BYTES * tokens * (widths * config.width + mlps * config.mlp_width)
        for widths, mlps in (everything if recompute == "nothing" else SAVED[recompute], everything)
    )
    return config.depth * kept + (0 if recompute == "nothing" else all_of_one)


def sampling_bytes(config: TransformerConfig, tokens: int, number_bytes: int = HALF_BYTES) -> float:
    """Beside the weights: one block at a time, and the path with its positions in float32."""
    block = tokens * (AT_ONCE_WIDTHS * config.width + AT_ONCE_MLPS * config.mlp_width)
    path = tokens * (PATH_PATCHES * config.patch_numbers + config.head_width)
    return number_bytes * block + FLOAT_BYTES * path


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to make one sample, and to train on one clip, of a geometry.

    sampling_flops    with all steps, and with guidance
    sampling_bytes    weights and activations in half precision
    step_flops        of one training step on this clip alone
    training_bytes    with activations recomputed
    """

    geometry: Geometry
    attention: Attention
    tokens: int
    forward_flops: float
    sampling_flops: float
    sampling_bytes: float
    step_flops: float
    training_bytes: float


def cost_of(
    asked: Asked,
    config: TransformerConfig,
    sampling: SamplingConfig,
    attention: Attention | None = None,
    words: int = 100,
) -> Cost:
    """By the model's own attention, or as if it had another."""
    config = replace(config, attention=attention or config.attention)
    geometry = asked.covered(config.compression)
    tokens = geometry.tokens
    forward = forward_flops(config, [geometry.grid], [words])
    asks = 2 * sampling.steps - 1 if sampling.solver == "heun" else sampling.steps
    guided = 1 if sampling.guidance == 1 else 2
    return Cost(
        geometry=geometry,
        attention=config.attention,
        tokens=tokens,
        forward_flops=forward,
        sampling_flops=forward * asks * guided,
        sampling_bytes=HALF_BYTES * parameters_of(config) + sampling_bytes(config, tokens),
        step_flops=(1 + BACKWARD) * forward,
        training_bytes=training_bytes(config, tokens, recompute="most"),
    )
