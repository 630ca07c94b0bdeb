"""What models say of clips: plug-ins that keep the contract and such that do not, heads, and columns for verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from curation.clip_frames import RGB
from curation.embed import embedded_clip
from curation.embeddings import EmbeddedClip, EmbeddingModel, add_model, note_model, write_embeddings
from curation.head_scores import score_by_head
from curation.heads import AffineHead
from curation.model_files import BadModel, content_id, model_directory
from curation.model_scores import (
    ClipScore,
    failed_rows,
    make_plugin,
    model_score_columns,
    score_rows,
    scored_among,
    write_model_scores,
)
from curation.scoring import AskedModels
from curation.store import Store

HERE = "tests.curation.test_model_scores"


class Bright:
    """A plug-in: mean brightness as a share, and a word."""

    name, columns, side_px = "bright", ("safety_unsafe_share", "word"), 32

    def __init__(self, weights: str = "none"):
        self.model_id = f"bright-{weights}"

    def load(self, device: str) -> None:
        pass

    def score(self, clips: Sequence[Sequence[RGB]]) -> list[Mapping[str, float | str]]:
        shares = [float(np.mean([frame.mean() for frame in frames])) / 255 for frames in clips]
        return [{"safety_unsafe_share": share, "word": "light" if share > 0.5 else "dark"} for share in shares]


class Incomplete:
    name, model_id = "incomplete", "i"


class Wordy(Bright):
    columns = "word"  # type: ignore[assignment]


class Measuring(Bright):
    columns = ("word", "duration_s")


class Brighter(Bright):
    """Another model for the same scores."""

    def __init__(self) -> None:
        self.model_id = "brighter"


class Unwilling(Bright):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


def test_a_plugin_is_made_by_its_name() -> None:
    assert make_plugin(f"{HERE}:Bright").model_id == "bright-none"
    assert make_plugin(f"{HERE}:Bright=/models/a=b").model_id == "bright-/models/a=b"


UNMADE = [
    ("no.such.module:Thing", "cannot be made: ModuleNotFoundError"),
    (f"{HERE}:Missing", "cannot be made: AttributeError"),
    (f"{HERE}:Unwilling", "cannot be made: RuntimeError: no licence"),
    (f"{HERE}:Incomplete", "lacks columns, side_px, load, score"),
    (f"{HERE}:Wordy", "`columns` must name its scores"),
    (f"{HERE}:Measuring", "duration_s is a column of clips"),
    ("not a name", "cannot be made: ValueError"),
]


@pytest.mark.parametrize(("named", "said"), UNMADE)
def test_what_is_no_plugin_is_refused_by_name(named: str, said: str) -> None:
    with pytest.raises(BadModel, match=said) as raised:
        make_plugin(named)
    assert named in str(raised.value)


def test_two_plugins_for_the_same_score_are_refused_at_once() -> None:
    plugins = [f"{HERE}:Bright", f"{HERE}:Brighter"]
    assert AskedModels.of(None, plugins[1:], 8).plugin_ids == ("brighter",)
    with pytest.raises(BadModel, match="give safety_unsafe_share, word twice"):
        AskedModels.of(None, plugins, 8)


def test_answers_become_rows() -> None:
    said: Any = [{"safety_unsafe_share": np.float32(0.5), "word": "so"}, {"safety_unsafe_share": np.nan, "word": ""}]
    assert score_rows(Bright(), ["a", "b"], said) == [
        ClipScore("a", "safety_unsafe_share", "bright-none", 0.5),
        ClipScore("a", "word", "bright-none", text="so"),
        ClipScore("b", "safety_unsafe_share", "bright-none", failure="not_finite"),
        ClipScore("b", "word", "bright-none", text=""),
    ]


BROKEN = [
    ([], "answered for 0 clips, 1 were shown"),
    ([{}, {}], "answered for 2 clips, 1 were shown"),
    ([{"safety_unsafe_share": 0.5}], "its columns are"),
    ([{"safety_unsafe_share": 0.5, "word": "", "more": 1}], "its columns are"),
    ([{"safety_unsafe_share": None, "word": ""}], "gave None as safety_unsafe_share"),
    ([{"safety_unsafe_share": torch.ones(1), "word": ""}], "must be a number or a text"),
]


@pytest.mark.parametrize(("said", "why"), BROKEN)
def test_a_broken_contract_is_refused(said: Any, why: str) -> None:
    with pytest.raises(BadModel, match=why):
        score_rows(Bright(), ["a"], said)


# -- heads


def linear(out: int, into: int, random: np.random.Generator) -> NDArray[np.float32]:
    return random.normal(size=(out, into)).astype(np.float32)


def public_layouts(random: np.random.Generator) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Names and order of layers of the two public aesthetic predictors, narrower."""
    widths = {0: (32, 16), 2: (12, 32), 4: (8, 12), 6: (4, 8), 7: (1, 4)}
    mlp: dict[str, NDArray[np.float32]] = {}
    for number, (out, into) in widths.items():
        mlp[f"layers.{number}.weight"] = linear(out, into, random)
        mlp[f"layers.{number}.bias"] = random.normal(size=out).astype(np.float32)
    return {"linear": {"weight": linear(1, 16, random), "bias": np.array([5], np.float32)}, "mlp": mlp}


def apply(head: dict[str, NDArray[np.float32]], vector: NDArray) -> float:
    """The layers one after the other, as their authors run them."""
    numbers = sorted({name.rpartition(".")[0] for name in head})
    for prefix in numbers:
        dot = f"{prefix}." if prefix else ""
        vector = head[f"{dot}weight"] @ vector + head[f"{dot}bias"]
    return vector.item()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("layout", ["linear", "mlp"])
def test_a_head_says_of_a_clip_the_mean_of_what_it_says_of_frames(tmp_path: Path, layout: str, kind: str) -> None:
    random = np.random.default_rng(1)
    tensors = public_layouts(random)[layout]
    path = tmp_path / f"head.{kind}"
    if kind == "pth":
        torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, path)
    else:
        save_file(tensors, path)
    head = AffineHead.load(path, "embedding-1", 16)
    frames = random.normal(size=(5, 16)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    clip = embedded_clip("a", frames)
    assert clip.vector is not None
    assert np.linalg.norm(clip.vector) == pytest.approx(1, abs=1e-6)
    (value,) = head.score_clips(clip.vector[None], np.array([clip.mean_length], np.float32))
    assert value == pytest.approx(np.mean([apply(tensors, frame) for frame in frames]), rel=1e-4, abs=1e-4)


def test_vectors_that_say_nothing_fail_the_clip() -> None:
    assert embedded_clip("a", np.full((2, 4), np.nan, np.float32)).failure == "not_finite"
    opposite = np.array([[1, 0], [-1, 0]], np.float32)
    assert embedded_clip("a", opposite) == EmbeddedClip("a", None, frames=2, failure="no_direction")


MISFITS: list[tuple[dict[str, NDArray], str]] = [
    ({"weight": np.ones((1, 9)), "bias": np.ones(1)}, "layer 0 takes 9 numbers, the embeddings have 16"),
    ({"weight": np.ones((2, 16))}, "gives 2 numbers instead of 1"),
    ({"weight": np.ones(16)}, "layer 0 has no weight of two axes"),
    ({"bias": np.ones(1)}, "layer 0 has no weight of two axes"),
    ({"weight": np.ones((1, 16)), "bias": np.ones(3)}, r"bias of the shape \(3,\), not \(1,\)"),
    ({"l.0.weight": np.ones((4, 16)), "l.1.weight": np.ones((1, 5))}, "layer 1 takes 5 numbers, the layer before"),
    ({"weight": np.full((1, 16), np.inf)}, "not finite"),
    ({"running_mean": np.ones(16)}, "running_mean is no weight or bias"),
]


@pytest.mark.parametrize(("tensors", "said"), MISFITS)
def test_a_head_that_does_not_fit_is_refused_by_name(tmp_path: Path, tensors: dict[str, NDArray], said: str) -> None:
    path = tmp_path / "head.safetensors"
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()}, path)
    with pytest.raises(BadModel, match=said) as raised:
        AffineHead.load(path, "embedding-1", 16)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["missing.safetensors", "junk.safetensors", "junk.pth"])
def test_a_head_that_is_no_file_of_tensors_is_refused(tmp_path: Path, name: str) -> None:
    if "junk" in name:
        (tmp_path / name).write_bytes(b"junk")
    with pytest.raises(BadModel, match=name):
        AffineHead.load(tmp_path / name, "embedding-1", 16)


# -- in a store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    return store


def test_the_model_that_was_asked_for_last_speaks_alone(store: Store) -> None:
    for model, value in (("old", 1.0), ("new", 2.0)):
        note_model(store, model, model, "run", scores=["aesthetic"])
        write_model_scores(store, [ClipScore("a", "aesthetic", model, value)], "run")
    write_model_scores(store, [ClipScore("b", "aesthetic", "old", 3.0)], "run")
    write_model_scores(store, failed_rows(Bright(), "a", "damaged"), "run")
    note_model(store, Bright().model_id, "bright", "run", scores=Bright.columns)
    columns = model_score_columns(store, ["b", "a"], ["aesthetic", "safety_unsafe_share", "never"])
    assert set(columns) == {"aesthetic", "safety_unsafe_share"}
    np.testing.assert_array_equal(columns["aesthetic"], [np.nan, 2.0])
    np.testing.assert_array_equal(columns["safety_unsafe_share"], [np.nan, np.nan])
    note_model(store, "old", "old", "run", scores=["aesthetic"])
    np.testing.assert_array_equal(model_score_columns(store, ["b", "a"], ["aesthetic"])["aesthetic"], [3.0, 1.0])
    assert scored_among(store, "bright-none", ["a", "b"]) == {"a"}


def test_a_head_scores_every_embedding_once(store: Store, tmp_path: Path) -> None:
    save_file({"weight": np.eye(1, 4, dtype=np.float32), "bias": np.array([5], np.float32)}, tmp_path / "h.safetensors")
    head = AffineHead.load(tmp_path / "h.safetensors", "embedding-1", 4)
    model = EmbeddingModel("embedding-1", "tiny", 4)
    add_model(store, model, "run")
    vector = np.array([1, 0, 0, 0], np.float32)
    checked: list[int] = []
    for clips in (["a", "b"], ["c"], []):
        write_embeddings(store, model, [EmbeddedClip(clip, vector, 0.5, 8) for clip in clips], "run")
        if "c" in clips:
            write_embeddings(store, model, [EmbeddedClip("d", None, failure="damaged")], "run")
        checked.append(score_by_head(store, head, model, "run", before_commit=lambda: None))
    assert checked == [2, 2, 0]
    rows = store.open("model_scores").to_table().to_pylist()
    assert sorted((row["clip_id"], row["value"], row["failure"]) for row in rows) == [
        ("a", 5.5, None),
        ("b", 5.5, None),
        ("c", 5.5, None),
        ("d", None, "damaged"),
    ]


# -- where models are


@pytest.mark.parametrize("where", ["/nowhere/at/all", "./model", "a/b/c", "model"])
def test_a_directory_that_is_not_there_is_not_looked_for_on_the_hub(where: str) -> None:
    with pytest.raises(BadModel, match=f"there is no model directory {where}"):
        model_directory(where)


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "README.md").write_text(name)
    ids = [content_id("embedding", tmp_path / name) for name in ("a", "b")]
    assert ids[0] == ids[1]
    (tmp_path / "b" / "config.json").write_text("[]")
    assert content_id("embedding", tmp_path / "b") != ids[0]
