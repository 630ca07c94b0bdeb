"""Runs of the captioning job as its users start it, as the benchmarks of captioning need them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from curation.store import Store
from tests.hostile_server import MODEL, HostileServer
from tests.jobs.running import ROOT

__all__ = ["JOB", "LIMIT_S", "arguments_for", "by_server", "checked", "output_of"]

JOB = "jobs.caption"
LIMIT_S = 3600
SHOWN_CHARS = 6000


def arguments_for(store: Store, *more: str) -> list[str]:
    """The job's arguments for a captioner alone: no text that came with the footage, and no second model."""
    return ["--store", store.uri, "--originals", "none", "--agreement-model", "none", *more]


def by_server(server: HostileServer, *more: str) -> list[str]:
    """Arguments that have the job ask a server."""
    return ["--server", server.url, "--model", MODEL, *more]


def checked(what: str, code: int, output: str) -> str:
    """What a run printed. Ends the benchmark where the run failed."""
    if code != 0:
        raise SystemExit(f"{what} ended with {code}:\n{output[-SHOWN_CHARS:]}")
    return output


def output_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What Python printed with these arguments, stdout and stderr. Ends the benchmark where it failed."""
    process = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    return checked(" ".join(command), process.returncode, process.stdout)
