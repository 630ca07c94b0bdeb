"""The conventions of the flow, its loss, and the way back on equations with a known answer."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from itertools import pairwise
from math import exp, inf, log, nan, pi, sin
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.flow import (
    LEAST_TIME,
    FlowConfig,
    Solver,
    draw_times,
    flow_loss,
    noised,
    rows_of_times,
    shift_for,
    shifted,
    solve,
    time_grid,
    velocity_of,
)

V, X0 = FlowConfig("v"), FlowConfig("x0")


def drawn(tokens: int = 12, numbers: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean, noise = torch.randn(2, tokens, numbers, generator=generator, dtype=torch.float64)
    return clean, noise


def bits(x: Tensor) -> bytes:
    return struct.pack(f"{x.numel()}d", *x.double().flatten().tolist())


# Conventions.


def test_time_0_is_the_clip_to_the_bit_and_time_1_the_noise() -> None:
    clean, noise = drawn()
    clean[0] = torch.tensor([-0.0, 0.0, 5e-324, -1e-310, 1e300])
    noise[1] = inf  # nor does it matter there what the noise is
    assert bits(noised(clean, noise, torch.zeros(12))) == bits(clean)
    noise[1] = 0
    assert bits(noised(clean, noise, torch.ones(12))[1:]) == bits((noise + 0 * clean)[1:])
    for dtype in (torch.float32, torch.bfloat16):
        x = noised(clean.clamp(-9, 9).to(dtype), noise.to(dtype), torch.zeros(12))
        assert x.dtype == dtype
        assert bits(x) == bits(clean.clamp(-9, 9).to(dtype))


def test_each_token_has_its_own_time() -> None:
    clean, noise = drawn(3, 1)
    x = noised(clean, noise, torch.tensor([0.0, 0.25, 1.0]))
    wanted = torch.stack((clean[0], 0.75 * clean[1] + 0.25 * noise[1], noise[2]))
    torch.testing.assert_close(x, wanted)


def test_the_velocity_is_what_the_path_does() -> None:
    clean, noise = drawn()
    times, step = torch.rand(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.8 + 0.1, 1e-6
    slope = (noised(clean, noise, times + step) - noised(clean, noise, times - step)) / (2 * step)
    torch.testing.assert_close(slope, noise - clean, rtol=1e-6, atol=1e-6)


@settings(max_examples=50)
@given(st.floats(0.001, 1), st.integers(0, 100))
def test_both_predictions_mean_one_velocity(time: float, seed: int) -> None:
    clean, noise = drawn(seed=seed)
    times = torch.full((12,), time, dtype=torch.float64)
    x = noised(clean, noise, times)
    torch.testing.assert_close(velocity_of(noise - clean, x, times, V), noise - clean)
    torch.testing.assert_close(velocity_of(clean, x, times, X0), noise - clean, rtol=1e-9, atol=1e-9)
    wrong = clean + 0.1
    torch.testing.assert_close(velocity_of(wrong, x, times, X0), noise - clean - 0.1 / time, rtol=1e-9, atol=1e-9)


def test_a_clean_latent_that_is_there_has_no_way_to_go() -> None:
    found = velocity_of(torch.zeros(3, 1), torch.ones(3, 1), torch.tensor([0.0, 0.01, 0.5]), X0)
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 100.0, 2.0]))


# Loss.


@pytest.mark.parametrize("config", [V, X0])
def test_the_loss_of_the_right_prediction_is_0_at_every_time(config: FlowConfig) -> None:
    clean, noise = (x.float() for x in drawn())
    times = torch.linspace(0, 1, 12)
    x = noised(clean, noise, times)
    right = noise - clean if config.prediction == "v" else clean
    nothing = torch.zeros(12, dtype=torch.bool)
    torch.testing.assert_close(flow_loss(right, clean, noise, x, times, nothing, config), torch.zeros(12))
    wrong = flow_loss(right + 0.5, clean, noise, x, times, nothing, config)
    divided = torch.ones(12) if config.prediction == "v" else times.clamp(min=LEAST_TIME)
    torch.testing.assert_close(wrong, (0.5 / divided) ** 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [V, X0])
def test_what_is_known_has_no_loss_and_no_gradient(config: FlowConfig) -> None:
    clean, noise = (x.float() for x in drawn())
    is_known = torch.arange(12) % 3 == 0
    times = torch.where(is_known, 0.0, 0.5)
    predicted = torch.randn(12, 5, requires_grad=True)
    loss = flow_loss(predicted, clean, noise, noised(clean, noise, times), times, is_known, config)
    assert not loss[is_known].any()
    assert (loss[~is_known] > 0).all()
    loss.sum().backward()
    assert predicted.grad is not None
    assert not predicted.grad[is_known].any()
    assert predicted.grad[~is_known].all()


def test_both_predictions_are_weighed_alike() -> None:
    """The same error of velocity costs the same, whatever the model predicts."""
    clean, noise = (x.float() for x in drawn())
    times, nothing = torch.linspace(0.1, 1, 12), torch.zeros(12, dtype=torch.bool)
    x = noised(clean, noise, times)
    guess = clean + 0.3
    said = velocity_of(guess, x, times, X0)
    torch.testing.assert_close(
        flow_loss(guess, clean, noise, x, times, nothing, X0),
        flow_loss(said, clean, noise, x, times, nothing, V),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_loss_is_in_float32() -> None:
    clean, noise = (x.bfloat16() for x in drawn())
    times = torch.full((12,), 0.5)
    x = noised(clean, noise, times)
    found = flow_loss(noise - clean, clean, noise, x, times, torch.zeros(12, dtype=torch.bool), V)
    assert found.dtype == torch.float32
    assert found.max() < 1e-3


# Times.


def test_rows_of_times() -> None:
    assert rows_of_times(torch.tensor([0.25, 0.5])).tolist() == [0.25, 0.0, 0.5, 0.0, 0.0]


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.integers(1, 4096), st.floats(1, 20))
def test_more_tokens_are_never_moved_less(first: int, other: int, reference: int, most: float) -> None:
    config = FlowConfig(shift_tokens=reference, max_shift=most)
    less, more = sorted((first, other))
    assert shift_for(less, config) <= shift_for(more, config)
    assert 1 / most <= shift_for(first, config) <= most
    assert shift_for(reference, config) == 1
    assert shift_for(first, FlowConfig(shift_tokens=0)) == 1


def test_the_shift_is_the_root_of_how_many_more_tokens() -> None:
    config = FlowConfig(shift_tokens=1000, max_shift=3.0)
    for tokens, answer in ((4000, 2.0), (250, 0.5), (8999, 2.9998), (9001, 3.0), (10**6, 3.0), (1, 1 / 3)):
        assert shift_for(tokens, config) == pytest.approx(answer, rel=1e-4)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 20), st.floats(0.05, 20))
def test_shifted_times(first: float, other: float, alpha: float, more: float) -> None:
    times = torch.tensor([first, other, 0.0, 1.0], dtype=torch.float64)
    found = shifted(times, alpha)
    assert torch.equal(shifted(times, 1.0), times)
    assert found[2] == 0
    assert found[3] == pytest.approx(1)
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()
    assert (found[0] <= found[1] + 1e-12) == (first <= other) or abs(first - other) < 1e-9
    assert (shifted(times, max(alpha, more)) >= shifted(times, min(alpha, more)) - 1e-12).all()
    torch.testing.assert_close(shifted(found, 1 / alpha), times, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(shifted(times, torch.tensor(alpha, dtype=torch.float64)), found)


def test_a_shift_keeps_the_share_of_noise_that_more_tokens_average_away() -> None:
    """arXiv 2403.03206, eq. 23: t' / (1 - t') is alpha times t / (1 - t)."""
    times = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    found = shifted(times, 3.0)
    torch.testing.assert_close(found / (1 - found), 3 * times / (1 - times))


@pytest.mark.parametrize(
    ("mean", "std", "tokens"), [(0.0, 1.0, 1024), (0.5, 2.0, 1024), (0.0, 1.0, 4096), (0.0, 1.0, 64)]
)
def test_drawn_times_are_logit_normal_and_moved_by_the_shift(mean: float, std: float, tokens: int) -> None:
    config = FlowConfig(logit_mean=mean, logit_std=std)
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    times = draw_times(normal, torch.full((20_000,), tokens), config)
    assert times.dtype == torch.float32
    assert ((times > 0) & (times < 1)).all()
    logits = torch.logit(times.double())
    assert logits.mean().item() == pytest.approx(mean + log(shift_for(tokens, config)), abs=4 * std / 20_000**0.5)
    assert logits.std().item() == pytest.approx(std, rel=0.02)
    quantiles = ((logits - logits.mean()) / logits.std()).quantile(
        torch.tensor([0.0228, 0.1587, 0.8413, 0.9772]).double()
    )
    torch.testing.assert_close(quantiles, torch.tensor([-2.0, -1.0, 1.0, 2.0]).double(), rtol=0.04, atol=0.04)


def test_each_sample_is_moved_by_its_own_tokens() -> None:
    times = draw_times(torch.zeros(3), torch.tensor([1024, 4096, 256]), FlowConfig())
    torch.testing.assert_close(times, torch.tensor([1 / 2, 2 / 3, 1 / 3]))


@given(st.integers(1, 60), st.floats(0.05, 20))
def test_the_grid_falls_from_1_to_0(steps: int, alpha: float) -> None:
    grid = time_grid(steps, alpha)
    assert (len(grid), grid[0], grid[-1]) == (steps + 1, 1, 0)
    assert (grid.diff() < 0).all()
    torch.testing.assert_close(time_grid(steps).diff(), torch.full((steps,), -1 / steps), rtol=1e-4, atol=1e-6)


# The way back.


def times_of(steps: int, alpha: float = 1.0) -> list[Tensor]:
    return list(shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), alpha))


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_constant_velocity_is_followed_exactly(solver: Solver, steps: int) -> None:
    start, slope = drawn()
    found = solve(lambda x, k: slope, start, times_of(steps, 3.0), solver)
    torch.testing.assert_close(found, start - slope, rtol=1e-12, atol=1e-12)


EQUATIONS: list[tuple[str, Callable[[Tensor, Tensor], Tensor], float, float]] = [
    # dx/dt, x(1), x(0)
    ("growth", lambda x, t: 1.3 * x, 2.0, 2.0 * exp(-1.3)),
    ("a rate that changes", lambda x, t: x * torch.cos(3 * t), 1.0, exp(-sin(3) / 3)),
    ("a push that changes", lambda x, t: torch.sin(pi * t) - x * x / 4, 1.0, nan),
]


def error_of(
    velocity: Callable[[Tensor, Tensor], Tensor], start: float, end: float, steps: int, solver: Solver
) -> float:
    times = times_of(steps)
    found = solve(lambda x, k: velocity(x, times[k]), torch.tensor([start], dtype=torch.float64), times, solver)
    return abs(found.item() - end)


@pytest.mark.parametrize(("solver", "ratio"), [("euler", 2), ("heun", 4)])
@pytest.mark.parametrize(("name", "velocity", "start", "end"), EQUATIONS)
def test_the_order_of_each_solver(
    solver: Solver, ratio: float, name: str, velocity: Callable[[Tensor, Tensor], Tensor], start: float, end: float
) -> None:
    if end != end:  # no formula: by a great many steps
        end = error_of(velocity, start, 0.0, 3000, "heun")
    errors = [error_of(velocity, start, end, steps, solver) for steps in (40, 80, 160)]
    assert errors[0] > 1e-6
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(ratio, rel=0.15)


@pytest.mark.parametrize(("solver", "asked"), [("euler", [0, 1, 2]), ("heun", [0, 1, 1, 2, 2])])
def test_which_steps_are_asked_for_and_told(solver: Solver, asked: list[int]) -> None:
    steps: list[int] = []
    told: list[int] = []

    def velocity(x: Tensor, k: int) -> Tensor:
        steps.append(k)
        return -x

    solve(velocity, torch.ones(1), times_of(3), solver, told.append)
    assert (steps, told) == (asked, [1, 2, 3])


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("config", [V, X0])
@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_a_perfect_model_of_one_clip_gives_that_clip(solver: Solver, config: FlowConfig, steps: int) -> None:
    """Every point of the path knows where it came from: x = (1 - t) clip + t noise."""
    clip, noise = drawn()
    alpha = 2.0
    times = times_of(steps, alpha)
    spread = [t.expand(12) for t in times]

    def velocity(x: Tensor, k: int) -> Tensor:
        said = clip if config.prediction == "x0" else (x - clip) / times[k]
        return velocity_of(said, x, spread[k], config)

    found = solve(velocity, noise, times, solver)
    torch.testing.assert_close(found, clip, rtol=1e-9, atol=1e-9)
    assert (times[-2] < LEAST_TIME) == (steps == 100)  # the loss's bound is none of the way's
    assert (found - noise).abs().max() > 1


def test_each_part_may_have_its_own_times() -> None:
    """Two samples with other grids, and what is known, which stays."""
    clip, noise = drawn(3)
    grids = torch.stack((time_grid(4, 1.0), time_grid(4, 3.0), torch.zeros(5)), dim=1).double()
    times = [t[:, None] for t in grids]

    def velocity(x: Tensor, k: int) -> Tensor:
        return (x - clip) / times[k].clamp(min=1e-9)

    found = solve(velocity, torch.cat((noise[:2], clip[2:])), times, "heun")
    torch.testing.assert_close(found, clip, rtol=1e-6, atol=1e-6)
    assert torch.equal(found[2], clip[2])


def test_a_mixture_of_two_clips_is_reached_at_its_shares() -> None:
    """By the velocity that is right for two points of different weight: so many noises end at each."""
    ends, shares = torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.tensor([0.25, 0.75], dtype=torch.float64)
    noise = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = times_of(60)

    def velocity(x: Tensor, k: int) -> Tensor:
        t = times[k]
        logits = shares.log() - (x - (1 - t) * ends).square() / (2 * t * t)
        expected = (logits.softmax(dim=1) * ends).sum(1, keepdim=True)
        return (x - expected) / t

    found = solve(velocity, noise, times, "heun")
    assert (found.abs() - 1).abs().max() < 0.05
    assert (found > 0).double().mean().item() == pytest.approx(0.75, abs=0.015)


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"prediction": "eps"}, "prediction=eps: must be v or x0"),
    ({"logit_mean": nan}, "logit_mean=nan: must be finite"),
    ({"logit_mean": inf}, "logit_mean=inf: must be finite"),
    ({"logit_std": 0.0}, "logit_std=0.0: must be above 0"),
    ({"logit_std": nan}, "logit_std=nan: must be above 0"),
    ({"logit_std": inf}, "logit_std=inf: must be above 0 and finite"),
    ({"shift_tokens": -1}, "shift_tokens=-1: must be at least 0"),
    ({"max_shift": 0.9}, "max_shift=0.9: must be at least 1 and finite"),
    ({"max_shift": inf}, "max_shift=inf: must be at least 1 and finite"),
    ({"max_shift": nan}, "max_shift=nan: must be at least 1 and finite"),
]


@pytest.mark.parametrize(("changed", "message"), IMPOSSIBLE)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FlowConfig(**changed)


def test_impossible_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="steps=0: must be at least 1"):
        time_grid(0)
    with pytest.raises(ValueError, match="solver=rk4: must be euler or heun"):
        solve(lambda x, k: x, torch.ones(1), times_of(2), "rk4")  # pyright: ignore[reportArgumentType]


@given(st.floats(-30, 30, width=32), st.integers(1, 10**6))
def test_any_draw_is_a_time(normal: float, tokens: int) -> None:
    assume(abs(normal) < 30)
    (time,) = draw_times(torch.tensor([normal]), torch.tensor([tokens]), FlowConfig()).tolist()
    assert 0 <= time <= 1
