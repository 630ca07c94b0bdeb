"""Comparing clips with all others, on the driver: what they show in jobs.curate, what they mean in jobs.verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from curation.duplicate_verdicts import DuplicateConfig, Settled
from curation.duplicates import compare_batch, uncompared_batches
from curation.embeddings import EmbeddingModel
from curation.semantic import compare_meanings, model_to_compare_by, unlike_batches
from jobs.progress import Progress
from jobs.runs import JobRun, say

__all__ = ["find_duplicates", "find_semantic_pairs"]


def find_duplicates(run: JobRun, config: DuplicateConfig) -> list[Settled]:
    """Compare what was not compared yet, from this run or an interrupted one; the verdicts that changed.

    Raises StoreUnavailable, LeaseLost.
    """
    with run.store.reading():
        return _find_duplicates(run, config)


def _find_duplicates(run: JobRun, config: DuplicateConfig) -> list[Settled]:
    batches = list(uncompared_batches(run.store))
    progress = Progress("duplicates", sum(map(len, batches)), 0)
    pairs: Counter[str] = Counter()
    settled: list[Settled] = []
    clips = 0
    for source_ids in batches:
        compared = compare_batch(run.store, source_ids, config, run.lease.check)
        pairs.update(compared.pairs)
        settled += compared.settled
        clips += compared.clips
        for _ in source_ids:
            progress.done(0)
        progress.show(f"{pairs.total()} pairs")
    if batches:
        progress.show(f"{clips} clips compared, {pairs.total()} pairs", is_last=True)
        say(_words(run, pairs, settled))
    return settled


def find_semantic_pairs(run: JobRun) -> None:
    """Compare by their embeddings the clips that were not yet; verdicts are left to the caller.

    Raises NoEmbeddings, StoreUnavailable, LeaseLost.
    """
    model = model_to_compare_by(run.store)
    with run.store.reading():
        _find_semantic_pairs(run, model)


def _find_semantic_pairs(run: JobRun, model: EmbeddingModel) -> None:
    batches = list(unlike_batches(run.store, model))
    progress = Progress("meanings", sum(map(len, batches)), 0, unit="clips")
    pairs = 0
    for clip_ids in batches:
        pairs += compare_meanings(run.store, model, clip_ids, run.lease.check)
        for _ in clip_ids:
            progress.done(0)
        progress.show(f"{pairs} pairs")
    if batches:
        progress.show(f"{pairs} pairs by {model.name}", is_last=True)


def _words(run: JobRun, pairs: Counter[str], settled: Sequence[Settled]) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(pairs.items())) or "none"
    earlier = Counter((s.before, s.now) for s in settled if s.run_id != run.run_id)
    lines = [f"pairs of clips that show the same: {kinds}"]
    lines += [f"         of earlier runs: {n} clips {before} → {now}" for (before, now), n in sorted(earlier.items())]
    return "\n".join(lines)
