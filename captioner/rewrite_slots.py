"""A prompt laid out in the order of a descriptive caption without a model: its own phrases moved, none added or lost.

The order is that of `captioner.fuse`: what happens and where, then light, colours, style, shot and camera, each a
sentence. A phrase is moved only where its words leave no doubt about what it speaks of; the rest stays together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from captioner.folding import NEGATIONS
from captioner.hostile_text import one_line
from captioner.rewrite_checks import what_is_lost
from captioner.rewrite_words import QUOTED, normal, without_asking

__all__ = ["Slots", "laid_out", "slots_of"]

SLOTS = ("setting", "lighting", "colors", "style", "shot", "camera")

# fmt: off
# A word before a phrase's noun that makes no scene of it: "soft light" is light, "a man with a light" is not.
_OF_IT = r"(?:(?!(?:an?|the|with|in|on|at|of|and|or|by|from|to|his|her|its|their)\s)\S+ )"
_LIGHT = r"(?:light|lights|lighting|lit|sunlight|moonlight|candlelight|backlight|backlit|glow|illumination)"
_STYLE = (
    r"(?:cinematic|photo-?realistic|hyper-?realistic|realistic|anime|cartoon|film noir|documentary|"
    r"stop[- ]motion|claymation|water ?colou?r|oil painting|pencil sketch|pixel art|3d (?:animation|render)|"
    r"cgi|surreal|minimalist|high quality|highly detailed|[248]k|hdr|35 ?mm(?: film)?|16 ?mm(?: film)?|film grain|"
    r"time-?lapse|hyper-?lapse|slow[- ]motion)"
)
_SHOT = (
    r"(?:(?:extreme |medium |very )*(?:wide|long|close[- ]?up|medium|full|establishing|aerial|drone|overhead|"
    r"top[- ]down|bird'?s[- ]eye|low[- ]angle|high[- ]angle|eye[- ]level|point[- ]of[- ]view|pov|macro|"
    r"over[- ]the[- ]shoulder)(?: (?:shot|view|angle|perspective|close[- ]?up))?)"
)
_MOVE = r"(?:pan|tilt|zoom|dolly|truck|track|crane|orbit|roll|push|pull|fly)(?:s|es|ning|ing|ting)?"
# A whole phrase, of a few words, that speaks of one thing.
PHRASES = {
    "camera": re.compile(
        rf"(?:the |a |an )?(?:slow |slowly |smooth |fast |static |fixed |still |hand-?held |locked )*"
        rf"(?:camera\b(?! (?:on|in|lies|bag|shop)\b).*|{_MOVE} (?:slowly )?(?:left|right|up|down|in|out|shot)\b.*|"
        rf"tracking shot|hand-?held|(?:no|without) camera (?:movement|motion|shake).*)", re.IGNORECASE),
    "lighting": re.compile(rf"(?:(?:with|in|under|by) )?{_OF_IT}{{0,3}}{_LIGHT}", re.IGNORECASE),
    "colors": re.compile(
        rf"(?:(?:with|in) )?(?:an? )?{_OF_IT}{{0,3}}(?:(?:and|or) {_OF_IT})?"
        rf"(?:colou?rs|palette|tones|hues|colou?r (?:scheme|grading))", re.IGNORECASE),
    "style": re.compile(
        rf"(?:in (?:the|an?) (?:\S+ ){{0,3}}?style(?: of .*)?|{_OF_IT}{{1,3}}style|{_STYLE}(?:(?: and)? {_STYLE})*"
        rf"(?: (?:style|look|footage|quality|film|video))?)", re.IGNORECASE),
    "shot": re.compile(rf"(?:an? |the )?{_SHOT}", re.IGNORECASE),
    "setting": re.compile(r"(?:in|on|at|near|inside|outside|under|beneath|by|during) .*", re.IGNORECASE),
}
# Of these, the last part of a phrase that says more before.
TAIL = {
    "style": re.compile(r"^(?P<rest>.+\S) (?P<tail>in the style of .+)$", re.IGNORECASE),
    "lighting": re.compile(
        rf"^(?P<rest>.+\S) (?P<tail>with {_OF_IT}{{0,2}}(?:\w+light|light|lighting))$", re.IGNORECASE
    ),
}
HEAD = re.compile(rf"^(?P<head>(?:an? |the )?{_SHOT}) of (?P<rest>.+)$", re.IGNORECASE)
# fmt: on
SEPARATOR = re.compile(r"\s*(?:[,;]\s+|[.!]\s+|\n)\s*")
ENDS_SENTENCE = (".", "!", "?", "…", '."', '!"', '?"', ".\u201d", "!\u201d", "?\u201d", "。")


@dataclass(frozen=True, slots=True)
class Slots:
    """The phrases of a prompt by what they speak of, as they were written. `scene`: subject, action and all else,
    with the marks that were between."""

    scene: str
    setting: tuple[str, ...]
    lighting: tuple[str, ...]
    colors: tuple[str, ...]
    style: tuple[str, ...]
    shot: tuple[str, ...]
    camera: tuple[str, ...]


def laid_out(prompt: str) -> str:
    """The prompt in the order of a descriptive caption; as it was written where moving its phrases would lose one."""
    plain = one_line(prompt)
    slots = slots_of(without_asking(plain))
    text = " ".join(map(_sentence, _sentences(slots)))
    for candidate in (text, _sentence(plain)):
        if not what_is_lost(prompt, candidate):
            return candidate
    return prompt


def slots_of(prompt: str) -> Slots:
    found: dict[str, list[str]] = {slot: [] for slot in SLOTS}
    scene = ""
    for mark, phrase in _phrases(prompt):
        slot = _slot_of(phrase)
        if slot != "scene":
            found[slot].append(phrase)
            continue
        rest = phrase
        if head := HEAD.match(rest):
            found["shot"].append(head["head"])
            rest = head["rest"]
        for name, pattern in TAIL.items():
            if (tail := pattern.match(rest)) and not _quotes_or_negates(rest):
                found[name].append(tail["tail"])
                rest = tail["rest"]
        scene += (mark if scene else "") + rest
    return Slots(scene, **{slot: tuple(phrases) for slot, phrases in found.items()})


def _phrases(prompt: str) -> Iterator[tuple[str, str]]:
    """(mark before it, phrase): cut at commas, semicolons and full stops, never inside quotation marks or a list that
    a negation governs ("no cars, people or dogs")."""
    quotes = [found.span() for found in QUOTED.finditer(prompt)]
    start, mark = 0, ""
    for separator in SEPARATOR.finditer(prompt):
        at = separator.start()
        if any(begin <= at < end for begin, end in quotes):
            continue
        phrase = prompt[start:at]
        if separator[0].strip() == "," and _governs_a_list(phrase, prompt[at:]):
            continue
        if phrase.strip():
            yield mark, phrase.strip()
            mark = f"{separator[0].strip()} "
        start = separator.end()
    if prompt[start:].strip():
        yield mark, prompt[start:].strip()


def _governs_a_list(phrase: str, following: str) -> bool:
    sentence = re.split(r"[.;!?]", following, maxsplit=1)[0]
    return _quotes_or_negates(phrase) and re.search(r"\b(?:or|nor)\b", sentence, re.IGNORECASE) is not None


def _quotes_or_negates(phrase: str) -> bool:
    words = {word.strip(",") for word in phrase.lower().replace("\u2019", "'").split()}
    return bool(words & NEGATIONS) or any("n't" in word for word in words) or QUOTED.search(phrase) is not None


def _slot_of(phrase: str) -> str:
    """A phrase that quotes, negates or joins stays in the scene: it may be about more than it seems to."""
    bare = phrase.rstrip(".!")
    for slot, pattern in PHRASES.items():
        if pattern.fullmatch(bare) and not (slot != "camera" and _quotes_or_negates(phrase)):
            return slot
    return "scene"


def _sentences(slots: Slots) -> Iterator[str]:
    if slots.scene:
        yield ", ".join((slots.scene.rstrip(" .") if slots.setting else slots.scene, *map(_lower, slots.setting)))
    else:
        yield from slots.setting
    for phrases in (slots.lighting, slots.colors, slots.style, slots.shot, slots.camera):
        yield from phrases


def _lower(phrase: str) -> str:
    return phrase[:1].lower() + phrase[1:]


def _sentence(phrase: str) -> str:
    phrase = normal(phrase).strip().rstrip(",;")
    if not phrase:
        return phrase
    is_plain = re.match(r"[a-z][a-z]*(?:\W|$)", phrase) is not None  # "iPhone" stays
    opened = phrase[0].upper() + phrase[1:] if is_plain else phrase
    return opened if opened.endswith(ENDS_SENTENCE) else f"{opened}."
