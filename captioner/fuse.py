"""Fusion of what a model says with what was measured into captions: fixed rules, nothing added, no model.

Measured facts win: the camera and its speed, how bright it is, black and white, whether anything moves, how long it is.
What is empty or `unknown` is left out without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from captioner.clauses import Actor, actions_of, actor_of, clause, is_clause, mentions
from captioner.facts import Facts
from captioner.facts_words import captions_from_facts, length_word, light_words
from captioner.fields import UNKNOWN, CaptionFields
from captioner.lexicon import BARE_ADJECTIVES, BRIGHT_WORDS, DARK_WORDS, INSIDE, NOTHING, ON_TOP, PREPOSITIONS
from captioner.wording import camera_clause, head_word, joined, noun_phrase, phrase, sentence, sentences, with_article

__all__ = ["captions_of", "fused", "settled", "told"]

# More than these beside the main subject make a list, not a description.
MAX_OTHERS = 3


def captions_of(fields: CaptionFields, facts: Facts | None) -> dict[str, str]:
    """`short`: the main subject and what it does. `descriptive`: all that is known. `motion`: what moves, the camera.

    A kind of which nothing is known is left out. The same fields and facts always give the same texts.
    """
    facts = facts or Facts()
    fields = settled(fields, facts)
    actions = actions_of(fields.action)
    actor = actor_of(fields.subjects, actions[0] if actions else "")
    acts, moves = told(actor, actions), told(actor.again(), actions) if actions else []
    return fused(fields, facts, short=acts[:1], acts=acts, moves=moves)


def told(actor: Actor, actions: Sequence[str]) -> list[str]:
    """Clauses of what somebody does; of nothing that is done, who is there; empty for neither."""
    first, *rest = actions or ("",)
    return [said for said in (clause(actor, first), *rest) if said]


def fused(
    fields: CaptionFields, facts: Facts, *, short: Sequence[str], acts: Sequence[str], moves: Sequence[str]
) -> dict[str, str]:
    """Captions of settled fields whose action is told already: for each kind, in clauses that may be empty."""
    measured = captions_from_facts(facts)
    brief = sentences(*short) or sentence(noun_phrase(fields.setting))
    has_look = any(acts) or _has_look(fields)
    descriptive = sentences(*acts, *look_of(fields, facts, " ".join(acts))) if has_look else ""
    is_still = facts.stillness == "still"
    motion = "" if is_still else sentences(*moves, camera_of(fields, facts))
    texts = {"short": brief, "descriptive": descriptive, "motion": motion}
    return {kind: said for kind, text in texts.items() if (said := text or measured.get(kind, ""))}


def settled(fields: CaptionFields, facts: Facts) -> CaptionFields:
    """The fields without what the facts rule out."""
    action, setting, background = fields.action, fields.setting, fields.background
    if facts.camera is not None or facts.stillness == "still":
        action = _without_camera(action)
    if facts.light in ("bright", "very bright"):
        action, setting, background = (re.sub(AT_NIGHT, "", text) for text in (action, setting, background))
    camera = facts.camera or ("static" if facts.stillness == "still" else fields.camera)
    lighting = "" if _contradicts(fields.lighting, facts) else fields.lighting
    return replace(fields, action=action, setting=setting, background=background, camera=camera, lighting=lighting)


AT_NIGHT = re.compile(r",?\s*\b(?:at|by|during the|in the middle of the) night(?:time)?\b", re.IGNORECASE)
CAMERA_SENTENCE = re.compile(r"(?:^|(?<=[.;!?])\s*)the camera\b[^.;!?]*[.;!?]*", re.IGNORECASE)
CAMERA_TAIL = re.compile(r",?\s+(?:as|while|and) the camera\b[^,.;!?]*", re.IGNORECASE)


def _without_camera(action: str) -> str:
    return CAMERA_TAIL.sub("", CAMERA_SENTENCE.sub("", action)).strip()


def _contradicts(lighting: str, facts: Facts) -> bool:
    words = set(re.findall(r"[a-z-]+", lighting.lower()))
    if facts.light == "black":
        return True
    if facts.light in ("dark", "dim"):
        return bool(words & BRIGHT_WORDS)
    return facts.light in ("bright", "very bright") and bool(words & DARK_WORDS)


def _has_look(fields: CaptionFields) -> bool:
    texts = (fields.setting, fields.background, fields.style, fields.lighting, *fields.colors, *fields.text)
    return any(map(phrase, texts)) or fields.shot_type != UNKNOWN


def look_of(fields: CaptionFields, facts: Facts, said: str) -> list[str]:
    """Clauses on all but the action, in order. Subjects that `said` names already are not named again."""
    place = _place(fields)
    others = [noun_phrase(subject) for subject in fields.subjects[1:]]
    others = [noun for noun in others if noun and not mentions(" ".join((said, *place)), noun)][:MAX_OTHERS]
    return [
        f"{joined(others)} can also be seen" if others else "",
        *place,
        _light(fields.lighting, facts),
        _colors(fields.colors, facts),
        _style(fields.style),
        _shot(fields, facts),
        _text(fields.text),
    ]


IN_BACKGROUND = re.compile(r"[\s,]*(?:\b(?:is|are) )?(?:visible )?\bin the background$")
BEHIND = re.compile(r"^(?:with|in the background,?|the background (?:shows|features|has|is))\s+", re.IGNORECASE)


def _place(fields: CaptionFields) -> list[str]:
    """Clauses on setting and background, one for both where they go together."""
    about = phrase(fields.setting)
    setting, is_own = _setting(about), is_clause(about)
    text = phrase(IN_BACKGROUND.sub("", BEHIND.sub("", phrase(fields.background))))
    if not text:
        return [setting]
    first = text.split()[0].lower()
    is_quality = first in (*PREPOSITIONS, "out", "not", "very", "too", "mostly") or first.endswith("ly")
    if is_clause(text):
        return [setting, text]
    if is_quality or text.lower() in BARE_ADJECTIVES:
        return [setting, f"the background is {text}"]
    is_placed = re.search(r"\b(?:distance|behind|beyond|horizon|background)\b", text)
    background = noun_phrase(text) if is_placed else f"{noun_phrase(text)} in the background"
    if setting and not is_own:
        return [f"{setting}, with {background}"]
    return [setting, f"{noun_phrase(text)} can be seen{'' if is_placed else ' in the background'}"]


def _setting(text: str) -> str:
    if not text or is_clause(text):
        return text
    text = {"indoor": "indoors", "outdoor": "outdoors"}.get(text.lower(), text)
    first = re.split(r"[\s,]", text, maxsplit=1)[0].lower()
    if first in PREPOSITIONS or first in ("indoors", "outdoors", "underwater"):
        return f"the scene is set {text}"
    if first in BARE_ADJECTIVES and " " not in text:
        return f"the setting is {text}"
    head = head_word(text)
    preposition = "on" if head in ON_TOP else "in" if head in INSIDE else ""
    place = noun_phrase(text)
    return f"the scene is set {preposition} {place}" if preposition else f"the setting is {place}"


def _light(lighting: str, facts: Facts) -> str:
    text = re.sub(r"^(?:the )?(?:lighting|light) is\s+", "", phrase(lighting))
    measured = light_words(facts)
    if not text:
        return f"the picture is {measured}" if measured else ""
    words = set(re.findall(r"[a-z-]+", text.lower()))
    also = f", and the picture is {measured}" if measured and not words & (BRIGHT_WORDS | DARK_WORDS) else ""
    if is_clause(text):
        return text + also
    if text.endswith("lit"):
        return f"the scene is {text}{also}"
    if match := re.fullmatch(r"(?:an? )?(.+?) lighting", text):
        return f"the lighting is {match[1]}{also}"
    is_source = re.search(r"light|sun|lamp|glow|candle|fire|neon|window|shadow", text.lower())
    return f"the scene is lit by {noun_phrase(text)}{also}" if is_source else f"the lighting is {text}{also}"


def _colors(colors: Sequence[str], facts: Facts) -> str:
    if facts.is_black_and_white:
        return "the picture is in black and white"
    names = [name for color in colors if (name := phrase(color))] or list(facts.colors)
    if not names or facts.light == "black":
        return ""
    if facts.color_strength:
        return f"the colors are {facts.color_strength}, mainly {joined(names)}"
    return f"the main color is {names[0]}" if len(names) == 1 else f"the main colors are {joined(names)}"


def _style(style: str) -> str:
    text = re.sub(r"^(?:the style is|in) |^an? (?=.*\bstyle$)|\s*\bstyle$", "", phrase(style)).strip()
    return f"the style is {text}" if text else ""


def _shot(fields: CaptionFields, facts: Facts) -> str:
    length, camera = length_word(facts), camera_of(fields, facts)
    shot = "" if fields.shot_type == UNKNOWN else fields.shot_type
    if shot:
        shot = f"it is {with_article(f'{length} {shot}'.strip())}"
    elif length:
        shot = f"the shot is {length}"
    return ", and ".join(filter(None, (shot, camera)))


def camera_of(fields: CaptionFields, facts: Facts) -> str:
    """What the camera does, a clause: as measured, or as the model says; of a still picture nothing is said."""
    if facts.stillness == "still":
        return ""
    return camera_clause(facts.camera, facts.camera_speed) if facts.camera else camera_clause(fields.camera)


def _text(text: Sequence[str]) -> str:
    """The words in double quotes, their own made single."""
    words = [re.sub(r"^([\"'“])(.*)[\"'”]$", r"\2", word.strip()).replace('"', "'") for word in text]
    quoted = [f'"{word}"' for word in words if word and word.casefold() not in NOTHING]
    return f"the text {joined(quoted)} can be read" if quoted else ""
