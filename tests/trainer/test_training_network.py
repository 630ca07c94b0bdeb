"""The compression network in the same loop, with and without an adversary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training_runs import CONFIG, SLOTS, losses
from trainer.network.compression import CompressionNetwork
from trainer.network.config import NetworkConfig
from trainer.network.losses import LossWeights
from trainer.network.perceptual import PerceptualDistance
from trainer.reading.batch import CropBatch
from trainer.training.config import Precision, TrainConfig
from trainer.training.crew import ALONE
from trainer.training.files import RunFiles
from trainer.training.loop import Run, Training, train
from trainer.training.network_learner import NetworkLearner, make_adversary

TINY = NetworkConfig(
    latent_channels=4,
    patch_px=4,
    widths=(8, 16),
    time_strides=(2,),
    space_strides=(2,),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
)
PLAIN = LossWeights("mse", kl=1e-4)
JUDGED = LossWeights("mse", kl=1e-4, adversarial=0.1)
MUON = replace(CONFIG, optimizer="muon", steps=6, checkpoint_steps=2, learning_rate=1e-3)


def read(places: Iterable[tuple[int, int]]) -> Iterator[CropBatch]:
    for step, slot in places:
        generator = torch.Generator().manual_seed(10 * step + slot)
        smooth = torch.rand(2, 3, 1, 4, 4, generator=generator)
        shown = torch.nn.functional.interpolate(smooth, (3, 32, 32), mode="trilinear")
        yield CropBatch(step, slot, (255 * shown).to(torch.uint8))


def run_with(directory: Path, weights: LossWeights, config: TrainConfig = MUON, stop_after: int | None = None) -> Run:
    torch.manual_seed(0)
    adversary = make_adversary("cpu") if weights.adversarial else None
    learner = NetworkLearner(CompressionNetwork(TINY), weights, config, ALONE, None, adversary)
    return train(Training(config, RunFiles(directory), "run", "plan", SLOTS, stop_after=stop_after), learner, read)


@pytest.mark.parametrize("weights", [PLAIN, JUDGED], ids=["plain", "judged"])
def test_it_goes_on_to_the_bit_with_its_adversary(tmp_path: Path, weights: LossWeights) -> None:
    whole = run_with(tmp_path / "whole", weights)
    run_with(tmp_path / "killed", weights, stop_after=3)
    resumed = run_with(tmp_path / "killed", weights)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    ours, theirs = whole.state(), resumed.state()
    assert any("adversary" in name for name in ours) == bool(weights.adversarial)
    assert all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns(tmp_path: Path, precision: Precision) -> None:
    config = replace(MUON, steps=60, checkpoint_steps=60, learning_rate=5e-3, precision=precision)
    run_with(tmp_path, PLAIN, config)
    shown = [line["psnr_db"] for line in RunFiles(tmp_path).steps()]
    assert shown[-1] > shown[0] + 1


def test_all_parts_of_the_loss_are_learnt_and_shown() -> None:
    torch.manual_seed(0)
    weights = LossWeights("l1", perceptual=0.1, kl=1e-3, adversarial=0.1)
    distance = PerceptualDistance([[(torch.randn(4, 3, 3, 3), torch.zeros(4))]])
    adversary = make_adversary("cpu")
    learner = NetworkLearner(CompressionNetwork(TINY), weights, MUON, ALONE, distance, adversary)
    loss = learner.loss(next(read([(0, 0)])))
    assert {"reconstruction", "kl", "perceptual", "adversarial", "psnr_db"} == set(loss.shown)
    assert all(float(loss.shown[name][0]) > 0 for name in ("reconstruction", "kl", "perceptual"))
    loss.total.backward()
    grad = learner.module.decoder.leave.weight.grad
    assert grad is not None
    assert grad.any()


def test_the_adversary_learns_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    begun = make_adversary("cpu").discriminator.state_dict()  # as `run_with` makes its own
    state = run_with(tmp_path, JUDGED).state()
    weights = [name for name in begun if f"more.adversary.{name}.step" in state]
    assert weights
    for name in weights:
        assert float(state[f"more.adversary.{name}.step"]) == MUON.steps
        assert not torch.equal(state[f"more.adversary.{name}"], begun[name])
