"""A small patch discriminator of video: a logit for each neighbourhood in time and space.

B clips, C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from trainer.network.config import RGB
from trainer.network.layers import ChannelNorm

__all__ = ["PatchDiscriminator"]

SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Convolutions of 3x4x4 that halve rows and columns, normalised over channels alone (a 3D PatchGAN, 1611.07004)."""

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        for field, value in (("width", width), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{field}={value}: must be 1 or more")
        widths = [RGB, *(width * min(2**layer, 8) for layer in range(layers))]
        self.convs = nn.ModuleList(
            nn.Conv3d(before, after, (3, 4, 4), (1, 2, 2), padding=1) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList([nn.Identity(), *(ChannelNorm(after) for after in widths[2:])])
        self.leave = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Logits, B 1 T and the rows and columns halved by each layer: above 0 for an original."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BCTHW = F.leaky_relu(norm(conv(x_BCTHW)), SLOPE)
        return self.leave(x_BCTHW).float()
