"""The captioning job as its users start it, by facts and by a server that does what its script says: each caption on
its own clip, each once, whatever goes wrong."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from captioner.captions import KINDS
from captioner.hostile_text import has_control_characters, has_markup
from captioner.windows import WindowConfig
from curation.lease import Lease
from curation.store import Store
from jobs.cluster import connect_for_data
from tests.captioning import (
    asking_of,
    by_server,
    caption,
    codes_of_windows,
    copied,
    curated,
    damage,
    fields_for,
    frames_code,
    good,
    kept_clips,
    rows_of,
    runs_of,
)
from tests.hostile_server import MODEL, Act, Seen, error, hostile_server, says
from tests.jobs.running import end, start, wait_until

JOB = "jobs.caption"
KEY = "sk-secret-9876543210abcdef"


@pytest.fixture(scope="module")
def footage(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("takes") / "footage"
    shutil.copytree(small_footage, folder)
    return folder


@pytest.fixture(scope="module")
def base(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = curated(footage, tmp_path_factory.mktemp("base"))
    assert len(kept_clips(store)) == 4
    return store


@pytest.fixture
def store(base: Store, tmp_path: Path) -> Store:
    return copied(base, tmp_path)


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    """One Ray for all jobs that run in this process, started by a process that knows the server's key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        connect_for_data()
        yield
        ray.shutdown()


def windows_once(store: Store) -> set[tuple[str, int]]:
    """The windows, by clip and start, that have captions, after checking that each has one of each kind, and so does
    each whole clip."""
    rows = rows_of(store)
    found = Counter((row["clip_id"], row["window_start_pts"], row["window_end_pts"], row["kind"]) for row in rows)
    assert set(found.values()) == {1}
    assert len({row["caption_id"] for row in rows}) == len(rows)
    kinds = Counter(key[:3] for key in found)
    assert set(kinds.values()) == {3}
    return {(clip_id, start) for clip_id, start, _ in kinds}


# -- facts, and what came with the footage


def test_facts_are_the_default_and_said_once(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    assert caption(store) == 0
    said = capfd.readouterr().out
    assert "captions by facts: what was measured, no model" in said
    assert "4 clips captioned, 0 had their captions" in said
    rows = rows_of(store)
    assert {(row["clip_id"], row["kind"]) for row in rows} == {(c, kind) for c in kept_clips(store) for kind in KINDS}
    for row in rows:
        assert (row["text"] is None) == (row["flags"] == ["empty"])
        assert (row["captioner"], row["model"], row["window_index"]) == ("facts", "facts", None)
    assert sum(row["text"] is not None for row in rows) >= 8
    version = store.open("captions").version
    assert caption(store) == 0
    assert "0 clips captioned, 4 had their captions" in capfd.readouterr().out
    assert store.open("captions").version == version
    first, second = runs_of(store)
    assert (first["state"], first["counts"]["captioned"]) == ("finished", 4)
    assert (second["state"], second["counts"]["complete"]) == ("finished", 4)
    assert not ray.is_initialized(), "that needs no cluster"


def test_only_what_is_asked_for(store: Store) -> None:
    some = kept_clips(store)[1]
    assert caption(store, "--kinds", "short", "--where", f"clip_id = '{some}'") == 0
    assert [(row["clip_id"], row["kind"]) for row in rows_of(store)] == [(some, "short")]
    assert caption(store, "--limit", 2, "--kinds", "motion") == 0
    assert len(rows_of(store, kind="motion")) == 2
    assert caption(store) == 0
    assert len(rows_of(store)) == 12
    assert {clip_id for clip_id, _ in windows_once(store)} == set(kept_clips(store))


def test_a_limit_is_on_all_that_is_written(store: Store, tmp_path: Path, on_ray: None) -> None:
    """On the clips that are looked at, not on those that lack something: the same ones by every captioner."""
    names = "".join(f"take_{number}.mp4,Take {number}.\n" for number in range(4))
    (tmp_path / "texts.csv").write_text(f"uri,text\n{names}")
    limited = ["--originals", tmp_path / "texts.csv", "--limit", 2]
    assert caption(store, *limited, "--kinds", "short") == 0
    first = {row["clip_id"] for row in rows_of(store)}
    assert len(first) == 2
    assert {row["clip_id"] for row in rows_of(store, kind="original")} == first
    with hostile_server(good) as server:
        for window_s in (16, 0.5):  # the second also gives captions of whole clips, from those of their windows
            assert caption(store, *by_server(server), *limited, "--window-s", window_s) == 0
            assert {row["clip_id"] for row in rows_of(store, model=MODEL)} == first
        asked = len(server.seen)
        assert caption(store, *by_server(server), *limited, "--window-s", 0.5) == 0
        assert len(server.seen) == asked + 1, "its list of models"
    assert {row["clip_id"] for row in rows_of(store)} == first
    assert caption(store, *limited[:2], "--kinds", "short") == 0
    assert {row["clip_id"] for row in rows_of(store, kind="original")} == set(kept_clips(store))


def test_clips_without_video_are_not_captioned(store: Store) -> None:
    without = store.open("clips").count_rows("video_bytes IS NULL")
    assert without > 0
    assert caption(store, "--where", "true") == 0
    assert {row["clip_id"] for row in rows_of(store)} == set(kept_clips(store))


@pytest.mark.parametrize("where", ["false", "reason = 'no such reason'"])
def test_a_condition_that_nothing_meets_is_no_fault(
    store: Store, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    assert caption(store, "--where", where) == 0
    with hostile_server() as server:
        assert caption(store, *by_server(server), "--where", where) == 0
        assert len(server.seen) == 1, "its list of models"
    assert "0 clips captioned" in capfd.readouterr().out
    assert rows_of(store) == []


def test_a_store_without_clips(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    assert caption(store) == 0
    with hostile_server() as server:
        assert caption(store, *by_server(server)) == 0
    assert "nothing to ask" in capfd.readouterr().out
    assert rows_of(store) == []


SIDE_FILES = {
    "take_0.txt": "A <b>bold</b> harbour at\u202e dawn &amp; dusk.\n",
    "take_1.json": '{"caption": "Two dogs play."}',
    "take_2.vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\nThe ships come in.\n",
    "take_3.json": '{"caption": ',
}


@pytest.fixture
def side_files(footage: Path) -> Iterator[None]:
    for name, text in SIDE_FILES.items():
        (footage / name).write_text(text)
    yield
    for name in SIDE_FILES:
        (footage / name).unlink(missing_ok=True)


@pytest.mark.usefixtures("side_files")
def test_text_that_came_with_the_footage_is_kept(
    store: Store, footage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert caption(store, "--kinds", "short") == 0
    said = capfd.readouterr().out
    texts = {row["text"] for row in rows_of(store, kind="original")}
    assert texts == {"A bold harbour at dawn & dusk.", "Two dogs play.", "The ships come in."}
    assert "take_3.json" in said, "a bad side file costs a line"
    assert "3 clips have text that came with the footage, 3 of it new" in said
    assert {row["captioner"] for row in rows_of(store, kind="original")} == {"side_file"}
    version = store.open("captions").version
    assert caption(store, "--kinds", "short") == 0
    assert "3 clips have text that came with the footage, 0 of it new" in capfd.readouterr().out
    assert store.open("captions").version == version
    (footage / "take_1.json").write_text('{"caption": "Two cats play."}')
    assert caption(store, "--kinds", "short") == 0
    texts = {row["text"] for row in rows_of(store, kind="original")}
    assert {"Two dogs play.", "Two cats play."} <= texts, "what was there stays"
    assert caption(store, "--kinds", "short", "--originals", "none") == 0


def test_a_table_of_originals(store: Store, tmp_path: Path) -> None:
    (source,) = store.open("sources").to_table(filter="uri LIKE '%take_2.mp4'")["source_id"].to_pylist()
    (clip,) = store.open("clips").to_table(["clip_id"], f"keep AND source_id = '{source}'")["clip_id"].to_pylist()
    (tmp_path / "texts.csv").write_text(f"clip_id,uri,text\n{clip},,Of one clip.\n,take_1.mp4,Of a file.\n")
    for _ in range(2):
        assert caption(store, "--kinds", "short", "--originals", tmp_path / "texts.csv") == 0
    originals = rows_of(store, kind="original")
    assert {row["text"] for row in originals} == {"Of one clip.", "Of a file."}
    assert {row["captioner"] for row in originals} == {"table"}
    assert len({row["caption_id"] for row in originals}) == len(originals)


def test_two_runs_at_once(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    with Lease.take(store, "captions", "other-run", tell=print):
        assert caption(store) == 3
    assert "run other-run" in capfd.readouterr().err
    assert rows_of(store) == []
    assert caption(store) == 0


# -- by a server


def shuffled(seen: Seen) -> Act:
    act = good(seen)
    return Act(body=act.body, delay_s=random.Random(seen.number).uniform(0, 0.15))


SMALL = ("--window-s", "0.6", "--sample-fps", "5")
ASKED = asking_of(windows=WindowConfig(window_s=0.6, sample_fps=5.0))


@pytest.mark.usefixtures("on_ray")
def test_each_caption_is_on_its_own_clip(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """Answers come in another order, some after refusals; each tells which frames it is of."""

    def script(seen: Seen) -> Act:
        return error(429, "slow down") if seen.number % 5 == 0 and seen.number < 40 else shuffled(seen)

    codes = codes_of_windows(store, ASKED)
    assert len(codes) > 8
    assert len(set(codes.values())) == len(codes)
    with hostile_server(script) as server:
        assert caption(store, *by_server(server), *SMALL, "--server-attempts", 5) == 0
        said = capfd.readouterr().out
        asked = len(server.seen)
        rows = rows_of(store)
        for (clip_id, start), code in codes.items():
            mine = [row for row in rows if (row["clip_id"], row["window_start_pts"]) == (clip_id, start)]
            texts = [row["text"] for row in mine if row["kind"] == "short" and row["window_index"] is not None]
            assert len(texts) == 1
            assert all(code in text for text in texts)
        whole = [row for row in rows if row["window_index"] is None]
        assert Counter(row["kind"] for row in whole) == dict.fromkeys(KINDS, 4)
        for row in whole:
            mine = {code for (clip_id, _), code in codes.items() if clip_id == row["clip_id"]}
            assert any(code in row["text"] for code in mine) or row["kind"] == "motion"
            assert not any(code in row["text"] for code in set(codes.values()) - mine)
        assert windows_once(store) == set(codes)
        assert len(rows) == 3 * (len(codes) + 4)
        assert f"{len(codes)} windows were asked about: {len(codes)} clean, 0 flagged, 0 failed" in said
        counts = runs_of(store)[-1]["counts"]
        assert counts["clean"] == counts["to_ask"] == len(codes)
        assert (counts["tokens_in"], counts["tokens_out"]) == (7 * len(codes), 3 * len(codes))

        version = store.open("captions").version
        assert caption(store, *by_server(server), *SMALL) == 0
        assert len(server.seen) == asked + 1, "nothing but its list of models"
        assert "nothing to ask" in capfd.readouterr().out
        assert store.open("captions").version == version


@pytest.mark.usefixtures("on_ray")
def test_kinds_that_are_added_need_no_question(store: Store) -> None:
    with hostile_server(good) as server:
        assert caption(store, *by_server(server), "--kinds", "short", "--window-s", 1.1) == 0
        first = rows_of(store)
        assert {row["kind"] for row in first} == {"short"}
        asked = len(server.seen)
        for _ in range(2):
            assert caption(store, *by_server(server), "--window-s", 1.1) == 0
        assert [seen.path for seen in server.seen[asked:]] == ["/v1/models"] * 2
    rows = rows_of(store)
    assert len(rows) == 3 * len(first)
    assert [row for row in rows if row["kind"] == "short"] == first
    assert windows_once(store)


def marked_up(seen: Seen) -> Act:
    code = frames_code(seen.body)
    return says(fields_for(code, setting="a <script>alert(1)</script> **plain**\u202e\x00", background="hills\x1b[31m"))


def test_what_is_no_text_is_cleaned(store: Store, on_ray: None) -> None:
    with hostile_server(marked_up) as server:
        assert caption(store, *by_server(server), "--attempts", 1) == 0
    rows = rows_of(store)
    assert len(rows) == 12
    for row in rows:
        for text in (row["text"], *json.loads(row["fields"]).values()):
            for value in text if isinstance(text, list) else [text]:
                assert not has_markup(value or "")
                assert not has_control_characters(value or "")


def test_what_breaks_the_schema_is_asked_again_and_kept(
    store: Store, on_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """One clip is well at the second attempt, another never; two are well at once."""
    codes = codes_of_windows(store, asking_of())
    late, never = sorted(codes.values())[:2]
    tries: Counter[str] = Counter()

    def script(seen: Seen) -> Act:
        code = frames_code(seen.body)
        tries[code] += 1
        if code == never or (code == late and tries[code] == 1):
            return says('{"subjects": "no list", <b>bad</b>')
        return good(seen)

    with hostile_server(script) as server:
        assert caption(store, *by_server(server), "--attempts", 3, "--seed", 40) == 0
        assert tries == {code: 3 if code == never else 2 if code == late else 1 for code in codes.values()}
        asked = [seen for seen in server.seen if seen.body]
        assert sorted({seen.body["seed"] for seen in asked if frames_code(seen.body) == never}) == [40, 41, 42]
        said = capfd.readouterr().out
        assert "attempt 2 of 3" in said
        assert "4 windows were asked about: 3 clean, 1 flagged, 0 failed" in said
        assert "flagged, schema: 1" in said
        by_clip = {code: clip_id for (clip_id, _), code in codes.items()}
        bad, good_rows = rows_of(store, clip_id=by_clip[never]), rows_of(store, clip_id=by_clip[late])
        assert [(row["text"], row["flags"], row["attempts"]) for row in bad] == [(None, ["schema"], 3)] * 3
        assert {(row["flags"] == [], row["attempts"], row["seed"]) for row in good_rows} == {(True, 2, 41)}
        count = len(server.seen)
        assert caption(store, *by_server(server)) == 0
        assert len(server.seen) == count + 1, "what is kept with a flag is done"


NOTHING: dict[str, Act] = {
    "500": error(500, "it broke"),
    "400": error(400, "too long"),
    "HTML": Act(body=b"<html>hello</html>", content_type="text/html"),
    "nothing": Act(),
    "an empty answer": says(""),
    "no choices": Act(body=b'{"choices": []}'),
    "a closed connection": Act(then="close"),
}


def test_what_gets_no_answer_is_counted_and_made_good(
    store: Store, on_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every way of getting none; the others are kept, and the same command asks for what is left."""
    codes = codes_of_windows(store, ASKED)
    bad = dict(zip(sorted(codes.values()), NOTHING, strict=False))
    assert len(bad) == len(NOTHING) < len(codes)

    def script(seen: Seen) -> Act:
        why = bad.get(frames_code(seen.body))
        return NOTHING[why] if why else good(seen)

    with hostile_server(script) as server:
        assert caption(store, *by_server(server), *SMALL) == 1, "more than a tenth failed"
        said = capfd.readouterr().out
        assert f"{len(codes)} windows were asked about: {len(codes) - 7} clean, 0 flagged, 7 failed" in said
        assert "asked about again by the same command" in said
        counts = runs_of(store)[-1]["counts"]
        assert (counts["clean"], counts["failed"]) == (len(codes) - 7, 7)
        kept = {(row["clip_id"], row["window_start_pts"]) for row in rows_of(store) if row["window_index"] is not None}
        bad_windows = {key for key, code in codes.items() if code in bad}
        assert not kept & bad_windows
        assert kept
        assert caption(store, *by_server(server), *SMALL, "--max-failed-share", 1) == 0
        bad.clear()
        assert caption(store, *by_server(server), *SMALL) == 0
    assert windows_once(store) == set(codes)


def test_a_server_that_goes_in_mid_run(store: Store, on_ray: None, capfd: pytest.CaptureFixture[str]) -> None:
    """What it answered before is kept; the same command goes on, and nothing is there twice."""
    codes = codes_of_windows(store, ASKED)
    answered: list[str] = []
    is_well = threading.Event()

    def script(seen: Seen) -> Act:
        if len(answered) >= 4 and not is_well.is_set():
            return error(503, f"gone, and your key was {KEY}")
        answered.append(frames_code(seen.body))
        return good(seen)

    with hostile_server(script) as server:
        command = [*by_server(server), *SMALL, "--max-in-flight", 1, "--give-up-after", 3]
        assert caption(store, *command) == 4
        said = capfd.readouterr()
        assert "3 requests in a row failed" in said.err
        assert "start the same command again" in said.err
        assert len(answered) == 4
        landed = {(row["clip_id"], row["window_start_pts"]) for row in rows_of(store)}
        assert {codes[key] for key in landed} == set(answered), "every answer that came is kept"
        (failed_run,) = runs_of(store)
        assert failed_run["state"] == "failed"
        assert failed_run["counts"]["clean"] == 4
        is_well.set()
        assert caption(store, *command) == 0
        assert sorted(answered) == sorted(codes.values()), "nothing was asked about twice"
    assert windows_once(store) == set(codes)
    texts = " ".join(str(row) for row in [*rows_of(store), *runs_of(store)])
    assert KEY not in texts + said.out + said.err


def test_a_damaged_clip_costs_itself(store: Store, on_ray: None, capfd: pytest.CaptureFixture[str]) -> None:
    clips = kept_clips(store)
    damage(store, clips[0], b"no video")
    damage(store, clips[1], b"\0\0\0\x20ftypisom" + b"\xff" * 5000)
    with hostile_server(good) as server:
        for _ in range(2):
            assert caption(store, *by_server(server), "--kinds", "short", "descriptive") == 0
        assert sum(bool(seen.body) for seen in server.seen) == 2
    said = capfd.readouterr().out
    assert "4 windows were asked about: 2 clean, 0 flagged, 2 failed" in said
    assert "nothing said, damaged_clip: 2" in said
    for clip_id in clips[:2]:
        rows = rows_of(store, clip_id=clip_id)
        assert [(row["text"], row["flags"]) for row in rows] == [(None, ["damaged_clip"])] * 2
    for clip_id in clips[2:]:
        assert all(row["text"] and not row["flags"] for row in rows_of(store, clip_id=clip_id))


def test_the_key_is_in_no_log_and_no_table(store: Store, on_ray: None, capfd: pytest.CaptureFixture[str]) -> None:
    with hostile_server(good) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        assert caption(store, *by_server(server)) == 0
        assert {seen.headers["Authorization"] for seen in server.seen} == {f"Bearer {KEY}"}, "it was used"
    said = capfd.readouterr()
    assert KEY not in said.out + said.err
    from ray._private.worker import global_worker

    session = Path(str(global_worker.node.get_session_dir_path()))  # type: ignore[union-attr]
    looked_at = 0
    for file in [*Path(store.uri).rglob("*"), *session.rglob("*")]:
        if file.is_file() and not file.is_symlink():
            looked_at += 1
            assert KEY.encode() not in file.read_bytes(), file
    assert looked_at > 40


# -- as a process of its own


def test_a_run_that_is_ended_keeps_what_was_done(store: Store, on_ray: None) -> None:
    codes = codes_of_windows(store, ASKED)
    is_well = threading.Event()
    asked: list[str] = []

    def script(seen: Seen) -> Act:
        code = frames_code(seen.body)
        asked.append(code)
        return good(seen) if is_well.is_set() or len(set(asked)) <= 3 else Act(then="hang")

    with hostile_server(script) as server:
        command = ["--store", store.uri, *map(str, by_server(server)), *SMALL, "--max-in-flight", "2"]
        process = start(JOB, *command)
        wait_until(lambda: len(set(asked)) > 4, process, "the server was asked")
        process.send_signal(signal.SIGTERM)
        code, output = end(process)
        assert code == 130, output
        assert "interrupted; start the same command again" in output
        assert "Traceback" not in output
        done = {(row["clip_id"], row["window_start_pts"]) for row in rows_of(store)}
        assert {codes[key] for key in done} == set(asked[:3])
        is_well.set()
        assert caption(store, *by_server(server), *SMALL) == 0
    assert [row["state"] for row in runs_of(store)] == ["interrupted", "finished"]
    assert windows_once(store) == set(codes)
