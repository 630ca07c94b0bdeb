"""The processes that hold loaded models, and how they are kept supplied with clips, whatever dies."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar

import ray
import ray.exceptions

from curation.embeddings import EmbeddingModel
from curation.model_files import BadModel
from curation.scoring import AskedModels, ClipScorer, ScoredClip, WantedClip
from curation.store import Store, StoreUnavailable
from jobs.cluster import connect, cpus
from jobs.runs import MachineFault

__all__ = ["Supply", "Work", "batches_of", "ready", "showing", "start_actors"]

# One batch is with the models, one is being decoded, one waits.
BATCHES_AN_ACTOR = 3
# How long an actor that died may take to load its models again.
REVIVE_S = 600.0
# Where so many batches came to nothing and none to anything, no other will.
HOPELESS_BATCHES = 4

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")


class ScoreActor:
    """A process with loaded models. Started again where it died, it loads them again."""

    def __init__(self, asked: AskedModels, device: str, threads: int):
        self._making = asked, device, threads
        self._scorer: ClipScorer | None = None

    def ready(self) -> EmbeddingModel | None:
        """Raises BadModel."""
        if self._scorer is None:
            self._scorer = ClipScorer(*self._making)
        return self._scorer.embedding_model

    def score(self, store: Store, version: int, wanted: Sequence[WantedClip]) -> list[ScoredClip]:
        self.ready()
        assert self._scorer is not None
        return self._scorer.score(store, version, wanted)


def start_actors(
    asked: Any, *, cpus_per_actor: int, gpus_per_actor: float, at_most: int, of: type = ScoreActor
) -> list[Any]:
    """As many as there is room for of a class that is made from (asked, device, threads); `gpus_per_actor` -1 for one
    where the cluster has any.

    Raises MachineFault where there is room for none.
    """
    connect()
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0.0)
    num_gpus = (1.0 if gpus else 0.0) if gpus_per_actor < 0 else gpus_per_actor
    num_cpus = min(cpus_per_actor, cpus())
    if num_gpus > gpus:
        raise MachineFault(f"an actor asks for {num_gpus:g} GPUs and the cluster has {gpus:g}; give --num-gpus 0")
    room = int(min(cpus() // num_cpus, gpus / num_gpus if num_gpus else cpus()))
    kind: Any = ray.remote(of)
    # Two calls at once: one decodes while the other's frames are with the models.
    actor = kind.options(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=-1, max_concurrency=2)
    device = "cuda" if num_gpus else "cpu"
    return [actor.remote(asked, device, num_cpus) for _ in range(max(1, min(room, at_most)))]


def ready(actors: Sequence[Any]) -> Any:
    """Wait for the models to be loaded; what an actor says of its own. Raises BadModel, MachineFault."""
    try:
        return ray.get([actor.ready.remote() for actor in actors])[0]
    except BadModel as error:
        raise as_raised(error) from None
    except ray.exceptions.RayError as error:
        raise MachineFault(f"an actor could not start: {one_line(error)}") from error


def batches_of(chunks: Iterator[list[Wanted]], size: int) -> Iterator[list[Wanted]]:
    batch: list[Wanted] = []
    for one in chain.from_iterable(chunks):
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Work(Generic[Wanted, Made]):
    """What actors do with a batch.

    call       starts it on an actor
    nothing    what is made of an empty batch, or of one that killed its worker
    fault_of   why nothing came of a batch, if nothing did and the batch is not to blame
    """

    call: Callable[[Any, list[Wanted]], ray.ObjectRef]
    nothing: Callable[[Sequence[Wanted]], Made]
    fault_of: Callable[[Made], str | None]


class Supply(Generic[Wanted, Made]):
    """Keeps every actor supplied. A batch whose actor died is worked on again one by one when all else is done, one at
    a time, so that what kills its actor costs only itself."""

    def __init__(self, actors: Sequence[Any], work: Work[Wanted, Made]):
        self._actors, self._work = actors, work
        self._in_flight: dict[ray.ObjectRef, tuple[int, list[Wanted]]] = {}
        self._suspects: list[Wanted] = []
        self._hopeless = 0

    def all(self, batches: Iterator[list[Wanted]]) -> Iterator[Made]:
        """What became of each batch, in any order; that of an empty one now and then, as a moment to commit."""
        for batch in batches:
            while (actor := self._free_actor()) is None:
                yield from self._finished()
            self._in_flight[self._work.call(self._actors[actor], batch)] = actor, batch
        while self._in_flight:
            yield from self._finished()
        for one in self._suspects:
            yield self._alone(one)

    def _free_actor(self) -> int | None:
        load = Counter(actor for actor, _ in self._in_flight.values())
        actor = min(range(len(self._actors)), key=lambda number: load[number])
        return actor if load[actor] < BATCHES_AN_ACTOR else None

    def _finished(self) -> Iterator[Made]:
        done, _ = ray.wait(list(self._in_flight), num_returns=1, timeout=1.0)
        for ref in done:
            actor, batch = self._in_flight.pop(ref)
            try:
                yield self._result(ref)
            except ray.exceptions.RayActorError:
                self._suspects += batch
                self._revive(actor)
        yield self._work.nothing(())

    def _alone(self, one: Wanted) -> Made:
        try:
            return self._result(self._work.call(self._actors[0], [one]))
        except ray.exceptions.RayActorError:
            self._revive(0)
            return self._work.nothing([one])

    def _revive(self, actor: int) -> None:
        """Wait until Ray has started an actor again: until then it refuses every call. Raises MachineFault."""
        deadline_s = time.monotonic() + REVIVE_S
        while True:
            try:
                ray.get(self._actors[actor].ready.remote())
                return
            except ray.exceptions.RayActorError as error:
                if time.monotonic() > deadline_s:
                    raise MachineFault(f"an actor does not come up again: {one_line(error)}") from error
                time.sleep(0.5)

    def _result(self, ref: ray.ObjectRef) -> Made:
        """Raises RayActorError where the actor died, and StoreUnavailable, BadModel, MachineFault."""
        try:
            made: Made = ray.get(ref)
        except BadModel as error:
            raise as_raised(error) from None
        except (StoreUnavailable, ray.exceptions.RayActorError):
            raise
        except OSError as error:
            raise MachineFault(f"a worker could not go on: {error}") from error
        except ray.exceptions.RayError as error:
            raise MachineFault(f"a worker met a fault: {error}") from error
        fault = self._work.fault_of(made)
        self._hopeless = self._hopeless + 1 if fault else -sys.maxsize
        if self._hopeless >= HOPELESS_BATCHES:
            raise MachineFault(f"the models could cope with none of what they were given first: {fault}")
        return made


def showing(store: Store, version: int) -> Work[WantedClip, list[ScoredClip]]:
    """Clips to the models of ScoreActors."""

    def nothing(killers: Sequence[WantedClip]) -> list[ScoredClip]:
        return [ScoredClip(clip.row["clip_id"], fault="worker_died") for clip in killers]

    return Work(
        lambda actor, batch: actor.score.remote(store, version, batch),
        nothing,
        lambda made: made[0].fault if all(clip.fault for clip in made) else None,
    )


def as_raised(error: BadModel) -> Exception:
    """The error that a worker raised, without Ray's traceback around it."""
    cause = getattr(error, "cause", error)
    return cause if isinstance(cause, Exception) else error


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
