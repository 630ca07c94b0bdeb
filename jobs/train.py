"""Training, on Ray Train.

a store's tables, their versions pinned → the list of its clips, each with its fate → an estimate → workers: packs read
from blobs or latents, steps, checkpoints → a model that jobs.sample takes
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from curation.model_files import BadModel
from curation.store import Store, StoreUnavailable
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.progress import duration_words, size_words
from jobs.ray_train import Workers
from jobs.runs import EXIT_CODES, exit_code_of, recorded_run, say
from jobs.train_options import TrainOptions
from jobs.train_run import BadRun, close_killed, facts_of, forgotten_if_refused, only_one, pin, weights_id
from jobs.train_workers import run_workers
from trainer.checkpoint import CONFIG, WEIGHTS, BadCheckpoint, read_config
from trainer.epoch import EpochConfig
from trainer.geometry import Compression
from trainer.latents import LatentSpace, space_of
from trainer.model.trained import Trained
from trainer.network.compression import CompressionNetwork
from trainer.network.config import PRESETS as NETWORK_PRESETS
from trainer.packing import PackConfig
from trainer.pretrained_text import pretrained_encoder_id
from trainer.reading.clips import ClipList, ClipSource, LatentSource
from trainer.reading.fates import fates_table
from trainer.reading.listing import list_clips
from trainer.reading.plan_table import Plans
from trainer.reading.slots import NothingReadable, SlotReader
from trainer.training.estimate import Estimate, NotEnoughSpace, estimate, network_estimate, refuse_unless_room
from trainer.training.files import RunFiles
from trainer.training.guard import Diverged
from trainer.training.metrics import matmul_flops
from trainer.training.previews import Asked
from trainer.training.state import trained_parameters
from trainer.training.work import NetworkWork, TransformerWork

__all__ = ["TrainOptions", "main"]

EXIT_REFUSED = 2
SAMPLED = 4  # prompts, where none are given
WORDS_ASSUMED = 60


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(TrainOptions, prog="python -m jobs.train", argv=argv, more=EXIT_CODES)
    try:
        return exit_code_of("train", lambda: train(options))
    except (BadRun, BadModel, BadCheckpoint, NotEnoughSpace, NothingReadable, Diverged) as error:
        print(f"train: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED


def train(options: TrainOptions) -> int:
    """Run the job; the exit code. Raises StoreUnavailable, MachineFault, BadRun and the errors of `main`."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    refuse_unless_condition(store, options.where, "train")
    if options.wandb is not None and find_spec("wandb") is None:
        raise BadRun(f"wandb={options.wandb}: its package is missing; pip install wandb, or leave it out")
    files = RunFiles(options.run.absolute())
    with only_one(files):
        try:
            with forgotten_if_refused(files):
                facts = facts_of(options, store, files)
                make = network_work if is_network(options) else transformer_work
                work = make(options, store, files, facts)
        except ValueError as error:
            raise error if isinstance(error, BadCheckpoint) else BadRun(str(error)) from error
        result = files.network if is_network(options) else files.model
        if (result / CONFIG).is_file() and (files.directory / "finished").is_file():
            say(f"nothing to do: {result} is what this run made")
            return 0
        close_killed(store, options)
        with recorded_run(store, "train", options) as (run_id, counts):
            asked = Workers(options.workers, options.cpus_per_worker, options.num_gpus, options.restarts)
            run_workers(asked, work)
            steps = files.steps()
            counts |= {"steps": len(steps), "loss": steps[-1]["loss"] if steps else None, "out": str(result)}
            counts["replaced"] = sum(line["replaced"] for line in steps)
            is_finished = len(steps) == options.train.steps
            if is_finished:
                (files.directory / "finished").write_text(run_id + "\n", encoding="utf-8")
        say(summary(steps, files))
        if not is_finished:
            say(f"ended early, as {files.stop_file} asked; the same command goes on to step {options.train.steps}")
        say(f"trained: {said_next(options, result)}")
    return 0


def is_network(options: TrainOptions) -> bool:
    return options.what == "network"


# -- the transformer


def transformer_work(options: TrainOptions, store: Store, files: RunFiles, facts: Mapping[str, Any]) -> TransformerWork:
    """All that workers need, looked at and told before they start. Raises ValueError, BadModel, StoreUnavailable."""
    space = space_of(str(options.network))
    encoder_id = pretrained_encoder_id(options.text_encoder) if options.text_encoder else ""
    pin(files, {"network": space.network_id, "text_encoder": encoder_id, "init": weights_id(options.init)})
    source = clip_source(options, store, space, encoder_id, facts)
    text_width = embedding_width(store, facts, encoder_id) if encoder_id else None
    begun = read_config(options.init, Trained) if options.init else None
    transformer = options.model.config(space, text_width, begun.transformer if begun else None)
    trained = Trained(transformer, options.flow, space.network_id, encoder_id)
    if begun is not None:
        refuse_unless_of_one_kind(options, begun, trained)
    clips = listed(source, transformer.compression, options, files)
    plans = Plans(files.plans, epochs_of(options, clips, transformer.compression))
    say(fates_told(plans, source))
    work = TransformerWork(
        store, files, facts["run_id"], trained, plans.config, options.mask, options.mix, options.reading, options.train,
        anywhere(str(options.network)), Asked((), ()), options.sampling, absolute(options.init), options.lora_rank,
        options.wandb,
    )  # fmt: skip
    asked = asked_samples(options, SlotReader(store, plans, transformer, options.train.seed, options.mask, options.mix))
    need = transformer_estimate(options, work, plans)
    say(told(need, options))
    refuse_unless_room(files.directory, need.disk_bytes)
    keep_network(str(options.network), files)
    return replace(work, asked=asked)


def epochs_of(options: TrainOptions, clips: ClipList, compression: Compression) -> EpochConfig:
    """How epochs of these clips are planned, the bound on packs' squared lengths worked out from theirs."""
    packs = options.packs
    unbound = EpochConfig(
        options.fit, PackConfig(packs.budget_tokens), compression, options.train.seed, 0, packs.slots,
        packs.picture_share,
    )  # fmt: skip
    lengths = [tokens for tokens in fates_table(clips, unbound)["tokens"].to_pylist() if tokens]
    return replace(unbound, pack=packs.config(lengths, options.fit.max_tokens))


def refuse_unless_of_one_kind(options: TrainOptions, begun: Trained, trained: Trained) -> None:
    """Raises BadCheckpoint where a model cannot be tuned into what is asked for."""
    for name, was, is_now in (
        ("transformer", begun.transformer, trained.transformer),
        ("network", begun.network_id, trained.network_id),
        ("text_encoder", begun.encoder_id, trained.encoder_id),
        ("prediction", begun.flow.prediction, trained.flow.prediction),
    ):
        if was != is_now:
            raise BadCheckpoint(f"init={options.init}: its {name} is {was}, and {is_now} is asked for")


def clip_source(
    options: TrainOptions, store: Store, space: LatentSpace, encoder_id: str, facts: Mapping[str, Any]
) -> ClipSource:
    """Raises ValueError, StoreUnavailable."""
    if facts["captions_version"] is None:
        raise StoreUnavailable(f"{store.uri}: has no captions; make some with jobs.caption")
    has_latents = facts["latents_version"] is not None and bool(
        store.open("latents", facts["latents_version"]).count_rows(
            f"network_id = '{space.network_id}' AND kind = 'clip' AND failure IS NULL"
        )
    )
    if options.latents and not has_latents:
        raise ValueError(
            f"latents=True: {store.uri} has none of network {options.network}; make them with jobs.encode, or leave "
            "out --latents"
        )
    reads_latents = has_latents if options.latents is None else options.latents
    if options.fit.square_crop and options.latents is None:
        reads_latents = False  # what was encoded ahead was not cropped
    latents = None
    if reads_latents or encoder_id:
        if facts["latents_version"] is None:
            raise ValueError(f"text_encoder={options.text_encoder}: {store.uri} has no embeddings; run jobs.encode")
        latents = LatentSource(
            facts["latents_version"], space.network_id if reads_latents else None, encoder_id or None
        )
    versions = facts["clips_version"], facts["captions_version"]
    return ClipSource(store, *versions, options.where, options.captions_where, latents)


def embedding_width(store: Store, facts: Mapping[str, Any], encoder_id: str) -> int:
    """D of the embeddings that jobs.encode wrote. Raises ValueError."""
    latents = store.find("latents", facts["latents_version"]) if facts["latents_version"] else None
    where = f"network_id = '{encoder_id}' AND kind = 'text' AND failure IS NULL"
    rows = latents.to_table(columns=["latent_shape"], filter=where, limit=1).to_pylist() if latents else []
    if not rows:
        raise ValueError(
            f"text_encoder: {store.uri} has no embeddings of it; make them with jobs.encode --text-encoder"
        )
    return rows[0]["latent_shape"][-1]


def listed(source: ClipSource, compression: Compression, options: TrainOptions, files: RunFiles) -> ClipList:
    try:
        return ClipList(files.plans)
    except FileNotFoundError:
        say("listing the clips")
        return list_clips(source, compression, options.fit.max_tokens, files.plans)


def asked_samples(options: TrainOptions, reader: SlotReader) -> Asked:
    """The prompts to sample as it goes: those of the user at the size of the first clips, or their own captions."""
    if not options.train.sample_steps:
        return Asked((), ())
    batch = reader.read(0, 0)
    own = [n for n, text in enumerate(batch.captions) if text][:SAMPLED]
    if not own:
        return Asked((), ())
    if options.prompts:
        places = [own[n % len(own)] for n in range(len(options.prompts))]
        return Asked(options.prompts, tuple(batch.pack.geometries[n] for n in places))
    geometries = tuple(batch.pack.geometries[n] for n in own)
    prompts = tuple(batch.captions[n] for n in own)
    if not options.text_encoder:
        return Asked(prompts, geometries)
    texts: Any = batch.texts
    parts = torch.split(texts.z_WD, list(texts.segments.lengths))
    return Asked(prompts, geometries, (*(parts[n] for n in own), reader.no_text()))


def absolute(path: Path | None) -> Path | None:
    """What means the same in a worker, which Ray starts in a directory of its own."""
    return path.absolute() if path else None


def anywhere(spec: str) -> str:
    """The same for what may be a name as well."""
    return str(Path(spec).absolute()) if Path(spec).exists() else spec


def keep_network(spec: str, files: RunFiles) -> None:
    """A copy of a network of ours beside the model, so that the run is whole by itself."""
    directory = Path(spec)
    if all((directory / name).is_file() for name in (CONFIG, WEIGHTS)) and not files.network.exists():
        partial = files.directory / ".network"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(directory / name, partial / name)
        partial.rename(files.network)


# -- the compression network


def network_work(options: TrainOptions, store: Store, files: RunFiles, facts: Mapping[str, Any]) -> NetworkWork:
    """Raises ValueError, StoreUnavailable."""
    pin(files, {"init": weights_id(options.init)})
    source = ClipSource(store, facts["clips_version"], None, options.where)
    clips = listed(source, options.compression, options, files)
    work = NetworkWork(
        store, files, facts["run_id"], NETWORK_PRESETS[options.network_preset], options.crops, options.losses,
        options.reading, options.train, options.packs.slots, absolute(options.perceptual_weights),
        absolute(options.init), options.wandb,
    )  # fmt: skip
    suitable = len(work.reader().suitable)
    c = options.crops
    say(f"{len(clips)} clips seen; crops of {c.crop_frames} frames and {c.crop_px} px are taken of {suitable} of them")
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in CompressionNetwork(work.network).parameters())
    need = network_estimate(parameters, options.train)
    say(told(need, options))
    refuse_unless_room(files.directory, need.disk_bytes)
    return work


# -- what is said


def fates_told(plans: Plans, source: ClipSource) -> str:
    """A funnel of the clips, and how many steps an epoch has."""
    counts = plans.fates.counts()
    seen, trained = counts.pop("seen"), counts.pop("trained")
    lines = [f"{seen} clips seen, {trained} are trained on"]
    lines += [f"  left out, {reason}: {count}" for reason, count in counts.items()]
    read = "latents" if plans.clips.has_latents else "pixels"
    lines.append(f"read as {read}; an epoch is {plans.epoch_steps(0)} steps of {plans.config.slots} packs")
    lines.append(f"every clip's fate: {plans.directory}")
    return "\n".join(lines)


def transformer_estimate(options: TrainOptions, work: TransformerWork, plans: Plans) -> Estimate:
    with torch.device("meta"):
        model = replace(work, init=None).model()
        parameters = sum(weight.numel() for weight in trained_parameters(model).values())
    grids = [[planned.geometry.grid for planned in plans.samples(0, slot)] for slot in range(options.packs.slots)]
    is_shared = options.train.parallel == "shard" or (options.train.parallel == "auto" and torch.cuda.is_available())
    shards = options.workers if is_shared else 1
    budget = options.packs.budget_tokens
    return estimate(work.trained.transformer, options.train, parameters, grids, budget, WORDS_ASSUMED, shards)


def told(need: Estimate, options: TrainOptions) -> str:
    line = (
        f"{need.parameters / 1e6:.1f} million parameters are trained; estimated: memory "
        f"{size_words(need.memory_bytes)} a worker, disk {size_words(need.disk_bytes)}"
    )
    if need.step_flops and not torch.cuda.is_available():
        rate = matmul_flops("cpu", torch.float32)
        line += (
            f", time about {duration_words(need.seconds(options.train.steps, rate))} for {options.train.steps} steps"
        )
    return line


def summary(steps: Sequence[Mapping[str, Any]], files: RunFiles) -> str:
    if not steps:
        return f"no step was taken; see {files.directory}"
    last = [line for line in steps[-50:] if line["loss"] is not None]
    loss = sum(line["loss"] for line in last) / max(1, len(last))
    seconds = sum(line["seconds"] for line in steps)
    tokens = sum(line["tokens"] for line in steps)
    waiting = sum(line["data_wait"] * line["seconds"] for line in steps) / max(1e-9, seconds)
    left_out = sum(line["verdict"] != "taken" for line in steps)
    return (
        f"{len(steps)} steps in {duration_words(seconds)}, {tokens / max(1e-9, seconds):.0f} tokens/s, "
        f"{100 * waiting:.1f} % of the time waiting for data; loss {loss:.4f} over the last {len(last)} steps; "
        f"{left_out} steps left out by the guard, {sum(line['replaced'] for line in steps)} samples replaced\n"
        f"metrics: tensorboard --logdir {files.events}"
    )


def said_next(options: TrainOptions, result: Path) -> str:
    if is_network(options):
        return f"python -m jobs.encode --store {options.store} --network {result}"
    return f'python -m jobs.sample --run {options.run} --prompt "…" --out sample.mp4'


if __name__ == "__main__":
    sys.exit(main())
