"""Whether a text repeats itself, as language models do when they get lost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["WORD", "is_repetitive", "words_in"]

# A word is a run of letters and digits; of scripts that are written without spaces, a character.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\u0e00-\u0e7f]|[^\W_]+(?:['\u2019-][^\W_]+)*")


def words_in(text: str) -> frozenset[str]:
    """The different words of a text."""
    return frozenset(WORD.findall(text))


# A text of fewer words cannot be told to repeat itself but by whole sentences and by words in a row.
MIN_REPETITION_WORDS = 12
# Shares of 4-grams that were there before: captions that name their subject in each sentence reach 0.1.
NGRAM, MAX_REPEATED_SHARE = 4, 0.25
# Of one word that carries a meaning; five of fifteen words are one over and over.
MAX_WORD_SHARE, MIN_WORD_COUNT = 0.2, 5
LONGEST_CYCLE = 12
SMALL_WORDS = words_in(
    "a an the and or but of with from into in on at to by for is are was were be it its his her their this that "
    "as while there over under behind near between up down left right not no s they he she"
)


def is_repetitive(text: str) -> bool:
    """Whether a text says the same again and again.

    That is: a sentence of three words or more that was there before; the same word three times in a row, or the same
    two to twelve words; in texts of twelve words or more, a quarter of all 4-grams that were there before (Holtzman et
    al., "The curious case of neural text degeneration", arXiv 1904.09751, count such), or one word that is a fifth of
    all and is there five times. Words of grammar do not count as such a word.
    """
    sentences = [" ".join(WORD.findall(s.lower())) for s in re.split(r"(?<=[.!?。\uff01\uff1f])\s*|\n", text)]
    long = [s for s in sentences if s.count(" ") >= 2]
    words = WORD.findall(text.lower())
    if len(set(long)) < len(long) or _has_cycle(words):
        return True
    if len(words) < MIN_REPETITION_WORDS:
        return False
    grams = [tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]
    if 1 - len(set(grams)) / len(grams) >= MAX_REPEATED_SHARE:
        return True
    counts = Counter(word for word in words if word not in SMALL_WORDS and not _is_a_character(word))
    most = max(counts.values(), default=0)
    return most >= MIN_WORD_COUNT and most >= MAX_WORD_SHARE * len(words)


def _has_cycle(words: Sequence[str]) -> bool:
    """Whether some words come three times in a row: where each word is that of `length` before, for twice as long."""
    for length in range(1, LONGEST_CYCLE + 1):
        run = 0
        for here, before in zip(words[length:], words, strict=False):
            run = run + 1 if here == before else 0
            if run >= 2 * length:
                return True
    return False


def _is_a_character(word: str) -> bool:
    return len(word) == 1 and not word.isascii()
