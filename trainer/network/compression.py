"""A causal variational autoencoder of video: 1 + k·r frames become 1 + k latent frames, and an image is one frame.

x is a video and z its latent: B clips, C channels (of x: red, green, blue from -1 to 1), T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.checkpoint import load_weights, read_checkpoint, write_checkpoint
from trainer.network.config import RGB, NetworkConfig, padded_size
from trainer.network.layers import Block, Downsample, Past, Upsample, begin_orthogonal, patches, pixels

__all__ = [
    "CompressionNetwork",
    "Posterior",
    "decode_any",
    "encode_any",
    "fit_latent_statistics",
    "pad_sides",
    "read_network",
    "write_network",
]

# The variance of a latent stays from e^-20 to e^10 whatever the encoder says; training begins near e^-10, so that the
# decoder first learns from latents with little noise.
LEAST_LOGVAR, MOST_LOGVAR, FIRST_LOGVAR = -20.0, 10.0, -10.0


@dataclass(frozen=True, slots=True)
class Posterior:
    """A normal distribution for each number of a latent."""

    mean_BCTHW: Tensor
    logvar_BCTHW: Tensor

    @property
    def mode(self) -> Tensor:
        return self.mean_BCTHW

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(self.mean_BCTHW).normal_(generator=generator)
        return self.mean_BCTHW + torch.exp(0.5 * self.logvar_BCTHW) * noise


class Encoder(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.enter = nn.Conv3d(RGB * config.patch_px**2, widths[0], (1, 3, 3), padding=(0, 1, 1))
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(width) for _ in range(count))
            for width, count in zip(widths, config.encoder_blocks, strict=True)
        )
        self.downs = nn.ModuleList(
            Downsample(*arguments)
            for arguments in zip(widths[:-1], widths[1:], config.time_strides, config.space_strides, strict=True)
        )
        self.leave = nn.Conv3d(widths[-1], 2 * config.latent_channels, 1)
        for conv in (self.enter, self.leave):
            begin_orthogonal(conv)
        with torch.no_grad():
            assert self.leave.bias is not None
            self.leave.weight[config.latent_channels :].zero_()
            self.leave.bias[config.latent_channels :].fill_(FIRST_LOGVAR)

    def forward(self, x_BCTHW: Tensor, past: Past | None = None) -> Posterior:
        h_BCTHW = self.enter(patches(x_BCTHW, self.config.patch_px))
        for stage, blocks in enumerate(self.stages):
            if stage:
                h_BCTHW = self.downs[stage - 1](h_BCTHW, past)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h_BCTHW = block(h_BCTHW, past)
        if past:
            past.is_first = False
        mean_BCTHW, logvar_BCTHW = self.leave(h_BCTHW).float().chunk(2, 1)
        return Posterior(mean_BCTHW, logvar_BCTHW.clamp(LEAST_LOGVAR, MOST_LOGVAR))


class Decoder(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.enter = nn.Conv3d(config.latent_channels, widths[-1], 1)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(width) for _ in range(count))
            for width, count in zip(widths, config.decoder_blocks, strict=True)
        )
        self.ups = nn.ModuleList(
            Upsample(*arguments)
            for arguments in zip(widths[1:], widths[:-1], config.time_strides, config.space_strides, strict=True)
        )
        self.leave = nn.Conv3d(widths[0], RGB * config.patch_px**2, (1, 3, 3), padding=(0, 1, 1))
        for conv in (self.enter, self.leave):
            begin_orthogonal(conv)

    def forward(self, z_BCTHW: Tensor, past: Past | None = None) -> Tensor:
        h_BCTHW = self.enter(z_BCTHW)
        for stage in reversed(range(len(self.stages))):
            for block in self.stages[stage]:  # pyright: ignore[reportGeneralTypeIssues]
                h_BCTHW = block(h_BCTHW, past)
            if stage:
                h_BCTHW = self.ups[stage - 1](h_BCTHW, past)
        if past:
            past.is_first = False
        return pixels(self.leave(h_BCTHW), self.config.patch_px).float()


class CompressionNetwork(nn.Module):
    """See the module. Both ways take frames as they come: with a `Past`, chunks give what the whole gives."""

    latent_mean_C: Tensor
    latent_std_C: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.register_buffer("latent_mean_C", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std_C", torch.ones(config.latent_channels))

    @property
    def ratio_time(self) -> int:
        return self.config.ratio_time

    @property
    def ratio_space(self) -> int:
        return self.config.ratio_space

    @property
    def latent_channels(self) -> int:
        return self.config.latent_channels

    def encode(self, x_BCTHW: Tensor) -> Posterior:
        """Of a whole video, from -1 to 1. Raises ValueError for a size that does not divide."""
        _refuse_channels("video", x_BCTHW, RGB)
        self.config.latent_size(*x_BCTHW.shape[2:])
        return self.encoder(x_BCTHW)

    def decode(self, z_BCTHW: Tensor) -> Tensor:
        """The video of a latent that is not normalised, about -1 to 1, not clamped. Raises ValueError."""
        _refuse_channels("latent", z_BCTHW, self.latent_channels)
        self.config.video_size(*z_BCTHW.shape[2:])
        return self.decoder(z_BCTHW)

    def forward(self, x_BCTHW: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """The video again, from a sample of its posterior, and the posterior."""
        posterior = self.encode(x_BCTHW)
        return self.decode(posterior.sample(generator)), posterior

    def normalise(self, z_BCTHW: Tensor) -> Tensor:
        """A latent with mean 0 and variance 1 in each channel, over what `fit_latent_statistics` saw."""
        return (z_BCTHW - _channels(self.latent_mean_C)) / _channels(self.latent_std_C)

    def denormalise(self, z_BCTHW: Tensor) -> Tensor:
        """What `decode` takes, of a normalised latent."""
        return z_BCTHW * _channels(self.latent_std_C) + _channels(self.latent_mean_C)


def _channels(values_C: Tensor) -> Tensor:
    return rearrange(values_C, "c -> c 1 1 1")


def _refuse_channels(what: str, x_BCTHW: Tensor, channels: int) -> None:
    if x_BCTHW.ndim != 5 or x_BCTHW.shape[1] != channels:
        raise ValueError(f"{what}={list(x_BCTHW.shape)}: must be (clips, {channels}, frames, rows, columns)")


def pad_sides(x_BCTHW: Tensor, config: NetworkConfig) -> Tensor:
    """Frames with their right and lower edges repeated up to a size that the network takes; the frames as they are."""
    _, height, width = padded_size(config, *x_BCTHW.shape[2:])
    return F.pad(x_BCTHW, (0, width - x_BCTHW.shape[4], 0, height - x_BCTHW.shape[3], 0, 0), mode="replicate")


def encode_any(network: CompressionNetwork, x_BCTHW: Tensor) -> Posterior:
    """Of a video of any size: its last frame and its edges are repeated as far as need be; `decode_any` crops."""
    frames = padded_size(network.config, *x_BCTHW.shape[2:])[0]
    more = repeat(x_BCTHW[:, :, -1], "b c h w -> b c t h w", t=frames - x_BCTHW.shape[2])
    return network.encode(pad_sides(torch.cat([x_BCTHW, more], 2), network.config))


def decode_any(network: CompressionNetwork, z_BCTHW: Tensor, frames: int, height: int, width: int) -> Tensor:
    """The video that `encode_any` was given, of its size. Raises ValueError where the latent is of another size."""
    padded, latent = padded_size(network.config, frames, height, width), tuple(z_BCTHW.shape[2:])
    if network.config.latent_size(*padded) != latent:
        raise ValueError(f"latent={latent}: must be {network.config.latent_size(*padded)} for the asked size")
    return network.decode(z_BCTHW)[:, :, :frames, :height, :width]


@torch.no_grad()
def fit_latent_statistics(network: CompressionNetwork, clips: Iterable[Tensor]) -> None:
    """Set the mean and the standard deviation of each channel to those of the latents of the clips (B C T H W)."""
    count = 0
    total_C, squares_C = torch.zeros(2, network.latent_channels, dtype=torch.float64)
    for x_BCTHW in clips:
        z_NC = rearrange(network.encode(x_BCTHW).mode, "b c t h w -> (b t h w) c").double().cpu()
        count += len(z_NC)
        total_C += z_NC.sum(0)
        squares_C += z_NC.square().sum(0)
    if count < 2:
        raise ValueError(f"clips={count} latent positions of them: must be 2 or more")
    mean_C = total_C / count
    variance_C = (squares_C / count - mean_C.square()).clamp(min=1e-12)
    network.latent_mean_C.copy_(mean_C)
    network.latent_std_C.copy_(variance_C.sqrt())


def write_network(directory: Path, network: CompressionNetwork) -> None:
    """Config, weights and latent statistics. Raises OSError."""
    write_checkpoint(directory, network.config, network.state_dict())


def read_network(directory: Path) -> CompressionNetwork:
    """The same network, on the CPU, in evaluation mode. Raises BadCheckpoint."""
    config, tensors = read_checkpoint(directory, NetworkConfig)
    network = CompressionNetwork(config)
    load_weights(network, tensors, str(directory))
    return network.eval()
