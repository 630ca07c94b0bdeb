"""Chunks and tiles give what the whole gives, a tile's margin is what it must be, and memory does not grow with length.

B clips, C channels, T frames, H rows, W columns.
"""

import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainer.network.compression import CompressionNetwork
from trainer.network.config import PRESETS, NetworkConfig
from trainer.network.stream import Tiling, decode_stream, encode_stream

DEEP = NetworkConfig(
    latent_channels=4,
    patch_px=2,
    widths=(6, 12, 12),
    time_strides=(2, 2),
    space_strides=(2, 1),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(2, 1, 1),
)
THREES = NetworkConfig(
    latent_channels=3,
    patch_px=1,
    widths=(4, 8, 8),
    time_strides=(3, 1),
    space_strides=(2, 3),
    encoder_blocks=(3, 1, 1),
    decoder_blocks=(0, 2, 1),
)
CONFIGS = {"deep": DEEP, "threes": THREES}


def network_of(config: NetworkConfig) -> CompressionNetwork:
    torch.manual_seed(0)
    network = CompressionNetwork(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


def split(x_BCTHW: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    return list(x_BCTHW.split(lengths, 2))


# lengths in which 17 (16 for ratio 3) frames come, tile, latent frames at a time
WAYS = [
    ((17,), 100, 1),
    ((17,), 100, 3),
    ((1,) * 17, 100, 1),
    ((5, 12), 100, 2),
    ((3, 7, 0, 6, 1), 100, 1),
    ((17,), 2, 100),
    ((2, 15), 3, 2),
    ((16, 1), 2, 1),
]


@pytest.mark.parametrize(("lengths", "tile", "chunk"), WAYS)
@pytest.mark.parametrize("name", CONFIGS)
def test_streams_equal_the_whole(name: str, lengths: tuple[int, ...], tile: int, chunk: int):
    network = network_of(CONFIGS[name])
    if network.ratio_time == 3:
        lengths = (*lengths[:-1], lengths[-1] - 1) if lengths[-1] > 1 else lengths[:-1]
    space = network.ratio_space
    x = torch.rand(2, 3, sum(lengths), 5 * space, 3 * space) * 2 - 1
    tiling = Tiling(tile, chunk)
    with torch.no_grad():
        z = network.encode(x).mode
        parts = list(encode_stream(network, split(x, lengths), tiling))
        assert {part.shape[2] for part in parts[:-1]} <= {chunk}
        torch.testing.assert_close(torch.cat(parts, 2), z, atol=1e-5, rtol=1e-4)
        again = list(decode_stream(network, parts, tiling))
        torch.testing.assert_close(torch.cat(again, 2), network.decode(z), atol=1e-5, rtol=1e-4)


def reach(moved_HW: Tensor, middle: int) -> int:
    """How far from the middle something moved, in positions, over all four directions."""
    rows, columns = torch.nonzero(moved_HW, as_tuple=True)
    return int(torch.cat([rows - middle, columns - middle]).abs().max())


@pytest.mark.parametrize("name", [*CONFIGS, "tiny-4x8x8", "tiny-8x16x16"])
def test_the_encoders_halo_is_enough_and_not_more(name: str):
    """A change of one latent position's pixels moves latents as far as the halo, and no further."""
    config = CONFIGS.get(name) or PRESETS[name]
    network, halo, space = network_of(config).double(), config.encoder_halo, config.ratio_space
    middle = halo + 2
    x = torch.rand(1, 3, 1, *2 * ((2 * middle + 1) * space,), dtype=torch.float64)
    changed = x.clone()
    changed[..., middle * space : (middle + 1) * space, middle * space : (middle + 1) * space] += 1
    with torch.no_grad():
        moved = (network.encoder(x).mode != network.encoder(changed).mode)[0].any(0)[0]
    assert reach(moved, middle) == halo


@pytest.mark.parametrize("name", [*CONFIGS, "tiny-4x8x8", "tiny-8x16x16"])
def test_the_decoders_halo_is_enough_and_not_more(name: str):
    config = CONFIGS.get(name) or PRESETS[name]
    network, halo, space = network_of(config).double(), config.decoder_halo, config.ratio_space
    middle = halo + 2
    z = torch.randn(1, config.latent_channels, 1, *2 * (2 * middle + 1,), dtype=torch.float64)
    changed = z.clone()
    changed[..., middle, middle] += 1
    with torch.no_grad():
        moved = (network.decoder(z) != network.decoder(changed))[0].any(0)[0]
    latent_positions = torch.nn.functional.max_pool2d(moved[None, None].double(), space)[0, 0]
    assert reach(latent_positions, middle) == halo


def test_too_small_a_margin_would_be_seen(monkeypatch):
    """Guards the equality above against tiles that never needed their margin."""
    network, x = network_of(DEEP), torch.rand(1, 3, 1, 32, 32)
    monkeypatch.setattr(NetworkConfig, "encoder_halo", DEEP.encoder_halo - 1)
    with torch.no_grad():
        tiled = torch.cat(list(encode_stream(network, [x], Tiling(2))), 2)
        assert (tiled - network.encode(x).mode).abs().max() > 1e-4


def test_latents_come_as_soon_as_their_frames_have():
    network, read = network_of(DEEP), []

    def frames():
        for frame in range(9):
            read.append(frame)
            yield torch.zeros(1, 3, 1, 4, 4)

    assert [len(read) for _ in encode_stream(network, frames())] == [1, 5, 9]


def test_what_comes_before_a_bad_end_is_given():
    network = network_of(DEEP)
    stream = encode_stream(network, [torch.zeros(1, 3, 7, 4, 4)])
    assert [z.shape[2] for z in itertools.islice(stream, 2)] == [1, 1]
    with pytest.raises(ValueError, match="frames=7: must be 1 \\+ a multiple of 4"):
        next(stream)


BAD_STREAMS = [
    ([(1, 3, 1, 4, 4), (1, 3, 4, 8, 4)], "must be as the one before"),
    ([(1, 3, 1, 4, 4), (2, 3, 4, 4, 4)], "must be as the one before"),
    ([(1, 3, 1, 5, 4)], "height=5: must be a multiple of 4"),
    ([(3, 1, 4, 4)], r"must be \(clips, channels, frames"),
]


@pytest.mark.parametrize(("shapes", "message"), BAD_STREAMS)
def test_impossible_streams_are_refused(shapes: list[tuple[int, ...]], message: str):
    with pytest.raises(ValueError, match=message):
        list(encode_stream(network_of(DEEP), [torch.zeros(shape) for shape in shapes]))


def test_an_empty_stream_is_empty():
    assert list(encode_stream(network_of(DEEP), [])) == list(decode_stream(network_of(DEEP), [])) == []


@pytest.mark.parametrize("change", [{"tile_latents": 0}, {"chunk_latents": -1}])
def test_impossible_tilings_are_refused(change: dict[str, int]):
    with pytest.raises(ValueError, match="must be 1 or more"):
        Tiling(**change)


MEASURE = """
import resource, torch
from trainer.network.compression import CompressionNetwork
from trainer.network.config import NetworkConfig
from trainer.network.stream import Tiling, decode_stream, encode_stream

torch.set_num_threads(1)
network = CompressionNetwork(NetworkConfig(4, 8, (16, 16), (4,), (1,), (0, 1), (1, 0))).eval()

def peak_kib(frames):
    video = (torch.zeros(1, 3, 1, 96, 96) for _ in range(frames))
    count = sum(x.shape[2] for x in decode_stream(network, encode_stream(network, video, Tiling(8)), Tiling(8)))
    assert count == frames
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(peak_kib(25), peak_kib(249))
"""


def test_memory_does_not_grow_with_length():
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=root, capture_output=True, text=True, check=True)
    short, long = map(int, done.stdout.split())
    video_kib = 224 * 3 * 96 * 96 * 4 / 1024  # what the longer one has more, 24 MiB
    assert long - short < 0.25 * video_kib
