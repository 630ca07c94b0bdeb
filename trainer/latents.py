"""One way to call compression networks, ours and pretrained ones: latents of unit variance in and out.

B clips, C channels (of x: red, green, blue from -1 to 1), T frames, H rows, W columns
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from trainer.checkpoint import CONFIG, WEIGHTS
from trainer.network.compression import CompressionNetwork, read_network
from trainer.network.stream import DEFAULT_TILING, Tiling, decode_stream, encode_stream
from trainer.pretrained_networks import PretrainedNetwork

__all__ = ["LatentSpace", "OwnSpace", "PixelSpace", "read_space", "space_of"]

PIXEL_RATIOS = (2, 4, 8)
PIXEL_SCALE = 2.0  # pixels of footage spread by about half of what unit variance is


class LatentSpace(Protocol):
    """What `trainer.pretrained_networks` and `OwnSpace` are."""

    @property
    def ratio_time(self) -> int: ...
    @property
    def ratio_space(self) -> int: ...
    @property
    def latent_channels(self) -> int: ...
    @property
    def network_id(self) -> str: ...

    def encode(self, x_BCTHW: Tensor) -> Tensor:
        """Latents of videos whose frames are 1 + a multiple of `ratio_time` and whose sides `ratio_space` divides."""
        ...

    def decode(self, z_BCTHW: Tensor) -> Tensor:
        """Videos, from -1 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class OwnSpace:
    """A network of ours, in chunks and tiles, so that memory does not grow with a video's length but for the video."""

    network: CompressionNetwork
    network_id: str
    tiling: Tiling = DEFAULT_TILING

    @property
    def ratio_time(self) -> int:
        return self.network.ratio_time

    @property
    def ratio_space(self) -> int:
        return self.network.ratio_space

    @property
    def latent_channels(self) -> int:
        return self.network.latent_channels

    @torch.no_grad()
    def encode(self, x_BCTHW: Tensor) -> Tensor:
        latents = encode_stream(self.network, [x_BCTHW], self.tiling)
        device = self.network.latent_mean_C.device
        return torch.cat([self.network.normalise(z.to(device)).to(x_BCTHW.device) for z in latents], 2)

    @torch.no_grad()
    def decode(self, z_BCTHW: Tensor) -> Tensor:
        raw_BCTHW = self.network.denormalise(z_BCTHW.to(self.network.latent_mean_C.device)).to(z_BCTHW.device)
        return torch.cat([x.clamp(-1, 1) for x in decode_stream(self.network, [raw_BCTHW], self.tiling)], 2)


def read_space(directory: Path, tiling: Tiling = DEFAULT_TILING) -> OwnSpace:
    """A network of ours; its id is the hash of its weights, which hold that of its config. Raises BadCheckpoint."""
    network = read_network(directory)
    with open(directory / WEIGHTS, "rb") as file:
        return OwnSpace(network, hashlib.file_digest(file, "sha256").hexdigest()[:32], tiling)


@dataclass(frozen=True, slots=True)
class PixelSpace:
    """Pixels themselves, without a network: a cell is a square of them, and each frame is a latent frame."""

    ratio_space: int

    def __post_init__(self) -> None:
        if self.ratio_space not in PIXEL_RATIOS:
            raise ValueError(f"ratio_space={self.ratio_space}: must be one of {', '.join(map(str, PIXEL_RATIOS))}")

    @property
    def ratio_time(self) -> int:
        return 1

    @property
    def latent_channels(self) -> int:
        return 3 * self.ratio_space**2

    @property
    def network_id(self) -> str:
        return f"pixels-{self.ratio_space}"

    def encode(self, x_BCTHW: Tensor) -> Tensor:
        if x_BCTHW.ndim != 5 or x_BCTHW.shape[1] != 3 or any(side % self.ratio_space for side in x_BCTHW.shape[3:]):
            shape = list(x_BCTHW.shape)
            raise ValueError(f"x_BCTHW of shape {shape}: must be (B, 3, T, H, W), sides by {self.ratio_space}")
        p = self.ratio_space
        return PIXEL_SCALE * rearrange(x_BCTHW, "b c t (h p) (w q) -> b (c p q) t h w", p=p, q=p)

    def decode(self, z_BCTHW: Tensor) -> Tensor:
        p = self.ratio_space
        x_BCTHW = rearrange(z_BCTHW, "b (c p q) t h w -> b c t (h p) (w q)", p=p, q=p)
        return (x_BCTHW / PIXEL_SCALE).clamp(-1, 1)


def space_of(spec: str, device: str = "cpu") -> LatentSpace:
    """The space that a name stands for: `pixels-2`, -4 or -8, a directory of a network of ours, or a directory or hub
    id of an autoencoder of diffusers.

    Raises ValueError, BadCheckpoint for a directory of ours with something else in it, BadModel for one of others.
    """
    if found := re.fullmatch(r"pixels-(\d+)", spec):
        return PixelSpace(int(found[1]))
    if _is_ours(directory := Path(spec)):
        space = read_space(directory)
        space.network.to(device)
        return space
    return PretrainedNetwork.load(spec, device=device)


def _is_ours(directory: Path) -> bool:
    """Whether a model of ours was meant, also where the directory lacks half of it."""
    if (directory / WEIGHTS).is_file():
        return True
    try:
        said = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return False
    return isinstance(said, dict) and "kind" in said
