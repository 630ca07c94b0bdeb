"""Samples: of the size that was asked for, the same in any company, with known frames as they were given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny_transformers import RATE, TINY, geometry_of, woken
from trainer.flow import FlowConfig, Solver
from trainer.geometry import Asked, Geometry
from trainer.model.config import TransformerConfig
from trainer.model.pack import Pack, patches_of
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer, TextTokens
from trainer.sampling import Known, SamplingConfig, cut, noise_of, sample_latents

FLOW = FlowConfig(shift_tokens=16)
GEOMETRIES = [geometry_of(grid) for grid in ((3, 2, 4), (1, 3, 2), (2, 1, 1))]
PROMPTS = ["a red dog", "a blue cat, running", "nothing"]
MIXED = "ignore:Mismatch dtype between input and weight"  # of norms, under autocast on a CPU
QUICK = SamplingConfig(steps=3, guidance=1.0, seed=5)


def read(model: DiffusionTransformer, texts: Sequence[str]) -> TextTokens:
    with torch.no_grad():
        return model.read(texts_of([*texts, ""]))


def sampled(
    model: DiffusionTransformer,
    geometries: Sequence[Geometry] = GEOMETRIES,
    prompts: Sequence[str] = PROMPTS,
    config: SamplingConfig = QUICK,
    negatives: Sequence[str] | None = None,
    flow: FlowConfig = FLOW,
    **more: Any,
) -> list[Tensor]:
    away = None if negatives is None else read(model, negatives)
    return sample_latents(model, flow, geometries, read(model, prompts), away, config, **more)


def small(seed: int = 0) -> DiffusionTransformer:
    return woken(TINY, seed, torch.float32)


# Models that say what is known beforehand.


class Oracle(DiffusionTransformer):
    """Knows the clips that are to be made, and says so."""

    def __init__(self, clips: Sequence[Tensor], flow: FlowConfig):
        super().__init__(TINY)
        self.flow = flow
        self.clips_LP = nn.Buffer(torch.cat([patches_of(clip, TINY.compression) for clip in clips]))

    def forward(self, x_LP: Tensor, times_R: Tensor, text: TextTokens, pack: Pack) -> Tensor:
        t = times_R[pack.row_L, None]
        said = self.clips_LP if self.flow.prediction == "x0" else (x_LP - self.clips_LP) / t.clamp(min=1e-6)
        return said.to(x_LP.dtype)


class Wind(DiffusionTransformer):
    """Blows as hard as a sample's text is long; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(TINY)
        self.asked: list[tuple[float, torch.dtype]] = []

    def forward(self, x_LP: Tensor, times_R: Tensor, text: TextTokens, pack: Pack) -> Tensor:
        self.asked.append((float(times_R[0]), x_LP.dtype))
        words = torch.tensor([*text.segments.lengths], dtype=torch.float32) - 1
        return words[pack.row_L // 2, None].expand(x_LP.shape).to(x_LP.dtype)


@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 4, 60])
def test_a_model_that_knows_the_clips_makes_them(prediction: Any, solver: Solver, steps: int) -> None:
    flow = replace(FLOW, prediction=prediction)
    clips = [noise_of(geometry, 2, 100 + n) for n, geometry in enumerate(GEOMETRIES)]
    found = sampled(Oracle(clips, flow), config=SamplingConfig(steps, solver, 1.0), flow=flow)
    for x, clip, geometry in zip(found, clips, GEOMETRIES, strict=True):
        assert x.shape == (2, *geometry.latent_size)
        assert x.dtype == torch.float32
        torch.testing.assert_close(x, clip, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("guidance", "push"), [(1.0, (3, 0)), (0.0, (1, 2)), (4.0, (9, -6)), (0.5, (2, 1))])
def test_guidance_goes_from_the_negative_to_the_prompt_and_beyond(guidance: float, push: tuple[int, int]) -> None:
    config = SamplingConfig(4, "heun", guidance, seed=7)
    found = sampled(Wind(), GEOMETRIES[:2], ["three words here", ""], config, ["one", "two words"])
    for n, (x, geometry) in enumerate(zip(found, GEOMETRIES[:2], strict=True)):
        torch.testing.assert_close(x, noise_of(geometry, 2, 7 + n) - push[n], rtol=1e-5, atol=1e-5)


ASKED: list[tuple[Solver, float, int]] = [("euler", 1.0, 5), ("euler", 2.0, 10), ("heun", 1.0, 9), ("heun", 2.0, 18)]


@pytest.mark.parametrize(("solver", "guidance", "times"), ASKED)
def test_how_often_the_model_is_asked(solver: Solver, guidance: float, times: int) -> None:
    model, seen = Wind(), list[int]()
    sampled(model, config=SamplingConfig(5, solver, guidance), negatives=["", "", ""], seen=seen.append)
    assert len(model.asked) == times
    assert seen == [1, 2, 3, 4, 5]
    assert model.asked[0][0] == 1
    assert min(t for t, _ in model.asked) > 0  # at 0 there is no way to go


def test_guidance_1_is_the_prompt_alone() -> None:
    model = small()
    first, other = sampled(model), sampled(model, negatives=["something", "else", "here"])
    assert all(torch.equal(x, y) for x, y in zip(first, other, strict=True))
    guided = sampled(model, config=replace(QUICK, guidance=2.0), negatives=["something", "else", "here"])
    assert not any(torch.allclose(x, y, atol=1e-3) for x, y in zip(first, guided, strict=True))


# What decides a sample.


def test_a_sample_in_a_pack_is_as_it_is_alone() -> None:
    model = small()
    config = replace(QUICK, guidance=3.0)
    together = sampled(model, config=config, negatives=["bad", "", "blurred"])
    for n, negative in enumerate(["bad", "", "blurred"]):
        alone = sampled(model, [GEOMETRIES[n]], [PROMPTS[n]], replace(config, seed=5 + n), [negative])
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-4)
        assert together[n].isfinite().all()


def test_a_seed_gives_a_sample_and_another_seed_another() -> None:
    model = small()
    first, again, other = (sampled(model, config=replace(QUICK, seed=seed)) for seed in (5, 5, 6))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not any(torch.allclose(x, y, atol=1e-2) for x, y in zip(first, other, strict=True))
    changed = sampled(model, prompts=["another text", *PROMPTS[1:]])
    assert not torch.allclose(changed[0], first[0], atol=1e-3)
    torch.testing.assert_close(changed[1], first[1], rtol=1e-4, atol=1e-4)


def test_noise_is_by_seed_and_size_and_leaves_the_global_generator_alone() -> None:
    model = Wind()
    state = torch.get_rng_state()
    first = noise_of(GEOMETRIES[0], 2, 3)
    sampled(model)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(noise_of(GEOMETRIES[0], 2, 3), first)
    assert not torch.equal(noise_of(GEOMETRIES[0], 2, 4), first)
    assert first.shape == (2, *GEOMETRIES[0].latent_size)
    large = noise_of(geometry_of((4, 20, 20)), 2, 3)
    assert (large.mean().abs() < 0.05, abs(large.std() - 1) < 0.05) == (True, True)
    assert noise_of(GEOMETRIES[1], 2, 2**63 + 2).isfinite().all()  # the seed of the third sample from the last seed on


# Known frames.

ODD = [-0.0, 0.0, 1e-45, -1e-40, 3e38, 0.1]


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


@pytest.mark.parametrize(
    "known", [[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 1]], ids=lambda known: "".join(map(str, known))
)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.filterwarnings(MIXED)
def test_known_frames_come_back_to_the_bit(known: list[int], guidance: float, prediction: Any) -> None:
    latent = noise_of(GEOMETRIES[0], 2, 9)
    is_known = torch.tensor(known, dtype=torch.bool)
    given = latent.clone()
    given[:, ~is_known] = nan  # what is not known is not looked at
    given[0, is_known, 0, : len(ODD)] = torch.tensor(ODD)
    config = replace(QUICK, guidance=guidance)
    found = sampled(
        small(),
        config=config,
        negatives=["", "", ""],
        known=[Known(given, is_known), None, None],
        flow=replace(FLOW, prediction=prediction),
        dtype=torch.bfloat16 if guidance == 3.0 else torch.float32,
    )
    assert torch.equal(bits(found[0][:, is_known]), bits(given[:, is_known]))
    assert found[1].isfinite().all()
    assert found[0].isfinite().all()
    assert not torch.equal(found[0][:, ~is_known], latent[:, ~is_known]) or is_known.all()


def test_known_frames_change_what_is_made_of_the_others() -> None:
    model = small()
    first, other = noise_of(GEOMETRIES[0], 2, 9), noise_of(GEOMETRIES[0], 2, 10)
    is_known = torch.tensor([True, False, False])
    found = [sampled(model, known=[Known(x, is_known), None, None]) for x in (first, other)]
    free = sampled(model)
    assert found[0][0].isfinite().all()
    assert not torch.allclose(found[0][0][:, 1:], found[1][0][:, 1:], atol=1e-4)
    assert not torch.allclose(found[0][0][:, 1:], free[0][:, 1:], atol=1e-4)
    for n in (1, 2):
        torch.testing.assert_close(found[0][n], free[n], rtol=1e-4, atol=1e-4)
    nothing = sampled(model, known=[Known(first, ~is_known & is_known), None, None])
    assert all(torch.equal(x, y) for x, y in zip(nothing, free, strict=True))


def test_a_model_that_knows_the_clip_makes_the_rest_of_it() -> None:
    clips = [noise_of(geometry, 2, 100 + n) for n, geometry in enumerate(GEOMETRIES)]
    known = [Known(clips[0], torch.tensor([True, False, True])), None, Known(clips[2], torch.tensor([True, False]))]
    found = sampled(Oracle(clips, FLOW), config=SamplingConfig(5, "heun", 1.0), known=known)
    for x, clip in zip(found, clips, strict=True):
        torch.testing.assert_close(x, clip, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(MIXED)
def test_half_precision_is_the_models_and_not_the_paths() -> None:
    model = Wind()
    sampled(model, dtype=torch.bfloat16)
    assert {dtype for _, dtype in model.asked} == {torch.bfloat16}
    whole, half = (sampled(small(), dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    for x, y in zip(whole, half, strict=True):
        assert y.dtype == torch.float32
        assert 0 < (x - y).norm() < 0.1 * x.norm()


# Sizes.


class Unpacked:
    """Stands for a compression network: every latent cell becomes its frames and pixels."""

    @staticmethod
    def decoded(latent_CTHW: Tensor, config: TransformerConfig) -> Tensor:
        c = config.compression
        video = latent_CTHW.repeat_interleave(c.ratio_time, 1)[:, c.ratio_time - 1 :]
        return video.repeat_interleave(c.ratio_space, 2).repeat_interleave(c.ratio_space, 3)


SIZES = [
    # width, height, seconds, rate; frames
    (37, 23, 0.0, Fraction(24), 1),
    (16, 16, 0.0, Fraction(24), 1),
    (50, 33, 0.25, Fraction(24), 6),
    (17, 48, 0.5, Fraction(30000, 1001), 15),
    (1, 1, 0.21, Fraction(24), 5),
]


def test_every_size_is_made_exactly() -> None:
    asked = [Asked(width, height, seconds, rate) for width, height, seconds, rate, _ in SIZES]
    geometries = [x.covered(TINY.compression) for x in asked]
    model = small()
    found = sampled(model, geometries, ["a dog"] * len(asked), replace(QUICK, steps=2))
    for latent, one, geometry, (width, height, _, _, frames) in zip(found, asked, geometries, SIZES, strict=True):
        video = Unpacked.decoded(latent, TINY)
        assert video.shape == (2, geometry.frames, geometry.height, geometry.width)
        made = cut(video, one)
        assert made.shape == (2, frames, height, width)
        assert torch.equal(made, video[:, :frames, :height, :width])
    images = [latent for latent, one in zip(found, asked, strict=True) if not one.seconds]
    assert [latent.shape[1] for latent in images] == [1, 1]


# Errors.


def test_guidance_needs_negatives() -> None:
    with pytest.raises(ValueError, match=r"guidance=4\.0: needs negative prompts"):
        sampled(small(), config=SamplingConfig(2))


def test_known_frames_of_another_size_are_refused() -> None:
    latent, is_known = noise_of(GEOMETRIES[0], 2, 0), torch.tensor([True, False, False])
    for known, message in (
        (Known(latent[:, :2], is_known), r"known: latent is \[2, 2, 4, 8\], and the sample's is \[2, 3, 4, 8\]"),
        (Known(latent[:1], is_known), r"known: latent is \[1, 3, 4, 8\]"),
        (Known(latent, is_known[:2]), r"is_known is \[2\], there are 3 latent frames"),
    ):
        with pytest.raises(ValueError, match=message):
            sampled(small(), known=[known, None, None])


def test_as_many_of_each_as_samples() -> None:
    model = small()
    with pytest.raises(ValueError, match="known: are 1, and 3 samples need one each"):
        sampled(model, known=[None])
    for prompts in (PROMPTS[:2], [*PROMPTS, "more"]):
        with pytest.raises(ValueError, match=f"prompts: are {len(prompts) + 1} texts, and 3 samples and the padding"):
            sampled(model, prompts=prompts)
        with pytest.raises(ValueError, match=f"negatives: are {len(prompts) + 1} texts, and 3 samples"):
            sampled(model, negatives=prompts, config=SamplingConfig(2))
    with pytest.raises(ValueError, match="samples=0: must be at least 1"):
        sampled(model, [], [])


def test_a_geometry_of_another_compression_is_refused() -> None:
    with pytest.raises(ValueError, match="sample 0: geometry is for"):
        sampled(small(), [Geometry(1, 32, 32, RATE, replace(TINY.compression, ratio_time=8))], ["a"])


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "steps=0: must be at least 1"),
    ({"solver": "rk4"}, "solver=rk4: must be euler or heun"),
    ({"guidance": -0.1}, "guidance=-0.1: must be from 0 on and finite"),
    ({"guidance": inf}, "guidance=inf: must be from 0 on and finite"),
    ({"guidance": nan}, "guidance=nan: must be from 0 on and finite"),
    ({"seed": -1}, "seed=-1: must be from 0 on and below 2^63"),
    ({"seed": 2**63}, f"seed={2**63}: must be from 0 on and below 2^63"),
]


@pytest.mark.parametrize(("changed", "message"), IMPOSSIBLE)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SamplingConfig(**changed)
