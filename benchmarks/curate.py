"""Cost of curation against plain decoding: CPU time of hash, probe, decode, shots, all scores but models', cut, write,
commit and the search for duplicates, in-process, one thread a file, beside `ffmpeg -threads 1 -i X -f null -` of the
same files in the same run.

The two are run in turn and the least of a few rounds counts for each file, because other work on a machine only adds.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from benchmarks.figures import finish, footage_files
from curation.curate import CurateConfig
from curation.duplicate_verdicts import DuplicateConfig
from curation.duplicates import compare_batch, uncompared_batches
from curation.ingest import Footage, find_footage
from curation.store import Store
from curation.work import curate_footage
from jobs.cli import parse

TO_REACH = 1.30


@dataclass(frozen=True, slots=True)
class Options:
    """Cost of curation against plain decoding.

    Attributes:
        footage: Folder with footage.
        json: File for the figures, {name: value}.
        rounds: The least of so many counts.
    """

    footage: Path
    json: Path | None = None
    rounds: int = 3


def decode_cpu_s(path: Path) -> float:
    """CPU seconds of the ffmpeg program that decodes a file to nothing."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-i", path, "-f", "null", "-"]
    began_s = children_cpu_s()
    subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return children_cpu_s() - began_s


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def curate_cpu_s(path: Path, store: Store) -> float:
    """CPU seconds, of all threads, of this process for curating a file into a store."""
    (footage,) = find_footage([str(path)])
    assert isinstance(footage, Footage)
    began_s = cpu_s()
    finished = curate_footage(footage, store, CurateConfig(), "benchmark")
    assert finished is not None
    store.commit_sources([finished])
    return cpu_s() - began_s


def compare_cpu_s(store: Store) -> float:
    """CPU seconds for finding the duplicates among all that was curated."""
    began_s = cpu_s()
    for batch in uncompared_batches(store):
        compare_batch(store, batch, DuplicateConfig(), lambda: None)
    return cpu_s() - began_s


def cpu_s() -> float:
    """CPU seconds of this process so far, all threads, and of the programs that it ran."""
    return time.process_time() + children_cpu_s()


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.curate")
    files = footage_files(options.footage)
    ours: dict[Path, list[float]] = defaultdict(list)
    reference: dict[Path, list[float]] = defaultdict(list)
    compared: list[float] = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            store = Store.at(folder)
            store.create()
            for path in files:
                ours[path].append(curate_cpu_s(path, store))
                reference[path].append(decode_cpu_s(path))
            compared.append(compare_cpu_s(store))
    print(f"{'file':60s} {'curate':>8s} {'decode':>8s} {'ratio':>6s}")
    for path in files:
        a, b = min(ours[path]), min(reference[path])
        print(f"{path.name[:60]:60s} {a:8.3f} {b:8.3f} {a / b:6.2f}")
    print(f"{'duplicates among all':60s} {min(compared):8.3f}")
    total, total_reference = (sum(min(times) for times in by_file.values()) for by_file in (ours, reference))
    total += min(compared)
    ratio = total / total_reference
    figures = {"curate_cpu_s": total, "decode_cpu_s": total_reference, "curate_to_decode": ratio}
    spent = f"curate {total:.2f} s of CPU, ffmpeg's decode {total_reference:.2f} s"
    line = f"{spent}: ratio {ratio:.3f} (to reach: {TO_REACH})"
    finish(figures, [line], options.json)


if __name__ == "__main__":
    sys.exit(main())
