"""Captions are known by what they are about and who says it; written twice they are there once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captioner.captions import Author, Caption, caption_id_of, captions_among, request_id_of, write_captions
from captioner.windows import Window
from curation.store import Store

AUTHOR = Author("vllm", "qwen", "model-1", "prompt-1")
CAPTION = Caption(
    clip_id="clip-1",
    source_id="source-1",
    kind="short",
    text="A dog.",
    window_index=None,
    window_start_pts=0,
    window_end_pts=100,
    captioner="vllm",
    model="qwen",
    model_revision="model-1",
    prompt_id="prompt-1",
    attempts=1,
)
IDENTITY: list[dict[str, Any]] = [
    {"clip_id": "clip-2"},
    {"kind": "motion"},
    {"window_start_pts": 1},
    {"window_end_pts": 99},
    {"model": "other"},
    {"model_revision": "model-2"},
    {"prompt_id": "prompt-2"},
    # What could be glued together another way.
    {"window_start_pts": 1, "window_end_pts": 10},
    {"window_start_pts": 11, "window_end_pts": 0},
    {"window_start_pts": -1},
]
NO_IDENTITY: list[dict[str, Any]] = [
    {"text": "A cat."},
    {"text": None, "flags": ("empty",)},
    {"attempts": 3, "seed": 7},
    {"window_index": 0},
    {"tokens_out": 9},
    {"captioner": "openai"},
    {"source_id": "moved"},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    return store


def test_every_part_of_an_identity_counts() -> None:
    ids = [CAPTION.caption_id, *(replace(CAPTION, **change).caption_id for change in IDENTITY)]
    assert len(set(ids)) == len(ids) == len(IDENTITY) + 1
    for change in NO_IDENTITY:
        assert replace(CAPTION, **change).caption_id == CAPTION.caption_id


def test_an_identity_is_the_same_everywhere() -> None:
    """Stores that are there hang on it."""
    assert CAPTION.caption_id == "bbd4f89431469f4bf86dde4f4a4a7f6f"
    assert CAPTION.caption_id == caption_id_of("clip-1", (0, 100), "short", AUTHOR)


def test_questions_are_told_apart() -> None:
    window = Window(None, 0, 100, 0.0, 4.0)
    others = [
        request_id_of("clip-2", window, AUTHOR, 1),
        request_id_of("clip-1", replace(window, start_pts=1), AUTHOR, 1),
        request_id_of("clip-1", replace(window, end_pts=99), AUTHOR, 1),
        request_id_of("clip-1", window, replace(AUTHOR, prompt_id="prompt-2"), 1),
        request_id_of("clip-1", window, AUTHOR, 2),
        CAPTION.caption_id,
    ]
    ids = {request_id_of("clip-1", window, AUTHOR, 1), *others}
    assert len(ids) == 1 + len(others)


def rows_of(store: Store) -> list[dict[str, Any]]:
    return sorted(store.open("captions").to_table().to_pylist(), key=lambda row: row["kind"])


def test_written_twice_is_there_once(store: Store) -> None:
    batch = [replace(CAPTION, kind=kind) for kind in ("short", "descriptive")]
    assert write_captions(store, batch, "run-1") == 2
    first = rows_of(store)
    assert write_captions(store, [*batch, replace(CAPTION, kind="motion")], "run-2") == 1
    assert [row["kind"] for row in rows_of(store)] == ["descriptive", "motion", "short"]
    assert [row for row in rows_of(store) if row["kind"] != "motion"] == first, "what is there stays as it was"


def test_writing_what_is_there_makes_no_version(store: Store) -> None:
    write_captions(store, [CAPTION], "run-1")
    version = store.open("captions").version
    assert write_captions(store, [CAPTION, CAPTION], "run-2") == 0
    assert write_captions(store, [], "run-2") == 0
    assert store.open("captions").version == version


def test_twice_in_one_batch_is_there_once(store: Store) -> None:
    assert write_captions(store, [CAPTION, replace(CAPTION, text="Another.")], "run-1") == 1
    assert len(rows_of(store)) == 1


def test_a_row_says_all_of_it(store: Store) -> None:
    caption = replace(
        CAPTION,
        text="Ein Hund \u2014 \U0001f415\u200d\U0001f9ba.",
        flags=("too_short", "language"),
        fields='{"a": 1}',
        request_id="r",
        seed=2**32 - 1,
        tokens_in=5,
        tokens_out=6,
        finish_reason="stop",
        agreement=0.25,
        window_index=3,
        attempts=2,
    )
    write_captions(store, [caption], "run-1")
    (row,) = rows_of(store)
    assert row.pop("caption_id") == caption.caption_id
    assert row.pop("run_id") == "run-1"
    assert row.pop("flags") == ["too_short", "language"]
    assert all(row[name] == getattr(caption, name) for name in row)
    assert len(row) == 19


def test_captions_are_found_by_their_author_and_clip(store: Store) -> None:
    others = [
        {"clip_id": "clip-2"},
        {"model": "other"},
        {"model_revision": "model-2"},
        {"prompt_id": "prompt-2"},
        {"kind": "motion"},
    ]
    write_captions(store, [CAPTION, *(replace(CAPTION, **change) for change in others)], "run-1")
    captions = store.open("captions")
    columns = ["clip_id", "kind"]
    found = captions_among(captions, ["clip-1"], AUTHOR, columns)
    assert sorted(row["kind"] for row in found) == ["motion", "short"]
    assert set(found[0]) == set(columns)
    assert len(captions_among(captions, ["clip-1", "clip-2", "clip-3"], AUTHOR, columns)) == 3
    assert captions_among(captions, [], AUTHOR, columns) == []
    assert captions_among(captions, ["' OR true --"], AUTHOR, columns) == []
    hostile = replace(AUTHOR, model="' OR true --")
    assert captions_among(captions, ["clip-1"], hostile, columns) == []
