"""Packing: how much of a pack is padding, whether a pack is the same as its clips one at a time, and what a step costs
beside one over padded batches.

Shapes are fitted and packed as training does it, and nothing is decoded but one frame a file. They are those of real
footage, each file cut several times over into clips of 1 to 10 s and single pictures, and a million that are drawn:
mostly 16:9, the others of any aspect from 1:3 to 3:1, from 240p to 4K, one frame to 20 s. The reference is what buckets
of sizes and frame counts would leave of the same shapes under the same limit.
"""

from __future__ import annotations

import random
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log, prod
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch

from benchmarks.figures import finish, footage_files
from benchmarks.packed_steps import Example, cpu_times, differences, example_of
from curation.geometry import Geometry as Shown
from curation.geometry import normal_rotation
from jobs.cli import parse
from trainer.cost import step_flops
from trainer.geometry import Compression, FitConfig, Geometry, fit
from trainer.model.config import TransformerConfig, preset
from trainer.model.layouts import ATTENTIONS
from trainer.packing import PackConfig, padding_share, plan_packs, squares_bound

PADDING_TO_REACH, EQUAL_TO_REACH, TIME_TO_REACH = 0.02, 1e-9, 0.70
CLIP_SECONDS = (1.0, 10.0)
PASSES, PICTURE_EVERY_S = 4, 2.0  # over a file
SIDES = (240, 360, 480, 540, 720, 1080, 1440, 2160)
SIDE_SHARES = (0.06, 0.10, 0.15, 0.05, 0.27, 0.27, 0.05, 0.05)
RATES = (24, 25, 30, 60)
LONGEST_S, WIDE_SHARE, PICTURE_SHARE = 20.0, 0.5, 0.25
RANKS, WORDS = 8, 100
# Buckets of trainers with buckets: a square's side in pixels, aspects, frames. A clip goes to the longest that it
# fills, then the largest that is not larger than it is, and is cropped to the nearest aspect.
BUCKET_SIDES_PX = (256, 384, 512, 768, 1024)
BUCKET_ASPECTS = tuple(float(Fraction(a)) for a in ("9/16", "2/3", "3/4", "1", "4/3", "3/2", "16/9"))
BUCKET_FRAMES = (1, 17, 33, 49, 65, 97, 125)
# Steps are timed with lengths and width a sixteenth of those of the 1.3b preset, so that attention has the same share
# of the work: a compression so much stronger, and limits so much lower.
STEP_DIVISOR = 16
STEP_COMPRESSION = Compression(ratio_time=4, ratio_space=32, patch_time=1, patch_space=2)
STEP_WIDTH, STEP_DEPTH = 96, 4


@dataclass(frozen=True, slots=True)
class Options:
    """Padding in packs, packs against clips one at a time, and a step's CPU time against padded batches.

    Attributes:
        footage: Folder with footage.
        json: File for the figures, {name: value}.
        shapes: How many are drawn.
        budget_tokens: Of a pack.
        clip_tokens: Limit of a clip.
        bound: The bound on a pack's squared lengths, over those of a full pack in the mean.
        step_clips: Clips of a timed epoch; half as many where they are as long as packs.
        rounds: Of the timing.
        seed: Of all that is random.
    """

    footage: Path
    json: Path | None = None
    shapes: int = 1_000_000
    budget_tokens: int = 32_768
    clip_tokens: int = 8192
    bound: float = 1.1
    step_clips: int = 192
    rounds: int = 3
    seed: int = 20_263


class Shape(NamedTuple):
    frames: int
    height: int
    width: int
    rate: Fraction


# Shapes


def shapes_of_footage(folder: Path, rng: random.Random) -> tuple[list[Shape], list[Shape]]:
    """Clips and pictures of each file, of varied lengths, cut from it anew in each pass."""
    clips: list[Shape] = []
    pictures: list[Shape] = []
    for path in footage_files(folder):
        whole = shape_of_file(path)
        rate = float(whole.rate)
        for _ in range(PASSES):
            left = whole.frames
            while left > 0:
                frames = min(left, max(1, round(rng.uniform(*CLIP_SECONDS) * rate)))
                clips.append(whole._replace(frames=frames))
                left -= frames
        pictures += [whole._replace(frames=1)] * max(1, round(whole.frames / rate / PICTURE_EVERY_S))
    return clips, pictures


def shape_of_file(path: Path) -> Shape:
    """All its frames, about, and its size as it is shown."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        shown = Shown(frame.width, frame.height, aspect, normal_rotation(frame.rotation))
        rate = Fraction(stream.average_rate or 25)
        duration_s = (container.duration or 0) / av.time_base
        frames = stream.frames or round(duration_s * rate)
    return Shape(max(1, frames), shown.height, shown.width, rate)


def drawn_shapes(count: int, seed: int) -> list[Shape]:
    rng = np.random.default_rng(seed)
    side = rng.choice(SIDES, count, p=SIDE_SHARES)
    any_aspect = np.exp(rng.uniform(-log(3), log(3), count))
    aspect = np.where(rng.random(count) < WIDE_SHARE, 16 / 9, any_aspect)
    width = np.where(aspect >= 1, side * aspect, side).astype(int).tolist()
    height = np.where(aspect >= 1, side, side / aspect).astype(int).tolist()
    rate = rng.choice(RATES, count)
    frames = np.maximum(1, (rng.uniform(0, LONGEST_S, count) * rate)).astype(int)
    frames = np.where(rng.random(count) < PICTURE_SHARE, 1, frames).tolist()
    rates = {n: Fraction(n) for n in RATES}
    return [Shape(f, h, w, rates[r]) for f, h, w, r in zip(frames, height, width, rate.tolist(), strict=True)]


# What fits, and what is lost


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of shapes.

    lost_pixels   share of all frames' pixels that no token shows: cropped away, or in frames that are left out
    cropped       share of a picture that is cropped away, in the mean over clips
    frames_cut    share of frames that are left out
    dropped       share of clips that are left out whole
    distorted, most_distorted   by what factor, less one, width to height changes: the mean, and the most
    """

    lost_pixels: float
    cropped: float
    frames_cut: float
    dropped: float
    distorted: float
    most_distorted: float


def kept_of(shapes: Sequence[Shape], seen: Sequence[tuple[int, float, float] | None]) -> Kept:
    """From frames, the share of a picture, and the change of aspect of each shape; None for those that are dropped."""
    there = [(shape, one) for shape, one in zip(shapes, seen, strict=True) if one]
    frames = sum(shape.frames for shape in shapes)
    changes = [abs(change) for _, (_, _, change) in there]
    return Kept(
        lost_pixels=1 - sum(kept * share for _, (kept, share, _) in there) / frames,
        cropped=1 - sum(share for _, (_, share, _) in there) / len(there),
        frames_cut=1 - sum(kept for _, (kept, _, _) in there) / frames,
        dropped=1 - len(there) / len(shapes),
        distorted=sum(changes) / len(changes),
        most_distorted=max(changes),
    )


def kept_by_fit(shapes: Sequence[Shape], fitted: Sequence[Geometry | None]) -> Kept:
    return kept_of(
        shapes,
        [
            g and (g.frames, 1.0, np.exp(abs(log(g.width * shape.height / (g.height * shape.width)))) - 1)
            for shape, g in zip(shapes, fitted, strict=True)
        ],
    )


def kept_by_buckets(shapes: Sequence[Shape], clip_tokens: int) -> Kept:
    return kept_of(shapes, [bucket_of(shape, clip_tokens) for shape in shapes])


def bucket_of(shape: Shape, clip_tokens: int) -> tuple[int, float, float] | None:
    """Its frames and the share of a picture that its crop keeps."""
    frames = BUCKET_FRAMES[bisect_right(BUCKET_FRAMES, shape.frames) - 1]
    compression = Compression()
    cells = clip_tokens // compression.latent_frames(frames) * compression.unit_px**2
    if not any(side**2 <= min(cells, shape.height * shape.width) for side in BUCKET_SIDES_PX):
        return None
    aspect = shape.width / shape.height
    nearest = min(BUCKET_ASPECTS, key=lambda a: abs(log(a / aspect)))
    return frames, min(nearest / aspect, aspect / nearest), 0.0


def in_pieces(shapes: Sequence[Shape]) -> list[Shape]:
    """Cut before into pieces of the longest bucket, so that only what is left over at the end is lost."""
    longest = BUCKET_FRAMES[-1]
    return [
        shape._replace(frames=min(longest, shape.frames - first))
        for shape in shapes
        for first in range(0, shape.frames, longest)
    ]


# Packs


@dataclass(frozen=True, slots=True)
class Packed:
    """padding and seconds; the most of a pack over the mean, of squared lengths and of a step's operations; and the
    share of time for which ranks wait where so many packs at random are a step, by operations."""

    padding: float
    seconds: float
    squares: float
    flops: float
    waits: float


def packed_of(geometries: Sequence[Geometry], config: PackConfig) -> Packed:
    lengths = [geometry.tokens for geometry in geometries]
    began_s = time.perf_counter()
    packs = list(plan_packs(lengths, config))
    seconds = time.perf_counter() - began_s
    if sorted(n for pack in packs for n in pack) != list(range(len(lengths))):
        raise SystemExit("a clip is in no pack, or in two")
    squares = np.array([sum(lengths[n] ** 2 for n in pack) for pack in packs], dtype=float)
    flops = np.array([pack_flops([geometries[n] for n in pack], config.budget_tokens) for pack in packs])
    shuffled = np.random.default_rng(0).permutation(flops)[: len(flops) // RANKS * RANKS].reshape(-1, RANKS)
    return Packed(
        padding_share(packs, lengths, config.budget_tokens),
        seconds,
        float(squares.max() / squares.mean()),
        float(flops.max() / flops.mean()),
        float(1 - shuffled.mean() / shuffled.max(axis=1).mean()) if len(shuffled) else 0.0,
    )


def pack_flops(geometries: Sequence[Geometry], budget_tokens: int) -> float:
    """Of a step of the 1.3b preset. Padding goes through the matrices as well; what it sees of itself is left out,
    because only an epoch's last pack has much of it."""
    grids = [geometry.grid for geometry in geometries]
    padding = budget_tokens - sum(map(prod, grids))
    return step_flops(preset("1.3b"), [*grids, *[(1, 1, 1)] * padding], [WORDS] * len(grids) + [1] * padding)


# Parts of the benchmark


def padding(options: Options, name: str, shapes: Sequence[Shape]) -> Iterator[tuple[str, float]]:
    config = FitConfig(options.clip_tokens)
    began_s = time.perf_counter()
    fitted = [fit(*shape, Compression(), config) for shape in shapes]
    fit_s = time.perf_counter() - began_s
    geometries = [geometry for geometry in fitted if geometry]
    lengths = np.array([geometry.tokens for geometry in geometries])
    cuts = np.percentile(lengths, (5, 25, 50, 75, 95)).astype(int).tolist()
    print(f"\n{name}: {len(shapes)} shapes; tokens of a clip at 5, 25, 50, 75, 95 %: {cuts}", flush=True)
    yield f"fit_s_{name}", fit_s
    for label, squares in (
        (name, 0),
        (
            f"{name}_bounded",
            squares_bound([geometry.tokens for geometry in geometries], options.budget_tokens, options.bound),
        ),
    ):
        found = packed_of(geometries, PackConfig(options.budget_tokens, max_squares=squares))
        print(
            f"{label}: padding {found.padding:.2%}, {found.seconds:.1f} s; most over mean: squared lengths "
            f"{found.squares:.3f}, operations {found.flops:.3f}; {RANKS} ranks wait {found.waits:.2%}",
            flush=True,
        )
        yield f"padding_share_{label}", found.padding
        yield f"pack_s_{label}", found.seconds
        yield f"squares_most_to_mean_{label}", found.squares
        yield f"flops_most_to_mean_{label}", found.flops
        yield f"ranks_wait_share_{label}", found.waits
    ways = {
        "packs": kept_by_fit(shapes, fitted),
        "buckets": kept_by_buckets(shapes, options.clip_tokens),
        "buckets_after_pieces": kept_by_buckets(in_pieces(shapes), options.clip_tokens),
    }
    for way, kept in ways.items():
        print(
            f"{name}, {way}: lost {kept.lost_pixels:.2%} of all pixels; cropped {kept.cropped:.2%}, frames left out "
            f"{kept.frames_cut:.2%}, clips dropped {kept.dropped:.2%}; aspect changed by {kept.distorted:.2%} in the "
            f"mean, {kept.most_distorted:.1%} at most",
            flush=True,
        )
        yield f"lost_pixels_{name}_{way}", kept.lost_pixels
        yield f"cropped_{name}_{way}", kept.cropped
        yield f"frames_left_out_{name}_{way}", kept.frames_cut
        yield f"clips_dropped_{name}_{way}", kept.dropped
        yield f"aspect_change_{name}_{way}", kept.distorted


def equality() -> Iterator[tuple[str, float]]:
    print("\npacked and one clip at a time: largest differences, relative", flush=True)
    for dtype in (torch.float64, torch.float32):
        for attention in ATTENTIONS:
            found = differences(attention, dtype)
            kind = f"{str(dtype).removeprefix('torch.')}_{attention}"
            print(
                f"{kind}: outputs {found.outputs:.1e}, gradients {found.gradients:.1e}; in another order "
                f"{found.order:.1e}; through another clip {found.leak:.1e}",
                flush=True,
            )
            yield f"difference_outputs_{kind}", found.outputs
            yield f"difference_gradients_{kind}", found.gradients
            yield f"difference_order_{kind}", found.order
            yield f"leak_{kind}", found.leak


def step_config() -> TransformerConfig:
    return replace(
        preset("1m"),
        width=STEP_WIDTH,
        mlp_width=5 * STEP_WIDTH,
        depth=STEP_DEPTH,
        ratio_space=STEP_COMPRESSION.ratio_space,
        latent_channels=8,
    )


def steps(options: Options, name: str, clip_tokens: int, shapes: Sequence[Shape]) -> Iterator[tuple[str, float]]:
    config = step_config()
    limit, budget = clip_tokens // STEP_DIVISOR, options.budget_tokens // STEP_DIVISOR
    fitted = [fit(*shape, STEP_COMPRESSION, FitConfig(limit)) for shape in shapes]
    examples: list[Example] = [
        example_of(n, g, config.latent_channels, torch.float32) for n, g in enumerate(fitted) if g
    ]
    packs = list(plan_packs([example.tokens for example in examples], PackConfig(budget)))
    print(f"\n{name}: {len(examples)} clips of at most {limit} tokens, {len(packs)} steps of {budget}", flush=True)
    found = cpu_times(examples, packs, budget, config, options.rounds)
    for way, seconds, share in (
        ("random", found.random_s, found.random_padding),
        ("sorted", found.sorted_s, found.sorted_padding),
    ):
        ratio = found.packed_s / seconds
        print(
            f"{name}: packed {found.packed_s:.1f} s ({found.packed_padding:.1%} padding), {way} batches "
            f"{seconds:.1f} s ({share:.1%} padding): {ratio:.3f}",
            flush=True,
        )
        yield f"step_cpu_ratio_{name}_to_{way}", ratio
        yield f"step_padding_{name}_{way}", share
    print(f"{name}: a padded batch's outputs are a pack's within {found.difference:.1e}", flush=True)
    yield f"step_padding_{name}_packed", found.packed_padding
    yield f"step_difference_{name}", found.difference


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.packing")
    rng = random.Random(options.seed)
    clips, pictures = shapes_of_footage(options.footage, rng)
    both = rng.sample([*clips, *pictures], len(clips) + len(pictures))
    figures = dict(padding(options, "footage", both))
    figures |= padding(options, "drawn", drawn_shapes(options.shapes, options.seed))
    figures |= equality()
    for name, tokens, shapes, count in (
        (f"mixed_{options.clip_tokens}", options.clip_tokens, both, options.step_clips),
        (f"clips_{options.clip_tokens}", options.clip_tokens, clips, options.step_clips),
        (f"mixed_{options.budget_tokens}", options.budget_tokens, both, options.step_clips // 2),
    ):
        figures |= steps(options, name, tokens, rng.sample(shapes, min(len(shapes), count)))
    return finished(options, figures)


def finished(options: Options, figures: dict[str, float]) -> int:
    shares = [figures[f"padding_share_{kind}"] for kind in ("footage", "footage_bounded", "drawn", "drawn_bounded")]
    equal = max(v for k, v in figures.items() if k.startswith("difference_") and "float64" in k)
    single = max(v for k, v in figures.items() if k.startswith("difference_") and "float32" in k)
    name = f"step_cpu_ratio_mixed_{options.clip_tokens}_to"
    ratios = figures[f"{name}_random"], figures[f"{name}_sorted"]
    lines = [
        f"\npadding in packs, without and with a bound on squares: {shares[0]:.2%} and {shares[1]:.2%} of footage, "
        f"{shares[2]:.2%} and {shares[3]:.2%} of {options.shapes} drawn shapes (to reach: {PADDING_TO_REACH:.0%})",
        f"packed and one at a time: {equal:.1e} in float64 (to reach: {EQUAL_TO_REACH:.0e}), {single:.1e} in float32",
        f"CPU time of a step, packed to padded batches: {ratios[0]:.3f} (to reach: {TIME_TO_REACH}); to batches of "
        f"similar length: {ratios[1]:.3f}",
    ]
    finish(figures, lines, options.json)
    reached = max(shares) < PADDING_TO_REACH and equal <= EQUAL_TO_REACH and ratios[0] <= TIME_TO_REACH
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
