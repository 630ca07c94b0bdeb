"""The whole way, small.

footage → clips → captions → a compression network → latents → a diffusion transformer → samples → a page to look at
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from curation.film import make_film
from curation.records import digest
from curation.store import Store
from jobs import caption, curate, encode, report, sample, train
from jobs.cli import parse
from jobs.cluster import connect
from jobs.runs import EXIT_OVER_BUDGET, MachineFault, say

__all__ = ["DemoOptions", "main"]

EXIT_REFUSED, EXIT_STORE = 2, 4
NETWORK_STEP = "train the network"
# Small enough that two cores learn something in minutes. A clip is some 110 by 64 pixels and a second or two long.
FIT = ("--max-tokens", "256", "--min-side-px", "64")
NETWORK = (
    *("--network-preset", "tiny-4x8x8", "--reconstruction", "mse", "--crop-frames", "9", "--crop-px", "64"),
    *("--crops", "8", "--slots", "1", "--optimizer", "muon", "--learning-rate", "5e-3", "--warmup-steps", "10"),
    *("--schedule", "linear", "--final-share", "0.02", "--ema", "0.98"),
)
TRANSFORMER = (
    *("--preset", "1m", *FIT, "--budget-tokens", "1024", "--slots", "1", "--optimizer", "muon"),
    *("--learning-rate", "2e-3", "--warmup-steps", "20", "--final-share", "0.02", "--ema", "0.98"),
    *("--shift-tokens", "100"),  # clips are short: as many times are to be near noise as near the clip
)
LOOKS = 2  # at samples, while the transformer is trained
UNSEEN_PROMPT = "A vertical shot in vivid colors, mainly orange and purple. The camera pans to the left."
SAMPLED = ("--seconds", "1.375", "--fps", "24", "--steps", "20", "--guidance", "2.5")
SAMPLES = "widescreen.mp4", "vertical.mp4", "unseen.mp4", "image.png"
WIDESCREEN, UPRIGHT = ("--width", "112", "--height", "64"), ("--width", "64", "--height", "112")
REMARK = (
    "What to expect: a model of about a million parameters, trained for minutes on a processor, on {clips} clips. "
    "Blobs of colour that suit their prompt and move a little are good samples here. It shows that every part works "
    "and that they fit together; pictures take more footage, a larger model and a GPU."
)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Curate and caption a film that the project makes itself, or footage of yours, train a compression network and a
    diffusion transformer on it, sample, and make the page to look at it all.

    Attributes:
        footage: Folders, files or addresses of yours. Without any, a film is made: cuts, dissolves, fades, pans, zooms,
            still shots, several aspects, a rotated file, a variable rate, letterbox, a near-duplicate.
        model: A vision-language model, a directory or hub id, that vLLM runs here to describe the clips. Without one
            there are captions from what was measured: none can be had within the demo's few minutes without a download.
        out: Folder for it all; each footage gets a folder of its own there, with store, runs, samples and page.
        network_steps: For which the compression network is trained.
        steps: For which the transformer is trained.
    """

    footage: tuple[str, ...] = ()
    model: str | None = None
    out: Path = Path("demo")
    network_steps: int = 120
    steps: int = 500

    def __post_init__(self) -> None:
        for name in ("network_steps", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(DemoOptions, prog="python -m jobs.demo", argv=argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait in a loop starve what else runs here
    try:
        connect(is_quiet=True)  # once, for all jobs; they show their own progress
    except MachineFault as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_STORE
    return demo(options)


def demo(options: DemoOptions) -> int:
    """Run it; the exit code of the first step that fails, else 0. The same command again goes on where it ended.

    Where footage cannot be trained on, there is a page of what became of it all the same.
    """
    way, is_blemished = Way.of(options), False
    times = Times()
    for name, step in way.steps(options):
        with times.of(name):
            code = step()
        if code == EXIT_REFUSED and name == NETWORK_STEP:
            report.main(way.report(""))
        if code not in (0, EXIT_OVER_BUDGET):
            return code
        is_blemished |= code == EXIT_OVER_BUDGET
    remark = REMARK.format(clips=Store.at(way.store).open("clips").count_rows("keep"))
    say(f"\n{remark}\n{times.told()}\n")
    return report.main(way.report(remark)) or (EXIT_OVER_BUDGET if is_blemished else 0)


@dataclass(slots=True)
class Times:
    """How long each step took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        say(f"\n== {name}")
        began_s = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began_s

    def told(self) -> str:
        each = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return f"{sum(self.seconds.values()):.0f} s in all: {each}"


@dataclass(frozen=True, slots=True)
class Way:
    """Where everything of one demo is: below one folder."""

    folder: Path
    footage: tuple[str, ...]

    @staticmethod
    def of(options: DemoOptions) -> Way:
        given = tuple(os.path.abspath(spec) if "://" not in spec else spec for spec in options.footage)
        name = f"{Path(given[0]).name}-{digest(*given)[:6]}" if given else "film"
        folder = options.out / name
        return Way(folder, given or (str(folder / "footage"),))

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    @property
    def network_run(self) -> Path:
        return self.folder / "network"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def steps(self, options: DemoOptions) -> Iterator[tuple[str, Callable[[], int]]]:
        """Each with its name; what it returns is a job's exit code."""
        store, network = ("--store", self.store), str(self.network_run / "network")
        if not options.footage:
            yield "film", self.film
        yield "curate", lambda: curate.main(["--footage", *self.footage, *store])
        model = ["--model", options.model] if options.model else []
        yield "caption", lambda: caption.main([*store, *model])
        steps = ["--steps", str(options.network_steps), "--checkpoint-steps", str(options.network_steps)]
        to = ["--run", str(self.network_run), "--what", "network"]
        yield NETWORK_STEP, lambda: train.main([*store, *to, *NETWORK, *steps])
        yield "encode", lambda: encode.main([*store, "--network", network, *FIT])
        looks = str(-(-options.steps // LOOKS))
        often = ["--steps", str(options.steps), "--checkpoint-steps", looks, "--sample-steps", looks]
        to = ["--run", str(self.run), "--network", network]
        yield "train the transformer", lambda: train.main([*store, *to, *TRANSFORMER, *often])
        yield "sample", self.sample

    def film(self) -> int:
        """Made once: a source that is written anew is another file to whoever cuts a rejected clip of it again."""
        folder, partial = Path(self.footage[0]), self.folder / ".footage"
        if folder.exists():
            say(f"nothing to do: the film is in {folder}")
            return 0
        say(f"making a film in {folder}")
        shutil.rmtree(partial, ignore_errors=True)
        make_film(partial)
        partial.rename(folder)
        return 0

    # -- samples

    def asked(self) -> list[tuple[Path, str, tuple[str, ...]]]:
        """Files with what is asked for: prompts that were trained on, at two aspects; one that was not; an image."""
        folder = self.folder / "samples"
        wide, upright = trained_prompts(Store.at(self.store))
        sizes = WIDESCREEN, UPRIGHT, UPRIGHT, (*WIDESCREEN, "--seconds", "0")
        prompts = wide, upright, UNSEEN_PROMPT, wide
        return list(zip((folder / name for name in SAMPLES), prompts, sizes, strict=True))

    def sample(self) -> int:
        (self.folder / "samples").mkdir(exist_ok=True)
        lacking = [each for each in self.asked() if not each[0].exists()]
        if not lacking:
            say("nothing to do: all samples are there")
        for file, prompt, size in lacking:
            code = sample.main(["--run", str(self.run), "--prompt", prompt, "--out", str(file), *SAMPLED, *size])
            if code:
                return code
        return 0

    def report(self, remark: str) -> list[str]:
        """Options for a page of what is there."""
        samples = [str(path) for name in SAMPLES if (path := self.folder / "samples" / name).exists()]
        runs = [
            str(run) for run in (self.run, self.network_run) if (run / "model").exists() or (run / "network").exists()
        ]
        asked = ["--store", self.store, "--out", str(self.folder / "page"), "--remark", remark]
        return [*asked, *(["--run", *runs] if runs else []), *(["--samples", *samples] if samples else [])]


def trained_prompts(store: Store) -> tuple[str, str]:
    """A caption of the first clip that is wider than high, and of the first that is not, where there are such."""
    shapes = store.open("clips").to_table(columns=["clip_id", "width", "height"], filter="keep").to_pylist()
    is_wide = {row["clip_id"]: row["width"] > row["height"] for row in shapes}
    rows = store.open("captions").to_table(columns=["clip_id", "text"], filter="kind = 'descriptive'").to_pylist()
    said = sorted((row["clip_id"], row["text"]) for row in rows if row["text"] and row["clip_id"] in is_wide)
    wide = [text for clip_id, text in said if is_wide[clip_id]]
    upright = [text for clip_id, text in said if not is_wide[clip_id]]
    first = (wide or upright or [UNSEEN_PROMPT])[0]
    return first, (upright or [first])[0]


if __name__ == "__main__":
    sys.exit(main())
