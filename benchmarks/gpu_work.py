"""What the GPU's figures are measured on and by: packs of clips of native aspect, a clock, the datasheet's peak."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch

from trainer.cost import step_flops
from trainer.geometry import FitConfig, Geometry, fit
from trainer.model.config import TransformerConfig
from trainer.model.pack import Pack, Sample, make_pack
from trainer.model.text import Texts, texts_of
from trainer.model.transformer import TextTokens
from trainer.packing import PackConfig, plan_packs

__all__ = ["Figures", "Work", "packs_of", "product_tflops", "say", "seconds_of", "short", "wait"]

Figures = dict[str, float]
# Frames, height, width, rate of what packs are made of: footage as it is, of any shape.
NATIVE = (
    (121, 720, 1280, 24), (1, 1080, 1920, 24), (97, 1280, 720, 30), (73, 816, 1920, 24), (1, 2048, 1365, 24),
    (49, 480, 854, 25), (145, 1080, 1920, 30), (1, 768, 768, 24), (33, 1024, 1024, 16), (250, 240, 428, 25),
    (1, 480, 640, 24), (61, 568, 320, 30), (17, 2160, 3840, 60), (1, 1080, 1920, 24), (200, 1080, 1080, 50),
)  # fmt: skip
POOL_TIMES, PACKS = 6, 3
SAID = "a camera follows two red kites over the harbour at dusk while slow waves break on grey stones"
WORDS = (20, 120)


def say(*words: object) -> None:
    print(*words, flush=True)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median over repeats, after two that are not counted; on a GPU by its own clock."""
    for _ in range(2):
        run()
    wait(device)
    found: list[float] = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1000)
        else:
            began_s = time.perf_counter()
            run()
            found.append(time.perf_counter() - began_s)
    return statistics.median(found)


def short(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def product_tflops(device: torch.device, side: int) -> float:
    """A product of random square matrices in bfloat16; zeros would run faster."""
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, 20 if device.type == "cuda" else 3) / 1e12


@dataclass(frozen=True, slots=True)
class Work:
    """A pack on the device with its texts, and what its step costs."""

    pack: Pack
    texts: Texts | TextTokens
    flops: float

    @property
    def tokens(self) -> int:
        return len(self.pack.row_L) - self.pack.padding


def packs_of(config: TransformerConfig, tokens: int, device: torch.device, dtype: torch.dtype) -> list[Work]:
    """Packs of different clips, cut to various lengths; none of them longer than a quarter of a pack."""
    rng = random.Random(0)
    pool = rng.sample(NATIVE * POOL_TIMES, len(NATIVE) * POOL_TIMES)
    cut = [(max(1, round(frames * rng.uniform(0.2, 1))), *rest) for frames, *rest in pool]
    limit = FitConfig(tokens // 4, min_side_px=min(64, 2 * config.compression.unit_px))
    fitted = [fit(f, h, w, Fraction(r), config.compression, limit) for f, h, w, r in cut]
    geometries = [geometry for geometry in fitted if geometry]
    plans = list(plan_packs([geometry.tokens for geometry in geometries], PackConfig(tokens, max_clips=24)))
    plans.sort(key=lambda plan: -sum(geometries[n].tokens for n in plan))
    plans = rng.sample(plans[: len(plans) // 2 or 1], min(PACKS, len(plans) // 2 or 1))
    return [work_of([geometries[n] for n in plan], config, tokens, device, dtype) for plan in plans]


def work_of(
    geometries: Sequence[Geometry], config: TransformerConfig, tokens: int, device: torch.device, dtype: torch.dtype
) -> Work:
    rng = random.Random(len(geometries))
    samples = []
    for number, geometry in enumerate(geometries):
        latent_CTHW = torch.randn(config.latent_channels, *geometry.latent_size).to(dtype)
        is_known_T = torch.arange(latent_CTHW.shape[1]) < 1
        is_given = number % 2 == 0 and geometry.frames > 1
        samples.append(Sample(latent_CTHW, geometry, is_known_T if is_given else None))
    words = [rng.randint(*WORDS) for _ in samples]
    if config.text_depth:
        spoken = [" ".join(rng.choices(SAID.split(), k=count)) for count in words]
        texts: Texts | TextTokens = texts_of([*spoken, ""]).to(device)
    else:
        texts = TextTokens.of([torch.randn(count, config.text_width, device=device, dtype=dtype) for count in words])
    lengths = texts.segments.lengths
    flops = step_flops(config, [geometry.grid for geometry in geometries], lengths[: len(geometries)])
    return Work(make_pack(samples, config, tokens).to(device), texts, flops)
