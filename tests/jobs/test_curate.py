"""The job as its users start it: what it gives, that it gives it once, and how it ends when things go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.store import Store
from tests.jobs.running import clips_landed, end, kill, run, start, wait_until, workers_at_work
from tests.stores import compare_in_process, curate_in_process, table_rows

JOB = "jobs.curate"


@pytest.fixture(scope="module")
def expected(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    undisturbed = Store.at(str(tmp_path_factory.mktemp("undisturbed") / "store"))
    curate_in_process([small_footage], undisturbed)
    compare_in_process(undisturbed)
    rows = table_rows(undisturbed)
    assert len(rows["sources"]) == 4
    assert {row["keep"] for row in rows["clips"]} == {True, False}
    return rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def run_rows(store: Store) -> list[dict[str, Any]]:
    return sorted(store.open("runs").to_table().to_pylist(), key=lambda row: row["started_at"])


def test_it_gives_what_was_measured_in_process_and_the_second_run_does_nothing(
    store: Store, small_footage: Path, expected: dict[str, Any]
) -> None:
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    assert code == 0, output
    assert table_rows(store) == expected
    assert "4 seen: 4 curated" in output
    (row,) = run_rows(store)
    counts = json.loads(row["counts"])
    assert row["state"] == "finished"
    assert counts["seen"] == 4
    assert sum(counts["clips"].values()) == len(expected["clips"])

    versions = [store.open(table).version for table in ("sources", "clips")]
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    assert code == 0, output
    assert "nothing to do: all 4 files are in" in output
    assert [store.open(table).version for table in ("sources", "clips")] == versions


@pytest.mark.parametrize("moment", ["workers busy", "clips landed"])
def test_a_killed_driver_is_made_good_by_the_same_command(
    store: Store, small_footage: Path, expected: dict[str, Any], moment: str
) -> None:
    command = [JOB, "--footage", small_footage, "--store", store.uri, "--max-in-flight", "1"]
    driver = start(*command)
    happened = {
        "workers busy": lambda: bool(workers_at_work(driver.pid)),
        "clips landed": lambda: clips_landed(store) > 0,
    }
    wait_until(happened[moment], driver, moment)
    kill(driver)
    assert run_rows(store)[0]["state"] == "running", "it was not killed in the middle"
    code, output = run(*command)
    assert code == 0, output
    assert table_rows(store) == expected
    assert [row["state"] for row in run_rows(store)] == ["interrupted", "finished"]


def test_a_killed_worker_costs_nothing(store: Store, small_footage: Path, expected: dict[str, Any]) -> None:
    driver = start(JOB, "--footage", small_footage, "--store", store.uri, "--max-in-flight", "1")
    wait_until(lambda: bool(workers_at_work(driver.pid)), driver, "a worker at work")
    os.kill(workers_at_work(driver.pid)[0], signal.SIGKILL)
    code, output = end(driver)
    assert code == 0, output
    assert table_rows(store) == expected


def test_sigterm_ends_a_run_in_order(store: Store, small_footage: Path) -> None:
    driver = start(JOB, "--footage", small_footage, "--store", store.uri)
    wait_until(lambda: bool(workers_at_work(driver.pid)), driver, "a worker at work")
    driver.send_signal(signal.SIGTERM)
    code, output = end(driver)
    assert code == 130
    assert "start the same command again to go on" in output
    assert run_rows(store)[0]["state"] == "interrupted"


def test_of_two_runs_at_once_the_second_is_refused(store: Store, small_footage: Path, expected: dict[str, Any]) -> None:
    first = start(JOB, "--footage", small_footage, "--store", store.uri, "--max-in-flight", "1")
    wait_until(lambda: bool(workers_at_work(first.pid)), first, "a worker at work")
    first.send_signal(signal.SIGSTOP)  # so that it is not done before the second looks
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    first.send_signal(signal.SIGCONT)
    assert code == 3
    assert "is at work on" in output
    assert str(first.pid) in output
    code, output = end(first)
    assert code == 0, output
    assert table_rows(store) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_ends_the_job_clearly_and_the_next_start_goes_on(
    small_disk: Path, small_footage: Path, expected: dict[str, Any]
) -> None:
    store = Store.at(str(small_disk / "store"))
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    assert code == 4, output
    assert "no space is left on the device" in output
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    assert code == 0, output
    assert table_rows(store) == expected


def test_a_store_that_goes_away_ends_the_job_clearly_and_the_next_start_goes_on(
    store: Store, small_footage: Path, expected: dict[str, Any]
) -> None:
    driver = start(JOB, "--footage", small_footage, "--store", store.uri, "--max-in-flight", "1")
    wait_until(lambda: clips_landed(store) > 0, driver, "clips landed")
    away = Path(store.uri).rename(Path(store.uri).with_name("away"))
    code, output = end(driver)
    assert code == 4, output
    assert store.uri in output
    shutil.rmtree(store.uri, ignore_errors=True)
    away.rename(store.uri)
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri)
    assert code == 0, output
    assert table_rows(store) == expected


def test_another_config_curates_again(store: Store, small_footage: Path, expected: dict[str, Any]) -> None:
    curate_in_process([small_footage], store)
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri, "--max-seconds", "1.2")
    assert code == 0, output
    rows = table_rows(store)
    assert len(rows["sources"]) == 4
    assert all(row["duration_s"] < 1.3 for row in rows["clips"])
    assert len(rows["clips"]) > len(expected["clips"])


def test_other_thresholds_alone_are_pointed_to_the_verdict_job(store: Store, small_footage: Path) -> None:
    curate_in_process([small_footage], store)
    code, output = run(JOB, "--footage", small_footage, "--store", store.uri, "--min-seconds", "2.5")
    assert code == 0, output
    assert "nothing to do" in output
    assert "verdicts by other thresholds" in output


IMPOSSIBLE = [
    (["--store", "s"], "--footage"),
    (["--footage", "a"], "--store"),
    (["--footage", "a", "--store", "s", "--min-seconds", "-1"], "min_seconds=-1.0: must be"),
    (["--footage", "a", "--store", "s", "--max-failed-share", "2"], "max_failed_share=2.0: must be within 0 and 1"),
    (["--footage", "a", "--store", "s", "--cut", "melt"], "melt"),
    (["--footage", "a", "--store", "s", "--bogus", "1"], "--bogus"),
    (["--footage", "a", "--store", "s", "--config", "/nowhere.yaml"], "config=/nowhere.yaml"),
]


@pytest.mark.parametrize(("arguments", "named"), IMPOSSIBLE)
def test_impossible_options_are_refused_by_name(arguments: list[str], named: str) -> None:
    code, output = run(JOB, *arguments)
    assert code == 2
    assert named in output
