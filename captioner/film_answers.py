"""What a model says of a part of a film, read strictly: JSON of the schema, plain words, numbers that were shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator

from captioner.film_parts import Part
from captioner.film_records import Chapter, Evidence, Telling, contiguous
from captioner.folding import FUNCTION_WORDS, WORD, content_words, fold
from captioner.hostile_text import unplain_in
from captioner.requests import Answer

__all__ = ["BadTelling", "schema_of", "telling_of"]

MAX_TITLE_CHARS, MAX_CHAPTER_CHARS, MAX_SUMMARY_CHARS, MAX_ANSWER_CHARS = 80, 240, 800, 300
MAX_SCENES = 12  # that an answer rests on, in one request
# Of the words of a summary, this share must be in what was shown: other words for the same are welcome, another film
# is not. Captions in a script without spaces have no words to compare.
MIN_GROUNDED_SHARE = 0.25


class BadTelling(ValueError):
    """An answer that cannot be used, and why."""


def schema_of(questions: int, max_chapters: int) -> dict[str, Any]:
    """What an engine holds the answer to; the same for every part of every film that is asked the same questions."""
    number = {"type": "integer", "minimum": 0}
    chapter = {
        "title": {"type": "string", "minLength": 1, "maxLength": MAX_TITLE_CHARS},
        "first": number,
        "last": number,
        "summary": {"type": "string", "minLength": 1, "maxLength": MAX_CHAPTER_CHARS},
    }
    answer = {
        "question": {"enum": list(range(1, questions + 1))},
        "answer": {"type": "string", "maxLength": MAX_ANSWER_CHARS},
        "scenes": {"type": "array", "items": number, "maxItems": MAX_SCENES},
    }
    properties: dict[str, Any] = {
        "summary": {"type": "string", "minLength": 1, "maxLength": MAX_SUMMARY_CHARS},
        "chapters": {"type": "array", "items": _object(chapter), "minItems": 1, "maxItems": max_chapters},
    }
    if questions:
        properties["answers"] = {"type": "array", "items": _object(answer), "maxItems": questions}
    return _object(properties)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def telling_of(answer: Answer, validator: Draft202012Validator, part: Part) -> Telling:
    """The answer to a part's request, as a telling of its scenes. Raises BadTelling.

    Of what was told of parts, every question that has evidence must be answered.
    """
    told = _loaded(answer, validator)
    known = frozenset(content_words(part.shown))
    chapters = []
    for number, chapter in enumerate(told["chapters"], start=1):
        begin, end = chapter["first"] - part.first_number, chapter["last"] - part.first_number
        if not 0 <= begin <= end < len(part.lines):
            raise BadTelling(f"chapter {number} is from {chapter['first']} to {chapter['last']}: was not shown")
        title, summary = _checked(chapter["title"], None), _checked(chapter["summary"], known)
        chapters.append(Chapter(title, part.lines[begin][0], part.lines[end][1], summary))
    first, last = part.lines[0][0], part.lines[-1][1]
    return Telling(
        first=first,
        last=last,
        summary=_checked(told["summary"], known),
        chapters=contiguous(chapters, first, last),
        answers=_answers(told.get("answers", ()), part, known),
    )


def _loaded(answer: Answer, validator: Draft202012Validator) -> dict[str, Any]:
    if answer.error is not None:
        raise BadTelling(f"no answer: {answer.error}")
    if answer.finish_reason == "length":
        raise BadTelling("cut off at answer_tokens")
    try:
        told = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        raise BadTelling("not JSON") from error
    if (fault := next(validator.iter_errors(told), None)) is not None:
        raise BadTelling(f"{fault.json_path}: {fault.validator} {fault.validator_value}")
    return told


def _answers(told: Sequence[dict[str, Any]], part: Part, known: frozenset[str]) -> tuple[Evidence, ...]:
    """Scenes are numbered from 1 for the model. A question that it leaves out was not seen."""
    answers = [Evidence() for _ in part.citable]
    for answer in told:
        index, scenes = answer["question"] - 1, sorted({scene - 1 for scene in answer["scenes"]})
        if not part.citable[index].issuperset(scenes):
            raise BadTelling(f"the answer to question {index + 1} rests on scenes that were not shown for it")
        if answers[index].scenes and scenes:
            raise BadTelling(f"question {index + 1} is answered twice")
        if scenes:
            answers[index] = Evidence(_checked(answer["answer"], known), tuple(scenes))
    for index, answer in enumerate(answers):
        if part.of_tellings and part.citable[index] and not answer.scenes:
            raise BadTelling(f"question {index + 1} has evidence and got no answer")
    return tuple(answers)


def _checked(text: str, known: frozenset[str] | None) -> str:
    """Plain words, and of those that were shown. A title (`known` None) may be anything that is plain."""
    text = " ".join(text.split())
    if (unplain := next(unplain_in(text), None)) is not None:
        raise BadTelling(f"no plain words: {unplain!r}")
    words = content_words(text)
    if not words:
        raise BadTelling("says nothing")
    if known is not None and sum(map(str.isascii, known)) * 2 > len(known):
        if sum(word in known for word in words) < MIN_GROUNDED_SHARE * len(words):
            raise BadTelling("is about something else than what was shown")
        if names := _names(text, known):
            raise BadTelling(f"names {', '.join(sorted(names))}, which was not shown")
    return text


def _names(text: str, known: frozenset[str]) -> set[str]:
    """Words with a capital in the middle of a sentence that what was shown does not have."""
    found = set()
    for match in WORD.finditer(text):
        before = text[: match.start()].rstrip(" \"'(\u201c\u2018")
        inside = before and before[-1] not in ".!?:;"
        if inside and match[0][0].isupper() and match[0].lower() not in FUNCTION_WORDS and fold(match[0]) not in known:
            found.add(match[0])
    return found
