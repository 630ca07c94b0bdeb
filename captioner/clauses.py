"""Clauses from a model's fields: who does what, as one grammatical whole, however the model wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from captioner.lexicon import (
    AFTER_HEAD,
    AUXILIARIES,
    BARE_ADJECTIVES,
    BASE_VERBS,
    DETERMINERS,
    ORDINARY,
    PREPOSITIONS,
    PRONOUNS,
    UNCOUNTED,
)
from captioner.wording import SENTENCE_END, definite, head_of, is_plural, joined, noun_phrase, phrase

__all__ = ["NOBODY", "Actor", "actions_of", "actor_of", "clause", "is_clause", "mentions"]

# The longest subject of an action's own that is looked at: "the very tall young man".
MAX_SUBJECT_WORDS = 5


def actions_of(action: str) -> list[str]:
    """The sentences of the field `action`, each as a phrase."""
    return [said for part in SENTENCE_END.split(action) if (said := phrase(part))]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it: described, named again without the description, and whether it takes `are`."""

    full: str
    brief: str
    is_many: bool

    def again(self) -> Actor:
        return replace(self, full=self.brief)


NOBODY = Actor("", "", is_many=False)


def actor_of(subjects: Sequence[str], action: str) -> Actor:
    """The first subject, or the first two together where `they` do it."""
    nouns = [noun for subject in subjects if (noun := noun_phrase(subject))]
    if not nouns:
        return NOBODY
    is_shared = action.split(" ", 1)[0].lower() in ("they", "both") and not is_plural(nouns[0])
    chosen = nouns[:2] if is_shared else nouns[:1]
    return Actor(joined(chosen), joined(map(definite, chosen)), len(chosen) > 1 or is_plural(chosen[0]))


def clause(actor: Actor, action: str) -> str:
    """`a dog` and `running`, `runs`, `it runs`, `the dog runs` are all `a dog runs` or `a dog is running`.

    An action with another subject stays one: `a lake as the wind rises`.
    """
    if not actor.full or not action:
        return actor.full or action
    if action.casefold().startswith(f"{actor.full.casefold()} "):
        return actor.full + action[len(actor.full) :]
    words = action.split()
    first = words[0].lower()
    if first in (*PRONOUNS, "both") and len(words) > 1:
        return _predicated(actor, words[1:])
    if first in DETERMINERS | UNCOUNTED or (words[0][0].isupper() and first not in ORDINARY):
        return _with_own_subject(actor, words)
    return _predicated(actor, words)


def _with_own_subject(actor: Actor, words: list[str]) -> str:
    """The action's own subject gives way to the fuller one where both are the same thing."""
    nouns = set(re.findall(r"\w+", head_of(actor.full).casefold())) - DETERMINERS
    for at, word in enumerate(words[:MAX_SUBJECT_WORDS]):
        if word.casefold() in nouns and at + 1 < len(words):
            following = words[at + 1].lower()
            if following in nouns:
                continue
            is_described = following in PREPOSITIONS or following in ("and", "of", "who", "that", "wearing")
            return " ".join(words) if is_described else _predicated(actor, words[at + 1 :])
    action = " ".join(words)
    if actor.full == actor.brief:
        return action
    return f"{actor.full} as {action}" if is_clause(action) else f"{actor.full}, {action}"


def _predicated(actor: Actor, words: list[str]) -> str:
    first = words[0].lower()
    verb = next((word.lower() for word in words if not word.lower().endswith("ly")), first)
    follows_place = len(words) > 1 and words[1].lower() in PREPOSITIONS
    is_participle = verb.endswith("ing") or (verb.endswith("ed") and follows_place)
    if first in ("is", "are"):
        words = ["are" if actor.is_many else "is", *words[1:]]
    elif is_participle or first in PREPOSITIONS or first in BARE_ADJECTIVES:
        words = ["are" if actor.is_many else "is", *words]
    elif first in (_BASES if actor.is_many else BASE_VERBS):
        words = _agreeing(words, actor.is_many)
    return f"{actor.full} {' '.join(words)}"


def _agreeing(words: list[str], is_many: bool) -> list[str]:
    """With the verbs that begin and that follow an `and` in the number of who does it."""
    agreed, before = [], "and"
    for word in words:
        plain = word.rstrip(",")
        if before in ("and", "then"):
            other = _BASES.get(plain, plain) if is_many else _third_person(plain) if plain in BASE_VERBS else plain
            agreed.append(other + word[len(plain) :])
        else:
            agreed.append(word)
        before = word
    return agreed


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


_BASES = {_third_person(verb): verb for verb in BASE_VERBS}


def is_clause(text: str) -> bool:
    """Whether a phrase has a subject and a verb of its own, as far as small words tell: `the sky is gray`."""
    words = text.lower().split()
    if any(word in AUXILIARIES or (word in _BASES and words[0] in UNCOUNTED) for word in words[1:]):
        return True
    if not words or words[0] not in ("the", "a", "an", "his", "her", "its", "their"):
        return False
    # `the wind ripples the water`: after a singular noun, a word in s with something after it is a verb.
    for noun, word, _ in list(zip(words[1:], words[2:], words[3:], strict=False))[:2]:
        if re.fullmatch(r"[a-z]+[^s'\W]s", word) and not noun.endswith("s") and noun not in AFTER_HEAD | DETERMINERS:
            return True
    return False


def mentions(text: str, subject: str) -> bool:
    """Whether a text has the head noun of a subject in it."""
    nouns = re.findall(r"\w+", re.sub(r"\bof\b.*", "", head_of(subject).casefold()))
    return bool(nouns) and re.search(rf"\b{re.escape(nouns[-1])}\b", text.casefold()) is not None
