"""What the workers of a training run are sent: looked at, pinned, listed and told before they start.

a store's tables, their versions pinned → the list of its clips, each with its fate → an estimate → work
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from curation.store import Store, StoreUnavailable
from jobs.progress import duration_words, size_words
from jobs.runs import say
from jobs.train_options import TrainOptions
from jobs.train_run import file_id, pin, weights_id
from trainer.checkpoint import CONFIG, WEIGHTS, BadCheckpoint, read_config
from trainer.epoch import EpochConfig
from trainer.geometry import Compression
from trainer.latents import LatentSpace, space_of
from trainer.model.trained import Trained
from trainer.network.compression import CompressionNetwork
from trainer.network.config import PRESETS as NETWORK_PRESETS
from trainer.network.config import RGB
from trainer.packing import PackConfig
from trainer.pretrained_text import pretrained_encoder_id
from trainer.reading.clips import ClipList, ClipSource, LatentSource
from trainer.reading.fates import fates_table
from trainer.reading.listing import list_clips
from trainer.reading.plan_table import Plans
from trainer.reading.slots import SlotReader
from trainer.training.crew import Crew
from trainer.training.estimate import Estimate, estimate, network_estimate, refuse_unless_room
from trainer.training.files import RunFiles
from trainer.training.metrics import matmul_flops
from trainer.training.previews import Asked
from trainer.training.state import trained_parameters
from trainer.training.work import NetworkWork, TransformerWork

__all__ = ["network_work", "transformer_work"]

SAMPLED = 4  # prompts, where none are given
WORDS_ASSUMED = 60


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
    say(fates_told(plans, options))
    work = TransformerWork(
        store=store,
        files=files,
        run_id=facts["run_id"],
        trained=trained,
        epochs=plans.config,
        mask=options.mask,
        mix=options.mix,
        reading=options.reading,
        train=options.train,
        space=anywhere(str(options.network)),
        asked=Asked((), ()),
        sampling=options.sampling,
        init=absolute(options.init),
        lora_rank=options.lora_rank,
        wandb_project=options.wandb,
    )
    asked = asked_samples(options, SlotReader(store, plans, transformer, options.train.seed, options.mask, options.mix))
    need = transformer_estimate(options, work, plans)
    say(told(need, options))
    refuse_unless_room(files.directory, need.disk_bytes - held_bytes(files.checkpoints))
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
    said = reader.said(0, 0)
    own = [n for n, text in enumerate(said.captions) if text][:SAMPLED]
    if not own:
        return Asked((), ())
    if options.prompts:
        places = [own[n % len(own)] for n in range(len(options.prompts))]
        return Asked(options.prompts, tuple(said.geometries[n] for n in places))
    geometries = tuple(said.geometries[n] for n in own)
    prompts = tuple(said.captions[n] for n in own)
    if not options.text_encoder:
        return Asked(prompts, geometries)
    texts: Any = said.texts
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
    pin(files, {"init": weights_id(options.init), "perceptual_weights": file_id(options.perceptual_weights)})
    source = ClipSource(store, facts["clips_version"], None, options.where)
    listed(source, options.compression, options, files)
    work = NetworkWork(
        store=store,
        files=files,
        run_id=facts["run_id"],
        network=NETWORK_PRESETS[options.network_preset],
        crops=options.crops,
        weights=options.losses,
        reading=options.reading,
        train=options.train,
        slots=options.packs.slots,
        perceptual=absolute(options.perceptual_weights),
        init=absolute(options.init),
        wandb_project=options.wandb,
    )
    c = options.crops
    counts = work.reader().fates()
    say(funnel(counts, f"crops of {c.crop_frames} frames and {c.crop_px} px are taken of {counts['trained']} of them"))
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in CompressionNetwork(work.network).parameters())
    shape_BCTHW = (c.crops, RGB, c.crop_frames, c.crop_px, c.crop_px)
    need = network_estimate(work.network, options.train, parameters, shape_BCTHW, options.packs.slots, crew_of(options))
    say(told(need, options))
    refuse_unless_room(files.directory, need.disk_bytes - held_bytes(files.checkpoints))
    return work


# -- what is said


def funnel(counts: Mapping[str, int], trained: str) -> str:
    reasons = [f"  left out, {name}: {count}" for name, count in counts.items() if name not in ("seen", "trained")]
    return "\n".join([f"{counts['seen']} clips seen, {trained}", *reasons])


def fates_told(plans: Plans, options: TrainOptions) -> str:
    """A funnel of the clips and of their frames, and how many steps an epoch has."""
    counts = plans.fates.counts()
    lines = [funnel(counts, f"{counts['trained']} are trained on")]
    frames, left_out = (int(plans.fates.column(name).sum()) for name in ("frames", "frames_left_out"))
    lines.append(f"of {frames + left_out} frames {frames} are trained on: whole patches that fit and were encoded")
    read = "latents" if plans.clips.has_latents else "pixels"
    lines.append(f"read as {read}; an epoch is {plans.epoch_steps(0)} steps of {plans.config.slots} packs")
    if plans.clips.has_latents and options.latents is None and counts.get("no_latent"):
        lines.append(
            f"note: {counts['no_latent']} clips are left out because they have no latents, and the store has some of "
            "this network; run jobs.encode for all of them, or give --latents False to decode clips as they are needed"
        )
    lines.append(f"every clip's fate: {plans.directory}")
    return "\n".join(lines)


def held_bytes(checkpoints: Path) -> int:
    """What is on the disk already of what a run needs."""
    return sum(file.stat().st_size for file in checkpoints.rglob("*") if file.is_file())


def transformer_estimate(options: TrainOptions, work: TransformerWork, plans: Plans) -> Estimate:
    with torch.device("meta"):
        model = replace(work, init=None).model()
        parameters = sum(weight.numel() for weight in trained_parameters(model).values())
    grids = [[planned.geometry.grid for planned in plans.samples(0, slot)] for slot in range(options.packs.slots)]
    budget = options.packs.budget_tokens
    return estimate(work.trained.transformer, options.train, parameters, grids, budget, WORDS_ASSUMED, crew_of(options))


def crew_of(options: TrainOptions) -> Crew:
    """As the workers will be, where they have the GPUs that this machine has."""
    device = "cuda" if torch.cuda.is_available() or options.num_gpus > 0 else "cpu"
    return Crew(0, options.workers, device, options.train.context_parallel)


def told(need: Estimate, options: TrainOptions) -> str:
    line = (
        f"{need.parameters / 1e6:.1f} million parameters are trained; estimated: memory "
        f"{size_words(need.memory_bytes)} a worker, disk {size_words(need.disk_bytes)}"
    )
    if not torch.cuda.is_available():
        rate = matmul_flops("cpu", torch.float32)
        line += (
            f", time about {duration_words(need.seconds(options.train.steps, rate))} for {options.train.steps} steps"
        )
    return line
