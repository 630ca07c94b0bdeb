"""A job through `ray job submit` on a cluster of its own, with Ray's token, as the README shows it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from curation.store import Store
from tests.jobs.running import ROOT, TIMEOUT_S, descendants
from tests.stores import compare_in_process, curate_in_process, table_rows

RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the cluster's address and token are known."""
    port, dashboard = free_port(), free_port()
    (tmp_path / "home").mkdir()
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(tmp_path / "home"),  # where Ray keeps its token
        "PATH": f"{RAY.parent}:{os.environ['PATH']}",  # as where the environment is active
    }
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", f"--port={port}", f"--dashboard-port={dashboard}"]
    # Its agent listens at one and the same port of every cluster otherwise, which a killed one may still hold.
    command += [f"--dashboard-agent-listen-port={free_port()}", f"--dashboard-agent-grpc-port={free_port()}"]
    command += ["--object-store-memory=100000000", f"--temp-dir=/tmp/ray-{os.getpid()}"]
    head = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    address = f"http://127.0.0.1:{dashboard}"
    deadline_s = time.monotonic() + TIMEOUT_S
    while not answers(address):
        assert head.poll() is None, head.communicate()[0]
        assert time.monotonic() < deadline_s, "the dashboard does not answer"
        time.sleep(0.2)
    yield environment | {"RAY_ADDRESS": address}
    for process in [head.pid, *descendants(head.pid)]:  # its own way of ending takes half a minute
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    head.communicate(timeout=TIMEOUT_S)
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)


def answers(address: str) -> bool:
    try:
        urlopen(address, timeout=1).close()
    except (URLError, OSError) as error:
        return getattr(error, "code", None) is not None
    return True


def submitted(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command, ended. The head answers a little before it can take a job, and then says so."""
    deadline_s = time.monotonic() + 60
    while True:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline_s:
            return done
        time.sleep(1)


@pytest.mark.slow
def test_the_job_runs_unchanged_on_a_cluster(cluster: dict[str, str], small_footage: Path, tmp_path: Path) -> None:
    store, undisturbed = Store.at(str(tmp_path / "store")), Store.at(str(tmp_path / "undisturbed"))
    curate_in_process([small_footage], undisturbed)
    compare_in_process(undisturbed)
    command = [RAY, "job", "submit", "--working-dir", ".", "--", "python", "-m", "jobs.curate"]
    command += ["--footage", str(small_footage), "--store", store.uri]
    done = submitted(command, cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 seen: 4 curated" in done.stdout
    assert table_rows(store) == table_rows(undisturbed)
