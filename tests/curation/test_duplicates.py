"""Duplicates in a store: found whatever the order and the split, once, and settled by the rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import lance
import numpy as np
import pytest

from curation import duplicates
from curation.duplicate_verdicts import DuplicateConfig, losses_of, rank_of, settle
from curation.reverdict import Changes, apply_verdicts
from curation.store import FinishedSource, Store
from curation.verdicts import Thresholds
from tests.looking_alike import Stored, add_source, fingerprint_of_shot, noisy, source_id_of
from tests.stores import compare_in_process, table_rows

A, B = fingerprint_of_shot(1), fingerprint_of_shot(2)
LARGE = Stored("large", A, width=320)
RICH = Stored("rich", noisy(A, 1), video_bytes=5000)
POOR = Stored("poor", noisy(A, 2))
OTHER = Stored("other", B)
SOURCES = {"one": [LARGE, OTHER], "two": [RICH], "three": [POOR, Stored("none", None), Stored("bad", b"garbage")]}


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], Store]:
    count = iter(range(100))

    def make() -> Store:
        store = Store.at(str(tmp_path / f"store-{next(count)}"))
        store.create()
        return store

    return make


def verdicts(store: Store) -> dict[str, tuple[str | None, str | None, str | None]]:
    names = {clip.clip_id: clip.name for clips in SOURCES.values() for clip in clips}
    return {
        names.get(row["clip_id"], "?"): (row["reason"], names.get(row["duplicate_of"]), row["duplicate_kind"])
        for row in table_rows(store)["clips"]
    }


SETTLED = {
    "large": (None, None, None),
    "rich": ("duplicate", "large", "near"),
    "poor": ("duplicate", "large", "near"),
    "other": (None, None, None),
    "none": (None, None, None),
    "bad": (None, None, None),
}


def test_any_order_and_any_split_give_the_same_tables(make_store: Callable[[], Store]) -> None:
    seen = []
    for order in permutations(SOURCES):
        store = make_store()
        for name in order:
            add_source(store, name, SOURCES[name])
            compare_in_process(store)
        seen.append(table_rows(store))
    at_once = make_store()
    for name, clips in SOURCES.items():
        add_source(at_once, name, clips)
    (compared,) = compare_in_process(at_once)
    seen.append(table_rows(at_once))
    assert compared.pairs == {"near": 3}
    assert verdicts(at_once) == SETTLED
    assert len(seen[0]["fingerprints"]) > 50
    assert all(rows == seen[0] for rows in seen)


def test_a_second_run_does_nothing(make_store: Callable[[], Store]) -> None:
    store = make_store()
    for name, clips in SOURCES.items():
        add_source(store, name, clips)
    compare_in_process(store)
    versions = [store.open(table).version for table in ("sources", "clips", "fingerprints", "duplicates")]
    assert compare_in_process(store) == []
    assert [store.open(table).version for table in ("sources", "clips", "fingerprints", "duplicates")] == versions


@pytest.mark.parametrize("commits", range(6))
def test_killed_before_any_commit_the_same_again_gives_the_same(make_store: Callable[[], Store], commits: int) -> None:
    undisturbed, store = make_store(), make_store()
    for each in (undisturbed, store):
        add_source(each, "one", SOURCES["one"])
        compare_in_process(each)
        for name in ("two", "three"):
            add_source(each, name, SOURCES[name])
    compare_in_process(undisturbed)
    done = 0

    def kill_at_last() -> None:
        nonlocal done
        if done == commits:
            raise KeyboardInterrupt
        done += 1

    (batch,) = duplicates.uncompared_batches(store)
    try:
        duplicates.compare_batch(store, batch, DuplicateConfig(), kill_at_last)
    except KeyboardInterrupt:
        assert list(duplicates.uncompared_batches(store)) == [batch], "unfinished work must be known as such"
    else:
        assert commits > 3, "it takes four commits: pairs, keys, verdicts, mark"
    compare_in_process(store)
    assert table_rows(store) == table_rows(undisturbed)


def test_a_superseded_clip_leaves_nothing_and_what_it_beat_is_kept_again(make_store: Callable[[], Store]) -> None:
    store, directly = make_store(), make_store()
    for name in ("one", "two"):
        add_source(store, name, SOURCES[name])
    compare_in_process(store)
    assert verdicts(store)["rich"] == SETTLED["rich"]
    for each in (store, directly):
        add_source(each, "one", [OTHER])
        if each is directly:
            add_source(each, "two", SOURCES["two"])
        compare_in_process(each)
    assert verdicts(store)["rich"] == (None, None, None)
    assert table_rows(store) == table_rows(directly)
    assert not store.open("duplicates").count_rows()


def test_what_a_source_beat_is_kept_again_once_it_is_rejected_itself(make_store: Callable[[], Store]) -> None:
    store = make_store()
    for name in ("one", "two"):
        add_source(store, name, SOURCES[name])
    compare_in_process(store)
    (row,) = store.open("sources").to_table(filter=f"source_id = '{source_id_of('one')}'").to_pylist()
    rejected = {"state": "rejected", "reason": "too_long", "config_hash": "another", "compared": None, "clips": None}
    store.commit_sources([FinishedSource(row | rejected)])
    compare_in_process(store)
    assert verdicts(store) == {"rich": (None, None, None)}
    assert not store.open("duplicates").count_rows()
    assert not list(duplicates.uncompared_batches(store))


def test_a_clip_with_another_fingerprint_under_the_same_id_is_compared_anew(make_store: Callable[[], Store]) -> None:
    store = make_store()
    add_source(store, "one", [LARGE])
    add_source(store, "two", [RICH])
    compare_in_process(store)
    add_source(store, "two", [Stored("rich", B, video_bytes=5000)])
    compare_in_process(store)
    directly = make_store()
    add_source(directly, "one", [LARGE])
    add_source(directly, "two", [Stored("rich", B, video_bytes=5000)])
    compare_in_process(directly)
    assert table_rows(store) == table_rows(directly)


def test_the_same_pictures_are_exact_and_a_clip_of_the_same_source_counts(make_store: Callable[[], Store]) -> None:
    store = make_store()
    twice = fingerprint_of_shot(3, content=77)
    add_source(store, "one", [Stored("first", twice), Stored("again", twice)])
    (compared,) = compare_in_process(store)
    assert compared.pairs == {"exact": 1}
    (pair,) = table_rows(store)["duplicates"]
    assert (pair["distance"], pair["share"], pair["other_share"]) == (0.0, 1.0, 1.0)
    reasons = {row["clip_id"]: row["reason"] for row in table_rows(store)["clips"]}
    first, last = sorted(reasons)
    assert (reasons[first], reasons[last]) == (None, "duplicate")


def test_compaction_keeps_the_tables_and_look_ups_work_after_it(make_store: Callable[[], Store]) -> None:
    store = make_store()
    add_source(store, "one", SOURCES["one"])
    compare_in_process(store)
    before = table_rows(store)
    store.compact(0)
    assert table_rows(store) == before
    for name in ("two", "three"):
        add_source(store, name, SOURCES[name])
    compare_in_process(store)
    assert verdicts(store) == SETTLED


def test_the_index_is_made_when_much_is_not_indexed(
    make_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "REINDEX_ROWS", 20)
    store = make_store()
    for name, clips in SOURCES.items():
        add_source(store, name, clips)
        compare_in_process(store)
    assert len(store.open("fingerprints").describe_indices()) == 2
    assert verdicts(store) == SETTLED


# -- verdicts


def clip(name: str, width: int = 100, video_bytes: int = 100, **more: object) -> dict[str, object]:
    known = {"clip_id": name, "width": width, "height": 100, "rate_fps": 25.0, "duration_s": 1.0}
    return known | {"video_bytes": video_bytes} | more


def pair(one: str, two: str, kind: str = "near", share: float = 1.0, other_share: float = 1.0) -> dict[str, object]:
    return {"clip_id": one, "other_id": two, "kind": kind, "share": share, "other_share": other_share}


RANKS = [
    (clip("b", width=101), clip("a", video_bytes=999)),  # the larger picture
    (clip("b", video_bytes=101), clip("a")),  # then more bits
    (clip("a"), clip("b")),  # then the lesser id
    (clip("b"), clip("a", width=300, active_width_px=90, active_height_px=100)),  # borders are no picture
    (clip("b", bits_per_px=0.2), clip("a", bits_per_px=0.1, video_bytes=999)),  # sound is no picture
]


@pytest.mark.parametrize(("better", "worse"), RANKS)
def test_the_winner_has_more_picture_then_more_bits_then_the_lesser_id(
    better: dict[str, object], worse: dict[str, object]
) -> None:
    assert rank_of(better) < rank_of(worse)
    losses = losses_of([pair("a", "b")], [worse, better], DuplicateConfig())
    assert list(losses) == [worse["clip_id"]]
    assert losses[str(worse["clip_id"])].winner == better["clip_id"]


CHAIN = [clip("a", 300), clip("b", 200), clip("c", 100)]
CASES: list[tuple[str, Sequence[dict[str, object]], dict[str, tuple[str, str]]]] = [
    ("all three the same", [pair("a", "b"), pair("b", "c"), pair("a", "c")], {"b": ("a", "near"), "c": ("a", "near")}),
    ("a duplicate beats nobody", [pair("a", "b"), pair("b", "c")], {"b": ("a", "near")}),
    ("the surest kind is named", [pair("a", "b", "semantic"), pair("a", "b", "exact")], {"b": ("a", "exact")}),
    ("a longer clip is not lost for a part", [pair("a", "b", share=1.0, other_share=0.2)], {}),
    ("a part is lost for the longer clip", [pair("a", "b", share=0.2, other_share=1.0)], {"b": ("a", "near")}),
    ("clips that do not contend do not matter", [pair("a", "x"), pair("x", "c")], {}),
]


@pytest.mark.parametrize(("pairs", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_who_loses(pairs: list[dict[str, object]], expected: dict[str, tuple[str, str]]) -> None:
    for order in permutations(CHAIN):
        losses = losses_of(list(reversed(pairs)), order, DuplicateConfig())
        assert {name: (loss.winner, loss.kind) for name, loss in losses.items()} == expected
    assert losses_of(pairs, CHAIN, DuplicateConfig(duplicates="keep")) == {}


def test_random_graphs_leave_nobody_kept_that_a_kept_one_shows_and_every_loser_has_a_kept_winner() -> None:
    rng = np.random.default_rng(1)
    lost = 0
    for _ in range(50):
        names = [f"{i:02d}" for i in range(12)]
        clips = [clip(name, int(rng.integers(1, 4)) * 100) for name in names]
        pairs = [pair(a, b) for a in names for b in names if a < b and rng.random() < 0.15]
        losses = losses_of(pairs, clips, DuplicateConfig())
        assert all(loss.winner not in losses for loss in losses.values())
        assert all({p["clip_id"], p["other_id"]} & set(losses) for p in pairs)
        lost += len(losses)
    assert lost > 100


def test_a_clip_rejected_for_another_reason_beats_nobody(make_store: Callable[[], Store]) -> None:
    store = make_store()
    add_source(store, "one", [Stored("large", A, width=320, reason="damaged", video_bytes=None)])
    add_source(store, "two", [RICH, POOR])
    compare_in_process(store)
    assert verdicts(store) == {
        "large": ("damaged", None, None),
        "rich": (None, None, None),
        "poor": ("duplicate", "rich", "near"),
    }


def test_other_thresholds_bring_another_winner_and_back(make_store: Callable[[], Store]) -> None:
    store = make_store()
    add_source(store, "one", [Stored("large", A, width=320, reason="damaged")])
    add_source(store, "two", [RICH, POOR])
    compare_in_process(store)
    strict = Thresholds(min_rate_fps=0, max_damaged_frames=0)
    apply_verdicts(store, strict, Changes(), lambda: None)
    before = verdicts(store)
    assert before["rich"] == (None, None, None)

    apply_verdicts(store, Thresholds(min_rate_fps=0, max_damaged_frames=1), Changes(), lambda: None)
    assert verdicts(store) == {
        "large": (None, None, None),
        "rich": ("duplicate", "large", "near"),
        "poor": ("duplicate", "large", "near"),
    }
    apply_verdicts(store, strict, Changes(), lambda: None)
    assert verdicts(store) == before
    apply_verdicts(store, strict, Changes(), lambda: None, DuplicateConfig(duplicates="keep"))
    assert verdicts(store)["poor"] == (None, None, None)


def test_settling_again_changes_nothing(make_store: Callable[[], Store]) -> None:
    store = make_store()
    for name, clips in SOURCES.items():
        add_source(store, name, clips)
    compare_in_process(store)
    version = store.open("clips").version
    assert settle(store, {POOR.clip_id}, DuplicateConfig(), lambda: None) == []
    assert store.open("clips").version == version


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="min_duplicate_share"):
        DuplicateConfig(min_duplicate_share=share)


def test_ids_of_sources_are_told_apart_by_their_first_digits(make_store: Callable[[], Store]) -> None:
    store = make_store()
    for name, clips in SOURCES.items():
        add_source(store, name, clips)
    compare_in_process(store)
    rows = lance.dataset(store.table_uri("fingerprints")).to_table(columns=["source"])
    expected = {int.from_bytes(bytes.fromhex(source_id_of(name)[:16]), "big", signed=True) for name in SOURCES}
    assert set(rows["source"].to_pylist()) == expected
