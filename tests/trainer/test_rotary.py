"""Positions: only offsets count, in seconds and tokens; beyond the trained extent nothing turns further than within."""

from __future__ import annotations

import re
from fractions import Fraction
from math import nan, pi
from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tiny_transformers import geometry_of, tiny
from trainer.geometry import Compression, Geometry
from trainer.model.rotary import RotaryConfig, angles, apply_rotary, positions

CONFIG = RotaryConfig(trained_seconds=10.0, trained_tokens=32, tokens_per_s=6.0, period=1000.0)
WIDTH = 64
TIME, ROWS_, COLUMNS = slice(0, 8), slice(8, 20), slice(20, 32)
AXES = (TIME, ROWS_, COLUMNS)
RATE = Fraction(24)


def angles_of(geometry: Geometry, config: RotaryConfig = CONFIG, width: int = WIDTH) -> Tensor:
    return angles(positions(geometry, config), geometry, width, config)


def speeds_of(geometry: Geometry, config: RotaryConfig = CONFIG) -> list[Tensor]:
    """Radians that each pair turns from a token to the next, along time, rows and columns; time's a second."""
    grid = angles_of(geometry, config).reshape(*geometry.grid, WIDTH // 2)
    c = geometry.compression
    step_s = c.ratio_time * c.patch_time / float(geometry.rate)
    return [
        (grid[1, 0, 0] - grid[0, 0, 0])[TIME] / step_s,
        (grid[0, 1, 0] - grid[0, 0, 0])[ROWS_],
        (grid[0, 0, 1] - grid[0, 0, 0])[COLUMNS],
    ]


def test_positions_are_from_the_middle_in_seconds_and_tokens() -> None:
    geometry = Geometry(9, 32, 48, Fraction(8))  # three latent frames, half a second apart
    assert positions(geometry, CONFIG).tolist() == [
        [t, row, column] for t in (-3.0, 0.0, 3.0) for row in (-0.5, 0.5) for column in (-1.0, 0.0, 1.0)
    ]
    assert positions(Geometry(1, 16, 16, RATE), CONFIG).tolist() == [[0.0, 0.0, 0.0]]
    pairs = Geometry(13, 16, 16, Fraction(8), Compression(4, 8, 2, 2))  # two patches, a second apart
    assert positions(pairs, CONFIG)[:, 0].tolist() == [-3.0, 3.0]


def test_the_pairs_of_a_head_are_shared_by_the_axes() -> None:
    for width, pairs in ((8, (2, 1, 1)), (10, (1, 2, 2)), (32, (4, 6, 6)), (64, (8, 12, 12)), (128, (16, 24, 24))):
        geometry = geometry_of((2, 2, 2))
        found = angles(torch.eye(3), geometry, width, CONFIG)
        assert found.shape == (3, width // 2)
        begins = (0, pairs[0], pairs[0] + pairs[1])
        for axis in range(3):
            turned = found[axis].nonzero().ravel().tolist()
            assert turned == list(range(begins[axis], begins[axis] + pairs[axis]))


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(-40, 40)] * 3))
def test_logits_know_offsets_only(seed: int, offset: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    geometry = geometry_of((3, 4, 5))
    tokens = geometry.tokens
    q, k = (torch.randn(tokens, 2, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))

    def logits(places: Tensor) -> Tensor:
        found = angles(places.double(), geometry, WIDTH, CONFIG)
        turned = (apply_rotary(x, found.cos(), found.sin()) for x in (q, k))
        return torch.einsum("lhk,mhk->hlm", *turned)

    places = positions(geometry, CONFIG)
    torch.testing.assert_close(logits(places + torch.tensor(offset)), logits(places), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(logits(places * 1.5), logits(places), atol=0.1)


def test_a_token_seen_from_another_is_turned_by_their_offset() -> None:
    """By hand: cosine and sine of the difference."""
    angles_LA = torch.tensor([[0.3], [1.0]])
    x = apply_rotary(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]), angles_LA.cos(), angles_LA.sin())
    torch.testing.assert_close((x[0] * x[1]).sum(), torch.tensor(0.7).cos())
    torch.testing.assert_close(x[1, 0], torch.tensor([0.5403023, 0.8414710]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_turning_keeps_the_norm_and_the_precision(dtype: torch.dtype) -> None:
    x = torch.randn(60, 3, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = angles_of(geometry_of((3, 4, 5)))
    turned = apply_rotary(x, found.cos(), found.sin())
    assert turned.dtype == dtype
    assert not torch.equal(turned, x)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=tolerance, atol=0)
    if dtype == torch.bfloat16:  # rounded once, at the end
        assert torch.equal(turned, apply_rotary(x.float(), found.cos(), found.sin()).bfloat16())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_same_moments_at_another_rate_are_turned_alike(scale: int) -> None:
    slow = Geometry(1 + 4 * 6, 32, 32, Fraction(12))
    fast = Geometry(1 + 4 * 6 * scale, 32, 32, Fraction(12) * scale)
    a = angles_of(slow).reshape(*slow.grid, -1)
    b = angles_of(fast).reshape(*fast.grid, -1)
    assert len(b) > len(a)
    torch.testing.assert_close(b[::scale], a)


def test_a_smaller_clip_is_in_the_middle_of_a_larger_one() -> None:
    small, large = geometry_of((2, 4, 6)), geometry_of((4, 8, 12))
    a = angles_of(small).reshape(*small.grid, -1)
    b = angles_of(large).reshape(*large.grid, -1)
    torch.testing.assert_close(b[1:3, 2:6, 3:9], a)


EXTENTS = st.tuples(st.integers(2, 100), st.integers(2, 90), st.integers(2, 90))


@settings(max_examples=100)
@given(EXTENTS, st.sampled_from([Fraction(2), Fraction(12), Fraction(60)]))
def test_beyond_what_was_trained_fast_angles_stay_and_slow_ones_stay_within(
    grid: tuple[int, int, int], rate: Fraction
) -> None:
    geometry = Geometry(1 + 4 * (grid[0] - 1), 16 * 2, 16 * 2, rate)
    geometry = Geometry(geometry.frames, 16 * grid[1], 16 * 2, rate)
    trained = speeds_of(Geometry(5, 32, 32, RATE))
    found = speeds_of(geometry)
    axes = (
        (geometry.seconds, CONFIG.trained_seconds, geometry.seconds - 1 / rate),
        (grid[1], CONFIG.trained_tokens, grid[1] - 1),
        (2, CONFIG.trained_tokens, 1),
    )
    for was, now, (extent, limit, span) in zip(trained, found, axes, strict=True):
        if extent <= limit:
            torch.testing.assert_close(now, was, rtol=2e-4, atol=1e-6)
            continue
        event("beyond")
        turns = was * limit / (2 * pi)
        fast, slow = turns >= 4, turns <= 1
        assert fast.any()
        assert slow.any()
        torch.testing.assert_close(now[fast], was[fast], rtol=2e-4, atol=1e-6)
        assert (now[slow] * float(span) <= was[slow] * limit * (1 + 1e-4)).all()
        torch.testing.assert_close(now[slow], was[slow] * float(limit / extent), rtol=2e-3, atol=1e-6)
        between = ~fast & ~slow
        assert (now[between] <= was[between] * (1 + 1e-4)).all()
        assert (now[between] >= was[between] * float(limit / extent) * (1 - 1e-4)).all()


def test_nothing_changes_up_to_the_trained_extent_and_little_just_beyond() -> None:
    def rows(tokens: int) -> Tensor:
        return speeds_of(Geometry(5, 16 * tokens, 32, RATE))[1]

    torch.testing.assert_close(rows(32), rows(2), rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(rows(33), rows(32), rtol=0.04, atol=1e-6)
    assert rows(33)[-1] < rows(32)[-1] * 0.98


def test_no_two_angles_turn_alike() -> None:
    for speeds in speeds_of(Geometry(5, 32, 32, RATE)):
        assert (speeds[1:] < speeds[:-1]).all()
        assert speeds.min() > 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"trained_seconds": 0.0}, "trained_seconds=0.0: must be above 0"),
    ({"trained_seconds": nan}, "trained_seconds=nan: must be above 0"),
    ({"trained_tokens": 0}, "trained_tokens=0: must be above 0"),
    ({"tokens_per_s": -1.0}, "tokens_per_s=-1.0: must be above 0"),
    ({"period": 1.0}, "period=1.0: must be above 1"),
    ({"period": nan}, "period=nan: must be above 1"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    for make in (lambda: RotaryConfig(**changed), lambda: tiny(**changed)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make()
