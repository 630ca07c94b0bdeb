"""What share of a GPU a training step uses, and which attention kernel does it best. Needs torch, numpy, einops,
safetensors and tensorboardX only, so that it runs where neither Ray nor Lance is installed.

A step is one of the trainer's own loop, in a worker by itself, all of it: packs of clips of native aspect with texts
and known frames go to the device, forward and backward in bfloat16 with weights in float32, the gradient's length and
its guard, AdamW, the average of weights, the line that is told. Model FLOPs are counted by `trainer.cost`: products and
attention, three times the forward pass, nothing that is worked out again, nothing for padding or for the text encoder.
A figure is the share of the datasheet's dense bf16 peak (MFU), beside the share of a product that is measured here.

Each part prints as it goes and the figures are written after each. What fails is a line, and the next part begins.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_attention import compare_kernels, compare_layouts
from benchmarks.gpu_work import Figures, Work, packs_of, product_tflops, say, short, wait
from trainer.flow import FlowConfig
from trainer.model.config import Recompute, TransformerConfig, preset
from trainer.model.transformer import DiffusionTransformer
from trainer.reading.batch import SlotBatch
from trainer.reading.sending import Sent
from trainer.training.config import TrainConfig
from trainer.training.crew import Crew
from trainer.training.files import RunFiles
from trainer.training.loop import Run, Training, begin, take_step
from trainer.training.metrics import datasheet_flops
from trainer.training.sharding import divide_memory_less
from trainer.training.transformer_learner import TransformerLearner

MFU_TO_REACH = 0.40
RECOMPUTE: tuple[Recompute, ...] = ("nothing", "elementwise", "most")  # until memory suffices


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="file for the figures, {name: value}")
    parser.add_argument("--preset", default="1.3b", help="of the transformer")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 16384, 32768], help="of a pack")
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 4], help="of a step")
    parser.add_argument("--steps", type=int, default=10, help="that are timed")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs; so on a CPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="blocks; by default on a GPU")
    parser.add_argument("--flash", choices=["newest", "FA2"], default="newest", help="FlashAttention of the steps")
    parser.add_argument("--recompute", choices=RECOMPUTE, default="nothing", help="and more where memory is short")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, help="the slowest kernels; likewise")
    parser.add_argument("--limit-s", type=float, default=440.0, help="no part begins later than this")
    asked = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    asked.tiny = asked.tiny or not on_gpu
    asked.compile = on_gpu if asked.compile is None else asked.compile
    asked.profile = on_gpu if asked.profile is None else asked.profile
    if asked.tiny:
        asked.tokens, asked.steps = [256, 512], 2
    return asked


# A step


def begin_run(config: TransformerConfig, asked: argparse.Namespace, device: torch.device, folder: Path) -> Run:
    """As `jobs.train` begins one in a worker by itself."""
    crew = Crew(device=str(device))
    torch.manual_seed(0)
    with device:
        model = DiffusionTransformer(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():  # gradients that are 0 everywhere would be quick to work out
                    parameter.normal_(std=0.02)
    train = TrainConfig(
        learning_rate=1e-5, warmup_steps=0, compile=asked.compile, flash=asked.flash, recompute=asked.recompute
    )
    learner = TransformerLearner(model, FlowConfig(), None, train, crew)
    say(f"  attention by {learner.attention}")
    return begin(Training(train, RunFiles(folder), "benchmark", "benchmark", slots=1), learner, crew)


def batch_of(work: Work) -> SlotBatch:
    """As readers give it."""
    pack, samples = work.pack.to("cpu"), len(work.pack.geometries)
    noise_LP = torch.randn(pack.latents_LP.shape)
    noise_LP[len(pack.row_L) - pack.padding :] = 0
    none = ("",) * samples
    texts = work.texts.to("cpu")
    batch = SlotBatch(
        0, 0, pack, noise_LP, torch.randn(samples), texts, (), none, none, none, none,
        replaced=0, read_bytes=0, read_s=0.0, words_cut=0,
    )  # fmt: skip
    sent = Sent.of(batch)
    return (sent.pin_memory() if torch.cuda.is_available() else sent).received()


def measure(run: Run, works: Sequence[Work], packs: int, steps: int, least: int) -> Figures | None:
    """With more made again where memory is short."""
    began_s = time.perf_counter()
    assert isinstance(run.learner, TransformerLearner)
    for level in range(least, len(RECOMPUTE)):
        run.learner.model.recompute(RECOMPUTE[level])
        try:
            return timed(run, works, packs, steps, began_s) | {"recomputed": level}
        except torch.cuda.OutOfMemoryError as error:
            say(f"  where {RECOMPUTE[level]} is made again: {short(error)}")
        release(run)  # not before the error is gone, which holds on to its frames
    return None


def release(run: Run) -> None:
    run.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def timed(run: Run, works: Sequence[Work], packs: int, steps: int, began_s: float) -> Figures:
    """Each pack twice, which may compile, then steps of so many packs, each pack in turn."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    batches = [batch_of(work) for work in works]
    warm = [step_of(run, [batch]) for batch in [*batches, *batches]]
    say("  first steps: " + ", ".join(f"{line['seconds']:.1f}" for line in warm) + " s")
    until_warm_s = time.perf_counter() - began_s
    in_turn = cycle(batches)
    lines = [step_of(run, list(islice(in_turn, packs))) for _ in range(steps)]
    assert all(math.isfinite(line["loss"]) for line in lines), "a loss is not a number"
    assert all(line["verdict"] == "taken" for line in lines), "a step was left out"
    took_s = sum(line["seconds"] for line in lines)
    tokens = sum(line["tokens"] for line in lines)
    padding = sum(line["padding"] * line["tokens"] for line in lines)
    return {
        "step_s": took_s / steps,
        "tflops": sum(line["flops"] for line in lines) / took_s / 1e12,
        "tokens_per_s": (tokens - padding) / took_s,
        "padding_share": padding / tokens,
        "peak_gb": max(line["memory_bytes"] for line in lines) / 1e9,
        "until_warm_s": until_warm_s,
    }


def step_of(run: Run, batches: Sequence[SlotBatch]) -> dict[str, Any]:
    """What the run tells of it."""
    take_step(run, run.step, iter(batches), len(batches))
    run.step += 1
    return run.training.files.steps()[-1]


def compiled_counts() -> str:
    """How often dynamo compiled, and where it had to leave a graph."""
    try:
        from torch._dynamo.utils import counters

        graphs, breaks = counters["stats"]["unique_graphs"], dict(counters["graph_break"])
        reasons = "; ".join(f"{count} x {' '.join(str(reason).split())[:120]}" for reason, count in breaks.items())
        counters.clear()
        return f"{graphs} graphs compiled, {sum(breaks.values())} breaks {reasons}"
    except Exception as error:
        return f"counts are not to be had: {short(error)}"


def profile(run: Run, work: Work, device: torch.device) -> None:
    """The kernels that take most of a step."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CUDA] if device.type == "cuda" else [ProfilerActivity.CPU]
    batch = batch_of(work)
    with profile(activities=kinds) as profiler:
        line = step_of(run, [batch])
        wait(device)

    def own_us(event: Any) -> float:
        return float(event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total)

    events = sorted(profiler.key_averages(), key=own_us, reverse=True)
    total_us = sum(map(own_us, events)) or 1.0
    say(f"the slowest of {total_us / 1000:.1f} ms of kernels in one step of {1000 * line['seconds']:.1f} ms:")
    for event in events[:14]:
        say(f"  {own_us(event) / total_us:6.1%} {event.count:5d} x {event.key[:96]}")


# The whole


@dataclass(slots=True)
class Bench:
    asked: argparse.Namespace
    config: TransformerConfig
    device: torch.device
    peak: float | None
    figures: Figures
    began_s: float
    failed: list[str] = field(default_factory=list)

    def part(self, name: str, run: Callable[[], object]) -> object:
        """Run a part of the benchmark: its failure is a line, and figures are written after it."""
        since_s = time.monotonic() - self.began_s
        if since_s > self.asked.limit_s:
            say(f"\n{name}: left out, {since_s:.0f} s are over")
            return None
        say(f"\n{name} ({since_s:.0f} s)")
        found = None
        try:
            found = run()
        except Exception as error:
            say(f"{name} failed: {short(error)}")
            self.failed.append(name)
            gc.collect()
        if self.asked.json:
            self.asked.json.write_text(json.dumps(self.figures, indent=2) + "\n")
        return found

    def product(self) -> None:
        rate = product_tflops(self.device, 256 if self.asked.tiny else 8192)
        self.figures["product_tflops"] = rate
        say(f"  {rate:.3f} TFLOP/s" + (f" of {self.peak:.0f} in the datasheet" if self.peak else ""))

    def steps(self, run: Run, tokens: int, works: Sequence[Work]) -> None:
        for work in works:
            lengths = sorted(geometry.tokens for geometry in work.pack.geometries)
            say(f"  a pack of {lengths}, {work.flops / 1e12:.4f} TFLOP")
        torch._dynamo.reset()  # as runs of different sizes are different processes
        level = RECOMPUTE.index(self.asked.recompute)
        for packs in self.asked.packs:
            found = measure(run, works, packs, self.asked.steps, level)
            if found is not None:
                level = int(found["recomputed"])
                self.keep(found, f"{tokens}" if packs == 1 else f"{tokens}_by_{packs}", packs)
        if self.asked.compile:
            say(f"  {compiled_counts()}")

    def keep(self, found: Figures, name: str, packs: int) -> None:
        if "product_tflops" in self.figures:
            found["of_product"] = found["tflops"] / self.figures["product_tflops"]
        if self.peak:
            found["mfu"] = found["tflops"] / self.peak
        self.figures |= {f"{key}_{name}": value for key, value in found.items()}
        say(f"  {packs} a step: {described(found)}")


def described(found: Figures) -> str:
    mfu = f"MFU {found['mfu']:.1%}, " if "mfu" in found else ""
    product = f"{found['of_product']:.1%} of the measured product, " if "of_product" in found else ""
    return (
        f"{mfu}{product}{found['tflops']:.3f} TFLOP/s, "
        f"{found['tokens_per_s']:.0f} tokens/s, {found['step_s']:.3f} s a step, "
        f"padding {found['padding_share']:.1%}, peak {found['peak_gb']:.1f} GB, "
        f"{RECOMPUTE[int(found['recomputed'])]} made again, {found['until_warm_s']:.1f} s until warm"
    )


def tiny(config: TransformerConfig) -> TransformerConfig:
    """Few of everything but the parts there are."""
    return replace(
        config, width=64, depth=4, head_width=32, mlp_width=128, text_width=32, text_depth=min(config.text_depth, 1)
    )


def say_where(asked: argparse.Namespace, device: torch.device, peak: float | None) -> None:
    say(f"torch {torch.__version__}, preset {asked.preset}{', tiny' if asked.tiny else ''}, packs of {asked.tokens}")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = f"{torch.cuda.get_device_name()}, sm_{''.join(map(str, torch.cuda.get_device_capability()))}"
        say(f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
        say(f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, datasheet peak {peak} TFLOP/s")


def main() -> int:
    asked = options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    divide_memory_less()
    config = tiny(preset(asked.preset)) if asked.tiny else preset(asked.preset)
    flops = datasheet_flops(str(device))
    bench = Bench(asked, config, device, flops and flops / 1e12, {}, time.monotonic())
    say_where(asked, device, bench.peak)
    bench.part("a product of two matrices", bench.product)
    works = {tokens: packs_of(config, tokens, device, dtype) for tokens in asked.tokens}
    for of_size in works.values():
        bench.part("kernels", partial(compare_kernels, config, of_size[0], device, bench.figures))
    largest = works[max(works)][0]
    bench.part("layouts", partial(compare_layouts, config, largest, device, bench.figures))
    with tempfile.TemporaryDirectory() as folder:
        run = bench.part("model", partial(begin_run, config, asked, device, Path(folder)))
        if isinstance(run, Run):
            for tokens, of_size in works.items():
                bench.part(f"steps of {tokens} tokens", partial(bench.steps, run, tokens, of_size))
                if asked.profile:
                    bench.part(f"profile of {tokens} tokens", partial(profile, run, of_size[0], device))
                release(run)
    return finished(bench)


def finished(bench: Bench) -> int:
    found = {tokens: bench.figures.get(f"mfu_{tokens}") for tokens in bench.asked.tokens}
    if bench.failed:
        say(f"\nfailed: {', '.join(bench.failed)}")
    if bench.device.type != "cuda":
        say("\nMFU: not measured: no CUDA device")
        return 1 if bench.failed else 0
    if bench.asked.tiny or bench.peak is None:
        say("\nMFU: not measured: " + ("tiny sizes" if bench.asked.tiny else "no datasheet peak for this device"))
        return 1 if bench.failed else 0
    shares = ", ".join(f"{mfu:.1%} at {tokens}" if mfu else f"none at {tokens}" for tokens, mfu in found.items())
    least = min(mfu or 0.0 for mfu in found.values())
    say(f"\nMFU of {bench.asked.preset}: {shares} tokens a pack (to reach: {MFU_TO_REACH:.0%})")
    return 0 if least >= MFU_TO_REACH and not bench.failed else 1


if __name__ == "__main__":
    sys.exit(main())
