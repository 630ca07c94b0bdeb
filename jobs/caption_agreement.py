"""How well captions agree with their clips, by the embedding model where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from captioner.agreement import agreements_of
from captioner.captions import Caption
from captioner.checks import CheckConfig
from curation.embed import Embedder, embedder_id
from curation.embeddings import models_in
from curation.model_files import BadModel, model_directory
from curation.store import Store
from jobs.runs import say

__all__ = ["judge_by"]


def judge_by(store: Store, wanted: str, checks: CheckConfig) -> Callable[[Sequence[Caption]], list[Caption]]:
    """What adds to captions the cosine with their clips, and the flag where it is too low. `wanted` is a model, `auto`
    for the one that embedded clips of this store last, or `none`.

    Raises BadModel where the wanted model cannot be had or did not embed this store's clips; with `auto`, it says so
    and captions go without.
    """
    embedder = None if wanted == "none" else _embedder(store, wanted)

    def judge(captions: Sequence[Caption]) -> list[Caption]:
        clip_ids, texts = [c.clip_id for c in captions], [c.text for c in captions]
        found = agreements_of(store, embedder, clip_ids, texts)
        return [_judged(caption, cosine, checks) for caption, cosine in zip(captions, found, strict=True)]

    return judge


def _judged(caption: Caption, cosine: float | None, checks: CheckConfig) -> Caption:
    if cosine is None:
        return caption
    flags = {*caption.flags, *(["disagrees"] if cosine < checks.min_agreement else [])}
    return replace(caption, agreement=cosine, flags=tuple(sorted(flags)))


def _embedder(store: Store, wanted: str) -> Embedder | None:
    known = models_in(store)
    if wanted == "auto":
        if not known:
            return None
        try:
            directory = model_directory(known[-1].name)
            if embedder_id(directory) != known[-1].model_id:
                raise BadModel(f"{known[-1].name} is another model by now")
            return Embedder.load(known[-1].name)
        except BadModel as error:
            say(f"captions are not compared with the clips' embeddings: {error}")
            return None
    if embedder_id(model_directory(wanted)) not in {model.model_id for model in known}:
        raise BadModel(f"{wanted}: did not embed this store's clips; run jobs.score --embedding {wanted} before")
    return Embedder.load(wanted)
