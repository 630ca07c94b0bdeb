"""Stock openings: words at the start of a sentence that say nothing but that there is a picture.

At the start of a text anything goes that names a medium, "An image of", "It shows". In later sentences the picture may
be a thing on a wall: there only "the video" and its like are taken for the clip itself.
"""

from __future__ import annotations

import re

__all__ = ["has_stock_opening", "without_stock_opening"]

_CLIP = (
    r"(?:video|footage|clip|animation|sequence|recording|scene|shot|film)s?"
    r"(?:[ -](?:clip|footage|sequence|frame|segment|recording|shot|scene)s?)?"
)
_PICTURE = rf"(?:{_CLIP}|(?:image|picture|photo|photograph|movie|frame|screenshot|visual)s?(?: (?:sequence|series))?)"
_ADJECTIVES = (
    r"(?:(?:short|brief|entire|whole|given|provided|presented|opening|following|above|attached|single|main|"
    r"time-?lapse|animated|black-and-white|close-up|aerial)\s+){0,2}"
)
_THE = rf"(?:(?:the|this|our)\s+{_ADJECTIVES})"
_A = rf"(?:(?:the|this|these|our|an?)\s+{_ADJECTIVES})"
_HOW = r"(?:(?:clearly|vividly|primarily|mainly|simply|seems to|appears to|also|prominently|briefly|then)\s+)?"
_SHOWS = (
    r"(?:show(?:s|ing)?|showcas(?:es?|ing)|depict(?:s|ing)?|featur(?:es?|ing)|captur(?:es?|ing)|display(?:s|ing)?|"
    r"present(?:s|ing)?|portray(?:s|ing)?|illustrat(?:es?|ing)|contain(?:s|ing)?|reveals?|highlights?|documents?|"
    r"consists? of|is (?:about|of)|(?:focuses|centers|centres) (?:on|around)|takes us (?:to|into|through)|"
    r"(?:begins?|opens?|starts?)(?: off)? (?:with|by showing|on)|is (?:an? )?(?:depiction|recording|portrayal) of|"
    r"(?:provides|gives|offers) (?:us )?(?:with )?(?:a|the) (?:view|glimpse|look) (?:of|at|into))"
)
_VIEWER = r"(?:we|you|one|(?:the )?viewers?|the audience)"
_SEE = (
    rf"(?:{_VIEWER}(?: can| could| may)?(?: clearly| also)? (?:sees?|observes?|notices?|witness(?:es)?|(?:are|is) "
    r"(?:shown|presented with|introduced to|taken to))|it (?:is|can be) (?:seen|observed))"
)
_IS_SEEN = rf"(?:{_SEE}|there (?:is|are|appears to be)(?! no\b))"
_SAID = r"(?:(?:video |image )?(?:caption|description)|answer|output|response|summary)"

# Each is matched at the start of any sentence.
STOCK_OPENINGS: tuple[str, ...] = (
    # "Here is a detailed description of the video: …", "Caption: …"
    rf"here(?:'s| is| are)\s+(?:(?:an?|the|your|one)\s+)?(?:\w+\s+){{0,3}}?{_SAID}s?(?:\s+(?:of|"
    rf"for)\s[^:.]{{1,60}})?:\s*",
    rf"(?:the\s+)?{_SAID}:\s*",
    # "Based on the video, …", "As seen in the clip, …"
    rf"(?:based on|according to|judging by|as (?:seen|shown|depicted|presented) (?:in|throughout|"
    rf"by)) {_A}{_PICTURE},\s*",
    # "In this video, we see that …", "Throughout the clip there is …", "In the image, a …"
    rf"(?:in|throughout|within|during) {_THE}{_PICTURE},\s*(?:{_IS_SEEN}\s+(?:that\s+)?)?",
    rf"(?:in|throughout|within|during) {_THE}{_PICTURE}\s+{_IS_SEEN}\s+(?:that\s+)?",
    rf"in {_THE}(?:video|clip|footage|image)\s+(?=(?:an?|the|two|three|several|some|many|people) )",
    # "The video shows …", "This clip depicts …", "The scene opens with …"
    rf"{_THE}{_CLIP}\s+{_HOW}{_SHOWS}\s+(?:us\s+)?(?:that\s+)?",
    rf"(?:the|this) (?:image|visual)s?\s+{_HOW}{_SHOWS}\s+(?:us\s+)?(?:that\s+)?",
    # "The video is a clip of …"
    rf"{_THE}{_PICTURE} is an? {_ADJECTIVES}{_PICTURE} (?:of|that shows|showing|featuring|depicting)\s+",
    # "Here we see …", "We can see …", "The viewer is shown …"
    rf"(?:here,?\s+)?{_SEE}\s+(?:that\s+)?",
)
# These at the start of the text only.
FIRST_OPENINGS: tuple[str, ...] = (
    r"(?:sure|certainly|of course|okay|ok)[,!.]\s+",
    rf"{_A}{_PICTURE}\s+(?:that\s+)?{_HOW}{_SHOWS}\s+(?:us\s+)?(?:that\s+)?",
    rf"{_A}(?:video|clip|footage|image|photo|photograph|picture|screenshot|recording)(?: clip)?\s+of\s+",
    rf"(?:video|footage|image|clip|photo)s?\s+(?:{_SHOWS}|of)\s+",
    rf"(?:it|this)\s+{_HOW}(?:shows|depicts|features|portrays|showcases|captures)\s+(?:that\s+)?",
)
_ANYWHERE = re.compile("|".join(STOCK_OPENINGS), re.IGNORECASE)
_AT_FIRST = re.compile("|".join((*FIRST_OPENINGS, *STOCK_OPENINGS)), re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=\S)")


def has_stock_opening(text: str) -> bool:
    """Whether `without_stock_opening` would take one off."""
    return without_stock_opening(text) != text


def without_stock_opening(text: str) -> str:
    """Every sentence without the stock openings at its start, with a capital letter again.

    A sentence of nothing else is left as it is. Doing it twice changes nothing more.
    """
    while (bare := _once(text)) != text:
        text = bare
    return text


def _once(text: str) -> str:
    first = _without(text, _AT_FIRST)
    sentences = _SENTENCE.split(first)
    kept = [_without(sentence, _ANYWHERE) for sentence in sentences]
    return first if kept == sentences else " ".join(kept)


def _without(sentence: str, openings: re.Pattern[str]) -> str:
    opening = openings.match(sentence)
    rest = sentence[opening.end() :] if opening else ""
    return rest[0].upper() + rest[1:] if re.search(r"\w", rest) else sentence
