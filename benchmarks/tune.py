"""Whether tuning teaches: a tiny Qwen2-VL made on the spot, tuned from random weights by jobs.tune on clips whose
attributes are known, served by vLLM, and asked about combinations of attributes that it never saw.

python -m benchmarks.tune [--json FILE]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.figures import finish
from benchmarks.tune_footage import ATTRIBUTES, Attributes, all_attributes, mentioned, write_clip
from captioner.captions import Caption, write_captions
from captioner.prompts import INSTRUCTIONS
from captioner.tiny_model import make_tiny_model
from captioner.windows import WindowConfig
from curation.curate import CurateConfig
from curation.ingest import Footage, find_footage
from curation.store import FinishedSource, Store
from curation.work import curate_footage

TO_REACH, TIMES_CHANCE, MINUTES = 0.8, 3.0, 15.0
HELD_OUT = 100  # combinations of attributes that are never learnt from, of 600
BATCH = 64  # clips that a process makes at once
WINDOWS = WindowConfig(sample_fps=2.0, frame_pixels=84 * 84)
SHOWN = ["--sample-fps", str(WINDOWS.sample_fps), "--frame-pixels", str(WINDOWS.frame_pixels)]
ENGINE = ["max_num_seqs", "32", "enforce_eager", "true"]
SHAPE = {"hidden": 128, "layers": 2, "vision_hidden": 64, "vision_layers": 2}
SPAN_COLUMNS = ("source_id", "start_pts", "end_pts", "time_base_num", "time_base_den")
ANSWER_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2500, help="clips to learn from")
    parser.add_argument("--short-steps", type=int, default=300)
    parser.add_argument("--descriptive-steps", type=int, default=900)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        accuracies = measured(Path(folder), asked)
    minutes = (time.monotonic() - began_s) / 60
    figures = {f"{stage}_{name}": value for stage, by in accuracies.items() for name, value in by.items()}
    mean = sum(accuracies["descriptive"].values()) / len(ATTRIBUTES)
    figures |= {"attribute_accuracy": mean, "minutes": minutes}
    figures["chances_at_least"] = min(
        accuracies["descriptive"][name] * len(values) for name, values in ATTRIBUTES.items()
    )
    line = (
        f"attribute accuracy on unseen combinations {mean:.3f}, to reach {TO_REACH}; the least is "
        f"{figures['chances_at_least']:.1f} times chance, to reach {TIMES_CHANCE:g}; {minutes:.1f} min, about "
        f"{MINUTES:g} allowed"
    )
    finish(figures, [*table_of(accuracies), line], asked.json)


def measured(folder: Path, asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Share of right answers by attribute, after each stage."""
    combinations = all_attributes()
    random.Random(asked.seed).shuffle(combinations)
    held_out, learnt = combinations[:HELD_OUT], combinations[HELD_OUT:]
    shown = [*held_out, *(learnt[number % len(learnt)] for number in range(asked.clips))]
    store = made_store(folder, shown, asked.seed)
    of_clip = attributes_of_clips(store, shown)
    unseen = set(held_out)
    write_captions(store, captions_of(store, {k: v for k, v in of_clip.items() if v not in unseen}), "run-benchmark")
    model = make_tiny_model(folder / "tiny", seed=asked.seed, **SHAPE)
    tune(store, model, folder / "tuned", asked)
    clips = {clip_id: attributes for clip_id, attributes in of_clip.items() if attributes in unseen}
    return {
        stage: accuracy_of(said_of(store, clips, directory), clips)
        for stage, directory in (("short", folder / "tuned" / "short"), ("descriptive", folder / "tuned"))
    }


# -- the store


def made_store(folder: Path, shown: Sequence[Attributes], seed: int) -> Store:
    """Every clip a file, curated as jobs.curate does it; but clips that look alike are all kept."""
    store = Store.at(str(folder / "store"))
    store.create()
    footage = folder / "footage"
    footage.mkdir()
    batches = [
        [(footage / f"{number:06d}.mp4", shown[number], seed * len(shown) + number) for number in range(first, last)]
        for first in range(0, len(shown), BATCH)
        for last in [min(first + BATCH, len(shown))]
    ]
    # Lance is not fork-safe.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes:
        for number, finished in enumerate(processes.map(made_clips, [store] * len(batches), batches), 1):
            store.commit_sources(finished)
            print(f"\rclips: {min(number * BATCH, len(shown))} of {len(shown)}", end="", flush=True)
    store.compact(keep_versions_days=0)
    print()
    return store


def made_clips(store: Store, batch: Sequence[tuple[Path, Attributes, int]]) -> list[FinishedSource]:
    for path, attributes, seed in batch:
        write_clip(path, attributes, seed)
    found = find_footage([str(path) for path, _, _ in batch])
    made = [curate_footage(f, store, CurateConfig(), "run-benchmark") for f in found if isinstance(f, Footage)]
    return [finished for finished in made if finished is not None]


def attributes_of_clips(store: Store, shown: Sequence[Attributes]) -> dict[str, Attributes]:
    """What each kept clip shows, by the name of its file."""
    sources = store.open("sources").to_table(columns=["source_id", "uri"]).to_pylist()
    of_source = {row["source_id"]: shown[int(Path(row["uri"]).stem)] for row in sources}
    clips = store.open("clips").to_table(columns=["clip_id", "source_id"], filter="keep").to_pylist()
    return {row["clip_id"]: of_source[row["source_id"]] for row in clips}


def captions_of(store: Store, of_clip: dict[str, Attributes]) -> list[Caption]:
    rows = store.open("clips").to_table(columns=["clip_id", *SPAN_COLUMNS]).to_pylist()
    captions = []
    for row in rows:
        attributes = of_clip.get(row["clip_id"])
        for kind in INSTRUCTIONS if attributes else ():
            captions.append(
                Caption(
                    clip_id=row["clip_id"],
                    source_id=row["source_id"],
                    kind=kind,
                    text=getattr(attributes, kind),
                    window_index=None,
                    window_start_pts=row["start_pts"],
                    window_end_pts=row["end_pts"],
                    captioner="truth",
                    model="truth",
                    model_revision="1",
                    prompt_id="truth",
                    attempts=1,
                )
            )
    return captions


# -- tuning and asking


def tune(store: Store, model: Path, out: Path, asked: argparse.Namespace) -> None:
    options = {
        "short-steps": asked.short_steps,
        "descriptive-steps": asked.descriptive_steps,
        "short-learning-rate": asked.learning_rate,
        "descriptive-learning-rate": asked.learning_rate,
        "batch-size": asked.batch_size,
        "micro-batch-size": asked.batch_size,
        "held-out-share": 0.02,
        "answer-tokens": ANSWER_TOKENS,
        "checkpoint-steps": 300,
        "cpus-per-worker": os.cpu_count(),
        "seed": asked.seed,
    }
    command = [sys.executable, "-m", "jobs.tune", "--store", store.uri, "--model", str(model), "--out", str(out)]
    command += ["--keep-stages", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    subprocess.run([*command, *SHOWN], check=True)


def said_of(store: Store, clips: dict[str, Attributes], directory: Path) -> dict[str, str]:
    """The descriptive captions that jobs.caption writes with a model, by clip."""
    chosen = ", ".join(f"'{clip_id}'" for clip_id in clips)
    command = [sys.executable, "-m", "jobs.caption", "--store", store.uri, "--model", str(directory)]
    command += ["--captioner", "vllm", "--ask", "text", "--kinds", "descriptive", "--where", f"clip_id IN ({chosen})"]
    command += ["--originals", "none", "--agreement-model", "none", "--attempts", "1", *SHOWN]
    command += ["--max-tokens", str(ANSWER_TOKENS), "--max-model-len", "1024"]
    subprocess.run([*command, "--engine-args", *ENGINE], check=True)
    model = f"captioner = 'vllm' AND model = '{directory.name}'"
    rows = store.open("captions").to_table(columns=["clip_id", "text"], filter=model).to_pylist()
    said = {row["clip_id"]: row["text"] or "" for row in rows}
    print(f"after the stage in {directory.name}, for example: {next(iter(said.values()))}")
    return said


def accuracy_of(said: dict[str, str], truths: dict[str, Attributes]) -> dict[str, float]:
    """Share of the captions that name the right value of an attribute, and no other."""
    assert said.keys() == truths.keys(), f"{len(said)} captions of {len(truths)} clips"
    return {
        name: sum(mentioned(name, text) == {getattr(truths[clip_id], name)} for clip_id, text in said.items())
        / len(truths)
        for name in ATTRIBUTES
    }


def table_of(accuracies: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"{'right on unseen combinations':30}{'chance':>10}{'short':>10}{'descriptive':>14}"]
    for name, values in ATTRIBUTES.items():
        after = [accuracies[stage][name] for stage in ("short", "descriptive")]
        lines.append(f"{name:30}{1 / len(values):10.3f}{after[0]:10.3f}{after[1]:14.3f}")
    return lines


if __name__ == "__main__":
    main()
