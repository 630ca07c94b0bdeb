"""The whole way, small: footage → clips → captions → a page to look at. Training will join it here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.film import make_film
from curation.records import digest
from jobs import caption, curate, report
from jobs.cli import parse
from jobs.runs import EXIT_OVER_BUDGET, say

__all__ = ["DemoOptions", "main"]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Curate and caption a film that the project makes itself, or footage of yours, and make the page to look at it.

    Attributes:
        footage: Folders, files or addresses of yours. Without any, a film is made: cuts, dissolves, fades, pans, zooms,
            still shots, several aspects, a rotated file, a variable rate, letterbox, a near-duplicate.
        model: A vision-language model, a directory or hub id, that vLLM runs here to describe the clips. Without one
            there are captions from what was measured: none can be had within the demo's few minutes without a download.
        out: Folder for it all; each footage gets a folder of its own there, with store and page.
    """

    footage: tuple[str, ...] = ()
    model: str | None = None
    out: Path = Path("demo")


def main(argv: Sequence[str] | None = None) -> int:
    return demo(parse(DemoOptions, prog="python -m jobs.demo", argv=argv))


def demo(options: DemoOptions) -> int:
    """Run it; the exit code of the first step that fails, else 0. The same command again goes on where it ended."""
    footage = [os.path.abspath(spec) if "://" not in spec else spec for spec in options.footage]
    folder = options.out / (f"{Path(footage[0]).name}-{digest(*footage)[:6]}" if footage else "film")
    if not footage:
        say(f"making a film in {folder / 'footage'}")
        make_film(folder / "footage")
        footage = [str(folder / "footage")]
    store = str(folder / "store")
    code = curate.main(["--footage", *footage, "--store", store])
    if code not in (0, EXIT_OVER_BUDGET):
        return code
    with_model = ["--model", options.model] if options.model else []
    captioned = caption.main(["--store", store, *with_model])
    if captioned not in (0, EXIT_OVER_BUDGET):
        return captioned
    return report.main(["--store", store, "--out", str(folder / "page")]) or code or captioned


if __name__ == "__main__":
    sys.exit(main())
