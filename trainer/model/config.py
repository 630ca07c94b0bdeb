"""All there is to say about a diffusion transformer, and sizes from a laptop's to a cluster's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from trainer.geometry import Compression
from trainer.model.layouts import ATTENTIONS, Attention, Window
from trainer.model.rotary import RotaryConfig

__all__ = ["PRESETS", "Recompute", "TransformerConfig", "parameters_of", "preset"]

Recompute = Literal["nothing", "elementwise", "most"]
"""Of a block's activations, what the backward pass makes again: norms, gates, rotations and the MLP's middle, to halve
their memory; or all but what attention gave, for an eighth of their memory."""


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Flat, so that it is one line of JSON for each field.

    Attributes:
        width: Numbers of a token in the model.
        depth: Blocks.
        head_width: Numbers of a head; its number is width / head_width.
        mlp_width: Inner width of a block's MLP.
        attention: Over whole clips; over space and time by turns; within windows, moved by half in every second block.
        window: Time, rows, columns in tokens, for `windowed`; 0 for all of an axis.
        latent_channels: Of the compression network.
        ratio_time, ratio_space, patch_time, patch_space: See Compression.
        text_width: Of the text encoder's output.
        text_depth: Blocks of the byte encoder that is trained along; 0 where texts are read by a pretrained one.
        trained_seconds, trained_tokens, tokens_per_s, period: See RotaryConfig.
    """

    width: int = 1536
    depth: int = 30
    head_width: int = 128
    mlp_width: int = 7680
    attention: Attention = "full"
    window: Window = (8, 8, 8)
    latent_channels: int = 16
    ratio_time: int = 4
    ratio_space: int = 8
    patch_time: int = 1
    patch_space: int = 2
    text_width: int = 512
    text_depth: int = 4
    trained_seconds: float = 10.0
    trained_tokens: int = 64
    tokens_per_s: float = 6.0
    period: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "head_width", "mlp_width", "latent_channels", "text_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.text_depth < 0:
            raise ValueError(f"text_depth={self.text_depth}: must be at least 0")
        if self.text_depth and self.text_width % 2:
            raise ValueError(f"text_width={self.text_width}: must be even where texts are read by the byte encoder")
        if self.width % self.head_width:
            raise ValueError(f"width={self.width}: must be a multiple of head_width={self.head_width}")
        if self.head_width % 2 or self.head_width < 8:
            raise ValueError(f"head_width={self.head_width}: must be even and at least 8, for three axes of positions")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention={self.attention}: must be one of {', '.join(ATTENTIONS)}")
        if len(self.window) != 3 or min(self.window) < 0:
            raise ValueError(f"window={self.window}: must be three numbers from 0 on: time, rows, columns")
        if self.attention != "full" and self.depth % 2:
            raise ValueError(
                f"depth={self.depth}: must be even for {self.attention} attention, whose blocks take turns"
            )
        _ = self.compression, self.rotary  # these refuse their own

    @property
    def compression(self) -> Compression:
        return Compression(self.ratio_time, self.ratio_space, self.patch_time, self.patch_space)

    @property
    def rotary(self) -> RotaryConfig:
        return RotaryConfig(self.trained_seconds, self.trained_tokens, self.tokens_per_s, self.period)

    @property
    def heads(self) -> int:
        return self.width // self.head_width

    @property
    def patch_numbers(self) -> int:
        return self.latent_channels * self.patch_time * self.patch_space**2


_SMALL = TransformerConfig(width=96, depth=6, head_width=32, mlp_width=384, text_width=96, text_depth=1)
PRESETS: dict[str, TransformerConfig] = {
    "1m": _SMALL,
    "10m": replace(_SMALL, width=256, depth=10, mlp_width=1024, text_width=128, text_depth=2),
    "100m": TransformerConfig(width=768, depth=10, head_width=64, mlp_width=3072, text_width=384),
    "400m": TransformerConfig(width=1024, depth=24, head_width=64, mlp_width=4096),
    "1.3b": TransformerConfig(),
    "5b": TransformerConfig(width=3072, depth=30, mlp_width=14336, text_width=4096, text_depth=0),
    "14b": TransformerConfig(width=5120, depth=40, mlp_width=13824, text_width=4096, text_depth=0),
}
"""By their parameters, about; those from 5b on read texts by a pretrained encoder (UMT5's width)."""


def preset(name: str) -> TransformerConfig:
    """Raises ValueError."""
    if name not in PRESETS:
        raise ValueError(f"preset={name}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]


def parameters_of(config: TransformerConfig) -> int:
    """How many the transformer has, without a text encoder; checked against the module in a test."""
    width = config.width
    attention = 4 * width * width + 2 * config.head_width
    cross = 4 * width * width + 2 * config.head_width
    mlp = 2 * width * config.mlp_width + config.mlp_width + width
    block = attention + cross + mlp + 6 * width + width  # with its own part of the modulation, and the norm over text
    time = 256 * width + width + width * width + width
    modulation = 6 * width * width + 6 * width
    ends = 2 * config.patch_numbers * width + width + config.patch_numbers + 2 * width * width + 2 * width
    text = config.text_width * width + width
    return prod((config.depth, block)) + time + modulation + ends + text
