"""The page's sliders in a real browser: they count what `curation.verdicts` would on the same rows."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from curation.presets import PRESETS
from curation.report import ReportConfig, write_report
from curation.verdicts import RULES, Thresholds, verdict
from jobs.cli import parse
from jobs.verdict import VerdictOptions
from tests.score_stores import drawn_rows, write_store

CLIPS = 500
TRIALS = 12

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    rows = drawn_rows(CLIPS, seed=11)
    for row in [row for row in rows if row["keep"]][:7]:
        row |= {"keep": False, "reason": "duplicate"}
    return rows


@pytest.fixture(scope="module")
def address(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("it's a store")
    return write_report(write_store(folder, rows), folder / "page", ReportConfig(clips_per_reason=2)).page.as_uri()


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    browser.get_log("browser")
    browser.get(address)
    yield browser
    assert browser.get_log("browser") == []


def expected(rows: list[dict[str, Any]], thresholds: Thresholds) -> Counter[str]:
    outcomes = [verdict(row, thresholds) or ("duplicate" if row["reason"] == "duplicate" else "kept") for row in rows]
    return Counter(outcomes)


def settled(page: webdriver.Chrome) -> None:
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def shown(page: webdriver.Chrome) -> Counter[str]:
    """What the funnel below the sliders says, clips by reason."""
    settled(page)
    script = """return [...document.querySelectorAll('#first-reasons tr')].map((row) =>
        [row.dataset.reason, Number(row.cells[2].textContent.replace(/\\D/g, ''))])"""
    return Counter({reason: clips for reason, clips in page.execute_script(script) if clips})


def click(page: webdriver.Chrome, selector: str) -> None:
    element = page.find_element(By.CSS_SELECTOR, selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def type_threshold(page: webdriver.Chrome, threshold: str, value: float | None) -> None:
    """Into its field, as a user would; nothing switches it off."""
    script = """const field = document.querySelector(`[aria-label="${arguments[0]}, exact"]`);
        field.value = arguments[1] ?? ''; field.dispatchEvent(new Event('input'))"""
    page.execute_script(script, threshold, value)


def thresholds_of(page: webdriver.Chrome) -> Thresholds:
    """What the command in the page asks for, as the job reads it."""
    settled(page)
    words = shlex.split(page.find_element(By.ID, "command").text)
    assert words[:3] == ["python", "-m", "jobs.verdict"]
    return parse(VerdictOptions, prog="x", argv=words[3:], has_presets=True).thresholds


def test_it_begins_with_the_verdicts_as_they_are(page: webdriver.Chrome, rows: list[dict[str, Any]]) -> None:
    assert shown(page) == Counter(row["reason"] or "kept" for row in rows)
    assert thresholds_of(page) == Thresholds()


@pytest.mark.parametrize("trial", range(TRIALS))
def test_thresholds_keep_what_the_rules_would(page: webdriver.Chrome, rows: list[dict[str, Any]], trial: int) -> None:
    random = np.random.default_rng(trial)
    chosen = [rule for rule in RULES if rule.threshold != "keep_still" and random.random() < 0.25]
    limits: dict[str, Any] = {}
    columns = set()
    for rule in chosen:
        values = [float(row[rule.column]) for row in rows if row.get(rule.column) is not None]
        if values and rule.column not in columns:  # at a value that is there, or about the middle
            value = float(
                np.quantile(values, random.random() * 0.3 if rule.bound == "min" else 1 - random.random() * 0.3)
            )
            value = float(random.choice([value, float(random.choice(values))]))
            columns.add(rule.column)
            limits[rule.threshold] = round(value) if isinstance(getattr(Thresholds(), rule.threshold), int) else value
            twin = [r for r in RULES if r.column == rule.column and r is not rule]
            limits |= {r.threshold: r.off for r in twin}
    for threshold, value in limits.items():
        type_threshold(page, threshold, value if np.isfinite(value) else None)
    thresholds = Thresholds(**limits)
    assert thresholds_of(page) == thresholds
    assert shown(page) == expected(rows, thresholds)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_what_they_would(page: webdriver.Chrome, rows: list[dict[str, Any]], name: str) -> None:
    Select(page.find_element(By.ID, "preset")).select_by_value(name)
    assert shown(page) == expected(rows, PRESETS[name].thresholds)
    assert thresholds_of(page) == PRESETS[name].thresholds
    said = page.find_element(By.ID, "about-preset").text
    assert PRESETS[name].source in said
    assert all(asked.says in said for asked in PRESETS[name].not_applied)
    type_threshold(page, "min_seconds", 2.5)
    changed = Thresholds(**PRESETS[name].values | {"min_seconds": 2.5})  # type: ignore[arg-type]
    assert shown(page) == expected(rows, changed)
    assert thresholds_of(page) == changed
    click(page, "#reset")
    assert shown(page) == expected(rows, Thresholds())


def test_a_slider_is_moved_by_hand_and_by_keys(page: webdriver.Chrome, rows: list[dict[str, Any]]) -> None:
    low, high = (
        page.find_element(By.CSS_SELECTOR, f'[aria-label="{name}"]') for name in ("min_seconds", "max_clip_seconds")
    )
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", low)
    before = shown(page)
    width = low.size["width"]
    at = int(low.get_attribute("value") or 0)
    ActionChains(page).move_to_element(low).move_by_offset(
        round(width * (at / 1000 - 0.5) * 0.96), 0
    ).click_and_hold().move_by_offset(60, 0).release().perform()
    after = shown(page)
    assert after["too_short"] > before["too_short"]
    assert after == expected(rows, thresholds_of(page))
    high.send_keys("\ue012")  # the left arrow
    assert thresholds_of(page).max_clip_seconds < 1e3
    high.send_keys("\ue010")  # End: off again
    assert thresholds_of(page).max_clip_seconds == float("inf")


def test_the_two_handles_do_not_pass_each_other(page: webdriver.Chrome) -> None:
    type_threshold(page, "max_clip_seconds", 5.0)
    type_threshold(page, "min_seconds", 8.0)
    assert (thresholds_of(page).min_seconds, thresholds_of(page).max_clip_seconds) == (8.0, 8.0)


def test_impossible_values_are_not_taken(page: webdriver.Chrome) -> None:
    for value in (-1, 2):
        type_threshold(page, "max_border_share", value)
    assert thresholds_of(page) == Thresholds()


def test_still_clips_are_kept_by_a_box(page: webdriver.Chrome, rows: list[dict[str, Any]]) -> None:
    click(page, '.chart[data-column="is_still"] [type="checkbox"]')
    assert shown(page) == expected(rows, Thresholds(keep_still=True)) != expected(rows, Thresholds())
    assert thresholds_of(page) == Thresholds(keep_still=True)


def test_charts_are_painted_anew(page: webdriver.Chrome, rows: list[dict[str, Any]]) -> None:
    chart = page.find_element(By.CSS_SELECTOR, '.chart[data-column="rate_fps"]')
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)

    def groups() -> Counter[str]:
        settled(page)
        words = [e.get_attribute("textContent") or "" for e in chart.find_elements(By.TAG_NAME, "title")]
        parts = [part.split(" ", 1) for text in words for part in text.partition(": ")[2].split(", ") if part]
        return sum((Counter({words: int(n)}) for n, words in parts), Counter())

    def by_rate(thresholds: Thresholds) -> Counter[str]:
        found: Counter[str] = Counter()
        for row in rows:
            reason = (
                verdict(row, thresholds) or row["reason"] if row["reason"] == "duplicate" else verdict(row, thresholds)
            )
            if row["rate_fps"] is not None:
                words = {None: "kept", "low_rate": "rejected for this"}
                found[words.get(reason, "rejected for another reason")] += 1
        return found

    assert groups() == by_rate(Thresholds())
    lines = chart.find_elements(By.CSS_SELECTOR, "path.limit")
    place = lines[0].get_attribute("d")
    type_threshold(page, "min_rate_fps", 25.0)
    assert groups() == by_rate(Thresholds(min_rate_fps=25.0)) != by_rate(Thresholds())
    assert [e.text for e in chart.find_elements(By.CSS_SELECTOR, "text.limit")] == ["low_rate < 25"]
    assert chart.find_element(By.CSS_SELECTOR, "path.limit").get_attribute("d") != place


@pytest.mark.parametrize("width_px", [320, 768])
def test_a_preset_with_much_to_say_fits_the_screen(page: webdriver.Chrome, width_px: int) -> None:
    size = {"width": width_px, "height": 800, "deviceScaleFactor": 1, "mobile": width_px < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        Select(page.find_element(By.ID, "preset")).select_by_value("movie-gen")
        type_threshold(page, "max_motion_share_per_s", 0.123456)
        settled(page)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width_px
        right = "return Math.max(...[...document.querySelectorAll('.what-if *, .sliders *')].map((e) => "
        right += "e.getBoundingClientRect().right))"
        assert page.execute_script(right) <= width_px
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_command_can_be_copied(page: webdriver.Chrome) -> None:
    type_threshold(page, "min_seconds", 3.0)
    settled(page)
    click(page, "#copy")
    button = page.find_element(By.ID, "copy")
    page.execute_async_script("setTimeout(arguments[0], 100)")
    assert button.text in ("copied", "selected")
    if button.text == "selected":
        assert page.execute_script("return String(getSelection())") == page.find_element(By.ID, "command").text


def test_a_draw_is_scaled_to_the_whole(browser: webdriver.Chrome, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    store = write_store(tmp_path, rows)
    browser.get(
        write_report(store, tmp_path / "page", ReportConfig(clips_per_reason=1, slider_clips=100)).page.as_uri()
    )
    drawn = sorted(rows, key=lambda row: row["clip_id"])[:100]
    assert shown(browser) == {reason: 5 * n for reason, n in Counter(row["reason"] or "kept" for row in drawn).items()}
    assert browser.find_element(By.ID, "would-keep").text.startswith("about ")
    assert browser.find_element(By.ID, "would-keep").text.endswith(f"of {CLIPS} clips kept")
