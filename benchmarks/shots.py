"""Every method of finding shot boundaries, side by side: what it finds of a truth made by eye, and what it costs.

Each file is decoded once and its small pictures are given to every method in turn. The cost is a method's CPU time,
with the conversion of pictures that it needs, over that of `ffmpeg -threads 1 -i X -f null -` of the same files.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.curate import decode_cpu_s
from benchmarks.figures import finish, footage_files
from benchmarks.shot_truth import ShotScore, read_truth, score, total
from curation.boundary import Look
from curation.curate import SKIP_LOOP_FILTER
from curation.decode import Decoder
from curation.media import Limits, main_video_stream, open_media
from curation.planes import planes_of, sampled_picture
from curation.shots import ShotConfig, ShotMethod, shot_detector
from jobs.cli import parse

TO_REACH = 0.96
DEFAULT = "+".join(ShotConfig().shots)
SCENEDETECT: tuple[tuple[ShotMethod, ...], ...] = (
    ("content",),
    ("adaptive",),
    ("threshold",),
    ("histogram",),
    ("hash",),
    ("content", "threshold"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Shot boundaries: every method's precision, recall, F1 and cost, side by side.

    Attributes:
        footage: Folder with footage.
        truth: Folder with a table for each film, NAME.csv; by default `truth` in the footage.
        out: File for the boundaries that the default method finds in all footage, {name: [seconds]}.
        json: File for the figures, {name: value}.
        shot_weights: Weights of transnetv2, which is then compared too.
        rounds: The least of so many counts of the cost.
    """

    footage: Path
    truth: Path | None = None
    out: Path | None = None
    json: Path | None = None
    shot_weights: Path | None = None
    rounds: int = 2


@dataclass(frozen=True, slots=True)
class Film:
    """What a method is given of a file, and when each frame is shown."""

    looks: Sequence[Look]
    times_s: Sequence[float]


def watched(path: Path) -> Film:
    """Decodes as curation does."""
    limits, looks, times_s = Limits(), list[Look](), list[float]()
    with open_media(path, limits) as container:
        decoder = Decoder(container, main_video_stream(container, limits), limits, SKIP_LOOP_FILTER)
        for frame in decoder:
            looks.append(Look(sampled_picture(planes_of(frame.picture))))
            times_s.append(float(frame.pts * decoder.time_base))
    return Film(looks, times_s)


def found_in(film: Film, config: ShotConfig) -> tuple[list[float], float]:
    """When the boundaries are, and the CPU seconds that it took to find them."""
    began_s = time.process_time()
    detector = shot_detector(config)
    boundaries = [boundary for look in film.looks for boundary in detector.feed(look)] + detector.flush()
    cpu_s = time.process_time() - began_s
    return sorted(film.times_s[boundary.index] for boundary in boundaries), cpu_s


def print_table(scores: Mapping[str, ShotScore], costs: Mapping[str, float]) -> None:
    heads = [f"{head:>9s}" for head in ("cuts", "gradual", "false", "precision", "recall", "F1", "cost")]
    print(f"{'method':20s}", *heads)
    for name, s in scores.items():
        cuts, gradual = f"{s.cuts_found}/{s.cuts}", f"{s.gradual_found}/{s.gradual}"
        shares = [f"{share:9.3f}" for share in (s.precision, s.recall, s.f1, costs[name])]
        print(f"{name:20s} {cuts:>9s} {gradual:>9s} {s.false:9d}", *shares)


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.shots")
    truth = options.truth or options.footage / "truth"
    configs = {DEFAULT: ShotConfig()} | {"+".join(shots): ShotConfig(shots=shots) for shots in SCENEDETECT}
    if options.shot_weights:
        configs["transnetv2"] = ShotConfig(shots=("transnetv2",), shot_weights=options.shot_weights)
    predicted: dict[str, list[float]] = {}
    scores: dict[str, list[ShotScore]] = defaultdict(list)
    cpu_s: dict[str, float] = defaultdict(float)
    decoding_s = 0.0
    for path in footage_files(options.footage):
        film, table = watched(path), truth / f"{path.name}.csv"
        predicted[path.name], _ = found_in(film, configs[DEFAULT])
        if not table.is_file():
            continue
        changes = read_truth(table)
        decoding_s += min(decode_cpu_s(path) for _ in range(options.rounds))
        for name, config in configs.items():
            runs = [found_in(film, config) for _ in range(options.rounds)]
            scores[name].append(score(changes, runs[0][0]))
            cpu_s[name] += min(seconds for _, seconds in runs)
        ours = scores[DEFAULT][-1]
        missed = ours.cuts + ours.gradual - ours.found
        print(f"{path.name[:60]:60s} F1 {ours.f1:.3f}, missed {missed}, false {ours.false}", flush=True)
    if not scores:
        raise SystemExit(f"no truth for any file of {options.footage} in {truth}")
    if options.out:
        options.out.write_text(json.dumps(predicted, indent=2) + "\n")
    report({name: total(each) for name, each in scores.items()}, cpu_s, decoding_s, options.json)


def report(
    scores: Mapping[str, ShotScore], cpu_s: Mapping[str, float], decoding_s: float, json_file: Path | None
) -> None:
    costs = {name: seconds / decoding_s for name, seconds in cpu_s.items()}
    print_table(scores, costs)
    figures: dict[str, float | int] = {}
    for name, s in scores.items():
        figures |= {f"{name}_f1": s.f1, f"{name}_precision": s.precision, f"{name}_recall": s.recall}
        figures |= {f"{name}_gradual_found": s.gradual_found, f"{name}_cost_to_decode": costs[name]}
    ours = scores[DEFAULT]
    best = max((name for name in scores if name not in (DEFAULT, "transnetv2")), key=lambda name: scores[name].f1)
    says = {
        name: f"{scores[name].f1:.3f}, {scores[name].gradual_found} of {ours.gradual} gradual, cost {costs[name]:.3f}"
        for name in (DEFAULT, best)
    }
    line = f"boundary F1 {says[DEFAULT]} (to reach: {TO_REACH}; scenedetect's best here, {best}: {says[best]})"
    finish(figures, [line], json_file)


if __name__ == "__main__":
    sys.exit(main())
