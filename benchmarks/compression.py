"""How well the compression network, trained from random weights for some minutes on a CPU, gives videos back: PSNR on
held-out procedural footage, beside what other ways make of the same clips with as many numbers.

Training, validation and held-out clips have seeds of their own. Choices were made on validation clips alone; held-out
clips are made when training is over. The references are linear: the principal components of the training footage's
blocks, which are what a linear autoencoder can reach, and a smaller video that is enlarged again.

Where the machine is shared, OMP_WAIT_POLICY=PASSIVE in the environment keeps torch's threads from waiting in a loop.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.figures import finish
from benchmarks.tune_footage import all_attributes
from benchmarks.tune_footage import pictures as attribute_pictures
from curation.film import SceneSpec, scene_painter
from jobs.cli import parse
from trainer.network.compression import CompressionNetwork, fit_latent_statistics, write_network
from trainer.network.config import PRESETS, NetworkConfig
from trainer.network.losses import LossWeights, Reconstruction
from trainer.network.muon import Muon
from trainer.reading.batch import CropBatch
from trainer.training.config import Precision, TrainConfig
from trainer.training.crew import ALONE
from trainer.training.network_learner import NetworkLearner

TO_REACH_DB = 28.0
VALIDATION_SEED, HELD_OUT_SEED = 10_000_000, 20_000_000
SEED_STEP = 1_000_000  # of the training footage: its clips are numbered from the seed times this
WIDTH, HEIGHT, RATE_FPS = 192, 128, 24
SCENE_FRAMES, ATTRIBUTE_FRAMES = 17, 16
ATTRIBUTE_CROP_PX = 160  # of 168: what every ratio divides
KINDS = ("pan", "zoom", "object", "pan", "attributes", "attributes")
POOL_CLIPS, NEW_CLIPS_A_STEP = 120, 2
BATCH, CROP_PX = 8, 64
WARM_UP_SHARE = 0.02
VALIDATION_CLIPS, VALIDATIONS = 6, 10

Clip = NDArray[np.uint8]  # frames, rows, columns, RGB


@dataclass(frozen=True, slots=True)
class Options:
    """The compression network trained on a CPU, and its PSNR on held-out footage.

    Attributes:
        json: File for the figures, {name: value}.
        out: Folder for the trained network and pictures of what it does.
        preset: A network by name.
        minutes: Time to train, making the footage included.
        held_out_clips: Clips to measure on.
        learning_rate: At its highest.
        reconstruction: Loss between pixels.
        precision: Of the convolutions in training. Measured in float32.
        seed: Of the weights, the training footage and the noise.
        threads: Of torch.
    """

    json: Path | None = None
    out: Path | None = None
    preset: Literal["4x8x8", "8x16x16", "tiny-4x8x8", "tiny-8x16x16"] = "tiny-4x8x8"
    minutes: float = 10
    held_out_clips: int = 48
    learning_rate: float = 5e-3
    reconstruction: Reconstruction = "mse"
    precision: Precision = "bfloat16"
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        for field in ("minutes", "held_out_clips", "learning_rate", "threads"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field}={getattr(self, field)}: must be above 0")
        if not 0 <= self.seed < VALIDATION_SEED // SEED_STEP:
            raise ValueError(f"seed={self.seed}: must be from 0 to {VALIDATION_SEED // SEED_STEP - 1}")


@dataclass(frozen=True, slots=True)
class Psnr:
    """Of one clip, in dB: all of it, its first frame, the others."""

    kind: str
    whole: float
    first: float
    others: float


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.compression")
    torch.set_num_threads(options.threads)
    config = PRESETS[options.preset]
    network, pool, steps = trained(config, options)
    clips = [tensor_of(clip, config) for clip in footage(HELD_OUT_SEED, options.held_out_clips)]
    kinds = list(itertools.islice(itertools.cycle(KINDS), len(clips)))
    again = [reconstructed(network, x_BCTHW) for x_BCTHW in clips]
    ours = [psnr_of(*three) for three in zip(kinds, clips, again, strict=True)]
    bases = principal_components(pool, config, options.seed)
    linear = [psnr_of(kind, x, projected(x, bases, config)) for kind, x in zip(kinds, clips, strict=True)]
    resampled = [
        max((psnr_of(kind, x, way) for way in resampled_ways(x, config)), key=lambda psnr: psnr.whole)
        for kind, x in zip(kinds, clips, strict=True)
    ]
    if options.out:
        write_network(options.out, network)
        cv2.imwrite(str(options.out / "held_out.png"), side_by_side(clips[: len(KINDS)], again))
    figures = figures_of(ours, linear, resampled) | {"steps": steps, "minutes": options.minutes}
    for name, value in figures.items():
        print(f"{name:>32} {value:.2f}")
    lines = [
        f"as many numbers: principal components {figures['reference_linear_psnr_db']:.2f} dB, "
        f"a smaller video {figures['reference_resampled_psnr_db']:.2f} dB",
        f"{options.preset} after {options.minutes:g} minutes: {figures['psnr_db']:.2f} dB on {len(clips)} held-out "
        f"clips, the worst {figures['worst_psnr_db']:.2f} dB (to reach at 4x8x8: {TO_REACH_DB:g})",
    ]
    finish(figures, lines, options.json)


def figures_of(ours: Sequence[Psnr], linear: Sequence[Psnr], resampled: Sequence[Psnr]) -> dict[str, float | int]:
    by_kind = {kind: [psnr.whole for psnr in ours if psnr.kind == kind] for kind in KINDS}
    return {
        "psnr_db": float(np.mean([psnr.whole for psnr in ours])),
        "worst_psnr_db": min(psnr.whole for psnr in ours),
        "first_frame_psnr_db": float(np.mean([psnr.first for psnr in ours])),
        "other_frames_psnr_db": float(np.mean([psnr.others for psnr in ours])),
        **{f"{kind}_psnr_db": float(np.mean(values)) for kind, values in by_kind.items() if values},
        "reference_linear_psnr_db": float(np.mean([psnr.whole for psnr in linear])),
        "reference_resampled_psnr_db": float(np.mean([psnr.whole for psnr in resampled])),
    }


def footage(first_seed: int, count: int) -> Iterator[Clip]:
    """Clips of all kinds in turn, each of its own seed."""
    for seed, kind in zip(range(first_seed, first_seed + count), itertools.cycle(KINDS), strict=False):
        random = np.random.default_rng(seed)
        if kind == "attributes":
            attributes = all_attributes()
            yield np.stack(list(attribute_pictures(attributes[int(random.integers(len(attributes)))], random)))
        else:
            painted = scene_painter(scene_of(kind, seed, random), WIDTH, HEIGHT)
            yield np.stack([painted(frame / RATE_FPS) for frame in range(SCENE_FRAMES)])


def scene_of(kind: str, seed: int, random: np.random.Generator) -> SceneSpec:
    """Speeds up to half of the width in a second, and now and then none."""
    across, down = random.uniform(-96, 96, 2)
    motion = {
        "pan": {"pan_x_px_per_s": across, "pan_y_px_per_s": down},
        "zoom": {"zoom_per_s": float(2 ** random.uniform(-1, 1))},
        "object": {"object_x_px_per_s": across, "object_y_px_per_s": down},
    }[kind]
    brightness = float(random.uniform(0.5, 1))
    return SceneSpec(seed=seed, frames=SCENE_FRAMES, brightness=brightness, **(motion if random.random() > 0.1 else {}))


def tensor_of(clip: Clip, config: NetworkConfig) -> Tensor:
    """A whole clip as the network takes it, of as many frames as it can take and sides that every ratio divides."""
    frames = 1 + (len(clip) - 1) // config.ratio_time * config.ratio_time
    height, width = (min(side, ATTRIBUTE_CROP_PX if clip.shape[1] > HEIGHT else side) for side in clip.shape[1:3])
    return network_range(rearrange(torch.from_numpy(clip[:frames, :height, :width]), "t h w c -> 1 c t h w"))


def network_range(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1


def trained(config: NetworkConfig, options: Options) -> tuple[CompressionNetwork, list[Clip], int]:
    """A network from random weights, trained for the asked time, the clips that it saw last, and the steps taken."""
    began_s, length_s = time.monotonic(), 60 * options.minutes
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    network = CompressionNetwork(config)
    optimizer = Muon(network.parameters(), options.learning_rate)
    train = TrainConfig(precision=options.precision, seed=options.seed)
    learner = NetworkLearner(network, LossWeights(options.reconstruction), train, ALONE)
    fresh = footage(options.seed * SEED_STEP, SEED_STEP)
    pool = list(itertools.islice(fresh, POOL_CLIPS))
    validation = [tensor_of(clip, config) for clip in footage(VALIDATION_SEED, VALIDATION_CLIPS)]
    shown = 0
    for step in itertools.count():
        share = (time.monotonic() - began_s) / length_s
        if share * VALIDATIONS >= shown + 1 or share >= 1:
            shown = int(share * VALIDATIONS)
            with torch.autocast("cpu", torch.bfloat16):
                psnr = np.mean([psnr_of("", x, reconstructed(network, x)).whole for x in validation])
            rate = step / (share * length_s)
            print(f"step {step}, validation {psnr:.2f} dB, {rate:.2f} steps/s, {length_s * (1 - share):.0f} s left")
        if share >= 1:
            fit_latent_statistics(network, (tensor_of(clip, config) for clip in pool))
            return network, pool, step
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * min(share / WARM_UP_SHARE, (1 - share) / (1 - WARM_UP_SHARE))
        for clip in itertools.islice(fresh, NEW_CLIPS_A_STEP):
            pool[int(random.integers(len(pool)))] = clip
        loss = learner.loss(CropBatch(step, 0, crops(pool, config, random))).total / BATCH
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradient = nn.utils.clip_grad_norm_(network.parameters(), train.max_grad_norm)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}, loss {float(loss):.5f}, gradient {float(gradient):.2f}")
    raise AssertionError


def crops(pool: Sequence[Clip], config: NetworkConfig, random: np.random.Generator) -> Tensor:
    """Random cuttings of random clips (B C T H W), mirrored, turned and played backwards at random."""
    frames = 1 + (ATTRIBUTE_FRAMES - 1) // config.ratio_time * config.ratio_time
    batch = []
    for index in random.integers(len(pool), size=BATCH):
        clip = pool[index]
        t, y, x = (
            int(random.integers(n - m + 1)) for n, m in zip(clip.shape, (frames, CROP_PX, CROP_PX), strict=False)
        )
        cut = clip[t : t + frames, y : y + CROP_PX, x : x + CROP_PX]
        for axis in range(3):
            cut = np.flip(cut, axis) if random.random() < 0.5 else cut
        batch.append(cut if random.random() < 0.5 else cut.swapaxes(1, 2))
    return torch.from_numpy(rearrange(np.stack(batch), "b t h w c -> b c t h w").copy())


@torch.inference_mode()
def reconstructed(network: CompressionNetwork, x_BCTHW: Tensor) -> Tensor:
    return network.decode(network.encode(x_BCTHW).mode)


def levels(x_BCTHW: Tensor) -> Tensor:
    return ((x_BCTHW + 1) * 127.5).round().clamp(0, 255)


def psnr_of(kind: str, x_BCTHW: Tensor, again_BCTHW: Tensor) -> Psnr:
    """As pictures are shown, in levels from 0 to 255."""
    error_T = (levels(x_BCTHW) - levels(again_BCTHW)).square().mean((0, 1, 3, 4)).clamp(min=1e-6)
    whole, first, others = (float(10 * torch.log10(255**2 / e.mean())) for e in (error_T, error_T[:1], error_T[1:]))
    return Psnr(kind, whole, first, others)


def blocks_of(x_BCTHW: Tensor, config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """What one latent position stands for, of the first frame and of the others: positions by values."""
    space = config.ratio_space
    return tuple(  # pyright: ignore[reportReturnType]
        rearrange(part, "b c (t dt) (h dh) (w dw) -> (b t h w) (c dt dh dw)", dt=dt, dh=space, dw=space)
        for part, dt in ((x_BCTHW[:, :, :1], 1), (x_BCTHW[:, :, 1:], config.ratio_time))
    )


def principal_components(pool: Sequence[Clip], config: NetworkConfig, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Mean and basis of blocks of the training footage, as many vectors as a latent has channels."""
    torch.manual_seed(seed)
    both = zip(*(blocks_of(tensor_of(clip, config), config) for clip in pool), strict=True)
    bases = []
    for parts in both:
        blocks = torch.cat(parts)
        blocks = blocks[torch.randperm(len(blocks))[:20_000]]
        _, _, basis = torch.pca_lowrank(blocks, q=config.latent_channels, niter=6)
        bases.append((blocks.mean(0), basis))
    return bases


def projected(x_BCTHW: Tensor, bases: Sequence[tuple[Tensor, Tensor]], config: NetworkConfig) -> Tensor:
    space, (_, _, _, height, width) = config.ratio_space, x_BCTHW.shape
    parts = []
    for blocks, (mean, basis), dt in zip(blocks_of(x_BCTHW, config), bases, (1, config.ratio_time), strict=True):
        near = (blocks - mean) @ basis @ basis.T + mean
        sizes = {"h": height // space, "w": width // space, "dt": dt, "dh": space, "dw": space, "b": 1}
        parts.append(rearrange(near, "(b t h w) (c dt dh dw) -> b c (t dt) (h dh) (w dw)", **sizes))
    return torch.cat(parts, 2)


def resampled_ways(x_BCTHW: Tensor, config: NetworkConfig) -> Iterator[Tensor]:
    """Videos made smaller by averaging and enlarged again, of as many numbers as the latent: with all frames, and with
    as many as the latent has."""
    size = x_BCTHW.shape[2:]
    latent = config.latent_size(*size)
    for frames in (size[0], latent[0]):
        side = (latent[0] * latent[1] * latent[2] * config.latent_channels / (3 * frames * size[1] * size[2])) ** 0.5
        small = F.adaptive_avg_pool3d(x_BCTHW, (frames, round(side * size[1]), round(side * size[2])))
        yield F.interpolate(small, size, mode="trilinear")


def side_by_side(clips: Sequence[Tensor], again: Sequence[Tensor]) -> NDArray[np.uint8]:
    """For each clip the first, a middle and the last frame, each beside its reconstruction; blue comes first."""
    rows = []
    for x_BCTHW, again_BCTHW in zip(clips, again, strict=False):
        frames = (0, x_BCTHW.shape[2] // 2, x_BCTHW.shape[2] - 1)
        pictures = [levels(video)[0, :, frame] for frame in frames for video in (x_BCTHW, again_BCTHW)]
        row = rearrange(torch.stack(pictures), "n c h w -> h (n w) c").byte().numpy()
        rows.append(cv2.resize(row, (6 * WIDTH, row.shape[0] * 6 * WIDTH // row.shape[1])))
    return np.concatenate(rows)[..., ::-1]


if __name__ == "__main__":
    main()
