"""The client against a real server on the loopback that is late, broken, hostile or gone."""

from __future__ import annotations

import json
import logging
import pickle
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from captioner.openai_api import BadServer, OpenAIConfig, ServedModel, ServerGone, answers, check_server
from captioner.openai_config import pause_s
from captioner.openai_replies import retry_after_s
from captioner.requests import Answer, Request
from tests.hostile_server import MODEL, Act, HostileServer, Seen, after, echo, error, hostile_server, models_reply, says

KEY = "sk-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
HTML = Act(body=b"<html><body>Welcome</body></html>", content_type="text/html")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def config_of(server: HostileServer, **changes: Any) -> OpenAIConfig:
    base = OpenAIConfig(server.url, MODEL, timeout_s=5.0, attempts=3, backoff_s=0.001, longest_pause_s=0.05)
    return replace(base, **changes)


def request_of(number: int = 0, **changes: Any) -> Request:
    text = f"Describe mark-{number}."
    return replace(Request(f"id-{number}", [{"role": "user", "content": text}], max_tokens=20), **changes)


def one_answer(server: HostileServer, request: Request | None = None, **changes: Any) -> Answer:
    (answer,) = answers([request or request_of()], config_of(server, **changes))
    return answer


# -- what is sent and read


def test_request_is_sent_as_it_is_asked():
    content = [
        {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,AAAA,BBBB"}},
        {"type": "text", "text": "mark-1"},
    ]
    extra = {"media_io_kwargs": {"video": {"fps": 2.0, "num_frames": -1}}}
    request = Request("id", [{"role": "user", "content": content}], SCHEMA, 33, 0.5, 9, extra)
    with hostile_server() as server:
        answer = one_answer(server, request)
    assert answer == Answer("id", "I saw mark-1.", "stop", 7, 3, None)
    (seen,) = server.seen
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.body == {
        "model": MODEL,
        "messages": request.messages,
        "max_tokens": 33,
        "temperature": 0.5,
        "seed": 9,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
        **extra,
    }


READ = [
    (says("cut of", "length"), ("cut of", "length", None)),
    (says("whole", "eos_token"), ("whole", "stop", None)),
    (says("whole", None), ("whole", None, None)),
    (says("half a \ud800 pair"), ("half a ? pair", "stop", None)),
    (says(None, "length"), ("", "length", "all tokens were used before anything was said")),
    (says(None, "content_filter"), ("", "stop", "the server's filter stopped the answer")),
    (says(None, refusal="I will\nnot."), ("", "stop", "the model refused: I will not.")),
    (says('{"not": "the schema"}'), ('{"not": "the schema"}', "stop", None)),
]


@pytest.mark.parametrize(("act", "expected"), READ)
def test_answer_is_read(act: Act, expected: tuple[str, str | None, str | None]):
    with hostile_server(lambda _: act) as server:
        answer = one_answer(server)
    assert (answer.text, answer.finish_reason, answer.error) == expected
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "usage", [None, [], {}, {"prompt_tokens": -1, "completion_tokens": 1 << 40}, {"prompt_tokens": True}]
)
def test_counts_that_cannot_be_are_none(usage: object):
    body = json.loads(says("well").body) | {"usage": usage}
    with hostile_server(lambda _: Act(body=json.dumps(body).encode())) as server:
        answer = one_answer(server)
    assert (answer.text, answer.tokens_in, answer.tokens_out) == ("well", 0, 0)


# -- what goes wrong and may pass

PASSING = {
    "429": error(429, "slow down"),
    "429 with a pause": error(429, "slow down", headers={"Retry-After": "0.01"}),
    "429 with a date": error(429, "slow down", headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "429 with a pause of a day": error(429, "slow down", headers={"Retry-After": "86400"}),
    "429 with nonsense": error(429, "slow down", headers={"Retry-After": "nan"}),
    "500": error(500, "it broke"),
    "503 in HTML": replace(HTML, status=503),
    "502 with nothing": Act(502),
    "HTML": HTML,
    "HTML that says it is JSON": replace(HTML, content_type="application/json"),
    "JSON that says it is text": Act(body=b"{}", content_type="text/plain"),
    "cut JSON": Act(body=says("cut").body[:40]),
    "deep JSON": Act(body=b"[" * 200_000),
    "not UTF-8": Act(body=b"\xff\xfe\x00"),
    "nothing": Act(),
    "null": Act(body=b"null"),
    "a list": Act(body=b"[]"),
    "no choices": Act(body=b'{"choices": []}'),
    "choices are null": Act(body=b'{"choices": null}'),
    "choices are numbers": Act(body=b'{"choices": [1]}'),
    "no message": Act(body=b'{"choices": [{"message": null}]}'),
    "an error with 200": Act(body=b'{"error": {"message": "upstream"}}'),
    "no text": says(None),
    "an empty text": says(" \n"),
    "a text that is a number": says(7),  # type: ignore[arg-type]
    "204": Act(204),
    "the connection closed": Act(then="close"),
    "the connection closed in the body": Act(body=says("cut").body, then="truncate"),
    "no end": Act(body=b"{", then="endless"),
    "gzip that is none": Act(body=b"{}", headers={"Content-Encoding": "gzip"}),
}
# Slow ones, with a time-out that they exceed.
LATE = {
    "no answer": Act(then="hang"),
    "an answer a byte at a time": Act(body=says("slow").body, then="drip"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_asked_again(name: str):
    with hostile_server(after(2, PASSING[name])) as server:
        answer = one_answer(server)
    assert (answer.text, answer.error) == ("I saw mark-0.", None)
    assert [seen.attempt for seen in server.seen] == [1, 2, 3]


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_pass_is_an_error_in_words(name: str):
    with hostile_server(lambda _: PASSING[name]) as server:
        answer = one_answer(server)
    assert answer.text == ""
    assert answer.error is not None
    assert 5 < len(answer.error) < 400
    assert answer.error.isprintable()
    assert len(server.seen) == 3


@pytest.mark.parametrize("name", LATE)
def test_late_answers_are_given_up(name: str):
    with hostile_server(after(1, LATE[name])) as server:
        answer = one_answer(server, timeout_s=0.3)
        assert (answer.text, len(server.seen)) == ("I saw mark-0.", 2)
        given_up = one_answer(server, request_of(1), timeout_s=0.3, attempts=1)
    assert given_up.error == "did not answer within 0.3 s"


def test_pause_grows_is_spread_and_has_an_end():
    config = OpenAIConfig("http://host/v1", MODEL, backoff_s=1.0, longest_pause_s=20.0)
    for attempt, least_s, most_s in [(1, 0.5, 1.0), (2, 1.0, 2.0), (4, 4.0, 8.0), (9, 20.0, 20.0), (5000, 20.0, 20.0)]:
        pauses = {pause_s(config, attempt, None) for _ in range(50)}
        assert least_s <= min(pauses) <= max(pauses) <= most_s
        assert len(pauses) > 1 or least_s == most_s
    assert 10 <= pause_s(config, 1, 10.0) <= 11
    assert pause_s(config, 1, float("inf")) == 20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2),
        ("0.5", 0.5),
        ("-3", 0),
        ("inf", float("inf")),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 99 Oct 9999999 07:28:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None):
    assert retry_after_s({"retry-After": text}) == seconds
    assert retry_after_s({}) is None


def test_server_that_asks_for_a_pause_gets_it():
    with hostile_server(after(1, error(429, "later", headers={"Retry-After": "0.3"}))) as server:
        began_s = time.monotonic()
        assert one_answer(server, longest_pause_s=5.0).error is None
    assert 0.3 <= time.monotonic() - began_s < 2


# -- what cannot pass

SETUP = {
    401: "OPENAI_API_KEY holds its key",
    403: "OPENAI_API_KEY",
    404: "has no model 'hostile-1'",
    405: "is it a server of OpenAI's chat API",
    301: "redirects are not followed",
}


@pytest.mark.parametrize("status", SETUP)
def test_wrong_address_key_or_model_ends_the_job(status: int):
    def script(_: Seen) -> Act:
        return error(status, "no such thing", headers={"Location": "http://127.0.0.1:9/elsewhere"})

    pulled: list[int] = []
    with hostile_server(script) as server:
        with pytest.raises(BadServer) as caught:
            list(answers(counted(1000, pulled), config_of(server)))
        assert server.url in str(caught.value)
        assert SETUP[status] in str(caught.value)
        assert "no such thing" in str(caught.value)
    assert len(pulled) <= 17


def test_no_money_is_not_asked_again():
    act = error(429, "pay", code="insufficient_quota")
    with hostile_server(lambda _: act) as server, pytest.raises(BadServer, match="pay"):
        one_answer(server)
    assert len(server.seen) == 1


def test_one_bad_request_costs_only_itself():
    with hostile_server(lambda seen: error(400, "too long") if seen.mark == "mark-3" else echo(seen)) as server:
        found = {a.request_id: a for a in answers(map(request_of, range(8)), config_of(server, max_in_flight=1))}
    assert found["id-3"] == Answer("id-3", "", error="answered 400: too long")
    assert all(found[f"id-{n}"].text == f"I saw mark-{n}." for n in range(8) if n != 3)
    assert server.times["mark-3"] == 1


def test_bad_requests_do_not_end_a_job_that_works():
    with hostile_server(lambda seen: echo(seen) if seen.mark == "mark-0" else error(400, "too long")) as server:
        found = list(answers(map(request_of, range(60)), config_of(server, max_in_flight=1, give_up_after=5)))
    assert sum(answer.error is not None for answer in found) == 59


def test_server_that_refuses_everything_ends_the_job():
    pulled: list[int] = []
    words = r"nothing was answered; [56] requests in a row .* no vision model"
    with hostile_server(lambda _: error(400, "I am no vision model")) as server, pytest.raises(BadServer, match=words):
        list(answers(counted(1000, pulled), config_of(server, give_up_after=5, max_in_flight=2)))
    assert len(pulled) < 20


def test_server_that_is_not_there():
    config = OpenAIConfig("http://127.0.0.1:9/v1", MODEL, attempts=2, backoff_s=0.001)
    for ask in (lambda: list(answers([request_of()], config)), lambda: check_server(config)):
        with pytest.raises(BadServer, match=r"127.0.0.1:9.*no server answers there.*python -m vllm"):
            ask()


def test_server_that_goes_away_keeps_what_was_done():
    pulled: list[int] = []
    done: list[Answer] = []
    with hostile_server() as server:
        config = config_of(server, max_in_flight=4, give_up_after=6)
        source = answers(counted(1000, pulled), config)
        done += (next(source) for _ in range(50))
    with pytest.raises(ServerGone, match=r"\d+ requests in a row failed.*Start the same command again"):
        done.extend(source)
    texts = {answer.request_id: answer.text for answer in done if answer.error is None}
    assert len(texts) >= 50
    assert all(text == f"I saw mark-{request_id[3:]}." for request_id, text in texts.items())
    assert len(pulled) < 80


def test_answers_that_wait_are_handed_on_before_the_job_ends():
    """The caller is slow: the server has answered some and gone before the first answer is looked at."""

    def script(seen: Seen) -> Act:
        return echo(seen) if seen.number < 8 else Act(500)

    with hostile_server(script) as server:
        found: list[Answer] = []
        source = answers(map(request_of, range(100)), config_of(server, max_in_flight=16, give_up_after=2))
        found.append(next(source))
        time.sleep(0.3)
        with pytest.raises(ServerGone, match="answered 500"):
            found.extend(source)
    assert sum(answer.error is None for answer in found) == 8
    assert len(server.seen) < 80


def test_key_that_is_refused_later_ends_the_job():
    def script(seen: Seen) -> Act:
        return echo(seen) if seen.number < 5 else error(401, "expired")

    with hostile_server(script) as server, pytest.raises(ServerGone, match="expired"):
        list(answers(map(request_of, range(100)), config_of(server, max_in_flight=1, give_up_after=3)))
    assert len(server.seen) == 8  # not asked again


# -- servers that know less


@pytest.mark.parametrize(
    ("refusal", "left"),
    [
        (error(400, "Unsupported parameter", param="response_format"), {"max_tokens", "temperature", "seed"}),
        (error(422, "extra fields not permitted: response_format"), {"max_tokens", "temperature", "seed"}),
        (error(400, "Bad Request"), {"max_tokens", "temperature", "seed"}),
        (Act(400), {"max_tokens", "temperature", "seed"}),
    ],
)
def test_server_without_schemas_is_asked_without(refusal: Act, left: set[str], caplog: pytest.LogCaptureFixture):
    def script(seen: Seen) -> Act:
        return refusal if "response_format" in seen.body else echo(seen)

    with hostile_server(script) as server:
        requests = (request_of(n, schema=SCHEMA) for n in range(10))
        found = list(answers(requests, config_of(server, max_in_flight=1)))
    assert all(answer.error is None for answer in found)
    assert [set(seen.body) - {"model", "messages"} for seen in server.seen[1:]] == [left] * 10
    assert [record.message for record in caplog.records] == [
        f"{server.url}: does not know response_format, so requests go without"
    ]


def test_server_with_other_parameters():
    """As OpenAI's reasoning models have them."""

    def script(seen: Seen) -> Act:
        if "max_tokens" in seen.body:
            return error(400, "Use 'max_completion_tokens' instead.", param="max_tokens")
        if "temperature" in seen.body:
            return error(400, "Only the default (1) value is supported.", param="temperature")
        return says(str(seen.body["max_completion_tokens"]))

    with hostile_server(script) as server:
        found = list(answers(map(request_of, range(5)), config_of(server, max_in_flight=1)))
    assert [answer.text for answer in found] == ["20"] * 5
    assert len(server.seen) == 7
    assert "seed" in server.seen[-1].body


def test_schema_that_was_taken_once_is_never_left_out():
    def script(seen: Seen) -> Act:
        return error(400, "bad: response_format") if seen.mark == "mark-2" else echo(seen)

    with hostile_server(script) as server:
        requests = (request_of(n, schema=SCHEMA) for n in range(6))
        found = list(answers(requests, config_of(server, max_in_flight=1)))
    assert [answer.request_id for answer in found if answer.error] == ["id-2"]
    assert all("response_format" in seen.body for seen in server.seen)


def test_refusing_what_cannot_be_left_out_ends():
    request = request_of(schema=SCHEMA, extra_body={"seed": 1, "max_tokens": 2, "temperature": 3})
    with hostile_server(lambda _: error(400, "seed, temperature, max_tokens, response_format")) as server:
        assert one_answer(server, request).error is not None
    assert len(server.seen) == 5


# -- which answer is whose, and how much is held


def counted(count: int, pulled: list[int]) -> Iterator[Request]:
    for number in range(count):
        pulled.append(number)
        yield request_of(number)


def shuffled_and_failing(seed: int) -> Any:
    """Answers after random delays; a tenth of all attempts fails, each in another way."""
    chance = random.Random(seed)
    failures = [PASSING[name] for name in ("429", "500", "HTML", "cut JSON", "the connection closed", "no choices")]

    def script(seen: Seen) -> Act:
        if chance.random() < 0.1:
            return chance.choice(failures)
        return replace(echo(seen), delay_s=chance.uniform(0, 0.01))

    return script


def test_every_request_gets_its_own_answer_once():
    with hostile_server(shuffled_and_failing(1)) as server:
        found = list(answers(map(request_of, range(400)), config_of(server, attempts=8)))
    ids = [answer.request_id for answer in found]
    assert sorted(ids) == sorted(f"id-{n}" for n in range(400))
    assert ids != [f"id-{n}" for n in range(400)]
    assert all(a.text == f"I saw mark-{a.request_id[3:]}." for a in found)
    assert len(server.seen) > 420
    assert 8 < server.most_at_once <= 16


@pytest.mark.parametrize("in_flight", [1, 5])
def test_no_more_is_pulled_than_is_in_flight(in_flight: int):
    pulled: list[int] = []
    with hostile_server() as server:
        handed_on = 0
        for _ in answers(counted(60, pulled), config_of(server, max_in_flight=in_flight)):
            assert len(pulled) <= 2 * in_flight + handed_on
            handed_on += 1
    assert (len(pulled), handed_on) == (60, 60)
    assert server.most_at_once <= in_flight


def test_memory_does_not_grow_with_the_number_of_requests():
    frames_bytes = 200_000

    def large(count: int) -> Iterator[Request]:
        for number in range(count):
            content = [{"type": "text", "text": f"mark-{number}"}, {"type": "text", "text": chr(97) * frames_bytes}]
            yield Request(f"id-{number}", [{"role": "user", "content": content}])

    with hostile_server() as server:
        peaks = []
        for count in (10, 100):
            tracemalloc.start()
            for _ in answers(large(count), config_of(server, max_in_flight=4)):
                server.seen.clear()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * frames_bytes


def test_stopping_early_ends_the_thread_and_what_is_in_flight():
    before = threading.active_count()
    with hostile_server(lambda seen: echo(seen) if seen.mark == "mark-0" else Act(then="hang")) as server:
        source = answers(map(request_of, range(100)), config_of(server))
        assert next(source).request_id == "id-0"
        began_s = time.monotonic()
        source.close()  # type: ignore[attr-defined]
        assert time.monotonic() - began_s < 1
    assert threading.active_count() == before


def test_nothing_to_ask():
    with hostile_server() as server:
        assert list(answers([], config_of(server))) == []
    assert server.seen == []


def test_broken_source_of_requests():
    def broken() -> Iterator[Request]:
        yield request_of(0)
        raise RuntimeError("decoder")

    before = threading.active_count()
    with hostile_server() as server, pytest.raises(RuntimeError, match="decoder"):
        list(answers(broken(), config_of(server)))
    assert threading.active_count() == before


# -- the key


KEY_SCRIPTS: dict[str, Act] = {
    "answer": says(f"the key is {KEY}"),
    "refusal": error(401, f"Incorrect API key provided: {KEY}"),
    "long refusal": error(400, "x" * 290 + KEY),
    "error": error(500, f"headers: Authorization: Bearer {KEY}"),
    "HTML": Act(503, f"<p>{KEY}</p>".encode()),
    "text": Act(200, f"Bearer {KEY}".encode()),
    "redirect": Act(302, b"", {"Location": f"http://127.0.0.1:9/?key={KEY}"}),
    "header that is none": Act(200, b"", {"X-Echo": KEY}),
    "escaped": Act(401, json.dumps({"error": {"message": f"no {KEY}"}}).replace("-", r"\u002D").encode()),
    "model's refusal": says(None, refusal=f"no, {KEY}"),
}


@pytest.mark.parametrize("name", KEY_SCRIPTS)
def test_key_is_sent_and_is_nowhere_else(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    caplog.set_level(logging.DEBUG)
    for logger in ("aiohttp", "aiohttp.client", "asyncio", "captioner"):
        caplog.set_level(logging.DEBUG, logger=logger)
    with hostile_server(lambda _: KEY_SCRIPTS[name], KEY_SCRIPTS[name]) as server:
        config = config_of(server)
        said = [repr(config), str(asdict(config)), pickle.dumps(config).decode("latin-1")]
        for ask in (lambda: list(answers([request_of()], config)), lambda: check_server(config)):
            try:
                said.append(repr(ask()))
            except BadServer as caught:
                said += [str(caught), repr(caught), repr(caught.__cause__), repr(caught.__context__)]
    assert len(server.seen) >= 2
    assert all(seen.headers["Authorization"] == f"Bearer {KEY}" for seen in server.seen)
    captured = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, captured.out, captured.err])
    assert KEY not in everything
    assert KEY[:14] not in everything


@pytest.mark.parametrize(
    ("value", "sent"),
    [(None, None), ("", None), ("  \n", None), (f" {KEY}\n", f"Bearer {KEY}"), ("EMPTY", "Bearer EMPTY")],
)
def test_key_is_from_the_variable_that_is_named(value: str | None, sent: str | None, monkeypatch: pytest.MonkeyPatch):
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "another-secret")
    monkeypatch.delenv("MY_SERVER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_SERVER_KEY", value)
    with hostile_server(lambda _: says("an EMPTY street")) as server:
        answer = one_answer(server, key_variable="MY_SERVER_KEY")
    assert answer.text == "an EMPTY street"
    (seen,) = server.seen
    assert seen.headers.get("Authorization") == sent
    assert "another-secret" not in str(seen.headers)


@pytest.mark.parametrize(
    "value", ["sk-with space-inside", "sk-é-accent", "sk-line\nbreak-inside", "sk-\x00zero"[:3] + "\x7f"]
)
def test_key_that_cannot_be_sent(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with (
        hostile_server() as server,
        pytest.raises(BadServer, match="OPENAI_API_KEY: the key has characters") as caught,
    ):
        one_answer(server)
    assert value not in str(caught.value)
    assert "inside" not in repr(caught.value)


def test_key_is_not_taken_elsewhere_by_a_redirect_a_proxy_or_a_password_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with hostile_server() as other:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        (tmp_path / "netrc").write_text("default login me password other-secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        for status in (301, 302, 307, 308):
            moved = error(status, "moved", headers={"Location": f"{other.url}/chat/completions"})
            with hostile_server(lambda _, moved=moved: moved) as server, pytest.raises(BadServer, match="redirects"):
                one_answer(server)
            assert len(server.seen) == 1
            assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
        assert other.seen == []


# -- the check before a job


def test_check_names_the_models():
    with hostile_server(models=models_reply(MODEL, "other")) as server:
        assert check_server(config_of(server)) == (ServedModel(MODEL, 4096), ServedModel("other", 4096))
        with pytest.raises(BadServer, match=r"no model 'missing'; it has hostile-1, other$"):
            check_server(config_of(server, model="missing"))


@pytest.mark.parametrize(
    ("listed", "asked"), [("llava:latest", "llava"), ("models/gemini-2.5-flash", "gemini-2.5-flash")]
)
def test_check_knows_short_names(listed: str, asked: str):
    with hostile_server(models=models_reply(listed)) as server:
        assert check_server(config_of(server, model=asked))


@pytest.mark.parametrize("act", [Act(404), Act(405), Act(501), models_reply()])
def test_server_that_lists_no_models_is_asked_anyway(act: Act):
    with hostile_server(models=act) as server:
        assert check_server(config_of(server)) == ()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (HTML, "up to /v1"),
        (Act(body=b'{"data": 1}'), "up to /v1"),
        (Act(body=b'{"data": [{"id": 7}, null, {"id": "\\u001b[31mred"}]}'), "it has .31mred"),
        (error(401, "who are you"), "OPENAI_API_KEY"),
        (error(500, "broke"), "500: broke"),
        (Act(then="close"), "connection broke"),
        (Act(then="hang"), "within 0.2 s"),
    ],
)
def test_check_refuses(act: Act, words: str):
    with hostile_server(models=act) as server, pytest.raises(BadServer) as caught:
        check_server(config_of(server, timeout_s=0.2))
    assert words in str(caught.value).replace("[", ".")
    assert str(caught.value).isprintable()


# -- its config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_in_flight": 0}, "max_in_flight=0"),
        ({"attempts": 0}, "attempts=0"),
        ({"give_up_after": -1}, "give_up_after=-1"),
        ({"timeout_s": 0.0}, "timeout_s=0.0"),
        ({"timeout_s": float("nan")}, "timeout_s=nan"),
        ({"longest_pause_s": float("inf")}, "longest_pause_s=inf"),
        ({"backoff_s": -1.0}, "backoff_s=-1.0"),
        ({"backoff_s": float("nan")}, "backoff_s=nan"),
        ({"model": " "}, "model=' '"),
        ({"base_url": ""}, "must be an address as http"),
        ({"base_url": "localhost:8000"}, "must be an address as http"),
        ({"base_url": "file:///etc/passwd"}, "must be an address as http"),
        ({"base_url": "http://"}, "must be an address as http"),
        ({"base_url": "http://host:port/v1"}, "is no address"),
        ({"base_url": "http://[::1/v1"}, "is no address"),
        ({"base_url": "http://a b/v1"}, "must be an address as http"),
        ({"base_url": f"http://me:{KEY}@host/v1"}, "password"),
        ({"base_url": f"http://host/v1?key={KEY}"}, "query"),
        ({"key_variable": KEY}, "not the key"),
        ({"key_variable": ""}, "not the key"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], words: str):
    values: dict[str, Any] = {"base_url": "http://host/v1", "model": MODEL} | changes
    with pytest.raises(ValueError, match=r"\w") as caught:
        OpenAIConfig(**values)
    assert words in str(caught.value)
    assert KEY not in str(caught.value)


def test_slash_at_the_end_of_the_address():
    with hostile_server() as server:
        (answer,) = answers([request_of()], config_of(server, base_url=server.url + "/"))
    assert answer.error is None
