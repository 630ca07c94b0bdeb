"""One run of a kind at a time, and a dead one is found out."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from curation import lease
from curation.lease import Holder, Lease, LeaseLost, StoreBusy, this_process
from curation.store import Store

TAKE_AND_WAIT = """
import sys, time
from curation.lease import Lease
from curation.store import Store
with Lease.take(Store.at(sys.argv[1]), "clips", "other-run", tell=print):
    print("taken", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


@pytest.fixture
def holder_elsewhere(store: Store) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", TAKE_AND_WAIT, store.uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def take(store: Store, run_id: str = "run", name: str = "clips") -> Lease:
    return Lease.take(store, name, run_id, tell=lambda line: None)


def test_it_can_be_taken_given_back_and_taken_again(store: Store) -> None:
    for run_id in ("first", "second"):
        with take(store, run_id) as held:
            held.check()


def test_jobs_on_different_tables_do_not_stand_in_each_others_way(store: Store) -> None:
    with take(store, name="clips") as one, take(store, name="captions") as other:
        one.check()
        other.check()


def test_a_living_holder_is_named_and_left_alone(store: Store, holder_elsewhere: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreBusy, match=rf"run other-run .*process {holder_elsewhere.pid} .*stop it"):
        take(store)


def test_a_killed_holder_loses_it_at_once(store: Store, holder_elsewhere: subprocess.Popen[str]) -> None:
    holder_elsewhere.send_signal(signal.SIGKILL)
    holder_elsewhere.wait()
    began_s = time.monotonic()
    with take(store) as held:
        held.check()
    assert time.monotonic() - began_s < lease.EXPIRES_S / 4


def test_another_process_with_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    assert not this_process("run").is_dead_here()
    assert replace(this_process("run"), started="1").is_dead_here()
    assert not replace(this_process("run"), host="elsewhere", started="1").is_dead_here()
    assert not replace(this_process("run"), boot="", started="1").is_dead_here()


def put_holder(store: Store, holder: Holder) -> None:
    lease._create_tables(store)
    assert lease._update(store, "clips", lease._read(store, "clips"), json.dumps(asdict(holder)))


def test_a_silent_holder_on_another_machine_is_waited_for_and_then_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRES_S", 2.0)
    put_holder(store, replace(this_process("far"), host="far"))
    told: list[str] = []
    began_s = time.monotonic()
    with Lease.take(store, "clips", "run", tell=told.append) as held:
        held.check()
    assert time.monotonic() - began_s > 2
    assert "far" in told[0]


def test_a_holder_from_before_a_restart_of_this_machine_is_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EXPIRES_S", 1.0)
    put_holder(store, replace(this_process("before"), boot="another boot"))
    with take(store) as held:
        held.check()


def test_a_holder_on_another_machine_that_renews_is_busy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRES_S", 20.0)
    far = replace(this_process("far"), host="far")
    put_holder(store, far)
    with ThreadPoolExecutor(1) as pool:
        attempt = pool.submit(take, store)
        time.sleep(1.5)
        lease._update(store, "clips", lease._read(store, "clips"), json.dumps(asdict(far)))
        with pytest.raises(StoreBusy, match="far"):
            attempt.result(timeout=15)


def test_who_lost_it_may_not_commit(store: Store) -> None:
    with take(store) as held:
        put_holder(store, replace(this_process("thief"), host="far"))
        with pytest.raises(LeaseLost, match="thief"):
            held.check()
    assert json.loads(lease._read(store, "clips")["holder"])["run_id"] == "thief", "nor give back what is not its own"


def contend(uri: str, seen: dict[str, Any], number: int, start: float) -> int:
    store = Store.at(uri)
    time.sleep(max(0.0, start - time.time()))
    return lease._update(store, "clips", seen, f"contender-{number}-{os.getpid()}")


def test_of_many_contenders_exactly_one_succeeds(store: Store) -> None:
    lease._create_tables(store)
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        for _ in range(8):
            seen, start = lease._read(store, "clips"), time.time() + 0.5
            won = pool.starmap(contend, [(store.uri, seen, n, start) for n in range(8)], chunksize=1)
            assert sum(won) == 1


def test_renewing_keeps_the_lease_and_few_versions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at when the renewer has ended: versions are kept for so short a time here that a look in between finds
    what it has opened deleted."""
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    monkeypatch.setattr(lease, "KEEP_VERSIONS_S", 0)
    with take(store):
        time.sleep(1.5)
    row = lease._read(store, "clips")
    assert row["holder"] == lease.FREE, "it was still its own to give back"
    assert row["renewals"] > 5
    versions = [*Path(lease._uri(store, "clips")).glob("_versions/*.manifest")]
    assert len(versions) < 10
