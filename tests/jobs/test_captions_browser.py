"""Captions in a real browser: filters find what they say and count it; a hostile caption is only text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from curation.report import Report, ReportConfig, write_report
from curation.store import Store
from tests.caption_stores import TAGS, captioned_store, film_row, write_rows

WAIT_S = 20
Row = dict[str, Any]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Row]]:
    store, kept = captioned_store(tmp_path_factory.mktemp("captioned"))
    rests_on = [kept[5]["clip_id"]]
    write_rows(store, "films", [film_row(kept[0]["source_id"], "synopsis", 0, TAGS, clip_ids=rests_on, flags=[TAGS])])
    return store, kept


@pytest.fixture(scope="module")
def report(captioned: tuple[Store, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(captioned[0], tmp_path_factory.mktemp("page"), ReportConfig())


@pytest.fixture
def page(browser: webdriver.Chrome, report: Report) -> Iterator[webdriver.Chrome]:
    """The report, newly opened; afterwards no script of a caption ran and no error was logged."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(report.page.as_uri())
    yield browser
    assert not browser.execute_script("return window.hacked")
    assert browser.get_log("browser") == []


def wait_for(happened: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline_s, f"{what} did not happen in {WAIT_S} s"
        time.sleep(0.02)


def shown(page: webdriver.Chrome) -> set[str]:
    cards = page.find_elements(By.CSS_SELECTOR, ".sheet .clip")
    return {str(card.get_attribute("data-clip")) for card in cards if card.is_displayed()}


def click(page: webdriver.Chrome, element: WebElement) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def choose(page: webdriver.Chrome, select: str, value: str) -> str:
    """Choose an option as a user does; its words."""
    script = """
        const select = document.getElementById(arguments[0]);
        const option = [...select.options].find((each) => each.value === arguments[1]);
        select.value = option.value;
        select.dispatchEvent(new Event("change", {bubbles: true}));
        return option.textContent;
    """
    return page.execute_script(script, select, value)


def clips_with(store: Store, wanted: Callable[[Row], bool]) -> set[str]:
    return {row["clip_id"] for row in store.open("captions").to_table().to_pylist() if wanted(row)}


def counted(page: webdriver.Chrome) -> str:
    return page.find_element(By.ID, "caption-count").text


@pytest.mark.parametrize("flag", ["stock_opening", "damaged_clip", "against_facts", TAGS])
def test_clips_are_filtered_by_a_flag(page: webdriver.Chrome, captioned: tuple[Store, list[Row]], flag: str):
    wanted = clips_with(captioned[0], lambda row: flag in row["flags"])
    everything = shown(page)
    assert 0 < len(wanted) < len(everything)
    words = choose(page, "caption-flag", f"is:{flag}")
    assert shown(page) == wanted
    assert words == f"{flag} ({len(wanted)})"
    assert counted(page) == f"{len(wanted)} of {len(everything)} clips on this page"
    click(page, page.find_element(By.ID, "caption-reset"))
    assert shown(page) == everything
    assert counted(page) == f"{len(everything)} of {len(everything)} clips on this page"


def test_any_flag_no_flag_and_no_caption(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    store, kept = captioned
    choose(page, "caption-flag", "any")
    assert shown(page) == clips_with(store, lambda row: bool(row["flags"]))
    choose(page, "caption-flag", "clean")
    assert shown(page) == clips_with(store, lambda row: not row["flags"])
    spoken = clips_with(store, lambda row: row["text"] is not None)
    without = {clip["clip_id"] for clip in kept} - spoken
    assert choose(page, "caption-flag", "none") == f"has no caption ({len(without)})"
    assert shown(page) == without
    assert without
    choose(page, "caption-who", "is:vllm · tiny-qwen2-vl")
    choose(page, "caption-kind", "is:short")
    assert shown(page) == {clip["clip_id"] for clip in kept}, "nobody has a short one by that model"


def test_kind_model_and_flag_are_asked_of_one_caption(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    store, _ = captioned
    choose(page, "caption-kind", "is:descriptive")
    choose(page, "caption-who", "is:facts · facts-1")
    both = clips_with(store, lambda row: row["kind"] == "descriptive" and row["captioner"] == "facts")
    assert shown(page) == both
    words = choose(page, "caption-flag", "is:stock_opening")
    assert words == "stock_opening (0)", "that flag is of the other model's captions"
    assert shown(page) == set()
    choose(page, "caption-who", "")
    assert shown(page) == clips_with(store, lambda row: "stock_opening" in row["flags"])


def test_captions_are_found_by_words(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    _, kept = captioned
    field = page.find_element(By.ID, "caption-find")
    field.send_keys("COPPER  kite")
    wait_for(lambda: shown(page) == {kept[1]["clip_id"]}, "finding it")
    found = page.find_elements(By.CSS_SELECTOR, ".caption.found")
    assert ["copper kite" in each.text for each in found] == [True]
    assert counted(page).startswith("1 of ")
    assert page.find_element(By.CSS_SELECTOR, "#reason-kept .matching").text.strip() == "· 1 match"
    field.clear()
    field.send_keys("window.hacked=1</SCRIPT>")
    wait_for(lambda: shown(page) == {kept[4]["clip_id"]}, "finding the hostile one")


def test_what_is_found_in_a_window_is_opened(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    _, kept = captioned
    card = page.find_element(By.ID, f"clip-{kept[3]['clip_id']}")
    assert not card.find_elements(By.CSS_SELECTOR, ".caption.found")
    choose(page, "caption-flag", "is:against_facts")
    wait_for(lambda: card.find_element(By.CSS_SELECTOR, ".caption.found").is_displayed(), "opening")
    assert shown(page) == {kept[3]["clip_id"]}


def test_a_flag_of_the_table_filters(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    (link,) = [a for a in page.find_elements(By.CSS_SELECTOR, "a[data-flag]") if a.text == "too_long"]
    click(page, link)
    assert shown(page) == clips_with(captioned[0], lambda row: "too_long" in row["flags"])


def test_a_link_from_a_film_shows_its_clip_again(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    _, kept = captioned
    choose(page, "caption-flag", "is:damaged_clip")
    assert kept[5]["clip_id"] not in shown(page)
    link = page.find_element(By.CSS_SELECTOR, "#films .rests a")
    click(page, link)
    wait_for(lambda: kept[5]["clip_id"] in shown(page), "showing it")


def test_a_filter_and_a_reason_are_both_kept_to(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    choose(page, "caption-flag", "any")
    click(page, page.find_element(By.CSS_SELECTOR, '.chips [data-reason="kept"]'))
    assert shown(page) == clips_with(captioned[0], lambda row: bool(row["flags"]))


def test_the_head_says_who_spoke(page: webdriver.Chrome):
    line = page.find_element(By.CSS_SELECTOR, ".spoken").text
    assert "captioned by the real vLLM with tiny-qwen2-vl" in line
    assert "from measurements (facts), no model" in line


@pytest.mark.parametrize("width_px", [320, 768, 1440])
def test_no_caption_breaks_the_layout(page: webdriver.Chrome, captioned: tuple[Store, list[Row]], width_px: int):
    size = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for details in page.find_elements(By.CSS_SELECTOR, ".captions details"):
            page.execute_script("arguments[0].open = true", details)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width_px
        reach = page.execute_script(
            "return [...document.querySelectorAll('.clip, .film')].map((e) => e.scrollWidth - e.clientWidth)"
        )
        assert len(reach) > 10
        assert max(reach) <= 1, "nothing reaches out of its card"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_captions_add_no_element(page: webdriver.Chrome, captioned: tuple[Store, list[Row]]):
    card = page.find_element(By.ID, f"clip-{captioned[1][4]['clip_id']}")
    assert TAGS in [each.text for each in card.find_elements(By.CSS_SELECTOR, ".said")]
    assert not card.find_elements(By.CSS_SELECTOR, "script, img, [onmouseover], [onerror], [autofocus]")
    assert page.execute_script("return document.scripts.length") == 2
    before = page.execute_script("return document.querySelectorAll('*').length")
    field = page.find_element(By.ID, "caption-find")
    field.send_keys("<b>")
    wait_for(lambda: shown(page) == set(), "filtering")
    assert page.execute_script("return document.querySelectorAll('*').length") == before


def test_an_empty_page_of_captions_has_no_filters(browser: webdriver.Chrome, tmp_path: Path):
    store = Store.at(str(tmp_path / "store"))
    store.create()
    browser.get_log("browser")
    browser.get(write_report(store, tmp_path / "page", ReportConfig()).page.as_uri())
    assert not browser.find_elements(By.ID, "caption-flag")
    assert browser.get_log("browser") == []
