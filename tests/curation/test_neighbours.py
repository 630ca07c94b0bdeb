"""Nearest clips by looks: copies first, then what is least unlike, also for a picture and from a file."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.duplicate_footage import altered, copy_fingerprint, middle_picture, whole
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.fingerprint import Fingerprint
from curation.neighbours import fingerprints_of_file, nearest_by_fingerprint, shared_keys
from curation.records import BadSource
from curation.store import Store
from tests.looking_alike import Stored, add_source, fingerprint_of_shot, shot
from tests.stores import compare_in_process


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    add_source(store, "all", [Stored(str(seed), fingerprint_of_shot(seed)) for seed in range(1, 9)])
    compare_in_process(store)
    return store


def id_of(seed: int) -> str:
    return Stored(str(seed), None).clip_id


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_copy_is_first_and_strangers_follow(store: Store, is_compacted: bool) -> None:
    if is_compacted:
        store.compact(0)
    query = copy_fingerprint(altered(shot(3), "all_at_once", np.random.default_rng(1)))
    found = nearest_by_fingerprint(store, query, 4)
    assert found[0].clip_id == id_of(3)
    assert found[0].distance < 0.15
    assert len(found) == 4, "there is always a nearest"
    distances = [neighbour.distance for neighbour in found]
    assert distances == sorted(distances)
    assert distances[1] > 0.3
    without = nearest_by_fingerprint(store, query, 4, without={id_of(3)})
    assert id_of(3) not in {neighbour.clip_id for neighbour in without}


def test_one_picture_finds_the_clip_that_it_is_from(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), middle_picture(whole(shot(5))))
    (query,) = fingerprints_of_file(path)
    assert nearest_by_fingerprint(store, query.fingerprint, 1)[0].clip_id == id_of(5)


def test_nothing_to_see_and_an_empty_store_give_no_error(store: Store, tmp_path: Path) -> None:
    black = Fingerprint((np.zeros((8, 64), np.int8),))
    assert nearest_by_fingerprint(store, black, 3) == []
    empty = Store.at(str(tmp_path / "empty"))
    empty.create()
    assert nearest_by_fingerprint(empty, fingerprint_of_shot(1), 3) == []


def test_a_video_gives_a_query_for_each_scene(tmp_path: Path) -> None:
    edit = Edit((SceneSpec(seed=1, frames=24), SceneSpec(seed=2, frames=36)), (Join("cut"),))
    frames = render(edit, 192, 128, [i / 12 for i in range(edit.frames)])
    encode_film(tmp_path / "film.mp4", frames, Encoding(rate=Fraction(12)))
    scenes = fingerprints_of_file(tmp_path / "film.mp4")
    assert [scene.start_s for scene in scenes] == pytest.approx([0.0, 2.0])
    assert [scene.duration_s for scene in scenes] == pytest.approx([2.0, 3.0])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def words(path: Path) -> None:
    path.write_text("not a picture")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.mp4"])
@pytest.mark.parametrize("make", [empty, words])
def test_what_is_no_picture_is_named(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / name)
    with pytest.raises(BadSource):
        fingerprints_of_file(tmp_path / name)


def test_shared_keys_are_those_with_the_same_key_and_few_check_bits_apart() -> None:
    mine = np.array([1 << 32, 1 << 32 | 0xFF, 2 << 32, 5 << 32], np.uint64)
    theirs = np.array([5 << 32 | 0xFFFF, 1 << 32, 9 << 32, 2 << 32 | 1], np.uint64)
    at, rows = shared_keys(mine, theirs)
    assert sorted(zip(at.tolist(), rows.tolist(), strict=True)) == [(0, 1), (1, 1), (2, 3)]
