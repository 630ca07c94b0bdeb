"""Text from outside made plain before it is stored: no markup, no control characters, no runs of white space.

What is done here is for readers, not for safety: whoever shows a caption escapes it all the same.
"""

from __future__ import annotations

import html
import re
import unicodedata

__all__ = ["cleaned", "has_control_characters", "has_markup"]

# Between letters these are letters' own, as in Persian, and they join emoji.
JOINERS = "\u200c\u200d"
WHITE = "\t\n\r"
REPLACED = "\ufffd"  # where something was no text

# A tag follows its bracket at once, so that `3 < 4 > 2` and `<3` are none; `<|im_end|>` ends a turn of a chat.
TAG = re.compile(r"<[/!?]?[A-Za-z][^<>]*>|<!--[^<>]*-->|<\|[^<>|]*\|>|\[/?INST\]")
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
FENCE = re.compile(r"```[A-Za-z0-9_-]*")
CODE = re.compile(r"`([^`\n]*)`")
LINK = re.compile(r"!?\[([^\[\]\n]*)\]\([^()\s]*\)")
STRONG = re.compile(r"(\*\*\*|\*\*|___|__)(?=\S)([^*_\n]*[^*_\s])\1")
EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]*[^*\s])\*(?![\w*])")
LINE_START = re.compile(r"^[ \t]*(?:(?:#{1,6}|[-*+•\u2013>])[ \t]+)+", re.MULTILINE)
MARKS = (TAG, FENCE, CODE, LINK, STRONG, EMPHASIS, LINE_START)
# Taking out one mark may leave another, `<<b>b>`; what is still there after so many rounds was made to be.
ROUNDS = 4


def has_markup(text: str) -> bool:
    """Whether there are tags, marks of a chat or of Markdown, or entities of HTML."""
    return any(mark.search(text) for mark in MARKS) or any(map(_is_entity, ENTITY.finditer(text)))


def has_control_characters(text: str) -> bool:
    """Whether there are characters that are not seen, or that turn the direction of text. White space is none."""
    return any(not _is_seen(c) and c not in WHITE for c in text)


def cleaned(text: str) -> str:
    """The same words without what `has_markup` and `has_control_characters` find, each run of white space one space.

    Doing it twice changes nothing more.
    """
    for _ in range(ROUNDS):
        if (plain := _once(text)) == text:
            return text
        text = plain
    # What is left are brackets of brackets: none of them is kept, nor anything that would be an entity.
    return _once(re.sub(r"[<>&`*_\[\]#|]+", " ", text))


def _once(text: str) -> str:
    text = "".join(_kept(c) for c in unicodedata.normalize("NFC", html.unescape(text)))
    text = LINK.sub(r"\1", TAG.sub(" ", text))
    text = CODE.sub(r"\1", FENCE.sub(" ", text))
    text = EMPHASIS.sub(r"\1", STRONG.sub(r"\2", text))
    text = " ".join(LINE_START.sub("", text).split())
    text = re.sub(r" +([,.;:!?](?:\s|$))", r"\1", text)
    return unicodedata.normalize("NFC", text).strip(JOINERS + " ")


def _is_seen(character: str) -> bool:
    return character in JOINERS or (unicodedata.category(character)[0] != "C" and character != REPLACED)


def _kept(character: str) -> str:
    return character if _is_seen(character) else character if character in WHITE else " " if character == "\x0c" else ""


def _is_entity(found: re.Match[str]) -> bool:
    return html.unescape(found[0]) != found[0]
