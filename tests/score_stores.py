"""Stores whose clips have drawn scores and no video: for what looks at scores alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from curation.store import STORAGE_VERSION, Store
from curation.tables import CLIPS
from curation.verdicts import RULES, Thresholds, thresholds_id, verdict

# About what real clips have, so that each default threshold rejects some and keeps most.
TYPICAL = {
    "duration_s": 4.0,
    "rate_fps": 30.0,
    "luma_mean_levels": 100.0,
    "luma_spread_levels": 40.0,
    "aspect": 1.6,
    "sharpness_levels2": 200.0,
    "colorfulness": 40.0,
    "contrast_levels": 120.0,
}
NAMES = ("pan", "static", "zoom", "tilt")


def drawn_rows(clips: int, seed: int) -> list[dict[str, Any]]:
    """Rows of the clips table, judged by the default thresholds; a fiftieth of the scores are null."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(clips):
        row = {field.name: _drawn(field, random) for field in CLIPS if field.name != "video"}
        row |= {"clip_id": f"{random.integers(1 << 60):032x}", "source_id": f"{index % 7:064x}", "video_bytes": None}
        row |= {
            "width": 640,
            "height": 360 + 2 * (index % 3),
            "rotation": 0,
            "thresholds_id": thresholds_id(Thresholds()),
        }
        row |= {"duplicate_of": None, "duplicate_kind": None, "start_s": float(index)}
        row["reason"] = verdict(row, Thresholds())
        row["keep"] = row["reason"] is None
        rows.append(row)
    return rows


def _drawn(field: pa.Field, random: np.random.Generator) -> Any:
    kind = field.type
    is_score = field.name in {rule.column for rule in RULES}
    if (field.nullable and not is_score and pa.types.is_binary(kind)) or (field.nullable and random.random() < 0.02):
        return None
    if pa.types.is_boolean(kind):
        return bool(random.random() < 0.1)
    if pa.types.is_integer(kind):
        return int(random.random() < 0.02) if field.name == "damaged_frames" else int(random.integers(1, 600))
    if pa.types.is_floating(kind):
        value = float(random.gamma(3.0, TYPICAL.get(field.name, 0.15) / 3.0))
        return min(value, 1.0) if field.name.endswith("_share") else value
    if pa.types.is_list(kind):
        return [str(name) for name in random.choice(NAMES, random.integers(0, 3), replace=False)]
    return str(random.choice(NAMES))


def write_store(folder: Path, rows: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> Store:
    """A store of these clips, with `more` in each row."""
    store = Store.at(str(folder / "store"))
    store.create()
    arrays = [
        lance.blob_array([None] * len(rows))
        if field.name == "video"
        else pa.array([(row | dict(more or {})).get(field.name) for row in rows], field.type)
        for field in CLIPS
    ]
    table = pa.Table.from_arrays(arrays, schema=CLIPS)
    lance.write_dataset(
        table,
        store.table_uri("clips"),
        mode="append",
        data_storage_version=STORAGE_VERSION,
        enable_stable_row_ids=True,
    )
    return store
