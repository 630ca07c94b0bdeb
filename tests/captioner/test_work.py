"""What is to be asked, and what becomes of answers: lacking from what is in the table, finished whatever comes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.captions import Author, Caption, write_captions
from captioner.checks import FLAGS
from captioner.fields import SCHEMA, CaptionFields, to_json
from captioner.hostile_text import cleaned, has_control_characters, has_markup
from captioner.requests import Answer
from captioner.windows import Window, WindowConfig, windows_of
from captioner.work import (
    CLIP_COLUMNS,
    MAX_UNREADABLE,
    Asking,
    Lacking,
    Task,
    damaged,
    failing,
    finish,
    lacking_of,
    request_of,
)
from curation.film import Encoding, encode_film
from curation.reader import DamagedClip
from curation.store import Store
from tests.cutting import cut, decoded
from tests.numbered_film import numbered_pictures

AUTHOR = Author("vllm", "qwen", "model-1", "prompt-1")
ASKING = Asking(AUTHOR)
FIELDS = CaptionFields(
    subjects=("a brown dog",),
    action="runs along the beach",
    setting="a wide sandy beach",
    background="the sea",
    style="live action",
    lighting="soft daylight",
    colors=("brown", "blue"),
    shot_type="wide shot",
    camera="static",
)
GOOD = to_json(FIELDS)


def clip_row(number: int = 1, duration_s: int = 8, **more: Any) -> dict[str, Any]:
    """A clip of which little was measured, in ms."""
    row = dict.fromkeys(CLIP_COLUMNS) | {"clip_id": f"clip-{number}", "source_id": "source-1", "_rowid": number}
    row |= {"start_pts": 5000, "end_pts": 5000 + 1000 * duration_s, "time_base_num": 1, "time_base_den": 1000}
    row |= {"start_s": 5.0, "duration_s": float(duration_s), "width": 160, "height": 96, "frames": 24 * duration_s}
    return row | more


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    return store


def lacking(store: Store, rows: Iterable[dict[str, Any]], asking: Asking = ASKING) -> Lacking:
    return lacking_of(list(rows), store.open("captions"), asking)


def answered(task: Task, text: str = GOOD, asking: Asking = ASKING, **more: Any) -> list[Caption]:
    answer = Answer("request-1", text, more.pop("finish_reason", "stop"), 100, 20, **more)
    return finish(task, answer, asking)


# -- planning


def test_what_is_there_is_not_asked_again(store: Store) -> None:
    rows = [clip_row(1), clip_row(2), clip_row(3)]
    first = lacking(store, rows)
    assert first.counts == {"to_ask": 3}
    assert first.captions == []
    assert [task.row_id for task in first.tasks] == [1, 2, 3]
    assert [task.attempt for task in first.tasks] == [1, 1, 1]
    assert "_rowid" not in first.tasks[0].row
    for task in first.tasks[:2]:
        write_captions(store, answered(task), "run-1")
    again = lacking(store, rows)
    assert again.counts == {"complete": 2, "to_ask": 1}
    assert [task.row["clip_id"] for task in again.tasks] == ["clip-3"]
    assert again.captions == []


def test_another_author_asks_for_itself(store: Store) -> None:
    (task,) = lacking(store, [clip_row()]).tasks
    write_captions(store, answered(task), "run-1")
    for change in ({"model": "b"}, {"revision": "b"}, {"prompt_id": "b"}):
        other = replace(ASKING, author=replace(AUTHOR, **change))
        assert lacking(store, [clip_row()], other).counts == {"to_ask": 1}


def test_kinds_that_are_added_follow_from_the_answer(store: Store) -> None:
    """Nobody is asked, and the texts are those that would have been made at once."""
    (task,) = lacking(store, [clip_row()]).tasks
    at_once = {caption.kind: caption for caption in answered(task)}
    short = replace(ASKING, kinds=("short",))
    write_captions(store, answered(task, asking=short), "run-1")
    later = lacking(store, [clip_row()])
    assert later.counts == {"derived": 1}
    assert later.tasks == []
    assert [caption.kind for caption in later.captions] == ["descriptive", "motion"]
    for caption in later.captions:
        same = at_once[caption.kind]
        assert caption.text == same.text
        assert caption.flags == same.flags
        assert caption.caption_id == same.caption_id
        assert (caption.fields, caption.request_id, caption.seed) == (GOOD, "request-1", 0)
    write_captions(store, later.captions, "run-2")
    assert lacking(store, [clip_row()]).counts == {"complete": 1}


def test_kinds_of_an_unreadable_answer_are_asked_for(store: Store) -> None:
    (task,) = lacking(store, [clip_row()]).tasks
    write_captions(store, answered(task, "nonsense", replace(ASKING, kinds=("short",))), "run-1")
    assert lacking(store, [clip_row()], replace(ASKING, kinds=("short",))).counts == {"complete": 1}
    assert lacking(store, [clip_row()]).counts == {"to_ask": 1}


def test_no_clips_are_nothing_to_do(store: Store) -> None:
    assert lacking(store, []) == Lacking([], [], lacking(store, []).counts)


def test_a_task_goes_through_json(store: Store) -> None:
    row = clip_row(dominant_colors=["red"], is_still=False, duration_s_2=0.1 + 0.2)
    task = replace(lacking(store, [row]).tasks[0], attempt=2)
    assert Task.from_json(task.to_json()) == task


# -- clips of several windows

LONG = clip_row(9, 40)  # three windows of 16 s


def land(store: Store, captions: Iterable[Caption]) -> None:
    write_captions(store, captions, "run-1")


def test_a_whole_clip_is_told_once_all_its_windows_are(store: Store) -> None:
    tasks = lacking(store, [LONG]).tasks
    assert [task.window.index for task in tasks] == [0, 1, 2]
    for number, task in enumerate((tasks[2], tasks[0], tasks[1])):
        assert lacking(store, [LONG]).captions == [], "not before the last"
        land(store, answered(task, to_json(replace(FIELDS, action=f"makes jump number {number}"))))
    whole = lacking(store, [LONG])
    assert whole.counts == {"complete": 3}
    assert whole.tasks == []
    assert sorted(caption.kind for caption in whole.captions) == ["descriptive", "motion", "short"]
    for caption in whole.captions:
        assert caption.window_index is None
        assert (caption.window_start_pts, caption.window_end_pts) == (5000, 45_000)
        assert caption.text
    (descriptive,) = (caption.text for caption in whole.captions if caption.kind == "descriptive")
    places = [str(descriptive).index(f"number {number}") for number in (1, 2, 0)]
    assert places == sorted(places), "in order of time, not of the answers"
    land(store, whole.captions)
    assert lacking(store, [LONG]).captions == [], "and once only"
    assert store.open("captions").count_rows() == 12


def test_a_damaged_window_is_passed_over(store: Store) -> None:
    tasks = lacking(store, [LONG]).tasks
    for task in tasks[:2]:
        land(store, answered(task))
    land(store, damaged(tasks[2], ASKING))
    whole = lacking(store, [LONG])
    assert whole.counts == {"complete": 3}
    assert all(caption.text for caption in whole.captions)
    assert len(whole.captions) == 3


@pytest.mark.parametrize("text", ["nonsense", "{}"])
def test_a_clip_of_which_nothing_could_be_said_says_so_once(store: Store, text: str) -> None:
    tasks = lacking(store, [LONG]).tasks
    for task in tasks:
        land(store, damaged(task, ASKING) if task.window.index == 1 else answered(task, text))
    whole = lacking(store, [LONG]).captions
    assert [(caption.text, caption.flags) for caption in whole] == [(None, ("empty",))] * 3
    land(store, whole)
    assert lacking(store, [LONG]) == Lacking([], [], lacking(store, [LONG]).counts)


def test_kinds_that_are_added_come_to_the_whole_too(store: Store) -> None:
    short = replace(ASKING, kinds=("short",))
    for task in lacking(store, [LONG], short).tasks:
        land(store, answered(task, asking=short))
    land(store, lacking(store, [LONG], short).captions)
    assert store.open("captions").count_rows() == 4
    for _ in range(2):
        later = lacking(store, [LONG])
        assert later.tasks == []
        land(store, later.captions)
    assert lacking(store, [LONG]).counts == {"complete": 3}
    assert store.open("captions").count_rows() == 12


def test_a_clip_of_one_window_has_no_other_whole(store: Store) -> None:
    (task,) = lacking(store, [clip_row(1, 16)]).tasks
    assert task.window.index is None
    land(store, answered(task))
    assert lacking(store, [clip_row(1, 16)]).captions == []


# -- finishing


def test_an_answer_becomes_captions() -> None:
    row = clip_row(luma_mean_levels=120.0)
    window = Window(2, 6000, 7000, 1.0, 2.0)
    captions = answered(Task(row, 4, window, attempt=3), asking=replace(ASKING, seed=10))
    assert [caption.kind for caption in captions] == ["short", "descriptive", "motion"]
    for caption in captions:
        assert (caption.clip_id, caption.source_id) == ("clip-1", "source-1")
        assert (caption.window_index, caption.window_start_pts, caption.window_end_pts) == (2, 6000, 7000)
        assert (caption.seed, caption.attempts, caption.request_id) == (12, 3, "request-1")
        assert (caption.tokens_in, caption.tokens_out, caption.finish_reason) == (100, 20, "stop")
        assert json.loads(str(caption.fields)) == json.loads(GOOD)
        assert caption.flags == ()
        assert "dog" in str(caption.text)
    assert not failing(captions)


BROKEN = [
    ("", "stop", ("schema",)),
    ("not JSON at all", "stop", ("schema",)),
    ("{}", "stop", ("schema",)),
    ("null", "stop", ("schema",)),
    ("[" * 100_000, "stop", ("schema",)),
    (GOOD[:-20], "length", ("schema", "truncated")),
    (json.dumps(json.loads(GOOD) | {"extra": 1}), "stop", ("schema",)),
    (json.dumps(json.loads(GOOD) | {"camera": "dolly"}), "stop", ("schema",)),
    (json.dumps(json.loads(GOOD) | {"action": "x" * 241}), "stop", ("schema",)),
    (GOOD + GOOD, "stop", ("schema",)),
]


@pytest.mark.parametrize(("text", "reason", "flags"), BROKEN)
def test_an_answer_that_breaks_the_schema_is_flagged(
    store: Store, text: str, reason: str, flags: tuple[str, ...]
) -> None:
    (task,) = lacking(store, [clip_row()]).tasks
    captions = answered(task, text, finish_reason=reason)
    assert [(caption.text, caption.flags) for caption in captions] == [(None, flags)] * 3
    assert failing(captions)
    kept = json.loads(str(captions[0].fields))["unreadable"]
    assert len(kept) <= MAX_UNREADABLE
    assert kept[:10] == cleaned(text)[:10]
    land(store, captions)
    assert lacking(store, [clip_row()]).counts == {"complete": 1}


def test_damage_is_not_worth_asking_again() -> None:
    task = Task(clip_row(), 1, windows_of(clip_row(), 16.0)[0])
    captions = damaged(task, ASKING)
    assert [(caption.kind, caption.text, caption.flags) for caption in captions] == [
        (kind, None, ("damaged_clip",)) for kind in ASKING.kinds
    ]
    assert not failing(captions)


def test_what_says_nothing_has_a_flag_and_no_text() -> None:
    captions = answered(
        Task(clip_row(duration_s=8) | {"duration_s": None}, 1, windows_of(clip_row(), 16.0)[0]),
        to_json(CaptionFields()),
    )
    assert captions
    assert all((caption.text is None) == (caption.flags == ("empty",)) for caption in captions)


TASK = Task(clip_row(), 1, windows_of(clip_row(), 16.0)[0])
HOSTILE = st.one_of(
    st.text(max_size=300),
    st.text(
        alphabet=list('<>/&;`*_[](){}|#"\\\u0000\u001b\u202e\u2066\u200b\ud800\ufffd\U000e0041aZ \n'), max_size=200
    ),
)
ANSWERS = st.one_of(
    HOSTILE,
    st.fixed_dictionaries(
        {
            name: (
                st.sampled_from(rule["enum"])
                if "enum" in rule
                else st.lists(HOSTILE.map(lambda t, n=rule: t[: n["items"]["maxLength"]]), max_size=6)
                if rule["type"] == "array"
                else HOSTILE.map(lambda t, n=rule: t[: n["maxLength"]])
            )
            for name, rule in SCHEMA["properties"].items()
        }
    ).map(json.dumps),
)


@settings(max_examples=150, deadline=None)
@given(text=ANSWERS, reason=st.sampled_from(["stop", "length", None, "\x00"]))
def test_any_answer_is_finished_and_clean(text: str, reason: str | None) -> None:
    captions = answered(TASK, text, finish_reason=reason)
    assert [caption.kind for caption in captions] == list(ASKING.kinds)
    for caption in captions:
        assert set(caption.flags) <= {*FLAGS, "schema", "empty"}
        assert (caption.text is None) <= bool(caption.flags), "silence has a reason"
        said = caption.text or ""
        assert not has_markup(said)
        assert not has_control_characters(said)
        json.loads(str(caption.fields))
        str(caption.fields).encode("utf-8")


@pytest.mark.parametrize("part", ["a", "<b>", "{", "é\u0301", "\u202e", "&amp;", "word word ", "*_", "\n- "])
def test_a_megabyte_is_finished_soon(part: str) -> None:
    huge = part * (1_000_000 // len(part))
    for text in (huge, json.dumps(json.loads(GOOD) | {"action": huge}), f'{{"{huge}": 1}}'):
        captions = answered(TASK, text)
        assert [caption.flags for caption in captions] == [("schema",)] * 3
        assert len(str(captions[0].fields)) <= 6 * MAX_UNREADABLE + 100


def test_any_answer_can_be_written(store: Store) -> None:
    texts = [
        "\ud800 half",
        "\x00",
        '{"a": "\\ud800"}',
        "\U0010ffff",
        json.dumps(json.loads(GOOD) | {"action": "\ud83d dog"}),
    ]
    for number, text in enumerate(texts):
        row = clip_row(number)
        (task,) = lacking(store, [row]).tasks
        land(store, answered(task, text))
    assert store.open("captions").count_rows() == 3 * len(texts)


# -- asking


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    encode_film(path, numbered_pictures(48, 160, 96), Encoding(rate=Fraction(24)))
    clip = cut(decoded(path), 0, 48)
    times = {"video_start_pts": clip.start_pts, "video_end_pts": clip.end_pts, "video_time_base_num": 1}
    return clip_row(1, 2, frames=48, video_time_base_den=clip.time_base.denominator, **times), clip.data


def test_a_request_has_its_frames_and_its_own_seed(video: tuple[dict[str, Any], bytes]) -> None:
    row, data = video
    asking = Asking(AUTHOR, windows=WindowConfig(sample_fps=3.0, frame_pixels=1000, show_as="images"), seed=5)
    (window,) = windows_of(row, 16.0)
    first, second = (request_of(Task(row, 1, window, n), io.BytesIO(data), asking) for n in (1, 2))
    (message,) = first.messages
    assert sum(part["type"] == "image_url" for part in message["content"]) == 6
    assert "2.0 s of video" in message["content"][-1]["text"]
    assert first.schema == SCHEMA
    assert (first.seed, second.seed) == (5, 6)
    assert (first.temperature, second.temperature) == (0.0, 0.7), "the same question would have the same answer"
    assert first.request_id != second.request_id
    assert first.messages == second.messages


def test_all_frames_together_are_within_the_budget(video: tuple[dict[str, Any], bytes]) -> None:
    from tests.captioner.test_prompts import shown

    row, data = video
    asking = Asking(AUTHOR, windows=WindowConfig(sample_fps=8.0, window_pixels=16_000, show_as="images"))
    request = request_of(Task(row, 1, windows_of(row, 16.0)[0]), io.BytesIO(data), asking)
    pictures = [shown(p["image_url"]["url"]) for p in request.messages[0]["content"] if p["type"] == "image_url"]
    assert len(pictures) == 16
    assert sum(picture.shape[0] * picture.shape[1] for picture in pictures) <= 16_000


DAMAGED: list[dict[str, Any]] = [
    {"width": 2**31 - 1, "height": 1},
    {"video_start_pts": 10**9, "video_end_pts": 10**9 + 5},
]


@pytest.mark.parametrize("claims", DAMAGED)
def test_what_a_row_cannot_be_is_damage(video: tuple[dict[str, Any], bytes], claims: dict[str, Any]) -> None:
    row, data = video
    with pytest.raises(DamagedClip):
        request_of(Task(row | claims, 1, windows_of(row, 16.0)[0]), io.BytesIO(data), ASKING)


@pytest.mark.parametrize("data", [b"", b"no video", b"\0" * 100_000])
def test_bytes_that_are_no_video_are_damage(video: tuple[dict[str, Any], bytes], data: bytes) -> None:
    row, _ = video
    with pytest.raises(DamagedClip):
        request_of(Task(row, 1, windows_of(row, 16.0)[0]), io.BytesIO(data), ASKING)
