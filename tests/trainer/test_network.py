"""The compression network: what it takes, what it gives, and what depends on what.

B clips, C channels, T frames, H rows, W columns.
"""

from dataclasses import fields, replace

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.checkpoint import BadCheckpoint
from trainer.network.compression import (
    CompressionNetwork,
    Posterior,
    decode_any,
    encode_any,
    fit_latent_statistics,
    pad_sides,
    read_network,
    write_network,
)
from trainer.network.config import PRESETS, NetworkConfig, padded_size

SMALL = NetworkConfig(
    latent_channels=5,
    patch_px=2,
    widths=(6, 12, 12),
    time_strides=(2, 2),
    space_strides=(2, 1),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 0, 1),
)
SPACE_LATE = NetworkConfig(
    latent_channels=3,
    patch_px=1,
    widths=(4, 8, 8, 8),
    time_strides=(1, 3, 1),
    space_strides=(2, 1, 3),
    encoder_blocks=(2, 0, 1, 1),
    decoder_blocks=(1, 2, 1, 0),
)
IMAGES = NetworkConfig(4, 4, (8,), (), (), (2,), (1,))
CONFIGS = {"small": SMALL, "strides of 3": SPACE_LATE, "one stage": IMAGES}


def network_of(config: NetworkConfig, seed: int = 0) -> CompressionNetwork:
    """With weights that all matter: a new network's convolutions in time are 0."""
    torch.manual_seed(seed)
    network = CompressionNetwork(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network


def video(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ratio in time, in space, latent channels
RATIOS = {
    "4x8x8": (4, 8, 16),
    "8x16x16": (8, 16, 128),
    "tiny-4x8x8": (4, 8, 16),
    "tiny-8x16x16": (8, 16, 64),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_ratios_of_their_names(name: str):
    config = PRESETS[name]
    assert (config.ratio_time, config.ratio_space, config.latent_channels) == RATIOS[name]
    assert config.encoder_halo * config.ratio_space <= 224
    assert config.decoder_halo * config.ratio_space <= 224


SHAPES = [
    # video (B C T H W), latent
    ("small", (1, 3, 1, 4, 4), (1, 5, 1, 1, 1)),
    ("small", (2, 3, 5, 8, 12), (2, 5, 2, 2, 3)),
    ("small", (1, 3, 13, 12, 4), (1, 5, 4, 3, 1)),
    ("strides of 3", (1, 3, 7, 12, 18), (1, 3, 3, 2, 3)),
    ("one stage", (3, 3, 4, 8, 8), (3, 4, 4, 2, 2)),
]


@pytest.mark.parametrize(("name", "shape", "latent"), SHAPES)
def test_shapes(name: str, shape: tuple[int, ...], latent: tuple[int, ...]):
    network = network_of(CONFIGS[name])
    posterior = network.encode(video(*shape))
    assert posterior.mode.shape == posterior.logvar_BCTHW.shape == latent
    assert network.decode(posterior.mode).shape == shape
    assert network.config.latent_size(*shape[2:]) == latent[2:]
    assert network.config.video_size(*latent[2:]) == shape[2:]


@pytest.mark.parametrize("name", ["tiny-4x8x8", "tiny-8x16x16"])
def test_tiny_presets_run(name: str):
    network = CompressionNetwork(PRESETS[name])
    again, posterior = network(video(1, 3, 9, 32, 48))
    assert again.shape == (1, 3, 9, 32, 48)
    assert posterior.mode.shape[1] == network.latent_channels


IMPOSSIBLE = [
    ({"latent_channels": 0}, "latent_channels=0: must be 1 or more"),
    ({"patch_px": -1}, "patch_px=-1: must be 1 or more"),
    ({"widths": ()}, "widths=(): must be 1 of them"),
    ({"widths": (6, 0, 12)}, "widths=(6, 0, 12): each must be 1 or more"),
    ({"widths": (6, 12, 7)}, "12 channels times the stride 2 must be a multiple of 7"),
    ({"time_strides": (2,)}, "time_strides=(2,): must be 2 of them"),
    ({"space_strides": (2, 0)}, "space_strides=(2, 0): each must be 1 or more"),
    ({"encoder_blocks": (1, 1)}, "encoder_blocks=(1, 1): must be 3 of them"),
    ({"decoder_blocks": (1, 1, -1)}, "decoder_blocks=(1, 1, -1): each must be 0 or more"),
]


@pytest.mark.parametrize(("change", "message"), IMPOSSIBLE)
def test_impossible_configs_are_refused(change: dict[str, object], message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011, the message is compared below
        replace(SMALL, **change)  # pyright: ignore[reportArgumentType]
    assert message in str(error.value)


BAD_VIDEOS = [
    ((1, 3, 4, 8, 8), "frames=4: must be 1 + a multiple of 4"),
    ((1, 3, 0, 8, 8), "frames=0: must be 1 + a multiple of 4"),
    ((1, 3, 5, 9, 8), "height=9: must be a multiple of 4"),
    ((1, 3, 5, 8, 2), "width=2: must be a multiple of 4"),
    ((1, 3, 5, 0, 8), "height=0: must be a multiple of 4"),
    ((1, 4, 5, 8, 8), "must be (clips, 3, frames"),
    ((3, 5, 8, 8), "must be (clips, 3, frames"),
]


@pytest.mark.parametrize(("shape", "message"), BAD_VIDEOS)
def test_impossible_videos_are_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        network_of(SMALL).encode(torch.zeros(shape))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 4, 1, 1, 1), "clips, 5, frames"), ((1, 5, 0, 1, 1), "latent_frames=0")]
)
def test_impossible_latents_are_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        network_of(SMALL).decode(torch.zeros(shape))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_encoder_does_not_see_the_future(name: str):
    network = network_of(CONFIGS[name])
    ratio = network.ratio_time
    x = video(1, 3, 1 + 3 * ratio, *2 * (2 * network.ratio_space,))
    z = network.encode(x).mode
    for frame in range(x.shape[2]):
        changed = x.clone()
        changed[:, :, frame] += 1
        moved = (network.encode(changed).mode - z).abs().amax((0, 1, 3, 4))
        own = -(-frame // ratio)  # the first frame has a latent frame of its own
        assert not moved[:own].any()
        assert moved[own] > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_the_decoder_does_not_see_the_future(name: str):
    network = network_of(CONFIGS[name])
    ratio = network.ratio_time
    z = torch.randn(1, network.latent_channels, 4, 2, 2)
    x = network.decode(z)
    for frame in range(4):
        changed = z.clone()
        changed[:, :, frame] += 1
        moved = (network.decode(changed) - x).abs().amax((0, 1, 3, 4))
        start = 1 + (frame - 1) * ratio if frame else 0
        assert not moved[:start].any()
        assert moved[start] > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_an_image_is_a_video_of_one_frame(name: str):
    network = network_of(CONFIGS[name])
    x = video(2, 3, 1 + 2 * network.ratio_time, *2 * (2 * network.ratio_space,))
    z = network.encode(x).mode
    image = network.encode(x[:, :, :1]).mode
    torch.testing.assert_close(image, z[:, :, :1])
    first = network.decode(z)[:, :, :1]
    torch.testing.assert_close(network.decode(image), first, atol=1e-4, rtol=1e-4)


def test_clips_of_a_batch_do_not_meet():
    network, x = network_of(SMALL), video(3, 3, 5, 8, 8)
    alone = torch.cat([network.encode(clip[None]).mode for clip in x])
    torch.testing.assert_close(network.encode(x).mode, alone)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 11))
def test_any_size_comes_back(frames: int, height: int, width: int):
    network = network_of(SMALL)
    x = video(1, 3, frames, height, width)
    z = encode_any(network, x).mode
    padded = padded_size(SMALL, frames, height, width)
    assert all(p - s < ratio for p, s, ratio in zip(padded, (frames, height, width), (4, 4, 4), strict=True))
    assert SMALL.latent_size(*padded) == z.shape[2:]
    again = decode_any(network, z, frames, height, width)
    assert again.shape == x.shape
    torch.testing.assert_close(again, network.decode(z)[:, :, :frames, :height, :width])


def test_padding_repeats_the_edges():
    x = video(1, 3, 2, 3, 5)
    padded = pad_sides(x, SMALL)
    assert padded.shape == (1, 3, 2, 4, 8)
    assert torch.equal(padded[..., :3, :5], x)
    assert torch.equal(padded[..., 3, :5], x[..., 2, :])
    assert torch.equal(padded[..., :3, 7], x[..., 4])


def test_a_latent_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"latent=\(1, 1, 1\): must be \(2, 1, 1\)"):
        decode_any(network_of(SMALL), torch.zeros(1, 5, 1, 1, 1), 2, 4, 4)
    with pytest.raises(ValueError, match="frames=0: must be 1 or more"):
        padded_size(SMALL, 0, 4, 4)


def test_samples_follow_the_posterior():
    posterior = Posterior(torch.full((1, 1, 1, 100, 100), 3.0), torch.full((1, 1, 1, 100, 100), 0.5).log())
    first, second = (posterior.sample(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert abs(first.mean() - 3) < 0.02
    assert abs(first.var() - 0.5) < 0.02
    assert torch.equal(posterior.mode, posterior.mean_BCTHW)


def test_normalised_latents_have_unit_variance():
    network = network_of(SMALL)
    clips = [video(2, 3, 5, 16, 16, seed=seed) * (seed + 1) for seed in range(4)]
    fit_latent_statistics(network, clips)
    z = torch.cat([network.encode(clip).mode for clip in clips])
    z_NC = rearrange(network.normalise(z), "b c t h w -> (b t h w) c")
    torch.testing.assert_close(z_NC.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(z_NC.std(0, correction=0), torch.ones(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(network.denormalise(network.normalise(z)), z)
    with pytest.raises(ValueError, match="clips=0 latent positions"):
        fit_latent_statistics(network, [])


def test_a_checkpoint_gives_the_same_network(tmp_path):
    network, x = network_of(SMALL), video(1, 3, 5, 8, 8)
    fit_latent_statistics(network, [x])
    write_network(tmp_path, network)
    again = read_network(tmp_path)
    assert again.config == network.config
    assert not again.training
    assert all(isinstance(getattr(again.config, field.name), int | tuple) for field in fields(again.config))
    z, z_again = network.normalise(network.encode(x).mode), again.normalise(again.encode(x).mode)
    assert torch.equal(z, z_again)
    assert torch.equal(network.decode(z), again.decode(z))


def test_weights_of_another_network_are_refused(tmp_path):
    write_network(tmp_path, network_of(SMALL))
    write_network(tmp_path / "other", network_of(IMAGES))
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="its config is not its weights' own"):
        read_network(tmp_path)
