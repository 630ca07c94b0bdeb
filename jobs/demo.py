"""The whole way, small: footage → clips → a page to look at. Today it ends there; captions and training join it later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.film import make_film
from jobs import curate, report
from jobs.cli import parse
from jobs.runs import say

__all__ = ["DemoOptions", "main"]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Curate a film that the project makes itself, or footage of yours, and make the page to look at it.

    Attributes:
        footage: Folders, files or addresses of yours. Without any, a film is made: cuts, dissolves, fades, pans, zooms,
            still shots, several aspects, a rotated file, a variable rate, letterbox, a near-duplicate.
        out: Folder for the film, the store and the page.
    """

    footage: tuple[str, ...] = ()
    out: Path = Path("demo")


def main(argv: Sequence[str] | None = None) -> int:
    return demo(parse(DemoOptions, prog="python -m jobs.demo", description=str(DemoOptions.__doc__), argv=argv))


def demo(options: DemoOptions) -> int:
    """Run it; the exit code of the first step that fails, else 0. The same command again goes on, or finds it all done."""
    footage = list(options.footage)
    store = options.out / "store"
    if not footage:
        film = options.out / "film"
        say(f"making a film in {film}")
        film.mkdir(parents=True, exist_ok=True)
        make_film(film)
        footage, store = [str(film)], options.out / "film-store"
    code = curate.main(["--footage", *footage, "--store", str(store)])
    if code:
        return code
    return report.main(["--store", str(store), "--out", str(options.out / "page")])


if __name__ == "__main__":
    sys.exit(main())
