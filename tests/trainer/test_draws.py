"""Draws from a counter: the same for the same sample, unlike for any other, and as often as they are said to be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
import torch

from trainer.draws import Key, MaskConfig, draw_mask, draw_noise, draw_normal, draw_share
from trainer.geometry import Compression, Geometry

KEY = Key(seed=1, step=20, slot=3, sample=2)
KEYS = [Key(5, step, slot, sample) for step in range(25) for slot in range(8) for sample in range(10)]
ONE, TWO, NINE = (Geometry(1 + 4 * n, 32, 48, Fraction(24)) for n in (0, 1, 8))


def test_the_same_key_draws_the_same() -> None:
    again = replace(KEY)
    assert draw_share(KEY, "a") == draw_share(again, "a")
    assert torch.equal(draw_noise(KEY, NINE, 4), draw_noise(again, NINE, 4))
    assert torch.equal(draw_mask(KEY, NINE, MaskConfig(1.0))[1], draw_mask(again, NINE, MaskConfig(1.0))[1])


PINNED_SEED = 5_451_665_691_172_221_043
PINNED_SHARE = 0.8888376249249518


def test_draws_are_pinned() -> None:
    """A change here changes what every run draws, and one that is resumed would go on as another."""
    assert KEY.seed_for("noise") == Key(1, 20, 3, 2).seed_for("noise") == PINNED_SEED
    assert draw_share(KEY, "caption") == pytest.approx(PINNED_SHARE, abs=1e-12)


def test_any_other_key_or_purpose_draws_something_else() -> None:
    others = [replace(KEY, **{name: getattr(KEY, name) + 1}) for name in ("seed", "step", "slot", "sample")]
    others.append(Key(1, 2, 3, 20))
    seeds = {key.seed_for(purpose) for key in (KEY, *others) for purpose in ("noise", "time", "mask")}
    assert len(seeds) == 3 * 6
    assert len({key.seed_for("noise") for key in KEYS}) == len(KEYS)


def test_distributions() -> None:
    shares = np.sort([draw_share(key, "caption") for key in KEYS])
    normals = np.sort([draw_normal(key, "time") for key in KEYS])
    even = (np.arange(len(KEYS)) + 0.5) / len(KEYS)
    # Kolmogorov and Smirnov's distance, at a level of one in a million.
    bound = 2.7 / sqrt(len(KEYS))
    assert np.abs(shares - even).max() < bound
    assert np.abs([0.5 * (1 + erf(x / sqrt(2))) for x in normals] - even).max() < bound
    noise = torch.stack([draw_noise(key, NINE, 4) for key in KEYS[:50]])
    assert noise.mean().abs() < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_masks_are_drawn_as_often_as_they_are_said_to_be() -> None:
    config = MaskConfig()
    kinds = Counter(draw_mask(key, NINE, config)[0] for key in KEYS)
    assert kinds["none"] / len(KEYS) == pytest.approx(0.5, abs=0.05)
    for kind, weight in zip(
        ("first_frame", "last_frames", "both_ends", "random_frames"), config.weights(), strict=True
    ):
        assert kinds[kind] / len(KEYS) == pytest.approx(0.5 * weight, abs=0.04)


@pytest.mark.parametrize("geometry", [ONE, TWO, NINE])
def test_something_is_left_to_make(geometry: Geometry) -> None:
    config = MaskConfig(known_share=1.0)
    seen = set()
    for key in KEYS:
        kind, known = draw_mask(key, geometry, config)
        assert known.shape == (geometry.latent_size[0],)
        assert known.dtype == torch.bool
        assert not known.all()
        assert known.any() == (kind != "none")
        match kind:
            case "first_frame":
                assert known.tolist() == [True] + [False] * (len(known) - 1)
            case "last_frames":
                assert known[-1]
                assert known.tolist() == sorted(known.tolist())
            case "both_ends":
                assert known.nonzero().flatten().tolist() == [0, len(known) - 1]
            case _:
                pass
        seen.add(kind)
    wanted = {ONE: {"none"}, TWO: {"first_frame", "last_frames", "random_frames"}}
    assert seen == wanted.get(geometry, {"first_frame", "last_frames", "both_ends", "random_frames"})


def test_patches_of_time_are_not_divided() -> None:
    geometry = Geometry(29, 32, 48, Fraction(24), Compression(patch_time=2))
    for key in KEYS[:200]:
        _, known = draw_mask(key, geometry, MaskConfig(1.0))
        assert torch.equal(known[::2], known[1::2])


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"known_share": 1.5}, "share=1.5: must be from 0 to 1"),
        ({"first_frame": -1.0}, "first_frame=-1.0: must be from 0 on"),
        ({"both_ends": float("nan")}, "both_ends=nan"),
        ({"first_frame": 0, "last_frames": 0, "both_ends": 0, "random_frames": 0}, "needs a kind"),
    ],
)
def test_refused(config: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        MaskConfig(**config)
