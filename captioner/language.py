"""Which language a caption is in: its script by Unicode's names of its letters, the rest by py3langid.

py3langid is Lui and Baldwin's langid.py (ACL 2012), a naive Bayes classifier over byte n-grams; the model comes in its
wheel, so nothing is fetched. It takes 0.6 s and 100 MB to load, when first asked, and 0.1 ms a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

__all__ = ["ANY", "LANGUAGES", "is_in_language", "without_quotes"]

ANY = "any"
# Latin script, but for those below. With fewer rivals, short texts are told apart better than among all 140.
_LATIN = "ca cs da de en es et fi fr hr hu id it lt lv ms nl no pl pt ro sk sl sv sw tl tr vi"
SCRIPTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_LATIN.split(), frozenset({"LATIN"})),
    **dict.fromkeys(["bg", "ru", "sr", "uk"], frozenset({"CYRILLIC"})),
    **dict.fromkeys(["ar", "fa", "ur"], frozenset({"ARABIC"})),
    **dict.fromkeys(["bn"], frozenset({"BENGALI"})),
    **dict.fromkeys(["el"], frozenset({"GREEK"})),
    **dict.fromkeys(["he"], frozenset({"HEBREW"})),
    **dict.fromkeys(["hi"], frozenset({"DEVANAGARI"})),
    **dict.fromkeys(["ja"], frozenset({"CJK", "HIRAGANA", "KATAKANA"})),
    **dict.fromkeys(["ko"], frozenset({"HANGUL", "CJK"})),
    **dict.fromkeys(["ta"], frozenset({"TAMIL"})),
    **dict.fromkeys(["te"], frozenset({"TELUGU"})),
    **dict.fromkeys(["th"], frozenset({"THAI"})),
    **dict.fromkeys(["zh"], frozenset({"CJK"})),
}
LANGUAGES = frozenset(SCRIPTS)
"""ISO 639-1 codes that can be asked for."""
_ALL_SCRIPTS = frozenset().union(*SCRIPTS.values())

# One letter may be a sign, as in 5 µm.
MIN_FOREIGN_LETTERS = 2
# Names in other scripts' countries keep their Latin letters: of those, a text may be made up to this share.
MAX_LATIN_SHARE = 0.5
# Fewer words or letters than this are not judged by the classifier: "Red square." reads as Italian.
MIN_WORDS, MIN_LETTERS = 4, 15
SURE, DENIED = 0.8, 0.05
# Words with a capital inside a sentence: names, which pull a text to their language (and German nouns, of which the
# rest of the sentence is German enough).
_NAME = re.compile(r"(?<=[^\W_][ ,])\s*[A-Z\u00c0-\u00de][\w'\u2019-]*")

# What is quoted is said or written in the picture, in whatever language. An apostrophe stands between letters.
_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|(?<!\w)'[^']*'(?!\w)|"
    r"(?<!\w)\u2018[^\u2019]*\u2019(?!\w)"
)


def without_quotes(text: str, seen: Iterable[str] = ()) -> str:
    """Without what stands in quotation marks, and without the words that are `seen` in the picture."""
    bare = _QUOTED.sub(" ", text)
    for words in seen:
        if words.strip():
            bare = re.sub(rf"(?<!\w){re.escape(words.strip())}(?!\w)", " ", bare, flags=re.IGNORECASE)
    return bare


def is_in_language(text: str, language: str) -> bool:
    """False where a text is surely in another language, or holds letters of a script that is not the language's.

    Quoted words are not looked at. A text too short to be told is taken to be right. `language` is of `LANGUAGES`, or
    `ANY`, which any text is in.
    """
    if language == ANY:
        return True
    text = without_quotes(text)
    scripts = Counter(script for c in text if c.isalpha() and (script := _script(c)))
    own = SCRIPTS[language]
    if sum(count for script, count in scripts.items() if script not in own | {"LATIN"}) >= MIN_FOREIGN_LETTERS:
        return False
    if "LATIN" not in own and scripts["LATIN"] > MAX_LATIN_SHARE * scripts.total():
        return False
    if scripts.total() < MIN_FOREIGN_LETTERS:
        return True
    if own == {"LATIN"}:
        text = " ".join(_NAME.sub(" ", text).split())
        if len(text.split()) < MIN_WORDS or len(text) < MIN_LETTERS:
            return True
    by_language = dict(_identifier().rank(text))
    best = max(by_language, key=lambda code: by_language[code])
    return best == language or by_language[best] < SURE or by_language[language] > DENIED


@cache
def _script(letter: str) -> str | None:
    words = unicodedata.name(letter, "").replace("-", " ").split()
    return next((word for word in words[:2] if word in _ALL_SCRIPTS), None)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier
