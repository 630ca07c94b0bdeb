"""What all benchmarks share: what they read, and how they end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from curation.ingest import Footage, find_footage

__all__ = ["finish", "footage_files"]


def footage_files(folder: Path) -> list[Path]:
    """The video files directly in a folder: a `bad` folder below it holds what no reference can read."""
    found = [Path(f.uri) for f in find_footage([str(folder)]) if isinstance(f, Footage)]
    files = [path for path in found if path.parent == folder.resolve()]
    if not files:
        raise SystemExit(f"no video files in {folder}")
    return files


def finish(
    figures: Mapping[str, float | int], last_lines: Sequence[str], json_file: Path | None, *, is_reached: bool = True
) -> None:
    """Write the figures where asked for, and print the figure with its reference as the last line. Raises SystemExit
    with the code 1 where what was to be reached is not."""
    if json_file:
        json_file.write_text(json.dumps(dict(figures), indent=2) + "\n")
    print("\n".join(last_lines), flush=True)
    if not is_reached:
        raise SystemExit(1)
