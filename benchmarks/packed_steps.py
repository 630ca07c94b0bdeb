"""Packs against the same clips in other ways: one at a time, and in padded batches, with the same weights.

L tokens of a pack or of the longest clip of a batch, B clips of a batch, W words, D width, P numbers of a patch, H
heads, K width of a head, A angles of a head
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer.flow import FlowConfig, flow_loss, noised, rows_of_times
from trainer.geometry import Geometry
from trainer.model.config import TransformerConfig
from trainer.model.layouts import Attention
from trainer.model.pack import Pack, Sample, make_pack, patches_of
from trainer.model.rotary import angles, apply_rotary, positions
from trainer.model.text import texts_of
from trainer.model.transformer import Block, CrossAttention, DiffusionTransformer, SelfAttention, time_waves

__all__ = ["EQUAL_SIZES", "CpuTimes", "Difference", "Example", "cpu_times", "differences", "example_of"]

FLOW = FlowConfig()
COMPARED = TransformerConfig(
    width=48, depth=4, head_width=16, mlp_width=96, window=(2, 2, 3), latent_channels=4, text_width=32, text_depth=1
)
# Frames, height, width, rate: two of one shape that are neighbours, images, one token, one that is all but known.
EQUAL_SIZES = (
    (9, 64, 96, 24),
    (9, 64, 96, 24),
    (1, 48, 32, 25),
    (17, 32, 64, 30),
    (1, 16, 16, 24),
    (33, 48, 48, 60),
    (5, 112, 32, 12),
)
WORDS = ("a red kite over the harbour", "", "rain", "two dogs run along a beach at dawn, seen from above")
PADDING_TOKENS = 37


@dataclass(frozen=True, slots=True)
class Example:
    """A clip with all that a step needs to know: the same numbers whichever way it is run."""

    sample: Sample
    noise_LP: Tensor
    time: float
    text: str

    @property
    def tokens(self) -> int:
        return self.sample.geometry.tokens


def example_of(number: int, geometry: Geometry, channels: int, dtype: torch.dtype, known: int = 0) -> Example:
    """Random numbers for a clip; the first `known` latent frames are given."""
    generator = torch.Generator().manual_seed(number)
    latent_CTHW = torch.randn(channels, *geometry.latent_size, generator=generator, dtype=torch.float64)
    noise_CTHW = torch.randn(channels, *geometry.latent_size, generator=generator, dtype=torch.float64)
    is_known_T = torch.arange(latent_CTHW.shape[1]) < known
    return Example(
        Sample(latent_CTHW.to(dtype), geometry, is_known_T if known else None),
        patches_of(noise_CTHW, geometry.compression).to(dtype),
        0.1 + 0.8 * float(torch.rand((), generator=generator)),
        WORDS[number % len(WORDS)],
    )


def model_of(config: TransformerConfig, dtype: torch.dtype) -> DiffusionTransformer:
    """A model in which nothing is 0, so that every part has a gradient."""
    torch.manual_seed(0)
    model = DiffusionTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return model.to(dtype)


# One pack


def pack_of(examples: Sequence[Example], config: TransformerConfig, budget_tokens: int) -> Pack:
    return make_pack([example.sample for example in examples], config, budget_tokens)


def run_pack(model: DiffusionTransformer, examples: Sequence[Example], pack: Pack) -> tuple[Tensor, Tensor]:
    """The prediction for each token, and the loss of each."""
    dtype = pack.latents_LP.dtype
    times_R = rows_of_times(torch.tensor([example.time for example in examples]))
    noise_LP = torch.cat([*(e.noise_LP for e in examples), torch.zeros_like(pack.latents_LP[: pack.padding])])
    times_L = times_R[pack.row_L]
    x_LP = noised(pack.latents_LP, noise_LP, times_L)
    text = model.read(texts_of([*(example.text for example in examples), ""]))
    predicted_LP = model(x_LP, times_R.to(dtype), text, pack)
    if dtype == torch.float64:  # the flow's own loss is in float32
        error_L = (predicted_LP - (noise_LP - pack.latents_LP)).square().mean(dim=-1)
        return predicted_LP, error_L * ~pack.is_known_L
    return predicted_LP, flow_loss(predicted_LP, pack.latents_LP, noise_LP, x_LP, times_L, pack.is_known_L, FLOW)


def outputs_and_gradients(
    model: DiffusionTransformer, groups: Sequence[Sequence[Example]], budget_tokens: int = 0
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """What is predicted for each clip in turn, and the gradients of the sum of all clips' losses."""
    model.zero_grad()
    outputs: list[Tensor] = []
    for examples in groups:
        pack = pack_of(examples, model.config, budget_tokens)
        predicted_LP, error_L = run_pack(model, examples, pack)
        error_L.sum().backward()
        outputs += pack.split(predicted_LP.detach())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters())), "a part of the model has no gradient"
    return outputs, gradients


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest differences, relative to the largest number of what is compared: a clip's output, a parameter's gradient.

    outputs, gradients   packed and one clip at a time
    order                of both, packed in another order
    leak                 in the outputs of clips when another clip of their pack and its text change
    """

    outputs: float
    gradients: float
    order: float
    leak: float


def relative(found: Tensor, reference: Tensor) -> float:
    return float((found - reference).abs().max() / reference.abs().max().clamp(min=1e-300))


def differences(attention: Attention, dtype: torch.dtype) -> Difference:
    config = replace(COMPARED, attention=attention)
    model = model_of(config, dtype)
    geometries = [Geometry(f, h, w, Fraction(r), config.compression) for f, h, w, r in EQUAL_SIZES]
    known = [1, 0, 0, 2, 0, 8, 0]
    examples = [example_of(n, g, config.latent_channels, dtype, known[n]) for n, g in enumerate(geometries)]
    budget_tokens = sum(example.tokens for example in examples) + PADDING_TOKENS
    alone, alone_gradients = outputs_and_gradients(model, [[example] for example in examples])
    packed, packed_gradients = outputs_and_gradients(model, [examples], budget_tokens)
    order = random.Random(1).sample(range(len(examples)), len(examples))
    turned, turned_gradients = outputs_and_gradients(model, [[examples[n] for n in order]], budget_tokens)
    other = example_of(99, geometries[0], config.latent_channels, dtype)
    leaked, _ = outputs_and_gradients(model, [[other, *examples[1:]]], budget_tokens)
    assert relative(leaked[0], packed[0]) > 0.01, "the clip that was changed is to have another output"
    names = list(alone_gradients)
    return Difference(
        outputs=max(map(relative, packed, alone)),
        gradients=max(relative(packed_gradients[n], alone_gradients[n]) for n in names),
        order=max(
            *(relative(turned[place], packed[n]) for place, n in enumerate(order)),
            *(relative(turned_gradients[n], packed_gradients[n]) for n in names),
        ),
        leak=max(map(relative, leaked[1:], packed[1:])),
    )


# A padded batch


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips side by side, each padded to the longest, with masks of keys: what a trainer without packs does."""

    x_BLP: Tensor
    target_BLP: Tensor
    times_B: Tensor
    cos_LA: Tensor
    sin_LA: Tensor
    is_there_BL: Tensor
    examples: tuple[Example, ...]


def batch_of(examples: Sequence[Example], config: TransformerConfig) -> Batch:
    """`cos_LA` and `sin_LA` are those of all rows, one after the other."""
    clean = [patches_of(example.sample.latent_CTHW, config.compression) for example in examples]
    noise = [example.noise_LP for example in examples]
    x = [noised(c, e, torch.full((len(c),), x.time)) for c, e, x in zip(clean, noise, examples, strict=True)]
    turned = [
        angles(positions(g, config.rotary), g, config.head_width, config.rotary)
        for g in (example.sample.geometry for example in examples)
    ]
    angles_LA = rearrange(pad_sequence(turned, batch_first=True), "b l a -> (b l) a")
    return Batch(
        pad_sequence(x, batch_first=True),
        pad_sequence([e - c for c, e in zip(clean, noise, strict=True)], batch_first=True),
        torch.tensor([example.time for example in examples]),
        angles_LA.cos(),
        angles_LA.sin(),
        pad_sequence([torch.ones(len(c), dtype=torch.bool) for c in clean], batch_first=True),
        tuple(examples),
    )


def run_batch(model: DiffusionTransformer, batch: Batch) -> Tensor:
    """[B, L, P]: the transformer's own layers over a padded batch; what is masked is worked out, and thrown away."""
    read = model.read(texts_of([example.text for example in batch.examples]))
    words = torch.split(model.text(read.z_WD), list(read.segments.lengths))
    text_BWD = pad_sequence(list(words), batch_first=True)
    is_word_BW = pad_sequence([torch.ones(len(w), dtype=torch.bool) for w in words], batch_first=True)
    time_BD = model.time(time_waves(batch.times_B))
    shared_6B1D = rearrange(model.modulation(time_BD), "b (six d) -> six b 1 d", six=6)
    x_BLD = model.enter(batch.x_BLP)
    for block in model.blocks:
        assert isinstance(block, Block)
        scale1, shift1, gate1, scale2, shift2, gate2 = shared_6B1D + block.own_modulation[:, None, None]
        seen_BLD = attention_of(block.attention, block.norm_attention(x_BLD) * (1 + scale1) + shift1, batch)
        x_BLD = x_BLD + gate1 * seen_BLD
        x_BLD = x_BLD + cross_of(block.cross, block.norm_text(x_BLD), text_BWD, is_word_BW)
        x_BLD = x_BLD + gate2 * block.mlp(block.norm_mlp(x_BLD) * (1 + scale2) + shift2)
    scale_B1D, shift_B1D = model.last_modulation(time_BD)[:, None].chunk(2, dim=-1)
    return model.leave(model.last_norm(x_BLD) * (1 + scale_B1D) + shift_B1D)


def attention_of(layer: SelfAttention, x_BLD: Tensor, batch: Batch) -> Tensor:
    clips = len(x_BLD)
    q, k, v = rearrange(layer.qkv(x_BLD), "b l (n h k) -> n (b l) h k", n=3, h=layer.heads).unbind()
    q, k = (apply_rotary(x, batch.cos_LA, batch.sin_LA) for x in (layer.norm_q(q), layer.norm_k(k)))
    q, k, v = (rearrange(x, "(b l) h k -> b h l k", b=clips) for x in (q, k, v))
    mask_B11L = batch.is_there_BL[:, None, None] if not batch.is_there_BL.all() else None
    return layer.out(rearrange(F.scaled_dot_product_attention(q, k, v, mask_B11L), "b h l k -> b l (h k)"))


def cross_of(layer: CrossAttention, x_BLD: Tensor, text_BWD: Tensor, is_word_BW: Tensor) -> Tensor:
    q = rearrange(layer.q(x_BLD), "b l (h k) -> b h l k", h=layer.heads)
    k, v = rearrange(layer.kv(text_BWD), "b w (n h k) -> n b h w k", n=2, h=layer.heads).unbind()
    seen = F.scaled_dot_product_attention(layer.norm_q(q), layer.norm_k(k), v, is_word_BW[:, None, None])
    return layer.out(rearrange(seen, "b h l k -> b l (h k)"))


def batch_loss(model: DiffusionTransformer, batch: Batch) -> Tensor:
    error_BL = (run_batch(model, batch) - batch.target_BLP).square().mean(dim=-1)
    return error_BL[batch.is_there_BL].mean()


# Time


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds of an epoch over the same clips in as many steps: packs, batches drawn at random, and batches of
    clips of similar length; the share of padding in each; and how far a padded batch's output is from a pack's."""

    packed_s: float
    random_s: float
    sorted_s: float
    packed_padding: float
    random_padding: float
    sorted_padding: float
    difference: float


def cpu_times(
    examples: Sequence[Example],
    packs: Sequence[Sequence[int]],
    budget_tokens: int,
    config: TransformerConfig,
    rounds: int,
) -> CpuTimes:
    """Medians of rounds. One thread: a thread that waits for another counts as busy."""
    torch.set_num_threads(1)
    model = model_of(config, torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    groups = [[examples[n] for n in pack] for pack in packs]
    made = [pack_of(group, config, budget_tokens) for group in groups]
    by_length = sorted(examples, key=lambda example: example.tokens)
    in_order = [batch_of(group, config) for group in dealt(by_length, len(packs))]
    in_packs = [partial(pack_loss, model, *both) for both in zip(groups, made, strict=True)]
    seconds: dict[str, list[float]] = {}
    shares: list[float] = []
    for number in range(rounds):
        shuffled = random.Random(number).sample(list(examples), len(examples))
        drawn = [batch_of(group, config) for group in dealt(shuffled, len(packs))]
        shares.append(padding_of(drawn))
        ways = {
            "packed": in_packs,
            "random": [partial(batch_loss, model, batch) for batch in drawn],
            "sorted": [partial(batch_loss, model, batch) for batch in in_order],
        }
        for way, took_s in epoch_s(optimizer, ways).items():
            seconds.setdefault(way, []).append(took_s)
        print(f"round {number + 1}: " + ", ".join(f"{way} {s[-1]:.1f} s" for way, s in seconds.items()), flush=True)
    useful = sum(example.tokens for example in examples)
    return CpuTimes(
        packed_s=statistics.median(seconds["packed"]),
        random_s=statistics.median(seconds["random"]),
        sorted_s=statistics.median(seconds["sorted"]),
        packed_padding=1 - useful / (budget_tokens * len(packs)),
        random_padding=statistics.median(shares),
        sorted_padding=padding_of(in_order),
        difference=batch_difference(model, in_order[len(in_order) // 2], config),
    )


def pack_loss(model: DiffusionTransformer, examples: Sequence[Example], pack: Pack) -> Tensor:
    return run_pack(model, examples, pack)[1].sum() / (~pack.is_known_L).sum()


def dealt(examples: Sequence[Example], steps: int) -> list[list[Example]]:
    """In as many batches as there are packs, of the same number of clips but for one."""
    edges = [len(examples) * step // steps for step in range(steps + 1)]
    return [list(examples[a:b]) for a, b in pairwise(edges)]


def padding_of(batches: Sequence[Batch]) -> float:
    return 1 - sum(int(b.is_there_BL.sum()) for b in batches) / sum(b.is_there_BL.numel() for b in batches)


def epoch_s(optimizer: torch.optim.Optimizer, ways: Mapping[str, Sequence[Callable[[], Tensor]]]) -> dict[str, float]:
    """CPU seconds of all steps of each way: forward, backward, optimizer. They take turns at every step, since a busy
    machine is slower for some seconds and not for others."""
    seconds = dict.fromkeys(ways, 0.0)
    for losses in zip(*ways.values(), strict=True):
        for way, loss in zip(ways, losses, strict=True):
            began_s = time.process_time()
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            seconds[way] += time.process_time() - began_s
    return seconds


@torch.no_grad()
def batch_difference(model: DiffusionTransformer, batch: Batch, config: TransformerConfig) -> float:
    pack = pack_of(batch.examples, config, 0)
    packed_LP, _ = run_pack(model, batch.examples, pack)
    return relative(run_batch(model, batch)[batch.is_there_BL], packed_LP)
