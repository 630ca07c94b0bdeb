"""Clips that look like a file or a clip, that a text describes, or that meet a condition. No Ray: it reads the tables.

a file, a clip or a text → the nearest clips by looks, and by meaning where there are embeddings → a table, and a page
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.report_clips import PlayConfig
from curation.search import BadSearch, Hits, checked_columns, find_alike, find_where
from curation.search_page import found_clips, search_table, write_search_page
from curation.store import Store, StoreUnavailable
from curation.trial import aligned
from jobs.cli import parse

__all__ = ["SearchOptions", "main"]

EXIT_CODES = (
    "Exit codes: 0 done, also where nothing was found; 2 impossible options, no such file, a condition that cannot be "
    "read, a text without embeddings, or an empty store; 4 there is no store, or the store or the folder is at fault; "
    "130 interrupted."
)
EXIT_BAD_SEARCH, EXIT_STORE, EXIT_INTERRUPTED = 2, 4, 130


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The clips nearest to a file, a clip or a text, and those that meet a condition.

    Attributes:
        store: Folder or address of the store.
        like: A video or picture file, the id of a clip of the store, or a text. A text needs embeddings. Without it,
            the clips that meet the condition are listed.
        where: SQL condition on the columns of clips: "duration_s > 2 AND camera_motion = 'pan'".
        limit: Most clips that are found, each way.
        columns: Scores and other columns to print.
        out: Folder for a page with the clips to play.
        model: Directory or hub id of the model whose embeddings are searched, where there are several.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        play: What it may cost to make the clips of the page play.
    """

    store: str
    like: str | None = None
    where: str | None = None
    limit: int = 20
    columns: tuple[str, ...] = ("duration_s",)
    out: str | None = None
    model: str | None = None
    storage_options: dict[str, str] | None = None
    play: PlayConfig = field(default_factory=PlayConfig)

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit={self.limit}: must be at least 1")
        if self.like is not None and not self.like.strip():
            raise ValueError("like: must not be empty")
        if self.out is not None and "://" in self.out:
            raise ValueError(f"out={self.out}: must be a local folder, from which a browser opens the page")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(SearchOptions, prog="python -m jobs.search", argv=argv, more=EXIT_CODES)
    try:
        return search(options)
    except BadSearch as error:
        print(f"search: {error}", file=sys.stderr)
        return EXIT_BAD_SEARCH
    except StoreUnavailable as error:
        print(f"search: {error}", file=sys.stderr)
    except OSError as error:
        print(f"search: the page cannot be written: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_STORE


def search(options: SearchOptions) -> int:
    """Run the job; the exit code. Raises BadSearch, StoreUnavailable, OSError, KeyboardInterrupt."""
    store = Store.at(options.store, options.storage_options)
    checked_columns(store, options.columns)
    if options.like is None:
        hits = [find_where(store, options.where, options.limit)]
    else:
        hits = find_alike(store, options.like, options.where, options.limit, options.model)
    clips = found_clips(store, hits)
    for each in hits:
        print(heading(each))
        print("\n".join(aligned(search_table(each, clips, options.columns), right={0})), flush=True)
    if options.out is not None:
        asked = " where ".join(filter(None, [f"like {options.like}" if options.like else "clips", options.where]))
        page = write_search_page(store, hits, clips, Path(options.out).absolute(), asked=asked, play=options.play)
        print(f"open {page.as_uri()}", flush=True)
    return 0


def heading(hits: Hits) -> str:
    found = f"{len(hits.found)} clips by {hits.by}" if hits.found else f"nothing found by {hits.by}"
    return "; ".join([found, *hits.notes])


if __name__ == "__main__":
    sys.exit(main())
