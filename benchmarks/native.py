"""Native aspect against a square crop: what is left of an object in samples, trained on the same footage with as many
tokens and operations in each arm.

footage at 16:9, 9:16 and 1:1, where the object is anywhere but always whole → jobs.curate → captions → jobs.train, once
with every clip at its own aspect, once with the largest square in its middle → samples at 16:9, 9:16 and 1:1 → judge

A sample is complete where the asked thing is found and in no frame touches the picture's edge, which every clip of the
footage is. Each arm is asked at the sizes that a user would ask for: what a model that never saw 16:9 makes of it is
what the crop costs. At 1:1 both are asked for what both have seen. Noise and prompts are the same in both arms.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.attribute_footage import RATE, Attributes, Framing, all_combinations, some_attributes
from benchmarks.figures import finish
from benchmarks.judge import judge
from benchmarks.learns import FLOW, FRAMES, MODEL, NETWORK, SAMPLING, SEED_STEP, TRAIN, run_within
from benchmarks.learns_figures import Interval, interval_of, write_sheet
from benchmarks.learns_store import (
    CAPTIONS,
    Shown,
    add_captions,
    curated,
    decoded_clips,
    job,
    options_of,
    pixels,
    write_footage,
)
from curation.store import Store
from jobs.cli import parse
from jobs.sample import SampleOptions, sampler_of
from trainer.geometry import Asked
from trainer.latents import space_of
from trainer.training.files import RunFiles

ASPECTS = {"16:9": (256, 144), "9:16": (144, 256), "1:1": (192, 192)}
SIZES = {"16:9": (40, 24), "9:16": (24, 40), "1:1": (32, 32)}
"""Of samples: as a clip of this aspect is fitted, in pixels, by tokens of 8."""
MOST_TOKENS = 16
CLIPS_OF_A_PACK = 32
RADIUS, EDGE = (0.18, 0.24), 0.05  # of the thing, and what stays free around it, in shares of the shorter side
ARMS = ("native", "crop")
FIT = {"max_tokens": MOST_TOKENS, "min_side_px": 24, "max_aspect_error": 0.07, "max_frames": FRAMES}
PATCH = {"patch_time": FRAMES, "patch_space": 1}
REAL_TO_REACH = 0.99
MARGIN = 0.05  # of completeness, at 1:1
MOST_APART = 0.02  # of tokens and operations, between the arms


@dataclass(frozen=True, slots=True)
class Options:
    """Two models of the same footage, at its own aspects and square, and how whole the things are that they make.

    Attributes:
        json: File for the figures, {name: value}.
        out: Folder for the store, the runs, and pictures of samples beside their prompts; a temporary one without.
        steps: Of training, in each arm.
        minutes: Of training, after which an arm is asked to end.
        seeds: Of weights and noise, a run of each arm each.
        clips: To learn from, a third of each aspect.
        real_clips: On which the judge is judged.
        samples: Of each arm, aspect and seed.
        threads: Of torch, for sampling.
    """

    json: Path | None = None
    out: Path | None = None
    steps: int = 1200
    minutes: float = 5.0
    seeds: tuple[int, ...] = (0, 1, 2)
    clips: int = 900
    real_clips: int = 120
    samples: int = 64
    threads: int = 2

    def __post_init__(self) -> None:
        for field in ("steps", "minutes", "clips", "real_clips", "samples", "threads"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field}={getattr(self, field)}: must be above 0")
        if not self.seeds:
            raise ValueError("seeds=(): must be at least one")


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.native")
    torch.set_num_threads(options.threads)
    with ExitStack() as stack:
        folder = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        store, of_clip = made_store(folder, options)
        real = real_completeness(store, of_clip)
        asked = some_attributes(in_order(), options.samples, seed=1)
        found = {arm: [trial(store, folder, arm, seed, asked, options) for seed in options.seeds] for arm in ARMS}
    report(found, real, options)


def in_order() -> list[tuple[str, ...]]:
    combinations = all_combinations()
    return [combinations[n] for n in np.random.default_rng(0).permutation(len(combinations))]


# -- the store


def made_store(folder: Path, options: Options) -> tuple[Store, dict[str, Shown]]:
    """Latents are encoded of clips at their own aspect, for the judge alone: both arms decode their clips, the same."""
    framings = [Framing(width, height, radius=RADIUS, edge=EDGE) for width, height in ASPECTS.values()]
    count = options.clips + options.real_clips
    attributes = some_attributes(in_order(), count, seed=3)
    numbered = enumerate(attributes)
    shown = [Shown(a, framings[n % len(framings)], SEED_STEP + n, n < options.clips) for n, a in numbered]
    write_footage(folder, shown)
    store, of_clip = curated(folder, shown)
    add_captions(store, of_clip)
    job("encode", "--store", store.uri, "--network", NETWORK, *options_of(FIT | PATCH))
    return store, of_clip


def real_completeness(store: Store, of_clip: dict[str, Shown]) -> float:
    """Of real clips, at the sizes that samples have. Raises SystemExit where the judge misses any but a few."""
    clips = {clip_id: shown.attributes for clip_id, shown in of_clip.items() if not shown.is_learnt}
    videos = decoded_clips(store, space_of(NETWORK), list(clips))
    wrong_size = {video.shape[2:0:-1] for video in videos} - set(SIZES.values())
    if wrong_size:
        raise SystemExit(f"clips were fitted to {sorted(wrong_size)}, and samples are asked at {SIZES}")
    share = float(np.mean([completeness(video, a) for video, a in zip(videos, clips.values(), strict=True)]))
    print(f"the judge finds the things of {share:.3f} of the real clips whole", flush=True)
    if share < REAL_TO_REACH:
        raise SystemExit(f"of real clips all are whole, and the judge says {share:.3f}: nothing is measured")
    return share


def completeness(video: NDArray[np.uint8], asked: Attributes) -> float:
    """Share of the frames in which a thing of the asked colour is whole; 0 where none is found."""
    found = judge(video)
    return found.whole if found.color == asked.color else 0.0


# -- training and asking


def trial(
    store: Store, folder: Path, arm: str, seed: int, asked: list[Attributes], options: Options
) -> dict[str, NDArray[np.float64]]:
    """Completeness of each sample, by aspect."""
    run = folder / f"{arm}-{seed}"
    steps = {"steps": options.steps, "seed": seed, "checkpoint_steps": options.steps}
    pack = {"budget_tokens": CLIPS_OF_A_PACK * MOST_TOKENS, "shift_tokens": MOST_TOKENS // 4, "trained_tokens": 5}
    values = MODEL | PATCH | FLOW | TRAIN | FIT | steps | pack
    crop = ["--square-crop"] if arm == "crop" else []
    common = ["--store", store.uri, "--run", run, "--network", NETWORK, "--captions-where", CAPTIONS]
    run_within(run, 60 * options.minutes, *common, "--latents", "False", *crop, *options_of(values))
    prompts = [one.descriptive(number) for number, one in enumerate(asked)]
    sampler = sampler_of(SampleOptions(run, ("",), Path("sample.png")))
    found = {}
    for aspect, (width, height) in SIZES.items():
        size = Asked(width, height, FRAMES / float(RATE), Fraction(RATE))
        videos = [pixels(x) for x in sampler.videos(size, prompts, replace(SAMPLING, seed=SAMPLING.seed + seed))]
        write_sheet(run / f"{aspect.replace(':', 'x')}.png", videos, prompts)
        found[aspect] = np.array([completeness(video, a) for video, a in zip(videos, asked, strict=True)])
    lines = RunFiles(run).steps()
    found |= {name: np.array([float(sum(line[name] for line in lines))]) for name in ("tokens", "flops", "seconds")}
    return found


# -- what is said


def report(found: dict[str, list[dict[str, NDArray[np.float64]]]], real: float, options: Options) -> None:
    figures: dict[str, float | int] = {"real_completeness": real}
    lines = [f"{'completeness':14}" + "".join(f"{name:>24}" for name in (*ARMS, "native less crop"))]
    verdicts = []
    for aspect in SIZES:
        arms = {arm: np.stack([one[aspect] for one in found[arm]]) for arm in ARMS}
        by_arm = {arm: interval_of(values) for arm, values in arms.items()}
        more = interval_of(arms["native"] - arms["crop"])  # of the same noise and prompt
        for name, interval in {**by_arm, "difference": more}.items():
            part = {"mean": interval.mean, "low": interval.low, "high": interval.high}
            figures |= {f"{name}_{aspect}_{key}": value for key, value in part.items()}
        lines.append(f"{aspect:14}" + "".join(f"{one!s:>24}" for one in (*by_arm.values(), more)))
        verdicts.append(is_as_claimed(aspect, more))
    for name in ("tokens", "flops", "seconds"):
        figures |= {f"{arm}_{name}": float(np.mean([one[name] for one in found[arm]])) for arm in ARMS}
    apart = max(abs(figures[f"native_{name}"] / figures[f"crop_{name}"] - 1) for name in ("tokens", "flops"))
    if apart > MOST_APART:
        raise SystemExit(f"tokens or operations of the arms are {apart:.3f} apart: nothing is compared; give --minutes")
    figures |= {"apart": apart, "passed": int(all(verdicts))}
    said = "native aspect wins at 16:9 and 9:16 and is not worse at 1:1" if all(verdicts) else "NOT as claimed"
    lines.append(
        f"{len(options.seeds)} seeds, {figures['native_tokens']:.0f} tokens and {figures['native_flops']:.2e} "
        f"operations native, {figures['crop_tokens']:.0f} and {figures['crop_flops']:.2e} crop: {said} (to reach: "
        f"above at 16:9 and 9:16, not worse than by {MARGIN:g} at 1:1)"
    )
    finish(figures, lines, options.json, is_reached=all(verdicts))


def is_as_claimed(aspect: str, more: Interval) -> bool:
    """Above is an interval above 0; not worse is one that is above a small loss: noise alone passes neither."""
    return more.low > -MARGIN if aspect == "1:1" else more.low > 0


if __name__ == "__main__":
    main()
