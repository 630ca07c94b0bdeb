"""What published systems are said to make, planned for a model of some size, and run for real by a tiny one.

Each geometry of up to so many tokens goes once through a tiny transformer with noise of exactly its grid, in a process
of its own; its time and memory stand beside what was planned.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.figures import finish
from jobs.cli import parse
from jobs.cost import Options as CostOptions
from jobs.cost import table
from trainer.cost import FLOAT_BYTES, REPORTS, forward_flops, sampling_bytes
from trainer.flow import FlowConfig
from trainer.model.config import TransformerConfig, preset
from trainer.model.layouts import Attention
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer
from trainer.sampling import SamplingConfig, sample_latents

ATTENTIONS: tuple[Attention, ...] = ("full", "factorised")
PROMPT = "A red car drives along a road by the sea."


@dataclass(frozen=True, slots=True)
class Options:
    """Plans for what reports claim, and the same geometries run by a tiny model.

    Attributes:
        json: File for the figures, {name: value}.
        preset: Size that is planned.
        max_tokens: Longer ones are planned and not run.
        width: Of the tiny model.
        depth: Its blocks.
        only: `report/attention` that is run in this process; what the benchmark calls itself with.
    """

    json: Path | None = None
    preset: str = "1.3b"
    max_tokens: int = 200_000
    width: int = 32
    depth: int = 2
    only: str = ""


def tiny(options: Options, attention: Attention) -> TransformerConfig:
    small = replace(preset("1m"), width=options.width, depth=options.depth, head_width=32, mlp_width=4 * options.width)
    return replace(small, attention=attention)


def run_one(options: Options) -> dict[str, float]:
    """One sample in one step of Euler, in this process."""
    name, _, kind = options.only.rpartition("/")
    attention: Attention = "factorised" if kind == "factorised" else "full"
    (report,) = (report for report in REPORTS if report.name == name)
    config = tiny(options, attention)
    geometry = report.asked.covered(config.compression)
    model = DiffusionTransformer(config).eval()
    texts = texts_of([PROMPT, ""])
    with torch.no_grad():
        prompts = model.read(texts)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.perf_counter()
    sampling = SamplingConfig(steps=1, solver="euler", guidance=1)
    (latent_CTHW,) = sample_latents(model, FlowConfig(), [geometry], prompts, None, sampling)
    assert latent_CTHW.shape == (config.latent_channels, *geometry.latent_size)
    if not latent_CTHW.isfinite().all():
        raise SystemExit(f"{options.only}: the sample has numbers that are not finite")
    return {
        "tokens": geometry.tokens,
        "seconds": time.perf_counter() - began_s,
        "gflop": forward_flops(config, [geometry.grid], [texts.segments.lengths[0]]) / 1e9,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024,
        "planned_mib": sampling_bytes(config, geometry.tokens, FLOAT_BYTES) / 1024**2,
    }


def run_apart(options: Options, only: str) -> dict[str, float]:
    """The same in a fresh process, so that its peak of memory is its own."""
    command = [sys.executable, "-m", "benchmarks.reports", "--only", only]
    command += ["--width", str(options.width), "--depth", str(options.depth)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(f"{only}: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.reports")
    if options.only:
        print(json.dumps(run_one(options)))
        return
    print("\n".join(table(CostOptions(preset=options.preset, reports=True))), flush=True)
    figures: dict[str, float] = {}
    ran = 0
    for report in REPORTS:
        for attention in ATTENTIONS:
            config = tiny(options, attention)
            tokens = report.asked.covered(config.compression).tokens
            if tokens > options.max_tokens:
                print(f"{report.name:16} {attention:>11}: {tokens} tokens, planned only", flush=True)
                continue
            found = run_apart(options, f"{report.name}/{attention}")
            ran += 1
            figures |= {f"{report.name}/{attention}/{figure}": value for figure, value in found.items()}
            print(
                f"{report.name:16} {attention:>11}: {tokens} tokens, {found['seconds']:.1f} s, "
                f"{found['gflop']:.0f} GFLOP, {found['mib']:.0f} MiB (planned {found['planned_mib']:.0f})",
                flush=True,
            )
    figures["ran"] = ran
    line = f"geometries of reports run by a tiny model, full and factorised: {ran} (to reach: all of up to 200k tokens)"
    finish(figures, [line], options.json)


if __name__ == "__main__":
    main()
