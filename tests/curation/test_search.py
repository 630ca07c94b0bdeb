"""Search: a clip finds its copies, a file its clips, a text what a model says; conditions and mistakes in them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from curation import search
from curation.duplicate_verdicts import DuplicateConfig
from curation.duplicates import compare_batch, uncompared_batches
from curation.embeddings import EmbeddedClip, EmbeddingModel, add_model, write_embeddings
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.model_files import BadModel
from curation.query_pictures import pictures_of_file
from curation.records import BadSource
from curation.search import BadSearch, find_alike, find_where
from curation.store import Store
from jobs.search import main
from tests.score_stores import drawn_rows, write_store
from tests.stores import curate_in_process

RATE = Fraction(12)
SCENES = (SceneSpec(seed=1, frames=24, pan_x_px_per_s=40.0), SceneSpec(seed=2, frames=24, object_x_px_per_s=30.0))
MODEL = EmbeddingModel("model-1", "tiny", 4)


def pictures(specs: Sequence[SceneSpec], width: int, height: int) -> list[NDArray[np.uint8]]:
    """Scenes one after the other, shot at 256 by 144 and scaled."""
    edit = Edit(tuple(specs), (Join("cut"),) * (len(specs) - 1))
    frames = render(edit, 256, 144, [i / float(RATE) for i in range(edit.frames)])
    return [np.asarray(cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA), np.uint8) for f in frames]


def shoot(path: Path, width: int, height: int, specs: Sequence[SceneSpec] = SCENES) -> None:
    encode_film(path, pictures(specs, width, height), Encoding(rate=RATE, b_frames=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage: a film, the same smaller under an attacker's name, and another; beside it a picture of the film."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "footage").mkdir()
    shoot(folder / "footage" / "film.mp4", 256, 144)
    shoot(folder / "footage" / "<b>copy.mp4", 192, 108)
    shoot(folder / "footage" / "other.mp4", 256, 144, [SceneSpec(seed=7, frames=24), SceneSpec(seed=8, frames=24)])
    shoot(folder / "query.mp4", 224, 126, SCENES[1:])
    cv2.imwrite(str(folder / "query.png"), pictures(SCENES[1:], 300, 168)[6][..., ::-1])
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    store = Store.at(str(folder / "store"))
    curate_in_process([folder / "footage"], store)
    for source_ids in uncompared_batches(store):
        compare_batch(store, source_ids, DuplicateConfig(duplicates="keep"), lambda: None)
    return store


def clips_of(store: Store, name: str) -> list[str]:
    """The ids of a file's clips, in order of time."""
    sources = store.open("sources").to_table(columns=["source_id", "uri"]).to_pylist()
    (source_id,) = [row["source_id"] for row in sources if row["uri"].endswith("/" + name)]
    rows = (
        store.open("clips").to_table(columns=["clip_id", "start_pts"], filter=f"source_id = '{source_id}'").to_pylist()
    )
    return [row["clip_id"] for row in sorted(rows, key=lambda row: row["start_pts"])]


# -- by looks


@pytest.mark.parametrize("scene", [0, 1])
def test_a_clip_finds_its_copy_and_not_itself(store: Store, scene: int) -> None:
    mine, copy = clips_of(store, "film.mp4"), clips_of(store, "<b>copy.mp4")
    assert len(mine) == len(copy) == 2
    (hits,) = find_alike(store, mine[scene], None, 3)
    assert hits.by == "looks"
    assert hits.found[0].clip_id == copy[scene]
    distances = [found.distance for found in hits.found if found.distance is not None]
    assert distances == sorted(distances)
    assert distances[0] < 0.15 < distances[1]
    assert mine[scene] not in [found.clip_id for found in hits.found]


@pytest.mark.parametrize("name", ["query.mp4", "query.png"])
def test_a_file_finds_its_clips(store: Store, folder: Path, name: str) -> None:
    (hits,) = find_alike(store, str(folder / name), None, 2)
    assert {found.clip_id for found in hits.found} == {clips_of(store, n)[1] for n in ("film.mp4", "<b>copy.mp4")}


def test_a_condition_holds_for_what_is_found(store: Store) -> None:
    (first, _), (copy, _) = clips_of(store, "film.mp4"), clips_of(store, "<b>copy.mp4")
    (hits,) = find_alike(store, first, "width = 256", 5)
    found = [found.clip_id for found in hits.found]
    assert copy not in found
    assert set(found) <= {*clips_of(store, "film.mp4"), *clips_of(store, "other.mp4")}
    assert found
    assert find_alike(store, first, "width = 1", 5)[0].found == ()
    assert find_alike(store, first, "width = 256 -- as shot", 5)[0].found == hits.found


def test_a_store_that_was_never_compared_says_so(tmp_path: Path, folder: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    curate_in_process([folder / "footage" / "other.mp4"], store)
    (hits,) = find_alike(store, clips_of(store, "other.mp4")[0], None, 5)
    assert "jobs.curate" in " ".join(hits.notes)


def test_a_store_of_an_older_version_says_so(tmp_path: Path, folder: Path) -> None:
    rows = drawn_rows(2, seed=1)
    store = write_store(tmp_path, rows)
    store.open("clips").drop_columns(["fingerprint"])
    shutil.rmtree(store.table_uri("fingerprints"))
    for like in (rows[0]["clip_id"], str(folder / "query.png")):
        (hits,) = find_alike(store, like, None, 5)
        assert hits.found == ()
        assert hits.notes == (search.OLDER_STORE,)


# -- by meaning


class FakeEmbedder:
    """Knows two words and the brightness of pictures."""

    model = MODEL
    side_px = 32

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[1, 0, 0, 0] if text == "first" else [0, 1, 0, 0] for text in texts], np.float32)

    def embed_images(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        assert all(picture.ndim == 3 and min(picture.shape[:2]) <= 32 for picture in pictures)
        return np.array([[0, 1, 0, 0] for _ in pictures], np.float32)


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, list[str]]:
    rows = drawn_rows(6, seed=2)
    store = write_store(tmp_path, rows)
    add_model(store, MODEL, "run")
    ids = [row["clip_id"] for row in rows]
    clips = []
    for n, clip_id in enumerate(ids):
        vector = np.array([1 - n / 5, n / 5, 0, 0])
        clips.append(EmbeddedClip(clip_id, (vector / np.linalg.norm(vector)).astype(np.float32)))
    write_embeddings(store, MODEL, clips, "run")
    monkeypatch.setattr(search, "loaded", lambda model: FakeEmbedder())
    return store, ids


def test_a_text_finds_by_meaning(embedded: tuple[Store, list[str]]) -> None:
    store, ids = embedded
    (hits,) = find_alike(store, "first", None, 3)
    assert hits.by == "meaning"
    assert [found.clip_id for found in hits.found] == ids[:3]
    assert hits.found[0].cosine == pytest.approx(1.0)
    (hits,) = find_alike(store, "the second", f"clip_id != '{ids[5]}'", 2)
    assert [found.clip_id for found in hits.found] == [ids[4], ids[3]]


def test_a_clip_finds_by_meaning_without_a_model_at_hand(
    embedded: tuple[Store, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ids = embedded
    monkeypatch.setattr(search, "loaded", lambda model: pytest.fail("no model is needed"))
    looks, meaning = find_alike(store, ids[0], None, 2)
    assert (looks.by, meaning.by) == ("looks", "meaning")
    assert [found.clip_id for found in meaning.found] == ids[1:3]


def test_a_file_finds_by_both(embedded: tuple[Store, list[str]], folder: Path) -> None:
    store, ids = embedded
    looks, meaning = find_alike(store, str(folder / "query.png"), None, 1)
    assert looks.found == ()
    assert [found.clip_id for found in meaning.found] == [ids[5]]


def test_without_its_model_a_file_finds_by_looks_and_a_text_says_why_not(
    embedded: tuple[Store, list[str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(model: EmbeddingModel) -> Any:
        raise BadModel("there is no model directory tiny")

    monkeypatch.setattr(search, "loaded", gone)
    (looks,) = find_alike(embedded[0], str(folder / "query.png"), None, 1)
    assert "by looks alone: there is no model directory tiny" in looks.notes
    with pytest.raises(BadSearch, match="no model directory"):
        find_alike(embedded[0], "first", None, 1)
    with pytest.raises(BadSearch, match="model=large: no clip was embedded by it; there is tiny"):
        find_alike(embedded[0], "first", None, 1, "large")


def test_a_model_that_has_changed_since_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.Embedder, "load", lambda name: FakeEmbedder())
    assert search.loaded(MODEL).model == MODEL
    with pytest.raises(BadModel, match="tiny is another model than the one that embedded the clips"):
        search.loaded(EmbeddingModel("model-0", "tiny", 4))


def test_pictures_of_a_file_are_spread_and_small(folder: Path, tmp_path: Path) -> None:
    pictures = pictures_of_file(folder / "footage" / "film.mp4", 64)
    assert len(pictures) > 1
    assert {picture.shape for picture in pictures} == {(64, 114, 3)}
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(BadSource, match="no picture of a format"):
        pictures_of_file(tmp_path / "no.png", 64)


# -- conditions, mistakes


def test_conditions_ask_for_any_column(store: Store) -> None:
    everything = find_where(store, None, 100)
    assert len(everything.found) == store.open("clips").count_rows()
    some = find_where(store, "duration_s > 1 AND width = 192 AND keep IS NOT NULL", 100)
    assert [found.clip_id for found in some.found] == clips_of(store, "<b>copy.mp4")
    assert len(find_where(store, None, 2).found) == 2


@pytest.mark.parametrize(
    ("like", "where", "says"),
    [
        (None, "duration > 2", "there is no column duration; did you mean duration_s"),
        (None, "colorfullness > 2", "did you mean colorfulness"),
        (None, "qqqq = 1", "there is no column qqqq; there are active_height_px"),
        (None, "duration_s >", "where=duration_s >: "),
        (None, "duration_s > 'x' AND", "where="),
        (None, "width > 0) OR (true", "where=width > 0) OR (true: not one whole condition"),
        (None, "width > 0)", "not one whole condition"),
        (None, "width > 0 LIMIT 1", "not one whole condition"),
        ("nowhere.mp4", None, "like=nowhere.mp4: there is no such file"),
        (
            "a blue emu",
            None,
            "there is no such file, and a text needs embeddings, which this store lacks; python -m jobs.score",
        ),
        ("0" * 32, None, "the store has no clip of this id"),
        ("a blue emu " * 30, None, "a text needs embeddings"),
        ("a blue\0emu", None, "a text needs embeddings"),
    ],
)
def test_mistakes_are_named(store: Store, like: str | None, where: str | None, says: str) -> None:
    with pytest.raises(BadSearch) as raised:
        find_alike(store, like, where, 5) if like else find_where(store, where, 5)
    assert says in str(raised.value)


def test_a_file_that_is_no_video_is_named(store: Store, tmp_path: Path) -> None:
    for name in ("text.txt", "broken.mp4", "broken.png"):
        (tmp_path / name).write_text("no video")
        with pytest.raises(BadSearch, match=name):
            find_alike(store, str(tmp_path / name), None, 5)


# -- the command line


def test_it_prints_a_table_and_writes_a_page(
    store: Store, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--like", str(folder / "query.mp4"), "--limit", "2", "--columns", "width", "dominant_colors"]
    assert main(["--store", store.uri, *options, "--out", str(tmp_path / "page")]) == 0
    head, heads, *rows, last = capsys.readouterr().out.splitlines()
    assert head == "2 clips by looks"
    assert heads.split() == ["rank", "distance", "clip_id", "source", "span", "verdict", "width", "dominant_colors"]
    assert {row.split()[3] for row in rows} == {"film.mp4", "<b>copy.mp4"}
    page = tmp_path / "page" / "index.html"
    assert last == f"open {page.as_uri()}"
    html = page.read_text()
    assert html.count("<article") == 2
    assert "&lt;b&gt;copy.mp4" in html
    assert "<b>copy" not in html
    assert len(list((tmp_path / "page" / "clips").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--where", "duration > 2"], 2, "did you mean duration_s"),
        (["--columns", "colour"], 2, "columns: there is no column colour; did you mean"),
        (["--like", "gone.png"], 2, "there is no such file"),
    ],
)
def test_mistakes_end_with_a_message(
    store: Store, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", store.uri, *arguments]) == code
    assert says in capsys.readouterr().err


def test_an_empty_store_and_none_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Store.at(str(tmp_path / "store"))
    empty.create()
    assert main(["--store", empty.uri]) == 2
    assert "has no clips; python -m jobs.curate" in capsys.readouterr().err
    assert main(["--store", str(tmp_path / "none")]) == 4
    assert "there is no store at" in capsys.readouterr().err
