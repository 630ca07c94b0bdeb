"""A clip's own text: what was written for the footage before it came here, kept as the caption of kind `original`.

It comes from a file beside the source with its name and another suffix (`film.mp4`: `film.txt`, `film.json`,
`film.vtt`, `film.srt`), or from a table. A text without times is of the whole source, so it is the original of every
clip of it; texts with times are cut to the clip.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable

from captioner.originals_table import OriginalsTable, read_originals_table
from captioner.side_text import PARSERS, BadSideText, SideText, decoded, file_bytes
from curation.address import WEB, path_of, scheme_of, uri_of

__all__ = ["BadSideText", "OriginalsTable", "SideText", "original_of", "read_originals_table", "read_side_texts"]

MAX_SIDE_BYTES = 16 << 20
# A part is of a clip where they share half of the shorter of the two.
MIN_SHARED = 0.5


def read_side_texts(uri: str) -> list[SideText] | None:
    """The texts beside a source at a local path or in a bucket, of the first side file that holds any; None for none.

    Web servers are not asked: their file names cannot be guessed, and many answer anything with a page. Nothing but
    files of the source's own folder is read, whatever links say. Raises BadSideText for a side file that is not what
    its suffix says.
    """
    if scheme_of(uri) in WEB:
        return None
    for suffix, parse in PARSERS.items():
        beside = _beside(uri, suffix)
        if beside is None or (content := file_bytes(beside, MAX_SIDE_BYTES)) is None:
            continue
        if texts := parse(beside, decoded(beside, content)):
            return texts
    return None


def _beside(uri: str, suffix: str) -> str | None:
    """The address of the side file. Raises BadSideText where it is a link to elsewhere."""
    path = path_of(uri)
    if path is None:
        stem, own = posixpath.splitext(uri)
        return None if own.lower() == suffix else stem + suffix
    stem, own = os.path.splitext(path)
    beside = stem + suffix
    if own.lower() == suffix:
        return None
    if os.path.islink(beside) and os.path.dirname(os.path.realpath(beside)) != os.path.realpath(
        os.path.dirname(beside) or "."
    ):
        raise BadSideText(uri_of(beside), "it is a link that leads out of its folder", "put the file itself there")
    return uri_of(beside)


def original_of(side_texts: Iterable[SideText], start_s: float, end_s: float) -> str | None:
    """What the texts say of a part of their source, in seconds; None where they say nothing of it.

    Parts that share at least half of their length, or half of the clip's, in order of time. Where none does, the texts
    that are of the whole source.
    """
    texts = list(side_texts)
    timed = [
        (text.start_s, text.end_s, text.text) for text in texts if text.start_s is not None and text.end_s is not None
    ]
    within = sorted((timing for timing in timed if _is_of(timing[0], timing[1], start_s, end_s)), key=lambda t: t[:2])
    said = [text for _, _, text in within] or [text.text for text in texts if text.start_s is None]
    return " ".join(dict.fromkeys(said)) or None


def _is_of(start_s: float, end_s: float, clip_start_s: float, clip_end_s: float) -> bool:
    if start_s == end_s:
        return clip_start_s <= start_s < clip_end_s
    shared_s = min(end_s, clip_end_s) - max(start_s, clip_start_s)
    return shared_s > 0 and shared_s >= MIN_SHARED * min(end_s - start_s, clip_end_s - clip_start_s)
