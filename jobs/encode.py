"""Latents of clips and embeddings of captions, ahead of training, on Ray.

captions without an embedding → actors: read, written beside the text encoder
clips without a latent at the size that they are trained at → actors: decoded, encoded, written beside the network
→ what is written is committed as it comes
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import ray

from curation.conditions import check_condition, narrowed
from curation.model_files import BadModel
from curation.store import Store
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.encode_actors import EncodeActor, encoding
from jobs.encode_outcome import Committer, Outcome
from jobs.progress import Progress
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, JobRun, exit_code_of, job_run, say
from jobs.score_actors import Supply, batches_of, ready, start_actors
from trainer.encoding import (
    AskedClips,
    AskedTexts,
    WantedLatent,
    latent_bytes,
    wanted_clips,
    wanted_texts,
)
from trainer.geometry import Compression, FitConfig
from trainer.latents import space_of
from trainer.pretrained_text import MAX_TOKENS, pretrained_encoder_id

__all__ = ["EncodeOptions", "main"]

EXIT_REFUSED = 2


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """Latents of clips and embeddings of captions, ahead of training. What is there is not made again.

    A clip or text that fails, or fits no size, gets a row with the reason. It is tried again when another network, text
    encoder or size is asked for, or when its row in `latents` is deleted.

    Attributes:
        store: Folder or address of the store.
        network: pixels-2, -4 or -8 (no network), a directory of a network of ours, or a directory or hub id of a video
            autoencoder of diffusers.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        text_encoder: Directory or hub id of a T5 or UMT5, or of a pipeline with one: captions are read by it as well.
        where: SQL condition on the columns of `clips`; only clips that have video can be encoded.
        captions_where: SQL condition on the columns of `captions`; of these, captions of whole clips are read.
        fit: At what size clips are trained, and so encoded.
        patch_time: Latent frames of a patch of the model that is to be trained.
        patch_space: Latent cells along a side of a patch.
        max_text_tokens: Of a text, its end included; longer texts are not cut but left out, with the reason.
        limit: Encode at most so many clips and so many texts; 0 for all.
        batch_size: Clips or texts that an actor takes at once; they are committed together.
        num_gpus: GPUs an actor; -1 for one where the cluster has any.
        cpus_per_actor: CPUs an actor, for decoding, and for the model where there is no GPU.
        actors: Actors at work; 0 for as many as the cluster has room for.
        max_failed_share: Exit with 1 if more than this share of the clips or texts failed.
    """

    store: str
    network: str
    storage_options: dict[str, str] | None = None
    text_encoder: str | None = None
    where: str = "keep"
    captions_where: str = "coalesce(array_length(flags), 0) = 0"
    fit: FitConfig = field(default_factory=lambda: FitConfig(max_tokens=8192))
    patch_time: int = 1
    patch_space: int = 2
    max_text_tokens: int = MAX_TOKENS
    limit: int = 0
    batch_size: int = 16
    num_gpus: float = -1.0
    cpus_per_actor: int = 2
    actors: int = 0
    max_failed_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("patch_time", "patch_space", "max_text_tokens", "batch_size", "cpus_per_actor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("limit", "actors"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")
        if self.num_gpus < 0 and self.num_gpus != -1:
            raise ValueError(f"num_gpus={self.num_gpus}: must not be negative, or -1")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share={self.max_failed_share}: must be within 0 and 1")
        if self.fit.square_crop:
            raise ValueError("square_crop=True: must be False: a crop's latent would stand for the whole clip")


class Refused(Exception):
    """What was asked for cannot be done; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.encode"
    options = parse(EncodeOptions, prog=prog, argv=argv, more=EXIT_CODES)
    try:
        return exit_code_of("encode", lambda: encode(options))
    except (BadModel, Refused) as error:
        print(f"encode: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED


def encode(options: EncodeOptions) -> int:
    """Run the job; the exit code. Raises Refused, BadModel, StoreBusy, StoreUnavailable, LeaseLost, MachineFault."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    refuse_unless_encodable(store, options)
    clips, texts = asked_clips(options), asked_texts(options)
    with job_run(store, "encode", options, lease_name="latents") as run:
        # Texts first: they take less time, and a text encoder that is none is known at once.
        works = [*([texts_work(store, options, texts)] if texts else []), clips_work(store, options, clips)]
        outcomes = [encode_all(work, options, run) for work in works]
        for outcome in outcomes:
            say(outcome.report())
        return EXIT_OVER_BUDGET if max(o.failed_share() for o in outcomes) > options.max_failed_share else 0


def refuse_unless_encodable(store: Store, options: EncodeOptions) -> None:
    """Raises Refused, SystemExit, StoreUnavailable."""
    refuse_unless_condition(store, options.where, "encode")
    if not store.open("clips").count_rows(narrowed(options.where, "video_bytes IS NOT NULL")):
        raise Refused(
            f"where={options.where}: no clip of {store.uri} meets it and has video; make some with jobs.curate"
        )
    captions = store.find("captions")
    try:
        if captions and options.text_encoder:
            check_condition(captions, options.captions_where)
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0][:300]
        raise Refused(f"captions_where={options.captions_where}: cannot be asked of the captions: {text}") from None


def asked_clips(options: EncodeOptions) -> AskedClips:
    """The network is loaded here once, for its ratios, and to refuse at once what is none. Raises Refused, BadModel."""
    try:
        space = space_of(options.network)
    except ValueError as error:
        raise Refused(f"network={options.network}: {error}") from None
    compression = Compression(space.ratio_time, space.ratio_space, options.patch_time, options.patch_space)
    return AskedClips(options.network, space.network_id, space.latent_channels, compression, options.fit)


def asked_texts(options: EncodeOptions) -> AskedTexts | None:
    """Raises BadModel."""
    if options.text_encoder is None:
        return None
    encoder_id = pretrained_encoder_id(options.text_encoder, options.max_text_tokens)
    return AskedTexts(options.text_encoder, encoder_id, options.max_text_tokens)


# -- clips and texts alike


@dataclass(frozen=True, slots=True)
class Work:
    """Clips or texts: what lacks a latent, of a version of their table, and how large its latent will be."""

    unit: str
    asked: AskedClips | AskedTexts
    version: int
    lacking: Callable[[Counter[str]], Iterator[Sequence[WantedLatent]]]
    bytes_of: Callable[[Any], int]


def clips_work(store: Store, options: EncodeOptions, asked: AskedClips) -> Work:
    version = store.open("clips").version
    return Work(
        "clips",
        asked,
        version,
        lambda counts: wanted_clips(store, version, options.where, asked, counts),
        lambda clip: latent_bytes(clip, asked),
    )


def texts_work(store: Store, options: EncodeOptions, asked: AskedTexts) -> Work:
    version = store.open("captions").version
    return Work(
        "texts",
        asked,
        version,
        lambda counts: wanted_texts(store, version, options.captions_where, asked.encoder_id, counts),
        lambda text: 0,
    )


def encode_all(work: Work, options: EncodeOptions, run: JobRun) -> Outcome:
    """Encode all that lacks a latent, and land it as it comes."""
    outcome = Outcome(work.unit)
    size_bytes = 0
    for one in chain.from_iterable(work.lacking(outcome.before)):
        outcome.lacking += 1
        size_bytes += work.bytes_of(one)
    outcome.asked = min(outcome.lacking, options.limit or outcome.lacking)
    say(outcome.beginning(size_bytes))
    run.counts[work.unit] = outcome.counts()
    if not outcome.asked:
        return outcome
    most_actors = -(-outcome.asked // options.batch_size)
    actors = start_actors(
        work.asked,
        of=EncodeActor,
        cpus_per_actor=options.cpus_per_actor,
        gpus_per_actor=options.num_gpus,
        at_most=min(options.actors or most_actors, most_actors),
    )
    ready(actors)
    say(f"model loaded by {len(actors)} actor{'s' * (len(actors) != 1)}")
    committer = Committer(run)
    progress = Progress("encode", outcome.asked, 0 if options.limit else size_bytes, unit=work.unit)
    wanted = islice(chain.from_iterable(work.lacking(Counter())), outcome.asked)
    batches = batches_of(([one] for one in wanted), options.batch_size)
    for made in Supply(actors, encoding(run.store, work.version, run.run_id)).all(batches):
        outcome.add(made)
        committer.add(made)
        for one in made.latents:
            progress.done(one.stored_bytes)
        committer.flush_if_due()
        progress.show(outcome.line())
    committer.flush()
    progress.show(outcome.line(), is_last=True)
    run.counts[work.unit] = outcome.counts()
    for actor in actors:
        ray.kill(actor)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
