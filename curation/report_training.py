"""What a report shows of training: curves, plain facts, what became of the clips, and samples beside their prompts.

Whoever knows runs hands over plain data and files; this makes words, shapes and copies of them beside the page.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from curation import report_words as words
from curation.report_curves import Curve, Series, curve_of, means_of, thinned
from curation.report_data import Tally
from curation.report_preview import write_poster
from curation.report_view import FunnelRow, Tile

__all__ = ["MadeSample", "TrainedRun", "Training", "training_data", "training_section"]

LAST_STEPS = 50  # whose mean is called the loss at the end
FOLDER = "samples"
OURS = re.compile(r"[0-9a-f]{32}\.(mp4|png|gif|jpg|part)")
SUFFIXES = (".mp4", ".png", ".gif")
TIME_PART = re.compile(r"loss_time_(\d+)_of_(\d+)")
MOST_SHEETS = 6
PART_MEANS = 20  # of a part of the loss, to which a step may give nothing


@dataclass(frozen=True, slots=True)
class MadeSample:
    """A file that a model made: what was asked for, and what there is to say about it."""

    file: Path
    prompt: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A training run, as it is on disk.

    what      in words: "the transformer", "the compression network"
    unit      what its `tokens` are: "tokens"
    steps     a line a step: `step`, `loss`, `tokens`, `seconds`, `data_wait`, `verdict`, `replaced`, and what else
    planned   steps that it was to take
    facts     what else there is to say, a line each
    fates     how many clips were `seen`, how many `trained`, and how many left out for which reason; None if unknown
    sheets    pictures of samples as it went, by step
    samples   what its model made
    """

    name: str
    what: str
    unit: str
    steps: Sequence[Mapping[str, Any]]
    planned: int
    facts: tuple[str, ...] = ()
    fates: Mapping[str, int] | None = None
    sheets: Mapping[int, Path] | None = None
    samples: tuple[MadeSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Training:
    """Runs, samples that no run keeps itself, and what is to be said of it all."""

    runs: tuple[TrainedRun, ...] = ()
    samples: tuple[MadeSample, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample beside the page; paths are relative to it. Without `plays` it is a picture, or cannot be had."""

    prompt: str
    facts: tuple[str, ...]
    plays: str | None
    poster: str | None
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class SheetPicture:
    """Samples of one step in one picture."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class RunSection:
    name: str
    what: str
    tiles: tuple[Tile, ...]
    facts: tuple[str, ...]
    fates: tuple[FunnelRow, ...]
    curves: tuple[Curve, ...]
    samples: tuple[Shown, ...]
    sheets: tuple[SheetPicture, ...]


@dataclass(frozen=True, slots=True)
class TrainingSection:
    """All of it; `files` are those beside the page that it shows."""

    runs: tuple[RunSection, ...]
    samples: tuple[Shown, ...]
    remark: str
    files: tuple[str, ...]


def training_section(training: Training | None, out: Path) -> TrainingSection | None:
    """Files are copied below `out/samples`; those of an earlier report that are not shown any more are removed.

    None where there is nothing to show. Raises OSError.
    """
    section = None
    if training and (training.runs or training.samples):
        (out / FOLDER).mkdir(exist_ok=True)
        runs = tuple(_run_section(run, out) for run in training.runs)
        shown = tuple(_shown(sample, out) for sample in training.samples)
        section = TrainingSection(runs, shown, training.remark, tuple(_files_of(runs, shown)))
    _remove_stale(out, section.files if section else ())
    return section


def training_data(training: Training) -> list[dict[str, Any]]:
    """The numbers for scripts: of every run, the loss at its last steps and what became of the clips."""
    return [
        {"name": run.name, "what": run.what, "steps": len(run.steps), "loss": _loss(run.steps), "fates": run.fates}
        for run in training.runs
    ]


def _run_section(run: TrainedRun, out: Path) -> RunSection:
    chosen = thinned(sorted((run.sheets or {}).items()), MOST_SHEETS)
    return RunSection(
        run.name,
        run.what,
        tuple(_tiles(run)),
        run.facts,
        tuple(_fate_rows(run.fates)) if run.fates else (),
        tuple(_curves(run.steps)),
        tuple(_shown(sample, out) for sample in run.samples),
        tuple(SheetPicture(step, _copied(path, out)) for step, path in chosen[::-1]),
    )


# -- numbers


def _values(steps: Iterable[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """Steps and values, without those that are none."""
    found = ((_finite(line.get("step")), _finite(line.get(name))) for line in steps)
    return [(x, y) for x, y in found if x is not None and y is not None]


def _finite(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None


def _sum(steps: Iterable[Mapping[str, Any]], name: str) -> float:
    return math.fsum(value for _, value in _values(steps, name))


def _loss(steps: Sequence[Mapping[str, Any]]) -> float | None:
    last = [value for _, value in _values(steps[-LAST_STEPS:], "loss")]
    return sum(last) / len(last) if last else None


def _tiles(run: TrainedRun) -> Iterable[Tile]:
    steps = run.steps
    seconds, tokens = _sum(steps, "seconds"), _sum(steps, "tokens")
    waited = math.fsum(
        (_finite(line.get("data_wait")) or 0.0) * (_finite(line.get("seconds")) or 0.0) for line in steps
    )
    rate = tokens / seconds if seconds else 0.0
    yield Tile("steps", words.count(len(steps)), f"of {words.count(run.planned)}, {words.clock(seconds)}")
    losses = _values(steps, "loss")
    if losses:
        yield Tile("loss", words.number(_loss(steps)), f"at the end, {words.number(losses[0][1])} at first")
    if quality := _values(steps[-LAST_STEPS:], "psnr_db"):
        mean = sum(value for _, value in quality) / len(quality)
        yield Tile("likeness", f"{words.number(round(mean, 1))} dB", "PSNR of crops at the end")
    yield Tile(f"{run.unit} a second", words.count(round(rate)), f"{words.count(round(tokens))} in all")
    yield Tile("waiting for data", words.share(waited, seconds) or "0 %", "of the time")
    if run.fates:
        yield Tile("clips trained on", words.count(run.fates["trained"]), f"of {words.count(run.fates['seen'])} seen")


def _fate_rows(fates: Mapping[str, int]) -> Iterable[FunnelRow]:
    seen = fates["seen"]
    for label, count in fates.items():
        kind = {"seen": "total", "trained": "kept"}.get(label, "rejected")
        said = "trained on" if label == "trained" else label
        percent = round(100 * count / seen, 3) if seen else 0.0
        yield FunnelRow(said, kind, Tally(count, 0.0), percent, words.share(count, seen) if kind != "total" else "")


def _curves(steps: Sequence[Mapping[str, Any]]) -> Iterable[Curve]:
    losses = _values(steps, "loss")
    names = sorted({name for line in steps for name in line if TIME_PART.fullmatch(name)})
    parts = [
        Series(f"part-{number}", means_of(_values(steps, name), PART_MEANS), _part_words(name))
        for number, name in enumerate(names)
    ]
    size = math.ceil(len(losses) / max(1, len(means_of(losses))))
    said = f"each step, and means of {size} steps" if size > 1 else "each step"
    for curve in (
        curve_of("loss", said, _both(steps, "loss")),
        curve_of("loss by time", "by quantiles of the times that are drawn, from the least noise to the most", parts),
        curve_of("psnr_db", f"likeness of crops, {said}", _both(steps, "psnr_db")),
        curve_of("gradient", f"its length, {said}", _both(steps, "gradient")),
    ):
        if curve:
            yield curve


def _both(steps: Sequence[Mapping[str, Any]], name: str) -> list[Series]:
    values = _values(steps, name)
    return [Series("faint", thinned(values)), Series("line", means_of(values))]


def _part_words(name: str) -> str:
    """`loss_time_2_of_4` in words: which of the times that are drawn."""
    found = TIME_PART.fullmatch(name)
    assert found
    number, parts = (int(group) for group in found.groups())
    return f"{words.number(100 * (number - 1) / parts)} to {words.number(100 * number / parts)} % of times"


# -- files beside the page


def _shown(sample: MadeSample, out: Path) -> Shown:
    """A file that cannot be shown costs its sample a line."""
    if sample.file.suffix.lower() not in SUFFIXES:
        return Shown(sample.prompt, (*sample.facts, f"{sample.file.name} is no file that is shown here"), None, None)
    copy = _copied(sample.file, out)
    if not copy.endswith(".mp4"):
        return Shown(sample.prompt, sample.facts, None, copy)
    poster = f"{copy.removesuffix('.mp4')}.jpg"
    try:
        width, height = _write_middle(out / copy, out / poster)
    except (av.error.FFmpegError, ValueError, StopIteration) as error:
        return Shown(sample.prompt, (*sample.facts, f"it cannot be shown: {error}"), None, None)
    return Shown(sample.prompt, sample.facts, copy, poster, width, height)


def _write_middle(video: Path, poster: Path) -> tuple[int, int]:
    """Its middle frame as a JPEG; width and height. Raises FFmpegError, ValueError, OSError."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
        if not frames:
            raise ValueError("it has no frame")
        middle = frames[len(frames) // 2]
        write_poster(poster, middle, width=middle.width, height=middle.height, rotation=0)
        return middle.width, middle.height


def _copied(file: Path, out: Path) -> str:
    """Its path from the page, named by its content."""
    name = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    path = f"{FOLDER}/{name}{file.suffix.lower()}"
    if not (out / path).exists():
        part = out / FOLDER / f"{name}.part"
        shutil.copyfile(file, part)
        part.replace(out / path)
    return path


def _files_of(sections: Iterable[RunSection], samples: Iterable[Shown]) -> Iterable[str]:
    for section in sections:
        yield from (sheet.path for sheet in section.sheets)
        yield from _files_of((), section.samples)
    for sample in samples:
        yield from (path for path in (sample.plays, sample.poster) if path)


def _remove_stale(out: Path, used: Sequence[str]) -> None:
    """What an earlier report wrote and this one does not show; nothing else."""
    folder = out / FOLDER
    if folder.is_dir():
        for path in folder.iterdir():
            if OURS.fullmatch(path.name) and f"{FOLDER}/{path.name}" not in used:
                path.unlink()
