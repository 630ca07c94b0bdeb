"""What a compression network is: a flat config, sizes that it can take, and how far one place sees."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

__all__ = ["PRESETS", "RGB", "NetworkConfig", "padded_size"]

RGB = 3


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A stack of stages, from the finest to the one at the latent's own resolution; the decoder mirrors the encoder.

    latent_channels   numbers for each latent position
    patch_px          the sides of the squares of pixels that the first stage sees as one position
    widths            channels of each stage
    time_strides      factor in time from each stage to the next, one fewer than the widths
    space_strides     the same for rows and columns
    encoder_blocks    residual blocks of each stage
    decoder_blocks    the same, in the same order: the finest stage, which decodes last, is the first
    """

    latent_channels: int
    patch_px: int
    widths: tuple[int, ...]
    time_strides: tuple[int, ...]
    space_strides: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("latent_channels", "patch_px"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: must be 1 or more")
        stages = len(self.widths)
        for field, length, least in (
            ("widths", max(1, stages), 1),
            ("time_strides", stages - 1, 1),
            ("space_strides", stages - 1, 1),
            ("encoder_blocks", stages, 0),
            ("decoder_blocks", stages, 0),
        ):
            values = getattr(self, field)
            if len(values) != length:
                raise ValueError(f"{field}={values}: must be {length} of them for the widths {self.widths}")
            if min(values, default=least) < least:
                raise ValueError(f"{field}={values}: each must be {least} or more")
        for (fine, coarse), factor in zip(pairwise(self.widths), self.stage_factors, strict=True):
            if fine * factor % coarse:
                raise ValueError(
                    f"widths={self.widths}: {fine} channels times the stride {factor} must be a multiple of {coarse}"
                )

    @property
    def ratio_time(self) -> int:
        """Frames for each latent frame after the first, which stands for the first frame alone."""
        return prod(self.time_strides)

    @property
    def ratio_space(self) -> int:
        """Pixels for each latent position, along a side."""
        return self.patch_px * prod(self.space_strides)

    @property
    def stage_factors(self) -> tuple[int, ...]:
        """Positions of a stage that become one of the next."""
        return tuple(t * s * s for t, s in zip(self.time_strides, self.space_strides, strict=True))

    @property
    def encoder_halo(self) -> int:
        """Latent positions around a tile whose pixels the tile's latents depend on, on each side."""
        return self._halo(self.encoder_blocks)

    @property
    def decoder_halo(self) -> int:
        """Latent positions around a tile that the tile's pixels depend on, on each side."""
        return self._halo(self.decoder_blocks)

    def _halo(self, blocks: tuple[int, ...]) -> int:
        """Each block, and the convolution at the pixels' end, reaches one position of its stage further."""
        position_px = [self.patch_px * prod(self.space_strides[:stage]) for stage in range(len(self.widths))]
        reach_px = self.patch_px + sum(px * count for px, count in zip(position_px, blocks, strict=True))
        return -(-reach_px // self.ratio_space)

    def latent_size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows and columns of a video. Raises ValueError for a size that does not divide."""
        if frames < 1 or (frames - 1) % self.ratio_time:
            raise ValueError(f"frames={frames}: must be 1 + a multiple of {self.ratio_time}")
        for field, side in (("height", height), ("width", width)):
            if side < 1 or side % self.ratio_space:
                raise ValueError(f"{field}={side}: must be a multiple of {self.ratio_space}")
        return 1 + (frames - 1) // self.ratio_time, height // self.ratio_space, width // self.ratio_space

    def video_size(self, latent_frames: int, latent_height: int, latent_width: int) -> tuple[int, int, int]:
        """Frames, height and width of what a latent decodes to. Raises ValueError for an empty one."""
        for field, side in (
            ("latent_frames", latent_frames),
            ("latent_height", latent_height),
            ("latent_width", latent_width),
        ):
            if side < 1:
                raise ValueError(f"{field}={side}: must be 1 or more")
        frames = 1 + (latent_frames - 1) * self.ratio_time
        return frames, latent_height * self.ratio_space, latent_width * self.ratio_space


def padded_size(config: NetworkConfig, frames: int, height: int, width: int) -> tuple[int, int, int]:
    """The smallest size that the network takes and that holds the asked one. Raises ValueError for an empty one."""
    for field, side in (("frames", frames), ("height", height), ("width", width)):
        if side < 1:
            raise ValueError(f"{field}={side}: must be 1 or more")
    time, space = config.ratio_time, config.ratio_space
    return 1 + -(-(frames - 1) // time) * time, -(-height // space) * space, -(-width // space) * space


PRESETS = {
    "4x8x8": NetworkConfig(
        latent_channels=16,
        patch_px=2,
        widths=(96, 192, 384, 384),
        time_strides=(1, 2, 2),
        space_strides=(2, 2, 1),
        encoder_blocks=(1, 2, 3, 4),
        decoder_blocks=(2, 3, 4, 5),
    ),
    "8x16x16": NetworkConfig(
        latent_channels=128,
        patch_px=4,
        widths=(128, 256, 512, 512),
        time_strides=(2, 2, 2),
        space_strides=(2, 2, 1),
        encoder_blocks=(2, 3, 4, 4),
        decoder_blocks=(3, 4, 5, 5),
    ),
    "tiny-4x8x8": NetworkConfig(
        latent_channels=16,
        patch_px=4,
        widths=(64, 128, 128),
        time_strides=(2, 2),
        space_strides=(2, 1),
        encoder_blocks=(1, 2, 2),
        decoder_blocks=(1, 2, 2),
    ),
    "tiny-8x16x16": NetworkConfig(
        latent_channels=64,
        patch_px=4,
        widths=(48, 96, 192, 192),
        time_strides=(2, 2, 2),
        space_strides=(2, 2, 1),
        encoder_blocks=(1, 1, 2, 1),
        decoder_blocks=(1, 1, 2, 2),
    ),
}
"""By ratio in time, rows and columns; the tiny ones train on a CPU in minutes."""
