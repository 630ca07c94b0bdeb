"""The client of any server of OpenAI's chat API: vLLM's, OpenAI's own, and the many that speak it.

Requests are pulled as there is room for them, so no more than `max_in_flight` are in memory; answers come in the order
in which they are finished, each with the id of its request. What may pass by itself (429, 5xx, a broken connection,
nonsense) is asked again after a growing pause; what cannot, ends the whole job or the one request.

The server's key is read from the environment where a connection is made, and is nowhere else. Redirects are not
followed, because they would take the key along; proxies and passwords from the environment are not used.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from captioner.hostile_text import brief
from captioner.openai_config import BadServer, OpenAIConfig, ServerGone, key_of
from captioner.openai_replies import Failure, models_of
from captioner.openai_server import Server
from captioner.requests import Answer, Request

__all__ = ["BadServer", "OpenAIConfig", "ServedModel", "ServerGone", "answers", "check_server"]

SERVED_AS = ("{}", "{}:latest", "models/{}")  # Ollama and Google list other names than they take
# A list of models is there at once, or something is wrong.
CHECK_TIMEOUT_S, CHECK_ATTEMPTS = 30.0, 3


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server has; `max_model_len` is its context in tokens where the server says so."""

    name: str
    max_model_len: int | None


def check_server(config: OpenAIConfig) -> tuple[ServedModel, ...]:
    """The models that the server has, the asked one among them; empty where the server does not list any.

    Raises BadServer where there is no server, it refuses the key, or it has no such model.
    """
    patience = replace(
        config, timeout_s=min(config.timeout_s, CHECK_TIMEOUT_S), attempts=min(config.attempts, CHECK_ATTEMPTS)
    )
    with _connection(patience) as server:
        reply = _run(server.loop, server.models()).result()
        if isinstance(reply, Failure):
            if reply.status in (404, 405, 501):  # not every server lists its models: the first request tells
                return ()
            raise BadServer(server.what_to_do(reply))
        listed = models_of(reply)
        if listed is None:
            words = "does not list models; give the address of an OpenAI server, up to /v1"
            raise BadServer(f"{config.url}: {words}")
    models = tuple(ServedModel(brief(name), length) for name, length in listed)
    names = [name for name, _ in listed]
    if names and not any(form.format(config.model) in names for form in SERVED_AS):
        shown = ", ".join(model.name for model in models[:20]) + (", …" if len(models) > 20 else "")
        raise BadServer(f"{config.url}: has no model {config.model!r}; it has {shown}")
    return models


def answers(requests: Iterable[Request], config: OpenAIConfig) -> Iterator[Answer]:
    """An answer to each request, as they are finished. One that cannot be answered has an `error` in words.

    The next request is pulled whenever fewer than `max_in_flight` are being asked, before the next answer is handed on:
    `requests` must not wait for an answer.

    Raises BadServer where nothing was answered and nothing will be, ServerGone where requests fail in a row later.
    """
    source = iter(requests)
    asked: set[Future[Answer]] = set()
    done: set[Future[Answer]] = set()
    with _connection(config) as server:
        more = True
        while more or asked or done or server.is_gone:
            is_gone = server.is_gone
            while more and not is_gone and len(asked) < config.max_in_flight:
                if (request := next(source, None)) is None:
                    more = False
                else:
                    asked.add(_run(server.loop, server.ask(request)))
                    del request  # its frames are large, and the server has them
            if not done:
                done, asked = wait(asked, 0 if is_gone else None, return_when=FIRST_COMPLETED)
            if done:
                yield done.pop().result()
            elif is_gone:  # and all that was answered before has been handed on
                raise server.why_gone()


T = TypeVar("T")


def _run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


@contextmanager
def _connection(config: OpenAIConfig) -> Iterator[Server]:
    """A connection in a thread of its own: answers are read while the caller decodes frames or writes tables. What is
    still being asked at the end is given up."""
    loop = asyncio.new_event_loop()
    server = Server(config, key_of(config), loop)
    thread = threading.Thread(target=loop.run_forever, name="openai", daemon=True)
    thread.start()
    try:
        _run(loop, server.open()).result()
        yield server
    finally:
        _run(loop, _close(server)).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: Server) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    if server.session is not None:
        await server.session.close()
