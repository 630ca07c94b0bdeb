"""Exactly once at the level of the tables: interrupted between two commits, the same work gives the same rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from curation.curate import CurateConfig, SourceCuration
from curation.ingest import Footage, find_footage
from curation.media import Limits
from curation.records import BadSource, SourceState
from curation.shots import ShotConfig
from curation.store import FinishedSource, Store, StoreUnavailable
from curation.tables import CLIPS
from curation.takes import TakeConfig
from curation.verdicts import Thresholds
from curation.work import curate_footage
from tests.stores import curate_in_process, table_rows


def finish(footage: Path, store: Store, config: CurateConfig | None = None) -> list[FinishedSource]:
    found = [f for f in find_footage([str(footage)]) if isinstance(f, Footage)]
    finished = [curate_footage(f, store, config or CurateConfig(), "run") for f in found]
    return [f for f in finished if f is not None]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    return store


@pytest.fixture
def expected(small_footage: Path, tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    undisturbed = Store.at(str(tmp_path / "undisturbed"))
    curate_in_process([small_footage], undisturbed)
    return table_rows(undisturbed)


def test_the_store_that_others_are_compared_with_has_kept_and_rejected_clips(expected: dict[str, Any]) -> None:
    assert len(expected["sources"]) == 4
    assert {row["keep"] for row in expected["clips"]} == {True, False}
    assert all((row["video"] is not None) == row["keep"] for row in expected["clips"])
    assert len({row["clip_id"] for row in expected["clips"]}) == len(expected["clips"])


def test_a_crash_between_the_two_commits_of_a_batch_leaves_nothing_twice(
    store: Store, small_footage: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = finish(small_footage, store)
    merge_insert = lance.LanceDataset.merge_insert

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lance.LanceDataset, "merge_insert", crash)
    with pytest.raises(KeyboardInterrupt):
        store.commit_sources(finished)
    monkeypatch.setattr(lance.LanceDataset, "merge_insert", merge_insert)
    assert store.open("clips").count_rows() > 0  # the crash did hit between the two
    assert store.open("sources").count_rows() == 0

    store.commit_sources(finish(small_footage, store))
    assert table_rows(store) == expected


def test_the_same_batch_may_be_committed_again(store: Store, small_footage: Path, expected: dict[str, Any]) -> None:
    finished = finish(small_footage, store)
    store.commit_sources(finished)
    store.commit_sources(finished)
    assert table_rows(store) == expected


def test_a_file_under_two_names_in_one_batch_is_one_source(store: Store, small_footage: Path, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    shutil.copytree(small_footage, copies)
    shutil.copy(copies / "take_0.mp4", copies / "take_0_again.mp4")
    store.commit_sources(finish(copies, store))
    rows = table_rows(store)
    assert len(rows["sources"]) == 4
    assert len({row["clip_id"] for row in rows["clips"]}) == len(rows["clips"])


def test_a_file_that_is_in_the_store_is_not_curated_again_wherever_it_moved(
    store: Store, small_footage: Path, tmp_path: Path
) -> None:
    store.commit_sources(finish(small_footage, store))
    moved = tmp_path / "moved"
    shutil.copytree(small_footage, moved)
    (moved / "take_0.mp4").rename(moved / "renamed.mp4")
    assert finish(moved, store) == []


def test_another_config_replaces_the_clips_and_keeps_the_ids_of_equal_ones(store: Store, small_footage: Path) -> None:
    store.commit_sources(finish(small_footage, store))
    before = {row["clip_id"] for row in table_rows(store)["clips"]}
    split = CurateConfig(takes=TakeConfig(max_seconds=1.2))
    superseded = store.commit_sources(finish(small_footage, store, split))
    after = {row["clip_id"] for row in table_rows(store)["clips"]}
    assert superseded == len(before)
    assert after - before, "long takes are split now"
    assert after & before, "short takes are the same clips"
    assert store.open("sources").count_rows() == 4


def test_other_limits_or_thresholds_do_not_make_clips_outdated(store: Store, small_footage: Path) -> None:
    store.commit_sources(finish(small_footage, store))
    assert finish(small_footage, store, CurateConfig(limits=Limits(max_streams=3))) == []
    assert finish(small_footage, store, CurateConfig(thresholds=Thresholds(min_seconds=2))) == []
    assert finish(small_footage, store, CurateConfig(shots=ShotConfig(shots=("adaptive",)))) != []


def test_a_row_that_said_unreadable_goes_when_the_file_can_be_read(
    store: Store, small_footage: Path, tmp_path: Path
) -> None:
    path = tmp_path / "late.mp4"
    footage = Footage(str(path), 1, "then")
    missing = curate_footage(footage, store, CurateConfig(), "run")
    assert missing is not None
    assert (missing.row["state"], missing.row["reason"]) == ("failed", "unreadable")
    store.commit_sources([missing])
    shutil.copy(small_footage / "take_0.mp4", path)
    found = curate_footage(footage, store, CurateConfig(), "run")
    assert found is not None
    store.commit_sources([found])
    (row,) = table_rows(store)["sources"]
    assert row["state"] == "curated"


@pytest.mark.parametrize("good_rows", [0, 1, 100])
def test_what_a_source_raises_while_its_clips_are_written_arrives_as_it_is(
    store: Store, small_footage: Path, good_rows: int
) -> None:
    footage = Footage(str(small_footage / "take_0.mp4"), None, "")
    row = next(SourceCuration(small_footage / "take_0.mp4", footage, "id", CurateConfig(), "run").clip_rows())

    def rows() -> Iterator[dict[str, Any]]:
        yield from [row] * good_rows
        raise BadSource(SourceState.FAILED, "decode_timeout", "too slow")

    with pytest.raises(BadSource, match="too slow"):
        store.write_clips(rows())
    assert store.open("clips").count_rows() == 0


def test_a_store_that_is_not_there_or_not_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"there is no store at .*nowhere"):
        Store.at(str(tmp_path / "nowhere")).open("clips")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="file"):
        Store.at(str(tmp_path / "file")).create()


def test_an_older_store_gets_the_columns_that_were_added_since(store: Store, small_footage: Path) -> None:
    store.commit_sources(finish(small_footage, store))
    store.open("clips").drop_columns(["sharpness_levels2"])
    store.create()
    clips = store.open("clips")
    assert set(clips.schema.names) == set(CLIPS.names)
    assert clips.to_table(columns=["sharpness_levels2"])["sharpness_levels2"].null_count == clips.count_rows()


def test_compaction_keeps_every_row_and_every_byte(store: Store, small_footage: Path, expected: dict[str, Any]) -> None:
    for finished in finish(small_footage, store):
        store.commit_sources([finished])
    assert len(store.open("clips").get_fragments()) == 4
    done = store.compact(keep_versions_days=0)
    assert done["clips"]["fragments_after"] == 1
    assert table_rows(store) == expected
    assert finish(small_footage, store) == []


def test_rows_survive_names_that_would_break_a_query(store: Store, small_footage: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "odd"\n🎬'
    folder.mkdir()
    shutil.copy(small_footage / "take_0.mp4", folder / "a'; DROP TABLE clips; --.mp4")
    store.commit_sources(finish(folder, store))
    (row,) = table_rows(store)["sources"]
    assert row["uri"] == str(folder / "a'; DROP TABLE clips; --.mp4")
    assert isinstance(store.open("clips").schema, pa.Schema)


def test_a_store_that_goes_away_while_it_is_read_is_named(store: Store) -> None:
    empty = store.open("fingerprints")
    row = dict.fromkeys(empty.schema.names) | {"key": 1, "check": 2, "has_few": False, "clip": bytes(16), "source": 3}
    empty.insert(pa.Table.from_pylist([row], schema=empty.schema))
    table = store.open("fingerprints")
    for data in Path(store.uri).rglob("data/*.lance"):
        data.unlink()
    with pytest.raises(StoreUnavailable, match="cannot be read"), store.reading():
        table.to_table()
    with pytest.raises(pa.ArrowInvalid), store.reading():
        raise pa.ArrowInvalid("a fault of ours")
