"""The pieces of the compression network. All of them are causal in time and local in space, so that a video may be
worked on in chunks and tiles with the very result of the whole: no attention, and no statistics over positions.

B clips, C channels, T frames, H rows, W columns, each at the resolution of its stage; D channels of a second width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Block", "ChannelNorm", "Downsample", "Past", "Upsample", "begin_orthogonal", "patches", "pixels"]

TIME_KERNEL = 3
EPSILON = 1e-6


@dataclass(slots=True)
class Past:
    """What a chunk leaves behind for the next chunk of the same clip and tile: the last frames that each convolution in
    time has seen. A new one stands at a clip's beginning."""

    is_first: bool = True
    frames: dict[nn.Module, Tensor] = field(default_factory=dict)


class ChannelNorm(nn.Module):
    """Root mean square over the channels of each position, with a learned scale (Zhang and Sennrich, 1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_C = nn.Parameter(torch.ones(width))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        size = torch.rsqrt(x_BCTHW.square().mean(1, keepdim=True) + EPSILON)
        return x_BCTHW * size * rearrange(self.scale_C.to(x_BCTHW.dtype), "c -> c 1 1 1")


class TimeConv(nn.Module):
    """A convolution over a frame and the two before it. Before the first there is the first, again."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, width, (TIME_KERNEL, 1, 1))
        assert self.conv.bias is not None
        for parameter in (self.conv.weight, self.conv.bias):
            nn.init.zeros_(parameter)  # so that a block begins as nothing, and the network as a linear one

    def forward(self, x_BCTHW: Tensor, past: Past | None) -> Tensor:
        back = TIME_KERNEL - 1
        before = past.frames.get(self) if past else None
        if before is None:
            before = repeat(x_BCTHW[:, :, 0], "b c h w -> b c t h w", t=back)
        x_BCTHW = torch.cat([before, x_BCTHW], 2)
        if past:
            past.frames[self] = x_BCTHW[:, :, -back:].clone()  # a view would keep the whole chunk
        return self.conv(x_BCTHW)


class Block(nn.Module):
    """x + time(silu(space(norm(x)))): a 3x3 convolution in space, then a causal one in time (2+1D, 1711.11248)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.space = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1))
        begin_orthogonal(self.space)
        self.time = TimeConv(width)

    def forward(self, x_BCTHW: Tensor, past: Past | None) -> Tensor:
        return x_BCTHW + self.time(F.silu(self.space(self.norm(x_BCTHW))), past)


class Downsample(nn.Module):
    """Fold the positions of a cell into channels and map them to D, beside a shortcut without weights that averages
    groups of channels (DC-AE, 2410.10733). The first frame stands alone: it is folded with copies of itself."""

    def __init__(self, width: int, width_after: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.map = nn.Conv3d(width * time * space * space, width_after, 1)
        begin_orthogonal(self.map)
        self.group = width * time * space * space // width_after

    def forward(self, x_BCTHW: Tensor, past: Past | None) -> Tensor:
        if past is None or past.is_first:
            x_BCTHW = torch.cat([repeat(x_BCTHW[:, :, 0], "b c h w -> b c t h w", t=self.time - 1), x_BCTHW], 2)
        x_BCTHW = rearrange(
            x_BCTHW, "b c (t dt) (h dh) (w dw) -> b (c dt dh dw) t h w", dt=self.time, dh=self.space, dw=self.space
        )
        return self.map(x_BCTHW) + reduce(x_BCTHW, "b (d group) t h w -> b d t h w", "mean", group=self.group)


class Upsample(nn.Module):
    """The way back: map D to the channels of all positions of a cell, beside a shortcut that repeats channels, and
    unfold. What the first latent frame gives besides the first frame is dropped."""

    def __init__(self, width_before: int, width: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.map = nn.Conv3d(width_before, width * time * space * space, 1)
        begin_orthogonal(self.map)
        self.group = width * time * space * space // width_before

    def forward(self, x_BDTHW: Tensor, past: Past | None) -> Tensor:
        x_BCTHW = self.map(x_BDTHW) + repeat(x_BDTHW, "b d t h w -> b (d group) t h w", group=self.group)
        x_BCTHW = rearrange(
            x_BCTHW, "b (c dt dh dw) t h w -> b c (t dt) (h dh) (w dw)", dt=self.time, dh=self.space, dw=self.space
        )
        return x_BCTHW[:, :, self.time - 1 :] if past is None or past.is_first else x_BCTHW


def begin_orthogonal(conv: nn.Conv3d) -> None:
    """Weights that keep lengths, so that a deep stack of linear maps neither shrinks nor blurs (1312.6120)."""
    assert conv.bias is not None
    nn.init.orthogonal_(conv.weight)
    nn.init.zeros_(conv.bias)


def patches(x_BCTHW: Tensor, patch_px: int) -> Tensor:
    """Squares of pixels as positions with more channels."""
    return rearrange(x_BCTHW, "b c t (h dh) (w dw) -> b (c dh dw) t h w", dh=patch_px, dw=patch_px)


def pixels(x_BCTHW: Tensor, patch_px: int) -> Tensor:
    """What `patches` took apart."""
    return rearrange(x_BCTHW, "b (c dh dw) t h w -> b c t (h dh) (w dw)", dh=patch_px, dw=patch_px)
