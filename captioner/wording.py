"""English for captions: joins, articles, number, sentences, and what models write made into phrases that fit in one.

Captions are in American spelling, as the names of colours are. Where a rule of grammar cannot be decided without a
dictionary (is this word a name?), the text is left as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from captioner.lexicon import (
    AFTER_HEAD,
    DETERMINERS,
    IRREGULAR_PLURALS,
    NOTHING,
    ORDINARY,
    PLURAL_DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    SINGULAR_DETERMINERS,
    SINGULARS_IN_S,
    UNCOUNTED,
)
from captioner.openings import without_stock_opening

__all__ = [
    "SENTENCE_END",
    "camera_clause",
    "camera_participle",
    "definite",
    "head_of",
    "head_word",
    "is_plural",
    "joined",
    "noun_phrase",
    "phrase",
    "same_words",
    "sentence",
    "sentences",
    "with_article",
]

# Not after `Mr.` and the like.
SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)[.!?;]+\s+(?=[A-Z\"'\d])")
NO_NEWS = re.compile(r"there (?:is|are) ", re.IGNORECASE)


def joined(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = [item for item in items if item] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def sentence(text: str) -> str:
    """With a capital at its start and one stop at its end; empty for nothing."""
    text = " ".join(text.split()).rstrip(" ,;:-")
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" or re.search(r"[.!?][\"')]$", text) else f"{text}."


def sentences(*clauses: str) -> str:
    """Each clause a sentence, empty ones left out."""
    return " ".join(filter(None, map(sentence, clauses)))


def with_article(noun: str) -> str:
    """`a dog`, `an owl`; an hour and a unicorn by their sound, an MP3 by its letter."""
    return f"{_article(noun)} {noun}"


def _article(noun: str) -> str:
    first = re.split(r"[\s-]", noun, maxsplit=1)[0]
    # Short ones and those without a vowel are read letter by letter: an MP3, an LED, but a NASA engineer.
    if re.fullmatch(r"[A-Z][A-Z0-9]*s?", first) and (len(first) < 4 or not re.search(r"[AEIOU]", first[1:])):
        return "an" if first[0] in "AEFHILMNORSX" else "a"
    low = first.lower()
    if re.match(r"8|1[18](?!\d)", low):
        return "an"
    if low.startswith(("uni", "use", "usu", "eu", "ut", "one", "once", "ub")) and not low.startswith(
        ("unin", "unim", "unid")
    ):
        return "a"
    return "an" if low[:1] in tuple("aeiou") or low.startswith(("hour", "honest", "honor", "heir")) else "a"


def phrase(text: str) -> str:
    """A field as a phrase: no stock opening, no stop at its end, no capital that only its place explains.

    Empty where the model said that it knows nothing.
    """
    parts = [said for part in SENTENCE_END.split(text) if (said := _phrase(part))]
    return "; ".join(parts)


def _phrase(text: str) -> str:
    text = " ".join(text.split()).strip(" ,;:-")
    bare = without_stock_opening(text)
    # As it was written from there on: what takes openings off gives the rest a capital.
    text = text[len(text) - len(bare) :] if text.casefold().endswith(bare.casefold()) else bare
    text = NO_NEWS.sub("", text, count=1) if NO_NEWS.match(text) else text
    text = re.sub(r"[\s.,;:…]+$", "", text) if not re.search(r"\b(?:[A-Z]\.){2,}$|\betc\.$", text) else text
    text = re.sub(r"\.{2,}", ",", text)
    return "" if text.casefold() in NOTHING else _lowered(text)


def _lowered(text: str) -> str:
    first, *_ = re.split(r"[\s,]", text, maxsplit=1)
    if not re.fullmatch(r"[A-Z][a-z'-]*", first):
        return text
    low = first.lower()
    # Not King, String or Beijing
    is_participle = low.endswith("ing") and len(low) > 6 and not low.endswith(("jing", "qing"))
    is_adjective = len(low) > 6 and low.endswith(("ful", "less", "ous", "ive"))
    return (
        low + text[len(first) :]
        if low in ORDINARY or low.removesuffix("s") in ORDINARY or is_participle or is_adjective
        else text
    )


def noun_phrase(text: str) -> str:
    """With an article where it needs one: `dog` is `a dog`; `the dog`, `dogs`, `water` and `Paris` stay."""
    text = phrase(text)
    first = text.split(" ", 1)[0].lower()
    if not text or first in DETERMINERS or first in PRONOUNS or not text[0].islower():
        return text
    head = head_word(text)
    is_uncounted = head in UNCOUNTED or re.search(r"(?:day|sun|moon|lamp|candle|fire|twi)light$|lighting$", head)
    if is_uncounted or is_plural(text) or first in PREPOSITIONS or text[-1].isdigit():
        return text
    return with_article(text)


def head_of(noun: str) -> str:
    """Without what follows the head: `a man in a red coat` is `a man`; `a group of men` stays."""
    words = noun.split()
    return " ".join(words[: _head_end(words, AFTER_HEAD - {"of"})]).partition(",")[0]


def head_word(noun: str) -> str:
    """The noun that the rest describes: `man` of `a tall man in a red coat`."""
    words = noun.partition(",")[0].split()
    return words[_head_end(words, AFTER_HEAD) - 1].lower() if words else ""


def _head_end(words: list[str], after: frozenset[str]) -> int:
    return next((i for i, word in enumerate(words) if i and word.lower().strip(",") in after), len(words))


def is_plural(noun: str) -> bool:
    """Whether a noun phrase takes `are`."""
    words = noun.lower().split()
    if not words:
        return False
    if words[0] in PLURAL_DETERMINERS or (words[0].isdigit() and words[0] != "1"):
        return True
    if re.search(r"^[^,]+ and (?:a|an|the|his|her|its|their|two|three|some|several)\b", head_of(noun).lower()):
        return True
    if words[0] in SINGULAR_DETERMINERS:
        return False
    head = head_word(noun)
    if head in IRREGULAR_PLURALS:
        return True
    return head.endswith("s") and not head.endswith(("ss", "us", "is", "'s")) and head not in SINGULARS_IN_S


def definite(noun: str) -> str:
    """The same thing again: `a man in a red coat` is `the man`, `two dogs` `the two dogs`; names stay."""
    head = head_of(noun)
    first, _, rest = head.partition(" ")
    low = first.lower()
    if rest and low in ("a", "an", "some", "another", "one", "several", "many"):
        return f"the {rest}"
    if low in ("the", "this", "that", "these", "those", "his", "her", "its", "their", "both", "all", "each", "every"):
        return head
    return f"the {head}" if (head and head[0].islower()) or head[:1].isdigit() else head


def same_words(one: str, other: str) -> bool:
    """Whether two phrases say the same up to case, articles and punctuation."""
    return _words(one) == _words(other)


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ("a", "an", "the")]


# The camera's verb, its participle, and the way.
CAMERA_VERBS = {
    "static": ("stays still", "staying still", ""),
    "pan left": ("pans", "panning", "to the left"),
    "pan right": ("pans", "panning", "to the right"),
    "tilt up": ("tilts", "tilting", "up"),
    "tilt down": ("tilts", "tilting", "down"),
    "zoom in": ("zooms", "zooming", "in"),
    "zoom out": ("zooms", "zooming", "out"),
    "roll clockwise": ("rolls", "rolling", "clockwise"),
    "roll counterclockwise": ("rolls", "rolling", "counterclockwise"),
    "shake": ("shakes", "shaking", ""),
}


def camera_clause(camera: str, speed: str | None = None) -> str:
    """`the camera slowly pans to the left`; empty for `unknown`."""
    verb, _, way = CAMERA_VERBS.get(camera, ("", "", ""))
    before, after = _manner(camera, speed)
    return " ".join(filter(None, ("the camera", before, verb, way, after))) if verb else ""


def camera_participle(camera: str, speed: str | None = None) -> str:
    """`slowly panning to the left`; empty for `unknown`."""
    _, participle, way = CAMERA_VERBS.get(camera, ("", "", ""))
    before, after = _manner(camera, speed)
    return " ".join(filter(None, (before, participle, way, after)))


def _manner(camera: str, speed: str | None) -> tuple[str, str]:
    """An adverb before the verb, or one after it."""
    if camera == "static" or speed is None:
        return "", ""
    if camera == "shake":
        return "", {"slow": "slightly", "fast": "strongly"}.get(speed, "")
    return {"slow": "slowly", "fast": "quickly"}.get(speed, ""), ""
