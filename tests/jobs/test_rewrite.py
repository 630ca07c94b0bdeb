"""`jobs.rewrite`: prompts in, descriptions out, without a model and by a server's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.rewrite import RewriteOptions, main
from tests.hostile_server import Act, Seen, error, hostile_server, models_reply, says

MODEL = "writer"
LONG = " ".join(f"word{number}" for number in range(50))
GOOD = "A bright red car stands on a wide sandy beach in soft evening light while small waves roll in behind it."
WITHOUT_RED = GOOD.replace(" red", "")


def rewrite(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, what it printed as JSON, what it said beside."""
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def described(text: str) -> Act:
    return says(json.dumps({"description": text}))


def test_without_a_model_the_phrases_stay(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    file = tmp_path / "prompts.txt"
    file.write_text('\ufeffcamera pans left over a city\r\n\r\n  a sign that says "OPEN <b>"  \n' + LONG, "utf-8")
    code, rows, said = rewrite(capsys, "--prompt", "a red car", "--file", str(file))
    assert code == 0
    prompts = ["a red car", "camera pans left over a city", 'a sign that says "OPEN <b>"', LONG]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["by"] for row in rows] == ["slots", "slots", "slots", "unchanged"]
    assert '"OPEN <b>"' in rows[2]["text"]
    assert rows[3]["text"] == LONG
    assert "4 prompts" in said
    assert main(["--prompt", "a red\x1b[31m car\u202e"]) == 0
    out = capsys.readouterr().out
    assert "no model" in out
    assert not any(c in out for c in "\x1b\u202e"), "a terminal is not given its orders"


def test_a_model_writes_and_what_it_loses_is_refused(capsys: pytest.CaptureFixture[str]):
    def script(seen: Seen) -> Act:
        prompt = seen.body["messages"][-1]["content"]
        if "dog" in prompt:
            return says("no JSON")
        return described(WITHOUT_RED if len(server.seen) <= 4 else GOOD)

    with hostile_server(script, models_reply(MODEL)) as server:
        asked = ["--prompt", "a red car on a beach", "a dog", LONG, "--server", server.url, "--model", MODEL]
        code, rows, said = rewrite(capsys, *asked, "--max-in-flight", "1")
    assert code == 0
    assert [row["by"] for row in rows] == ["model", "slots", "unchanged"]
    assert rows[0]["text"] == GOOD
    assert 1 <= len(rows[0]["problems"]) < 3
    assert "red" in rows[0]["problems"][0]
    assert rows[1]["problems"] == ["not the JSON that was asked for"] * 3
    assert "1 by the model" in said
    with hostile_server(script, models_reply(MODEL)) as server:
        assert main(["--prompt", "a dog", "--server", server.url, "--model", MODEL]) == 0
    assert "answer 3 refused: not the JSON" in capsys.readouterr().out


def test_nothing_is_asked_where_nothing_is_to_be_rewritten(capsys: pytest.CaptureFixture[str]):
    code, rows, _ = rewrite(capsys, "--prompt", LONG, "--server", "http://127.0.0.1:1/v1", "--model", MODEL)
    assert (code, rows[0]["by"]) == (0, "unchanged")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": ("a",), "captioner": "vllm"}, "model"),
    ({"prompt": ("a",), "captioner": "openai", "model": "m"}, "server"),
    ({"prompt": ("a",), "captioner": "vllm", "model": "m", "server": "http://h/v1"}, "server"),
    ({"prompt": ("a",), "captioner": "slots", "model": "m"}, "model"),
    ({"prompt": ("a",), "model": "m", "server": "nowhere"}, "server=.nowhere"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED)
def test_impossible_options_are_refused(options: dict[str, Any], named: str):
    with pytest.raises(ValueError, match=named):
        RewriteOptions(**options)


def test_what_cannot_be_read_or_asked_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    binary, blank = tmp_path / "binary", tmp_path / "blank"
    binary.write_bytes(b"\xff\xfe\x00")
    blank.write_text("\n \n")
    for arguments, named in [
        (["--file", str(tmp_path / "none")], "file="),
        (["--file", str(binary)], "cannot be read as text"),
        (["--file", str(blank)], "has no prompt"),
        (["--prompt", "a car", "?!"], "prompt='?!'"),
        (["--prompt", "a car", "--model", str(tmp_path / "none")], "no model directory"),
        (["--prompt", "a car", "--model", str(tmp_path)], "config.json"),
        (["--prompt", "a car", "--model", MODEL, "--server", "http://127.0.0.1:1/v1"], "no server answers"),
    ]:
        code, rows, said = rewrite(capsys, *arguments)
        assert (code, rows) == (2, [])
        assert named in said


def test_a_server_without_that_model_is_refused_and_its_faults_cost_no_prompt(capsys: pytest.CaptureFixture[str]):
    with hostile_server(lambda seen: error(400, "too odd"), models_reply("another", MODEL)) as server:
        asked = ["--prompt", "a red car", "--server", server.url]
        assert rewrite(capsys, *asked, "--model", "none")[0] == 2
        code, rows, _ = rewrite(capsys, *asked, "--model", MODEL, "--server-attempts", "1")
    assert (code, rows[0]["by"], rows[0]["text"]) == (0, "slots", "A red car.")
    assert rows[0]["problems"] == ["no answer: answered 400: too odd"] * 3
