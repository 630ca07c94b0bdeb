"""The losses' values where they are known, and gradients where they must flow.

B clips, C channels, T frames, H rows, W columns.
"""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoint import BadCheckpoint
from trainer.network.compression import Posterior
from trainer.network.config import NetworkConfig
from trainer.network.discriminator import PatchDiscriminator
from trainer.network.losses import (
    LossWeights,
    Reconstruction,
    adaptive_weight,
    discriminator_loss,
    kl_divergence,
    network_loss,
    reconstruction_loss,
)
from trainer.network.perceptual import read_perceptual

SMALL = NetworkConfig(
    latent_channels=8,
    patch_px=2,
    widths=(16, 32),
    time_strides=(2,),
    space_strides=(2,),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
)


def posterior_of(mean: float, variance: float) -> Posterior:
    return Posterior(torch.full((1, 2, 1, 3, 3), mean), torch.full((1, 2, 1, 3, 3), math.log(variance)))


KL = [
    # mean, variance, nats for each number
    (0.0, 1.0, 0.0),
    (2.0, 1.0, 2.0),
    (0.0, math.e, (math.e - 2) / 2),
    (-1.0, math.exp(-4), (1 + math.exp(-4) + 3) / 2),
]


@pytest.mark.parametrize(("mean", "variance", "nats"), KL)
def test_kl_divergence(mean: float, variance: float, nats: float):
    assert kl_divergence(posterior_of(mean, variance)).item() == pytest.approx(nats, abs=1e-6)


DIFFERENCES: list[tuple[Reconstruction, float, float]] = [
    ("l1", 0.0, 0.0),
    ("l1", 0.5, 0.5),
    ("mse", 0.5, 0.25),
    ("charbonnier", 0.0, 0.0),
    ("charbonnier", 0.5, math.sqrt(0.25 + 1e-4) - 1e-2),
]


@pytest.mark.parametrize(("kind", "difference", "loss"), DIFFERENCES)
def test_reconstruction_loss(kind: Reconstruction, difference: float, loss: float):
    x = torch.zeros(1, 3, 2, 4, 4)
    assert reconstruction_loss(x, x + difference, kind).item() == pytest.approx(loss, abs=1e-6)
    assert reconstruction_loss(x, x - difference, kind).item() == pytest.approx(loss, abs=1e-6)


def test_discriminator_loss():
    one = torch.ones(1, 1, 2, 2, 2)
    assert discriminator_loss(one, -one).item() == 0
    assert discriminator_loss(0 * one, 0 * one).item() == 1
    assert discriminator_loss(-one, one).item() == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reconstruction": "l3"}, "reconstruction='l3': must be one of"),
        ({"kl": -1.0}, "kl=-1.0: must be 0 or more"),
        ({"perceptual": math.inf}, "perceptual=inf: must be 0 or more, and finite"),
        ({"adversarial": math.nan}, "adversarial=nan: must be 0 or more"),
    ],
)
def test_impossible_weights_are_refused(change: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        LossWeights(**change)  # pyright: ignore[reportArgumentType]


def test_parts_add_up_and_gradients_flow():
    again, mean, logvar = (torch.randn(1, 3, 2, 8, 8, requires_grad=True) for _ in range(3))
    x = torch.randn(1, 3, 2, 8, 8)
    weights = LossWeights("l1", perceptual=0.5, kl=0.1, adversarial=0.2)
    parts = network_loss(
        x,
        again,
        Posterior(mean, logvar),
        weights,
        perceptual=lambda a, b: (a - b).square().mean(),
        judge=lambda a: 3 * a.mean((1, 2, 3, 4)),
    )
    total = parts.reconstruction + 0.5 * parts.perceptual + 0.1 * parts.kl + 0.2 * parts.adversarial
    torch.testing.assert_close(parts.total, total)
    assert parts.adversarial.item() == pytest.approx(-3 * again.mean().item(), abs=1e-5)
    parts.total.backward()
    assert all(tensor.grad is not None and tensor.grad.abs().min() > 0 for tensor in (again, mean, logvar))


def test_what_has_no_weight_is_not_computed():
    def never(*_: Tensor) -> Tensor:
        raise AssertionError

    x = torch.zeros(1, 3, 1, 4, 4)
    parts = network_loss(x, x + 1, posterior_of(0, 1), LossWeights(kl=0), perceptual=never, judge=never)
    assert parts.total == parts.reconstruction
    assert parts.perceptual == parts.adversarial == parts.kl == 0


def test_the_adversary_pulls_as_hard_as_the_rest():
    weight = torch.tensor([2.0, 1.0], requires_grad=True)
    scale = adaptive_weight((3 * weight).sum(), (weight * torch.tensor([0.3, 0.4])).sum(), weight)
    assert scale.item() == pytest.approx(3 * math.sqrt(2) / 0.5, rel=1e-3)
    assert not scale.requires_grad


def test_the_discriminator_learns_to_tell():
    torch.manual_seed(0)
    judge = PatchDiscriminator(width=8, layers=2)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    sharp = torch.randn(4, 3, 3, 16, 16).sign() * 0.5
    dull = torch.nn.functional.avg_pool3d(sharp, (1, 3, 3), 1, (0, 1, 1))
    for _ in range(25):
        loss = discriminator_loss(judge(sharp), judge(dull))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert judge(sharp).shape == (4, 1, 3, 4, 4)
    assert judge(sharp).mean() > 0.5 > -0.5 > judge(dull).mean()


def write_vgg(path: Path, places: dict[int, int]) -> None:
    tensors, width = {}, 3
    for place, after in places.items():
        tensors[f"features.{place}.weight"] = torch.randn(after, width, 3, 3) * 0.3
        tensors[f"features.{place}.bias"] = torch.zeros(after)
        width = after
    save_file(tensors | {"classifier.0.weight": torch.zeros(2, 2)}, path)


def test_perceptual_distance(tmp_path):
    torch.manual_seed(0)
    write_vgg(tmp_path / "vgg.safetensors", {0: 4, 2: 4, 5: 8, 8: 8})
    distance = read_perceptual(tmp_path / "vgg.safetensors")
    assert [len(stage) for stage in distance.stages] == [2, 1, 1]  # pyright: ignore[reportArgumentType]
    x = torch.rand(1, 3, 2, 16, 16) * 2 - 1
    again = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    near, far = distance(x, again), distance(x, -x)
    assert distance(x, x) == 0
    assert 0 < near < far
    near.backward()
    assert again.grad is not None
    assert again.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())


BAD_VGGS = [
    ({}, "has convolutions at \\[\\]"),
    ({1: 4}, "has convolutions at \\[1\\]"),
    ({0: 4, 6: 4}, "has convolutions at \\[0, 6\\]"),
]


@pytest.mark.parametrize(("places", "message"), BAD_VGGS)
def test_files_without_a_vgg_are_refused(tmp_path, places: dict[int, int], message: str):
    write_vgg(tmp_path / "vgg.safetensors", places)
    with pytest.raises(BadCheckpoint, match=message):
        read_perceptual(tmp_path / "vgg.safetensors")


def test_unreadable_perceptual_weights_are_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_perceptual(tmp_path / "none.safetensors")
    (tmp_path / "vgg.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_perceptual(tmp_path / "vgg.safetensors")
    save_file({"features.0.weight": torch.zeros(4, 3, 5, 5)}, tmp_path / "vgg.safetensors")
    with pytest.raises(BadCheckpoint, match=r"features\.0 must be a 3x3 convolution of 3 channels"):
        read_perceptual(tmp_path / "vgg.safetensors")
