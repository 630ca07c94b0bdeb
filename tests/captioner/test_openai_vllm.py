"""The client against vLLM's own server, on the CPU, with a model made on the spot."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from captioner.fields import CAMERAS, SCHEMA
from captioner.openai_api import BadServer, OpenAIConfig, ServedModel, ServerGone, answers, check_server
from captioner.prompts import extra_body_of, messages_of
from captioner.requests import Answer, Request
from captioner.windows import WindowConfig

pytest.importorskip("vllm")
from captioner.tiny_model import make_tiny_model
from tests.vllm_server import VllmServer, stop, vllm_server

pytestmark = pytest.mark.slow

KEY = "a-key-for-this-server"
MODEL_LEN = 2048


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    folder = tmp_path_factory.mktemp("vllm")
    model = make_tiny_model(folder / "model")
    with vllm_server(model, folder / "log", max_model_len=MODEL_LEN, key=KEY) as running:
        yield running


@pytest.fixture
def config(server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIConfig:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return OpenAIConfig(server.url, server.model, timeout_s=120.0, attempts=2, backoff_s=0.1)


def frames(count: int, seed: int = 0) -> list[tuple[float, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [(n / 2, random.integers(0, 255, (56, 84, 3), dtype=np.uint8)) for n in range(count)]


def request_of(name: str, show_as: str, count: int, **changes: object) -> Request:
    windows = replace(WindowConfig(), show_as=show_as)
    messages = messages_of("What is seen?", frames(count), windows)
    return replace(Request(name, messages, max_tokens=24, extra_body=extra_body_of(windows)), **changes)


def asked(config: OpenAIConfig, *requests: Request) -> dict[str, Answer]:
    return {answer.request_id: answer for answer in answers(requests, config)}


def test_check_knows_the_model_and_its_context(config: OpenAIConfig):
    assert check_server(config) == (ServedModel("tiny", MODEL_LEN),)
    with pytest.raises(BadServer, match="no model 'missing'; it has tiny"):
        check_server(replace(config, model="missing"))


def test_wrong_key_and_wrong_model(config: OpenAIConfig, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BadServer, match=r"404.*missing"):
        asked(replace(config, model="missing"), request_of("a", "images", 1))
    with pytest.raises(BadServer, match=r"404.*/v1"):
        asked(replace(config, base_url=config.base_url + "/v1"), request_of("a", "images", 1))
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    for ask in (lambda: check_server(config), lambda: asked(config, request_of("a", "images", 1))):
        with pytest.raises(BadServer, match="OPENAI_API_KEY holds its key") as caught:
            ask()
        assert "another-key" not in str(caught.value)


def test_every_frame_is_seen(config: OpenAIConfig):
    """More frames are more tokens, as pictures and as video: vLLM takes 32 frames at most unless it is told."""
    requests = [
        request_of(f"{show_as} {count}", show_as, count) for show_as in ("images", "video") for count in (2, 40)
    ]
    found = asked(config, *requests)
    assert [answer.error for answer in found.values()] == [None] * 4
    assert all(answer.tokens_out > 0 for answer in found.values())
    # Pictures: each frame has its own tokens. Video: two frames share theirs.
    per_frame = (found["images 40"].tokens_in - found["images 2"].tokens_in) / 38
    per_pair = (found["video 40"].tokens_in - found["video 2"].tokens_in) / 19
    assert per_frame >= 6
    assert per_pair >= 6


def test_schema_is_enforced(config: OpenAIConfig):
    requests = [
        request_of(f"{show_as} {seed}", show_as, 4, schema=SCHEMA, seed=seed, temperature=1.0, max_tokens=1200)
        for show_as in ("images", "video")
        for seed in range(3)
    ]
    found = asked(config, *requests)
    assert len(found) == 6
    whole = [answer for answer in found.values() if answer.finish_reason == "stop"]
    assert whole, "every answer was cut off"
    for answer in whole:
        fields = json.loads(answer.text, strict=False)  # xgrammar lets control characters into strings
        assert set(fields) == set(SCHEMA["required"])
        assert fields["camera"] in CAMERAS
        outside_strings = re.sub(r'"(?:[^"\\]|\\.)*"', "", answer.text)
        assert re.search(r"\S", outside_strings)
        assert not re.search(r"\s\s|(?<![,:])\s", outside_strings), "more than one space after a comma or colon"


def test_answer_that_is_cut_off_says_so(config: OpenAIConfig):
    (answer,) = asked(config, request_of("cut", "images", 1, schema=SCHEMA, max_tokens=5)).values()
    assert (answer.finish_reason, answer.tokens_out, answer.error) == ("length", 5, None)


def test_same_seed_same_answer(config: OpenAIConfig):
    requests = [request_of(f"{n}", "video", 2, seed=n // 2, temperature=1.0) for n in range(4)]
    found = asked(config, *requests)
    assert found["0"].text == found["1"].text
    assert found["2"].text == found["3"].text
    assert found["0"].text != found["2"].text


def test_request_that_is_too_long_costs_only_itself(config: OpenAIConfig):
    found = asked(config, request_of("well", "images", 1), request_of("long", "images", MODEL_LEN // 6))
    assert found["well"].error is None
    assert str(found["long"].error).startswith("answered 400: ")


def test_damaged_picture_costs_only_itself(config: OpenAIConfig):
    part = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/AAAA"}}
    bad = Request("bad", [{"role": "user", "content": [part]}], max_tokens=4)
    found = asked(config, request_of("well", "images", 1), bad)
    assert found["well"].error is None
    assert found["bad"].error is not None


def test_server_that_is_killed(server: VllmServer, config: OpenAIConfig):
    """The last test of this server."""

    def endless() -> Iterator[Request]:
        for number in range(10_000):
            yield request_of(str(number), "images", 1)

    source = answers(endless(), replace(config, give_up_after=8))
    done = [next(source) for _ in range(5)]
    stop(server.process, (signal.SIGKILL,))
    with pytest.raises(ServerGone, match="Start the same command again"):
        done.extend(source)
    assert len(done) < 60
    assert sum(answer.error is None for answer in done) >= 5
