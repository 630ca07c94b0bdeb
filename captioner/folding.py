"""Words compared without their endings: "chases", "chased" and "chasing" are one, "2" and "two" too. No synonyms."""

from __future__ import annotations

import re

__all__ = ["FUNCTION_WORDS", "NEGATIONS", "PREPOSITIONS", "content_words", "fold", "number_of"]

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
VOWEL = re.compile(r"[aeiouy]")
DOUBLED = re.compile(r"([bdgkmnprtv])\1$")


def _listed(words: str) -> list[str]:
    return words.split()


# fmt: off
IRREGULAR = {
    "men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "wolves": "wolf", "leaves": "leaf", "knives": "knife", "shelves": "shelf",
    "lives": "life", "wives": "wife", "ran": "run", "sat": "sit", "stood": "stand", "flew": "fly", "flown": "fly",
    "ate": "eat", "eaten": "eat", "held": "hold", "wore": "wear", "worn": "wear", "drove": "drive", "driven": "drive",
    "lying": "lie", "lay": "lie", "dying": "die", "tying": "tie", "rode": "ride", "swam": "swim", "fell": "fall",
    "fallen": "fall", "threw": "throw", "thrown": "throw", "grey": "gray", "colour": "color", "colours": "color",
    "coloured": "color", "centre": "center",
}
NUMBERS = {word: str(number) for number, word in enumerate(_listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
))} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
      "hundred": "100", "thousand": "1000"}
NEGATIONS = frozenset({"no", "not", "without", "never", "none", "nobody", "nothing", "neither", "nor", "cannot"})
PREPOSITIONS = frozenset({"in", "on", "at", "by", "with", "from", "to", "into", "onto", "for", "as", "than"})
FUNCTION_WORDS = frozenset(_listed(
    "a an the this that these those there here it its it's he him his she her hers they them their theirs we us our "
    "you your i me my is are was were be been being am has have had having do does did doing will would can could "
    "may might shall should must of and or but if so very just some any such which who whom whose what when where "
    "while because until during about also too"
)) | PREPOSITIONS
# fmt: on


def number_of(word: str) -> str | None:
    """The digits of a number, however it is written; None for another word."""
    plain = word.lower()
    return plain if plain[:1].isdigit() and plain.replace(".", "").isdigit() else NUMBERS.get(plain)


def fold(word: str) -> str:
    """Without case, plural, -ing and -ed. Crude on purpose: it must only do the same to both sides."""
    plain = word.lower().replace("\u2019", "'").removesuffix("'s").removesuffix("'")
    if number := number_of(plain):
        return number
    if plain in IRREGULAR:
        return IRREGULAR[plain].removesuffix("e")
    if len(plain) <= 3:
        return plain.removesuffix("e") if len(plain) == 3 else plain
    return _stem(plain).removesuffix("e")


def _stem(plain: str) -> str:
    if plain.endswith(("ies", "ied")) and len(plain) > 4:
        return plain[:-3] + "y"
    if plain.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return plain[:-2]
    if plain.endswith("s") and not plain.endswith(("ss", "us", "is")):
        return plain[:-1]
    for ending in ("ing", "ed"):
        stem = plain.removesuffix(ending)
        if stem != plain and len(stem) >= 2 and VOWEL.search(stem) and not plain.endswith("eed"):
            return DOUBLED.sub(r"\1", stem)
    return plain


def content_words(text: str) -> list[str]:
    """The folded words of a text that say something by themselves, in order, with repeats."""
    return [fold(word) for word in WORD.findall(text) if word.lower().replace("\u2019", "'") not in FUNCTION_WORDS]
