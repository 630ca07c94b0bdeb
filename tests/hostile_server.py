"""A server of OpenAI's chat API on the loopback that does what its script says: answers, late or never, refusals,
nonsense, broken connections.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

MODEL = "hostile-1"
MARK = re.compile(r"mark-\w+")
MAX_REQUEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came. `mark` is the first `mark-…` in its texts; `attempt` counts requests with that mark."""

    number: int
    attempt: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    mark: str


@dataclass(frozen=True, slots=True)
class Act:
    """What the server does. `then`: `send` the reply, `close` the connection instead, `hang` until the client has gone,
    `truncate` the body with the connection, `drip` it a byte at a time, send it and go on `endless`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Literal["send", "close", "hang", "truncate", "drip", "endless"] = "send"
    delay_s: float = 0.0
    content_type: str = "application/json"


Script = Callable[[Seen], Act]


def says(text: str | None, finish_reason: str | None = "stop", **changes: Any) -> Act:
    """A well-formed answer. `delay_s` delays it; other names change the message."""
    delay_s = changes.pop("delay_s", 0.0)
    message = {"role": "assistant", "content": text, **changes}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage}
    return Act(body=json.dumps(body).encode(), delay_s=delay_s)


def error(status: int, message: str, **more: Any) -> Act:
    headers = more.pop("headers", {})
    return Act(status, json.dumps({"error": {"message": message, **more}}).encode(), headers)


def echo(seen: Seen) -> Act:
    """An answer with the mark that was in the prompt."""
    return says(f"I saw {seen.mark}.")


def after(times: int, act: Act, script: Script = echo) -> Script:
    """Do something to the first so many requests of each mark, then follow the script."""
    return lambda seen: act if seen.attempt <= times else script(seen)


def mark_in(body: Mapping[str, Any]) -> str:
    texts: list[str] = []
    for message in body.get("messages", []):
        content = message["content"]
        parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
        texts += parts
    found = MARK.search(" ".join(texts))
    return found[0] if found else ""


@dataclass
class HostileServer:
    """The running server: its address, and what it saw."""

    script: Script
    models: Act
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    times: Counter[str] = field(default_factory=Counter)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        mark = mark_in(body)
        self.times[mark] += 1
        seen = Seen(len(self.seen), self.times[mark], request.path, dict(request.headers), body, mark)
        self.seen.append(seen)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await perform(self.script(seen), request)
        finally:
            self.at_once -= 1

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(len(self.seen), 1, request.path, dict(request.headers), {}, ""))
        return await perform(self.models, request)


async def perform(act: Act, request: web.Request) -> web.StreamResponse:
    if act.delay_s:
        await asyncio.sleep(act.delay_s)
    if act.then == "hang":
        await asyncio.sleep(3600)
    if act.then == "close":
        assert request.transport is not None
        request.transport.close()
        return web.Response()
    if act.then == "send":
        return web.Response(status=act.status, body=act.body, headers=act.headers, content_type=act.content_type)
    response = web.StreamResponse(status=act.status, headers=act.headers)
    response.content_type = act.content_type
    if act.then == "truncate":
        response.content_length = len(act.body) + 100
    await response.prepare(request)
    if act.then == "drip":
        for byte in act.body:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response
    await response.write(act.body)
    while act.then == "endless":
        await response.write(b" " * (1 << 20))
    assert request.transport is not None
    request.transport.close()
    return response


def models_reply(*names: str) -> Act:
    data = [{"id": name, "object": "model", "max_model_len": 4096} for name in names]
    return Act(body=json.dumps({"object": "list", "data": data}).encode())


@contextmanager
def hostile_server(script: Script = echo, models: Act | None = None) -> Iterator[HostileServer]:
    """Run a server in a thread until the context ends."""
    server = HostileServer(script, models or models_reply(MODEL))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/v1/chat/completions", server.chat)
        app.router.add_get("/v1/models", server.list_models)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/v1"
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
