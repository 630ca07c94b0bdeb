"""The report: its numbers are those of the tables, its text is only text, its files play exactly the clips."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pytest

from curation.report import ReportConfig, write_report
from curation.report_charts import chart_of
from curation.report_clips import PlayConfig, write_players
from curation.report_data import KEPT, read_funnel, read_thresholds, sample_clips
from curation.report_distributions import COLUMNS, bin_edges, distributions, round_step
from curation.report_whatif import what_if_data
from curation.report_words import clock, count, number, share, size, timecode, visible
from curation.reverdict import Changes, apply_verdicts
from curation.store import FinishedSource, Store
from curation.verdicts import RULES, Thresholds, thresholds_id
from jobs.report import main
from tests.report_footage import HOSTILE_DETAIL, HOSTILE_NAMES, hostile_source, report_store
from tests.report_pages import SAFE_TAGS, Page
from tests.score_stores import drawn_rows, write_store

# A clip is counted under each of its names.
LISTS = {column.name for column in COLUMNS if column.is_list}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return report_store(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(write_report(store, tmp_path_factory.mktemp("page"), ReportConfig()).page)


def rows_of(store: Store) -> list[dict[str, Any]]:
    return store.open("clips").to_table().drop_columns(["video", "thumbnail"]).to_pylist()


# -- numbers


def test_counts_are_those_of_the_tables(store: Store, page: Page):
    clips, sources = rows_of(store), store.open("sources").to_table().to_pylist()
    reasons = Counter(row["reason"] or KEPT for row in clips)
    assert {KEPT, "too_short"} <= reasons.keys(), "there is something to keep and something to reject"
    assert {reason: o["count"] for reason, o in page.data["outcomes"].items()} == reasons
    assert Counter({(s["state"], s["reason"]): s["count"] for s in page.data["sources"]}) == Counter(
        (row["state"], row["reason"]) for row in sources
    )
    shown = [e["text"] for e in page.all("td", data_of="count")]
    assert sorted(map(int, shown)) == sorted(
        [len(sources), *Counter((r["state"], r["reason"]) for r in sources).values(), len(clips), *reasons.values()]
    )
    for reason, n in reasons.items():
        chip = next(e for e in page.all("button") if e.get("data-reason") == reason)
        assert chip["text"] == f"{reason} {n}"


def test_every_score_has_a_distribution_that_counts_every_clip(store: Store, page: Page):
    clips = rows_of(store)
    histograms = {h["column"]: h for h in page.data["histograms"]}
    assert [*histograms] == ["duration_s", "rate_fps", "width, height", *(c.name for c in COLUMNS[2:])]
    for histogram in histograms.values():
        groups = (histogram["kept"], histogram["rejected_here"], histogram["rejected_elsewhere"])
        lists = [clip[histogram["column"]] or [None] for clip in clips] if histogram["column"] in LISTS else []
        several = sum(len(each) - 1 for each in lists)
        assert sum(map(sum, groups)) + histogram["missing"] == len(clips) + several
        assert len(histogram["edges"]) == len(histogram["kept"]) + 1
    of_lengths = histograms["duration_s"]
    for low, high, kept, short in zip(
        of_lengths["edges"], of_lengths["edges"][1:], of_lengths["kept"], of_lengths["rejected_here"], strict=False
    ):
        inside = [c["reason"] for c in clips if low <= c["duration_s"] < high]
        assert (kept, short) == (inside.count(None), inside.count("too_short"))
    assert sum(of_lengths["rejected_here"]) > 1
    assert {f["data-column"] for f in page.all("figure")} == histograms.keys()


def test_a_rejected_clip_shows_its_value_beside_the_threshold(page: Page):
    verdicts = {" ".join(e["text"].split()) for e in page.all("p", class_="verdict")}
    assert verdicts == {"duration_s 0.5 < min_seconds 1"}
    assert {r["threshold"]: r["value"] for r in page.data["rules"]}["min_seconds"] == 1.0


def test_clips_beyond_the_setting_are_said_to_be_left_out(store: Store, tmp_path: Path):
    page = Page(write_report(store, tmp_path, ReportConfig(clips_per_reason=2, max_sources=3)).page)
    kept = sum(row["keep"] for row in rows_of(store))
    assert f"2 of {kept} shown" in page.text
    assert f"3 of {len(store.open('sources'))} shown" in page.text
    assert len(page.all("article")) == 4
    sources = [e["text"] for e in page.all("td", data_label="state")]
    assert len(sources) == 3
    assert sources[0].startswith("failed <i>reason")


def test_the_sample_is_the_same_wherever_the_rows_lie(store: Store):
    clips, sources = store.open("clips"), store.open("sources")
    shown = sample_clips(clips, sources, [KEPT], 5, {})[KEPT]
    assert [c.row["clip_id"] for c in shown] == sorted(r["clip_id"] for r in rows_of(store) if r["keep"])[:5]
    assert all(c.source["source_id"] == c.row["source_id"] for c in shown)


def test_memory_and_reading_do_not_grow_with_thumbnails_and_videos(store: Store, tmp_path: Path):
    large = Store.at(str(tmp_path / "store"))
    large.create()
    picture = np.random.default_rng(0).bytes(100_000)
    template = rows_of(store)[0] | {"thumbnail": picture, "video": picture, "video_bytes": len(picture)}
    rows = [template | {"clip_id": f"{n:032x}", "source_id": "many"} for n in range(200)]
    source = next(row for row in store.open("sources").to_table().to_pylist() if row["clips"])
    source |= {"source_id": "many", "clips": len(rows)}
    large.commit_sources([FinishedSource(source, large.write_clips(iter(rows)))])
    clips = large.open("clips")
    clips.io_stats_incremental()
    funnel = read_funnel(large.open("sources"), clips)
    assert funnel.found.count == len(rows)
    distributions(large, Thresholds())
    sample_clips(clips, large.open("sources"), [KEPT], 5, {})
    assert clips.io_stats_incremental().read_bytes < 2e6, "of 40 MB"


def test_the_same_store_gives_the_same_files(store: Store, tmp_path: Path):
    def files(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    first, second = (write_report(store, tmp_path / name, ReportConfig()).page.parent for name in ("a", "b"))
    assert files(first) == files(second)
    assert len(files(first)) > 50
    previews = {p: p.stat().st_mtime_ns for p in first.rglob("*.preview.mp4")}
    write_report(store, first, ReportConfig())
    assert files(first) == files(second)
    assert previews == {p: p.stat().st_mtime_ns for p in previews}, "previews are not made again"
    assert previews


# -- attacks


def test_nothing_from_footage_becomes_markup(page: Page):
    assert {e["tag"] for e in page.elements} <= SAFE_TAGS
    assert [e.get("id") for e in page.all("script")] == ["report-data", None]
    assert not [e for e in page.elements for name in e if name.startswith("on") or name in ("autofocus", "style")]
    for element in page.elements:
        for name in ("href", "src", "poster", "action"):
            address = element.get(name)
            assert address is None or re.fullmatch(r"#[\w-]+|data:,|(clips|thumbs)/[0-9a-f.\w]+(#t=[\d.,]+)?", address)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_text(page: Page, name: str):
    cards = [e for e in page.all("h4") if e["title"].endswith("/footage/" + visible(name))]
    assert len(cards) == 2, "a kept and a rejected clip"
    assert {card["text"] for card in cards} == {visible(name.rpartition("/")[2])}
    assert [uri for clip in page.data["clips"].values() if (uri := clip["uri"]).endswith("/" + name)]


def test_hostile_details_are_text(page: Page):
    assert visible(HOSTILE_DETAIL) in page.text
    assert "</td><script>window.hacked=1</script>" in page.text


def test_embedded_json_cannot_end_its_element(page: Page):
    (script,) = page.all("script", id="report-data")
    assert not set("<>&'\u2028\u2029") & set(script["text"])


def test_only_the_page_s_own_script_may_run(page: Page):
    (policy,) = (e["content"] for e in page.all("meta") if "http-equiv" in e)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_clip_id_cannot_name_another_folder(store: Store, tmp_path: Path):
    clips, sources = store.open("clips"), store.open("sources")
    shown = sample_clips(clips, sources, [KEPT], 1, {})
    bad = {KEPT: [replace(clip, row={**clip.row, "clip_id": "../../etc/x"}) for clip in shown[KEPT]]}
    with pytest.raises(ValueError, match=r"clip_id='\.\./"):
        write_players(bad, clips, tmp_path, PlayConfig())


# -- what plays


def card_of(page: Page, file_name: str, verdict: str) -> dict[str, Any]:
    """The video element of the first clip of a file with a verdict, with the text of its card."""
    for card in page.all("article"):
        clip = page.data["clips"][card["data-clip"]]
        if clip["uri"].endswith("/" + file_name) and clip["reason"] == verdict:
            (video,) = [v for v in page.all("video") if card["data-clip"] in v["src"]]
            return video | {"card": card["text"], "clip_id": card["data-clip"]}
    raise AssertionError(f"no clip of {file_name}")


@pytest.mark.parametrize(
    ("file_name", "suffix", "is_preview"),
    [("plays.mp4", "mp4", False), ("plays.webm", "webm", False), ("turned.mov", "mov", True), ("old.mp4", "mp4", True)],
)
@pytest.mark.parametrize("verdict", [KEPT, "too_short"])
def test_every_clip_plays_and_can_be_downloaded(
    store: Store, tmp_path: Path, file_name: str, suffix: str, is_preview: bool, verdict: str
):
    folder = write_report(store, tmp_path, ReportConfig()).page.parent
    page = Page(folder / "index.html")
    video = card_of(page, file_name, verdict)
    assert ("small H.264 preview" in video["card"]) == is_preview
    assert ("cut from its source" in video["card"]) == (verdict != KEPT)
    assert video["preload"] == "none"
    assert (folder / video["poster"]).stat().st_size > 500
    assert (folder / f"clips/{video['clip_id']}.{suffix}").is_file()
    if "#" in video["src"]:
        assert file_name == "plays.webm"
        assert video["src"].endswith(f"#t={video['data-start-s']},{video['data-end-s']}")
    if verdict == KEPT and not is_preview:
        row = next(r for r in rows_of(store) if r["clip_id"] == video["clip_id"])
        assert (folder / video["src"].partition("#")[0]).stat().st_size == row["video_bytes"]


def test_a_preview_has_exactly_the_frames_of_the_span(store: Store, tmp_path: Path):
    folder = write_report(store, tmp_path, ReportConfig()).page.parent
    rows = {row["clip_id"]: row for row in rows_of(store)}
    previews = sorted(folder.glob("clips/*.preview.mp4"))
    assert len(previews) == 6
    for preview in previews:
        row = rows[preview.name[:32]]
        with av.open(str(preview)) as container:
            stream = container.streams.video[0]
            assert stream.time_base
            frames = list(container.decode(stream))
            assert stream.duration is not None
            times = [frame.pts * stream.time_base for frame in frames if frame.pts is not None]
            assert stream.codec_context.name == "h264"
            assert (frames[0].format.name, frames[0].width, frames[0].height) == (
                "yuv420p",
                row["width"],
                row["height"],
            )
            assert float(stream.duration * stream.time_base) == pytest.approx(row["duration_s"], abs=1e-3)
        assert times == pytest.approx([i / 12 for i in range(row["frames"])], abs=1e-3)
        colours = {int(np.argmax(frame.to_ndarray(format="rgb24").mean((0, 1)))) for frame in frames}
        assert len(colours) == 1, "one scene, and nothing of the one before"


def test_previews_are_limited_and_what_is_left_out_is_said(store: Store, tmp_path: Path):
    report = write_report(store, tmp_path, ReportConfig(play=PlayConfig(max_previews=2)))
    assert len(list(tmp_path.glob("clips/*.preview.mp4"))) == 2
    assert report.left_out == (
        "4 of the clips shown do not play: it needs a preview to play, and no more than max_previews=2 are made.",
    )
    page = Page(report.page)
    assert report.left_out[0] in page.text
    reasons = Counter(page.data["clips"][p.name[:32]]["reason"] for p in tmp_path.glob("clips/*.preview.mp4"))
    assert reasons == {KEPT: 1, "too_short": 1}, "spread over the reasons"


def test_a_clip_over_the_limit_plays_as_a_preview(store: Store, tmp_path: Path):
    page = Page(write_report(store, tmp_path, ReportConfig(play=PlayConfig(max_clip_mb=1e-3))).page)
    video = card_of(page, "plays.mp4", KEPT)
    assert video["src"] == f"clips/{video['clip_id']}.preview.mp4"
    assert "over max_clip_mb=0.001" in video["card"]
    assert not [p for p in tmp_path.glob("clips/*") if not p.name.endswith(".preview.mp4")]


def with_source(store: Store, folder: Path, change: Any) -> Page:
    """A report after something happened to the source `plays.mp4` of a copy of the store."""
    copy = Store.at(str(folder / "store"))
    shutil.copytree(store.uri, copy.uri)
    footage = Path(store.uri).parent / "footage" / "plays.mp4"
    moved = folder / "plays.mp4"
    sources = copy.open("sources")
    shutil.copy2(footage, moved)
    sources.update({"uri": f"'{moved}'"}, where=f"uri = '{footage}'")
    change(copy, moved)
    return Page(write_report(copy, folder / "page", ReportConfig()).page)


def to_bucket(store: Store, path: Path) -> None:
    store.open("sources").update({"uri": "'s3://bucket/plays.mp4'"}, where=f"uri = '{path}'")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda store, path: path.unlink(), "its source cannot be read here: No such file"),
        (lambda store, path: path.write_bytes(b"other"), "its source has changed since it was curated"),
        (to_bucket, "its source is not a local file"),
    ],
)
def test_a_rejected_clip_without_its_source_shows_its_thumbnail(store: Store, tmp_path: Path, change: Any, says: str):
    page = with_source(store, tmp_path, change)
    (card,) = [c for c in page.all("article") if says in c["text"]]
    assert page.data["clips"][card["data-clip"]]["reason"] == "too_short"
    assert not [v for v in page.all("video") if card["data-clip"] in v["src"]]
    assert card_of(page, "plays.mp4", KEPT)


def test_a_clip_that_newer_thresholds_reject_plays_from_the_store(store: Store, tmp_path: Path):
    copy = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, copy.uri)
    thresholds = Thresholds(min_seconds=1.4)
    apply_verdicts(copy, thresholds, Changes(), before_commit=lambda: None)
    copy.write_run(run_row(config={"nested": {"thresholds": asdict(thresholds)}}))
    page = Page(write_report(copy, tmp_path / "page", ReportConfig()).page)
    (judged,) = {clip["thresholds_id"] for clip in rows_of(copy)}
    assert judged == thresholds_id(thresholds)
    cards = [c["text"] for c in page.all("article") if "min_seconds 1.4" in " ".join(c["text"].split())]
    assert len([c for c in cards if "cut from its source" not in c]) == len(HOSTILE_NAMES)
    assert page.data["thresholds_known"]


# -- stores that are not as they should be


def run_row(config: object) -> dict[str, Any]:
    return {
        "run_id": "curate-1",
        "job": "curate",
        "state": "finished",
        "started_at": datetime(2026, 1, 31, tzinfo=UTC),
        "config": json.dumps(config),
        "code_version": "1",
        "host": "here",
    }


def test_an_empty_store_gives_a_page_that_says_so(tmp_path: Path):
    store = Store.at(str(tmp_path / "store"))
    store.create()
    report = write_report(store, tmp_path / "page", ReportConfig())
    page = Page(report.page)
    assert "There is nothing in this store yet. python -m jobs.curate" in page.text
    assert "jobs.curate" in report.summary
    assert page.data["clips"] == {}


def test_a_store_without_clips_gives_a_page(tmp_path: Path):
    store = Store.at(str(tmp_path / "store"))
    store.create()
    store.commit_sources([hostile_source()])
    page = Page(write_report(store, tmp_path / "page", ReportConfig()).page)
    assert "No source gave a clip." in page.text
    assert not page.all("figure")


def test_clips_of_an_interrupted_run_are_spoken_of(store: Store, tmp_path: Path):
    copy = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, copy.uri)
    copy.open("sources").delete("uri LIKE '%/plays.mp4'")
    page = Page(write_report(copy, tmp_path / "page", ReportConfig()).page)
    assert "a run was interrupted or is at work" in page.text
    assert "the store has no row of its source yet" in page.text


def test_thresholds_that_no_run_recorded_are_not_made_up(store: Store, tmp_path: Path):
    copy = Store.at(str(tmp_path / "store"))
    shutil.copytree(store.uri, copy.uri)
    apply_verdicts(copy, Thresholds(min_side_px=100), Changes(), before_commit=lambda: None)
    copy.open("clips").update({"thresholds_id": "'unknown'"})
    page = Page(write_report(copy, tmp_path / "page", ReportConfig()).page)
    assert "No run in the store recorded the thresholds of" in page.text
    assert "duration_s 0.5 < min_seconds (not recorded)" in " ".join(page.text.split())
    assert not page.data["thresholds_known"]
    assert {rule["value"] for rule in page.data["rules"]} == {None}


def test_thresholds_are_found_wherever_a_job_nests_them(store: Store, tmp_path: Path):
    copy = Store.at(str(tmp_path / "store"))
    copy.create()
    odd = Thresholds(min_seconds=3.0, max_aspect=float("inf"))
    copy.write_run(run_row({"curate": {"thresholds": asdict(odd)}, "keys": {"secret": "x"}}))
    copy.write_run(run_row({"curate": {"thresholds": asdict(odd) | {"min_seconds": -1}}}) | {"run_id": "impossible"})
    copy.write_run(run_row({}) | {"run_id": "broken", "config": "{"})
    assert read_thresholds(copy.open("runs")) == {thresholds_id(t): t for t in (Thresholds(), odd)}


def test_a_threshold_that_is_switched_off_is_drawn_nowhere(store: Store):
    histogram = next(h for h in distributions(store, Thresholds(max_aspect=float("inf"))) if h.column.name == "aspect")
    assert [line.label for line in chart_of(histogram).lines] == ["too_narrow < 0.333"]


def test_files_of_an_earlier_report_go_and_others_stay(store: Store, tmp_path: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "thumbs").mkdir()
    stale = [tmp_path / "clips" / f"{'a' * 32}.mp4", tmp_path / "thumbs" / f"{'a' * 32}.jpg"]
    others = [tmp_path / "clips" / "mine.mp4", tmp_path / "notes.txt"]
    for path in (*stale, *others):
        path.write_bytes(b"x")
    write_report(store, tmp_path, ReportConfig(clips_per_reason=1))
    assert not any(path.exists() for path in stale)
    assert all(path.read_bytes() == b"x" for path in others)


# -- the command line


def test_the_job_says_what_to_open(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--store", store.uri, "--out", str(tmp_path / "a b"), "--clips-per-reason", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"open {(tmp_path / 'a b' / 'index.html').as_uri()}"
    assert lines[-2].startswith(f"sources {len(store.open('sources'))} (")


def test_the_job_says_what_to_do_where_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--store", str(tmp_path / "none"), "--out", str(tmp_path / "page")]) == 4
    assert "there is no store at" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_the_job_refuses_a_file_as_its_folder(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert main(["--store", store.uri, "--out", str(tmp_path / "file")]) == 4
    assert "is a file; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--clips-per-reason", "0"], "clips_per_reason=0: must be at least 1"),
        (["--max-previews", "-1"], "max_previews=-1: must not be negative"),
        (["--max-clip-mb", "nan"], "max_clip_mb=nan: must be positive"),
    ],
)
def test_impossible_options_are_refused(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["--store", "x", "--out", "y", *arguments])
    assert ended.value.code == 2
    assert says in " ".join(capsys.readouterr().err.replace("│", "").split())


# -- small parts


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (count(1234567), "1 234 567"),
        (number(None), "–"),  # noqa: RUF001
        (number(True), "yes"),
        (number(0.0), "0"),
        (number(1e-5), "1e-05"),
        (number(0.3333), "0.333"),
        (number(23.976), "23.98"),
        (number(128), "128"),
        (number(4277.6), "4 278"),
        (number(float("inf")), "∞"),
        (clock(0.04), "0.04 s"),
        (clock(59.99), "1 min 00 s"),
        (clock(125.0), "2 min 05 s"),
        (clock(36000.0), "10.0 h"),
        (timecode(59.97), "1:00.0"),
        (timecode(3723.44), "1:02:03.4"),
        (size(999), "999 B"),
        (size(999_999), "1.0 MB"),
        (size(4.2e15), "4 200.0 TB"),
        (share(1, 3000), "< 0.1 %"),
        (share(2999, 3000), "> 99.9 %"),
        (share(0, 3), "0 %"),
        (share(1, 0), ""),
        (visible("a\nb\x00\u202e🎬"), "a\\nb\\x00\\u202e🎬"),
        (visible("\udcff"), "\\udcff"),
    ],
)
def test_words(words: str, expected: str):
    assert words.replace("\u202f", " ") == expected


@pytest.mark.parametrize(
    ("values", "wanted", "is_integer", "is_log"),
    [
        ([], [], False, False),
        ([0.0], [0.0], True, False),
        ([1.7777] * 50, [1 / 3, 3.0], False, False),
        ([0] * 200 + [2], [0.0], True, False),
        ([0.0, 0.0, 1e-9, 0.5, 40.0, 3000.0] * 9, [2.0], False, True),
        ([24.0, 25.0, 29.97] * 30 + [1e6], [8.0], False, False),
        ([-5.0, 5.0], [], False, False),
        ([1e-300, 1e300], [1.0], False, False),
    ],
)
def test_bins_rise_and_reach_the_thresholds(values: list[float], wanted: list[float], is_integer: bool, is_log: bool):
    edges, found_log = bin_edges(np.array(values, np.float64), wanted, is_integer=is_integer)
    assert found_log == is_log
    assert 2 <= len(edges) <= 120
    assert np.all(np.diff(edges) > 0)
    if len(wanted) == 1 and values:
        assert edges[0] <= wanted[0] <= edges[-1]


def test_round_steps():
    assert [round_step(s) for s in (0.9, 1.0, 1.1, 2.1, 2.6, 0.03, 700)] == [1, 1, 2, 2.5, 5, 0.05, 1000]
    assert round_step(float(Fraction(1, 3))) == 0.5


# -- what other thresholds would keep


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("scored"), drawn_rows(300, seed=3))


def array(packed: dict[str, str]) -> list[float | None]:
    ((kind, text),) = packed.items()
    values = np.frombuffer(base64.b64decode(text), {"u1": np.uint8, "u2": "<u2", "f4": "<f4"}[kind])
    return [None if np.isnan(v) or (kind == "u1" and v == 255) else float(v) for v in values.astype(np.float64)]


def test_every_score_that_a_rule_asks_for_is_in_the_page(scored: Store):
    clips = scored.open("clips")
    data = what_if_data(scored, distributions(scored, Thresholds()), Thresholds(), 1000)
    rows = sorted(rows_of(scored), key=lambda row: row["clip_id"])
    assert data["found"] == data["drawn"] == len(rows)
    columns = {rule.column for rule in RULES} & set(clips.schema.names)
    assert data["scores"].keys() == columns
    for name in columns:
        values = [None if row[name] is None else float(row[name]) for row in rows]
        found = array(data["scores"][name])
        assert [value is None for value in found] == [value is None for value in values]
        assert np.allclose(np.array(found, np.float64), np.array(values, np.float64), rtol=1e-6, equal_nan=True)
    assert {"u1"} == data["scores"]["damaged_frames"].keys() == data["scores"]["is_still"].keys()
    assert [rule["threshold"] for rule in data["rules"]] == [rule.threshold for rule in RULES]


def test_bins_in_the_page_are_those_of_the_histograms(scored: Store):
    histograms = distributions(scored, Thresholds())
    data = what_if_data(scored, histograms, None, 1000)
    for histogram, packed in zip(histograms, data["bins"], strict=True):
        bins = len(histogram.edges) - 1
        counts = np.zeros(bins, np.int64)
        for value in array(packed):
            if value is not None:
                for at in [i for i in range(bins) if int(value) >> i & 1] if "u2" in packed else [int(value)]:
                    counts[at] += 1
        groups = (histogram.kept, histogram.rejected_here, histogram.rejected_elsewhere)
        assert counts.tolist() == np.sum(groups, axis=0).tolist(), histogram.column.name


def test_names_are_counted_commonest_first_and_the_rest_together():
    rows = drawn_rows(60, seed=4)
    for index, row in enumerate(rows):
        row["telecine"] = f"name {min(index // 2, 20):02}"
        row["dominant_colors"] = ["red", "blue"] if index else None
    with TemporaryDirectory() as folder:
        shown = {h.column.name: h for h in distributions(write_store(Path(folder), rows), None)}
    assert shown["telecine"].labels[0] == "name 20"
    assert shown["telecine"].labels[-1] == "9 others"
    assert shown["telecine"].has_others
    assert sum(shown["telecine"].kept + shown["telecine"].rejected_elsewhere) == 60
    assert shown["dominant_colors"].labels == ("blue", "red")
    assert shown["dominant_colors"].missing == 1


def test_a_draw_is_said_to_be_one(scored: Store, tmp_path: Path):
    page = Page(write_report(scored, tmp_path, ReportConfig(slider_clips=50)).page)
    assert (page.data["what_if"]["drawn"], page.data["what_if"]["found"]) == (50, 300)
    assert "Computed from a fair draw of 50 of the 300 clips" in page.text
    whole = Page(write_report(scored, tmp_path, ReportConfig()).page)
    assert "fair draw of 50" not in whole.text


def test_a_page_says_what_the_scores_say(tmp_path: Path):
    (row,) = drawn_rows(1, seed=5)
    seen = {
        "camera_motion": "pan",
        "camera_direction": "left",
        "camera_speed_share_per_s": 0.12,
        "camera_confidence": 0.9,
        "dominant_colors": ["red", "<b>"],
        "active_x_px": 0,
        "active_y_px": 20,
        "active_width_px": 640,
        "active_height_px": 320,
        "duplicate_of": "<script>",
        "reason": "duplicate",
        "keep": False,
    }
    row |= {name: value for name, value in seen.items() if name in row}
    page = Page(write_report(write_store(tmp_path, [row]), tmp_path / "page", ReportConfig()).page)
    assert "duplicate of <script>" in page.text
    (box,) = [e for e in page.all("rect") if e.get("height") == "320"]
    assert (box["x"], box["y"], box["width"]) == ("0", "20", "640")
    assert len(page.all("svg", class_="swatch")) == 1, "no paint is made up for a name that nobody knows"
    assert " ".join(page.text.split()).count("pan left 0.12 sides/s") == 1


def test_a_duplicate_is_linked_to_the_clip_that_is_kept(tmp_path: Path):
    rows = drawn_rows(40, seed=6)
    kept = next(row for row in rows if row["keep"])
    loser = next(row for row in rows if row["keep"] and row is not kept)
    loser |= {"duplicate_of": kept["clip_id"], "reason": "duplicate", "keep": False}
    page = Page(write_report(write_store(tmp_path, rows), tmp_path / "page", ReportConfig()).page)
    assert [a["text"] for a in page.all("a", href=f"#clip-{kept['clip_id']}")] == ["this clip"]
    assert page.data["what_if"]["others"]["reasons"] == ["duplicate"]
