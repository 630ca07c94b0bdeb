"""Scores that models give, beside the measured ones: what such a model looks like, and the table of what they said.

A row of `model_scores` is a clip, a score and a model. Rows, and not columns of `clips`: another model of the same
score adds and overwrites nothing, a clip is scored long after it was curated, and a run that is killed leaves whole
rows. `model_score_columns` brings them beside the measured scores, where verdicts are given.

A model of one's own (OCR, safety, watermarks, anything that looks at frames) is a class like `ClipModel`, named by
`package.module:Class` or, where it is made from a directory or file, `package.module:Class=PATH`. Rules know the names
`aesthetic` (about 1 to 10), `ocr_text_share`, `safety_unsafe_share` and `watermark_probability` (each 0 to 1).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.clip_frames import RGB
from curation.model_files import BadModel
from curation.store import Store
from curation.tables import CLIPS, MODEL_SCORES

__all__ = [
    "ClipModel",
    "ClipScore",
    "failed_rows",
    "make_plugin",
    "model_score_columns",
    "score_of",
    "score_rows",
    "scored_among",
    "write_model_scores",
]

Said = Mapping[str, float | str]
PARTS = ("name", "model_id", "columns", "side_px", "load", "score")


@runtime_checkable
class ClipModel(Protocol):
    """A model that looks at a few frames of a clip and gives named numbers or words.

    It is made in the driver, without its weights, and in each actor, where `load` follows. `name` says what it is.
    `model_id` identifies what it says: another model, other weights or another way to ask is another id. `columns` are
    the names of its scores, none of them a column of `clips`. `side_px` is the shorter side that frames need to have at
    most.
    """

    @property
    def name(self) -> str: ...
    @property
    def model_id(self) -> str: ...
    @property
    def columns(self) -> Sequence[str]: ...
    @property
    def side_px(self) -> int: ...

    def load(self, device: str) -> None:
        """Get ready on `cpu` or `cuda`. Raises BadModel."""
        ...

    def score(self, clips: Sequence[Sequence[RGB]]) -> Sequence[Said]:
        """For the frames of each clip a number or a text for every one of `columns`, in the order of `clips`."""
        ...


@dataclass(frozen=True, slots=True)
class ClipScore:
    """What a model said of a clip: a value or a text, or why there is neither."""

    clip_id: str
    score: str
    model_id: str
    value: float | None = None
    text: str | None = None
    failure: str | None = None


def make_plugin(named: str) -> ClipModel:
    """The model that `package.module:Class` or `package.module:Class=PATH` names, not loaded. Raises BadModel."""
    where, _, path = named.partition("=")
    try:
        # What a user names cannot be read here, unlike the imports of this project.
        kind: Any = pkgutil.resolve_name(where)
        model = kind(path) if path else kind()
    except BadModel:
        raise
    except Exception as error:  # whatever a stranger's module raises
        raise BadModel(f"plugin {named} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(model, ClipModel):
        lacking = [part for part in PARTS if not hasattr(model, part)]
        raise BadModel(f"plugin {named} lacks {', '.join(lacking)}: see curation.model_scores.ClipModel")
    if isinstance(model.columns, str) or not model.columns or not model.model_id:
        raise BadModel(f"plugin {named}: `columns` must name its scores and `model_id` must identify it")
    if taken := sorted(set(CLIPS.names) & set(model.columns)):
        raise BadModel(f"plugin {named}: {', '.join(taken)} is a column of clips; give the score another name")
    return model


def score_rows(model: ClipModel, clip_ids: Sequence[str], said: Sequence[Said]) -> list[ClipScore]:
    """What a model said of a batch as rows; a number that is not finite is the failure `not_finite`.

    Raises BadModel where it answered for more or fewer clips than it was shown, or with other scores than its own.
    """
    if len(said) != len(clip_ids):
        raise BadModel(f"{model.name} answered for {len(said)} clips, {len(clip_ids)} were shown")
    rows = []
    for clip_id, scores in zip(clip_ids, said, strict=True):
        if set(scores) != set(model.columns):
            raise BadModel(f"{model.name} gave the scores {sorted(scores)}, its columns are {sorted(model.columns)}")
        for score in model.columns:
            if not isinstance(scores[score], (str, Real)):
                raise BadModel(f"{model.name} gave {scores[score]!r} as {score}: must be a number or a text")
            rows.append(score_of(model.model_id, clip_id, score, scores[score]))
    return rows


def score_of(model_id: str, clip_id: str, score: str, said: float | str) -> ClipScore:
    """A number or a text as a row; the failure `not_finite` for a number that is none."""
    if isinstance(said, str):
        return ClipScore(clip_id, score, model_id, text=said)
    if not isfinite(said):
        return ClipScore(clip_id, score, model_id, failure="not_finite")
    return ClipScore(clip_id, score, model_id, value=float(said))


def failed_rows(model: ClipModel, clip_id: str, failure: str) -> list[ClipScore]:
    """Rows that say why a clip has none of a model's scores."""
    return [ClipScore(clip_id, score, model.model_id, failure=failure) for score in model.columns]


def write_model_scores(store: Store, scores: Iterable[ClipScore], run_id: str) -> None:
    """Add rows in one version. The caller holds the lease `model_scores` and adds none twice.

    Raises StoreUnavailable.
    """
    rows = [asdict(score) | {"run_id": run_id} for score in scores]
    try:
        store.open("model_scores").insert(pa.Table.from_pylist(rows, schema=MODEL_SCORES))
    except OSError as error:
        raise store.unavailable("written", error) from error


def scored_among(store: Store, model_id: str, clip_ids: Sequence[str]) -> set[str]:
    """Those of the clips that the model has rows of, with a value or with the reason why there is none."""
    wanted = (pc.field("model_id") == model_id) & pc.field("clip_id").isin(list(clip_ids))
    return set(store.open("model_scores").to_table(columns=["clip_id"], filter=wanted)["clip_id"].to_pylist())


def model_score_columns(store: Store, clip_ids: Sequence[str], scores: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """A column for each of the scores that some model gave in this store, in the order of the clips, NaN for none.

    Where several models gave a score, the one that was asked for last speaks alone: values of two models are on two
    scales. Raises StoreUnavailable.
    """
    models = _speakers(store, scores)
    if not models or not clip_ids:
        return {}
    pairs = pc.field("model_id").isin(sorted(set(models.values()))) & pc.field("score").isin(list(models))
    wanted = pairs & pc.field("clip_id").isin(list(clip_ids)) & pc.field("failure").is_null()
    table = store.open("model_scores").to_table(columns=["clip_id", "score", "model_id", "value"], filter=wanted)
    columns = {score: np.full(len(clip_ids), np.nan) for score in models}
    places = {clip_id: place for place, clip_id in enumerate(clip_ids)}
    for row in table.to_pylist():
        if models[row["score"]] == row["model_id"] and row["value"] is not None:
            columns[row["score"]][places[row["clip_id"]]] = row["value"]
    return columns


def _speakers(store: Store, scores: Sequence[str]) -> dict[str, str]:
    """Score to the model that was asked for it last."""
    models = store.find("models")
    if models is None:
        return {}
    rows = models.to_table(columns=["model_id", "scores", "asked_at"]).sort_by("asked_at").to_pylist()
    return {score: row["model_id"] for row in rows for score in row["scores"] if score in scores}
