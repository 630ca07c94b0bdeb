"""Captions in the report: counts are those of the table, every caption of a shown clip is there, and is only text."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.report import ReportConfig, write_report
from curation.report_caption_words import MAX_CAPTIONS, MAX_TEXT, captions_of_clip, section_of
from curation.report_captions import COUNTED, MAX_WORDS, captions_of, flagged_clips, read_captions
from curation.report_data import KEPT
from curation.report_films import MAX_RESTS, read_films
from curation.report_words import visible
from curation.store import Store
from tests.caption_stores import (
    HOSTILE_TEXTS,
    TAGS,
    by_model,
    caption_row,
    captioned_clips,
    captioned_store,
    captions_for,
    film_row,
    write_rows,
)
from tests.report_pages import SAFE_TAGS, Page
from tests.score_stores import write_store

Row = dict[str, Any]


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Row]]:
    return captioned_store(tmp_path_factory.mktemp("captioned"))


@pytest.fixture(scope="module")
def page(captioned: tuple[Store, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_report(captioned[0], tmp_path_factory.mktemp("page"), ReportConfig()).page)


def rows_of(store: Store) -> list[Row]:
    return store.open("captions").to_table().to_pylist()


def card_of(page: Page, clip: Row) -> str:
    (card,) = page.all("article", data_clip=clip["clip_id"])
    return " ".join(card["text"].split())


# -- numbers


def test_counts_are_those_of_the_table(captioned: tuple[Store, list[Row]], page: Page):
    rows = rows_of(captioned[0])
    speakers = page.data["captions"]["speakers"]
    key = ("captioner", "model", "kind", "prompt_id")
    assert {tuple(s[k] for k in key): s["count"] for s in speakers} == Counter(tuple(r[k] for k in key) for r in rows)
    assert page.data["captions"]["flags"] == Counter(flag for row in rows for flag in row["flags"])
    assert sum(s["silent"] for s in speakers) == sum(row["text"] is None for row in rows) == 2
    assert sum(s["flagged"] for s in speakers) == sum(bool(row["flags"]) for row in rows)
    assert sum(s["whole"] for s in speakers) == sum(row["window_index"] is None for row in rows) < len(rows)
    assert sum(s["tokens_out"] for s in speakers) == sum(row["tokens_out"] or 0 for row in rows)
    words = Counter((row["kind"], min(len(row["text"].split()), MAX_WORDS)) for row in rows if row["text"])
    found = page.data["captions"]["words"]
    assert {(kind, n): found[kind][n] for kind in found for n in range(MAX_WORDS + 1) if found[kind][n]} == words
    assert f"{len(rows)} captions, " in " ".join(page.text.split())


def test_clips_without_a_caption_are_counted(captioned: tuple[Store, list[Row]], page: Page):
    store, kept = captioned
    spoken = {row["clip_id"] for row in rows_of(store) if row["text"] is not None}
    without = [clip for clip in kept if clip["clip_id"] not in spoken]
    assert page.data["captions"]["missing"] == {"clips": len(without), "drawn": len(kept)}
    assert f"{len(without)} of {len(kept)} kept clips have no caption" in " ".join(page.text.split())
    assert len(without) == 2, "the last, and the damaged one"


def test_a_chart_of_words_holds_every_caption_with_a_text(captioned: tuple[Store, list[Row]]):
    store, _ = captioned
    counts = read_captions(store)
    assert counts
    texts = Counter(row["kind"] for row in rows_of(store) if row["text"] is not None)
    charts = {chart.histogram.column.name: chart for chart in section_of(counts).charts}
    assert {name: sum(chart.histogram.kept) for name, chart in charts.items()} == {
        f"words: {kind}": n for kind, n in texts.items()
    }
    assert any(re.fullmatch(r"\d+: \d+ captions", bar.says) for bar in charts["words: short"].bars if bar.total)


def test_long_captions_are_in_the_last_bin(tmp_path: Path):
    clips = captioned_clips(3, seed=1)
    store = write_store(tmp_path, clips)
    write_rows(store, "captions", [caption_row(clips[0], "short", "word " * n, prompt_id=f"{n}") for n in (3, 5000)])
    counts = read_captions(store)
    assert counts
    (chart,) = section_of(counts).charts
    assert chart.histogram.kept[0] == chart.histogram.kept[-1] == 1
    assert chart.bars[-1].says == "400 and over: 1 captions"


# -- who spoke


@pytest.mark.parametrize(
    ("captioner", "model", "says"),
    [
        ("facts", "facts-1", "1 caption : from measurements (facts), no model."),
        ("vllm", "Qwen/Qwen2-VL", "1 caption : captioned by the real vLLM with Qwen/Qwen2-VL."),
        ("openai", "m", "captioned by m through OpenAI's API"),
        ("side_file", "", "originals from side files"),
        ("other", "m", "captioned by other with m"),
    ],
)
def test_the_head_of_the_page_says_who_spoke(tmp_path: Path, captioner: str, model: str, says: str):
    clips = captioned_clips(2, seed=2)
    store = write_store(tmp_path, clips)
    write_rows(store, "captions", [caption_row(clips[0], "short", "A kite.", captioner=captioner, model=model)])
    page = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    (line,) = page.all("p", class_="spoken")
    assert says.replace(" :", ":") in " ".join(line["text"].split())


# -- on the cards


def test_a_card_shows_every_caption_of_its_clip(captioned: tuple[Store, list[Row]], page: Page):
    store, kept = captioned
    card = card_of(page, kept[0])
    ours = [row for row in rows_of(store) if row["clip_id"] == kept[0]["clip_id"]]
    assert len(ours) == 6
    for row in ours:
        assert row["text"] in card
    assert "tokens 812 in, 46 out · agreement 0.31".replace(" · ", " ") in card.replace(" · ", " ")
    assert "vllm · tiny-qwen2-vl prompt 5f0c9d7e" in card
    assert "facts · facts-1 prompt none" in card
    assert "stock_opening too_long" in card
    assert "asked 3 times" in card
    assert "0:00.0 to 0:03.0" in card
    assert "0:03.0 to 0:06.0" in card, "on the clip's own clock"
    assert '"subjects": [ "a red kite" ]' in card
    assert card.index("number 0.") < card.index("2 windows") < card.index("Window 0") < card.index("Window 1")


def test_what_could_not_be_said_is_shown_as_such(captioned: tuple[Store, list[Row]], page: Page):
    _, kept = captioned
    assert card_of(page, kept[2]).count("nothing could be said: damaged_clip") == 2
    assert "no caption" in card_of(page, kept[-1])
    assert "no caption" not in card_of(page, kept[0])


def test_captions_are_in_order(captioned: tuple[Store, list[Row]]):
    store, kept = captioned
    found = captions_of(store, [kept[0]["clip_id"], "unknown", "it's"])
    assert found["unknown"] == found["it's"] == []
    assert [(row["window_index"], row["kind"], row["captioner"]) for row in found[kept[0]["clip_id"]]] == [
        (None, "short", "facts"),
        (None, "descriptive", "facts"),
        (None, "descriptive", "vllm"),
        (None, "motion", "facts"),
        (0, "descriptive", "vllm"),
        (1, "descriptive", "vllm"),
    ]


def test_many_clips_are_looked_up_in_batches(tmp_path: Path):
    clips = captioned_clips(1, seed=3)
    store = write_store(tmp_path, clips)
    many = [clips[0] | {"clip_id": f"{n:032x}"} for n in range(1300)]
    write_rows(store, "captions", [caption_row(clip, "short", clip["clip_id"]) for clip in many])
    found = captions_of(store, [clip["clip_id"] for clip in many[::2]])
    assert {clip_id: [row["text"] for row in rows] for clip_id, rows in found.items()} == {
        clip["clip_id"]: [clip["clip_id"]] for clip in many[::2]
    }


@pytest.mark.parametrize("fields", ["{", "[" * 5000, "null", '{"a": NaN}', "1" * 6000, TAGS, '{"a": "\\u202e"}'])
def test_fields_that_are_odd_are_shown_as_they_are(tmp_path: Path, fields: str):
    clips = captioned_clips(6, seed=4)
    clip = next(clip for clip in clips if clip["keep"])
    store = write_store(tmp_path, clips)
    write_rows(store, "captions", [by_model(clip, "short", "A kite.", fields=fields)])
    page = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    (shown,) = page.all("pre")
    assert "\u202e" not in shown["text"]
    assert shown["text"][:4].strip()


def test_a_talkative_clip_is_cut_and_says_so():
    clip = captioned_clips(1, seed=5)[0]
    rows = [by_model(clip, "short", "y" * (MAX_TEXT + 7), window_index=None) for _ in range(MAX_CAPTIONS + 3)]
    blank = dict.fromkeys(("window_index", "fields", "agreement", "finish_reason", "tokens_in", "tokens_out"))
    said = captions_of_clip(clip, [blank | row for row in rows])
    assert said.left_out == 3
    assert (said.whole[0].lines[0].said or "").endswith("y… (7 more characters)")


# -- which clips are shown


def test_flagged_clips_are_added_to_the_draw_and_say_so(captioned: tuple[Store, list[Row]], tmp_path: Path):
    store, kept = captioned
    page = Page(write_report(store, tmp_path, ReportConfig(clips_per_reason=1, clips_per_flag=2)).page)
    flagged = {flag: set() for flag in page.data["captions"]["flags"]}
    for row in rows_of(store):
        for flag in row["flags"]:
            flagged[flag].add(row["clip_id"])
    on_page = {card["data-clip"] for card in page.all("article")} & {clip["clip_id"] for clip in kept}
    assert {flag: len(on_page & ids) for flag, ids in flagged.items()} == {
        flag: min(2, len(ids)) for flag, ids in flagged.items()
    }
    labelled = {
        clip["clip_id"] for clip in kept if clip["clip_id"] in on_page and "for its flag" in card_of(page, clip)
    }
    assert labelled == on_page - {kept[0]["clip_id"]}, "all but the draw"
    assert "added for its flag damaged_clip" in card_of(page, kept[2])
    none = Page(write_report(store, tmp_path, ReportConfig(clips_per_reason=1, clips_per_flag=0)).page)
    assert "for its flag" not in none.text


def test_a_flagged_clip_that_is_rejected_by_now_is_not_added(captioned: tuple[Store, list[Row]], tmp_path: Path):
    store, kept = captioned
    copy = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, copy.uri)
    gone = kept[2]["clip_id"]
    copy.open("clips").update({"keep": "false", "reason": "'too_short'"}, where=f"clip_id = '{gone}'")
    counts = read_captions(copy)
    assert counts
    assert gone in counts.flagged["damaged_clip"]
    added = flagged_clips(copy, counts, [], 12, {})
    assert added.keys() >= {TAGS, "against_facts", "stock_opening"}
    assert "damaged_clip" not in added
    assert {clip.reason for some in added.values() for clip in some} == {KEPT}


def test_a_negative_number_of_flagged_clips_is_refused():
    with pytest.raises(ValueError, match="clips_per_flag=-1: must not be negative"):
        ReportConfig(clips_per_flag=-1)


# -- attacks


def test_nothing_in_a_caption_becomes_markup(captioned: tuple[Store, list[Row]], page: Page):
    assert {e["tag"] for e in page.elements} <= SAFE_TAGS
    assert [e.get("id") for e in page.all("script")] == ["report-data", None]
    assert not [e for e in page.elements for name in e if name.startswith("on") or name in ("autofocus", "style")]
    _, kept = captioned
    (card,) = page.all("article", data_clip=kept[4]["clip_id"])
    assert len(HOSTILE_TEXTS) > 5
    for text in HOSTILE_TEXTS:
        assert visible(text[:MAX_TEXT]) in card["text"]
    said = " ".join(e["text"] for e in page.elements if e["tag"] == "body")
    assert not set("\u202e\u2067\u2066\x00\x07\x1b\u2028") & set(said)
    assert card["text"].count(TAGS) > 3, "as text, kind, model and flag"
    (flags,) = {e["data-flags"] for e in page.all("div") if TAGS in json.loads(e.get("data-flags") or "[]")}
    assert json.loads(flags) == [TAGS]


def test_embedded_json_cannot_end_its_element(page: Page):
    (script,) = page.all("script", id="report-data")
    assert not set("<>&'\u2028\u2029") & set(script["text"])
    assert TAGS in page.data["captions"]["flags"]


# -- stores of other ages


def test_a_store_without_the_tables_is_shown_as_before(tmp_path: Path):
    store = write_store(tmp_path, captioned_clips(12, seed=6))
    for table in ("captions", "films"):
        shutil.rmtree(store.table_uri(table))
    page = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    assert read_captions(store) is None
    assert page.data["captions"] is None
    names = {str(e.get(name)) for e in page.elements for name in ("class", "id")}
    assert not [name for name in names if "caption" in name or "film" in name]
    assert "No clip has a caption yet" not in page.text


def test_a_store_that_waits_for_captions_says_how_to_get_some(tmp_path: Path):
    store = write_store(tmp_path, captioned_clips(12, seed=6))
    page = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    assert f"No clip has a caption yet: python -m jobs.caption --store {store.uri}" in page.text
    assert not page.all("select", id="caption-flag")
    assert read_films(store, ()) is None


def test_the_same_store_gives_the_same_page(captioned: tuple[Store, list[Row]], tmp_path: Path):
    first, second = (write_report(captioned[0], tmp_path / n, ReportConfig()).page.read_bytes() for n in "ab")
    assert first == second


def test_counting_reads_no_fields(tmp_path: Path):
    clips = captioned_clips(2, seed=7)
    store = write_store(tmp_path, clips)
    large = np.random.default_rng(0).bytes(20_000).hex()
    rows = [by_model(clips[0], "short", "A kite.", fields=large, prompt_id=f"p{n % 3}") for n in range(300)]
    write_rows(store, "captions", rows)
    captions = store.open("captions")
    counts = read_captions(store)
    assert counts
    assert counts.total.count == captions.count_rows() == 300
    assert len(counts.speakers) == 3
    captions.io_stats_incremental()
    for _ in captions.to_batches(columns=COUNTED):
        pass
    assert captions.io_stats_incremental().read_bytes < 2e6, "of 12 MB"


# -- films


def test_films_show_what_is_said_of_a_source(captioned: tuple[Store, list[Row]], tmp_path: Path):
    store, kept = captioned
    copy = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, copy.uri)
    shown, elsewhere = kept[0]["clip_id"], "f" * 32
    source_id = kept[0]["source_id"]
    write_rows(
        copy,
        "films",
        [
            film_row(source_id, "answer", 0, "A child.", question="Who finds it?", start_s=61.0, end_s=65.0),
            film_row(source_id, "chapter", 1, "It is found.", title="Found", start_s=60.0, end_s=125.5),
            film_row(source_id, "chapter", 0, "It is lost.", title=TAGS, start_s=0.0, end_s=60.0, flags=[TAGS],
                     clip_ids=[shown, elsewhere] * MAX_RESTS),
            film_row(source_id, "synopsis", 0, "A kite is lost and found."),
            film_row(kept[1]["source_id"], "other", 0, TAGS, start_s=float("nan"), end_s=None),
        ],
    )  # fmt: skip
    page = Page(write_report(copy, tmp_path / "page", ReportConfig()).page)
    assert {e["tag"] for e in page.elements} <= SAFE_TAGS
    (section,) = page.all("section", id="films")
    text = " ".join(section["text"].split())
    parts = ["synopsis 1, chapter 2, answer 1, other 1", "A kite is lost and found.", "2 chapters"]
    parts += [f"0:00.0 to 1:00.0 {TAGS}", "It is lost.", "1:00.0 to 2:05.5 Found", "1 answer"]
    parts += ["1:01.0 to 1:05.0 Who finds it?", "A child."]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    links = [a for a in page.all("a", href=f"#clip-{shown}") if a["text"] == f"clip {shown[:8]}"]
    assert len(links) == MAX_RESTS / 2
    assert f"and {MAX_RESTS} more" in text
    assert not page.all("a", href=f"#clip-{elsewhere}")


def test_more_films_than_are_shown_are_said_to_be_a_draw(tmp_path: Path):
    store = write_store(tmp_path, captioned_clips(3, seed=8))
    write_rows(store, "films", [film_row(f"{n:064x}", "synopsis", 0, "A film.") for n in range(5)])
    films = read_films(store, (), limit=3)
    assert films
    assert (len(films.films), films.counts, films.has_more) == (3, {"synopsis": 5}, True)
    whole = read_films(store, ())
    assert whole
    assert (len(whole.films), whole.has_more) == (5, False)


def test_what_the_tests_look_at_is_there(captioned: tuple[Store, list[Row]]):
    store, kept = captioned
    assert len(kept) > 8
    assert store.open("clips").count_rows("NOT keep") > 0
    assert len(captions_for(kept)) > 40
