"""Captions that need no engine: what was measured, and what came with the footage. In this process: a clip takes less
time than a task would take to start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lance
import pyarrow.compute as pc

from captioner.captions import Author, Caption, captions_among
from captioner.checks import CheckConfig, flags_of
from captioner.facts import facts_of
from captioner.facts_words import captions_from_facts
from captioner.hostile_text import cleaned
from captioner.originals import BadSideText, OriginalsTable, original_of, read_side_texts
from captioner.work import wanted_rows
from curation.records import digest
from curation.store import Store
from jobs.caption_windows import Committer
from jobs.progress import Progress
from jobs.runs import JobRun, say

__all__ = ["FACTS", "write_facts", "write_originals"]

# Raise the revision where the words change: a store then gets the new ones beside the old.
FACTS = Author("facts", "facts", "1", "measured")
PROBLEMS_SHOWN = 10


def write_facts(run: JobRun, version: int, where: str, kinds: Sequence[str], limit: int, counts: Counter[str]) -> None:
    """Captions from measurements for clips that lack them. Raises StoreUnavailable, LeaseLost."""
    clips = run.store.open("clips", version)
    committer = Committer(run)
    clips_there = clips.count_rows(where)
    progress = Progress("caption", min(clips_there, limit or clips_there), 0, unit="clips")
    with run.store.reading():
        for rows in wanted_rows(clips, where, limit):
            committer.add(facts_captions(rows, run.store.open("captions"), kinds, counts))
            committer.flush_if_due()
            for _ in rows:
                progress.done(0)
            progress.show()
    committer.flush()
    progress.show(is_last=True)
    say(f"{counts['captioned']} clips captioned, {counts['complete']} had their captions")


def facts_captions(
    rows: Sequence[Mapping[str, Any]], captions: lance.LanceDataset, kinds: Sequence[str], counts: Counter[str]
) -> Iterator[Caption]:
    """What was measured of clips, in words, of those that lack it. The whole clip is the window."""
    said = captions_among(captions, [row["clip_id"] for row in rows], FACTS, ["clip_id", "kind"])
    present = {(row["clip_id"], row["kind"]) for row in said}
    for row in rows:
        missing = [kind for kind in kinds if (row["clip_id"], kind) not in present]
        counts["captioned" if missing else "complete"] += 1
        texts = captions_from_facts(facts_of(row)) if missing else {}
        for kind in missing:
            text = texts.get(kind)
            yield _of_whole_clip(row, kind, text, FACTS, () if text else ("empty",))


def write_originals(
    run: JobRun,
    version: int,
    where: str,
    limit: int,
    table: OriginalsTable | None,
    checks: CheckConfig,
    counts: Counter[str],
) -> None:
    """The text that came with the footage, for clips that lack it: from a table, else from a file beside the source.

    A file that cannot be read costs a line, not the job. Raises StoreUnavailable, LeaseLost.
    """
    committer = Committer(run)
    finder = OriginalFinder(table, checks)
    with run.store.reading():
        for rows in wanted_rows(run.store.open("clips", version), where, limit):
            uris = uris_of(run.store, {row["source_id"] for row in rows})
            found = [caption for row in rows if (caption := finder.caption_of(row, uris.get(row["source_id"], "")))]
            present = ids_among(run.store, [caption.caption_id for caption in found])
            counts["originals"] += len(found)
            committer.add(caption for caption in found if caption.caption_id not in present)
            committer.flush_if_due()
    committer.flush()
    for problem in finder.problems[:PROBLEMS_SHOWN]:
        say(f"original captions: {problem}")
    if len(finder.problems) > PROBLEMS_SHOWN:
        say(f"original captions: {len(finder.problems) - PROBLEMS_SHOWN} more such files")
    if counts["originals"]:
        say(f"{counts['originals']} clips have text that came with the footage, {committer.landed} of it new")


class OriginalFinder:
    """Finds the text of one clip after another; keeps what the last source's side file said."""

    def __init__(self, table: OriginalsTable | None, checks: CheckConfig):
        self._table, self._checks = table, checks
        self._uri = ""
        self._texts: Any = None
        self.problems: list[str] = []
        self.found_in = ""

    def caption_of(self, row: Mapping[str, Any], uri: str) -> Caption | None:
        """The text that came with a clip, as a caption; None where none did."""
        text = cleaned(self.text_of(row, uri) or "")
        if not text:
            return None
        # The text is part of the key: where it was changed, the new one is added.
        author = Author(self.found_in, self.found_in, digest(text)[:16], "as it came")
        flags = flags_of(
            text,
            kind="original",
            fields=None,
            facts=facts_of(row),
            finish_reason=None,
            agreement=None,
            config=self._checks,
        )
        return _of_whole_clip(row, "original", text, author, flags)

    def text_of(self, row: Mapping[str, Any], uri: str) -> str | None:
        """The text that came with a clip; `found_in` says where it was found."""
        start_s, end_s = row["start_s"], row["start_s"] + row["duration_s"]
        if self._table is not None:
            self.found_in = "table"
            texts = self._table.texts_of(clip_id=row["clip_id"], source_id=row["source_id"], uri=uri)
            return original_of(texts, start_s, end_s) if texts else None
        if uri != self._uri:
            self._uri, self._texts = uri, None
            try:
                self._texts = read_side_texts(uri) if uri else None
            except (BadSideText, OSError) as error:
                self.problems.append(str(error))
        self.found_in = "side_file"
        return original_of(self._texts, start_s, end_s) if self._texts else None


def ids_among(store: Store, caption_ids: Sequence[str]) -> set[str]:
    """Those that are in the table."""
    wanted = pc.field("caption_id").isin(list(caption_ids))
    rows = store.open("captions").to_table(columns=["caption_id"], filter=wanted) if caption_ids else None
    return set() if rows is None else set(rows["caption_id"].to_pylist())


def uris_of(store: Store, source_ids: set[str]) -> dict[str, str]:
    wanted = pc.field("source_id").isin(sorted(source_ids))
    rows = store.open("sources").to_table(columns=["source_id", "uri"], filter=wanted).to_pylist()
    return {row["source_id"]: row["uri"] for row in rows}


def _of_whole_clip(
    row: Mapping[str, Any], kind: str, text: str | None, author: Author, flags: tuple[str, ...]
) -> Caption:
    return Caption(
        clip_id=row["clip_id"],
        source_id=row["source_id"],
        kind=kind,
        text=text,
        window_index=None,
        window_start_pts=row["start_pts"],
        window_end_pts=row["end_pts"],
        captioner=author.captioner,
        model=author.model,
        model_revision=author.revision,
        prompt_id=author.prompt_id,
        attempts=1,
        flags=flags,
    )
