"""What models say of clips, on Ray.

clips that lack something → actors: a few frames of each clip, decoded beside the models → rows, committed as they come
→ heads over the embeddings, which need no frames
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from curation.embeddings import EmbeddingModel, add_model, models_in, note_model, write_embeddings
from curation.head_scores import score_by_head
from curation.heads import AffineHead
from curation.model_files import BadModel
from curation.model_scores import make_plugin, write_model_scores
from curation.scoring import AskedModels, ScoredClip, wanted_clips
from curation.store import Store
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.progress import Progress
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, JobRun, exit_code_of, job_run, say
from jobs.score_actors import Supply, batches_of, ready, showing, start_actors

__all__ = ["ScoreOptions", "main"]

EXIT_BAD_MODEL = 2
COMMIT_CLIPS, COMMIT_S = 512, 5.0


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """Let models speak of clips: embeddings, aesthetics, and models of your own. Nothing that is there is done again.

    Attributes:
        store: Folder or address of the store.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        embedding: Directory or hub id of an image-text model of transformers (CLIP, SigLIP).
        aesthetic_head: File (.safetensors or .pth) of a head over the embeddings, as LAION's predictors.
        plugin: Models of your own, `package.module:Class` or `package.module:Class=PATH`; see curation/model_scores.py.
        where: SQL condition on the columns of `clips`; only clips that have video can be shown to a model.
        frames_per_clip: Frames that are shown of each clip. Clips that were shown before are not shown again.
        batch_size: Clips that are with the models at once.
        num_gpus: GPUs an actor; -1 for one where the cluster has any.
        cpus_per_actor: CPUs an actor, for decoding, and for the models where there is no GPU.
        actors: Actors at work; 0 for as many as the cluster has room for.
        max_failed_share: Exit with 1 if more than this share of the clips failed.
    """

    store: str
    storage_options: dict[str, str] | None = None
    embedding: str | None = None
    aesthetic_head: Path | None = None
    plugin: tuple[str, ...] = ()
    where: str = "keep"
    frames_per_clip: int = 8
    batch_size: int = 16
    num_gpus: float = -1.0
    cpus_per_actor: int = 2
    actors: int = 0
    max_failed_share: float = 0.1

    def __post_init__(self) -> None:
        if self.embedding is None and not self.plugin:
            raise ValueError("embedding: give a model directory or hub id, or a plugin")
        if self.aesthetic_head is not None and self.embedding is None:
            raise ValueError(f"aesthetic_head={self.aesthetic_head}: needs the embedding model that it was trained on")
        for name in ("frames_per_clip", "batch_size", "cpus_per_actor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.actors < 0:
            raise ValueError(f"actors={self.actors}: must not be negative")
        if self.num_gpus < 0 and self.num_gpus != -1:
            raise ValueError(f"num_gpus={self.num_gpus}: must not be negative, or -1")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share={self.max_failed_share}: must be within 0 and 1")


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.score"
    options = parse(ScoreOptions, prog=prog, argv=argv, more=EXIT_CODES)
    try:
        return exit_code_of("score", lambda: score(options))
    except BadModel as error:
        print(f"score: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_MODEL


def score(options: ScoreOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, BadModel."""
    store = Store.at(options.store, options.storage_options)
    version = store.open("clips").version  # before anything is made: a wrong path must not become a new store
    refuse_unless_condition(store, options.where, "score")
    asked = AskedModels.of(options.embedding, options.plugin, options.frames_per_clip)
    with job_run(store, "score", options, lease_name="model_scores") as run:
        counts: Counter[str] = Counter()
        lacking = sum(len(chunk) for chunk in wanted_clips(store, version, options.where, asked, counts))
        say(
            f"{counts['seen']} clips meet the condition: {counts['complete']} are complete, {lacking} lack something, "
            f"{counts['without_video']} have no video to show"
        )
        outcome = Outcome(dict(counts))
        if lacking:
            show_all(options, asked, run, version, lacking, outcome)
        note_models(run, asked)
        heads = score_heads(options, asked, run)
        run.counts = outcome.counts() | {"heads": heads}
        say(outcome.report(lacking))
        return EXIT_OVER_BUDGET if outcome.failed_share() > options.max_failed_share else 0


class Outcome:
    """What became of the clips that lacked something; their sum is checked."""

    def __init__(self, before: dict[str, int]):
        self._before = before
        self.scored = 0
        self.failed: Counter[str] = Counter()

    def add(self, clip: ScoredClip) -> None:
        if clip.failure is None:
            self.scored += 1
        else:
            self.failed[clip.failure] += 1

    def failed_share(self) -> float:
        done = self.scored + self.failed.total()
        return self.failed.total() / done if done else 0.0

    def counts(self) -> dict[str, Any]:
        return {**self._before, "scored": self.scored, "failed": dict(self.failed)}

    def line(self) -> str:
        return f"{self.scored} scored, {self.failed.total()} failed"

    def report(self, lacking: int) -> str:
        done = self.scored + self.failed.total()
        assert done == lacking, f"{done} clips came back of {lacking} that were shown"
        if not lacking:
            return "nothing to show: no clip lacks what these models say"
        reasons = [f"  failed, {reason}: {clips}" for reason, clips in self.failed.most_common()]
        return "\n".join([f"{lacking} clips were shown: {self.line()}", *reasons])


def show_all(
    options: ScoreOptions, asked: AskedModels, run: JobRun, version: int, lacking: int, outcome: Outcome
) -> None:
    """Show every clip that lacks something to the models and land what they say."""
    batches = -(-lacking // options.batch_size)
    actors = start_actors(
        asked,
        cpus_per_actor=options.cpus_per_actor,
        gpus_per_actor=options.num_gpus,
        at_most=min(options.actors or batches, batches),
    )
    model = ready(actors)
    say(f"models loaded by {len(actors)} actor{'s' * (len(actors) != 1)}")
    if model is not None:
        add_model(run.store, model, run.run_id)
    committer = Committer(run, model)
    progress = Progress("score", lacking, 0, unit="clips")
    chunks = wanted_clips(run.store, version, options.where, asked)
    for scored in Supply(actors, showing(run.store, version)).all(batches_of(chunks, options.batch_size)):
        for clip in scored:
            outcome.add(clip)
            committer.add(clip)
            progress.done(0)
        committer.flush_if_due()
        progress.show(outcome.line())
    committer.flush()
    progress.show(outcome.line(), is_last=True)
    for actor in actors:
        ray.kill(actor)


# -- the store


class Committer:
    """Lands rows a few hundred at a time, only while the lease is held."""

    def __init__(self, run: JobRun, model: EmbeddingModel | None):
        self._run, self._model = run, model
        self._waiting: list[ScoredClip] = []
        self._since_s = time.monotonic()

    def add(self, clip: ScoredClip) -> None:
        if clip.fault is None:  # else nothing lands, and another run tries it again
            self._waiting.append(clip)

    def flush_if_due(self) -> None:
        if len(self._waiting) >= COMMIT_CLIPS or time.monotonic() - self._since_s > COMMIT_S:
            self.flush()

    def flush(self) -> None:
        """Raises StoreUnavailable, LeaseLost."""
        if self._waiting:
            self._run.lease.check()
            embeddings = [clip.embedding for clip in self._waiting if clip.embedding]
            scores = [row for clip in self._waiting for row in clip.scores]
            if embeddings and self._model:
                write_embeddings(self._run.store, self._model, embeddings, self._run.run_id)
            if scores:
                write_model_scores(self._run.store, scores, self._run.run_id)
        self._waiting = []
        self._since_s = time.monotonic()


def note_models(run: JobRun, asked: AskedModels) -> None:
    """Say in `models` that these were asked for now, also where nothing was left to do."""
    known = {model.model_id: model for model in models_in(run.store)}
    if asked.embedding_id in known:
        add_model(run.store, known[asked.embedding_id], run.run_id)
    for plugin in map(make_plugin, asked.plugins):
        note_model(run.store, plugin.model_id, plugin.name, run.run_id, scores=plugin.columns)


def score_heads(options: ScoreOptions, asked: AskedModels, run: JobRun) -> dict[str, int]:
    """Let the head speak of every embedding that it has not spoken of; how many, by score."""
    model = next((m for m in models_in(run.store) if m.model_id == asked.embedding_id), None)
    if options.aesthetic_head is None or model is None:
        return {}
    head = AffineHead.load(options.aesthetic_head, model.model_id, model.dimension)
    scored = score_by_head(run.store, head, model, run.run_id, before_commit=run.lease.check)
    note_model(run.store, head.model_id, head.name, run.run_id, scores=[head.score])
    say(f"{head.score}: {scored} clips scored from their embeddings")
    return {head.score: scored}


if __name__ == "__main__":
    sys.exit(main())
