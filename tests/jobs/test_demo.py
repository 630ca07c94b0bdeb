"""`make demo`, as a newcomer meets it: the film, the store, and the page that it names, opened in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from curation.store import Store
from tests.browser import browser
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
    assert {row["state"] for row in sources} == {"curated"}
    assert {(row["width"], row["height"]) for row in sources} >= {(640, 360), (360, 640)} or len(sources) == 9
    assert any(row["is_variable_rate"] for row in sources)
    assert any(row["rotation"] for row in sources)
    reasons = set(store.open("clips").to_table(columns=["reason"])["reason"].to_pylist())
    assert {None, "too_short", "still"} <= reasons


def test_its_page_opens_and_shows_the_clips(page: Path) -> None:
    kept = Store.at(str(page.parent.parent / "store")).open("clips").count_rows("keep")
    with browser() as driver:
        driver.get(page.as_uri())
        assert "Dailies" in driver.title
        assert str(kept) in driver.find_element("tag name", "body").text
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
