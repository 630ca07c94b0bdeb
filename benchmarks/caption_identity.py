"""Captions that land on another clip, where a server answers in any order and a tenth of all requests fails.

The server is real, on the loopback. First the client alone: each prompt has a mark, and the answer must have the same.
Then the whole job: each clip shows its own number in its picture, the server reads it there and says it, and a caption
must say the number of the clip whose row it is. In its first run the job is also refused some windows for good; the
same command again must fill in those and nothing else.
"""

from __future__ import annotations

import base64
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.caption_runs import JOB, arguments_for, by_server, output_of
from benchmarks.figures import finish
from benchmarks.marked_clips import clip_id_of, marked_store, number_in
from captioner.captions import KINDS
from captioner.fields import CaptionFields, to_json
from captioner.openai_api import OpenAIConfig, answers
from captioner.requests import Request
from curation.store import Store
from jobs.cli import parse
from tests.hostile_server import MODEL, Act, HostileServer, Script, Seen, echo, error, hostile_server, says

FAILURES = (
    error(429, "slow down"),
    error(429, "slow down", headers={"Retry-After": "0.05"}),
    error(500, "broken"),
    Act(503, b"<html>busy</html>", content_type="text/html"),
    Act(body=b"<html>welcome</html>", content_type="text/html"),
    Act(body=says("cut off").body[:50]),
    Act(body=b'{"choices": []}'),
    Act(then="close"),
    says(""),
)
BROKEN_SCHEMA = says('{"subjects": "one"')  # the job's own matter: it asks again with another seed
REFUSED_OF_100 = 7  # clips whose number ends so are refused in the first run
LATEST_S = 0.1
IN_FLIGHT = 32
LABEL = re.compile(r"\bk(\d+)\b")


@dataclass(frozen=True, slots=True)
class Options:
    """Count captions on the wrong clip under a server that shuffles and fails.

    Attributes:
        json: File for the figures, {name: value}.
        requests: How many requests the client alone makes.
        clips: How many clips the job captions; 0 leaves that part out.
        failing_share: Share of all requests that fail, each in one of ten ways.
        seed: Of delays and failures.
    """

    json: Path | None = None
    requests: int = 10_000
    clips: int = 10_000
    failing_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What was said of whom. `doubled` and `missing` count answers or rows, `silent` rows without a text."""

    right: int
    wrong: int
    missing: int
    doubled: int
    silent: int = 0

    def line(self) -> str:
        return f"{self.right} right, {self.wrong} wrong, {self.missing} missing, {self.doubled} doubled"


def shuffled(script: Script, failures: Sequence[Act], share: float, seed: int) -> Script:
    """Answers of a script, late by chance; a share of all requests fails instead."""
    chance = random.Random(seed)

    def shuffle(seen: Seen) -> Act:
        act = chance.choice(failures) if chance.random() < share else script(seen)
        return replace(act, delay_s=chance.uniform(0, LATEST_S))

    return shuffle


# -- the client alone


def asked_client(options: Options) -> tuple[Found, HostileServer]:
    asked = (
        Request(f"request-{n}", [{"role": "user", "content": f"Describe mark-{n}."}]) for n in range(options.requests)
    )
    counts: Counter[str] = Counter()
    right = wrong = 0
    with hostile_server(shuffled(echo, FAILURES, options.failing_share, options.seed)) as server:
        config = OpenAIConfig(server.url, MODEL, max_in_flight=IN_FLIGHT, attempts=12, backoff_s=0.01)
        for answer in answers(asked, config):
            counts[answer.request_id] += 1
            if answer.error is None:
                is_right = answer.text == f"I saw mark-{answer.request_id.removeprefix('request-')}."
                right, wrong = right + is_right, wrong + (not is_right)
    doubled = sum(count - 1 for count in counts.values())
    return Found(right, wrong, options.requests - right - wrong + doubled, doubled), server


# -- the job


def number_shown(seen: Seen) -> int | None:
    """What the first frame of a request shows."""
    for part in seen.body["messages"][0]["content"]:
        if part["type"] == "video_url":
            jpeg = base64.b64decode(part["video_url"]["url"].partition("base64,")[2].partition(",")[0])
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
            return None if picture is None else number_in(picture.astype(np.uint8))
    return None


def describe(seen: Seen) -> Act:
    number = number_shown(seen)
    if number is None:
        return error(400, "no number can be read in the picture")
    label = f"a box with the label k{number}"
    fields = CaptionFields(subjects=(label,), action=f"{label} turns around", setting="a warehouse")
    return says(to_json(fields))


def describe_some(seen: Seen) -> Act:
    number = number_shown(seen)
    refused = number is not None and number % 100 == REFUSED_OF_100
    return error(400, "this window is refused") if refused else describe(seen)


def run_job(store: Store, server: HostileServer) -> str:
    asked = by_server(server, "--max-in-flight", str(IN_FLIGHT), "--server-attempts", "12")
    began_s = time.monotonic()
    output_of(["-m", JOB, *arguments_for(store, *asked)])
    return f"{time.monotonic() - began_s:.0f} s"


def captions_found(store: Store, clips: int) -> Found:
    """Of every kind of every clip, whether its row says the clip's own number."""
    numbers = {clip_id_of(number): number for number in range(clips)}
    rows = store.open("captions").to_table(columns=["clip_id", "kind", "text"]).to_pylist()
    counts = Counter((row["clip_id"], row["kind"]) for row in rows)
    right = wrong = silent = 0
    for row in rows:
        said = {int(label) for label in LABEL.findall(row["text"] or "")}
        silent += not said
        right += said == {numbers.get(row["clip_id"])}
        wrong += bool(said) and said != {numbers.get(row["clip_id"])}
    expected = {(clip_id, kind) for clip_id in numbers for kind in KINDS}
    doubled = sum(count - 1 for count in counts.values())
    return Found(right, wrong, len(expected - counts.keys()), doubled, silent)


def captioned_by_job(options: Options) -> tuple[Found, Found, HostileServer]:
    """What is in the table after the first run, and after the second."""
    failures = (*FAILURES, BROKEN_SCHEMA)
    with tempfile.TemporaryDirectory() as name:
        store = marked_store(Path(name), options.clips)
        first = shuffled(describe_some, failures, options.failing_share, options.seed)
        with hostile_server(first) as server:
            took = run_job(store, server)
            before = captions_found(store, options.clips)
            print(f"first run, {took}: {before.line()}, {before.silent} silent", flush=True)
            asked_before = len(server.seen)
            server.script = shuffled(describe, failures, options.failing_share, options.seed + 1)
            took = run_job(store, server)
            after = captions_found(store, options.clips)
            asked = len(server.seen) - asked_before
            print(f"second run, {took}, {asked} requests: {after.line()}, {after.silent} silent", flush=True)
    return before, after, server


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.caption_identity")
    client, server = asked_client(options)
    print(f"client, {len(server.seen)} requests for {options.requests} answers: {client.line()}", flush=True)
    figures = {
        "requests": options.requests,
        "requests_sent": len(server.seen),
        "wrong_answers": client.wrong,
        "missing_answers": client.missing,
        "doubled_answers": client.doubled,
    }
    wrong, of = client.wrong, options.requests
    is_whole = not (client.missing or client.doubled)
    if options.clips:
        before, after, server = captioned_by_job(options)
        figures |= {
            "clips": options.clips,
            "captions": after.right + after.wrong + after.silent,
            "wrong_captions": after.wrong,
            "missing_captions": after.missing,
            "doubled_captions": after.doubled,
            "silent_captions": after.silent,
            "captions_missing_after_the_first_run": before.missing,
        }
        wrong, of = after.wrong, options.clips
        is_whole = is_whole and not (after.missing or after.doubled or after.silent > after.right / 100)
    what = "captions on the wrong clip" if options.clips else "answers to another request"
    line = (
        f"{what}, completion order shuffled, {options.failing_share:.0%} of requests failing: "
        f"{wrong} of {of} (to reach: 0 of 10000)"
    )
    finish(figures, [line], options.json)
    return 0 if is_whole and not (wrong or client.wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
