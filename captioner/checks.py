"""What is wrong with a caption, as flags: short names, none where nothing is found. Nothing is dropped here.

`schema` is not given here: it is for an answer of which there is no caption to check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from captioner.captions import KINDS
from captioner.contradictions import contradictions_of
from captioner.facts import Facts
from captioner.fields import SCHEMA, CaptionFields
from captioner.hostile_text import has_control_characters, has_markup
from captioner.language import ANY, LANGUAGES, is_in_language, without_quotes
from captioner.openings import has_stock_opening, without_stock_opening
from captioner.repetition import WORD, is_repetitive, words_in

__all__ = ["FLAGS", "CheckConfig", "flags_of", "is_repetitive", "without_stock_opening"]

FLAGS: dict[str, str] = {
    "contradicts_camera": "says the opposite of how the camera was measured to move",
    "contradicts_color": "says the opposite of the measured colours",
    "contradicts_light": "says the opposite of the measured brightness",
    "contradicts_motion": "says the opposite of the measured motion",
    "control_characters": "has characters that are not seen or turn the direction of text",
    "disagrees": "does not go with the clip, by the embedding model",
    "language": "is in another language than asked for",
    "markup": "has markup",
    "repetition": "repeats itself",
    "stock_opening": "begins with words like `The video shows`",
    "too_long": "has more words than a caption of its kind should",
    "too_short": "has fewer words than a caption of its kind should",
    "truncated": "ends in mid-sentence",
}
"""What each flag of `flags_of` says of a caption."""

# Words that no English sentence ends with.
UNENDING = words_in(
    "a an the and or but nor of with from into onto its his their her my our your is are was were be very while "
    "that which who whose because if as than at by for to between against towards toward through during including "
    "such another each every both several"
)
# These may stand at an end: "the house that she looks at", "what it is", "the one they long for".
MAY_END = words_in("her that is are was were be to by at for through from with which of as into such another each both")
SENTENCE_END = re.compile(r"[.!?…。\uff01\uff1f][\"'”\u2019»)\]]*$")
NO_END = re.compile(r"(?:[,;:&/(\[{«“„—\u2013]|\s-|\w-)$")
BRACKETS = {"(": ")", "[": "]", "“": "”", "«": "»"}
ENGLISH = "en"
CHECKED_KINDS = (*KINDS, "original")


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """What captions are held to.

    Attributes:
        short_words: Least and most words of a caption of kind `short`.
        descriptive_words: Least and most words of a caption of kind `descriptive`.
        motion_words: Least and most words of a caption of kind `motion`.
        original_words: Least and most words of a text that came with the footage.
        language: ISO 639-1 code of the language asked for, such as `en`; `any` does not look at it.
        min_agreement: Least cosine of caption and clip by the embedding model, -1 to 1. Models differ: matching pairs
            are at 0.2 to 0.35 by CLIP and from 0.05 by SigLIP; under 0 a caption is another clip's by either.
    """

    short_words: tuple[int, int] = (2, 50)
    descriptive_words: tuple[int, int] = (6, 300)
    motion_words: tuple[int, int] = (2, 120)
    original_words: tuple[int, int] = (1, 2000)
    language: str = ENGLISH
    min_agreement: float = 0.0

    def __post_init__(self) -> None:
        for kind in CHECKED_KINDS:
            name = f"{kind}_words"
            least, most = getattr(self, name)
            if least < 0 or most < max(1, least):
                raise ValueError(f"{name}={least} {most}: must be two numbers from 0 on, the second not less")
        if self.language != ANY and self.language not in LANGUAGES:
            raise ValueError(
                f"CheckConfig.language={self.language!r}: must be {ANY!r} or one of {', '.join(sorted(LANGUAGES))}"
            )
        if not -1 <= self.min_agreement <= 1:
            raise ValueError(f"CheckConfig.min_agreement={self.min_agreement}: must be a cosine, from -1 to 1")

    def words_of(self, kind: str) -> tuple[int, int]:
        """Least and most words of a kind. Raises ValueError for what is no kind."""
        if kind not in CHECKED_KINDS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(CHECKED_KINDS)}")
        return getattr(self, f"{kind}_words")


def flags_of(
    text: str,
    *,
    kind: str,
    fields: CaptionFields | None,
    facts: Facts | None,
    finish_reason: str | None,
    agreement: float | None,
    config: CheckConfig,
) -> tuple[str, ...]:
    """The names of what is wrong, of `FLAGS`, sorted; empty where nothing is.

    `fields` are what the text was made from: words that they say are seen in the picture may be in any language, and a
    field that the engine's schema cut off is a text cut off. A text of kind `original` was written by people: only what
    would harm a reader or is not true of the clip is said of it, never its style. Raises ValueError for no kind.
    """
    return tuple(sorted(set(_flags(text, kind, fields, facts, finish_reason, agreement, config))))


def _flags(
    text: str,
    kind: str,
    fields: CaptionFields | None,
    facts: Facts | None,
    finish_reason: str | None,
    agreement: float | None,
    config: CheckConfig,
) -> Iterator[str]:
    words, (least, most) = len(WORD.findall(text)), config.words_of(kind)
    if words < least:
        yield "too_short"
    if words > most:
        yield "too_long"
    if has_control_characters(text):
        yield "control_characters"
    if has_markup(text):
        yield "markup"
    unquoted = without_quotes(text, fields.text if fields else ())
    if not is_in_language(unquoted, config.language):
        yield "language"
    if facts is not None:
        yield from contradictions_of(unquoted, facts)
    if agreement is not None and agreement < config.min_agreement:
        yield "disagrees"
    if kind != "original":
        if finish_reason == "length" or ends_in_mid_sentence(text, kind) or (fields and _is_cut_off(fields)):
            yield "truncated"
        if has_stock_opening(text):
            yield "stock_opening"
        if is_repetitive(unquoted):
            yield "repetition"


def ends_in_mid_sentence(text: str, kind: str) -> bool:
    """Whether a text breaks off: at a comma or an opening bracket, at a word that ends no sentence, inside brackets, or
    without a stop where the sentences before it have one. A `descriptive` text always has one."""
    text = text.rstrip()
    if not text:
        return False
    is_ended = bool(SENTENCE_END.search(text))
    if NO_END.search(text) or (not is_ended and _has_open_bracket(text)):
        return True
    last = (WORD.findall(text.lower()) or [""])[-1]
    if last in UNENDING - MAY_END or (not is_ended and last in UNENDING):
        return True
    return not is_ended and (kind == "descriptive" or bool(re.search(r"[.!?…]\s", text)))


def _has_open_bracket(text: str) -> bool:
    return text.count('"') % 2 == 1 or any(text.count(opens) > text.count(BRACKETS[opens]) for opens in BRACKETS)


def _is_cut_off(fields: CaptionFields) -> bool:
    """An engine that holds a model to a schema ends a text at its longest, in the middle of a word or not."""
    for name, value in asdict(fields).items():
        rule = SCHEMA["properties"][name]
        longest = rule.get("items", rule).get("maxLength")
        texts = [value] if isinstance(value, str) else value
        if longest is not None and any(len(text) >= longest for text in texts):
            return True
    return False
