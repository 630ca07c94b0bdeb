"""Witnesses that nothing was opened: a web server that counts its requests, and a watch on a file."""

from __future__ import annotations

import ctypes
import http.server
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on the loopback: its address, and the requests that it gets."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/x.ts", requests
        running.shutdown()


class Watch:
    """Sees every opening of a file, also by C code (inotify, Linux)."""

    def __init__(self, path: Path):
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK)
        in_open = 0x20
        assert libc.inotify_add_watch(self._handle, os.fsencode(path), in_open) >= 0

    def was_opened(self) -> bool:
        ready, _, _ = select.select([self._handle], [], [], 0)
        return bool(ready and os.read(self._handle, 4096))

    def close(self) -> None:
        os.close(self._handle)
