"""`make demo`, as a newcomer meets it, with fewer steps: the film, the store, the runs, the samples, and the page that
it names, opened in a browser."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver

from captioner.captions import KINDS
from curation.store import Store
from tests.jobs.running import ROOT, start
from tests.report_pages import Page
from trainer.media_files import read_info

TIMEOUT_S = 600
NETWORK_STEPS, STEPS = 6, 4
SAMPLES = ["image.png", "unseen.mp4", "vertical.mp4", "widescreen.mp4"]


def run_demo(out: Path) -> tuple[int, str]:
    """By a relative path, as `make demo` does: workers have directories of their own."""
    process = start(
        "jobs.demo", "--out", os.path.relpath(out, ROOT), "--network-steps", str(NETWORK_STEPS), "--steps", str(STEPS)
    )
    output, _ = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, output


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code, output = run_demo(tmp_path_factory.mktemp("demo"))
    assert code == 0, output
    assert "What to expect" in output
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


def test_a_network_and_a_transformer_are_trained_and_sampled(page: Path) -> None:
    folder = page.parent.parent
    for run, result, steps in (("network", "network", NETWORK_STEPS), ("run", "model", STEPS)):
        lines = (folder / run / "steps.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(steps))
        assert (folder / run / result / "config.json").is_file()
    store = Store.at(str(folder / "store"))
    encoded = store.open("latents").to_table(columns=["input_id"], filter="kind = 'clip' AND failure IS NULL")
    kept = store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist()
    assert set(encoded["input_id"].to_pylist()) == set(kept)
    samples = sorted((folder / "samples").iterdir())
    assert [file.name for file in samples] == SAMPLES
    network_ids = {read_info(file)["network_id"] for file in samples}
    assert len(network_ids) == 1


def test_the_page_shows_curves_clips_and_samples_beside_their_prompts(page: Path) -> None:
    folder, shown = page.parent.parent, Page(page)
    transformer, network = shown.data["training"]
    assert (transformer["steps"], network["steps"]) == (STEPS, NETWORK_STEPS)
    kept = Store.at(str(folder / "store")).open("clips").count_rows("keep")
    assert transformer["fates"]["trained"] == kept
    assert sum(transformer["fates"].values()) - transformer["fates"]["seen"] == transformer["fates"]["seen"]
    curves = [e["text"].split()[0] for e in shown.all("figure") if e.get("class") == "chart curve"]
    assert curves.count("loss") >= 2
    made = [e["text"] for e in shown.all("article") if e.get("class") == "made"]
    for name in SAMPLES:
        prompt = read_info(folder / "samples" / name)["prompt"]
        assert any(prompt in text for text in made), name
    assert "Blobs of colour" in shown.text


def test_the_same_command_again_has_nothing_to_do(page: Path) -> None:
    out = page.parent.parent.parent
    samples = {path: path.stat().st_mtime_ns for path in (page.parent.parent / "samples").iterdir()}
    code, output = run_demo(out)
    assert code == 0, output
    assert output.count("nothing to do") >= 3
    assert {path: path.stat().st_mtime_ns for path in samples} == samples


@pytest.mark.browser
def test_its_samples_play(page: Path, browser: webdriver.Chrome) -> None:
    browser.get_log("browser")
    browser.get(page.as_uri())
    cards = browser.find_elements("css selector", "#training .made")
    playing = [card for card in cards if card.find_elements("tag name", "video")]
    assert len(playing) >= 3
    for card in playing[:3]:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", card)
        card.find_element("css selector", ".play").click()
        video, deadline_s = card.find_element("tag name", "video"), time.monotonic() + 20
        while not float(str(video.get_property("currentTime"))) > 0.1:
            assert time.monotonic() < deadline_s, "it does not play"
            time.sleep(0.05)
    assert browser.get_log("browser") == []
    size = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 375
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_its_page_opens_and_counts_what_the_store_has(page: Path, browser: webdriver.Chrome) -> None:
    clips = Store.at(str(page.parent.parent / "store")).open("clips")
    browser.get_log("browser")
    browser.get(page.as_uri())
    headline = browser.find_element("tag name", "h1").text
    assert headline.startswith(f"{clips.count_rows('keep')} of {clips.count_rows()} clips kept")
    assert len(browser.find_elements("css selector", ".clip video")) == clips.count_rows()
    sliders = browser.find_element("id", "would-keep").text
    assert sliders == f"{clips.count_rows('keep')} of {clips.count_rows()} clips kept"
    assert browser.get_log("browser") == []
