"""How a server of OpenAI's chat API is asked, and how that can end for good."""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["BadServer", "OpenAIConfig", "ServerGone", "key_of", "pause_s"]


class BadServer(Exception):
    """The server cannot be used as it was named: address, key or model. The message says what to do."""


class ServerGone(Exception):
    """The server worked, and then failed request after request."""


@dataclass(frozen=True, slots=True)
class OpenAIConfig:
    """How a server is asked.

    Attributes:
        base_url: Its address, up to /v1.
        model: The name that it gives the model.
        max_in_flight: Requests that it has at once. A server batches what it has, so more is faster, up to its limit.
        timeout_s: Longest wait for one answer.
        attempts: How often a request is sent before it is given up.
        backoff_s: Pause before the second attempt; it doubles with each further one.
        longest_pause_s: Longest pause, whatever the server asks for.
        give_up_after: Requests that fail in a row, each in all of its attempts, before the job ends.
        key_variable: Name of the environment variable that holds the server's key; none is sent where it is not set.
    """

    base_url: str
    model: str
    max_in_flight: int = 16
    timeout_s: float = 300.0
    attempts: int = 6
    backoff_s: float = 1.0
    longest_pause_s: float = 60.0
    give_up_after: int = 20
    key_variable: str = "OPENAI_API_KEY"

    def __post_init__(self) -> None:
        for name in ("max_in_flight", "attempts", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        for name in ("timeout_s", "longest_pause_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)}: must be positive and finite")
        if not 0 <= self.backoff_s < float("inf"):
            raise ValueError(f"backoff_s={self.backoff_s}: must be zero or positive, and finite")
        # What was given is not repeated: it may be the key itself.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):
            raise ValueError("key_variable: must be the name of an environment variable, not the key")
        _refuse_unless_address(self.base_url)
        if not self.model.strip():
            raise ValueError(f"model={self.model!r}: must be the name that the server gives it")

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/")


def _refuse_unless_address(base_url: str) -> None:
    """Raises ValueError. Passwords and queries are not repeated: an address is printed and stored."""
    try:
        parts = urlsplit(base_url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise ValueError("base_url: is no address; give it as http://HOST:8000/v1") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("base_url: has a password, a query or a fragment; give a key by the environment")
    if parts.scheme not in ("http", "https") or not has_host or re.search(r"[\s\x00-\x1f\x7f]", base_url):
        raise ValueError(f"base_url={base_url!r}: must be an address as http://HOST:8000/v1")


def pause_s(config: OpenAIConfig, attempt: int, retry_after_s: float | None) -> float:
    """Before the next attempt: half of it by chance, so that requests that failed together do not come together."""
    backoff_s = config.backoff_s * 2.0 ** min(attempt - 1, 30) * random.uniform(0.5, 1.0)
    return min(config.longest_pause_s, max(backoff_s, (retry_after_s or 0.0) + config.backoff_s * random.random() / 2))


def key_of(config: OpenAIConfig) -> str | None:
    """The key, from the environment. Raises BadServer, without it, where it cannot be sent."""
    key = os.environ.get(config.key_variable, "").strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        raise BadServer(f"{config.key_variable}: the key has characters that cannot be sent; was it copied whole?")
    return key or None
