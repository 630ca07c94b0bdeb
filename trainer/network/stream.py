"""Videos of any length through the network: a few frames at a time, each in tiles, with the result of the whole.

In time a chunk takes up where the last one ended (`Past`, one for each tile); in space a tile is worked on with as much
around it as it depends on, and that margin is cut off again. So memory depends on the picture's size, never on length.

B clips, C channels, T frames, H rows, W columns, of a video or of its latent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.network.compression import CompressionNetwork
from trainer.network.layers import Past

__all__ = ["DEFAULT_TILING", "Tiling", "decode_stream", "encode_stream"]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How much is worked on at a time. It changes memory and speed, and the result by rounding alone.

    tile_latents    sides of a tile in latent positions, without what is around it
    chunk_latents   latent frames

    Of each tile the last two frames before each convolution in time are kept from chunk to chunk, margins included: for
    1080p and the preset 4x8x8 in float32 that is about 2 GiB when encoding and 4 GiB when decoding. Half precision
    halves it.
    """

    tile_latents: int = 64
    chunk_latents: int = 1

    def __post_init__(self) -> None:
        for field in ("tile_latents", "chunk_latents"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}={getattr(self, field)}: must be 1 or more")


DEFAULT_TILING = Tiling()


@dataclass(frozen=True, slots=True)
class _Side:
    """Along one side, in latent positions: a tile, and the tile with its margin."""

    start: int
    end: int
    margin_start: int
    margin_end: int


def encode_stream(
    network: CompressionNetwork, chunks: Iterable[Tensor], tiling: Tiling = DEFAULT_TILING
) -> Iterator[Tensor]:
    """The posterior means, `chunk_latents` latent frames at a time, of a video that comes in chunks of any length
    (B C T H W, from -1 to 1); together as `network.encode(video).mode`. They are where the frames are, wherever the
    network is. Raises ValueError for sides that do not divide or that change and, at the end, for a length that is not
    1 + a multiple of `ratio_time`: what comes before is given."""
    config, pasts, seen = network.config, defaultdict(Past), 0
    first = 1 + (tiling.chunk_latents - 1) * config.ratio_time
    for x_BCTHW in _regrouped(chunks, first, tiling.chunk_latents * config.ratio_time):
        frames, height, width = x_BCTHW.shape[2:]
        if (seen + frames - 1) % config.ratio_time:
            raise ValueError(f"frames={seen + frames}: must be 1 + a multiple of {config.ratio_time}")
        _, rows, columns = config.latent_size(1, height, width)
        tiles = _tiles(rows, columns, tiling.tile_latents, config.encoder_halo)
        yield _by_tile(
            x_BCTHW, tiles, config.ratio_space, 1, lambda x, tile: network.encoder(x, pasts[tile]).mode, network
        )
        seen += frames


def decode_stream(
    network: CompressionNetwork, latents: Iterable[Tensor], tiling: Tiling = DEFAULT_TILING
) -> Iterator[Tensor]:
    """The video of a latent (B C T H W, not normalised) that comes in chunks of any length; together as
    `network.decode(latent)`. The first chunk has the first frame, and each latent frame after it `ratio_time` frames.
    Raises ValueError for sides that change."""
    config, pasts = network.config, defaultdict(Past)
    for z_BCTHW in _regrouped(latents, tiling.chunk_latents, tiling.chunk_latents):
        rows, columns = z_BCTHW.shape[3:]
        tiles = _tiles(rows, columns, tiling.tile_latents, config.decoder_halo)
        yield _by_tile(z_BCTHW, tiles, 1, config.ratio_space, lambda z, tile: network.decoder(z, pasts[tile]), network)


def _regrouped(chunks: Iterable[Tensor], first: int, following: int) -> Iterator[Tensor]:
    """The same frames in chunks of a steady length, but for the first and the last."""
    held: list[Tensor] = []
    wanted = first
    for chunk in chunks:
        if chunk.ndim != 5:
            raise ValueError(f"chunk={list(chunk.shape)}: must be (clips, channels, frames, rows, columns)")
        if held and _still(chunk) != _still(held[0]):
            raise ValueError(f"chunk={list(chunk.shape)}: must be as the one before, {list(held[0].shape)}")
        held.append(chunk)
        while sum(part.shape[2] for part in held) >= wanted:
            frames = torch.cat(held, 2)
            yield frames[:, :, :wanted]
            held, wanted = [frames[:, :, wanted:].clone()], following  # a view would keep what has been given
    if sum(part.shape[2] for part in held):
        yield torch.cat(held, 2)


def _still(x_BCTHW: Tensor) -> tuple[int, ...]:
    clips, channels, _, height, width = x_BCTHW.shape
    return clips, channels, height, width


def _tiles(rows: int, columns: int, tile: int, halo: int) -> list[tuple[_Side, _Side]]:
    return [(row, column) for row in _sides(rows, tile, halo) for column in _sides(columns, tile, halo)]


def _sides(length: int, tile: int, halo: int) -> list[_Side]:
    starts = range(0, length, tile)
    ends = (min(length, start + tile) for start in starts)
    return [
        _Side(start, end, max(0, start - halo), min(length, end + halo))
        for start, end in zip(starts, ends, strict=True)
    ]


@torch.no_grad()
def _by_tile(
    x_BCTHW: Tensor,
    tiles: list[tuple[_Side, _Side]],
    scale: int,
    scale_after: int,
    work: Callable[[Tensor, tuple[_Side, _Side]], Tensor],
    network: CompressionNetwork,
) -> Tensor:
    """Work on each tile and its margin, and put the tiles together. A latent position is `scale` values wide before the
    work and `scale_after` after it."""
    whole: Tensor | None = None
    for tile in tiles:
        row, column = tile
        cut = x_BCTHW[..., _part(row.margin_start, row.margin_end, scale), :]
        cut = cut[..., _part(column.margin_start, column.margin_end, scale)]
        done = work(cut.to(network.latent_mean_C), tile).to(x_BCTHW.device)
        if whole is None:
            height, width = (side * scale_after // scale for side in x_BCTHW.shape[3:])
            whole = done.new_empty((*done.shape[:3], height, width))
        done = done[..., _part(row.start - row.margin_start, row.end - row.margin_start, scale_after), :]
        done = done[..., _part(column.start - column.margin_start, column.end - column.margin_start, scale_after)]
        whole[..., _part(row.start, row.end, scale_after), _part(column.start, column.end, scale_after)] = done
    assert whole is not None, "a picture has a tile"
    return whole


def _part(start: int, end: int, scale: int) -> slice:
    return slice(start * scale, end * scale)
