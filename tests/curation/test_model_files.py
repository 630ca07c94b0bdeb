"""A model's id is its content, and gigabytes are read for it once: again only where a file may have changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from curation import model_files
from curation.model_files import content_id


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where hashes are kept, those of the smallest models too, and of files that were written just now."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(model_files, "KEPT_FROM_BYTES", 0)
    monkeypatch.setattr(model_files, "SETTLED_NS", -(10**18))
    return tmp_path / "cache" / "dailies" / "model_hashes"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were read, each time that any were."""
    counts: list[int] = []
    really = model_files._hash

    def counted(files: list[tuple[str, Path]]) -> str:
        counts.append(len(files))
        return really(files)

    monkeypatch.setattr(model_files, "_hash", counted)
    return counts


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "README.md").write_text("x")
    return folder


def test_ids_that_are_in_stores_stay_as_they_are(model: Path, tmp_path: Path, cache: Path) -> None:
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"head")
    for _ in range(2):  # hashed, and from the cache
        assert content_id("model", model) == "model-5a944190403681eb"
        assert content_id("aesthetic", head) == "aesthetic-c088fdadb82093f2"
        assert content_id("pair", model, head) == "pair-21ead9f4ca6be5f4"
    assert len(list(cache.iterdir())) == 3


def test_nothing_is_read_twice(model: Path, cache: Path, hashed: list[int]) -> None:
    assert len({content_id("model", model) for _ in range(3)}) == 1
    assert content_id("embedding", model).startswith("embedding-")
    assert hashed == [2]
    (model / "README.md").write_text("of no consequence")
    content_id("model", model)
    assert hashed == [2]


def same_size_same_times(model: Path) -> None:
    weights = model / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(bytes(reversed(range(256))))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_mtime_ns == before.st_mtime_ns


def replaced(model: Path) -> None:
    weights = model / "model.safetensors"
    before = weights.stat()
    other = model / "new"
    other.write_bytes(bytes(reversed(range(256))))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(weights)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda model: (model / "config.json").write_text("[]"),
    "longer": lambda model: (model / "config.json").write_text("{} "),
    "its times set back": same_size_same_times,
    "replaced": replaced,
    "another file": lambda model: (model / "tokenizer.json").write_text("{}"),
    "one less": lambda model: (model / "config.json").unlink(),
    "another name": lambda model: (model / "config.json").rename(model / "other.json"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_has_another_id(
    model: Path, cache: Path, hashed: list[int], change: Callable[[Path], object]
) -> None:
    before = content_id("model", model)
    time.sleep(0.02)  # the clock of a file system ticks some hundred times a second
    change(model)
    assert content_id("model", model) != before
    assert len(hashed) == 2


def test_what_was_just_written_is_not_kept(
    model: Path, cache: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again within a tick of the clock."""
    monkeypatch.setattr(model_files, "SETTLED_NS", 3600 * 10**9)
    ids = {content_id("model", model) for _ in range(2)}
    assert (len(ids), len(hashed), cache.exists()) == (1, 2, False)


def test_what_is_written_while_it_is_read_is_not_kept(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = model_files._hash

    def disturbed(files: list[tuple[str, Path]]) -> str:
        found = really(files)
        (model / "config.json").write_text("[]")
        return found

    monkeypatch.setattr(model_files, "_hash", disturbed)
    content_id("model", model)
    assert not cache.exists()


def test_a_snapshot_of_the_hub_is_its_files(model: Path, tmp_path: Path, cache: Path, hashed: list[int]) -> None:
    """Its files are links to blobs that are named by their hash; two snapshots may share them."""
    blobs, wanted = tmp_path / "blobs", content_id("model", model)
    model.rename(blobs)
    for commit in ("abc", "def"):
        snapshot = tmp_path / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for blob in blobs.iterdir():
            (snapshot / blob.name).symlink_to(blob)
        assert content_id("model", snapshot) == wanted
    assert hashed == [2, 2], "moved, and then met again"


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"\xff\xfe", b"0" * 63, b"0" * 65])
def test_a_damaged_cache_is_not_believed(model: Path, cache: Path, content: bytes) -> None:
    wanted = content_id("model", model)
    (kept,) = cache.iterdir()
    for _ in range(2):
        kept.write_bytes(content)
        assert content_id("model", model) == wanted
    assert len(kept.read_text()) == 64


def test_without_a_place_for_the_cache_all_is_hashed(
    model: Path, tmp_path: Path, cache: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len({content_id("model", model) for _ in range(2)}) == 1
    assert len(hashed) == 2


def test_small_models_leave_the_cache_alone(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "KEPT_FROM_BYTES", 1 << 26)
    content_id("model", model)
    assert not cache.exists()
