"""What is asked of a language model and what it answers, whichever engine runs it.

An engine is an `Ask`: it takes requests and gives answers in any order, one for each request. The id of a request is
made from what is asked, so an answer cannot land on another clip however late or shuffled it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Ask", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    `messages` is a chat in OpenAI's format; pictures are parts of it, as `data:` addresses. `schema` is the JSON schema
    that the engine holds the answer to, None for free text. `extra_body` goes to servers of OpenAI's API as it is:
    how vLLM is told the rate of a video's frames.
    """

    request_id: str
    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    extra_body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: a text, or in `error` why there is none. `finish_reason` is `stop` or `length`.

    `queued_s` and `done_s` are seconds since 1970, where the engine tells: between the first and the last of many
    answers lies what the engine was given to do, and no time in which it was started.
    """

    request_id: str
    text: str
    finish_reason: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    error: str | None = None
    queued_s: float | None = None
    done_s: float | None = None


Ask = Callable[[Iterable[Request]], Iterator[Answer]]
