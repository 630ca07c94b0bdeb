"""What share of a GPU a training step uses, and which attention kernel does it best. Needs torch, numpy, einops and
safetensors only, so that it runs where neither Ray nor Lance is installed.

A step is forward, backward and AdamW over packs of clips of native aspect with texts and known frames, in bfloat16 with
float32 copies of the weights, as sharded training keeps them. Model FLOPs are counted by `trainer.cost`: products and
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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.gpu_attention import FlashAttention3, compare_kernels, compare_layouts
from benchmarks.gpu_work import Figures, Work, packs_of, peak_tflops, product_tflops, say, short, wait
from trainer.flow import FlowConfig, draw_times, flow_loss, noised, rows_of_times
from trainer.model.config import TransformerConfig, preset
from trainer.model.text import Texts
from trainer.model.transformer import DiffusionTransformer

MFU_TO_REACH = 0.40
SHARES_RECOMPUTED = (0.0, 0.25, 0.5, 1.0)  # of blocks, until memory suffices


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="file for the figures, {name: value}")
    parser.add_argument("--preset", default="1.3b", help="of the transformer")
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 16384, 32768], help="of a pack")
    parser.add_argument("--steps", type=int, default=10, help="that are timed")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs; so on a CPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="blocks; by default on a GPU")
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


class Run(nn.Module):
    """A block as it is run: compiled or not, worked out again in the backward pass or not."""

    def __init__(self, block: nn.Module, is_compiled: bool, recomputes: bool):
        super().__init__()
        self.recomputes = recomputes
        # In a tuple, so that its weights are not this module's as well.
        self.run = (torch.compile(block) if is_compiled else block,)

    def forward(self, x_LD: Tensor, *rest: Any) -> Tensor:
        if self.recomputes:
            return checkpoint(self.run[0], x_LD, *rest, use_reentrant=False)  # pyright: ignore[reportReturnType]
        return self.run[0](x_LD, *rest)


class Trained:
    """A model in the device's half precision, AdamW over float32 copies of its weights, and its blocks."""

    def __init__(self, config: TransformerConfig, device: torch.device, dtype: torch.dtype):
        torch.manual_seed(0)
        with device:
            self.model = DiffusionTransformer(config)
            with torch.no_grad():
                for parameter in self.model.parameters():
                    if not parameter.any():  # gradients that are 0 everywhere would be quick to work out
                        parameter.normal_(std=0.02)
        self.masters = [weight.detach().clone() for weight in self.model.parameters()]
        self.model.to(dtype)
        self.weights = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(self.masters, lr=1e-5, fused=device.type == "cuda")
        self.blocks = list(self.model.blocks)
        self.flow = FlowConfig()

    def arrange(self, *, is_compiled: bool, share_recomputed: float) -> None:
        """Which blocks are compiled, and worked out again: spread evenly, none for 0 and all for 1."""
        s = share_recomputed
        flags = [math.floor((n + 1) * s) > math.floor(n * s) for n in range(len(self.blocks))]
        self.model.blocks = nn.ModuleList(Run(b, is_compiled, f) for b, f in zip(self.blocks, flags, strict=True))

    def loss(self, work: Work) -> Tensor:
        pack, texts = work.pack, work.texts
        device, clips = pack.row_L.device, len(pack.geometries)
        tokens_N = torch.tensor([geometry.tokens for geometry in pack.geometries])
        times_R = rows_of_times(draw_times(torch.randn(clips), tokens_N, self.flow)).to(device, non_blocking=True)
        times_L = times_R[pack.row_L]
        noise_LP = torch.randn_like(pack.latents_LP)
        x_LP = noised(pack.latents_LP, noise_LP, times_L)
        text = self.model.read(texts) if isinstance(texts, Texts) else texts
        predicted_LP = self.model(x_LP, times_R, text, pack)
        error_L = flow_loss(predicted_LP, pack.latents_LP, noise_LP, x_LP, times_L, pack.is_known_L, self.flow)
        return error_L.sum() / (~pack.is_known_L).sum()

    def step(self, work: Work) -> Tensor:
        loss = self.loss(work)
        loss.backward()
        for master, weight in zip(self.masters, self.weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        self.optimizer.step()
        with torch.no_grad():
            for master, weight in zip(self.masters, self.weights, strict=True):
                weight.copy_(master)
        self.forget()
        return loss.detach()

    def forget(self) -> None:
        for tensor in (*self.masters, *self.weights):
            tensor.grad = None


@dataclass(slots=True)
class How:
    """How steps are run: less demanding after each failure, and kept for the packs that follow."""

    is_compiled: bool
    share_recomputed: float = 0.0


def measure(
    trained: Trained, works: Sequence[Work], how: How, asked: argparse.Namespace, device: torch.device
) -> Figures | None:
    """Until it runs: with more of the blocks worked out again where memory is short, without compiling where that
    fails."""
    began_s = time.perf_counter()
    while True:
        try:
            trained.arrange(is_compiled=how.is_compiled, share_recomputed=how.share_recomputed)
            warm_up(trained, works, device)
            until_warm_s = time.perf_counter() - began_s
            return timed(trained, works, asked.steps, device) | {"until_warm_s": until_warm_s}
        except torch.cuda.OutOfMemoryError as error:
            more = [share for share in SHARES_RECOMPUTED if share > how.share_recomputed]
            say(f"  with {how.share_recomputed:.0%} of the blocks worked out again: {short(error)}")
            if not more:
                return None
            how.share_recomputed = more[0]
        except Exception as error:
            say(f"  {'compiled' if how.is_compiled else 'plain'} blocks failed: {short(error)}\n{str(error)[:1500]}")
            if FlashAttention3.is_on:
                FlashAttention3.turn_off()
                say("  once more with FA2")
            elif how.is_compiled:
                how.is_compiled = False
                say("  once more without compiling")
            else:
                raise
        release(trained, device)  # not before the error is gone, which holds on to its frames


def release(trained: Trained, device: torch.device) -> None:
    trained.forget()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def warm_up(trained: Trained, works: Sequence[Work], device: torch.device) -> None:
    """Each pack twice: the first time may compile."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    for work in [*works, *works]:
        began_s = time.perf_counter()
        trained.step(work)
        wait(device)
        seconds.append(time.perf_counter() - began_s)
    say("  first steps: " + ", ".join(f"{s:.1f}" for s in seconds) + " s")


def timed(trained: Trained, works: Sequence[Work], steps: int, device: torch.device) -> Figures:
    """Warm steps over each pack in turn, and the peak of memory."""
    began_s = time.perf_counter()
    losses = [trained.step(works[number % len(works)]) for number in range(steps)]
    issued_s = time.perf_counter() - began_s
    wait(device)
    took_s = time.perf_counter() - began_s
    assert all(math.isfinite(float(loss)) for loss in losses), "a loss is not a number"
    done = [works[number % len(works)] for number in range(steps)]
    return {
        "step_s": took_s / steps,
        "issued_share": issued_s / took_s,
        "tflops": sum(work.flops for work in done) / took_s / 1e12,
        "tokens_per_s": sum(work.tokens for work in done) / took_s,
        "padding_share": sum(work.pack.padding for work in done) / sum(len(work.pack.row_L) for work in done),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0,
    }


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


def profile(trained: Trained, work: Work, device: torch.device) -> None:
    """The kernels that take most of a step."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CUDA] if device.type == "cuda" else [ProfilerActivity.CPU]
    with profile(activities=kinds) as profiler:
        trained.step(work)
        wait(device)

    def own_us(event: Any) -> float:
        return float(event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total)

    events = sorted(profiler.key_averages(), key=own_us, reverse=True)
    total_us = sum(map(own_us, events)) or 1.0
    say(f"the slowest of {total_us / 1000:.1f} ms of kernels in one step:")
    for event in events[:18]:
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

    def steps(self, trained: Trained, tokens: int, works: Sequence[Work], how: How) -> None:
        for work in works:
            lengths = sorted(geometry.tokens for geometry in work.pack.geometries)
            say(f"  a pack of {lengths}, {work.flops / 1e12:.4f} TFLOP")
        if how.is_compiled:
            torch._dynamo.reset()  # so that each size has graphs of its own, and none is for all sizes
        found = measure(trained, works, how, self.asked, self.device)
        if found is None:
            return
        if how.is_compiled:
            say(f"  {compiled_counts()}")
        found |= {"recomputed_share": how.share_recomputed, "compiled": float(how.is_compiled)}
        if "product_tflops" in self.figures:
            found["of_product"] = found["tflops"] / self.figures["product_tflops"]
        if self.peak:
            found["mfu"] = found["tflops"] / self.peak
        self.figures |= {f"{name}_{tokens}": value for name, value in found.items()}
        say("  " + described(found))


def described(found: Figures) -> str:
    mfu = f"MFU {found['mfu']:.1%}, " if "mfu" in found else ""
    product = f"{found['of_product']:.1%} of the measured product, " if "of_product" in found else ""
    return (
        f"{mfu}{product}{found['tflops']:.3f} TFLOP/s, "
        f"{found['tokens_per_s']:.0f} tokens/s, {found['step_s']:.3f} s a step ({found['issued_share']:.0%} of it "
        f"until all was issued), padding {found['padding_share']:.1%}, peak {found['peak_gb']:.1f} GB, "
        f"{found['recomputed_share']:.0%} of the blocks worked out again, {found['until_warm_s']:.1f} s until warm"
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


def less_fragmented() -> None:
    try:
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    except Exception as error:
        say(f"memory is divided as usual: {short(error)}")


def main() -> int:
    asked = options()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cuda":
        less_fragmented()
    config = tiny(preset(asked.preset)) if asked.tiny else preset(asked.preset)
    bench = Bench(asked, config, device, peak_tflops(device), {}, time.monotonic())
    say_where(asked, device, bench.peak)
    bench.part("a product of two matrices", bench.product)
    works = {tokens: packs_of(config, tokens, device, dtype) for tokens in asked.tokens}
    for of_size in works.values():
        bench.part("kernels", partial(compare_kernels, config, of_size[0], device, bench.figures))
    largest = works[max(works)][0]
    bench.part("layouts", partial(compare_layouts, config, largest, device, bench.figures))
    trained = bench.part("model", partial(Trained, config, device, dtype))
    if isinstance(trained, Trained):
        how = How(asked.compile)
        for tokens, of_size in works.items():
            bench.part(f"steps of {tokens} tokens", partial(bench.steps, trained, tokens, of_size, how))
            release(trained, device)
        if asked.profile:
            bench.part("profile", partial(profile, trained, largest, device))
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
