"""A page to look at, of what a store holds. No Ray: it reads the tables and writes a folder.

count → sample each verdict → make the sample play → runs that trained on it, where any are given → page
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.report import ReportConfig, write_report
from curation.store import Store, StoreUnavailable
from jobs.cli import parse

__all__ = ["ReportOptions", "main"]

EXIT_CODES = (
    "Exit codes: 0 done; 2 impossible options, or a run that is none; 4 there is no store, or the store or the folder "
    "is at fault; 130 interrupted."
)
EXIT_REFUSED, EXIT_STORE, EXIT_INTERRUPTED = 2, 4, 130
PROGRESS_S = 2.0


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """A page that opens from a file: the funnel with its reasons, clips of every verdict to play, distributions.

    Attributes:
        store: Folder or address of the store.
        out: Folder for the page, index.html, and what it plays. Made if it is not there; the files of an earlier report
            are taken where they still fit, and removed where they do not.
        run: Directories of jobs.train: their curves, what became of the clips, and samples are on the page as well.
        samples: Files that jobs.sample made, shown beside their prompts.
        remark: A sentence above what is said of training.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        report: What is shown.
    """

    store: str
    out: str
    run: tuple[Path, ...] = ()
    samples: tuple[Path, ...] = ()
    remark: str = ""
    storage_options: dict[str, str] | None = None
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        if "://" in self.out:
            raise ValueError(f"out={self.out}: must be a local folder, from which a browser opens the page")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(ReportOptions, prog="python -m jobs.report", argv=argv, more=EXIT_CODES)
    try:
        return report(options)
    except StoreUnavailable as error:
        print(f"report: {error}", file=sys.stderr)
    except OSError as error:
        print(f"report: the page cannot be written: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("report: interrupted; start the same command again", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_STORE


def report(options: ReportOptions) -> int:
    """Run the job; the exit code. Raises StoreUnavailable, OSError, KeyboardInterrupt."""
    store = Store.at(options.store, options.storage_options)
    training = None
    if options.run or options.samples:
        from jobs.report_runs import BadRun, training_of  # loads torch, which other pages need not wait for

        try:
            training = training_of(store, options.run, options.samples, options.remark)
        except BadRun as error:
            print(f"report: {error}", file=sys.stderr)
            return EXIT_REFUSED
    written = write_report(store, Path(options.out).absolute(), options.report, _Teller().tell, training)
    for line in written.left_out:
        print(line)
    print(written.summary)
    print(f"open {written.page.as_uri()}", flush=True)
    return 0


class _Teller:
    """Prints progress now and then, and never for work that is over in a moment."""

    def __init__(self) -> None:
        self._printed_s = time.monotonic()

    def tell(self, line: str) -> None:
        if time.monotonic() - self._printed_s >= PROGRESS_S:
            print(f"report: {line}", flush=True)
            self._printed_s = time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
