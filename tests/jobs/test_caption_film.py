"""`jobs.caption --film`: films of 44 minutes told from the captions in a store, by rules and by a server's model."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from curation.store import Store
from jobs.caption import CaptionOptions, main
from jobs.caption_film import groups_of
from tests.caption_stores import by_model, caption_row, captioned_clips, write_rows
from tests.hostile_server import Act, Seen, error, hostile_server, models_reply, says
from tests.jobs.running import kill, run, start, wait_until
from tests.score_stores import write_store

SCENES, MINUTES = 600, 44
TOPICS = {
    "harbor": "A fisherman mends a net on the pier|Boats rock beside the harbor wall|Gulls circle over crates of fish",
    "kitchen": "A cook kneads dough on a floured table|Bread bakes in a brick oven|Hands slice onions in the kitchen",
    "forest": "A deer steps between tall pines|Moss covers a fallen trunk in the forest|A woodpecker taps on bark",
    "desert": "A camel walks along a dune|Sand blows over dry stones in the desert|A tent flaps under a pale sky",
}
QUESTIONS = ("Where does a camel walk?", "Is there a spaceship?")
MODEL = "teller"
SCENE = re.compile(r'^Scene (\d+), [\d:]+: "([^"]*)"', re.MULTILINE)
LINE = re.compile(r"^(?:Scene|Line) (\d+)\b", re.MULTILINE)
Row = dict[str, Any]


def films_store(folder: Path, films: int = 1, *, scenes: int = SCENES, skip: int = 0) -> tuple[Store, list[Row]]:
    """Sources of 44 minutes, topic after topic. Every tenth clip is not kept; the last `skip` sources have no captions.

    The first film has captions of two captioners, and of every 25th clip none."""
    chance = random.Random(3)
    clips = captioned_clips(films * scenes, seed=2)
    seconds = MINUTES * 60 / scenes
    captions: list[Row] = []
    for number, clip in enumerate(clips):
        source, place = divmod(number, scenes)
        start_s = place * seconds
        clip |= {"source_id": f"{source:064x}", "start_s": start_s, "duration_s": seconds, "keep": place % 10 != 9}
        clip |= {"start_pts": round(1000 * start_s), "end_pts": round(1000 * (start_s + seconds))}
        text = chance.choice(list(TOPICS.values())[place * len(TOPICS) // scenes].split("|"))
        if source >= films - skip or (source == 0 and place % 25 == 0):
            continue
        captions.append(by_model(clip, "descriptive", f"{text}, number {place}."))
        if source == 0:
            captions.append(caption_row(clip, "descriptive", f"A dark picture, number {place}."))
    store = write_store(folder, clips)
    write_rows(store, "captions", captions)
    return store, clips


def told(store: Store) -> list[Row]:
    rows = store.open("films").to_table().to_pylist()
    assert len({row["film_id"] for row in rows}) == len(rows)
    return sorted(rows, key=lambda row: (row["source_id"], row["kind"], row["position"], row["film_id"]))


def without_run(rows: list[Row]) -> list[Row]:
    return [{**row, "run_id": ""} for row in rows]


def check_film(rows: list[Row], clips: list[Row], questions: int, chapters: int = 3) -> None:
    """What holds for each telling: one synopsis, chapters that cover the kept clips without gap, answers with times."""
    by_id = {clip["clip_id"]: clip for clip in clips}
    told_chapters = [row for row in rows if row["kind"] == "chapter"]
    assert [row["kind"] for row in rows].count("synopsis") == 1
    assert [row["kind"] for row in rows].count("answer") == questions
    assert len(told_chapters) >= chapters
    assert all(one["end_s"] == other["start_s"] for one, other in pairwise(told_chapters))
    told_clips = [clip for chapter in told_chapters for clip in chapter["clip_ids"]]
    kept = [clip for clip in clips if clip["source_id"] == rows[0]["source_id"] and clip["keep"]]
    assert told_clips == [clip["clip_id"] for clip in sorted(kept, key=lambda clip: clip["start_s"])]
    for answer in (row for row in rows if row["kind"] == "answer" and row["clip_ids"]):
        first = by_id[answer["clip_ids"][0]]
        assert (answer["start_s"], first["source_id"]) == (first["start_s"], answer["source_id"])


# -- by rules


def test_a_film_of_44_minutes_is_told_by_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, clips = films_store(tmp_path, films=3, skip=1)
    asked = ["--store", store.uri, "--film", "--questions", *QUESTIONS]
    assert main(asked) == 0
    said = capsys.readouterr().out
    rows = told(store)
    sources = sorted({row["source_id"] for row in rows})
    assert len(sources) == 2
    for source_id in sources:
        check_film([row for row in rows if row["source_id"] == source_id], clips, len(QUESTIONS))
    answers = [row for row in rows if row["kind"] == "answer"]
    assert [bool(row["clip_ids"]) for row in answers] == [True, False] * 2
    by_id = {clip["clip_id"]: clip for clip in clips}
    assert {by_id[clip]["start_s"] >= MINUTES * 45 for row in answers for clip in row["clip_ids"]} == {True}
    assert {(row["captioner"], row["model"]) for row in rows} == {("facts", "facts")}
    assert all("dark picture" not in row["text"] for row in rows), "what was seen is preferred"
    kept = sum(clip["keep"] for clip in clips)
    lacking = kept / 3 + sum(c["keep"] for c in clips[:SCENES:25])
    assert f"by vllm tiny-qwen2-vl; {lacking:.0f} of {kept} clips have none" in said
    assert "3 sources: 2 told, 0 were told before from the same captions, 1 have no captions" in said
    assert f"without captions: {2:064x}" in said
    assert re.search(r"\n  0:\d\d:\d\d to 0:\d\d:\d\d  \w", said), "chapters with their times"

    version = store.open("films").version
    code, said = run("jobs.caption", *asked)
    assert code == 0
    assert "film: 3 of 3 sources" in said
    assert "nothing to tell" in said
    assert (told(store), store.open("films").version) == (rows, version)
    (first, second) = store.open("runs").to_table().to_pylist()
    assert (first["job"], first["state"], json.loads(first["counts"])["told"]) == ("caption", "finished", 2)
    assert json.loads(second["counts"])["complete"] == 2


def test_new_captions_are_told_again_and_the_older_telling_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, clips = films_store(tmp_path, films=2, scenes=60)
    assert main(["--store", store.uri, "--film"]) == 0
    before = told(store)
    write_rows(store, "captions", [caption_row(clips[0], "descriptive", "A volcano erupts at night.")])
    assert main(["--store", store.uri, "--film"]) == 0
    assert "1 told, 1 were told before" in capsys.readouterr().out
    after = told(store)
    assert [row for row in after if row["run_id"] == before[0]["run_id"]] == before
    new = [row for row in after if row["run_id"] != before[0]["run_id"]]
    assert {row["source_id"] for row in new} == {clips[0]["source_id"]}
    check_film(new, clips, 0)


def test_only_so_many_sources_of_some_clips(tmp_path: Path):
    store, clips = films_store(tmp_path, films=3, scenes=60)
    assert main(["--store", store.uri, "--film", "--limit", "2", "--where", "keep AND start_s < 1320"]) == 0
    rows = told(store)
    assert {row["source_id"] for row in rows} == {f"{source:064x}" for source in range(2)}
    starts = {clip["clip_id"]: clip["start_s"] for clip in clips}
    assert max(starts[clip] for row in rows for clip in row["clip_ids"]) < 1320


def test_groups_have_so_many_scenes_and_every_source_once():
    sizes = {f"s{n}": size for n, size in enumerate((5, 5, 30, 1, 1, 9, 10))}
    groups = list(groups_of(sizes, 10))
    assert groups == [["s0", "s1"], ["s2"], ["s3", "s4"], ["s5"], ["s6"]]
    assert list(groups_of({}, 10)) == []
    assert max(map(len, groups_of(dict.fromkeys(map(str, range(1200)), 1), 10**6))) == 500


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"questions": ("Who?",)}, "questions"),
    ({"questions": ("Who?", " "), "film": True}, "questions"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED)
def test_impossible_options_are_refused(options: dict[str, Any], named: str):
    with pytest.raises(ValueError, match=named):
        CaptionOptions("store", **options)


@pytest.mark.parametrize("option", ["--answer-tokens", "--max-chapters", "--scenes-at-once"])
def test_impossible_sizes_are_refused(tmp_path: Path, option: str):
    with pytest.raises(SystemExit) as ended:
        main(["--store", str(tmp_path), "--film", option, "0"])
    assert ended.value.code == 2


# -- by a server's model


def telling(seen: Seen) -> Act:
    """A model that copies: two chapters in words that were shown, an answer where a caption has a camel."""
    shown = seen.body["messages"][-1]["content"]
    numbers = [int(number) for number in LINE.findall(shown)]
    words = re.findall(r'"([^"]{20,})"', shown)
    first, middle, last = numbers[0], numbers[len(numbers) // 2], numbers[-1]
    chapter = {"title": "Part", "summary": words[0][:200]}
    chapters = [{**chapter, "first": first, "last": middle - 1}, {**chapter, "first": middle, "last": last}]
    answers = []
    if camels := [int(number) for number, text in SCENE.findall(shown) if "camel" in text]:
        answers = [{"question": 1, "answer": "A camel walks along a dune.", "scenes": camels[:12]}]
    if cited := re.findall(r'^Answer to question 1: "[^"]*" \(scenes ([\d, ]+)\)', shown, re.MULTILINE):
        answers = [{"question": 1, "answer": "A camel walks along a dune.", "scenes": [int(cited[0].split(",")[0])]}]
    return says(json.dumps({"summary": words[0][:400], "chapters": chapters, "answers": answers}))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries."""
    monkeypatch.setattr("captioner.openai_server.pause_s", lambda *_: 0.0)


def served(length: int | None = 8192) -> Act:
    data = [{"id": MODEL, "object": "model", **({"max_model_len": length} if length else {})}]
    return Act(body=json.dumps({"object": "list", "data": data}).encode())


def asked_of(url: str, store: Store, *more: str) -> list[str]:
    known = ["--store", store.uri, "--film", "--model", MODEL, "--server", url, "--questions", *QUESTIONS]
    return [*known, "--server-attempts", "2", *more]


def test_a_model_tells_films_level_by_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store, clips = films_store(tmp_path, films=2)
    small = ("--context-tokens", "5000", "--max-chapters", "6")
    with hostile_server(telling, models=served()) as server:
        assert main(asked_of(server.url, store, *small)) == 0
        requests = [seen for seen in server.seen if seen.body]
        rows = told(store)
        said = capsys.readouterr().out
        assert main(asked_of(server.url, store, *small)) == 0
        assert [seen for seen in server.seen if seen.body] == requests, "nothing is asked again"
    assert "nothing to tell" in capsys.readouterr().out
    assert told(store) == rows
    of_scenes = [seen for seen in requests if SCENE.search(seen.body["messages"][-1]["content"])]
    assert 8 < len(of_scenes) < len(requests), "several parts, and a level above them"
    longest = max(len(json.dumps(seen.body["messages"])) for seen in requests)
    assert longest < 3 * 5000, "all within the context"
    for source_id in (f"{source:064x}" for source in range(2)):
        film = [row for row in rows if row["source_id"] == source_id]
        check_film(film, clips, len(QUESTIONS), chapters=2)
        assert {(row["captioner"], row["model"]) for row in film} == {("openai", MODEL)}
        camel, spaceship = [row for row in film if row["kind"] == "answer"]
        assert camel["text"].startswith("A camel walks along a dune.")
        assert camel["start_s"] >= MINUTES * 45
        assert not spaceship["clip_ids"]
    assert "2 sources: 2 told" in said
    assert not [row for row in rows if {"joined", "extracted"} & set(row["flags"])], "all by the model"
    assert "by vllm tiny-qwen2-vl" in said


def test_captions_of_the_model_itself_are_preferred(tmp_path: Path):
    store, clips = films_store(tmp_path, scenes=40)
    kept = [clip for clip in clips if clip["keep"]]
    own = [
        by_model(c, "descriptive", f"A submarine dives, {c['start_s']}.", captioner="openai", model=MODEL) for c in kept
    ]
    write_rows(store, "captions", own)
    with hostile_server(telling, models=served()) as server:
        assert main(asked_of(server.url, store)) == 0
        (seen,) = [seen for seen in server.seen if seen.body]
    assert len(SCENE.findall(seen.body["messages"][-1]["content"])) == len(kept)
    assert "submarine" in told(store)[-1]["text"]


def first_of_film(number: int) -> Callable[[Seen], bool]:
    """Whether a request is of the film whose captions have this mark."""
    return lambda seen: f"film {number} " in seen.body["messages"][-1]["content"]


def marked_store(folder: Path, films: int, scenes: int = 40) -> Store:
    """Films whose captions say which film they are of."""
    clips = captioned_clips(films * scenes, seed=4)
    captions = []
    for number, clip in enumerate(clips):
        source, place = divmod(number, scenes)
        clip |= {"source_id": f"{source:064x}", "start_s": 4.0 * place, "duration_s": 4.0, "keep": True}
        captions.append(by_model(clip, "descriptive", f"In film {source} a kite climbs higher, number {place}."))
    store = write_store(folder, clips)
    write_rows(store, "captions", captions)
    return store


@pytest.mark.usefixtures("quick")
def test_a_film_that_the_server_fails_for_is_left_for_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = marked_store(tmp_path, films=3)
    is_second = first_of_film(1)

    def script(seen: Seen) -> Act:
        return error(500, "out of order") if is_second(seen) else telling(seen)

    with hostile_server(script, models=served()) as server:
        assert main(asked_of(server.url, store)) == 1, "a third is more than is allowed"
    said = capsys.readouterr().out
    assert {row["source_id"] for row in told(store)} == {f"{source:064x}" for source in (0, 2)}
    assert "3 sources: 2 told, 0 were told before from the same captions, 0 have no captions, 1 left" in said
    assert "out of order" in said
    before = told(store)
    with hostile_server(telling, models=served()) as server:
        assert main(asked_of(server.url, store)) == 0
        assert len([seen for seen in server.seen if seen.body]) == 1
    assert [row for row in told(store) if row["source_id"] != f"{1:064x}"] == before
    assert len({row["source_id"] for row in told(store)}) == 3


def test_what_a_model_says_wrong_is_told_by_rules_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = marked_store(tmp_path, films=2)
    is_second = first_of_film(1)

    def script(seen: Seen) -> Act:
        return says("I would rather not.") if is_second(seen) else telling(seen)

    with hostile_server(script, models=served()) as server:
        assert main(asked_of(server.url, store)) == 0
    assert "1 were told by rules" in capsys.readouterr().out
    flags = {row["source_id"]: row["flags"] for row in told(store) if row["kind"] == "synopsis"}
    assert ["extracted" in found for _, found in sorted(flags.items())] == [False, True]


@pytest.mark.parametrize(
    ("models", "more", "named"),
    [
        (served(2048), (), "context_tokens=2048"),
        (served(2048), ("--answer-tokens", "4000"), "context_tokens=2048"),
        (served(8192), ("--context-tokens", "9000"), "the model reads at most 8192"),
        (served(None), ("--context-tokens", "100"), "context_tokens=100"),
        (served(8192), ("--temperature", "3"), "temperature=3"),
        (models_reply("another"), (), "no model 'teller'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], models: Act, more: tuple[str, ...], named: str
):
    store = marked_store(tmp_path, films=1, scenes=8)
    with hostile_server(telling, models=models) as server:
        assert main(asked_of(server.url, store, *more)) == 2
        assert not [seen for seen in server.seen if seen.body]
    assert named in capsys.readouterr().err
    assert store.open("runs").count_rows() == 0


def test_killed_at_any_time_the_same_command_ends_the_same(tmp_path: Path):
    """Killed while the first film is told, then while the second is, each time at another request."""
    store, whole = marked_store(tmp_path / "killed", films=3), marked_store(tmp_path / "whole", films=3)
    more = ("--scenes-at-once", "40")  # a film by itself
    with hostile_server(telling, models=served()) as server:
        assert main(asked_of(server.url, whole, *more)) == 0
    expected = told(whole)
    for number in range(2):
        is_hung = first_of_film(number)
        script = lambda seen, hangs=is_hung: Act(then="hang") if hangs(seen) else telling(seen)  # noqa: E731
        with hostile_server(script, models=served()) as server:
            process = start("jobs.caption", *asked_of(server.url, store, *more))
            wait_until(lambda s=server, h=is_hung: any(seen.body and h(seen) for seen in s.seen), process, "the film")
            kill(process)
        assert len({row["source_id"] for row in told(store)}) == number
    with hostile_server(telling, models=served()) as server:
        assert main(asked_of(server.url, store, *more)) == 0
        assert len([seen for seen in server.seen if seen.body]) == 2, "what was told is not asked again"
    assert without_run(told(store)) == without_run(expected)
    states = sorted(row["state"] for row in store.open("runs").to_table().to_pylist())
    assert states == ["finished", "interrupted", "interrupted"]
