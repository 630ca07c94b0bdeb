"""What thresholds would keep: the counts of `verdict` on the same rows; what is not applied is said."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.embeddings import note_model
from curation.model_scores import ClipScore, write_model_scores
from curation.presets import PRESETS
from curation.report_distributions import distributions
from curation.report_whatif import what_if_data
from curation.reverdict import Changes, apply_verdicts
from curation.store import Store
from curation.tables import DUPLICATES
from curation.trial import compared, trial_table, try_thresholds
from curation.verdicts import Thresholds, verdict
from jobs.verdict import main
from tests.score_stores import drawn_rows, write_store

CLIPS = 400


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return drawn_rows(CLIPS, seed=1)


@pytest.fixture(scope="module")
def store(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clips of which some show the same as others."""
    store = write_store(tmp_path_factory.mktemp("trial"), rows)
    kept = sorted(row["clip_id"] for row in rows if row["keep"])
    pairs = [
        {"clip_id": one, "other_id": two, "kind": "near", "source_id": "s", "other_source_id": "t", "distance": 0.1}
        | {"share": 1.0, "other_share": 1.0}
        for one, two in zip(kept[:40:2], kept[1:40:2], strict=True)
    ]
    store.open("duplicates").insert(pa.Table.from_pylist(pairs, schema=DUPLICATES))
    return store


def expected(store: Store, rows: list[dict[str, Any]], thresholds: Thresholds) -> Counter[str]:
    """Clips by reason, as jobs.verdict would leave them."""
    changes = Changes()
    apply_verdicts(store, thresholds, changes, before_commit=None)
    outcomes = Counter(row["reason"] or "kept" for row in rows)
    for (before, now), clips in changes.clips.items():
        outcomes[before] -= clips
        outcomes[now] += clips
    return +outcomes


def test_a_trial_counts_what_the_verdicts_would_be(store: Store, rows: list[dict[str, Any]]) -> None:
    candidates = [
        Thresholds(),
        Thresholds(min_seconds=6.0, max_text_share=0.2),
        *(p.thresholds for p in PRESETS.values()),
    ]
    trials = try_thresholds(store, candidates)
    assert len({tuple(sorted(trial.clips.items())) for trial in trials}) > 5, "they differ"
    for thresholds, trial in zip(candidates, trials, strict=True):
        assert trial.clips == expected(store, rows, thresholds)
        passing_s = sum(row["duration_s"] for row in rows if verdict(row, thresholds) is None)
        assert trial.seconds["kept"] + trial.seconds["duplicate"] == pytest.approx(passing_s)
        assert trial.measured["bits_per_px"] == sum(row["bits_per_px"] is not None for row in rows)


def test_the_funnel_names_thresholds_their_source_and_what_is_not_applied(store: Store) -> None:
    thresholds = Thresholds(**PRESETS["movie-gen"].values | {"min_seconds": 2.5})  # type: ignore[arg-type]
    (trial,) = try_thresholds(store, [thresholds])
    lines = trial_table(trial, PRESETS["movie-gen"]).splitlines()
    (of_length,) = [line for line in lines if line.startswith("too_short")]
    assert of_length.split()[1:5] == ["duration_s", "<", "2.5", str(trial.clips["too_short"])]
    assert of_length.endswith("given")
    (of_size,) = [line for line in lines if line.startswith("too_small")]
    assert "Movie Gen: both sides at least 768 px" in of_size
    assert next(line for line in lines if line.startswith("blurred")).endswith("default")
    unapplied = "\n".join(lines[lines.index("not applied:") :])
    for asked in PRESETS["movie-gen"].not_applied:
        assert asked.says in unapplied
    assert "min_aesthetic 4 (Movie Gen: aesthetic at least 4.0): no clip has aesthetic" in unapplied
    assert "clips have no is_still" in unapplied
    (by_default,) = try_thresholds(store, [Thresholds()])
    of_others = next(line for line in trial_table(by_default).splitlines() if line.startswith("duplicate"))
    assert of_others.split()[1] == str(by_default.clips["duplicate"]) != "0"


def test_several_stand_side_by_side(store: Store, rows: list[dict[str, Any]]) -> None:
    names = ["anyscale", "open-sora-2"]
    trials = dict(zip(names, try_thresholds(store, [PRESETS[name].thresholds for name in names]), strict=True))
    lines = {line.split("  ")[0]: line.split()[-2:] for line in compared(trials).splitlines()}
    kept = [str(expected(store, rows, PRESETS[name].thresholds)["kept"]) for name in names]
    assert lines["clips kept"] == kept
    assert lines["duplicate"] == [str(trials[name].clips["duplicate"]) for name in names]


def test_a_dry_run_of_a_preset_prints_its_funnel_and_changes_nothing(
    store: Store, rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    version = store.open("clips").version
    assert main(["--store", store.uri, "--preset", "open-sora-2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    kept = expected(store, rows, PRESETS["open-sora-2"].thresholds)["kept"]
    assert next(line for line in said.splitlines() if line.startswith("kept")).split()[1] == str(kept)
    assert "nothing was changed" in said
    assert main(["--store", store.uri, "--compare"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-len(PRESETS) - 1 :] == ["default", *PRESETS]
    assert store.open("clips").version == version


def test_a_store_from_before_a_score_was_measured_is_judged_by_the_others(store: Store, tmp_path: Path) -> None:
    older = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, older.uri)
    older.open("clips").drop_columns(["bits_per_px", "slideshow_share"])
    changes = Changes()
    apply_verdicts(older, PRESETS["open-sora-2"].thresholds, changes, before_commit=None)
    assert changes.clips
    (trial,) = try_thresholds(older, [PRESETS["open-sora-2"].thresholds])
    assert trial.clips["low_bits"] == 0
    assert "no clip has bits_per_px" in trial_table(trial, PRESETS["open-sora-2"])


def test_what_models_say_counts_where_they_said_something(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    store = write_store(tmp_path, rows)
    note_model(store, "head", "a head", "run", scores=["aesthetic"])
    said = {row["clip_id"]: 3.0 + (index % 3) for index, row in enumerate(rows[:200])}
    write_model_scores(store, [ClipScore(i, "aesthetic", "head", value=v) for i, v in said.items()], "run")
    asked = Thresholds(min_aesthetic=4.0)
    judged = [row | {"aesthetic": said.get(row["clip_id"])} for row in rows]
    (trial,) = try_thresholds(store, [asked])
    assert trial.clips == Counter(verdict(row, asked) or "kept" for row in judged)
    assert trial.clips["unaesthetic"] > 20
    assert trial.measured["aesthetic"] == 200
    changes = Changes()
    apply_verdicts(store, asked, changes, before_commit=None)
    assert changes.clips["kept", "unaesthetic"] > 20
    (chart,) = [h for h in distributions(store, asked) if h.column.name == "aesthetic"]
    assert (sum(chart.kept + chart.rejected_elsewhere), chart.missing) == (200, CLIPS - 200)
    data = what_if_data(store, [chart], asked, CLIPS)
    assert "aesthetic" in data["scores"]


def test_an_empty_store_has_an_empty_funnel(tmp_path: Path) -> None:
    empty = Store.at(str(tmp_path / "store"))
    empty.create()
    (trial,) = try_thresholds(empty, [Thresholds()])
    assert "kept" in trial_table(trial)
    assert not trial.clips
