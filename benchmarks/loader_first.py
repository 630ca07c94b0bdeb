"""How long a process takes to its first batch, once the plan is made: the same for ten thousand rows and a million."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.loader_tables import large_store
from curation.store import Store
from trainer.epoch import EpochConfig
from trainer.geometry import FitConfig
from trainer.model.config import preset
from trainer.packing import PackConfig
from trainer.reading.clips import ClipSource
from trainer.reading.listing import list_clips
from trainer.reading.plan_table import Plans
from trainer.reading.slots import SlotReader

__all__ = ["PRESET", "SMALL_ROWS", "first_batches"]

PRESET = "100m"
SMALL_ROWS = 10_000
CHILD = """
import sys, time
began = time.perf_counter()
from benchmarks.loader_first import first_batch
imported = time.perf_counter()
first_batch(*sys.argv[1:])
print(imported - began, time.perf_counter() - imported)
"""


def plan_config(clip_tokens: int) -> EpochConfig:
    return EpochConfig(FitConfig(clip_tokens), PackConfig(4 * clip_tokens), preset(PRESET).compression)


def first_batch(uri: str, directory: str, clip_tokens: str, step: str) -> None:
    """Everything a process does before it has a pack, once the plan is made."""
    plans = Plans(Path(directory), plan_config(int(clip_tokens)))
    batch = SlotReader(Store.at(uri), plans, preset(PRESET)).read(int(step), 0)
    assert not batch.replaced
    assert batch.pixels


def first_batches(work: Path, most_rows: int, clip_tokens: int, rounds: int, seed: int) -> Iterator[tuple[str, float]]:
    """Of a small table and a large one."""
    for rows in (SMALL_ROWS, most_rows):
        store, directory = large_store(work / f"rows_{rows}", rows, seed), work / f"plan_{rows}"
        shutil.rmtree(directory, ignore_errors=True)
        began_s = time.perf_counter()
        source = ClipSource(store, store.open("clips").version, store.open("captions").version)
        config = plan_config(clip_tokens)
        list_clips(source, config.compression, clip_tokens, directory)
        plans = Plans(directory, config)
        plans.prepare(0)
        made_s = time.perf_counter() - began_s
        step = plans.epoch_steps(0) // 2
        runs = [timed_child(store.uri, directory, clip_tokens, step) for _ in range(rounds)]
        imports_s, first_s = (median(times) for times in zip(*runs, strict=True))
        print(
            f"{rows} rows: plan made in {made_s:.1f} s, once; the first batch of a new process {first_s:.2f} s after "
            f"{imports_s:.2f} s of imports",
            flush=True,
        )
        yield f"plan_s_{rows}", made_s
        yield f"imports_s_{rows}", imports_s
        yield f"first_batch_s_{rows}", first_s


def timed_child(uri: str, directory: Path, clip_tokens: int, step: int) -> tuple[float, float]:
    arguments = [uri, str(directory), str(clip_tokens), str(step)]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True, text=True)
    imports_s, first_s = map(float, done.stdout.split()[-2:])
    return imports_s, first_s
