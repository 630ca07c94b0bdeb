"""From prompts to files, whole: a tiny network and a tiny transformer, written, read back and asked."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.tiny_transformers import TINY, woken
from trainer.checkpoint import BadCheckpoint
from trainer.flow import FlowConfig
from trainer.geometry import Asked
from trainer.latents import OwnSpace, read_space
from trainer.media_files import pixels_of, read_info
from trainer.model.config import TransformerConfig
from trainer.model.trained import Trained, read_trained, write_trained
from trainer.network.compression import CompressionNetwork, fit_latent_statistics, write_network
from trainer.network.config import NetworkConfig
from trainer.sampler import Sampler, byte_reader, first_frame
from trainer.sampling import SamplingConfig

NETWORK = NetworkConfig(2, 4, (8, 16, 16), (2, 2), (2, 1), (1, 1, 1), (1, 1, 1))
QUICK = SamplingConfig(steps=2, guidance=2.0, seed=5)
ASKED = Asked(50, 38, 0.5, Fraction(24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose latents have statistics of their own, and a model that was trained on them."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    network = CompressionNetwork(NETWORK)
    fit_latent_statistics(network, [torch.rand(1, 3, 5, 32, 32) * 2 - 1])
    write_network(folder / "network", network)
    trained = Trained(TINY, FlowConfig(prediction="x0"), read_space(folder / "network").network_id)
    write_trained(folder / "model", trained, woken(TINY, 1, torch.float32))
    return folder


@pytest.fixture(scope="module")
def sampler(folder: Path) -> Sampler:
    trained, model = read_trained(folder / "model")
    return Sampler(trained, model, read_space(folder / "network"), byte_reader(model))


def test_what_was_trained_comes_back_with_its_flow(sampler: Sampler) -> None:
    assert (sampler.trained.transformer, sampler.trained.flow.prediction) == (TINY, "x0")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a.mp4", ASKED),
        ("a.png", Asked(51, 37, 0, Fraction(24))),
        ("a.gif", Asked(16, 64, 0.25, Fraction(12))),
        ("b.mp4", Asked(2, 2, 0, Fraction(30000, 1001))),
    ],
)
def test_a_prompt_becomes_a_file_of_exactly_what_was_asked(
    tmp_path: Path, sampler: Sampler, name: str, asked: Asked
) -> None:
    told = sampler.to_file(tmp_path / name, asked, "a red ball", QUICK, negative="blur")
    with av.open(str(tmp_path / name)) as container:
        frames = [frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)]
    assert frames == [(asked.height, asked.width, 3)] * asked.frames
    assert read_info(tmp_path / name) == told
    wanted = {"prompt": "a red ball", "negative": "blur", "seed": 5, "steps": 2, "guidance": 2.0, "solver": "heun"}
    assert told.items() >= {**wanted, "width": asked.width, "rate": str(asked.rate)}.items()


def test_prompts_of_one_call_are_those_of_calls_of_their_own(sampler: Sampler) -> None:
    both = sampler.videos(ASKED, ["a red ball", "a dog"], QUICK)
    (alone,) = sampler.videos(ASKED, ["a dog"], replace(QUICK, seed=QUICK.seed + 1))
    assert torch.allclose(both[1], alone, atol=1e-4)
    assert not torch.allclose(both[0], alone, atol=1e-2)


def smooth(asked: Asked) -> Tensor:
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, asked.height), torch.linspace(-1, 1, asked.width), indexing="ij"
    )
    return torch.stack((rows, columns, rows * columns))


def test_a_picture_becomes_the_first_frame(sampler: Sampler) -> None:
    picture = smooth(ASKED)
    known = first_frame(sampler.space, picture, ASKED, sampler.trained)
    (video,) = sampler.videos(ASKED, ["a dog"], QUICK, known=known)
    (freely,) = sampler.videos(ASKED, ["a dog"], QUICK)
    # A causal decoder shows the first latent frame by itself: the picture as the network gives it back.
    alone = Asked(ASKED.width, ASKED.height, 0, ASKED.rate)
    again = sampler.space.decode(first_frame(sampler.space, picture, alone, sampler.trained).latent_CTHW[None])[0]
    assert torch.allclose(video[:, 0], again[:, 0, : ASKED.height, : ASKED.width], atol=1e-4)
    assert not torch.allclose(video[:, 0], freely[:, 0], atol=0.05)
    assert len(pixels_of(video)) == ASKED.frames


def test_latents_of_a_space_have_unit_variance_and_decode_back(sampler: Sampler) -> None:
    assert isinstance(sampler.space, OwnSpace)
    network = sampler.space.network
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    latent = sampler.space.encode(video)
    assert torch.allclose(latent, network.normalise(network.encode(video).mode), atol=1e-4)
    wanted = network.decode(network.denormalise(latent)).clamp(-1, 1)
    assert torch.allclose(sampler.space.decode(latent), wanted, atol=1e-4)


def other(config: TransformerConfig, space: OwnSpace) -> Sampler:
    trained = Trained(config, FlowConfig(), space.network_id)
    model = woken(config, 1, torch.float32)
    return Sampler(trained, model, space, byte_reader(model))


def test_parts_that_do_not_belong_together(sampler: Sampler) -> None:
    assert isinstance(sampler.space, OwnSpace)
    space = sampler.space
    with pytest.raises(ValueError, match="network=other: the model was trained on latents of network"):
        replace(sampler, space=replace(space, network_id="other"))
    with pytest.raises(ValueError, match="latent_channels=2: the model has 4"):
        other(replace(TINY, latent_channels=4), space)
    with pytest.raises(ValueError, match="ratio_time=4: the model has 8"):
        other(replace(TINY, ratio_time=8), space)
    with pytest.raises(ValueError, match="encoder_id='': is needed exactly where text_depth is 0"):
        Trained(replace(TINY, text_depth=0), FlowConfig(), "n")


def test_refused_before_anything_is_sampled(tmp_path: Path, sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="width=51: must be even in an mp4"):
        sampler.to_file(tmp_path / "a.mp4", replace(ASKED, width=51), "a dog", QUICK)
    with pytest.raises(ValueError, match="prompt: has 44 words too many; the model reads 256"):
        sampler.videos(ASKED, ["word " * 300], QUICK)
    with pytest.raises(ValueError, match=r"picture=\[3, 9, 9\]: must be \[3, 38, 50\]"):
        first_frame(sampler.space, torch.zeros(3, 9, 9), ASKED, sampler.trained)
    assert not list(tmp_path.iterdir())


def test_a_directory_of_something_else(folder: Path) -> None:
    with pytest.raises(BadCheckpoint, match="is a NetworkConfig, and a Trained is needed"):
        read_trained(folder / "network")
    with pytest.raises(BadCheckpoint, match="is a Trained, and a NetworkConfig is needed"):
        read_space(folder / "model")
