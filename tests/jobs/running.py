"""Running jobs as their users do: as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from curation.store import Store, StoreUnavailable

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


def start(module: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """`python -m MODULE ARGUMENTS` in the background, stdout and stderr together."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output


def run(module: str, *arguments: str | Path) -> tuple[int, str]:
    return end(start(module, *arguments))


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Wait for something to happen while a process runs."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not happened():
        assert process.poll() is None, f"the job ended before {what}: {process.communicate()[0]}"
        assert time.monotonic() < deadline_s, f"{what} did not happen in {TIMEOUT_S} s"
        time.sleep(0.02)


def clips_landed(store: Store) -> int:
    """Clips in the table right now, 0 where there is no table yet."""
    with suppress(StoreUnavailable):
        return store.open("clips").count_rows()
    return 0


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def descendants(pid: int) -> dict[int, str]:
    """Command lines of all processes below one, by number."""
    children: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
                commands[int(folder.name)] = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
    found: dict[int, str] = {}
    waiting: list[int] = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = commands.get(child, "")
            waiting.append(child)
    return found


def workers_at_work(pid: int) -> Sequence[int]:
    """Ray workers below a driver that run a task of ours right now."""
    return [number for number, command in descendants(pid).items() if command.startswith("ray::curate_task")]
