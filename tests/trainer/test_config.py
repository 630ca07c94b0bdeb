"""Configs that cannot be are refused; the count of parameters is the module's."""

from __future__ import annotations

import re
from dataclasses import replace
from math import nan
from typing import Any

import pytest
import torch

from tests.tiny_transformers import tiny
from trainer.model.config import PRESETS, TransformerConfig, parameters_of, preset
from trainer.model.transformer import DiffusionTransformer

REFUSED: list[tuple[dict[str, Any], str]] = [
    *[
        ({name: 0}, f"{name}=0: must be at least 1")
        for name in ("width", "depth", "head_width", "mlp_width", "latent_channels", "text_width")
    ],
    *[
        ({name: 0}, f"{name}=0: must be at least 1")
        for name in ("ratio_time", "ratio_space", "patch_time", "patch_space")
    ],
    ({"width": -16}, "width=-16: must be at least 1"),
    ({"text_depth": -1}, "text_depth=-1: must be at least 0"),
    ({"width": 20}, "width=20: must be a multiple of head_width=8"),
    ({"width": 18, "head_width": 9}, "head_width=9: must be even and at least 8"),
    ({"head_width": 4}, "head_width=4: must be even and at least 8"),
    ({"attention": "sparse"}, "attention=sparse: must be one of full, factorised, windowed"),
    ({"window": (2, 2)}, "window=(2, 2): must be three numbers from 0 on"),
    ({"window": (2, -1, 2)}, "window=(2, -1, 2): must be three numbers from 0 on"),
    ({"attention": "factorised", "depth": 3}, "depth=3: must be even for factorised attention"),
    ({"attention": "windowed", "depth": 1}, "depth=1: must be even for windowed attention"),
    ({"text_width": 9}, "text_width=9: must be even where texts are read by the byte encoder"),
    ({"period": nan}, "period=nan: must be above 1"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny(**changed)


POSSIBLE: list[dict[str, Any]] = [
    {},
    {"depth": 3},  # odd, where blocks do not take turns
    {"text_width": 9, "text_depth": 0},
    {"text_width": 2},
    {"text_width": 6},
    {"width": 30, "head_width": 10},
    {"window": (0, 0, 0), "attention": "windowed"},
    {"patch_time": 2, "latent_channels": 3},
    {"patch_space": 1, "ratio_space": 32, "ratio_time": 8},
]


@pytest.mark.parametrize("changed", POSSIBLE)
def test_what_is_allowed_can_be_made_and_has_so_many_parameters(changed: dict[str, Any]) -> None:
    config = tiny(**changed)
    with torch.device("meta"):
        model = DiffusionTransformer(config)
    assert own_parameters(model) == parameters_of(config)
    assert (model.text_encoder is None) == (config.text_depth == 0)


def own_parameters(model: DiffusionTransformer) -> int:
    """Without the text encoder's."""
    return sum(p.numel() for name, p in model.named_parameters() if not name.startswith("text_encoder."))


MILLIONS = {"1m": 1, "10m": 10, "100m": 100, "400m": 400, "1.3b": 1300, "5b": 5000, "14b": 14_000}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_parameters_that_they_are_named_after(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = DiffusionTransformer(config)
    assert own_parameters(model) == parameters_of(config)
    assert parameters_of(config) == pytest.approx(MILLIONS[name] * 10**6, rel=0.13)


def test_every_attention_has_the_same_parameters() -> None:
    counts = {
        parameters_of(replace(TransformerConfig(), attention=name)) for name in ("full", "factorised", "windowed")
    }
    assert len(counts) == 1


def test_a_preset_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preset=2b: must be one of 1m, 10m, 100m, 400m, 1\.3b, 5b, 14b"):
        preset("2b")


def test_what_follows_from_a_config() -> None:
    config = tiny(patch_time=2, latent_channels=3, width=32)
    assert (config.heads, config.patch_numbers) == (4, 3 * 2 * 4)
    assert (config.compression.ratio_time, config.compression.patch_time) == (4, 2)
    assert (config.rotary.trained_seconds, config.rotary.trained_tokens) == (2.0, 4)
