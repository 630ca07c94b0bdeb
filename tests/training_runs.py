"""Runs of a tiny transformer on slots that are drawn, without a store: what the loop's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn import functional as F

from tests.tiny_transformers import TINY, woken
from trainer.draws import Key, MaskConfig, draw_mask, draw_noise, draw_normal
from trainer.flow import FlowConfig
from trainer.geometry import Geometry
from trainer.model.config import TransformerConfig
from trainer.model.context import Context
from trainer.model.pack import Sample, make_pack, patches_of
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer
from trainer.reading.batch import SlotBatch
from trainer.training.adapters import add_adapters
from trainer.training.config import TrainConfig
from trainer.training.crew import ALONE, Crew
from trainer.training.files import RunFiles
from trainer.training.loop import Run, Training, train
from trainer.training.transformer_learner import TransformerLearner

__all__ = ["CONFIG", "SLOTS", "batch_of", "losses", "read", "run_with", "with_two"]

SLOTS, BUDGET = 4, 48
WORDS = ("a red kite", "", "two dogs run along a beach", "rain")
SIZES = ((2, 3, 2), (1, 2, 2), (3, 2, 2))  # of latents, in patches
CONFIG = TrainConfig(
    steps=12, learning_rate=3e-3, warmup_steps=3, checkpoint_steps=4, sample_steps=0, ema=0.9, keep_checkpoints=100
)


def batch_of(step: int, slot: int, config: TransformerConfig = TINY) -> SlotBatch:
    """What a reader would give: a pure function of the place."""
    compression = config.compression
    geometries = []
    for number in range(len(SIZES)):
        time, rows, columns = SIZES[(number + slot) % len(SIZES)]
        frames, unit = compression.frames_of(time * compression.patch_time), compression.unit_px
        geometries.append(Geometry(frames, rows * unit, columns * unit, Fraction(24), compression))
    keys = [Key(0, step, slot, number) for number in range(len(geometries))]
    # There are few clips, so that there is something to learn.
    clips = [Key(1, 0, slot, number) for number in range(len(geometries))]
    channels = config.latent_channels
    samples = [
        Sample(draw_noise(clip, geometry, channels), geometry, draw_mask(key, geometry, MaskConfig())[1])
        for clip, key, geometry in zip(clips, keys, geometries, strict=True)
    ]
    pack = make_pack(samples, config, BUDGET)
    noise = [patches_of(draw_noise(key, g, channels), compression) for key, g in zip(keys, geometries, strict=True)]
    noise_LP = torch.cat(noise)
    texts = [WORDS[(number + slot) % len(WORDS)] for number in range(len(geometries))]
    return SlotBatch(
        step=step,
        slot=slot,
        pack=pack,
        noise_LP=F.pad(noise_LP, (0, 0, 0, BUDGET - len(noise_LP))),
        normal_N=torch.tensor([draw_normal(key, "time") for key in keys]),
        texts=texts_of([*texts, ""]),
        pixels=(),
        clip_ids=tuple(f"{slot}-{number}" for number in range(len(geometries))),
        captions=tuple(texts),
        caption_kinds=("descriptive",) * len(texts),
        masks=("none",) * len(texts),
        replaced=0,
        read_bytes=0,
        read_s=0.0,
        words_cut=0,
    )


def read(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
    return (batch_of(step, slot) for step, slot in places)


def run_with(
    directory: Path,
    crew: Crew = ALONE,
    config: TrainConfig = CONFIG,
    *,
    stop_after: int | None = None,
    run_id: str = "run",
    read: Callable[[Iterable[tuple[int, int]]], Iterator[Any]] = read,
    lora_rank: int = 0,
    **more: Any,
) -> Run:
    torch.manual_seed(config.seed)
    model = DiffusionTransformer(TINY)
    if lora_rank:
        model = woken(TINY, dtype=torch.float32)  # at its start it gives nothing, and adapters little to learn from
        add_adapters(model, lora_rank)
    group = crew.context_group()
    context = Context(group, crew.place, crew.context) if group else None
    learner = TransformerLearner(model, FlowConfig(shift_tokens=8), None, config, crew, context)
    files = RunFiles(directory)
    return train(Training(config, files, run_id, "plan", SLOTS, stop_after=stop_after, **more), learner, read, crew)


def losses(directory: Path) -> list[float]:
    return [line["loss"] for line in RunFiles(directory).steps()]


@dataclass(frozen=True)
class Pair:
    """What each of two processes does; it is sent to them."""

    work: Callable[[Crew, Path], None]
    directory: Path
    address: Path

    def __call__(self, rank: int) -> None:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{self.address}", rank=rank, world_size=2)
        self.work(Crew(rank, 2), self.directory)
        distributed.barrier()
        os._exit(0)  # what the library leaves running may not end the test


def with_two(work: Callable[[Crew, Path], None], directory: Path) -> None:
    """Do something in two processes that know each other. Raises what either of them raises."""
    torch.multiprocessing.spawn(Pair(work, directory, directory / "address"), nprocs=2)  # type: ignore[attr-defined]
