"""Packs: patches there and back, rows and segments of known frames and of padding, samples that do not fit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_transformers import TINY, geometry_of, samples_of, tiny
from trainer.geometry import Compression
from trainer.model.layouts import ATTENTIONS
from trainer.model.pack import Sample, make_pack, patches_of, unpatched
from trainer.model.rotary import angles, positions

GRIDS = [(3, 2, 4), (1, 3, 2), (2, 1, 1)]
KNOWN = [[1, 0, 0], None, [0, 1]]


@settings(max_examples=50)
@given(st.tuples(*[st.integers(1, 3)] * 3), st.sampled_from([(1, 2), (2, 2), (1, 1), (3, 2)]), st.integers(1, 3))
def test_patches_come_back_to_the_bit(grid: tuple[int, int, int], patch: tuple[int, int], channels: int) -> None:
    config = tiny(patch_time=patch[0], patch_space=patch[1], latent_channels=channels)
    geometry = geometry_of(grid, config)
    x = torch.randn(channels, *geometry.latent_size)
    patches = patches_of(x, config.compression)
    assert patches.shape == (geometry.tokens, config.patch_numbers)
    assert torch.equal(unpatched(patches, geometry), x)


def test_a_patch_is_one_place() -> None:
    """By hand: a token in the order (t, h, w), its numbers by channel, time, row, column."""
    x = torch.arange(2 * 4 * 4 * 6).reshape(2, 4, 4, 6)
    patches = patches_of(x, Compression(4, 8, 2, 2))
    for number, (t, h, w) in enumerate((t, h, w) for t in range(2) for h in range(2) for w in range(3)):
        block = x[:, 2 * t : 2 * t + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
        assert torch.equal(patches[number], block.ravel())


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_rows_and_segments(padding: int) -> None:
    samples = samples_of(GRIDS, known=KNOWN)
    tokens = 24 + 6 + 2
    pack = make_pack(samples, TINY, tokens + padding)
    assert pack.padding == padding
    assert pack.row_L.tolist() == [1] * 8 + [0] * 16 + [2] * 6 + [4] + [5] + [6] * padding
    assert pack.is_known_L.tolist() == [True] * 8 + [False] * 23 + [True] * (1 + padding)
    assert pack.sample_segments.lengths == (24, 6, 2, padding)
    assert pack.sample_segments.longest == tokens + padding
    assert {x.segments.tokens for x in pack.layouts} == {tokens + padding}
    assert not pack.latents_LP[tokens:].any()
    assert pack.geometries == tuple(sample.geometry for sample in samples)
    assert len(pack.latents_LP) == len(pack.cos_LA) == len(pack.sin_LA) == tokens + padding
    for sample, back in zip(samples, pack.split(pack.latents_LP), strict=True):
        assert torch.equal(back, sample.latent_CTHW)


def test_positions_are_each_clips_own() -> None:
    pack = make_pack(samples_of(GRIDS), TINY, 40)
    begin = 0
    for geometry in pack.geometries:
        part = slice(begin, begin + geometry.tokens)
        found = angles(positions(geometry, TINY.rotary), geometry, TINY.head_width, TINY.rotary)
        assert torch.equal(pack.cos_LA[part], found.cos())
        assert torch.equal(pack.sin_LA[part], found.sin())
        begin += geometry.tokens
    assert begin == 32


def test_a_pack_without_a_budget_is_as_long_as_its_samples() -> None:
    pack = make_pack(samples_of(GRIDS), TINY)
    assert (pack.padding, len(pack.row_L), pack.sample_segments.lengths[-1]) == (0, 32, 0)


def test_known_frames_by_patches_of_time() -> None:
    config = tiny(patch_time=2)
    (sample,) = samples_of([(2, 1, 2)], config, [[1, 1, 0, 0]])
    assert make_pack([sample], config).is_known_L.tolist() == [True, True, False, False]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_pack_moves_to_a_device_with_all_it_has(attention: str) -> None:
    moved = make_pack(samples_of(GRIDS, known=KNOWN), tiny(attention=attention), 40).to("meta")
    tensors = [moved.latents_LP, moved.is_known_L, moved.row_L, moved.cos_LA, moved.sin_LA, moved.sample_segments.cu]
    for layout in moved.layouts:
        tensors += [x for x in (layout.segments.cu, layout.order, layout.back) if x is not None]
    assert {x.device.type for x in tensors} == {"meta"}
    assert len(tensors) == {"full": 7, "factorised": 10, "windowed": 12}[attention]
    assert moved.padding == 8


def changed(**fields: Any) -> Sample:
    (sample,) = samples_of([(2, 2, 2)], known=[[1, 0]])
    return replace(sample, **fields)


REFUSED = [
    (changed(latent_CTHW=torch.zeros(3, 2, 4, 4)), "sample 1: latent is [3, 2, 4, 4], its geometry says [2, 2, 4, 4]"),
    (changed(latent_CTHW=torch.zeros(2, 2, 4, 5)), "sample 1: latent is [2, 2, 4, 5], its geometry says [2, 2, 4, 4]"),
    (changed(latent_CTHW=torch.zeros(2, 4, 4)), "sample 1: latent is [2, 4, 4], its geometry says [2, 2, 4, 4]"),
    (changed(is_known_T=torch.tensor([True])), "sample 1: is_known is [1], there are 2 latent frames"),
    (changed(is_known_T=torch.ones(2, 1, dtype=torch.bool)), "sample 1: is_known is [2, 1], there are 2 latent"),
    (
        changed(geometry=replace(geometry_of((2, 2, 2)), compression=Compression(2, 8, 1, 2), frames=3)),
        "sample 1: geometry is for Compression(ratio_time=2",
    ),
]


@pytest.mark.parametrize(("sample", "message"), REFUSED)
def test_samples_that_are_not_what_they_say_are_refused(sample: Sample, message: str) -> None:
    good = changed()
    make_pack([good, good], TINY)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_pack([good, sample], TINY)


def test_what_does_not_fit_is_refused() -> None:
    samples = samples_of(GRIDS)
    make_pack(samples, TINY, 32)
    with pytest.raises(ValueError, match="budget_tokens=31: 3 samples have 32 tokens"):
        make_pack(samples, TINY, 31)
    with pytest.raises(ValueError, match="samples=0: must be at least 1"):
        make_pack([], TINY, 31)
    config = tiny(patch_time=2)
    with pytest.raises(ValueError, match="sample 0: is_known divides a patch of 2 frames"):
        make_pack(samples_of([(2, 1, 2)], config, [[1, 0, 0, 0]]), config)
