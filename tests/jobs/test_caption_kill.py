"""A captioning run whose driver, worker or server dies: the same command again, and the tables are as if nothing had
been. The server answers by what the frames show, so that every caption says whose it is."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.caption_identity import describe
from benchmarks.caption_kill import captions_landed, key_rows, orphans, pids_of, started_at
from benchmarks.marked_clips import marked_store
from captioner.captions import KINDS
from curation.store import Store
from tests.hostile_server import MODEL, Act, HostileServer, Seen, hostile_server
from tests.jobs.running import descendants, end, run, start, wait_until

JOB = "jobs.caption"
CLIPS = 60
DELAY_S = 0.4
EXIT_STORE = 4


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
    command = ["--store", store.uri, "--server", server.url, "--model", MODEL, "--originals", "none"]
    command += ["--agreement-model", "none", "--max-in-flight", "4"]
    return [*command, "--server-attempts", "2", "--give-up-after", "3"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("caption_kill")
    fresh = marked_store(folder, CLIPS)
    with hostile_server(describe) as server:
        undisturbed = Store.at(str(shutil.copytree(fresh.uri, folder / "undisturbed")))
        code, output = run(JOB, *command_for(undisturbed, server))
        assert code == 0, output
        expected = key_rows(undisturbed)
        assert len(expected) == CLIPS * len(KINDS)
        assert len({row["text"] for row in expected.values() if row["kind"] == "short"}) == CLIPS
        server.script = slowly
        yield Scene(fresh, folder, server, expected)


def finished(scene: Scene, store: Store) -> None:
    """The same command again must do what is left, and not ask again about what is there."""
    before = captions_landed(store)
    seen = len(scene.server.seen)
    scene.server.script = describe
    code, output = run(JOB, *scene.command(store))
    scene.server.script = slowly
    assert code == 0, output
    assert key_rows(store) == scene.expected
    asked = sum(seen.path.endswith("/completions") for seen in scene.server.seen[seen:])
    assert asked == CLIPS - before // len(KINDS)


@pytest.mark.slow
def test_the_driver_is_killed(scene: Scene) -> None:
    store = scene.copy("driver")
    process = start(JOB, *scene.command(store))
    wait_until(lambda: captions_landed(store) > 0, process, "a caption landed")
    before = {pid: (started_at(pid), line) for pid, line in descendants(process.pid).items()}
    assert any("ray" in line for _, line in before.values()), before
    os.kill(process.pid, signal.SIGKILL)
    end(process)
    assert 0 < captions_landed(store) < len(scene.expected)
    assert not orphans(before)
    finished(scene, store)


@pytest.mark.slow
def test_a_worker_is_killed(scene: Scene) -> None:
    store = scene.copy("worker")
    process = start(JOB, *scene.command(store))
    wait_until(lambda: bool(pids_of("worker", process.pid)), process, "a worker worked")
    time.sleep(random.Random(0).uniform(0, 0.3))
    os.kill(pids_of("worker", process.pid)[0], signal.SIGKILL)
    code, output = end(process)
    assert code == 0, output  # what it was at is decoded again
    assert key_rows(store) == scene.expected


@pytest.mark.slow
def test_the_server_dies(scene: Scene) -> None:
    store = scene.copy("server")
    process = start(JOB, *scene.command(store))
    wait_until(lambda: captions_landed(store) > 0, process, "a caption landed")
    scene.server.script = lambda seen: Act(then="close")
    code, output = end(process)
    assert code == EXIT_STORE, output
    assert "start the same command again" in output
    assert 0 < captions_landed(store) < len(scene.expected)
    finished(scene, store)
