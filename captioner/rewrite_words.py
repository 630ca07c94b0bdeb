"""A prompt read closely enough to tell whether another text still says it: words, clauses, what stands between them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from captioner.folding import FUNCTION_WORDS, NEGATIONS, PREPOSITIONS, fold, number_of

__all__ = [
    "ADJECTIVES",
    "COLORS",
    "LIGHT_WORDS",
    "TIMES_OF_DAY",
    "Word",
    "normal",
    "quoted_in",
    "without_asking",
    "words_of",
]


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _folded(words: str) -> frozenset[str]:
    return frozenset(map(fold, words.split()))


# fmt: off
COLORS = _folded(
    "red orange yellow green blue purple violet pink brown black white gray beige cyan magenta turquoise teal crimson "
    "scarlet maroon navy indigo olive golden gold silver bronze cream ivory amber lavender tan khaki emerald"
)
ADJECTIVES = _folded(
    "small big large tiny huge giant tall short long old young new wet dry dark bright fat thin wooden metal glass "
    "stone fast slow happy sad angry empty full open closed broken clean dirty round square left right upper lower"
)
LIGHT_WORDS = frozenset({"light", "lighting", "sunlight", "moonlight", "candlelight", "backlight", "glow", "shadows"})
TIMES_OF_DAY = _listed(
    "night day dawn dusk sunset sunrise noon midday midnight morning evening afternoon twilight winter summer spring "
    "autumn daytime nighttime"
)
PICTURES = _listed("shot view closeup closeups angle")
# Between two words they are no words of their own, but they say how the two belong together.
LINKS = PREPOSITIONS | {"of"}
CONJUNCTIONS = frozenset({"and", "or", "but", "while", "where"})
ENDS_NEGATION = CONJUNCTIONS - {"or"} | PREPOSITIONS | {"then", "before", "after"}

QUOTED = re.compile(
    r'"(?P<a>[^"\n]+)"|\u201c(?P<b>[^\u201d\n]+)\u201d|«(?P<c>[^»\n]+)»|\u2018(?P<d>[^\u2019\n]+)\u2019(?!\w)|'
    r"(?<![\w'])'(?P<e>[^\s'](?:[^'\n]*[^\s'])?)'(?![\w'])"
)
TOKEN = re.compile(
    QUOTED.pattern + r"|(?P<number>\d+(?:[.,:]\d+)+)|(?P<word>[^\W_]+(?:['\u2019][^\W_]+)*)|(?P<end>[.!?…]|\n)|"
    r"(?P<mark>[,;:()\u2014\u2013/|&+*=])"
)
# "Generate a video of …" asks for the scene and is no part of it.
ASKED = re.compile(
    r"^\s*(?:please\s+)?(?:(?:can|could|would)\s+you\s+|i\s+(?:want|need|would\s+like)\s+)?(?:please\s+)?"
    r"(?:(?:generate|create|make|produce|render|show)\s+(?:me\s+|us\s+)?)?(?:an?\s+|the\s+)?"
    r"(?:video|clip|footage)\s+(?:of|showing)\s+", re.IGNORECASE,
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Word:
    """A word that says something. `key` is what is compared; `clause` and `sentence` count up.

    `links` are the prepositions since the word before, `crosses` whether a mark or a conjunction stands there too,
    `gap` how many words of any sort. `negated`: "no", "without" or their like reaches it. `article`: "a", "an" or
    "one" stands shortly before it. `is_name`: capitals that are no sentence's start.
    """

    raw: str
    key: str
    sort: Literal["word", "number", "quote", "negation"]
    clause: int
    sentence: int
    links: frozenset[str]
    crosses: bool
    gap: int
    negated: bool
    article: bool
    is_name: bool

    @property
    def binds(self) -> bool:
        """It says how many, which or of what colour the next word is: the two must stay together."""
        return self.sort in ("number", "negation") or self.key in COLORS or self.key in ADJECTIVES


def normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def quoted_in(text: str) -> tuple[str, ...]:
    """What stands in quotation marks, without them."""
    return tuple(next(filter(None, found.groups())) for found in QUOTED.finditer(normal(text)))


def without_asking(prompt: str) -> str:
    """A prompt from where it says what is to be seen: without "generate a video of"."""
    found = ASKED.match(prompt)
    return prompt[found.end() :] if found else prompt


@dataclass(slots=True)
class _Since:
    """What was met since the last word that says something."""

    links: set[str]
    crosses: bool = False
    gap: int = 0


def words_of(text: str, *, asked: bool = False) -> tuple[Word, ...]:
    """The words of a text in order. `asked`: it is a prompt, whose "generate a video of" is no part of the scene."""
    tokens = list(TOKEN.finditer(without_asking(normal(text)) if asked else normal(text)))
    words: list[Word] = []
    clause = sentence = 0
    since, article, opens = _Since(set()), -9, True
    for index, token in enumerate(tokens):
        sort, raw = _sort_of(token), token[0]
        plain = raw.lower().replace("\u2019", "'")
        if sort in ("end", "mark"):
            clause, since.crosses = clause + 1, True
            if sort == "end":
                sentence, opens = sentence + 1, True
            continue
        if plain in ("a", "an", "one"):
            article = index
        if sort == "word" and plain in FUNCTION_WORDS:
            if _parts(plain, tokens, index, words):
                clause, since.crosses = clause + 1, True
            if plain in LINKS:
                since.links.add(plain)
            since.gap += 1
            opens = False
            continue
        word = Word(
            raw=raw, key=_key(sort, plain, token), sort=_told(sort, plain), clause=clause, sentence=sentence,
            links=frozenset(since.links), crosses=since.crosses, gap=since.gap, negated=False,
            article=0 < index - article <= 3, is_name=sort == "word" and raw[0].isupper() and not opens,
        )  # fmt: skip
        words.append(word)
        since, opens = _Since(set()), False
    return _negated(_names(words, tokens), tokens)


def _sort_of(token: re.Match[str]) -> str:
    return token.lastgroup if token.lastgroup in ("number", "word", "end", "mark") else "quote"


def _told(sort: str, plain: str) -> Literal["word", "number", "quote", "negation"]:
    if sort == "quote":
        return "quote"
    if plain in NEGATIONS or plain.endswith("n't"):
        return "negation"
    return "number" if sort == "number" or number_of(plain) else "word"


def _key(sort: str, plain: str, token: re.Match[str]) -> str:
    told = _told(sort, plain)
    if told == "quote":
        return f'"{next(filter(None, (token[name] for name in "abcde")))}"'
    if told == "negation":
        return "not"
    return plain.replace(",", "") if sort == "number" else fold(plain)


def _parts(plain: str, tokens: list[re.Match[str]], index: int, words: list[Word]) -> bool:
    """Whether this little word begins another clause, whose place in the text is free."""
    before = words[-1] if words else None
    after = [t[0].lower() for t in tokens[index + 1 : index + 5]]
    if plain in CONJUNCTIONS:  # "black and white" is one colour
        colors = before is not None and before.key in COLORS and bool(after) and fold(after[0]) in COLORS
        return not (plain == "and" and colors)
    if plain == "of":
        return before is not None and before.raw.lower() in PICTURES | {"up"}
    if plain in ("at", "during", "in"):
        return any(word in TIMES_OF_DAY for word in after[:2]) or (
            plain == "in" and after[:3] == ["the", "style", "of"]
        )
    return plain == "with" and any(word in LIGHT_WORDS for word in after[:3])


def _names(words: list[Word], tokens: list[re.Match[str]]) -> list[Word]:
    """No name in a text that has most of its words in capitals: there they say nothing."""
    capitals = [token[0][0].isupper() for token in tokens if _sort_of(token) == "word"]
    return [replace(word, is_name=False) for word in words] if sum(capitals) > 0.75 * len(capitals) else words


def _negated(words: list[Word], tokens: list[re.Match[str]]) -> tuple[Word, ...]:
    """Marks the words that a negation reaches: up to a mark or another phrase, through "a, b or c"."""
    marked, position, open_ = [], 0, False
    for index, token in enumerate(tokens):
        sort, plain = _sort_of(token), token[0].lower()
        if sort == "end" or (sort == "mark" and not _list_goes_on(tokens, index)):
            open_ = False
        elif sort == "word" and plain in FUNCTION_WORDS:
            open_ = open_ and plain not in ENDS_NEGATION
        elif sort != "mark" and position < len(words):
            word = words[position]
            position += 1
            marked.append(replace(word, negated=open_ and word.sort != "negation"))
            open_ = word.sort == "negation" or (open_ and plain not in ENDS_NEGATION)
    return tuple(marked)


def _list_goes_on(tokens: list[re.Match[str]], index: int) -> bool:
    """Whether a comma stands in "no cars, people or dogs": only short parts until an "or"."""
    if tokens[index][0] != ",":
        return False
    length = 0
    for token in tokens[index + 1 :]:
        plain = token[0].lower()
        if plain in ("or", "nor"):
            return True
        length = 0 if plain == "," else length + 1
        if length > 3 or plain in ENDS_NEGATION or _sort_of(token) == "end":
            return False
    return False
