"""A captioning run whose driver, worker or server dies: the same command again, and the tables are as if nothing had
been. The server answers by what the frames show, so that every caption says whose it is."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.caption_identity import describe, number_shown
from benchmarks.caption_kill import captions_landed, key_rows, orphans, pids_of, started_at
from benchmarks.caption_runs import JOB, arguments_for, by_server
from benchmarks.marked_clips import clip_id_of, marked_store
from captioner.captions import KINDS
from curation.store import Store
from jobs import caption_windows
from jobs.caption import main
from jobs.cluster import connect_for_data
from jobs.runs import EXIT_STORE
from tests.hostile_server import Act, HostileServer, Seen, hostile_server
from tests.jobs.running import descendants, end, start, wait_until

CLIPS = 60
DELAY_S = 0.4
POLL_S = 0.01
PATIENCE_S = 60

pytestmark = pytest.mark.slow


def slowly(seen: Seen) -> Act:
    return replace(describe(seen), delay_s=DELAY_S)


@dataclass(frozen=True, slots=True)
class Scene:
    """A store with clips that nobody has captioned, a server, and what a run that nothing happens to makes of them."""

    fresh: Store
    folder: Path
    server: HostileServer
    expected: dict[str, dict[str, Any]]

    def copy(self, name: str) -> Store:
        return Store.at(str(shutil.copytree(self.fresh.uri, self.folder / name)))

    def command(self, store: Store) -> list[str]:
        return command_for(store, self.server)


def command_for(store: Store, server: HostileServer) -> list[str]:
    asked = by_server(server, "--max-in-flight", "4", "--server-attempts", "2", "--give-up-after", "3")
    return arguments_for(store, *asked)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Runs in this process share its Ray; one whose driver is killed is a process of its own, with a Ray of its own."""
    folder = tmp_path_factory.mktemp("caption_kill")
    fresh = marked_store(folder, CLIPS)
    connect_for_data()
    with hostile_server(describe) as server:
        undisturbed = Store.at(str(shutil.copytree(fresh.uri, folder / "undisturbed")))
        assert main(command_for(undisturbed, server)) == 0
        expected = key_rows(undisturbed)
        assert len(expected) == CLIPS * len(KINDS)
        assert len({row["text"] for row in expected.values() if row["kind"] == "short"}) == CLIPS
        yield Scene(fresh, folder, server, expected)
    ray.shutdown()


def captioned(store: Store) -> set[str]:
    return set(store.open("captions").to_table(columns=["clip_id"])["clip_id"].to_pylist())


def finished(scene: Scene, store: Store) -> None:
    """The same command again must do what is left, and not ask again about what is there."""
    before, seen = captioned(store), len(scene.server.seen)
    assert 0 < len(before) < CLIPS
    scene.server.script = describe
    assert main(scene.command(store)) == 0
    assert key_rows(store) == scene.expected
    asked = [seen for seen in scene.server.seen[seen:] if seen.path.endswith("/completions")]
    clips = [clip_id_of(number) for each in asked if (number := number_shown(each)) is not None]
    assert len(clips) == len(asked) == len(set(clips))
    assert set(clips) == {clip_id_of(number) for number in range(CLIPS)} - before


def test_the_driver_is_killed(scene: Scene) -> None:
    store = scene.copy("driver")
    scene.server.script = slowly
    process = start(JOB, *scene.command(store))
    wait_until(lambda: captions_landed(store) > 0, process, "a caption landed")
    before = {pid: (started_at(pid), line) for pid, line in descendants(process.pid).items()}
    assert any("ray" in line for _, line in before.values()), before
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    assert not orphans(before)
    finished(scene, store)


def test_a_worker_is_killed(scene: Scene) -> None:
    store = scene.copy("worker")
    scene.server.script = slowly
    killed: list[int] = []

    def kill_one() -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not killed and time.monotonic() < deadline_s:
            for pid in pids_of("worker", os.getpid())[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(POLL_S)

    killer = threading.Thread(target=kill_one)
    killer.start()
    code = main(scene.command(store))
    killer.join()
    assert killed, "no worker was seen at work"
    assert code == 0  # what it was at is decoded again
    assert key_rows(store) == scene.expected


def test_the_server_dies(scene: Scene, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_windows, "COMMIT_S", 0.0)  # what is answered is in the table at once
    store = scene.copy("server")

    def dies(seen: Seen) -> Act:
        return Act(then="close") if captions_landed(store) else describe(seen)

    scene.server.script = dies
    assert main(scene.command(store)) == EXIT_STORE
    assert "start the same command again" in capfd.readouterr().err
    finished(scene, store)
