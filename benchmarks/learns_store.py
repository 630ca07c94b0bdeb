"""Footage of known attributes through the whole path, up to latents: files, jobs.curate, jobs.caption, captions that
say what is seen, jobs.encode.

Clips that are kept for the judge get no caption, so that no plan has them.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

from benchmarks.attribute_footage import Attributes, Framing, write_clip
from captioner.captions import Caption, write_captions
from curation.store import Store
from jobs.runs import job_run
from trainer.latents import LatentSpace
from trainer.reading.samples import read_arrays

__all__ = [
    "CAPTIONS",
    "Shown",
    "add_captions",
    "curated",
    "decoded_clips",
    "job",
    "options_of",
    "pixels",
    "write_footage",
]

CAPTIONER = "procedural"
LEAST_KEPT = 0.99  # of the clips: a large shape near an edge may be taken for a border, and the rest be too small
CAPTIONS = f"captioner = '{CAPTIONER}' OR kind = 'original'"
"""The condition for captions to train on: without those that jobs.caption made of what it measured."""
SPAN_COLUMNS = ("clip_id", "source_id", "start_pts", "end_pts")


@dataclass(frozen=True, slots=True)
class Shown:
    """A file of footage: what is in it, and whether it is to be learnt from."""

    attributes: Attributes
    framing: Framing
    seed: int
    is_learnt: bool = True


@dataclass(frozen=True, slots=True)
class CaptionsAdded:
    """What a run that writes these captions is known by."""

    captioner: str = CAPTIONER


def job(name: str, *arguments: object) -> None:
    """Run a job as a user would. Raises SystemExit where it fails."""
    command = [sys.executable, "-m", f"jobs.{name}", *map(str, arguments)]
    if code := subprocess.run(command, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def write_footage(folder: Path, shown: Sequence[Shown]) -> None:
    """A file each, named by its number, and its original caption beside each of those that are to be learnt from."""
    footage = folder / "footage"
    footage.mkdir(parents=True, exist_ok=True)
    files = [footage / f"{number:06d}.mp4" for number in range(len(shown))]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as processes:
        list(processes.map(write_one, files, shown, chunksize=64))


def write_one(path: Path, shown: Shown) -> None:
    if not path.exists():  # of a run before, in the same folder
        part = path.with_suffix(".part.mp4")
        write_clip(part, shown.attributes, shown.framing, shown.seed)
        part.rename(path)
    if shown.is_learnt:
        path.with_suffix(".txt").write_text(shown.attributes.original + "\n", encoding="utf-8")


def curated(folder: Path, shown: Sequence[Shown]) -> tuple[Store, dict[str, Shown]]:
    """A store with these clips, and what each of them shows. Clips that look alike are all kept."""
    store = Store.at(str(folder / "store"))
    job("curate", "--footage", folder / "footage", "--store", store.uri, "--duplicates", "keep", "--keep-still")
    sources = store.open("sources").to_table(columns=["source_id", "uri"]).to_pylist()
    of_source = {row["source_id"]: shown[int(Path(row["uri"]).stem)] for row in sources}
    clips = store.open("clips").to_table(columns=["clip_id", "source_id"], filter="keep").to_pylist()
    if len(clips) < LEAST_KEPT * len(shown):
        raise SystemExit(f"{len(clips)} clips were kept of {len(shown)}: see the reasons above")
    return store, {row["clip_id"]: of_source[row["source_id"]] for row in clips}


def add_captions(store: Store, of_clip: dict[str, Shown]) -> None:
    """Originals by jobs.caption, and descriptive captions that are true."""
    job("caption", "--store", store.uri, "--captioner", "facts", "--kinds", "motion", "--originals", "beside")
    rows = store.open("clips").to_table(columns=list(SPAN_COLUMNS), filter="keep").to_pylist()
    learnt = [row for row in rows if of_clip[row["clip_id"]].is_learnt]
    with job_run(store, "caption", CaptionsAdded(), lease_name="captions") as run:
        write_captions(store, [described(row, of_clip[row["clip_id"]]) for row in learnt], run.run_id)


def described(row: dict[str, object], shown: Shown) -> Caption:
    return Caption(
        clip_id=str(row["clip_id"]),
        source_id=str(row["source_id"]),
        kind="descriptive",
        text=shown.attributes.descriptive(shown.seed),
        window_index=None,
        window_start_pts=int(str(row["start_pts"])),
        window_end_pts=int(str(row["end_pts"])),
        captioner=CAPTIONER,
        model=CAPTIONER,
        model_revision="1",
        prompt_id=CAPTIONER,
        attempts=1,
    )


def decoded_clips(store: Store, space: LatentSpace, clip_ids: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Clips as the latents show them: resized as a model is trained on them, encoded, and decoded again."""
    latents = store.open("latents")
    asked = f"kind = 'clip' AND network_id = '{space.network_id}' AND failure IS NULL"
    found = latents.to_table(columns=["input_id"], filter=asked, with_row_id=True)
    row_of = dict(zip(found["input_id"].to_pylist(), found["_rowid"].to_pylist(), strict=True))
    arrays = read_arrays(store, latents, [row_of[clip_id] for clip_id in clip_ids])
    assert all(array is not None for array in arrays), "a latent is not what its row says"
    return [pixels(space.decode(array[0][None])[0]) for array in arrays if array is not None]


def pixels(x_CTHW: torch.Tensor) -> NDArray[np.uint8]:
    """uint8[T, H, W, 3]"""
    levels = ((x_CTHW.clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(levels, "c t h w -> t h w c").cpu().numpy()


def options_of(values: Mapping[str, object]) -> list[str]:
    """As arguments of a job."""
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]
