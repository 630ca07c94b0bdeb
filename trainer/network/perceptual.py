"""The distance of two videos to a network that has learned to see: a VGG, whose weights the user brings.

B clips, N pictures (all frames of all clips), C channels, T frames, H rows, W columns.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.checkpoint import BadCheckpoint
from trainer.network.config import RGB

__all__ = ["PerceptualDistance", "read_perceptual"]

# Of the pictures that torchvision's VGGs were trained on, in values from 0 to 1.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONV = re.compile(r"features\.(\d+)\.weight")
# The positions of a VGG's convolutions in torchvision's list: a rectifier is between, and after some a pooling too.
NEXT, NEXT_AFTER_POOLING = 2, 3


class PerceptualDistance(nn.Module):
    """The squared difference of features that have length 1 at each position, averaged over positions and over the last
    convolutions before each pooling and the end (LPIPS, 1801.03924, without its learned weights). Frames are seen one
    by one. It is frozen."""

    mean_C: Tensor
    std_C: Tensor

    def __init__(self, stages: list[list[tuple[Tensor, Tensor]]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(_frozen(*layer) for layer in stage) for stage in stages)
        self.register_buffer("mean_C", torch.tensor(MEAN))
        self.register_buffer("std_C", torch.tensor(STD))

    def forward(self, x_BCTHW: Tensor, again_BCTHW: Tensor) -> Tensor:
        x, again = (self._normalised(video) for video in (x_BCTHW, again_BCTHW))
        distance = x_BCTHW.new_zeros(())
        for stage, convs in enumerate(self.stages):
            if stage:
                x, again = F.max_pool2d(x, 2), F.max_pool2d(again, 2)
            for conv in convs:  # pyright: ignore[reportGeneralTypeIssues]
                x, again = F.relu(conv(x)), F.relu(conv(again))
            distance = distance + (F.normalize(x) - F.normalize(again)).square().sum(1).mean()
        return distance / len(self.stages)

    def _normalised(self, x_BCTHW: Tensor) -> Tensor:
        x_NCHW = (rearrange(x_BCTHW, "b c t h w -> (b t) c h w") + 1) / 2
        mean_CHW, std_CHW = (rearrange(values, "c -> c 1 1") for values in (self.mean_C, self.std_C))
        return (x_NCHW - mean_CHW) / std_CHW


def _frozen(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv.requires_grad_(False)


def read_perceptual(path: Path) -> PerceptualDistance:
    """From the safetensors file of a VGG with torchvision's names (`features.0.weight` ...), of whatever depth and
    widths, without batch normalisation. Raises BadCheckpoint."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error}); give a safetensors file of a VGG's weights") from error
    places = sorted(int(match[1]) for name in tensors if (match := CONV.fullmatch(name)))
    steps = [after - before for before, after in pairwise([-NEXT, *places])]
    if not places or set(steps) - {NEXT, NEXT_AFTER_POOLING} or steps[0] != NEXT:
        raise BadCheckpoint(f"{path}: has convolutions at {places}, and a VGG's features are needed")
    stages: list[list[tuple[Tensor, Tensor]]] = [[]]
    width = RGB
    for place, step in zip(places, steps, strict=True):
        weight, bias = tensors[f"features.{place}.weight"], tensors.get(f"features.{place}.bias")
        if weight.shape[1:] != (width, 3, 3) or bias is None or bias.shape != weight.shape[:1]:
            raise BadCheckpoint(f"{path}: features.{place} must be a 3x3 convolution of {width} channels, with a bias")
        if step == NEXT_AFTER_POOLING:
            stages.append([])
        stages[-1].append((weight.float(), bias.float()))
        width = len(weight)
    return PerceptualDistance(stages)
