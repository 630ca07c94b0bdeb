"""One way to call compression networks, ours and pretrained ones: latents of unit variance in and out.

B clips, C channels (of x: red, green, blue from -1 to 1), T frames, H rows, W columns
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from trainer.checkpoint import WEIGHTS
from trainer.network.compression import CompressionNetwork, read_network
from trainer.network.stream import DEFAULT_TILING, Tiling, decode_stream, encode_stream

__all__ = ["LatentSpace", "OwnSpace", "read_space"]


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
