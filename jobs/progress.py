"""Progress as it goes: how much is done, how fast, how long it will still take. On one line in a terminal, else a line
now and then, so that the logs of a cluster stay short."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress", "duration_words", "size_words"]

TERMINAL_S, LOG_S = 0.5, 10.0


class Progress:
    """Tell it what is done; it prints. `total_bytes` 0 where sizes are not known: then files are counted, or whatever
    `unit` says that they are."""

    def __init__(
        self, label: str, total_files: int, total_bytes: int, out: TextIO = sys.stdout, *, unit: str = "files"
    ):
        self._label, self._total_files, self._total_bytes, self._out = label, total_files, total_bytes, out
        self._unit = unit
        self._began_s = self._printed_s = time.monotonic()
        self._files = 0
        self._bytes = 0
        self._worked_files = 0
        self._worked_bytes = 0
        self._is_terminal = out.isatty()

    def skip(self, files: int, size_bytes: int) -> None:
        """Files that need no work: they count as done, but not for the rate."""
        self._files += files
        self._bytes += size_bytes

    def done(self, size_bytes: int) -> None:
        """One more file is done."""
        self.skip(1, size_bytes)
        self._worked_files += 1
        self._worked_bytes += size_bytes

    @property
    def is_done(self) -> bool:
        return self._files >= self._total_files

    def show(self, extra: str = "", *, is_last: bool = False) -> None:
        """Print the state if it is time to, or if it is the last."""
        now_s = time.monotonic()
        if not is_last and now_s - self._printed_s < (TERMINAL_S if self._is_terminal else LOG_S):
            return
        self._printed_s = now_s
        elapsed_s = max(1e-9, now_s - self._began_s)
        line = f"{self._label}: {self._files} of {self._total_files} {self._unit}"
        if self._worked_files:
            line += f", {self._worked_files / elapsed_s * 60:.1f} {self._unit}/min"
            line += f", {self._worked_bytes / elapsed_s / 1e6:.1f} MB/s" if self._total_bytes else ""
        if not is_last and (left_s := self._left_s(elapsed_s)) is not None:
            line += f", about {duration_words(left_s)} left"
        line += f" · {extra}" if extra else ""
        self._out.write(f"\r\x1b[K{line}" + ("\n" if is_last else "") if self._is_terminal else line + "\n")
        self._out.flush()

    def _left_s(self, elapsed_s: float) -> float | None:
        if self._total_bytes and self._worked_bytes:
            return (self._total_bytes - self._bytes) / (self._worked_bytes / elapsed_s)
        if self._worked_files:
            return (self._total_files - self._files) / (self._worked_files / elapsed_s)
        return None


def duration_words(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size_words(size_bytes: float) -> str:
    """`12.3 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
