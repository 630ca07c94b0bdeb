"""What a report's page needs to compute what other thresholds would keep: the scores of many clips, small.

Numbers are arrays in base64, a column that has only small whole numbers one byte a clip, others four: a value that
lies within a ten-millionth of a threshold counts as at it. Where a store holds more clips than are embedded, they are a
fair draw, and the page says so and scales its counts.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.presets import PRESETS
from curation.report_data import KEPT, outcomes_of
from curation.report_distributions import SIZE_COLUMN, Histogram, names_in, size_names
from curation.score_batches import rule_columns, score_columns, with_model_scores
from curation.store import Store
from curation.verdicts import RULES, Rule, Thresholds

__all__ = ["what_if_data"]

NO_BYTE = 255  # null, in a column of bytes


def what_if_data(
    store: Store, histograms: Sequence[Histogram], thresholds: Thresholds | None, limit: int
) -> dict[str, Any]:
    """Scores, bins and verdicts of at most `limit` clips, the rules, and the presets. None of an empty table.

    `thresholds` are those that the clips were judged by; None where they are not known, and the page begins with the
    defaults.
    """
    clips = store.open("clips")
    found = clips.count_rows()
    names = [histogram.column.name for histogram in histograms]
    batch = drawn(clips, [name for name in names if name in clips.schema.names], limit)
    batch = with_model_scores(store, batch, [name for name in names if name not in clips.schema.names])
    columns = {name: values for name, values in score_columns(batch).items() if not np.isnan(values).all()}
    begin = thresholds or Thresholds()
    return {
        "found": found,
        "drawn": batch.num_rows,
        "seconds": packed(batch["duration_s"].to_numpy()),
        "scores": {name: packed(values) for name, values in columns.items()},
        "bins": [bins_in(batch, histogram) for histogram in histograms],
        "others": others_in(batch),
        "rules": [rule_data(rule, begin) for rule in RULES],
        "presets": [
            {
                "name": preset.name,
                "title": preset.title,
                "source": preset.source,
                "values": preset.values,
                "not_applied": [f"{asked.says}: {asked.note}" for asked in preset.not_applied],
            }
            for preset in PRESETS.values()
        ],
    }


def drawn(clips: lance.LanceDataset, charted: Sequence[str], limit: int) -> pa.RecordBatch:
    """The clips with the smallest ids: ids are hashes, so this is a fair draw."""
    wanted = {"clip_id", "duration_s", "keep", "reason", "width", "height", *rule_columns(clips.schema), *charted}
    columns = sorted(wanted - {SIZE_COLUMN})
    table = clips.scanner(columns=columns, order_by=["clip_id"], limit=limit, late_materialization=True).to_table()
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def rule_data(rule: Rule, begin: Thresholds) -> dict[str, Any]:
    """A rule with its threshold as it is and by default; JSON has no infinity, so off is null."""
    values = {"value": getattr(begin, rule.threshold), "default": getattr(Thresholds(), rule.threshold)}
    kind = type(getattr(Thresholds(), rule.threshold)).__name__
    described = asdict(rule) | {"kind": kind, "off": None, "least": None, "most": None}
    limits = {"off": rule.off, "least": rule.least, "most": rule.most}
    described |= {name: value for name, value in limits.items() if isfinite(value)}
    return described | {name: None if value == rule.off else value for name, value in values.items()}


def packed(values: NDArray[np.float64]) -> dict[str, str]:
    """Numbers as `{"u1": base64}` or `{"f4": base64}`; NaN is null."""
    is_small = np.isnan(values) | ((values >= 0) & (values < NO_BYTE) & (values == np.floor(values)))
    if is_small.all():
        return {"u1": text_of(np.where(np.isnan(values), NO_BYTE, values).astype(np.uint8))}
    return {"f4": text_of(values.astype("<f4"))}


def bins_in(batch: pa.RecordBatch, histogram: Histogram) -> dict[str, str]:
    """In which bin of a histogram each clip is: `u1` its number, or `u2` a bit for each of several."""
    column = histogram.column
    if column.is_name:
        names = size_names(batch) if column.name == SIZE_COLUMN else batch[column.name].to_pylist()
        masks = [mask_of(names_in(name), histogram) for name in names]
        return {"u2": text_of(np.array(masks, "<u2"))}
    values = batch[column.name].cast(pa.float64()).to_numpy(zero_copy_only=False)
    last = len(histogram.edges) - 2
    at = np.clip(np.searchsorted(histogram.edges, values, side="right") - 1, 0, last)
    return {"u1": text_of(np.where(np.isnan(values), NO_BYTE, at).astype(np.uint8))}


def mask_of(names: Sequence[str], histogram: Histogram) -> int:
    places = {label: index for index, label in enumerate(histogram.labels)}
    others = len(histogram.labels) - 1
    return sum({1 << places.get(name, others) for name in names})


def others_in(batch: pa.RecordBatch) -> dict[str, Any]:
    """Reasons that no rule gave, such as a clip's being a duplicate.

    The page leaves them as they are. jobs.verdict settles duplicates anew: where a clip is rejected, one that it was
    kept instead of may be kept.
    """
    of_rules = {rule.reason for rule in RULES} | {KEPT}
    outcomes = outcomes_of(batch)
    reasons = sorted(set(outcomes) - of_rules)
    places: Mapping[str, int] = {reason: index for index, reason in enumerate(reasons)}
    codes = np.array([places.get(outcome, NO_BYTE) for outcome in outcomes], np.uint8)
    return {"reasons": reasons, "u1": text_of(codes)}


def text_of(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
