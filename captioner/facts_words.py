"""Captions from measurements alone: no model, nothing that was not measured, so that what they say is true.

What is in the picture is not known, so they speak of the picture itself: its shape, light and colours, what moves and
what the camera does. Among phrasings one is chosen by the facts, so that a thousand clips do not read alike and one
clip always reads the same.
"""

from __future__ import annotations

import hashlib

from captioner.facts import Facts
from captioner.wording import camera_clause, camera_participle, joined, sentence, sentences, with_article

__all__ = ["captions_from_facts", "length_word", "light_words"]

# Shots of films last 3 to 5 s on the mean; outside of these a length is worth a word.
BRIEF_S, LONG_S = 1.5, 20.0
MANY_COLORS = 5
AMOUNTS = {"little": "little movement", "some": "some movement", "much": "a lot of movement"}
# A "very wide shot" would be one from afar.
SHAPES = {"standard": "", "very wide": "wide-format"}
IN_PICTURE = " in the picture"
LIGHTS = {"black": "almost entirely black", "medium": ""}


def captions_from_facts(facts: Facts) -> dict[str, str]:
    """`short`, `descriptive` and `motion`; a kind for which nothing was measured is left out."""
    texts = {"short": _short(facts), "descriptive": _descriptive(facts), "motion": _motion(facts)}
    return {kind: text for kind, text in texts.items() if text}


def light_words(facts: Facts) -> str:
    """`dim`, `very bright`, `almost entirely black`; empty where the light is medium or was not measured."""
    return LIGHTS.get(facts.light or "medium", facts.light or "")


def length_word(facts: Facts) -> str:
    """`brief` or `long`; empty for a usual length, and for a still picture, which has none to speak of."""
    if facts.duration_s is None or facts.stillness == "still":
        return ""
    return "brief" if facts.duration_s < BRIEF_S else "lengthy" if facts.duration_s >= LONG_S else ""


def _pick(facts: Facts, slot: str, *options: str) -> str:
    """One of several ways to say the same, by a hash that is the same in every process."""
    number = int.from_bytes(hashlib.sha256(f"{slot} {facts}".encode()).digest()[:4], "big")
    return options[number % len(options)]


def _short(facts: Facts) -> str:
    if not (look := _look(facts)):
        return sentence(_moves(facts) or _events(facts))
    colors = _colors_after(facts, most=3)
    if facts.has_text:
        return sentence(f"{look}{colors} with lines of text")
    if facts.stillness == "still" or not (moves := _how_it_moves(facts)):
        return sentence(look + colors)
    return sentence(f"{look}{colors}, {moves}" if colors else f"{look} {moves}")


def _descriptive(facts: Facts) -> str:
    """How it looks and then how it moves, or how it moves and then its colours: two to four sentences."""
    if not (look := _look(facts)):
        return _motion(facts)
    if facts.has_text:
        look += " with lines of text"
    moves, events, tones = _moves(facts), _events(facts), _tones(facts)
    if moves and tones and not facts.has_text and _pick(facts, "order", "look", "moves") == "moves":
        return sentences(f"{look} in which {moves.removesuffix(IN_PICTURE)}", tones, events)
    contrast = f"{facts.contrast} contrast" if facts.contrast else ""
    strength = f"{facts.color_strength} colors" if facts.color_strength and len(facts.colors) < 2 else ""
    if qualities := joined((contrast, strength)):
        qualities = f", with {qualities}"
    return sentences(look + _colors_after(facts, most=len(facts.colors)) + qualities, moves, events)


def _motion(facts: Facts) -> str:
    return sentences(_moves(facts), _events(facts))


def _look(facts: Facts) -> str:
    """`a dim, mainly gray widescreen shot`; empty where nothing of it was measured."""
    is_still = facts.stillness == "still"
    length = length_word(facts)
    light = light_words(facts)
    colors = "black-and-white" if facts.is_black_and_white else ""
    if len(facts.colors) == 1 and not colors and facts.light != "black":
        colors = f"mainly {facts.colors[0]}"
    shape = SHAPES.get(facts.aspect or "standard", facts.aspect or "")
    if not (length or light or shape or colors or facts.colors or facts.light):
        return ""
    if is_still:
        noun = "still picture"
    elif facts.light == "black" or facts.has_text:
        noun = "picture"
    else:
        noun = "shot"
    before = ", ".join(filter(None, (length, light, colors)))
    return with_article(" ".join(filter(None, (before, shape, noun))))


def _colors_after(facts: Facts, most: int) -> str:
    """` in brown and gray`, ` in muted colors, mainly brown and gray`; empty where the look has said it."""
    if facts.is_black_and_white or facts.light == "black" or len(facts.colors) < 2:
        return ""
    strength = f"{facts.color_strength} " if facts.color_strength else ""
    if len(facts.colors) >= MANY_COLORS:
        return f" in many {strength}colors, most of all {joined(facts.colors[:2])}"
    names = joined(facts.colors[:most])
    return f" in {strength}colors, mainly {names}" if strength else f" in {names}"


def _how_it_moves(facts: Facts) -> str:
    """What ends a short caption: the camera where it is sure, the amount of movement otherwise."""
    if facts.camera == "static":
        return _pick(facts, "static", "from a camera that stays still", "with the camera staying still")
    if facts.camera is not None:
        return f"with the camera {camera_participle(facts.camera, facts.camera_speed)}"
    if facts.motion is not None and facts.stillness != "mostly still":
        return f"with {AMOUNTS[facts.motion]}"
    return ""


def _tones(facts: Facts) -> str:
    """Of colours and contrast, one clause."""
    contrast = f"the contrast is {facts.contrast}" if facts.contrast else ""
    strength = f"the colors are {facts.color_strength}" if facts.color_strength else ""
    if facts.is_black_and_white or facts.light == "black" or len(facts.colors) < 2:
        return joined((strength, contrast))
    names = joined(facts.colors)
    if len(facts.colors) >= MANY_COLORS:
        colors = _pick(facts, "many", f"there are many colors: {names}", f"the picture is full of colors: {names}")
        return f"{colors}, all of them {facts.color_strength}" if strength else colors
    if strength:
        colors = f"{strength}, mainly {names}"
    else:
        colors = _pick(facts, "few", f"the main colors are {names}", f"{names} are the main colors")
    return f"{colors}, and {contrast}" if contrast else colors


def _moves(facts: Facts) -> str:
    """Of the camera and what moves, one clause that ends with `IN_PICTURE` where it needs a place."""
    if facts.stillness == "still":
        return _pick(facts, "still", f"nothing{IN_PICTURE} moves", "nothing moves")
    held = "the picture is held still for most of the time" if facts.stillness == "mostly still" else ""
    if facts.camera is None:
        if held or facts.motion is None:
            return held
        return f"there is {AMOUNTS[facts.motion]}{IN_PICTURE}"
    camera = camera_clause(facts.camera, facts.camera_speed)
    if held:
        return held if facts.camera == "static" else f"{held}, and {camera}"
    if facts.subject_motion is None:
        return camera
    if facts.camera != "static":
        return _pick(facts, "else", f"{camera} while little else moves", f"{camera} and little else moves")
    amount = AMOUNTS[facts.subject_motion]
    return _pick(
        facts, "before", f"{camera} while there is {amount}{IN_PICTURE}", f"{camera}, with {amount} in front of it"
    )


def _events(facts: Facts) -> str:
    flashes = "the picture flashes" if facts.is_flashing else ""
    stepped = "the movement is stepped, as frames repeat" if facts.is_stepped and facts.stillness != "still" else ""
    return joined((flashes, stepped))
