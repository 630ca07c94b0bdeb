"""What a model says of a window, as fields: their schema, which the engine enforces, and their strict reading.

An answer is text from outside. It is one JSON object with every field and no other, with the right types, within the
bounds of `SCHEMA`. A code fence around all of it is taken off, because servers that cannot hold a model to a schema
give one; anything else around it is refused. What could harm a reader is taken out of the values: markup, control
characters, characters that turn the direction of text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from jsonschema import Draft202012Validator, ValidationError

from captioner.hostile_text import brief, cleaned

__all__ = [
    "CAMERAS",
    "SCHEMA",
    "SHOT_TYPES",
    "UNKNOWN",
    "BadFields",
    "CameraMove",
    "CaptionFields",
    "fields_of",
    "to_json",
]

UNKNOWN = "unknown"
SHOT_TYPES = (
    "extreme close-up",
    "close-up",
    "medium close-up",
    "medium shot",
    "wide shot",
    "extreme wide shot",
    "aerial shot",
    UNKNOWN,
)
# As `camera_motion` and `camera_direction` of a clip: the camera's way, not the picture's.
CameraMove = Literal[
    "static",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "roll clockwise",
    "roll counterclockwise",
    "shake",
]
CAMERAS = (*get_args(CameraMove), UNKNOWN)

# All fields at their bounds are some 2 500 characters, or 3 000 with the JSON; what is far longer is no answer.
MAX_ANSWER_CHARS = 20_000
MAX_SHOWN_CHARS = 60


def _text(most_chars: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most_chars}


def _texts(most: int, most_chars: int) -> dict[str, Any]:
    return {"type": "array", "items": _text(most_chars), "maxItems": most}


_PROPERTIES: dict[str, dict[str, Any]] = {
    "subjects": _texts(6, 120),
    "action": _text(240),
    "setting": _text(160),
    "background": _text(240),
    "style": _text(100),
    "lighting": _text(120),
    "colors": _texts(6, 40),
    "shot_type": {"enum": list(SHOT_TYPES)},
    "camera": {"enum": list(CAMERAS)},
    "text": _texts(6, 100),
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": _PROPERTIES,
    "required": list(_PROPERTIES),
    "additionalProperties": False,
}
_VALIDATOR = Draft202012Validator(SCHEMA)


class BadFields(ValueError):
    """An answer that is not the fields: which field, what it was, and the rule that it breaks."""

    def __init__(self, field: str, value: str, rule: str):
        super().__init__(field, value, rule)  # all three, so that it survives pickling
        self.field, self.value, self.rule = field, value, rule

    def __str__(self) -> str:
        return f"{self.field}={self.value}: {self.rule}"


@dataclass(frozen=True, slots=True)
class CaptionFields:
    """What is to be seen in a window. Empty or `unknown` where the model said nothing.

    `subjects` are noun phrases, the main one first; `action` is what they do, a verb phrase or a sentence. `text` is
    words that are seen in the picture, as they are written.
    """

    subjects: tuple[str, ...] = ()
    action: str = ""
    setting: str = ""
    background: str = ""
    style: str = ""
    lighting: str = ""
    colors: tuple[str, ...] = ()
    shot_type: str = UNKNOWN
    camera: str = UNKNOWN
    text: tuple[str, ...] = ()


def fields_of(text: str) -> CaptionFields:
    """The fields of a model's answer; `BadFields` where it breaks the schema."""
    answer = _loaded(_unfenced(text))
    error = next(_VALIDATOR.iter_errors(answer), None)
    if error is not None:
        raise _bad(error)
    values: dict[str, Any] = {name: _cleaned(value) for name, value in answer.items()}
    return CaptionFields(**values)


def to_json(fields: CaptionFields) -> str:
    """The fields as JSON that `fields_of` reads, in the schema's order."""
    return json.dumps(asdict(fields), ensure_ascii=False)


FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


def _unfenced(text: str) -> str:
    if len(text) > MAX_ANSWER_CHARS:
        raise BadFields("answer", f"{len(text)} characters", f"must be at most {MAX_ANSWER_CHARS} characters long")
    fenced = FENCED.fullmatch(text.strip())
    return fenced[1] if fenced else text


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once_each, strict=False)
    except RecursionError:
        raise BadFields("answer", _shown(text), "must be JSON that is not nested deeply") from None
    except BadFields:
        raise
    except ValueError as error:  # also a number of thousands of digits, which is no JSONDecodeError
        raise BadFields("answer", _shown(text), f"must be one JSON object ({error})") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's own reader would take the last of two values and say nothing."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise BadFields(_shown(name), "given twice", "must be given once")
    return dict(pairs)


def _bad(error: ValidationError) -> BadFields:
    path = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            missing = next(name for name in _PROPERTIES if name not in value)
            return BadFields(missing, "missing", "must be given")
        case "additionalProperties":
            extra = next(name for name in value if name not in _PROPERTIES)
            return BadFields(
                _shown(extra), _shown(value[extra]), f"no such field; the fields are {', '.join(SCHEMA['required'])}"
            )
        case "type":
            return BadFields(path or "answer", _shown(value), f"must be of type {rule}")
        case "enum":
            return BadFields(path, _shown(value), f"must be one of {', '.join(map(str, rule))}")
        case "maxLength":
            return BadFields(path, _shown(value), f"must be at most {rule} characters long, is {len(value)}")
        case _:
            return BadFields(path, f"{len(value)} items", f"must be at most {rule} items")


def _shown(value: Any) -> str:
    """For messages and logs: short, on one line, without anything unseen."""
    return brief(json.dumps(value), MAX_SHOWN_CHARS)


def _cleaned(value: str | Sequence[str]) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return cleaned(value)
    by_sameness = {plain.casefold(): plain for plain in map(cleaned, reversed(value)) if plain}
    return tuple(reversed(by_sameness.values()))
