"""Adapters to autoencoders of diffusers, over tiny networks of each family with random weights.

What a network must give is worked out here with diffusers' own class and the formula of its pipeline, by hand.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from curation.model_files import BadModel
from tests.spoiled_models import rewritten, without, written
from trainer.pretrained_networks import KNOWN, PretrainedNetwork, pretrained_network_id

CHANNELS = 4
WEIGHTS = "diffusion_pytorch_model.safetensors"
MEAN_C, STD_C = torch.tensor([-0.5, 0.0, 0.25, 1.5]), torch.tensor([0.5, 1.0, 2.0, 0.125])
SCALE = 0.7


@dataclass(frozen=True, slots=True)
class Variant:
    """A network that exists, made small: its class, its config, and what it is to say of itself."""

    family: str
    config: dict[str, Any]
    ratio_time: int
    ratio_space: int
    normalised: Callable[[Tensor], Tensor]


def by_mean_and_std(raw_BCTHW: Tensor) -> Tensor:
    return (raw_BCTHW - MEAN_C.view(1, -1, 1, 1, 1)) / STD_C.view(1, -1, 1, 1, 1)


def by_factor(raw_BCTHW: Tensor) -> Tensor:
    return raw_BCTHW * SCALE


def by_all(raw_BCTHW: Tensor) -> Tensor:
    return (raw_BCTHW - MEAN_C.view(1, -1, 1, 1, 1)) * SCALE / STD_C.view(1, -1, 1, 1, 1)


WAN: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": CHANNELS,
    "dim_mult": [1, 2, 2, 2],
    "num_res_blocks": 1,
    "latents_mean": MEAN_C.tolist(),
    "latents_std": STD_C.tolist(),
}
WAN_22 = WAN | {
    "decoder_base_dim": 8,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
WAN_SHALLOW = WAN | {"dim_mult": [1, 2, 2], "temperal_downsample": [True, True], "scale_factor_spatial": 4}
COGVIDEOX: dict[str, Any] = {
    "latent_channels": CHANNELS,
    "block_out_channels": (4, 4, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": SCALE,
    "sample_height": 96,  # tiles are half of it
    "sample_width": 80,
}
LTX: dict[str, Any] = {
    "latent_channels": CHANNELS,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "decoder_layers_per_block": (1, 1, 1, 1, 1),
    "scaling_factor": SCALE,
}
LTX_NOISY_DECODER: dict[str, Any] = {
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True, True, True),
    "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True, True, True),
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
}
LTX_095 = (
    LTX
    | LTX_NOISY_DECODER
    | {
        "block_out_channels": (4, 8, 8, 16, 16),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "spatio_temporal_scaling": (True, True, True, True),
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "decoder_inject_noise": (False, False, False, False),
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    }
)
HUNYUAN: dict[str, Any] = {
    "latent_channels": CHANNELS,
    "block_out_channels": (4, 4, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": SCALE,
}

VARIANTS = {
    "Wan 2.1": Variant("AutoencoderKLWan", WAN, 4, 8, by_mean_and_std),
    "Wan 2.2": Variant("AutoencoderKLWan", WAN_22, 4, 16, by_mean_and_std),
    "a shallow Wan": Variant("AutoencoderKLWan", WAN_SHALLOW, 4, 4, by_mean_and_std),
    "CogVideoX": Variant("AutoencoderKLCogVideoX", COGVIDEOX, 4, 8, by_factor),
    # Only the picture that it is conditioned on is scaled the other way.
    "CogVideoX 1.5": Variant(
        "AutoencoderKLCogVideoX", COGVIDEOX | {"invert_scale_latents": True}, 4, 8, by_factor
    ),
    "CogVideoX of 8": Variant("AutoencoderKLCogVideoX", COGVIDEOX | {"temporal_compression_ratio": 8}, 8, 8, by_factor),
    "LTX-Video": Variant("AutoencoderKLLTXVideo", LTX, 8, 32, by_all),
    "LTX-Video 0.9.1": Variant("AutoencoderKLLTXVideo", LTX | LTX_NOISY_DECODER, 8, 32, by_all),
    "LTX-Video 0.9.5": Variant("AutoencoderKLLTXVideo", LTX_095, 8, 32, by_all),
    "HunyuanVideo": Variant("AutoencoderKLHunyuanVideo", HUNYUAN, 4, 8, by_factor),
}  # fmt: skip
ONE_OF_EACH = ("Wan 2.1", "CogVideoX", "LTX-Video 0.9.1", "HunyuanVideo")


def make(name: str, folder: Path, seed: int = 0, **changed: Any) -> Path:
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    vae: Any = getattr(diffusers, variant.family)(**variant.config | changed)
    with torch.no_grad():
        if variant.family == "AutoencoderKLLTXVideo":
            vae.latents_mean.copy_(MEAN_C)
            vae.latents_std.copy_(STD_C)
        for key, value in vae.named_parameters():
            if "per_channel_scale" in key:  # of the decoder's own noise; 0 before training
                value.fill_(0.5)
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {name: make(name, root / name.replace(" ", "_")) for name in VARIANTS}


@pytest.fixture(scope="module")
def networks(folders: dict[str, Path]) -> dict[str, PretrainedNetwork]:
    return {name: PretrainedNetwork.load(str(folder)) for name, folder in folders.items()}


def theirs(folders: dict[str, Path], name: str) -> Any:
    return getattr(diffusers, VARIANTS[name].family).from_pretrained(folders[name]).eval()


def clip(frames: int, height: int, width: int, clips: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(clips, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def small(network: PretrainedNetwork, later: int, clips: int = 1, seed: int = 0) -> Tensor:
    return clip(1 + later * network.ratio_time, 2 * network.ratio_space, 3 * network.ratio_space, clips, seed)


def test_every_known_family_is_tried() -> None:
    assert {variant.family for variant in VARIANTS.values()} == set(KNOWN)
    assert {VARIANTS[name].family for name in ONE_OF_EACH} == set(KNOWN)


# -- shapes


@pytest.mark.parametrize(
    "later", [0, 1, 2, 5]
)  # latent frames after the first; HunyuanVideo cuts time from 17 frames on
@pytest.mark.parametrize("name", VARIANTS)
def test_the_ratios_are_true(networks: dict[str, PretrainedNetwork], name: str, later: int) -> None:
    network, variant = networks[name], VARIANTS[name]
    said = network.ratio_time, network.ratio_space, network.latent_channels
    assert said == (variant.ratio_time, variant.ratio_space, CHANNELS)
    frames = 1 + later * variant.ratio_time
    x_BCTHW = clip(frames, 2 * variant.ratio_space, variant.ratio_space, clips=2)
    z_BCTHW = network.encode(x_BCTHW)
    assert z_BCTHW.shape == (2, CHANNELS, 1 + later, 2, 1)
    again_BCTHW = network.decode(z_BCTHW)
    assert again_BCTHW.shape == x_BCTHW.shape
    for given_BCTHW in (z_BCTHW, again_BCTHW):
        assert given_BCTHW.dtype == torch.float32
        assert not given_BCTHW.requires_grad
        assert not given_BCTHW.is_inference()  # a trainer may save it for its backward pass
    assert again_BCTHW.abs().max() <= 1


# -- numbers


@pytest.mark.parametrize("name", VARIANTS)
def test_latents_are_normalised_as_the_pipeline_does(
    folders: dict[str, Path], networks: dict[str, PretrainedNetwork], name: str
) -> None:
    x_BCTHW = small(networks[name], 2)
    with torch.no_grad():
        raw_BCTHW = theirs(folders, name).encode(x_BCTHW).latent_dist.mode()
    expected_BCTHW = VARIANTS[name].normalised(raw_BCTHW)
    torch.testing.assert_close(networks[name].encode(x_BCTHW), expected_BCTHW)
    assert not torch.allclose(raw_BCTHW, expected_BCTHW, atol=1e-2)


@pytest.mark.parametrize("name", VARIANTS)
def test_decoding_takes_back_what_encoding_did(
    folders: dict[str, Path], networks: dict[str, PretrainedNetwork], name: str
) -> None:
    vae, x_BCTHW = theirs(folders, name), small(networks[name], 2, clips=2)
    with torch.no_grad():
        raw_BCTHW = vae.encode(x_BCTHW).latent_dist.mode()
        torch.manual_seed(0)
        level = {"temb": torch.tensor([0.0, 0.0])} if vae.config.get("timestep_conditioning") else {}
        expected_BCTHW = vae.decode(raw_BCTHW, **level).sample.clamp(-1, 1)
    torch.testing.assert_close(networks[name].decode(networks[name].encode(x_BCTHW)), expected_BCTHW, atol=1e-4, rtol=0)
    assert expected_BCTHW.std() > 1e-3


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_sample_is_the_generator_s(networks: dict[str, PretrainedNetwork], name: str) -> None:
    network, x_BCTHW = networks[name], small(networks[name], 1)
    drawn = [network.encode(x_BCTHW, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    mode_BCTHW = network.encode(x_BCTHW)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2], atol=1e-3)
    assert not torch.allclose(drawn[0], mode_BCTHW, atol=1e-3)
    many = torch.stack([network.encode(x_BCTHW, torch.Generator().manual_seed(seed)) for seed in range(60)])
    error_BCTHW = (many.mean(0) - mode_BCTHW).abs() / (many.std(0) / 60**0.5)
    assert error_BCTHW.mean() < 1.2  # 0.8 where the mode is the mean of what is drawn


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_clip_alone_is_as_among_others(networks: dict[str, PretrainedNetwork], name: str) -> None:
    network, x_BCTHW = networks[name], small(networks[name], 1, clips=3)
    z_BCTHW = network.encode(x_BCTHW)
    for one in range(3):
        alone_BCTHW = network.encode(x_BCTHW[one : one + 1])
        torch.testing.assert_close(z_BCTHW[one : one + 1], alone_BCTHW, atol=1e-4, rtol=1e-4)
        decoded_BCTHW = network.decode(z_BCTHW)[one : one + 1]
        torch.testing.assert_close(decoded_BCTHW, network.decode(alone_BCTHW), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("latent_frames", [2, 4, 6])
def test_cogvideox_decodes_an_even_number_of_latent_frames(
    folders: dict[str, Path], networks: dict[str, PretrainedNetwork], latent_frames: int
) -> None:
    """diffusers itself gives four frames for each, so that all are late."""
    z_BCTHW = torch.randn(1, CHANNELS, latent_frames, 2, 2, generator=torch.Generator().manual_seed(3))
    x_BCTHW, vae = networks["CogVideoX"].decode(z_BCTHW), theirs(folders, "CogVideoX")
    assert x_BCTHW.shape[2] == 4 * latent_frames - 3
    odd_BCTHW = torch.cat([z_BCTHW, z_BCTHW[:, :, -1:]], dim=2) / SCALE
    with torch.no_grad():
        assert vae.decode(z_BCTHW).sample.shape[2] == 4 * latent_frames
        expected_BCTHW = vae.decode(odd_BCTHW).sample.clamp(-1, 1)
    torch.testing.assert_close(x_BCTHW, expected_BCTHW[:, :, : 4 * latent_frames - 3])


def test_a_decoder_s_own_noise_is_always_the_same(networks: dict[str, PretrainedNetwork]) -> None:
    network = networks["LTX-Video 0.9.1"]
    z_BCTHW = network.encode(small(network, 1))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first_BCTHW = network.decode(z_BCTHW)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(network.decode(z_BCTHW), first_BCTHW)
    vae = network._vae
    with torch.no_grad():
        raw_BCTHW = network._space.raw(z_BCTHW)
        one_BCTHW, other_BCTHW = (vae.decode(raw_BCTHW, torch.zeros(1)).sample for _ in range(2))
    assert not torch.allclose(one_BCTHW, other_BCTHW, atol=1e-3)  # what it would do by itself


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_narrow_weights_give_float32(
    folders: dict[str, Path], networks: dict[str, PretrainedNetwork], name: str
) -> None:
    network = PretrainedNetwork.load(str(folders[name]), dtype=torch.bfloat16)
    x_BCTHW = small(network, 1)
    z_BCTHW = network.encode(x_BCTHW)
    assert z_BCTHW.dtype == network.decode(z_BCTHW).dtype == torch.float32
    assert (z_BCTHW - networks[name].encode(x_BCTHW)).abs().max() < 0.5
    assert network.network_id == networks[name].network_id


TILED = [
    ("Wan 2.1", 264, 8),
    ("Wan 2.2", 528, 16),  # its tiles count pixels after patches
    ("CogVideoX", 88, 48),
    ("LTX-Video", 544, 32),
    ("HunyuanVideo", 264, 8),
]


@pytest.mark.parametrize(("name", "height", "width"), TILED)
def test_large_frames_go_in_tiles_where_asked(
    folders: dict[str, Path], networks: dict[str, PretrainedNetwork], name: str, height: int, width: int
) -> None:
    tiled, vae, x_BCTHW = (
        PretrainedNetwork.load(str(folders[name]), tiling=True),
        theirs(folders, name),
        clip(1, height, width),
    )
    vae.enable_tiling()
    z_BCTHW = tiled.encode(x_BCTHW)
    with torch.no_grad():
        raw_BCTHW = vae.encode(x_BCTHW).latent_dist.mode()
        expected_BCTHW = vae.decode(raw_BCTHW).sample.clamp(-1, 1)
    torch.testing.assert_close(z_BCTHW, VARIANTS[name].normalised(raw_BCTHW))
    torch.testing.assert_close(tiled.decode(z_BCTHW), expected_BCTHW, atol=1e-4, rtol=0)
    whole_BCTHW = networks[name].encode(x_BCTHW)
    assert z_BCTHW.shape == whole_BCTHW.shape
    assert not torch.equal(z_BCTHW, whole_BCTHW)


def test_tiles_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """diffusers cuts CogVideoX's tiles by shares of the size in the config, which need not be whole latent cells."""
    network = PretrainedNetwork.load(str(make("CogVideoX", tmp_path, sample_height=64)), tiling=True)
    with pytest.raises(BadModel, match=r"gave \[1, 4, 1, 13, 6\] where its config promises \[1, 4, 1, 11, 6\]"):
        network.encode(clip(1, 88, 48))


# -- on disk


def test_a_network_is_known_by_its_content(
    tmp_path: Path, folders: dict[str, Path], networks: dict[str, PretrainedNetwork]
) -> None:
    assert len({network.network_id for network in networks.values()}) == len(VARIANTS)
    copied = tmp_path / "elsewhere"
    shutil.copytree(folders["Wan 2.1"], copied)
    again = PretrainedNetwork.load(str(copied))
    assert again.network_id == networks["Wan 2.1"].network_id == pretrained_network_id(str(copied))
    x_BCTHW = small(again, 1)
    assert torch.equal(again.encode(x_BCTHW), networks["Wan 2.1"].encode(x_BCTHW))
    assert pretrained_network_id(str(make("Wan 2.1", tmp_path / "other", seed=1))) != again.network_id
    changed = make("Wan 2.1", tmp_path / "changed", latents_std=[1.0] * CHANNELS)
    assert pretrained_network_id(str(changed)) != again.network_id


def test_a_pipeline_s_network_is_in_its_folder(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["Wan 2.1"], tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    network = PretrainedNetwork.load(str(tmp_path))
    assert network.network_id == pretrained_network_id(str(tmp_path)) == pretrained_network_id(str(folders["Wan 2.1"]))


# -- attacks


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def lacking_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.pop("quant_conv.bias")
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["quant_conv.bias"] = torch.full_like(weights["quant_conv.bias"], float("nan"))
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def half(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "there is no model directory"),
    (without("config.json"), "no config.json in .*; give the directory of a video autoencoder of diffusers"),
    (written("model_index.json", b"{}"), "no config.json in .*vae; give the directory"),
    (written("config.json", b"{"), "config.json: cannot be read"),
    (written("config.json", b"\xff\xfe"), "config.json: cannot be read"),
    (written("config.json", b"[" * 100_000), "config.json: cannot be read"),
    (written("config.json", b"[1]"), "config.json: cannot be read .no JSON object"),
    (written("config.json", b"{}"), f"is a None, and one of {', '.join(KNOWN)} is needed"),
    (rewritten(_class_name="AutoencoderKL"), f"is a AutoencoderKL, and one of {', '.join(KNOWN)} is needed"),
    (rewritten(_class_name=["AutoencoderKLWan"]), "and one of AutoencoderKLWan"),
    (rewritten(_class_name="AutoencoderKLHunyuanVideo"), "cannot be loaded|its weights lack"),
    (without(WEIGHTS), "has no weights"),
    (pickled, "its weights are pickled .diffusion_pytorch_model.bin. and are not read"),
    (written(WEIGHTS, b"junk"), "cannot be loaded"),
    (half, "cannot be loaded"),
    (lacking_a_weight, "its weights lack quant_conv.bias"),
    (not_a_number, "gave values that are not finite"),
    (rewritten(base_dim=8), "cannot be loaded"),
    (rewritten(base_dim="wide"), "cannot be loaded"),
    (rewritten(scale_factor_spatial=4), r"gave \[1, 4, 2, 1, 1\] where its config promises \[1, 4, 2, 2, 2\]"),
    (rewritten(scale_factor_temporal=2), "where its config promises"),
    (rewritten(scale_factor_temporal=8), "where its config promises"),
    (rewritten(scale_factor_spatial=None), "ratio_space=None: must be a whole number of at least 1"),
    (rewritten(latents_mean=[0.0] * 3), "latents' mean: must be a number for each of 4 channels"),
    (rewritten(latents_std=[1.0] * 5), "latents' std: must be a number for each of 4 channels"),
    (rewritten(latents_std=[1.0, 1.0, 0.0, 1.0]), "latents' std of 0: must be above 0"),
    (rewritten(latents_std=None), "cannot be loaded"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN)
def test_what_is_no_such_network_is_refused_by_name(
    tmp_path: Path, folders: dict[str, Path], spoil: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "network"
    shutil.copytree(folders["Wan 2.1"], folder)
    spoil(folder)
    with pytest.raises(BadModel, match=said) as raised:
        PretrainedNetwork.load(str(folder))
    assert str(folder) in str(raised.value)


LYING = [
    ("CogVideoX", {"scaling_factor": 0}, "cannot be loaded: .*zero"),
    ("CogVideoX", {"scaling_factor": -1.0}, "must be above 0"),
    ("LTX-Video", {"spatial_compression_ratio": 16}, "where its config promises"),
    ("LTX-Video", {"temporal_compression_ratio": 4}, "where its config promises"),
    ("HunyuanVideo", {"temporal_compression_ratio": 8}, "cannot be loaded"),
]


@pytest.mark.parametrize(("name", "changed", "said"), LYING)
def test_a_config_that_lies_is_refused(
    tmp_path: Path, folders: dict[str, Path], name: str, changed: dict[str, Any], said: str
) -> None:
    shutil.copytree(folders[name], tmp_path / "network")
    rewritten(**changed)(tmp_path / "network")
    with pytest.raises(BadModel, match=said):
        PretrainedNetwork.load(str(tmp_path / "network"))


NO_CLIPS: list[tuple[Tensor, str]] = [
    (torch.zeros(1, 3, 2, 16, 16), r"frames=2: must be 1 \+ k · 4"),
    (torch.zeros(1, 3, 4, 16, 16), r"frames=4: must be 1 \+ k · 4"),
    (torch.zeros(1, 3, 5, 12, 16), "height=12: must be a multiple of 8"),
    (torch.zeros(1, 3, 5, 16, 20), "width=20: must be a multiple of 8"),
    (torch.zeros(1, 4, 5, 16, 16), r"shape \[1, 4, 5, 16, 16\], torch.float32: must be \(B, 3, T, H, W\) of floats"),
    (torch.zeros(3, 5, 16, 16), r"must be \(B, 3, T, H, W\)"),
    (torch.zeros(0, 3, 5, 16, 16), r"must be \(B, 3, T, H, W\)"),
    (torch.zeros(1, 3, 0, 16, 16), r"must be \(B, 3, T, H, W\)"),
    (torch.zeros(1, 3, 5, 0, 16), r"must be \(B, 3, T, H, W\)"),
    (torch.zeros(1, 3, 1, 16, 16, dtype=torch.uint8), "torch.uint8: must be .* of floats"),
    (torch.full((1, 3, 1, 16, 16), 255.0), r"from 255 to 255: must be in \[-1, 1\]"),
    (torch.full((1, 3, 1, 16, 16), -1.01), r"from -1.01 to -1.01: must be in"),
    (torch.full((1, 3, 1, 16, 16), float("nan")), r"from nan to nan: must be in"),
]


@pytest.mark.parametrize(("x_BCTHW", "said"), NO_CLIPS)
def test_what_cannot_be_encoded_is_refused(networks: dict[str, PretrainedNetwork], x_BCTHW: Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        networks["Wan 2.1"].encode(x_BCTHW)


@pytest.mark.parametrize("shape", [(1, 3, 2, 2, 2), (4, 2, 2, 2), (1, 4, 0, 2, 2), (0, 4, 2, 2, 2)])
def test_what_cannot_be_decoded_is_refused(networks: dict[str, PretrainedNetwork], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 4, T, H, W\)"):
        networks["Wan 2.1"].decode(torch.zeros(shape))
