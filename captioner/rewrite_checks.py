"""Whether a text still says what a prompt stated, and is fit to be given to the model that was trained on captions.

No synonyms and few freedoms: a good text that is refused costs another answer, a bad one that passes is a wrong film.
Words that stand together in a clause of the prompt must stand together in the text, with anything between them that
the prompt did not mention: that keeps who does what to whom, counts, colours, negations and directions in their place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from captioner.folding import WORD, fold
from captioner.hostile_text import unplain_in
from captioner.rewrite_words import COLORS, QUOTED, Word, normal, quoted_in, words_of

__all__ = ["count_words", "unfit", "what_is_lost"]

# Where the prompt is on one side, the text may not go to another. Each side: words that say the same there.
# fmt: off
OPPOSITES: tuple[tuple[frozenset[str], ...], ...] = tuple(
    tuple(frozenset(map(fold, side.split())) for side in sides)
    for sides in (
        ("left leftward leftwards", "right rightward rightwards"), ("up upward upwards", "down downward downwards"),
        ("above over", "under below beneath underneath"), ("front", "behind"), ("inside indoors", "outside outdoors"),
        ("clockwise", "counterclockwise anticlockwise"), ("forward forwards", "backward backwards"),
        ("night nighttime midnight", "day daytime midday noon daylight"), ("sunrise dawn", "sunset dusk"),
        ("slowly", "quickly rapidly"), ("he him his himself", "she her hers herself"), ("summer", "winter"),
        ("toward towards", "away"), ("sunny", "rainy overcast snowy"),
    )
)
# fmt: on
CAMERA_MOVES = frozenset(map(fold, ("pan", "tilt", "zoom", "dolly", "orbit", "tracking", "panning", "tilting")))
CAMERA_STILL = frozenset(map(fold, ("static", "still", "fixed", "locked", "motionless", "stationary")))
WRITING = frozenset(map(fold, ("text", "words", "letters", "writing", "subtitles", "captions", "title", "lettering")))
META = re.compile(
    r"\b(?:here(?:'s| is| are)\b.{0,40}\b(?:prompt|description|version|rewrite|caption)|rewrit(?:e|ten|ing)|"
    r"(?:the|this|your|user'?s?|original|short|detailed|descriptive) (?:prompt|description|caption)|prompt\s*:|"
    r"as an ai|language model|i (?:cannot|can't|can not|won't|will not|am unable|am sorry|apologi[sz]e)|i'm sorry|"
    r"sorry,|certainly[,!]|sure[,!]|of course[,!]|(?:the|this) (?:video|clip|scene|image) (?:shows|depicts|features)|"
    r"(?:ignore|disregard|forget|follow) (?:all |any |the |previous |these |your )*instructions|system prompt|"
    r"word count|\d+ words|let me know|note that)",
    re.IGNORECASE,
)
MIN_DISTINCT_SHARE = 0.45  # of the words; captions of 15 to 80 words have 0.6 and more
LONGEST_BOUND_GAP = 4  # words between "red" and "car": "a red, rusty old sports car"


def count_words(text: str) -> int:
    return len(WORD.findall(text))


def what_is_lost(prompt: str, text: str) -> tuple[str, ...]:
    """What the prompt states and the text drops or changes, in words for a log; empty where it keeps everything."""
    stated, told = words_of(prompt, asked=True), words_of(text)
    asked_too = words_of(prompt)  # a text may keep "a video of" as well
    found = [
        *(f'quoted text "{quote}"' for quote in quoted_in(prompt) if quote not in quoted_in(text)),
        *_words_lost(stated, told),
        *_pairs_lost(stated, told, {word.key for word in asked_too}),
        *_negations_changed(stated, told),
        *_counts_changed(stated, told),
        *_bound_otherwise(stated, told),
        *_gone_opposite(asked_too, told, normal(prompt), normal(text)),
    ]
    return tuple(dict.fromkeys(found))


def _words_lost(stated: Sequence[Word], told: Sequence[Word]) -> Iterator[str]:
    keys, raws = {word.key for word in told}, {word.raw for word in told}
    for word in stated:
        if word.key not in keys:
            yield f"{word.sort} {word.raw}"
        elif word.is_name and word.raw not in raws:
            yield f"name {word.raw}"


def _pairs_lost(stated: Sequence[Word], told: Sequence[Word], known: set[str]) -> Iterator[str]:
    """Neighbours of one clause that are not neighbours in the text, looking only at words that the prompt has."""
    places: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    kept = [index for index, word in enumerate(told) if word.key in known]
    for first, second in pairwise(kept):
        if told[first].sentence == told[second].sentence:
            places[told[first].key, told[second].key].append((first, second))
    for first, second in pairwise(stated):
        if first.clause == second.clause and not any(
            _together(first, second, told, *place) for place in places[first.key, second.key]
        ):
            yield f"{first.raw} {' '.join((*sorted(second.links), second.raw))}"


def _together(first: Word, second: Word, told: Sequence[Word], start: int, end: int) -> bool:
    """Whether `told[start]` and `told[end]` belong together as the prompt's `first` and `second` do."""
    between = told[start + 1 : end + 1]
    if not second.links <= frozenset().union(*(word.links for word in between)):
        return False
    if first.binds and not second.links:
        gap = sum(word.gap for word in between) + len(between) - 1
        return gap <= LONGEST_BOUND_GAP + second.gap and not any(word.links or word.crosses for word in between)
    return True


def _negations_changed(stated: Sequence[Word], told: Sequence[Word]) -> Iterator[str]:
    reached: defaultdict[str, set[bool]] = defaultdict(set)
    for word in stated:
        reached[word.key].add(word.negated)
    for word in told:
        if word.sort != "negation" and reached.get(word.key) == {not word.negated}:
            yield f"{'not ' if word.negated else ''}{word.raw}"
    if any(word.negated and word.key in WRITING for word in stated):
        allowed = {word.key for word in stated}
        yield from (f"no text: {w.raw}" for w in told if w.sort == "quote" and w.key not in allowed)


def _bound(words: Sequence[Word]) -> Iterator[tuple[Word, Word]]:
    """(how many or which colour, what), for every word that it may be said of: up to the next mark or phrase."""
    for index, word in enumerate(words):
        if word.sort != "number" and word.key not in COLORS:
            continue
        for other in words[index + 1 : index + 1 + LONGEST_BOUND_GAP]:
            if other.links or other.crosses or other.sentence != word.sentence:
                break
            if other.key in COLORS or other.sort == "number":
                break
            yield word, other


def _bound_otherwise(stated: Sequence[Word], told: Sequence[Word]) -> Iterator[str]:
    """What has a colour or a number in the prompt and another one in the text: "a red car … the blue car"."""
    said: defaultdict[tuple[str, bool], set[str]] = defaultdict(set)
    for word, other in _bound(stated):
        said[other.key, word.sort == "number"].add(word.key)
    for word, other in _bound(told):
        before = said.get((other.key, word.sort == "number"))
        if before and word.key not in before and not _bound_again(word, before):
            yield f"{other.raw} became {word.raw} {other.raw}"


def _bound_again(word: Word, before: set[str]) -> bool:
    """ "One of the two dogs" tells of two dogs."""
    return word.sort == "number" and word.key == "1" and bool(before)


def _counts_changed(stated: Sequence[Word], told: Sequence[Word]) -> Iterator[str]:
    """ "A dog" that is told as dogs or as 3 dogs, "dogs" that are told as one."""
    forms: defaultdict[str, list[Word]] = defaultdict(list)
    counted: defaultdict[str, set[str]] = defaultdict(set)
    for word in told:
        forms[word.key].append(word)
    for number, other in _bound(told):
        if number.sort == "number":
            counted[other.key].add(number.key)
    numbers = {word.key for word in stated if word.sort == "number"}
    for word in stated:
        same = forms.get(word.key, [])
        if word.sort != "word" or not same or word.is_name:
            continue
        plural = [_is_plural(other, word) for other in same]
        if word.article and not _ends_as_plural(word):
            if all(plural) or counted[word.key] - numbers - {"1"}:
                yield f"one {word.raw}"
        elif _ends_as_plural(word) and not any(map(_ends_as_plural, same)) and any(other.article for other in same):
            yield f"several {word.raw}"


def _ends_as_plural(word: Word) -> bool:
    plain = word.raw.lower()
    irregular = plain in ("men", "women", "people", "children", "feet", "teeth", "mice", "geese", "wolves")
    return irregular or (plain.endswith("s") and not plain.endswith(("ss", "us", "is", "'s", "\u2019s")))


def _is_plural(other: Word, word: Word) -> bool:
    return _ends_as_plural(other) and other.raw.lower() != word.raw.lower()


def _gone_opposite(stated: Sequence[Word], told: Sequence[Word], prompt: str, text: str) -> Iterator[str]:
    said, says = ({fold(raw): raw.lower() for raw in WORD.findall(whole)} for whole in (prompt, text))
    for sides in OPPOSITES:
        mine = [side for side in sides if side & said.keys()]
        for side in sides:
            if mine and side not in mine and (other := side & says.keys()):
                mine_raw, other_raw = (said[key] for key in mine[0] & said.keys()), (says[key] for key in other)
                yield f"{'/'.join(sorted(mine_raw))} became {'/'.join(sorted(other_raw))}"
    stated_keys, told_keys = {word.key for word in stated}, {word.key for word in told}
    if stated_keys & (CAMERA_MOVES | CAMERA_STILL):
        yield from (f"camera also moves: {move}" for move in sorted((told_keys & CAMERA_MOVES) - stated_keys))


def unfit(prompt: str, text: str, *, min_words: int, max_words: int) -> tuple[str, ...]:
    """Why a model's text cannot be used whatever the prompt said: length, markup, talk about the task, repetition.

    What the prompt itself says in these words is no fault of the text.
    """
    text, prompt = normal(text), normal(prompt)
    problems = []
    words = [fold(word) for word in WORD.findall(text)]
    if not min_words <= len(words) <= max_words:
        problems.append(f"{len(words)} words: must be {min_words} to {max_words}")
    unquoted = QUOTED.sub(lambda found: " " if found[0] in prompt else found[0], text)
    unplain = next((part for part in unplain_in(unquoted) if part not in prompt), None)
    if unplain is not None:
        problems.append(f"no plain words: {unplain!r}")
    if (meta := META.search(unquoted)) and meta[0].lower() not in prompt.lower():
        problems.append(f"talks about the task: {meta[0]!r}")
    if len(words) >= min_words and len(set(words)) < MIN_DISTINCT_SHARE * len(words):
        problems.append("repeats itself")
    if words and words == [fold(word) for word in WORD.findall(prompt)]:
        problems.append("adds nothing")
    return tuple(problems)
