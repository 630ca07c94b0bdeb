"""Small files that others read while they are written: whole or not there, and lines that are added one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["json_lines", "write_whole"]


def write_whole(file: Path, text: str) -> None:
    """Whoever reads it never meets half of it, nor does a power cut leave that. Raises OSError, and what was there
    before stays."""
    partial = file.with_name(f".{file.name}.part")
    try:
        with partial.open("w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a file, none where there is no file; one that a kill cut short is passed over."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
