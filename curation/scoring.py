"""Which clips lack what models could say of them, and a worker's part in saying it: frames in, rows out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from curation.clip_frames import CLIP_COLUMNS, RGB, sampled_frames
from curation.embed import Embedder, embedded_clip, embedder_id
from curation.embeddings import EmbeddedClip, EmbeddingModel, embedded_among
from curation.model_files import BadModel, model_directory
from curation.model_scores import ClipModel, ClipScore, failed_rows, make_plugin, score_rows, scored_among
from curation.reader import DamagedClip
from curation.store import Store

__all__ = ["AskedModels", "ClipScorer", "ScoredClip", "WantedClip", "wanted_clips"]

LOOK_UP_CLIPS = 10_000
DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class AskedModels:
    """Which models are to speak: an embedding model as a directory or hub id, plug-ins as `model_scores.make_plugin`
    takes them, and the ids that they have in the driver. What an actor is made from."""

    embedding: str | None
    embedding_id: str | None
    plugins: tuple[str, ...]
    plugin_ids: tuple[str, ...]
    frames_per_clip: int

    @staticmethod
    def of(embedding: str | None, plugins: Sequence[str], frames_per_clip: int) -> AskedModels:
        """Raises BadModel where one of them is not there."""
        embedding_id = None if embedding is None else embedder_id(model_directory(embedding))
        made = [make_plugin(plugin) for plugin in plugins]
        plugin_ids = tuple(plugin.model_id for plugin in made)
        if len(set(plugin_ids)) < len(plugin_ids):
            raise BadModel(f"two plugins have the same model_id: {', '.join(plugins)}")
        given = Counter(chain.from_iterable(plugin.columns for plugin in made))
        if twice := [score for score, times in given.items() if times > 1]:
            raise BadModel(f"the plugins {', '.join(plugins)} give {', '.join(twice)} twice; ask for one at a time")
        return AskedModels(embedding, embedding_id, tuple(plugins), plugin_ids, frames_per_clip)


@dataclass(frozen=True, slots=True)
class WantedClip:
    """A clip, its row id, and what it lacks: an embedding, and scores by plug-ins (their places)."""

    row: dict[str, Any]
    row_id: int
    embedding: bool
    plugins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """What became of a wanted clip: rows to add, or a `fault` that is not the clip's, to be tried in another run."""

    clip_id: str
    embedding: EmbeddedClip | None = None
    scores: tuple[ClipScore, ...] = ()
    fault: str | None = None

    @property
    def failure(self) -> str | None:
        """The first reason why something is missing."""
        said = chain([self.fault], [self.embedding.failure] if self.embedding else [], (s.failure for s in self.scores))
        return next((failure for failure in said if failure), None)


def wanted_clips(
    store: Store, version: int, where: str, asked: AskedModels, counts: Counter[str] | None = None
) -> Iterator[list[WantedClip]]:
    """Clips of a version of the table that meet a SQL condition, have video, and lack something, in chunks.

    `counts` gets `seen`, `without_video` and `complete`; memory holds a chunk.
    """
    clips = store.open("clips", version)
    columns = [*CLIP_COLUMNS, "video_bytes"]
    counts = Counter() if counts is None else counts
    for batch in clips.to_batches(columns=columns, filter=where, with_row_id=True, batch_size=LOOK_UP_CLIPS):
        rows = batch.to_pylist()
        with_video = [row for row in rows if row.pop("video_bytes") is not None]
        clip_ids = [row["clip_id"] for row in with_video]
        embedded = embedded_among(store, asked.embedding_id, clip_ids) if asked.embedding_id else set(clip_ids)
        scored = [scored_among(store, plugin_id, clip_ids) for plugin_id in asked.plugin_ids]
        wanted = []
        for row in with_video:
            clip_id = row["clip_id"]
            lacking = tuple(place for place, ids in enumerate(scored) if clip_id not in ids)
            if lacking or clip_id not in embedded:
                wanted.append(WantedClip(row, row.pop("_rowid"), clip_id not in embedded, lacking))
        counts["seen"] += len(rows)
        counts["without_video"] += len(rows) - len(with_video)
        counts["complete"] += len(with_video) - len(wanted)
        yield wanted


class ClipScorer:
    """Loaded models that take batches of clips from the store. `score` may be called from two threads: while one batch
    is with the models, the frames of the next are decoded."""

    def __init__(self, asked: AskedModels, device: str, decode_threads: int):
        """Loads the models. Raises BadModel, also where this machine has other files than the driver under a name."""
        self._asked = asked
        self._embedder = None if asked.embedding is None else Embedder.load(asked.embedding, device)
        self._plugins = [make_plugin(plugin) for plugin in asked.plugins]
        ids = [self.embedding_model.model_id if self.embedding_model else None, *(p.model_id for p in self._plugins)]
        for here, there in zip(ids, [asked.embedding_id, *asked.plugin_ids], strict=True):
            if here != there:
                raise BadModel(
                    f"a worker found the model {here} where the driver found {there}; give all the same files"
                )
        for plugin in self._plugins:
            plugin.load(device)
        # Twice the side that the model sees: its own way of shrinking has the last word.
        sides = [2 * self._embedder.side_px] if self._embedder else []
        self._side_px = max([*sides, *(plugin.side_px for plugin in self._plugins)])
        self._decoders = ThreadPoolExecutor(decode_threads)
        self._models = threading.Lock()

    @property
    def embedding_model(self) -> EmbeddingModel | None:
        return self._embedder.model if self._embedder else None

    def score(self, store: Store, version: int, wanted: Sequence[WantedClip]) -> list[ScoredClip]:
        """What became of each clip, in order. Raises StoreUnavailable and BadModel."""
        try:
            blobs = store.open("clips", version).take_blobs("video", ids=[clip.row_id for clip in wanted])
        except (OSError, ValueError) as error:
            raise store.unavailable("read", error) from error
        readable: list[tuple[WantedClip, list[RGB]]] = []
        scored: dict[str, ScoredClip] = {}
        for clip, frames in zip(wanted, self._decoders.map(self._frames_of, wanted, blobs), strict=True):
            if isinstance(frames, OSError):
                scored[clip.row["clip_id"]] = _faulty(clip, frames)
            elif frames:
                readable.append((clip, frames))
        with self._models:
            scored |= {clip.clip_id: clip for clip in self._each_if_not_all(readable)}
        return [scored.get(clip.row["clip_id"]) or self._damaged(clip) for clip in wanted]

    def _frames_of(self, clip: WantedClip, blob: Any) -> list[RGB] | OSError:
        """None where the clip's bytes give none; the error where they cannot be had, for which the clip cannot help."""
        if blob is None:
            return []
        try:
            with blob:
                return sampled_frames(clip.row, blob, self._asked.frames_per_clip, self._side_px)
        except DamagedClip:
            return []
        except OSError as error:
            return error

    def _damaged(self, clip: WantedClip) -> ScoredClip:
        clip_id = clip.row["clip_id"]
        embedding = EmbeddedClip(clip_id, None, failure=DAMAGED) if clip.embedding else None
        rows = chain.from_iterable(failed_rows(self._plugins[place], clip_id, DAMAGED) for place in clip.plugins)
        return ScoredClip(clip_id, embedding, tuple(rows))

    def _each_if_not_all(self, clips: list[tuple[WantedClip, list[RGB]]]) -> list[ScoredClip]:
        """The batch; where a model cannot cope with it, clip by clip, so that one costs only itself."""
        try:
            return self._said_of(clips) if clips else []
        except BadModel:
            raise
        except Exception as error:  # whatever a model raises
            if len(clips) > 1:
                return list(chain.from_iterable(self._each_if_not_all([clip]) for clip in clips))
            return [_faulty(clips[0][0], error)]

    def _said_of(self, clips: list[tuple[WantedClip, list[RGB]]]) -> list[ScoredClip]:
        embeddings: dict[str, EmbeddedClip] = {}
        to_embed = [(clip.row["clip_id"], frames) for clip, frames in clips if clip.embedding]
        if self._embedder and to_embed:
            vectors = self._embedder.embed_images([frame for _, frames in to_embed for frame in frames])
            ends = np.cumsum([len(frames) for _, frames in to_embed])
            for (clip_id, _), of_clip in zip(to_embed, np.split(vectors, ends[:-1]), strict=True):
                embeddings[clip_id] = embedded_clip(clip_id, of_clip)
        scores: dict[str, list[ClipScore]] = {clip.row["clip_id"]: [] for clip, _ in clips}
        for place, plugin in enumerate(self._plugins):
            shown = [(clip.row["clip_id"], frames) for clip, frames in clips if place in clip.plugins]
            for row in _rows_by(plugin, shown):
                scores[row.clip_id].append(row)
        return [ScoredClip(clip_id, embeddings.get(clip_id), tuple(rows)) for clip_id, rows in scores.items()]


def _faulty(clip: WantedClip, error: Exception) -> ScoredClip:
    text = (str(error).splitlines() or [""])[0]
    return ScoredClip(clip.row["clip_id"], fault=f"{type(error).__name__}: {text[:200]}")


def _rows_by(plugin: ClipModel, shown: list[tuple[str, list[RGB]]]) -> list[ClipScore]:
    if not shown:
        return []
    return score_rows(plugin, [clip_id for clip_id, _ in shown], plugin.score([frames for _, frames in shown]))
