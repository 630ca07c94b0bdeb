"""Config, guard, average, adapters, estimate, sheets: the parts of training by themselves."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny_transformers import TINY, predicted, samples_of, woken
from trainer.cost import activation_bytes
from trainer.model.config import parameters_of
from trainer.network.compression import CompressionNetwork
from trainer.network.config import PRESETS as NETWORKS
from trainer.network.cost import network_cost
from trainer.training.adapters import add_adapters, merged
from trainer.training.config import TrainConfig, learning_rate_at
from trainer.training.crew import ALONE, Crew
from trainer.training.estimate import NotEnoughSpace, disk_bytes, estimate, network_estimate, refuse_unless_room
from trainer.training.guard import Diverged, SpikeGuard
from trainer.training.metrics import matmul_flops
from trainer.training.previews import sheet
from trainer.training.state import Average


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps=-1: must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan: must be above 0"),
        ({"learning_rate": math.inf}, "learning_rate=inf: must be above 0 and finite"),
        ({"ema": 1.0}, "ema=1.0: must be from 0 on and below 1"),
        ({"spike_factor": 1.0}, "spike_factor=1.0: must be above 1, or 0"),
        ({"final_share": 2.0}, "final_share=2.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"seed": -1}, "seed=-1"),
        ({"optimizer": "muon", "parallel": "shard"}, "optimizer=muon: works on whole weights"),
    ],
)
def test_impossible_configs_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainConfig(**changed)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_learning_rate_rises_and_falls(schedule: Any) -> None:
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=2.0, schedule=schedule, final_share=0.25)
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == pytest.approx(2.0)
    assert rates[100] == pytest.approx(2.0 if schedule == "constant" else 0.5)
    assert all(now >= then for now, then in itertools.pairwise(rates[9:]))
    assert learning_rate_at(0, replace(config, warmup_steps=0)) == pytest.approx(2.0)


# -- the guard


def test_a_spike_is_told_from_what_is_usual_and_a_new_level_becomes_it() -> None:
    guard = SpikeGuard(5.0)
    assert [guard.judge(100.0 if n == 3 else 1.0) for n in range(20)] == ["taken"] * 20, "it does not know yet"
    assert guard.judge(5.1) == "spike"
    assert guard.judge(4.9) == "taken"
    for _ in range(19):
        guard.judge(40.0)
    assert SpikeGuard(0.0).judge(1e30) == "taken"
    assert guard.judge(2.0) == "taken"


def test_its_state_goes_on_where_it_was() -> None:
    guard, other = SpikeGuard(3.0), SpikeGuard(3.0)
    for n in range(150):
        guard.judge(1.0 + n % 3)
    for name, tensor in other.state().items():
        tensor.copy_(guard.state()[name])
    lengths = [7.0, 2.0, math.nan, 5.9, 100.0]
    assert [guard.judge(n) for n in lengths] == [other.judge(n) for n in lengths]


def test_many_in_a_row_end_the_run() -> None:
    guard = SpikeGuard(5.0)
    assert {guard.judge(math.inf) for _ in range(19)} == {"not_finite"}
    with pytest.raises(Diverged, match="20 steps in a row"):
        guard.judge(math.inf)


# -- average


def test_the_average_follows_and_is_put_in_place_only_for_a_while() -> None:
    module = torch.nn.Linear(2, 2)
    average = Average(module, decay=0.5)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    now = module.weight.detach().clone()
    average.follow(1000)
    with average.in_place():
        assert torch.allclose(module.weight, (before + now) / 2)
    assert torch.equal(module.weight, now)


# -- adapters


def test_adapters_begin_as_nothing_and_go_back_into_the_weights() -> None:
    samples, texts, times = samples_of([(2, 2, 2), (1, 2, 3)]), ["a red kite", "rain"], [0.3, 0.8]
    model, plain = woken(TINY), woken(TINY)
    add_adapters(model, rank=2)
    model.double()
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained
    assert all("lora" in name for name in trained)
    assert torch.equal(predicted(model, samples, texts, times)[0], predicted(plain, samples, texts, times)[0])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora" in name:
                weight.normal_(std=0.3)
    tuned, _ = predicted(model, samples, texts, times)
    plain.load_state_dict(merged(model.state_dict()))
    assert torch.allclose(predicted(plain, samples, texts, times)[0], tuned, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(tuned, predicted(woken(TINY), samples, texts, times)[0])


def test_a_rank_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="lora_rank=0: must be at least 1"):
        add_adapters(woken(TINY), 0)


# -- what is told before


def test_more_tokens_and_steps_cost_more() -> None:
    config = TrainConfig()
    few = estimate(TINY, config, WHOLE, [[(2, 2, 2)]], 64, 10, ALONE)
    many = estimate(TINY, config, WHOLE, [[(2, 2, 2)]] * 2, 128, 10, ALONE)
    assert many.step_flops == 2 * few.step_flops
    assert many.memory_bytes > few.memory_bytes
    assert few.seconds(10, 1e9) == pytest.approx(10 * few.step_flops / 0.4e9)
    assert matmul_flops("cpu", torch.float32) > 1e8


WHOLE = parameters_of(TINY)
EIGHT = Crew(0, 8, "cuda")


@pytest.mark.parametrize(
    ("config", "crew", "trained", "weights"),
    [
        (TrainConfig(), ALONE, WHOLE, 20 * WHOLE),  # itself, gradient, two moments, average: 4 bytes each
        (TrainConfig(), EIGHT, WHOLE, 20 * WHOLE / 8),
        (TrainConfig(parallel="replicate"), EIGHT, WHOLE, 20 * WHOLE),
        (TrainConfig(optimizer="muon"), EIGHT, WHOLE, 20 * WHOLE),
        (TrainConfig(), ALONE, 100, 20 * 100 + 4 * WHOLE),  # adapters beside weights that stay
    ],
)
def test_memory_is_of_what_each_worker_holds(config: TrainConfig, crew: Crew, trained: int, weights: float) -> None:
    need = estimate(TINY, config, trained, [[(2, 2, 2)]], 64, 10, crew)
    is_gpu = crew.device == "cuda"
    activations = activation_bytes(TINY, 64, recompute="nothing", is_compiled=is_gpu)
    assert need.memory_bytes == weights + activations * (1 if is_gpu else 2)  # in half precision on a GPU alone
    assert need.disk_bytes == 3 * 16 * trained + 4 * (WHOLE if trained >= WHOLE else WHOLE + trained)


def test_a_network_costs_what_is_counted_when_it_is_trained() -> None:
    """Operations and saved tensors of a real step."""
    config = NETWORKS["tiny-8x16x16"]
    shape = (2, 3, 17, 64, 64)
    network, kept = CompressionNetwork(config), {}
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        return kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            again, _ = network(torch.rand(shape), torch.Generator().manual_seed(0))
        again.sum().backward()
    cost = network_cost(config, shape)
    saved = sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in weights)
    assert cost.flops == counter.get_total_flops()
    assert cost.activation_bytes == pytest.approx(saved, rel=0.02)
    narrow = TrainConfig(precision="bfloat16")
    need, half = (network_estimate(config, c, 100, shape, 3, ALONE) for c in (TrainConfig(), narrow))
    assert need.step_flops == 3 * cost.flops
    assert need.memory_bytes - half.memory_bytes == cost.activation_bytes / 2


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path) -> None:
    need = disk_bytes(10, TrainConfig(keep_checkpoints=2))
    assert need == 10 * (16 * 3 + 4)
    assert refuse_unless_room(tmp_path / "not" / "there", need) > 0
    with pytest.raises(NotEnoughSpace, match=r"GB are free, and the run's checkpoints need 1000000000\.0 GB"):
        refuse_unless_room(tmp_path, 1e18)


def test_a_sheet_has_a_row_a_prompt_and_small_pictures_are_enlarged() -> None:
    videos = [np.full((9, 16, 32, 3), 200, np.uint8), np.full((1, 64, 48, 3), 90, np.uint8)]
    picture = sheet(videos, ["<b>wide</b>", "ein Würfel 立方体"])
    assert picture.shape == (14 + 6 * 16 + 14 + 2 * 64, 6 * 32 * 6, 3)
    assert (picture[20:100, :600] == 200).all()
