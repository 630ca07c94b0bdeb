"""Peak memory of a worker that curates a 1-minute source against a 60-minute one: a Ray worker, fresh for
each, and films that are made for it: the same kind of picture, cuts every few seconds, one take that never ends.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import ray

from benchmarks.figures import finish
from curation.curate import CurateConfig
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.ingest import Footage, find_footage
from curation.store import Store
from curation.work import curate_footage
from jobs.cli import parse
from jobs.cluster import connect

TO_REACH = 1.10
RATE = Fraction(12)
SCENE_S = 6


@dataclass(frozen=True, slots=True)
class Options:
    """Peak memory of a worker, short against long sources.

    Attributes:
        json: File for the figures, {name: value}.
        short_minutes: Length of the short source.
        long_minutes: Length of the long source.
    """

    json: Path | None = None
    short_minutes: int = 1
    long_minutes: int = 60


def make_source(path: Path, minutes: int, *, with_cuts: bool) -> None:
    seconds = minutes * 60
    lengths = [SCENE_S] * (seconds // SCENE_S) if with_cuts else [seconds]
    specs = tuple(SceneSpec(seed=n % 40, frames=int(s * RATE), object_x_px_per_s=20.0) for n, s in enumerate(lengths))
    edit = Edit(specs, tuple(Join("cut") for _ in specs[1:]))
    frames = render(edit, 320, 180, (i / float(RATE) for i in range(edit.frames)))
    encode_film(path, frames, Encoding(rate=RATE, preset="ultrafast"))


@ray.remote(num_cpus=1, max_calls=1)
def peak_bytes(path: str, store: Store) -> tuple[int, int]:
    """Peak resident memory of a fresh worker after curating a file, and how many clips that gave."""
    (footage,) = find_footage([path])
    assert isinstance(footage, Footage)
    finished = curate_footage(footage, store, CurateConfig(), "benchmark")
    assert finished is not None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, sum(finished.clips.values())


def measure(path: Path, folder: Path) -> tuple[int, int]:
    store = Store.at(str(folder / f"{path.stem}-store"))
    store.create()
    return ray.get(peak_bytes.remote(str(path), store))


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.memory")
    connect()
    figures: dict[str, float] = {}
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, with_cuts in (("one_take", False), ("cuts", True)):
            peaks = []
            for minutes in (options.short_minutes, options.long_minutes):
                path = folder / f"{kind}_{minutes}.mp4"
                make_source(path, minutes, with_cuts=with_cuts)
                peak, clips = measure(path, folder)
                peaks.append(peak)
                figures[f"peak_bytes_{kind}_{minutes}_min"] = peak
                print(f"{kind:8s} {minutes:3d} min: {peak / 1e6:6.1f} MB, {clips} clips", flush=True)
            ratio = peaks[1] / peaks[0]
            figures[f"peak_long_to_short_{kind}"] = ratio
            lines.append(
                f"peak memory, {options.long_minutes} to {options.short_minutes} minutes, {kind.replace('_', ' ')}: "
                f"{ratio:.3f} (to reach: {TO_REACH})"
            )
    finish(figures, lines, options.json)


if __name__ == "__main__":
    sys.exit(main())
