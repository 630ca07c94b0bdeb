"""Texts that lie in files beside footage: read within bounds, decoded, parsed. Whatever they hold is words, no orders.

A file that is not what its suffix says raises `BadSideText`, which names it, says what was wrong and what to do. A
`.json` that holds something else, as many tools write beside a video, is passed over.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from captioner.hostile_text import brief, cleaned
from curation.address import WEB, filesystem_of, path_of, scheme_of
from curation.media import open_file
from curation.records import BadSource

__all__ = ["PARSERS", "BadSideText", "SideText", "decoded", "file_bytes", "side_text"]

MAX_TEXT_CHARS = 20_000
MAX_CUES = 200_000
# In order of trust: the first that is there is the one for the whole.
JSON_KEYS = ("caption", "text", "description", "title")
JSON_LISTS = ("captions", "segments")
# Later marks of byte order begin with the bytes of earlier ones.
BYTE_ORDERS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What no text has, as bytes or after decoding: control characters other than white space and a DOS end of file.
BINARY = re.compile("[\x00-\x08\x0e-\x19\x1c-\x1f\x7f]")


class BadSideText(ValueError):
    """A file that was to bring texts and does not: its address, what was wrong, what to do."""

    def __init__(self, uri: str, wrong: str, do: str):
        super().__init__(uri, wrong, do)  # all three, so that it survives pickling between processes
        self.uri, self.wrong, self.do = uri, wrong, do

    def __str__(self) -> str:
        return f"{self.uri}: {self.wrong}; {self.do}"


@dataclass(frozen=True, slots=True)
class SideText:
    """Words for a part of a source, in seconds from its first frame, or for all of it where both times are None."""

    start_s: float | None
    end_s: float | None
    text: str


def side_text(uri: str, start_s: object, end_s: object, text: object, where: str) -> SideText | None:
    """A text with its times, checked; None where it has no words. Raises BadSideText, which says `where` it was."""
    if not isinstance(text, str):
        raise BadSideText(uri, f"{where}: its text is {type(text).__name__}", "it must be a string")
    if len(text) > MAX_TEXT_CHARS:
        wrong = f"{where}: a text of {len(text)} characters, over {MAX_TEXT_CHARS}, is no caption"
        raise BadSideText(uri, wrong, "shorten it, or split it into parts with times")
    if not (words := cleaned(text)):
        return None
    if start_s is None and end_s is None:
        return SideText(None, None, words)
    start, end = _seconds(start_s), _seconds(end_s)
    if start is None or end is None or not 0 <= start <= end:
        wrong = f"{where}: from {brief(str(start_s), 40)} to {brief(str(end_s), 40)}"
        raise BadSideText(uri, wrong, "both times must be seconds, 0 or more, the end not before the start")
    return SideText(start, end, words)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if isfinite(seconds) else None


def file_bytes(uri: str, max_bytes: int) -> bytes | None:
    """A file's content, None where there is no such file. Raises BadSideText where it cannot be read or is too big."""
    path = path_of(uri)
    try:
        content = _remote_bytes(uri, max_bytes + 1) if path is None else _local_bytes(path, max_bytes + 1)
    except BadSource as error:
        raise BadSideText(uri, error.detail, "or take it away") from error
    except MemoryError:
        raise
    except Exception as error:  # every filesystem has errors of its own
        said = brief(f"{type(error).__name__}: {error}")
        raise BadSideText(uri, f"it cannot be read: {said}", "check that it may be read") from error
    if content is not None and len(content) > max_bytes:
        raise BadSideText(uri, f"it has over {max_bytes} bytes", "it is no file of captions: split it or take it away")
    return content


def _local_bytes(path: str, most: int) -> bytes | None:
    if not os.path.lexists(path):
        return None
    with open_file(path) as file:
        content = bytearray()
        while len(content) < most and (part := file.read(most - len(content))):
            content += part
    return bytes(content)


def _remote_bytes(uri: str, most: int) -> bytes | None:
    filesystem, path = filesystem_of(uri)
    how = {"block_size": 0, "size": 1} if scheme_of(uri) in WEB else {}
    try:
        with filesystem.open(path, "rb", **how) as file:
            return file.read(most)
    except (FileNotFoundError, PermissionError):
        # Without the right to list a bucket, what is not there is forbidden.
        return None


def decoded(uri: str, content: bytes) -> str:
    """Text in UTF-8, in what its mark of byte order says, or else in Windows-1252. Raises BadSideText for no text."""
    for mark, encoding in BYTE_ORDERS:
        if content.startswith(mark):
            try:
                text = content[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                wrong = f"its mark says {encoding.upper()}, which it is not ({error.reason} at byte {error.start})"
                raise BadSideText(uri, wrong, "save it as UTF-8") from error
            break
    else:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            # Windows-1252 is Latin-1 with quotation marks and dashes where that has control characters.
            text = content.decode("cp1252", errors="replace").replace("\ufffd", " ")
    if found := BINARY.search(text):
        wrong = f"it is no text: character {found.start()} is U+{ord(found[0]):04X}"
        raise BadSideText(uri, wrong, "save it as UTF-8 text, or take it away")
    return text


def _plain(uri: str, text: str) -> Iterator[SideText | None]:
    yield side_text(uri, None, None, text, "the file")


def _json(uri: str, text: str) -> Iterator[SideText | None]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise BadSideText(uri, "it is nested too deeply", "give an object with `caption`") from None
    except ValueError as error:  # also a number of thousands of digits
        raise BadSideText(uri, f"it is no JSON ({brief(str(error), 200)})", "correct it or take it away") from error
    if isinstance(value, dict):
        listed = next((value[key] for key in JSON_LISTS if isinstance(value.get(key), list)), None)
        if listed is None or not all(isinstance(item, dict) for item in listed):
            words = next(
                (value[key] for key in JSON_KEYS if isinstance(value.get(key), str) and value[key].strip()), None
            )
            if words is not None:
                yield side_text(uri, None, None, words, "the file")
            return
        value = listed
    elif isinstance(value, str):
        value = [{"text": value}]
    elif not isinstance(value, list):
        return
    for number, item in enumerate(value, start=1):
        where = f"item {number}"
        if not isinstance(item, dict) or not any(key in item for key in JSON_KEYS):
            raise BadSideText(uri, f"{where} has no text", "each item must be an object with start, end and text")
        words = next(item[key] for key in JSON_KEYS if key in item)
        yield side_text(uri, _first(item, "start", "start_s"), _first(item, "end", "end_s"), words, where)


def _first(item: dict[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if name in item), None)


def _subtitles(format_name: str) -> Callable[[str, str], Iterator[SideText | None]]:
    def parse(uri: str, text: str) -> Iterator[SideText | None]:
        from webvtt import WebVTT
        from webvtt.errors import MalformedCaptionError, MalformedFileError

        lines = text.lstrip().splitlines(keepends=True)
        is_vtt = format_name == "vtt"
        try:
            cues = WebVTT.from_buffer(lines, format=format_name, strict=is_vtt).captions
        except (MalformedFileError, MalformedCaptionError, ValueError) as error:
            wrong = f"it is no {'WebVTT' if is_vtt else 'SubRip'} file ({brief(str(error), 200)})"
            raise BadSideText(uri, wrong, "correct it or take it away") from error
        if not is_vtt and len(cues) < (begun := sum(map(_begins_cue, lines, lines[1:]))):
            wrong = f"of {begun} cues {begun - len(cues)} cannot be read"
            raise BadSideText(uri, wrong, "each must begin with a line of its number and a line of its times")
        shown = ""
        for number, cue in enumerate(cues, start=1):
            # Live captions roll: the last line of a cue is the first of the next.
            new = [line for line in cue.text.splitlines() if line.strip() and line.strip() != shown]
            shown = new[-1].strip() if new else shown
            start, end = (_seconds_of(time.to_tuple()) for time in (cue.start_time, cue.end_time))
            yield side_text(uri, start, end, " ".join(new), f"cue {number}")

    return parse


def _begins_cue(line: str, following: str) -> bool:
    return "-->" in line and bool(re.match(r"\s*\d+:\d", line)) and bool(following.strip())


def _seconds_of(time: tuple[int, int, int, int]) -> float:
    hours, minutes, seconds, milliseconds = time
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _bounded(
    parse: Callable[[str, str], Iterable[SideText | None]],
) -> Callable[[str, str], list[SideText]]:
    def parse_all(uri: str, text: str) -> list[SideText]:
        texts: list[SideText] = []
        for found in parse(uri, text):
            if found is not None:
                texts.append(found)
            if len(texts) > MAX_CUES:
                raise BadSideText(uri, f"it has over {MAX_CUES} texts", "split it or take it away")
        return texts

    return parse_all


# In this order: what was written as a caption, before what tools write beside a video, before what is spoken in it.
PARSERS: dict[str, Callable[[str, str], list[SideText]]] = {
    ".txt": _bounded(_plain),
    ".json": _bounded(_json),
    ".vtt": _bounded(_subtitles("vtt")),
    ".srt": _bounded(_subtitles("srt")),
}
"""Suffix → (address for messages, text) → the texts of a file. Each raises BadSideText."""
