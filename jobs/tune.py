"""Tuning a captioner, on Ray Train.

caption rows of a store, chosen by query → held-out ones aside → test → short captions → test → descriptive ones → test
→ a directory that vLLM serves
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.tune_config import STAGES, TuneConfig
from captioner.tune_data import BadTuning, Examples, TuneSource, examples_of
from captioner.windows import WindowConfig
from curation.conditions import check_condition
from curation.model_files import BadModel, content_id
from curation.records import digest
from curation.store import Store
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.ray_train import Workers
from jobs.runs import EXIT_CODES, JobRun, exit_code_of, job_run, say
from jobs.tune_workers import RESTARTS, Work, train

if TYPE_CHECKING:
    from captioner.tune_files import TuneFiles

__all__ = ["TuneOptions", "main"]

EXIT_BAD_TUNING = 2


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """Tune a captioner: first on short captions of the main subject, then on descriptive ones. The same command again
    goes on where it was stopped.

    Attributes:
        store: Folder or address of the store whose captions are learnt from.
        model: Directory or hub id of a vision-language model of transformers.
        out: Directory for the tuned model, with its checkpoints while it is not finished; seen by all workers.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        where: SQL condition on the columns of `clips`.
        captions_where: SQL condition on the columns of `captions`, such as "model = 'mine'"; kinds are chosen by the
            stages. By default those in which the checks found nothing.
        workers: Processes that tune together; each holds the whole model.
        cpus_per_worker: CPUs of each, for decoding, and for the model where there is no GPU.
        num_gpus: GPUs of each; -1 for one where the cluster has any.
        cache_mb: Memory of each for clips that were decoded before.
        checkpoint_steps: A checkpoint is written after so many steps.
        keep_stages: Also leave the model as it was after the first stage, in OUT/short.
        windows: How a clip is shown; show it the same when the tuned model is asked.
        tune: How is tuned.
    """

    store: str
    model: str
    out: Path
    storage_options: dict[str, str] | None = None
    where: str = "keep"
    captions_where: str = "coalesce(array_length(flags), 0) = 0"
    workers: int = 1
    cpus_per_worker: int = 2
    num_gpus: float = -1.0
    cache_mb: int = 2048
    checkpoint_steps: int = 100
    keep_stages: bool = False
    windows: WindowConfig = field(default_factory=WindowConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        for name in ("workers", "cpus_per_worker", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.cache_mb < 0:
            raise ValueError(f"cache_mb={self.cache_mb}: must not be negative")
        if self.num_gpus < 0 and self.num_gpus != -1:
            raise ValueError(f"num_gpus={self.num_gpus}: must not be negative, or -1")
        if self.tune.batch_size % self.workers:
            raise ValueError(f"batch_size={self.tune.batch_size}: must be a multiple of workers={self.workers}")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(TuneOptions, prog="python -m jobs.tune", argv=argv, more=EXIT_CODES)
    try:
        return exit_code_of("tune", lambda: tune_captioner(options))
    except (BadModel, BadTuning) as error:
        print(f"tune: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_TUNING


def tune_captioner(options: TuneOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, BadModel, BadTuning."""
    from captioner.tune import Tuning
    from captioner.tune_files import TuneFiles
    from captioner.tune_model import refuse_unless_tunable

    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    refuse_unless_condition(store, options.where, "tune")
    refuse_unless_captions_condition(store, options.captions_where)
    directory = refuse_unless_tunable(options.model)
    files = TuneFiles(options.out.absolute())
    tuning_id = identity_of(options, directory, store)
    if files.finished() == tuning_id:
        say(f"nothing to do: {options.out} holds this tuning, finished")
        return 0
    with job_run(store, "tune", options, lease_name="tunings") as run:
        source = source_of(options, store, files, tuning_id)
        examples = examples_of(source, options.tune)
        mark_as_started(options, files, tuning_id, source)
        say(described(examples))
        tuning = Tuning(options.tune, files, options.checkpoint_steps, options.keep_stages)
        work = Work(str(directory), source, options.windows, tuning, options.cache_mb, options.cpus_per_worker)
        train(Workers(options.workers, options.cpus_per_worker, options.num_gpus, RESTARTS), work)
        finish(run, files, tuning_id, source, examples, options)
    return 0


def refuse_unless_captions_condition(store: Store, where: str) -> None:
    """End the job with exit code 2 where the captions cannot be asked this."""
    if (captions := store.find("captions")) is None:
        raise BadTuning(f"{store.uri} has no captions; make some with jobs.caption")
    try:
        check_condition(captions, where)
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0][:300]
        raise BadTuning(f"captions_where={where}: cannot be asked of the captions: {text}") from None


def identity_of(options: TuneOptions, directory: Path, store: Store) -> str:
    """What decides what comes out, but for the versions of the tables, which the first run pins."""
    model = content_id("model", directory)
    asked = store.uri, options.where, options.captions_where
    return digest("tuning", model, *asked, asdict(options.tune), asdict(options.windows))


def source_of(options: TuneOptions, store: Store, files: TuneFiles, tuning_id: str) -> TuneSource:
    """The captions that an interrupted run began with, else those that there are now. Raises BadTuning where the result
    directory holds something else."""
    started = files.read("started.json")
    if started and started["tuning_id"] != tuning_id:
        raise BadTuning(f"out={options.out}: holds a tuning with other settings or data; give another, or remove it")
    if not started and options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise BadTuning(f"out={options.out}: is not empty and holds no tuning that could go on; give another directory")
    tables = ("clips", "captions")
    clips, captions = (started.get(f"{table}_version") or store.open(table).version for table in tables)
    return TuneSource(store, clips, captions, options.where, options.captions_where)


def mark_as_started(options: TuneOptions, files: TuneFiles, tuning_id: str, source: TuneSource) -> None:
    """Pin what a run that goes on will find. Raises BadTuning where the result directory cannot be written."""
    versions = {"clips_version": source.clips_version, "captions_version": source.captions_version}
    try:
        files.write("started.json", {"tuning_id": tuning_id, **versions})
    except OSError as error:
        raise BadTuning(f"out={options.out}: cannot be written: {error.strerror}") from error


def described(examples: Examples) -> str:
    return "\n".join(
        f"{kind}: {len(examples.learnt[kind])} captions to learn from, {len(examples.held_out[kind])} held out"
        for kind in STAGES
    )


# -- the end


def finish(
    run: JobRun, files: TuneFiles, tuning_id: str, source: TuneSource, examples: Examples, options: TuneOptions
) -> None:
    """Say what was reached, in the result directory too, and clear the checkpoints away."""
    tests = files.read("tests.json")
    say(table_of(tests))
    run.counts = {
        "learnt": {kind: len(examples.learnt[kind]) for kind in STAGES},
        "held_out": {kind: len(examples.held_out[kind]) for kind in STAGES},
        "steps": {kind: options.tune.steps(kind) for kind in STAGES},
        "tests": tests,
        "out": str(options.out),
    }
    files.finish(
        {
            "tuning_id": tuning_id,
            "run_id": run.run_id,
            "model": options.model,
            "config": asdict(options.tune),
            "windows": asdict(options.windows),
            "data": {
                "store": source.store.uri,
                "clips_version": source.clips_version,
                "captions_version": source.captions_version,
                "where": source.where,
                "captions_where": source.captions_where,
                "data_id": examples.data_id,
            },
            **run.counts,
        }
    )
    say(f"tuned: python -m jobs.caption --store {options.store} --captioner vllm --model {options.out}")


def table_of(tests: dict[str, dict[str, dict[str, float]]]) -> str:
    """What the tests said, a line a moment and kind."""
    lines = [f"{'held-out captions':22}{'kind':14}{'loss':>8}{'word F1':>10}{'ROUGE-L':>10}"]
    for when, kinds in tests.items():
        for kind, said in kinds.items():
            lines.append(f"{when:22}{kind:14}{said['loss']:8.3f}{said['token_f1']:10.3f}{said['rouge_l']:10.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
