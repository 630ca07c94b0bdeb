"""TransNet V2, the network: small pictures of a hundred frames in, for each the logit that a scene ends there, out.

Souček & Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition detection" (arXiv
2008.04838), in the layout and with the names of its published PyTorch weights (github.com/soCzech/TransNetV2, MIT), so
that they load. Only what runs after training is here. This module imports torch; `transnet_shots` feeds it.

Shapes: B windows, C channels, T frames, H rows (27), W columns (48), D features.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TransNetV2", "load_transnet"]

FILTERS, STAGES, BLOCKS = 16, 3, 2
DILATIONS = (1, 2, 4, 8)
LOOKUP_FRAMES = 101  # each frame is compared with the fifty before and after it
SIMILARITY_D, HIDDEN_D = 128, 1024
POOLED_H, POOLED_W = 3, 6  # 27 and 48, halved three times
HISTOGRAM_BITS = 3  # a channel


class SeparableConv(nn.Module):
    """A convolution over space, then one over time, `dilation` frames apart."""

    def __init__(self, in_channels: int, channels: int, dilation: int):
        super().__init__()
        over_space = nn.Conv3d(in_channels, 2 * channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        pad, step = (dilation, 0, 0), (dilation, 1, 1)
        over_time = nn.Conv3d(2 * channels, channels, (3, 1, 1), padding=pad, dilation=step, bias=False)
        self.layers = nn.ModuleList([over_space, over_time])

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        for layer in self.layers:
            x_BCTHW = layer(x_BCTHW)
        return x_BCTHW


class DilatedBlock(nn.Module):
    """The same input seen at four paces in time, side by side."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", SeparableConv(in_channels, channels, dilation))
        self.bn = nn.BatchNorm3d(len(DILATIONS) * channels, eps=1e-3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        seen = [self.get_submodule(f"Conv3D_{dilation}")(x_BCTHW) for dilation in DILATIONS]
        return self.bn(torch.cat(seen, dim=1))


class Stage(nn.Module):
    """Two blocks with a shortcut around the second; then half the rows and columns."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        widths = [in_channels] + [len(DILATIONS) * channels] * (BLOCKS - 1)
        self.DDCNN = nn.ModuleList(DilatedBlock(width, channels) for width in widths)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        shortcut = x_BCTHW = F.relu(self.DDCNN[0](x_BCTHW))
        x_BCTHW = F.relu(self.DDCNN[1](x_BCTHW)) + shortcut
        return F.avg_pool3d(x_BCTHW, (1, 2, 2))


def around_each_frame(of_pairs_BTT: Tensor) -> Tensor:
    """From each frame's likeness to every frame, its likeness to the frames around it; 0 outside: (B, T, 101)."""
    frames = of_pairs_BTT.shape[1]
    padded = F.pad(of_pairs_BTT, (LOOKUP_FRAMES // 2, LOOKUP_FRAMES // 2))
    places = torch.arange(frames)[:, None] + torch.arange(LOOKUP_FRAMES)
    return padded.gather(2, places.to(padded.device).expand(len(padded), -1, -1))


class FrameSimilarity(nn.Module):
    """How alike the features of a frame are to those of the frames around it."""

    def __init__(self, in_features: int):
        super().__init__()
        self.projection = nn.Linear(in_features, SIMILARITY_D)
        self.fc = nn.Linear(LOOKUP_FRAMES, SIMILARITY_D)

    def forward(self, of_stages: list[Tensor]) -> Tensor:
        x_BTD = torch.cat([x_BCTHW.mean(dim=(3, 4)) for x_BCTHW in of_stages], dim=1).transpose(1, 2)
        x_BTD = F.normalize(self.projection(x_BTD), dim=2)
        return F.relu(self.fc(around_each_frame(x_BTD @ x_BTD.transpose(1, 2))))


class ColorHistograms(nn.Module):
    """How alike the colours of a frame are to those of the frames around it: histograms of 512 colours."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP_FRAMES, SIMILARITY_D)

    def forward(self, rgb_BTHWC: Tensor) -> Tensor:
        red, green, blue = (rgb_BTHWC.long() >> (8 - HISTOGRAM_BITS)).unbind(-1)
        bins = ((red << 2 * HISTOGRAM_BITS) + (green << HISTOGRAM_BITS) + blue).flatten(2)
        counts_BTD = torch.zeros(*bins.shape[:2], 1 << 3 * HISTOGRAM_BITS, device=bins.device)
        counts_BTD.scatter_add_(2, bins, torch.ones_like(bins, dtype=torch.float32))
        x_BTD = F.normalize(counts_BTD, dim=2)
        return F.relu(self.fc(around_each_frame(x_BTD @ x_BTD.transpose(1, 2))))


class TransNetV2(nn.Module):
    """8-bit RGB (B, T, 27, 48, 3) to two logits a frame, (B, T) each.

    The first: a scene ends with this frame, or a gradual change has its middle here. The second: it is the last frame
    of a scene or one of the frames of the change after it.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [FILTERS << stage for stage in range(STAGES)]
        inputs = [3, *(len(DILATIONS) * width for width in widths[:-1])]
        self.SDDCNN = nn.ModuleList(Stage(i, width) for i, width in zip(inputs, widths, strict=True))
        self.frame_sim_layer = FrameSimilarity(len(DILATIONS) * sum(widths))
        self.color_hist_layer = ColorHistograms()
        seen = len(DILATIONS) * widths[-1] * POOLED_H * POOLED_W
        self.fc1 = nn.Linear(seen + 2 * SIMILARITY_D, HIDDEN_D)
        self.cls_layer1 = nn.Linear(HIDDEN_D, 1)
        self.cls_layer2 = nn.Linear(HIDDEN_D, 1)

    def forward(self, rgb_BTHWC: Tensor) -> tuple[Tensor, Tensor]:
        x_BCTHW = rgb_BTHWC.permute(0, 4, 1, 2, 3).float() / 255
        of_stages = []
        for stage in self.SDDCNN:
            x_BCTHW = stage(x_BCTHW)
            of_stages.append(x_BCTHW)
        x_BTD = x_BCTHW.permute(0, 2, 3, 4, 1).flatten(2)
        x_BTD = torch.cat([self.color_hist_layer(rgb_BTHWC), self.frame_sim_layer(of_stages), x_BTD], dim=2)
        x_BTD = F.relu(self.fc1(x_BTD))
        return self.cls_layer1(x_BTD)[..., 0], self.cls_layer2(x_BTD)[..., 0]


@lru_cache(maxsize=1)  # a worker meets one file of weights again with every source
def load_transnet(path: Path, digest: str) -> TransNetV2:
    """The network with a user's weights, .safetensors or a .pth of nothing but tensors; `digest` is of the file.

    Raises ValueError naming the file, the tensor and its shape where they are not those of TransNet V2.
    """
    given = _tensors_of(path)
    network = TransNetV2()
    needed = network.state_dict()
    for key, tensor in needed.items():
        is_counter = key.endswith("num_batches_tracked")  # of training alone, and without a shape in some files
        if key not in given and not is_counter:
            raise ValueError(f"shot_weights={path}: lacks {key} {tuple(tensor.shape)}; give the weights of TransNet V2")
        if not is_counter and given[key].shape != tensor.shape:
            shapes = f"{tuple(given[key].shape)}, not {tuple(tensor.shape)}"
            raise ValueError(f"shot_weights={path}: {key} has the shape {shapes}; give the weights of TransNet V2")
    if unknown := sorted(set(given) - set(needed)):
        shape = tuple(given[unknown[0]].shape)
        raise ValueError(f"shot_weights={path}: {unknown[0]} {shape} is no part of TransNet V2; give its weights")
    network.load_state_dict({key: needed[key] if key.endswith("tracked") else given[key] for key in needed})
    return network.eval().requires_grad_(False)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {str(key): torch.as_tensor(tensor) for key, tensor in dict(tensors).items()}
    except ImportError:
        raise
    except Exception as error:  # a damaged file raises errors of many kinds, none of them a fault of ours
        raise ValueError(f"shot_weights={path}: must be a file of tensors and nothing else") from error
