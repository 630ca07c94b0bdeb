"""How near a caption comes to the one that was written: by its words, and by their order."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["rouge_l", "token_f1"]

WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def token_f1(said: str, wanted: str) -> float:
    """Harmonic mean of the share of said words that are wanted and of wanted words that are said, each word as often as
    it is there: 0 to 1. Two texts without words are alike.

    Rajpurkar et al., "SQuAD" (arXiv 1606.05250), section 5.
    """
    said_words, wanted_words = words_of(said), words_of(wanted)
    shared = sum((Counter(said_words) & Counter(wanted_words)).values())
    return f1(shared, len(said_words), len(wanted_words))


def rouge_l(said: str, wanted: str) -> float:
    """The same for the longest run of words that both have in this order, not necessarily side by side.

    Lin, "ROUGE: a package for automatic evaluation of summaries" (2004), section 3.2, with equal weights.
    """
    said_words, wanted_words = words_of(said), words_of(wanted)
    return f1(longest_common(said_words, wanted_words), len(said_words), len(wanted_words))


def longest_common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        above_left = 0
        for place, other_word in enumerate(other):
            above = row[place + 1]
            row[place + 1] = above_left + 1 if word == other_word else max(above, row[place])
            above_left = above
    return row[-1]


def f1(shared: int, said: int, wanted: int) -> float:
    return 1.0 if said == wanted == 0 else 2 * shared / (said + wanted)
