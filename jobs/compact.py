"""Compaction, a step of its own: small fragments merged, old versions dropped, look-ups indexed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from curation.embeddings import index_embeddings
from curation.lease import Lease
from curation.store import Store
from jobs.cli import parse
from jobs.progress import size_words
from jobs.runs import EXIT_CODES, exit_code_of, job_run, say

__all__ = ["CompactOptions", "main"]


@dataclass(frozen=True, slots=True)
class CompactOptions:
    """Merge small fragments, drop old versions, index the columns that jobs look up. Rows and ids stay.

    Attributes:
        store: Folder or address of the store.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        keep_versions_days: Versions younger than this stay readable, and so do tagged ones.
    """

    store: str
    storage_options: dict[str, str] | None = None
    keep_versions_days: float = 7.0

    def __post_init__(self) -> None:
        if self.keep_versions_days < 0:
            raise ValueError(f"keep_versions_days={self.keep_versions_days}: must not be negative")


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.compact"
    options = parse(CompactOptions, prog=prog, argv=argv, more=EXIT_CODES)
    return exit_code_of("compact", lambda: compact(options))


def compact(options: CompactOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    with (
        job_run(store, "compact", options, lease_name="clips") as run,
        # jobs.score, jobs.caption and jobs.encode write under these what is rewritten here.
        Lease.take(store, "model_scores", run.run_id, tell=say),
        Lease.take(store, "captions", run.run_id, tell=say),
        Lease.take(store, "latents", run.run_id, tell=say),
    ):
        run.counts = store.compact(options.keep_versions_days)
        run.counts |= index_embeddings(store, options.keep_versions_days)
        for table, done in run.counts.items():
            say(
                f"{table}: {done['fragments_before']} fragments became {done['fragments_after']}, "
                f"{done['old_versions_removed']} old versions dropped, {size_words(done['bytes_freed'])} freed"
            )
        return 0


if __name__ == "__main__":
    sys.exit(main())
