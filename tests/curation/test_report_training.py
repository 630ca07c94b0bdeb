"""What a report says of training: its numbers are those of the lines, its text is only text, its files are copies."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.report import ReportConfig, write_report
from curation.report_curves import Series, curve_of, means_of, thinned
from curation.report_training import MadeSample, TrainedRun, Training, training_section
from curation.store import Store
from tests.report_footage import HOSTILE_NAMES
from tests.report_pages import SAFE_TAGS, Page
from trainer.media_files import write_media

FATES = {"seen": 5, "trained": 3, "rejected_still": 2}


def steps_of(count: int) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "loss": 2.0 / (1 + step),
            "loss_time_1_of_2": 1.0,
            "loss_time_2_of_2": 3.0,
            "gradient": 0.5,
            "tokens": 100,
            "seconds": 0.5,
            "data_wait": 0.1,
            "verdict": "taken",
        }
        for step in range(count)
    ]


def made(folder: Path, name: str, prompt: str, frames: int = 5) -> MadeSample:
    pictures = np.random.default_rng(len(name)).integers(0, 255, (frames, 32, 48, 3), np.uint8)
    write_media(folder / name, pictures, Fraction(12), {"prompt": prompt})
    return MadeSample(folder / name, prompt, ("asked for",))


def trained(folder: Path, steps: int = 100, **changes: Any) -> TrainedRun:
    sample = made(folder, "0.mp4", HOSTILE_NAMES[0])
    given: dict[str, Any] = {
        "name": "runs/" + HOSTILE_NAMES[3],
        "what": "The transformer",
        "unit": "tokens",
        "steps": steps_of(steps),
        "planned": 200,
        "facts": (HOSTILE_NAMES[2],),
        "fates": FATES,
        "sheets": {step: made(folder, f"sheet-{step}.png", "", 1).file for step in (50, 100)},
        "samples": (sample,),
    }
    return TrainedRun(**(given | changes))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    return store


def test_numbers_are_those_of_the_lines(tmp_path: Path):
    section = training_section(Training((trained(tmp_path),)), tmp_path)
    assert section is not None
    (run,) = section.runs
    tiles = {tile.label: (tile.value, tile.note) for tile in run.tiles}
    mean = np.mean([2 / (1 + step) for step in range(50, 100)])
    assert tiles["steps"] == ("100", "of 200, 50 s")
    assert tiles["loss"] == (f"{mean:.3f}", "at the end, 2 at first")
    assert tiles["tokens a second"] == ("200", "10\u202f000 in all")
    assert tiles["waiting for data"] == ("10 %", "of the time")
    assert tiles["clips trained on"] == ("3", "of 5 seen")
    assert [(row.label, row.tally.count) for row in run.fates] == [
        ("seen", 5),
        ("trained on", 3),
        ("rejected_still", 2),
    ]
    assert [curve.name for curve in run.curves] == ["loss", "loss by time", "gradient"]
    assert [line.name for line in run.curves[1].lines] == ["0 to 50 % of times", "50 to 100 % of times"]
    assert [sheet.step for sheet in run.sheets] == [100, 50], "the newest first"


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"step": 0, "loss": None}],
        [{"step": 0, "loss": 1.0}],
        [{"step": 0, "loss": float("nan")}, {"step": 1, "loss": True}, {"loss": 3.0}],
    ],
)
def test_a_run_with_little_to_say_has_no_curve(tmp_path: Path, steps: list[dict[str, Any]]):
    section = training_section(Training((trained(tmp_path, steps=0, **{"fates": None}),)), tmp_path)
    assert section is not None
    run = TrainedRun("run", "The transformer", "tokens", steps, 10)
    section = training_section(Training((run,)), tmp_path)
    assert section is not None
    assert section.runs[0].curves == ()
    assert section.runs[0].tiles[0].value == str(len(steps))


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        ([3.0, 2.0, 1.0], False),
        ([100.0, 1.0, 0.1], True),
        ([1.0, 1.0], False),
        ([0.0, 50.0], False),
        ([-1.0, 1e-9], False),
    ],
)
def test_a_curve_is_inside_its_box_and_falls_when_its_values_do(values: list[float], is_log: bool):
    curve = curve_of("loss", "", [Series("line", list(enumerate(values)))])
    assert curve is not None
    assert curve.is_log == is_log
    (line,) = curve.lines
    places = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line.path)]
    assert len(places) == len(values)
    assert all(curve.left <= x <= curve.right and 0 <= y <= curve.baseline for x, y in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=values[0] < values[-1])
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert len(curve.upwards) >= 2 or values[0] == values[-1]
    assert all(0 <= mark.at <= curve.baseline for mark in curve.upwards)


def test_many_steps_are_few_points_whose_last_is_the_last():
    points = [(float(step), float(step % 7)) for step in range(12_345)]
    assert len(thinned(points)) <= 300
    assert thinned(points)[-1] == points[-1]
    means = means_of(points)
    assert len(means) <= 40
    assert np.mean([y for _, y in means]) == pytest.approx(np.mean([y for _, y in points]), abs=0.05)
    assert means_of(points[:3]) == points[:3]


def test_all_text_is_text(store: Store, tmp_path: Path):
    prompts = [made(tmp_path, f"s{n}.mp4", prompt) for n, prompt in enumerate(HOSTILE_NAMES)]
    training = Training((trained(tmp_path),), tuple(prompts), remark=HOSTILE_NAMES[4])
    page = Page(write_report(store, tmp_path / "page", ReportConfig(), training=training).page)
    assert "There is nothing in this store yet" in page.text
    (tmp_path / "other").mkdir()
    from tests.report_footage import report_store

    full = report_store(tmp_path / "other")
    page = Page(write_report(full, tmp_path / "page", ReportConfig(), training=training).page)
    assert {element["tag"] for element in page.elements} <= SAFE_TAGS
    assert len(page.all("script")) == 2
    assert not [name for element in page.elements for name in element if name.startswith("on")]
    shown = {element["text"] for element in page.all("bdi")}
    assert HOSTILE_NAMES[0] in shown
    assert f"runs/{HOSTILE_NAMES[3]}" in shown
    assert len([e for e in page.all("article") if e.get("class") == "made"]) == len(HOSTILE_NAMES) + 1
    assert page.data["training"] == [
        {
            "name": f"runs/{HOSTILE_NAMES[3]}",
            "what": "The transformer",
            "steps": 100,
            "loss": pytest.approx(np.mean([2 / (1 + step) for step in range(50, 100)])),
            "fates": FATES,
        }
    ]


def test_files_are_copies_beside_the_page_and_go_with_what_showed_them(store: Store, tmp_path: Path):
    out, folder = tmp_path / "page", tmp_path / "page" / "samples"
    picture, film = made(tmp_path, "a.png", "a picture", 1), made(tmp_path, "b.mp4", "a film")
    write_report(store, out, ReportConfig(), training=Training(samples=(picture, film)))
    assert sorted(path.suffix for path in folder.iterdir()) == [".jpg", ".mp4", ".png"]
    (mp4,) = folder.glob("*.mp4")
    assert mp4.read_bytes() == film.file.read_bytes()
    (folder / "mine.png").write_bytes(b"mine")
    write_report(store, out, ReportConfig(), training=Training(samples=(picture,)))
    assert sorted(path.suffix for path in folder.iterdir() if path.name != "mine.png") == [".png"]
    write_report(store, out, ReportConfig())
    assert [path.name for path in folder.iterdir()] == ["mine.png"], "what is not ours stays"


def test_a_file_that_cannot_be_shown_costs_its_sample_a_line(tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    (tmp_path / "page").mkdir()
    samples = (MadeSample(broken, "a car"), MadeSample(tmp_path / "notes.txt", "a boat"))
    section = training_section(Training(samples=samples), tmp_path / "page")
    assert section is not None
    assert [sample.prompt for sample in section.samples] == ["a car", "a boat"]
    assert section.samples[0].facts[0].startswith("it cannot be shown: ")
    assert section.samples[1].facts == ("notes.txt is no file that is shown here",)
    assert section.files == ()


def test_without_runs_a_page_says_nothing_of_training(store: Store, tmp_path: Path):
    plain = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    assert "training" not in plain.data
    assert not plain.all("section", id="training")
    assert not (tmp_path / "page" / "samples").exists()
