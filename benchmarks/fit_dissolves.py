"""The weights that tell dissolves (`mixes.MIX_WEIGHTS`): fitted anew, and held against the shipped ones.

Dissolves of 4 to 60 frames are made between moving shots, painted ones and, with --footage, those of films that have no
truth table, so that the truth stays unseen. What is no dissolve: the same shots alone, under changing light, shaken,
zoomed, and cut. Pictures are taken three at a time as `mixes.MixFinder` takes them. Every third shot is held out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import finish, footage_files
from benchmarks.shots import watched
from curation.film_scenes import Edit, SceneSpec, render
from curation.mixes import (
    HALVES,
    MIN_CHANGE_SQUARED,
    MIN_COSINE,
    MIN_SHARE,
    MIX_BIAS,
    MIX_WEIGHTS,
    STEP,
    mix_features,
)
from curation.planes import Picture
from curation.shots import ShotConfig, shot_detector
from curation.signature import LUMA_CELLS, signature_of
from jobs.cli import parse

RATE = 25
WIDTH, HEIGHT = 160, 90
SHOT_FRAMES = 130
FEWEST_FRAMES = 70  # a shorter one holds no dissolve
LENGTHS = (4, 6, 8, 10, 12, 16, 20, 24, 30, 38, 48, 60)
RIDGE = 1e-2
HELD_OUT = 3  # one in so many

Cells = NDArray[np.float32]
"""(frames, cells): what `signature_of` makes of a shot's pictures, less 128."""
Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Features with a 1 for the bias, and which rows are dissolves."""


@dataclass(frozen=True, slots=True)
class Options:
    """Dissolves told from motion, light, shaking, zooms and cuts: weights fitted anew beside the shipped ones.

    Attributes:
        footage: Folder with films; those with a table NAME.csv in its folder `truth` are left out.
        shots: How many shots are painted.
        seed: What they are painted from.
        json: File for the figures, {name: value}.
    """

    footage: Path | None = None
    shots: int = 60
    seed: int = 0
    json: Path | None = None


def painted_shots(count: int, seed: int) -> Iterator[list[Picture]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        x, y = rng.normal(0, 30, 2)
        motion = (
            {"pan_x_px_per_s": x, "pan_y_px_per_s": y},
            {"object_x_px_per_s": 2 * x, "object_y_px_per_s": 2 * y},
            {"zoom_per_s": float(2 ** rng.uniform(-0.5, 0.5))},
        )[number % 3]
        spec = SceneSpec(1000 * seed + number, SHOT_FRAMES, brightness=float(rng.uniform(0.2, 1)), **motion)
        frames = render(Edit((spec,)), WIDTH, HEIGHT, (i / RATE for i in range(SHOT_FRAMES)))
        yield [picture_of(rgb) for rgb in frames]


def picture_of(rgb: NDArray[np.uint8]) -> Picture:
    luma, red, blue = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    return luma, blue, red  # type: ignore[return-value]


def filmed_shots(folder: Path) -> Iterator[list[Picture]]:
    for path in footage_files(folder):
        if (folder / "truth" / f"{path.name}.csv").is_file():
            continue
        looks, detector = watched(path).looks, shot_detector(ShotConfig())
        boundaries = sorted([b for look in looks for b in detector.feed(look)] + detector.flush())
        ends = [0, *(edge for b in boundaries for edge in (b.index - b.before, b.index + b.after)), len(looks)]
        for first, end in zip(ends[::2], ends[1::2], strict=True):
            for start in range(first, end - FEWEST_FRAMES, SHOT_FRAMES):
                yield [look.picture for look in looks[start : min(end, start + SHOT_FRAMES)]]


def cells_of(shot: Sequence[Picture]) -> Cells:
    return np.stack([signature_of(picture).cells for picture in shot]).astype(np.float32) - 128


def warped(shot: Sequence[Picture], zoom: float, shake: float, rng: np.random.Generator) -> list[Picture]:
    """Each frame `zoom` times larger than the last about its middle, and moved by a share of its width at random."""
    result: list[Picture] = []
    for index, picture in enumerate(shot):
        move = rng.normal(0, shake, 2)
        planes = []
        for plane in picture:
            height, width = plane.shape
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, 1.1 * zoom**index)
            matrix[:, 2] += move * width
            planes.append(cv2.warpAffine(plane, matrix, (width, height), borderMode=cv2.BORDER_REFLECT))
        result.append((planes[0], planes[1], planes[2]))
    return result


def under_light(cells: Cells, rng: np.random.Generator) -> Cells:
    """Dimmed or brightened over a while to another level."""
    begin, frames, level = rng.integers(10, 40), rng.integers(2, 40), 2 ** rng.uniform(-2, 0.7)
    gain = 1 + (level - 1) * np.clip((np.arange(len(cells)) - begin) / frames, 0, 1)
    lit = cells.copy()
    lit[:, :LUMA_CELLS] = np.clip((cells[:, :LUMA_CELLS] + 128) * gain[:, None], 0, 255) - 128
    return lit


def dissolved(a: Cells, b: Cells, frames: int) -> Cells:
    share = np.linspace(0, 1, frames + 2, dtype=np.float32)[1:-1, None]
    mixed = ((1 - share) * a[-frames:] + share * b[:frames]).astype(np.float32)
    return np.concatenate([a[:-frames], mixed, b[frames:]])


def row_of(a: Cells, m: Cells, b: Cells) -> tuple[float, ...] | None:
    """The features of three frames; None where `MixFinder` would not ask for them."""
    way, first, second = b - a, m - a, b - m
    dd = float(way @ way)
    share = float(first @ way) / max(dd, 1.0)
    cosine = float(first @ second) / max(1.0, float(np.sqrt((first @ first) * (second @ second))))
    if dd < MIN_CHANGE_SQUARED or not MIN_SHARE < share < 1 - MIN_SHARE or cosine <= MIN_COSINE:
        return None
    return mix_features(np.stack([a, m, b])[:, :LUMA_CELLS], share)


def rows_without(cells: Cells, rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Of a few places at every distance."""
    rows = []
    for half in (STEP * h for h in HALVES):
        for middle in rng.integers(half, max(half + 1, len(cells) - half), 6):
            if middle + half < len(cells):
                rows.append(row_of(cells[middle - half], cells[middle], cells[middle + half]))
    return [row for row in rows if row is not None]


def rows_of_dissolve(a: Cells, b: Cells, frames: int) -> list[tuple[float, ...] | None]:
    """At the two least distances that span it."""
    film, middle = dissolved(a, b, frames), len(a) - frames // 2 - 1
    halves = [STEP * h for h in HALVES if STEP * h > frames / 2][:2]
    fitting = [half for half in halves if half <= middle < len(film) - half]
    return [row_of(film[middle - half], film[middle], film[middle + half]) for half in fitting]


def rows_of(shots: Sequence[Sequence[Picture]], rng: np.random.Generator) -> tuple[Rows, int]:
    """All rows of some shots, and how many dissolves `MixFinder` would not even ask about."""
    all_cells = [cells_of(shot) for shot in shots]
    mixed, other = list[tuple[float, ...] | None](), list[tuple[float, ...]]()
    for index, (a, b) in enumerate(pairwise(all_cells)):
        for frames in LENGTHS:
            if frames < min(len(a), len(b)) // 2:
                mixed += rows_of_dissolve(a, b, frames)
        zoomed = warped(shots[index], float(2 ** rng.uniform(-0.04, 0.04)), 0.0, rng)
        shaken = warped(shots[index], 1.0, float(rng.uniform(0.005, 0.06)), rng)
        for cells in (a, under_light(a, rng), cells_of(zoomed), cells_of(shaken), np.concatenate([a[:40], b[:40]])):
            other += rows_without(cells, rng)
    asked = [row for row in mixed if row is not None]
    features = np.array([*asked, *other])
    is_mix = np.arange(len(features)) < len(asked)
    return (np.hstack([features, np.ones((len(features), 1))]), is_mix), len(mixed) - len(asked)


def fitted(rows: Rows) -> NDArray[np.float64]:
    """Logistic regression by Newton's method; both classes weigh the same."""
    x, is_mix = rows
    weight = np.where(is_mix, 0.5 / is_mix.sum(), 0.5 / (~is_mix).sum()) * len(x)
    solution = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ solution))
        slope = x.T @ (weight * (is_mix - p)) - RIDGE * solution
        curve = x.T @ (x * (weight * p * (1 - p))[:, None]) + RIDGE * np.eye(len(solution))
        solution += np.linalg.solve(curve, slope)
    return solution


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.fit_dissolves")
    rng = np.random.default_rng(options.seed)
    shots = list(painted_shots(options.shots, options.seed))
    if options.footage:
        shots += filmed_shots(options.footage)
    held_out, unasked = rows_of(shots[::HELD_OUT], rng)
    fit, _ = rows_of([shot for i, shot in enumerate(shots) if i % HELD_OUT], rng)
    weights = {"shipped": np.array([*MIX_WEIGHTS, MIX_BIAS]), "fitted": fitted(fit)}
    x, is_mix = held_out
    print(f"{len(shots)} shots; held out: {is_mix.sum()} dissolves (of {unasked} more there is no asking), ", end="")
    print(f"{(~is_mix).sum()} others")
    figures: dict[str, float | int] = {}
    for name, each in weights.items():
        says = x @ each > 0
        recall, false = float(says[is_mix].mean()), float(says[~is_mix].mean())
        print(f"{name:8s} {', '.join(f'{w:.2f}' for w in each)}: {recall:.3f} of dissolves, {false:.3f} of others")
        figures |= {f"{name}_recall": recall, f"{name}_false": false, f"{name}_accuracy": (recall + 1 - false) / 2}
    ours, reference = figures["shipped_accuracy"], figures["fitted_accuracy"]
    line = f"held-out accuracy {ours:.3f} of the shipped weights (fitted anew: {reference:.3f})"
    finish(figures, [line], options.json)


if __name__ == "__main__":
    sys.exit(main())
