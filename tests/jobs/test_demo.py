"""`make demo`, as a newcomer meets it: the film, the store, and the page that it names, opened in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver

from captioner.captions import KINDS
from curation.store import Store
from tests.jobs.running import run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    code, output = run("jobs.demo", "--out", out)
    assert code == 0, output
    *_, last = [line for line in output.splitlines() if line.strip()]
    named = re.fullmatch(r"open (file://\S+)", last)
    assert named, f"it does not end by naming the page: {last}"
    return Path(unquote(urlsplit(named[1]).path))


def test_the_film_is_curated_whole(page: Path) -> None:
    store = Store.at(str(page.parent.parent / "store"))
    sources = store.open("sources").to_table().to_pylist()
    assert [row["state"] for row in sources] == ["curated"] * 9
    assert sum(row["is_variable_rate"] for row in sources) == 1
    assert sum(row["height"] > row["width"] for row in sources) == 1, "the rotated file stands upright"
    reasons = store.open("clips").to_table(columns=["reason"])["reason"].to_pylist()
    assert {None, "too_short", "still", "too_dark"} <= set(reasons)


def test_every_kept_clip_is_captioned_by_what_was_measured_and_the_page_says_so(page: Path) -> None:
    store = Store.at(str(page.parent.parent / "store"))
    captions = store.open("captions").to_table().to_pylist()
    kept = store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist()
    assert {(c["clip_id"], c["kind"]) for c in captions} == {(i, k) for i in kept for k in KINDS}
    assert len(captions) == len(kept) * len(KINDS)
    assert {c["captioner"] for c in captions} == {"facts"}
    assert "from measurements (facts), no model" in page.read_text()


@pytest.mark.browser
def test_its_page_opens_and_counts_what_the_store_has(page: Path, browser: webdriver.Chrome) -> None:
    clips = Store.at(str(page.parent.parent / "store")).open("clips")
    browser.get_log("browser")
    browser.get(page.as_uri())
    headline = browser.find_element("tag name", "h1").text
    assert headline.startswith(f"{clips.count_rows('keep')} of {clips.count_rows()} clips kept")
    assert len(browser.find_elements("tag name", "video")) == clips.count_rows()
    sliders = browser.find_element("id", "would-keep").text
    assert sliders == f"{clips.count_rows('keep')} of {clips.count_rows()} clips kept"
    assert browser.get_log("browser") == []
