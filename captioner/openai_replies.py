"""What a server of OpenAI's chat API sends, read without trust: it may be anything."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from captioner.hostile_text import brief, encodable
from captioner.requests import Answer

__all__ = ["Failure", "Reply", "answer_of", "failure_of", "models_of"]

MAX_SHOWN_BYTES = 4096  # what is looked at of a reply that is shown
MAX_COUNT = 2**31 - 1  # the tables count tokens in 32 bits
PASSING = {408, 409, 425, 429}  # and all from 500
SETUP = {401, 403, 404, 405}  # and redirects: no other request would fare better
NO_MONEY = "insufficient_quota"  # OpenAI sends it with 429, as if it would pass


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer. `may_pass`: the same request may succeed later. `is_setup`: no request will. `is_away`:
    nothing listens. `parameter`: the one that the server says it refuses."""

    words: str
    may_pass: bool = False
    is_setup: bool = False
    is_away: bool = False
    status: int | None = None
    parameter: str | None = None
    retry_after_s: float | None = None


def failure_of(reply: Reply) -> Failure | None:
    """What a reply's status says went wrong; None where it may be an answer."""
    status = reply.status
    if 200 <= status < 300:
        return None
    error = _error_in(reply.content)
    may_pass = status in PASSING or status >= 500
    is_setup = status in SETUP or 300 <= status < 400
    if error.get("code") == NO_MONEY or error.get("type") == NO_MONEY:
        may_pass, is_setup = False, True
    parameter = error.get("param")
    return Failure(
        f"answered {status}: {_message_of(error, reply)}",
        may_pass=may_pass,
        is_setup=is_setup,
        status=status,
        parameter=parameter if isinstance(parameter, str) else None,
        retry_after_s=retry_after_s(reply.headers),
    )


def answer_of(request_id: str, reply: Reply) -> Answer | Failure:
    """The answer in a reply of status 200. What the model refused or was cut off before is an answer with an `error`,
    because asking again would bring the same; nonsense is a failure that may pass."""
    data = _json(reply.content)
    match data:
        case {"choices": [{"message": {**message}} as choice, *_]}:
            pass
        case {"error": {**error}}:
            return Failure(f"answered with an error: {_message_of(error, reply)}", may_pass=True)
        case {**_others}:
            return Failure("sent an answer without choices", may_pass=True)
        case _:
            return Failure(f"sent no JSON object: {_shown(reply)}", may_pass=True)
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    reason = choice.get("finish_reason")
    text = message.get("content")
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        return Answer(request_id, "", "stop", *counts, f"the model refused: {brief(refusal)}")
    if reason == "content_filter":
        return Answer(request_id, "", "stop", *counts, "the server's filter stopped the answer")
    if not isinstance(text, str) or not text.strip():
        if reason == "length":
            return Answer(request_id, "", "length", *counts, "all tokens were used before anything was said")
        return Failure("sent an empty answer", may_pass=True)
    finish_reason = "length" if reason == "length" else "stop" if isinstance(reason, str) else None
    return Answer(request_id, encodable(text), finish_reason, *counts)


def models_of(content: bytes) -> list[tuple[str, int | None]] | None:
    """Names and context lengths in a list of models; None for something else."""
    match _json(content):
        case {"data": [*models]}:
            pass
        case _:
            return None
    return [
        (model["id"], _count(model.get("max_model_len")) or None)
        for model in models
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    ]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server wants to be left alone: a number of seconds, or a date (RFC 9110, 10.2.3)."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if seconds == seconds else None  # it may say nan


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _error_in(content: bytes) -> dict[str, Any]:
    """The error as OpenAI's API has it, or as older servers have, without `error` around it."""
    match _json(content):
        case {"error": {**error}}:
            return error
        case {"error": str(message)}:
            return {"message": message}
        case {**error}:
            return error
        case _:
            return {}


def _message_of(error: Mapping[str, Any], reply: Reply) -> str:
    message = error.get("message") or error.get("detail")
    return brief(message if isinstance(message, str) else json.dumps(message)) if message else _shown(reply)


def _shown(reply: Reply) -> str:
    text = reply.content[:MAX_SHOWN_BYTES].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return "an HTML page"
    return repr(brief(text)) if text else "nothing"


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else 0
