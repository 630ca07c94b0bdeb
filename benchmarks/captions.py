"""Caption output tokens/s of the job against `vllm bench throughput` of the same model, lengths and machine, by turns.

Loading is left out of both: the job's clock runs from the first window that reaches the engine to the last answer,
decoding and cutting into windows included, and vLLM's from the first request to the last. The reference is given as
many requests, the same mean lengths, engine arguments and environment, and videos of the same size (`random-mm`), or
no pictures at all (`random`), which favours it. It enforces no schema and draws from random prompts.

The model is made on the spot where none is named: a Qwen2-VL of random weights that always says as much as it may.
It has a hundred million of them, because with a tiny one Ray and Python would be measured and not an engine.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from benchmarks.caption_runs import JOB, arguments_for, output_of
from benchmarks.figures import finish
from captioner.tiny_model import make_tiny_model
from curation.film import Edit, Encoding, SceneSpec, encode_film, render
from curation.store import Store
from jobs.cli import parse
from tests.stores import curate_in_process

TO_REACH, STRETCH = 0.90, 0.95
RATE, CLIP_S, SIDE_PX = Fraction(12), 4, 224
PROBES = 4  # requests of the run that tells how many tokens the reference's own prompt comes to
# What both get: the same room for keys and values, and threads that vLLM binds to the cores that it may use.
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
# What `vllm bench throughput` runs: that program asks for the version of a package `vllm`, and vllm-cpu is another.
BENCH = (
    "from vllm.benchmarks.throughput import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "parser = FlexibleArgumentParser()\n"
    "add_cli_args(parser)\n"
    "main(parser.parse_args())"
)
RATE_OF_OUTPUT = re.compile(r"([\d.]+) output tokens/s")
PROMPT_TOKENS = re.compile(r"Total num prompt tokens:\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Options:
    """Output tokens/s of jobs.caption and of `vllm bench throughput`, by turns.

    Attributes:
        model: Directory or hub id of a vision-language model; without it, one of random weights.
        footage: Folder with footage; without it, short clips are made. They should be alike in size and length.
        json: File for the figures, {name: value}.
        windows: How many windows are captioned, as far as the footage has them.
        output_tokens: Longest answer.
        rounds: How often each is measured.
        reference: What the reference is asked: random text with a random video, or random text alone.
        hidden: Width of the model that is made.
        layers: Its layers.
        sample_fps: Frames that are shown of each second.
        max_num_seqs: Requests that the engine works on at once.
        max_num_batched_tokens: Tokens that it takes in one step.
        max_model_len: Longest prompt and answer together, in tokens.
        engine_args: More engine arguments for both, name and value.
        job_args: More options of the job alone.
    """

    model: str | None = None
    footage: Path | None = None
    json: Path | None = None
    windows: int = 96
    output_tokens: int = 128
    rounds: int = 3
    reference: Literal["random-mm", "random"] = "random-mm"
    hidden: int = 768
    layers: int = 12
    sample_fps: float = 2.0
    max_num_seqs: int = 32
    max_num_batched_tokens: int = 4096
    max_model_len: int = 4096
    engine_args: dict[str, str] | None = None
    job_args: tuple[str, ...] = ()

    def shared_args(self) -> dict[str, str]:
        """Engine arguments that job and reference both get."""
        return {
            "max_num_seqs": str(self.max_num_seqs),
            "max_num_batched_tokens": str(self.max_num_batched_tokens),
            **(self.engine_args or {}),
        }


@dataclass(frozen=True, slots=True)
class Work:
    """What the job did in one run, in means of its windows."""

    windows: int
    tokens_in: float
    tokens_out: float
    rate: float  # output tokens/s


def make_clips(folder: Path, clips: int) -> None:
    """Files of one scene each, all of the same size and length."""
    folder.mkdir()
    for number in range(clips):
        spec = SceneSpec(seed=number, frames=int(CLIP_S * RATE), object_x_px_per_s=20.0)
        edit = Edit((spec,), ())
        frames = render(edit, SIDE_PX, SIDE_PX, [i / float(RATE) for i in range(edit.frames)])
        encode_film(folder / f"clip_{number}.mp4", frames, Encoding(rate=RATE, preset="ultrafast"))


def run_job(uri: str, model: str, options: Options) -> Work:
    command = ["-m", JOB, *arguments_for(Store.at(uri), "--captioner", "vllm", "--model", model)]
    command += ["--where", "video_bytes IS NOT NULL", "--limit", str(options.windows), "--attempts", "1"]
    command += ["--max-tokens", str(options.output_tokens)]
    command += ["--sample-fps", str(options.sample_fps), "--frame-pixels", str(SIDE_PX * SIDE_PX)]
    command += ["--max-model-len", str(options.max_model_len)]
    command += ["--engine-args", *(part for pair in options.shared_args().items() for part in pair), *options.job_args]
    output_of(command, ENVIRONMENT)
    runs = Store.at(uri).open("runs").to_table(filter="job = 'caption'").to_pylist()
    (counts,) = [json.loads(row["counts"]) for row in runs]
    answers = counts["clean"] + counts["flagged"]
    if not answers or counts["failed"]:
        raise SystemExit(f"the job had {answers} answers and {counts['failed']} failures")
    rate = 1000 * counts["tokens_out"] / counts["busy_ms"]
    return Work(answers, counts["tokens_in"] / answers, counts["tokens_out"] / answers, rate)


def run_reference(
    model: str, options: Options, requests: int, text_tokens: int, tokens_out: int
) -> tuple[float, float]:
    """Output tokens/s of vLLM, and tokens of a prompt, pictures included. Output lengths are exact."""
    command = ["-c", BENCH, "--model", model]
    command += ["--num-prompts", str(requests), "--max-model-len", str(options.max_model_len)]
    command += ["--random-input-len", str(text_tokens), "--random-output-len", str(tokens_out)]
    command += ["--random-range-ratio", "0", "--seed", "0", "--dataset-name", options.reference]
    if options.reference == "random-mm":
        frames = int(CLIP_S * options.sample_fps)
        command += ["--backend", "vllm-chat", "--random-mm-bucket-config", f"{{({SIDE_PX}, {SIDE_PX}, {frames}): 1.0}}"]
        command += ["--random-mm-limit-mm-per-prompt", json.dumps({"image": 0, "video": 1})]
        command += ["--media-io-kwargs", json.dumps({"video": {"num_frames": -1}})]
        command += ["--limit-mm-per-prompt", json.dumps({"video": 1, "image": 0})]
    for name, value in options.shared_args().items():
        flag = "--" + name.replace("_", "-")
        command += [flag] if value == "true" else [flag, value]
    output = output_of(command, ENVIRONMENT)
    rate, prompt_tokens = RATE_OF_OUTPUT.search(output), PROMPT_TOKENS.search(output)
    if rate is None or prompt_tokens is None:
        raise SystemExit(f"vllm bench throughput told no rate:\n{output[-6000:]}")
    return float(rate[1]), int(prompt_tokens[1]) / requests


def text_tokens_for(model: str, options: Options, job: Work) -> int:
    """How long the reference's text must be for its prompts to be as long as the job's."""
    guess = max(1, round(job.tokens_in) // 2)
    _, tokens_in = run_reference(model, options, PROBES, guess, 1)
    return max(1, round(job.tokens_in - (tokens_in - guess)))


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.captions")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            shape = {"hidden": options.hidden, "layers": options.layers, "vision_hidden": 256, "vision_layers": 4}
            model = str(make_tiny_model(folder / "model", **shape))
        footage = options.footage or folder / "footage"
        if options.footage is None:
            make_clips(footage, options.windows)
        store = Store.at(str(folder / "store"))
        curate_in_process([footage], store)
        jobs: list[Work] = []
        references: list[float] = []
        text_tokens, tokens_in = 0, 0.0
        for number in range(options.rounds):
            copy = shutil.copytree(store.uri, folder / f"store-{number}")
            job = run_job(str(copy), model, options)
            if not text_tokens:
                text_tokens = text_tokens_for(model, options, job)
            rate, tokens_in = run_reference(model, options, job.windows, text_tokens, round(job.tokens_out))
            jobs.append(job)
            references.append(rate)
            print(
                f"round {number + 1}: job {job.rate:.1f} tokens/s ({job.windows} windows, {job.tokens_in:.0f} tokens "
                f"in, {job.tokens_out:.0f} out), vLLM {rate:.1f} ({options.reference}, {tokens_in:.0f} tokens in)",
                flush=True,
            )
    ours, theirs = statistics.median(job.rate for job in jobs), statistics.median(references)
    figures = {
        "windows": jobs[-1].windows,
        "tokens_in": jobs[-1].tokens_in,
        "tokens_out": jobs[-1].tokens_out,
        "reference_tokens_in": tokens_in,
        "job_tokens_per_s": ours,
        "reference_tokens_per_s": theirs,
        "job_to_reference": ours / theirs,
    }
    line = (
        f"caption output tokens/s, job to `vllm bench throughput` ({options.reference}): {ours:.1f} to {theirs:.1f}, "
        f"{ours / theirs:.3f} (to reach: {TO_REACH}, stretch {STRETCH})"
    )
    finish(figures, [line], options.json)
    return 0 if ours / theirs >= TO_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
