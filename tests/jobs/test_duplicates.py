"""Duplicates as users meet them: a copy in the footage is rejected, named, counted, and comes back where asked for."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.store import Store
from tests.jobs.running import run
from tests.stores import table_rows

RATE = Fraction(12)
SCENES = (
    SceneSpec(seed=1, frames=30, pan_x_px_per_s=40.0),
    SceneSpec(seed=2, frames=30, object_x_px_per_s=60.0),
)


def shoot(path: Path, width: int, height: int) -> None:
    edit = Edit(SCENES, (Join("cut"),))
    frames = render(edit, 288, 192, [i / float(RATE) for i in range(edit.frames)])
    size = (width, height)
    scaled = (cv2.resize(f, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False) for f in frames)
    encode_film(path, scaled, Encoding(rate=RATE))


def test_a_smaller_copy_is_rejected_by_a_later_run_and_named(tmp_path: Path) -> None:
    footage, store = tmp_path / "footage", Store.at(str(tmp_path / "store"))
    footage.mkdir()
    shoot(footage / "small.mp4", 216, 144)
    code, output = run("jobs.curate", "--footage", footage, "--store", store.uri)
    assert code == 0, output
    assert all(row["keep"] for row in table_rows(store)["clips"])

    shoot(footage / "large.mp4", 288, 192)
    code, output = run("jobs.curate", "--footage", footage, "--store", store.uri)
    assert code == 0, output
    assert "2 near" in output
    assert "of earlier runs: 2 clips kept → duplicate" in output
    rows = {row["clip_id"]: row for row in table_rows(store)["clips"]}
    lost = [row for row in rows.values() if row["reason"] == "duplicate"]
    assert sorted(row["width"] for row in lost) == [216, 216]
    assert all(rows[row["duplicate_of"]]["width"] == 288 for row in lost)
    assert all(rows[row["duplicate_of"]]["scene_index"] == row["scene_index"] for row in lost)
    assert all(row["video"] is not None for row in lost), "a duplicate keeps its bytes"

    code, output = run("jobs.verdict", "--store", store.uri, "--duplicates", "keep")
    assert code == 0, output
    assert all(row["keep"] for row in table_rows(store)["clips"])


def test_the_funnel_adds_up_where_both_copies_are_of_one_run(tmp_path: Path) -> None:
    footage, store = tmp_path / "footage", Store.at(str(tmp_path / "store"))
    footage.mkdir()
    shoot(footage / "small.mp4", 216, 144)
    shoot(footage / "large.mp4", 288, 192)
    code, output = run("jobs.curate", "--footage", footage, "--store", store.uri)
    assert code == 0, output
    assert "rejected: 2 duplicate" in output
    (row,) = store.open("runs").to_table().to_pylist()
    assert json.loads(row["counts"])["clips"] == {"kept": 2, "duplicate": 2}
