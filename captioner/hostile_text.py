"""Text that is not ours, from models, servers and files beside footage: it is data, whatever it says.

One notion of what is *seen*, and of *markup*, for all of these:

- `cleaned` makes a text plain before it is stored. A caption may be about anything, also a sign with an address on it,
  so only what a renderer or a chat template would act on is taken out, and the rest is kept. `has_markup` and
  `has_control_characters` tell what it would take out; they are for the flags of a caption.
- `unplain_in` finds more: addresses, braces, roles of a chat, escapes, half a tag. It is for answers to text that may
  hold orders (captions of films, prompts): there one that is not plain words is refused, as another can be asked for,
  while a caption that is refused would be lost.
- `as_data` quotes a text for a prompt. `one_line` and `brief` are for that and for consoles: what is not seen becomes a
  space, where `cleaned` takes it out, because here it may stand between words, as a line's end does.

This is for readers and models. Whoever shows a text on a page escapes it all the same.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Iterator

__all__ = [
    "as_data",
    "brief",
    "cleaned",
    "encodable",
    "has_control_characters",
    "has_markup",
    "one_line",
    "unplain_in",
]

# Between letters these are letters' own, as in Persian, and they join emoji.
JOINERS = "\u200c\u200d"
WHITE = "\t\n\r"
REPLACED = "\ufffd"  # where something was no text
SEPARATORS = ("Zl", "Zp")  # they end a line, and are of no other use
MOST_SHOWN_CHARS = 300

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
# What no plain words have, beside the marks: halves of them, templates, addresses, roles, escapes.
UNPLAIN = re.compile(
    r"</?[a-z!?][^<>]*>?|<\||\|>|\[/?INST\]|`|\*\*|__\w|\]\(|[{}]|&#?\w+;|https?://|www\.|"
    r"^[^\S\n]*(?:system|assistant|user)[^\S\n]*:|\\[nrtu]",
    re.IGNORECASE | re.MULTILINE,
)
# Taking out one mark may leave another, `<<b>b>`; what is still there after so many rounds was made to be.
ROUNDS = 4


# -- what is to be stored


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


def encodable(text: str) -> str:
    """JSON can spell halves of surrogate pairs, which no table can hold: each becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


# -- what is refused where it is not plain


def unplain_in(text: str) -> Iterator[str]:
    """Everything in a text that is no plain words: markup, addresses, characters that are not seen, ends of lines."""
    for pattern in (UNPLAIN, *MARKS):
        yield from (found[0].strip() for found in pattern.finditer(text))
    for character in text:
        if not _is_seen(character) or unicodedata.category(character) in SEPARATORS:
            yield f"U+{ord(character):04X}"


# -- what goes into a prompt or onto a console


def as_data(text: str) -> str:
    """A JSON string that no chat template reads as its own marks: `<|im_end|>` and `[INST]` lose their brackets."""
    quoted = json.dumps(one_line(text), ensure_ascii=False)
    return re.sub(r"[<>\[\]]", lambda bracket: f"\\u{ord(bracket[0]):04x}", quoted)


def one_line(text: str) -> str:
    """Each run of white space and characters that are not seen becomes one space."""
    return " ".join("".join(c if _is_seen(c) else " " for c in text).split())


def brief(text: str, most_chars: int = MOST_SHOWN_CHARS) -> str:
    """Somebody else's words as they may be printed: one line, not long, whatever the length of the text."""
    line = one_line(text[: 8 * most_chars])
    return line if len(line) <= most_chars else line[:most_chars] + "…"


def _once(text: str) -> str:
    text = "".join(_kept(c) for c in unicodedata.normalize("NFC", html.unescape(text)))
    text = LINK.sub(r"\1", TAG.sub(" ", text))
    text = CODE.sub(r"\1", FENCE.sub(" ", text))
    text = EMPHASIS.sub(r"\1", STRONG.sub(r"\2", text))
    text = " ".join(LINE_START.sub("", text).split())
    text = re.sub(r" +([,.;:!?](?:\s|$))", r"\1", text)
    return unicodedata.normalize("NFC", text).strip(JOINERS + " ")


def _is_seen(character: str) -> bool:
    """What Unicode has not assigned is not: it may yet become anything."""
    return character in JOINERS or (unicodedata.category(character)[0] != "C" and character != REPLACED)


def _kept(character: str) -> str:
    return character if _is_seen(character) else character if character in WHITE else " " if character == "\x0c" else ""


def _is_entity(found: re.Match[str]) -> bool:
    return html.unescape(found[0]) != found[0]
