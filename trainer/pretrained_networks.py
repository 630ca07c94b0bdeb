"""Pretrained video autoencoders of diffusers as compression networks: Wan, CogVideoX, LTX-Video and HunyuanVideo.

All four are causal in time: the first frame is a latent frame of its own, and each `ratio_time` frames after it are one
more. What they say of their latents' mean and spread differs and is one formula here, z = (raw - mean) / std.
diffusers (the extra `pretrained`) is imported when a network is loaded.

Letters of shapes: B clips, C channels, T frames or latent frames, H and W pixels or latent cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from curation.model_files import BadModel, content_id
from trainer.pretrained_files import first_line, need_safetensors, part_directory, read_config

__all__ = ["PretrainedNetwork", "pretrained_network_id"]

PART = "vae"  # where a pipeline of diffusers has it
KNOWN = ("AutoencoderKLWan", "AutoencoderKLCogVideoX", "AutoencoderKLLTXVideo", "AutoencoderKLHunyuanVideo")
PICTURE_CHANNELS = 3
NOISE_SEED = 0  # of the noise that decoders of LTX-Video add, so that the same latent is always the same video


def pretrained_network_id(id_or_dir: str) -> str:
    """The `network_id` that a network will have, without loading it. Raises BadModel."""
    return content_id("network", part_directory(id_or_dir, PART))


class PretrainedNetwork:
    """A loaded autoencoder; make one with `PretrainedNetwork.load`. Frozen; not for several threads at once.

    Attributes:
        ratio_time: Frames to a latent frame, but for the first; a clip has 1 + k · ratio_time frames.
        ratio_space: Pixels to the side of a latent cell.
        latent_channels: C of a latent.
        network_id: Hash of config and weights. Neither tiling nor dtype is in it: the space is the same.
    """

    def __init__(self, name: str, network_id: str, vae: Any, space: _Space):
        self.network_id, self._name, self._vae, self._space = network_id, name, vae, space
        self.ratio_time, self.ratio_space = space.ratio_time, space.ratio_space
        self.latent_channels = space.latent_channels

    @classmethod
    def load(
        cls, id_or_dir: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32, tiling: bool = False
    ) -> PretrainedNetwork:
        """From a directory, a pipeline's directory or the hub.

        `tiling` works on large frames in overlapping tiles, as diffusers does by default: less memory, other numbers
        near the seams. Raises BadModel for what is none of the four, or is not what its config says.
        """
        directory = part_directory(id_or_dir, PART)
        config = read_config(directory, "a video autoencoder of diffusers, or that of its pipeline")
        family, space_of = _family(directory, config.get("_class_name"))
        need_safetensors(directory)
        try:
            vae, report = family.from_pretrained(
                directory, use_safetensors=True, local_files_only=True, output_loading_info=True, torch_dtype=dtype
            )
            if report["missing_keys"]:
                raise BadModel(f"{id_or_dir}: its weights lack {sorted(report['missing_keys'])[0]} and others")
            space = space_of(vae)
            space.check()
        except BadModel:
            raise
        except Exception as error:  # files that do not fit raise errors of many kinds, none of them a fault of ours
            raise BadModel(f"{id_or_dir}: cannot be loaded: {first_line(error)}") from error
        vae = vae.to(device).eval().requires_grad_(False)
        network = cls(id_or_dir, content_id("network", directory), vae, space.to(device))
        network._try()
        if tiling:
            vae.enable_tiling()
        return network

    @torch.no_grad()
    def encode(self, x_BCTHW: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents z_BCTHW of variance about 1, as float32, on the network's device.

        x_BCTHW is in [-1, 1], has 1 + k · ratio_time frames and sides that ratio_space divides. With a generator the
        latents are drawn, else they are the most likely ones. Raises ValueError, and BadModel where the network gives
        no numbers.
        """
        self._refuse_other_than(x_BCTHW)
        B, _, T, H, W = x_BCTHW.shape
        distribution = self._vae.encode(x_BCTHW.to(self._vae.device, self._vae.dtype)).latent_dist
        raw_BCTHW = distribution.mode() if generator is None else distribution.sample(generator)
        shape = B, self.latent_channels, 1 + (T - 1) // self.ratio_time, H // self.ratio_space, W // self.ratio_space
        return self._whole(self._space.normalised(raw_BCTHW.float()), shape)

    @torch.no_grad()
    def decode(self, z_BCTHW: Tensor) -> Tensor:
        """The video x_BCTHW of latents, in [-1, 1] as float32; the same latents give the same video.

        Raises ValueError, and BadModel where the network gives no numbers.
        """
        if z_BCTHW.ndim != 5 or 0 in z_BCTHW.shape or z_BCTHW.shape[1] != self.latent_channels:
            raise ValueError(f"z_BCTHW of shape {list(z_BCTHW.shape)}: must be (B, {self.latent_channels}, T, H, W)")
        B, _, T, H, W = z_BCTHW.shape
        raw_BCTHW = self._space.raw(z_BCTHW.to(self._vae.device).float()).to(self._vae.dtype)
        x_BCTHW = self._space.decode(self._vae, raw_BCTHW).float().clamp(-1, 1)
        shape = B, PICTURE_CHANNELS, 1 + (T - 1) * self.ratio_time, H * self.ratio_space, W * self.ratio_space
        return self._whole(x_BCTHW, shape)

    def _refuse_other_than(self, x_BCTHW: Tensor) -> None:
        shape = list(x_BCTHW.shape)
        if x_BCTHW.ndim != 5 or 0 in shape or shape[1] != PICTURE_CHANNELS or not x_BCTHW.is_floating_point():
            raise ValueError(f"x_BCTHW of shape {shape}, {x_BCTHW.dtype}: must be (B, 3, T, H, W) of floats")
        frames, *sides = shape[2:]
        if frames % self.ratio_time != 1 % self.ratio_time:
            raise ValueError(f"frames={frames}: must be 1 + k · {self.ratio_time} for {self._name}")
        for name, pixels in zip(("height", "width"), sides, strict=True):
            if pixels % self.ratio_space:
                raise ValueError(f"{name}={pixels}: must be a multiple of {self.ratio_space} for {self._name}")
        if not x_BCTHW.abs().max() <= 1:  # so put, it refuses NaN too
            low, high = x_BCTHW.min().item(), x_BCTHW.max().item()
            raise ValueError(f"x_BCTHW from {low:.4g} to {high:.4g}: must be in [-1, 1]")

    def _whole(self, given_BCTHW: Tensor, shape: tuple[int, ...]) -> Tensor:
        if given_BCTHW.shape != shape:
            raise BadModel(f"{self._name}: gave {list(given_BCTHW.shape)} where its config promises {list(shape)}")
        if not given_BCTHW.isfinite().all():
            raise BadModel(f"{self._name}: gave values that are not finite; load it with another dtype")
        return given_BCTHW

    def _try(self) -> None:
        """Encode and decode the least clip that shows both ratios, so that they are true and not only written down."""
        side = 2 * self.ratio_space
        blank_BCTHW = torch.zeros(1, PICTURE_CHANNELS, 1 + self.ratio_time, side, side)
        try:
            self.decode(self.encode(blank_BCTHW))
        except BadModel:
            raise
        except Exception as error:  # a model whose parts do not fit fails in as many ways as there are layers
            raise BadModel(f"{self._name}: cannot be run as its config says: {first_line(error)}") from error


# -- what each family says of its latents


@dataclass(frozen=True, slots=True)
class _Space:
    """A network's latents: their ratios, and per channel what they are normalised with, z = (raw - mean) / std."""

    ratio_time: int
    ratio_space: int
    latent_channels: int
    mean_C: Tensor
    std_C: Tensor
    decode: Callable[[Any, Tensor], Tensor]

    def check(self) -> None:
        for name in ("ratio_time", "ratio_space", "latent_channels"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name}={value}: must be a whole number of at least 1")
        for name, value_C in (("mean", self.mean_C), ("std", self.std_C)):
            if value_C.shape != (self.latent_channels,) or not value_C.isfinite().all():
                raise ValueError(f"latents' {name}: must be a number for each of {self.latent_channels} channels")
        if not (self.std_C > 0).all():
            raise ValueError(f"latents' std of {self.std_C.min().item():.4g}: must be above 0")

    def to(self, device: str) -> _Space:
        return replace(self, mean_C=self.mean_C.to(device), std_C=self.std_C.to(device))

    def normalised(self, raw_BCTHW: Tensor) -> Tensor:
        return (raw_BCTHW - _over_cells(self.mean_C)) / _over_cells(self.std_C)

    def raw(self, z_BCTHW: Tensor) -> Tensor:
        return z_BCTHW * _over_cells(self.std_C) + _over_cells(self.mean_C)


def _over_cells(value_C: Tensor) -> Tensor:
    return rearrange(value_C, "c -> c 1 1 1")


def _family(directory: Path, class_name: Any) -> tuple[Any, Callable[[Any], _Space]]:
    """The class of diffusers and what reads its latents' space."""
    if class_name not in KNOWN:
        raise BadModel(f"{directory}: is a {str(class_name)[:60]}, and one of {', '.join(KNOWN)} is needed")
    try:
        from diffusers.models.autoencoders import (
            autoencoder_kl_cogvideox,
            autoencoder_kl_hunyuan_video,
            autoencoder_kl_ltx,
            autoencoder_kl_wan,
        )
        from diffusers.utils import logging
    except ImportError as error:
        raise BadModel(f"{directory}: {error}; install the extra `pretrained`") from error
    logging.disable_progress_bar()
    match class_name:
        case "AutoencoderKLWan":
            return autoencoder_kl_wan.AutoencoderKLWan, _wan
        case "AutoencoderKLCogVideoX":
            return autoencoder_kl_cogvideox.AutoencoderKLCogVideoX, _cogvideox
        case "AutoencoderKLLTXVideo":
            return autoencoder_kl_ltx.AutoencoderKLLTXVideo, _ltx
        case _:
            return autoencoder_kl_hunyuan_video.AutoencoderKLHunyuanVideo, _hunyuan


def _wan(vae: Any) -> _Space:
    """As pipeline_wan.py: raw = z · latents_std + latents_mean. The ratios include Wan 2.2's patches."""
    config = vae.config
    mean_C, std_C = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
    return _Space(config.scale_factor_temporal, config.scale_factor_spatial, config.z_dim, mean_C, std_C, _decoded)


def _cogvideox(vae: Any) -> _Space:
    """As pipeline_cogvideox.py: raw = z / scaling_factor.

    `invert_scale_latents` says how CogVideoX 1.5 scales the picture that it is conditioned on, by a slip of its
    training (pipeline_cogvideox_image2video.py). Its videos are scaled as ever, and only that gives a variance of 1.
    """
    config, channels = vae.config, vae.config.latent_channels
    ratio_space = 2 ** (len(config.block_out_channels) - 1)
    mean_C, std_C = torch.zeros(channels), torch.full((channels,), 1 / config.scaling_factor)
    return _Space(int(config.temporal_compression_ratio), ratio_space, channels, mean_C, std_C, _decoded_cogvideox)


def _ltx(vae: Any) -> _Space:
    """As pipeline_ltx.py: raw = z · latents_std / scaling_factor + latents_mean, both among the weights."""
    std_C = vae.latents_std.float() / vae.config.scaling_factor
    ratios = vae.temporal_compression_ratio, vae.spatial_compression_ratio
    return _Space(*ratios, vae.config.latent_channels, vae.latents_mean.float(), std_C, _decoded_ltx)


def _hunyuan(vae: Any) -> _Space:
    """As pipeline_hunyuan_video.py: raw = z / scaling_factor."""
    config, channels = vae.config, vae.config.latent_channels
    ratios = config.temporal_compression_ratio, config.spatial_compression_ratio
    return _Space(
        *ratios, channels, torch.zeros(channels), torch.full((channels,), 1 / config.scaling_factor), _decoded
    )


# -- how each family decodes


def _decoded(vae: Any, raw_BCTHW: Tensor) -> Tensor:
    return vae.decode(raw_BCTHW).sample


def _decoded_cogvideox(vae: Any, raw_BCTHW: Tensor) -> Tensor:
    """diffusers decodes two latent frames at once, and the first as one frame only where their number is odd. An even
    number gets its last once more, which the causal decoder sees after the others, and the frames of it are cut off."""
    if raw_BCTHW.shape[2] % 2:
        return _decoded(vae, raw_BCTHW)
    longer_BCTHW = torch.cat([raw_BCTHW, raw_BCTHW[:, :, -1:]], dim=2)
    return _decoded(vae, longer_BCTHW)[:, :, : -int(vae.config.temporal_compression_ratio)]


def _decoded_ltx(vae: Any, raw_BCTHW: Tensor) -> Tensor:
    """Decoders since LTX-Video 0.9.1 denoise a last time: they are told the noise of a latent, and it has none, as in
    pipeline_ltx.py where nothing else is asked for. Some add noise of their own, from torch's global generator."""
    here = raw_BCTHW.device
    level_B = raw_BCTHW.new_zeros(len(raw_BCTHW)) if vae.config.timestep_conditioning else None
    with torch.random.fork_rng(devices=[here] if here.type == "cuda" else []):
        torch.manual_seed(NOISE_SEED)
        return vae.decode(raw_BCTHW, level_B).sample
