"""Attention by itself, at the lengths of a real pack: which kernel does it best, and what each layout takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu_work import Figures, Work, say, seconds_of, short
from trainer.model.attention import NEWER_FLASH, Kernel, Segments, attend, use_flash
from trainer.model.config import TransformerConfig
from trainer.model.layouts import ATTENTIONS, layouts_of

__all__ = ["compare_kernels", "compare_layouts"]

ATTENTION_BACKWARD = 2.5  # times the forward pass, as those who write the kernels count (arXiv 2307.08691, 4.1)


def kernels() -> Iterator[tuple[str, Kernel, list[SDPBackend], str | None]]:
    yield "varlen FA2", "varlen", [], None
    yield "sdpa flash, by segments", "sdpa", [SDPBackend.FLASH_ATTENTION], None
    yield "sdpa cuDNN, by segments", "sdpa", [SDPBackend.CUDNN_ATTENTION], None
    yield "sdpa as torch chooses, by segments", "sdpa", [], None
    for name in NEWER_FLASH:
        yield f"varlen {name}", "varlen", [], name


def attention_run(
    qkv: Sequence[Tensor], seen: Segments, grad: Tensor, kernel: Kernel, backends: list[SDPBackend]
) -> tuple[Tensor, ...]:
    """Forward and backward; the output and the gradients."""
    if backends:
        with sdpa_kernel(backends):
            out = attend(qkv[0], qkv[1], qkv[2], seen, seen, kernel)
            return out, *torch.autograd.grad(out, qkv, grad)
    out = attend(qkv[0], qkv[1], qkv[2], seen, seen, kernel)
    return out, *torch.autograd.grad(out, qkv, grad)


def inputs_of(config: TransformerConfig, tokens: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    shape = (tokens, config.heads, config.head_width)
    qkv = [torch.randn(shape, device=device).to(dtype).requires_grad_() for _ in range(3)]
    return qkv, torch.randn(shape, device=device).to(dtype)


def compare_kernels(config: TransformerConfig, work: Work, device: torch.device, figures: Figures) -> None:
    """TFLOP/s of each at the lengths of a real pack."""
    seen = work.pack.sample_segments
    qkv, grad = inputs_of(config, seen.tokens, device)
    squares = sum(length**2 for length in seen.lengths)
    flops = (1 + ATTENTION_BACKWARD) * 4 * squares * config.width
    say(f"attention, forward and backward, {seen.tokens} tokens, segments of {sorted(filter(None, seen.lengths))}")
    reference: tuple[Tensor, ...] = ()
    for name, kernel, backends, flash in kernels():
        try:
            use_flash(flash)
            run = partial(attention_run, qkv, seen, grad, kernel, backends)
            found = tuple(x.detach() for x in run())
            reference = reference or found
            off = max(float((x - y).norm() / y.norm()) for x, y in zip(found, reference, strict=True))
            rate = flops / seconds_of(run, device, 10 if device.type == "cuda" else 2) / 1e12
            say(f"  {name:36s} {rate:8.3f} TFLOP/s, {off:.1e} from the first of these")
            figures[f"attention_tflops_{slug(name)}_{seen.tokens}"] = rate
        except Exception as error:
            say(f"  {name:36s} did not run: {short(error)}")
    use_flash(None)


def slug(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def compare_layouts(config: TransformerConfig, work: Work, device: torch.device, figures: Figures) -> None:
    """Milliseconds of one layer's attention, by layouts."""
    grids = [geometry.grid for geometry in work.pack.geometries]
    tokens = sum(geometry.tokens for geometry in work.pack.geometries)
    qkv, grad = inputs_of(config, tokens, device)
    kernel: Kernel = "varlen" if device.type == "cuda" else "sdpa"
    for attention in ATTENTIONS:
        for turn, layout in enumerate(layouts_of(grids, attention, config.window)):
            segments = layout.segments.to(device)
            label = f"{attention}_{turn}"
            try:
                run = partial(attention_run, qkv, segments, grad, kernel, [])
                milliseconds = 1000 * seconds_of(run, device, 5 if device.type == "cuda" else 1)
                say(f"  {label:14s} {len(segments.lengths):6d} segments: {milliseconds:9.2f} ms")
                figures[f"attention_ms_{label}_{tokens}"] = milliseconds
            except Exception as error:
                say(f"  {label:14s} did not run: {short(error)}")
