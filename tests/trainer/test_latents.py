"""Spaces without a network, and which space a name stands for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from curation.model_files import BadModel
from tests.trainer.test_pretrained_networks import make
from trainer.checkpoint import CONFIG, WEIGHTS, BadCheckpoint, write_checkpoint
from trainer.latents import OwnSpace, PixelSpace, read_space, space_of
from trainer.network.compression import CompressionNetwork, write_network
from trainer.network.config import NetworkConfig
from trainer.pretrained_networks import PretrainedNetwork

SMALL = NetworkConfig(
    latent_channels=4,
    patch_px=2,
    widths=(6, 8),
    time_strides=(2,),
    space_strides=(2,),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
)


def own_network(directory: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    write_network(directory, CompressionNetwork(SMALL))
    return directory


@pytest.mark.parametrize("ratio_space", [2, 4, 8])
def test_pixels_come_back_and_a_cell_is_a_square_of_them(ratio_space: int) -> None:
    space = PixelSpace(ratio_space)
    side = 3 * ratio_space
    x_BCTHW = torch.rand(2, 3, 5, side, 2 * side, generator=torch.Generator().manual_seed(ratio_space)) * 2 - 1
    z_BCTHW = space.encode(x_BCTHW)
    assert z_BCTHW.shape == (2, space.latent_channels, 5, 3, 6)
    assert torch.equal(space.decode(z_BCTHW), x_BCTHW)
    changed_BCTHW = x_BCTHW.clone()
    changed_BCTHW[0, 1, 2, ratio_space, 0] += 0.5  # the first pixel of the second row of cells
    assert (space.encode(changed_BCTHW) != z_BCTHW).nonzero()[:, [0, 2, 3, 4]].tolist() == [[0, 2, 1, 0]]


def test_a_picture_is_one_frame_and_each_frame_is_by_itself() -> None:
    space, x_BCTHW = PixelSpace(4), torch.rand(1, 3, 4, 8, 8) * 2 - 1
    assert space.encode(x_BCTHW[:, :, :1]).shape == (1, 48, 1, 2, 2)
    assert torch.equal(space.encode(x_BCTHW)[:, :, 2:3], space.encode(x_BCTHW[:, :, 2:3]))


def test_latents_beyond_white_are_white() -> None:
    assert PixelSpace(2).decode(torch.full((1, 12, 1, 1, 1), 9.0)).max() == 1


@pytest.mark.parametrize(("shape", "said"), [((1, 3, 1, 6, 8), "by 4"), ((1, 1, 1, 8, 8), "3, T"), ((3, 8, 8), "B, 3")])
def test_what_is_no_video_of_whole_cells_is_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PixelSpace(4).encode(torch.zeros(shape))


def test_a_name_stands_for_a_space(tmp_path: Path) -> None:
    assert space_of("pixels-4") == PixelSpace(4)
    assert space_of("pixels-4").network_id == "pixels-4"
    own = own_network(tmp_path / "own")
    assert isinstance(space_of(str(own)), OwnSpace)
    assert space_of(str(own)).network_id == read_space(own).network_id
    of_diffusers = make("Wan 2.1", tmp_path / "vae")
    assert isinstance(space_of(str(of_diffusers)), PretrainedNetwork)


def test_what_stands_for_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ratio_space=3: must be one of 2, 4, 8"):
        space_of("pixels-3")
    with pytest.raises(BadModel, match="there is no model directory"):
        space_of(str(tmp_path / "nowhere"))
    with pytest.raises(BadModel, match=r"no config\.json"):
        space_of(str(tmp_path))
    own, other = own_network(tmp_path / "own"), tmp_path / "other"
    shutil.copytree(own, other)
    said = json.loads((other / CONFIG).read_text())
    (other / CONFIG).write_text(json.dumps(said | {"latent_channels": 5}))
    with pytest.raises(BadCheckpoint, match="is not its weights' own"):
        space_of(str(other))
    for missing in (CONFIG, WEIGHTS):
        halved = shutil.copytree(own, tmp_path / f"without {missing}")
        (halved / missing).unlink()
        with pytest.raises(BadCheckpoint, match=rf"{missing}: is missing"):
            space_of(str(halved))
    write_checkpoint(tmp_path / "pixels", PixelSpace(2), {})
    with pytest.raises(BadCheckpoint, match="is a PixelSpace, and a NetworkConfig is needed"):
        space_of(str(tmp_path / "pixels"))
