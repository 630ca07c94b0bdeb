"""Verdicts given again: what changes, that nothing is decoded or lost, and that clips kept only now are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation import reverdict
from curation.curate import CurateConfig, CutConfig
from curation.media import Limits
from curation.records import BadSource
from curation.reverdict import Changes, apply_verdicts, cut_now_kept
from curation.store import Store
from curation.verdicts import Thresholds
from tests.stores import curate_in_process, table_rows

LONG, SHORT = Thresholds(min_seconds=2.5), Thresholds(min_seconds=0.5)


@pytest.fixture
def store(tmp_path: Path, small_footage: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    curate_in_process([small_footage], store)
    return store


def decide(store: Store, thresholds: Thresholds) -> Changes:
    """What the job does, without Ray."""
    changes = Changes()
    for uncut in apply_verdicts(store, thresholds, changes, before_commit=lambda: None):
        changes.merge(cut_now_kept(store, uncut, thresholds, CutConfig(), Limits()))
    return changes


def test_the_same_thresholds_change_nothing_and_make_no_version(store: Store) -> None:
    version = store.open("clips").version
    changes = decide(store, Thresholds())
    assert not changes.clips
    assert changes.unchanged == store.open("clips").count_rows()
    assert store.open("clips").version == version


def test_stricter_thresholds_reject_and_leave_the_bytes(store: Store) -> None:
    before = table_rows(store)["clips"]
    changes = decide(store, LONG)
    after = table_rows(store)["clips"]
    assert changes.clips == {("kept", "too_short"): sum(row["keep"] for row in before) - 1}
    assert [row["video"] for row in after] == [row["video"] for row in before]
    assert sum(row["keep"] for row in after) == 1
    assert {row["reason"] for row in after if not row["keep"]} == {"too_short"}
    decide(store, Thresholds())
    assert table_rows(store)["clips"] == before


def test_looser_thresholds_cut_what_is_kept_now_as_curating_would_have(
    store: Store, small_footage: Path, tmp_path: Path
) -> None:
    changes = decide(store, SHORT)
    assert changes.clips == {("too_short", "kept"): 4}
    directly = Store.at(str(tmp_path / "directly"))
    curate_in_process([small_footage], directly, CurateConfig(thresholds=SHORT))
    assert table_rows(store)["clips"] == table_rows(directly)["clips"]


def test_nothing_is_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a decoder was made")

    monkeypatch.setattr("curation.decode.Decoder.__init__", refuse)
    monkeypatch.setattr("curation.curate.encode_clip", refuse)
    assert decide(store, SHORT).clips


def test_a_dry_run_counts_and_changes_nothing(store: Store) -> None:
    before, version = table_rows(store), store.open("clips").version
    changes = Changes()
    apply_verdicts(store, SHORT, changes, before_commit=None)
    assert changes.clips == {("too_short", "kept"): 4}
    assert (table_rows(store), store.open("clips").version) == (before, version)


def test_no_video_is_written_again(store: Store) -> None:
    def size_bytes() -> int:
        return sum(path.stat().st_size for path in Path(store.table_uri("clips")).rglob("*") if path.is_file())

    videos_bytes = sum(row["video_bytes"] or 0 for row in table_rows(store)["clips"])
    before_bytes = size_bytes()
    assert decide(store, LONG).clips
    assert 0 < size_bytes() - before_bytes < videos_bytes / 2


@pytest.mark.parametrize(("harm", "reason"), [("gone", "unreadable"), ("changed", "content_changed")])
def test_a_source_that_is_not_what_it_was_is_named_and_its_clips_stay_rejected(
    tmp_path: Path, small_footage: Path, harm: str, reason: str
) -> None:
    path = tmp_path / "take.mp4"
    path.write_bytes((small_footage / "take_0.mp4").read_bytes())
    store = Store.at(str(tmp_path / "store"))
    curate_in_process([path], store)
    path.unlink() if harm == "gone" else path.write_bytes(b"something else")
    (uncut,) = apply_verdicts(store, SHORT, Changes(), before_commit=lambda: None)
    with pytest.raises(BadSource, match=reason):
        reverdict.cut_now_kept(store, uncut, SHORT, CutConfig(), Limits())
    assert any(row["reason"] == "too_short" for row in table_rows(store)["clips"])


def test_it_works_after_compaction(store: Store) -> None:
    store.compact(keep_versions_days=0)
    assert decide(store, SHORT).clips == {("too_short", "kept"): 4}
    assert decide(store, LONG).clips
