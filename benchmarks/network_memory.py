"""Peak memory of a compression network on 1080p, in and out again in chunks and tiles: it must not grow with a video's
length. Each length is worked on in a process of its own; frames are made as they are taken, and dropped as they come.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.figures import finish
from jobs.cli import parse
from trainer.network.compression import CompressionNetwork
from trainer.network.config import PRESETS, RGB
from trainer.network.stream import decode_stream, encode_stream

TO_REACH = 1.10
HEIGHT, WIDTH = 1088, 1920
# What is freed goes back to the system at once: what glibc keeps for later grows by chance, and is not the network's.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1048576"}


@dataclass(frozen=True, slots=True)
class Options:
    """Peak memory of encoding and decoding 1080p, short against long.

    Attributes:
        json: File for the figures, {name: value}.
        preset: Of the network; its weights are random.
        frames: Lengths, least first, each 1 + a multiple of the ratio in time. From the third chunk on all that the
            network remembers of earlier ones is there.
        only: The length that is worked on in this process; what the benchmark calls itself with.
    """

    json: Path | None = None
    preset: str = "tiny-4x8x8"
    frames: tuple[int, ...] = (17, 61)
    only: int = 0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset}: must be one of {', '.join(PRESETS)}")
        if len(self.frames) < 2:
            raise ValueError(f"frames={self.frames}: must be 2 or more, to be compared")


def moving(frames: int) -> Iterator[torch.Tensor]:
    """A gradient that passes, a frame at a time."""
    ramp = torch.linspace(-1, 1, WIDTH).expand(1, RGB, 1, HEIGHT, WIDTH)
    for number in range(frames):
        yield ramp.roll(8 * number, -1)


def run_one(options: Options) -> dict[str, float]:
    torch.manual_seed(0)
    network = CompressionNetwork(PRESETS[options.preset]).eval()
    began_s = time.perf_counter()
    given = sum(x.shape[2] for x in decode_stream(network, encode_stream(network, moving(options.only))))
    assert given == options.only
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mib": peak_mib, "seconds": time.perf_counter() - began_s}


def run_apart(options: Options, frames: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.network_memory", "--only", str(frames), "--preset", options.preset]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | ALLOCATOR)
    if process.returncode != 0:
        raise SystemExit(f"{frames} frames: {process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.network_memory")
    if options.only:
        print(json.dumps(run_one(options)))
        return 0
    figures: dict[str, float] = {}
    for frames in options.frames:
        found = run_apart(options, frames)
        figures |= {f"{name}_{frames}": value for name, value in found.items()}
        print(f"{frames:5d} frames: {found['mib']:.0f} MiB, {found['seconds']:.0f} s", flush=True)
    first, last = options.frames[0], options.frames[-1]
    ratio = figures["ratio"] = figures[f"mib_{last}"] / figures[f"mib_{first}"]
    line = (
        f"peak memory, {options.preset}, {WIDTH}x{HEIGHT}: {last} to {first} frames {ratio:.3f} (to reach: {TO_REACH})"
    )
    finish(figures, [line], options.json)
    return 0 if ratio <= TO_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
