"""What a report shows of runs of jobs.train, and of what jobs.sample made: read from their directories and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av.error

from curation.report_training import MadeSample, TrainedRun, Training
from curation.store import Store
from jobs.progress import size_words
from jobs.train_options import DEFAULT_PRESET
from trainer.media_files import read_info
from trainer.reading.clips import ClipList
from trainer.reading.crops import CropReader
from trainer.reading.fates import Fates
from trainer.training.files import RunFiles

__all__ = ["BadRun", "training_of"]

WHAT = {"transformer": "The transformer", "network": "The compression network"}
UNITS = {"transformer": "tokens", "network": "latent cells"}
SHEET = "sheet.png"


class BadRun(Exception):
    """A directory that is none of jobs.train, or a file that jobs.sample did not make; the message names it."""


def training_of(store: Store, runs: Sequence[Path], samples: Sequence[Path], remark: str) -> Training:
    """Raises BadRun, OSError."""
    return Training(
        tuple(trained_run(store, run) for run in runs), tuple(made_sample(file) for file in samples), remark
    )


def trained_run(store: Store, directory: Path) -> TrainedRun:
    """A run as far as it is. Raises BadRun, OSError."""
    files = RunFiles(directory)
    try:
        facts = files.facts()
        if facts is None:
            raise BadRun(f"run={directory}: is no directory of jobs.train")
        options = facts["options"]
        what, planned = options["what"], int(options["train"]["steps"])
        unit, said = UNITS[what], WHAT[what]
        fates = crop_fates(store, files, options) if what == "network" else clip_fates(files)
    except (KeyError, TypeError, ValueError) as error:
        raise BadRun(f"run={directory}: what it says of itself cannot be read ({error})") from error
    steps, looks = files.steps(), looked_at(files)
    last = looks[max(looks)] if looks else None
    return TrainedRun(
        str(directory), said, unit, steps, planned, run_facts(options, steps), fates,
        {step: folder / SHEET for step, folder in looks.items()},
        tuple(made_sample(file) for file in media_in(last)) if last else (),
    )  # fmt: skip


def run_facts(options: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What it is and how it was trained, in words. Raises KeyError."""
    how = options["train"]
    which = (
        options["network_preset"]
        if options["what"] == "network"
        else f"preset {options['model']['preset'] or DEFAULT_PRESET}"
    )
    found = [which, f"{how['optimizer']}, learning rate {how['learning_rate']:g} at its highest"]
    if options["what"] == "transformer":
        found.append(f"latents of {options['network']}, packs of {options['packs']['budget_tokens']} tokens")
    if memory := max((line.get("memory_bytes") or 0 for line in steps), default=0):
        found.append(f"{size_words(memory)} of memory at most")
    left_out = sum(line.get("verdict") != "taken" for line in steps)
    replaced = sum(line.get("replaced") or 0 for line in steps)
    found.append(f"{left_out} steps left out by the guard, {replaced} samples replaced")
    return tuple(found)


# -- what became of the clips


def clip_fates(files: RunFiles) -> Mapping[str, int] | None:
    """Of the run's plan; None where it has none yet. Raises ValueError, OSError."""
    written = sorted(files.plans.glob("fates-*.arrow"), key=lambda path: path.stat().st_mtime_ns)
    return Fates(written[-1]).counts() if written else None


def crop_fates(store: Store, files: RunFiles, options: Mapping[str, Any]) -> Mapping[str, int] | None:
    """The same of a compression network, which takes crops of any clip that is large and long enough."""
    try:
        clips = ClipList(files.plans)
    except FileNotFoundError:
        return None
    crops = options["crops"]
    return CropReader(store, clips, crops["crop_frames"], crops["crop_px"], crops["crops"]).fates()


# -- samples


def looked_at(files: RunFiles) -> dict[int, Path]:
    """Folders of the samples that were made as it went, by step."""
    if not files.samples.is_dir():
        return {}
    folders = [path for path in files.samples.iterdir() if path.name.isdecimal() and (path / SHEET).is_file()]
    return {int(path.name): path for path in folders}


def media_in(folder: Path) -> list[Path]:
    """In the order in which they were asked for."""
    return sorted((path for path in folder.iterdir() if path.stem.isdecimal()), key=lambda path: int(path.stem))


def made_sample(file: Path) -> MadeSample:
    """With the prompt that is stored inside. Raises BadRun, OSError."""
    try:
        info = read_info(file)
    except (ValueError, OSError, av.error.FFmpegError) as error:
        raise BadRun(f"samples={file}: is no file that jobs.sample made ({error})") from error
    return MadeSample(file, str(info.get("prompt", "")), tuple(sample_facts(info)))


def sample_facts(info: Mapping[str, Any]) -> list[str]:
    """What was asked for. A preview says less of itself."""
    found = []
    if "width" in info and "height" in info:
        found.append(f"{info['width']}×{info['height']}")  # noqa: RUF001 - a times sign
    if seconds := info.get("seconds"):
        found.append(f"{seconds} s at {info.get('rate')} frames a second")
    elif "seconds" in info:
        found.append("an image")
    if "steps" in info:
        found.append(f"{info['steps']} steps of {info.get('solver')}, guidance {info.get('guidance')}")
    return found
