"""A bad file costs one row with a reason, and nothing else: not the run, not the memory, not another file."""

from __future__ import annotations

import os
import random
import socket
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from curation.curate import CurateConfig
from curation.film import Edit, Encoding, Join, SceneSpec, encode_film, render
from curation.ingest import Footage, find_footage
from curation.media import Limits
from curation.store import FinishedSource, Store
from curation.work import curate_footage
from tests.hostile import BAD_FILES, RATE, BadFile, film, flipped, make_bad_files, playlists
from tests.watching import Watch, server

RUN = "run-bad-input"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.at(str(tmp_path / "store"))
    made.create()
    return made


def curated(path: Path | str, store: Store, config: CurateConfig | None = None) -> FinishedSource:
    """What becomes of one file that is there, landed in the store."""
    (found,) = find_footage([str(path)])
    assert isinstance(found, Footage), found
    finished = curate_footage(found, store, config or CurateConfig(), RUN)
    assert finished is not None, "the store has it already"
    store.commit_sources([finished])
    return finished


def rows(store: Store, table: str) -> list[dict[str, Any]]:
    dataset = store.open(table)
    columns = [name for name in dataset.schema.names if name not in ("video", "thumbnail")]
    return dataset.to_table(columns=columns).to_pylist()


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_a_bad_file_costs_one_row_with_a_reason(bad: BadFile, store: Store, tmp_path: Path) -> None:
    path = tmp_path / bad.name
    bad.make(path)
    curated(path, store)
    (row,) = rows(store, "sources")
    assert (row["state"], row["reason"]) == (bad.state, bad.reason)
    assert row["uri"] == str(path)
    assert row["bytes"] == path.stat().st_size
    assert bool(row["detail"]) == bool(bad.reason)
    clips = rows(store, "clips")
    assert any(clip["keep"] for clip in clips) == bad.has_clips
    assert bool(clips) == (bad.state == "curated")


def test_the_rest_of_the_run_is_unharmed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "footage"
    folder.mkdir()
    bad = make_bad_files(folder)
    good = [film(folder / f"{name}.mp4", Encoding(rate=RATE), seconds=2.5 + i) for i, name in enumerate("amz")]
    for found in find_footage([str(folder), *(str(folder / name) for name in bad)]):
        assert isinstance(found, Footage)
        finished = curate_footage(found, store, CurateConfig(), RUN)
        if finished is not None:
            store.commit_sources([finished])
    by_name = {Path(row["uri"]).name: row for row in rows(store, "sources")}
    expected = {name: (file.state, file.reason) for name, file in bad.items()}
    expected |= {path.name: ("curated", None) for path in good}
    assert {name: (row["state"], row["reason"]) for name, row in by_name.items()} == expected
    kept = [clip["source_id"] for clip in rows(store, "clips") if clip["keep"]]
    assert [kept.count(by_name[path.name]["source_id"]) for path in good] == [2, 2, 2]


def test_details_say_what_to_do(store: Store, tmp_path: Path) -> None:
    advice = ("copy it", "copy or convert", "give ", "run `", "download it", "convert it", "save it", "rewrite it")
    advice += ("split the file", "scale it", "leave some out", "put it into", "mend the header", "no video stream")
    advice += ("max_frame_pixels",)
    for bad in make_bad_files(tmp_path).values():
        finished = curate_footage(Footage(str(tmp_path / bad.name), None, ""), store, CurateConfig(), RUN)
        assert finished is not None
        if bad.state != "curated":
            assert any(words in finished.row["detail"].lower() for words in advice), finished.row["detail"]


# -- damage costs what it covers


def four_scenes(path: Path, encoding: Encoding) -> None:
    specs = tuple(SceneSpec(seed, 40, pan_x_px_per_s=30.0) for seed in range(4))
    times_s = [i / float(encoding.rate) for i in range(160)]
    encode_film(path, render(Edit(specs, (Join("cut"),) * 3), 160, 128, times_s), encoding)


ENCODINGS = {
    "a.mp4": Encoding(rate=RATE, b_frames=2, gop_frames=40),
    "a.ts": Encoding(rate=Fraction(25), b_frames=2, gop_frames=40),
    "a.webm": Encoding(codec="libvpx-vp9", rate=Fraction(25), time_base=Fraction(1, 1000), gop_frames=40),
    "a.mkv": Encoding(codec="mpeg4", rate=RATE, gop_frames=20),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_clips_elsewhere_survive(name: str, store: Store, tmp_path: Path) -> None:
    path = tmp_path / name
    four_scenes(path, ENCODINGS[name])
    good = path.read_bytes()
    outcomes: dict[bool, int] = {}
    for seed in range(6):
        path.write_bytes(flipped(good, seed, flips=12, begin=0.40, end=0.45))
        finished = curated(path, store)
        assert finished.row["state"] == "curated"
        kept = [
            clip for clip in rows(store, "clips") if clip["source_id"] == finished.row["source_id"] and clip["keep"]
        ]
        assert any(clip["start_s"] == 0 for clip in kept), "the first scene is whole"
        assert any(clip["start_s"] > 4.5 for clip in kept), "the last scene is whole"
        is_damaged = finished.clips.get("damaged", 0) > 0
        outcomes[is_damaged] = outcomes.get(is_damaged, 0) + 1
    assert outcomes.get(True), "guard: the damage was met"


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.webm", "a.mkv"])
def test_no_damage_ends_the_run(name: str, store: Store, tmp_path: Path) -> None:
    path = film(tmp_path / name, ENCODINGS[name], seconds=1)
    good = path.read_bytes()
    states = set()
    for seed in range(25):
        dice = random.Random(seed)
        start = dice.randrange(len(good))
        cut_out = good[:start] + good[start + dice.randrange(len(good) // 3) :]
        path.write_bytes(cut_out if seed % 3 == 0 else flipped(good, seed, flips=1 + seed))
        (found,) = find_footage([str(path)])
        assert isinstance(found, Footage)
        finished = curate_footage(found, store, CurateConfig(), RUN)
        if finished is not None:
            states.add((finished.row["state"], finished.row["reason"]))
    assert len(states) >= 2, states


@pytest.mark.footage
@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("decord__corrupted.mp4", "curated", "damaged"),
        ("CogVideo__horse_lfs-pointer.mp4", "failed", "not_media"),
        ("mediabunny__toothsome-dts.mp4", "rejected", "no_video"),
    ],
)
def test_real_bad_files(name: str, state: str, reason: str, real_footage: Path, store: Store) -> None:
    path = real_footage / "bad" / name
    if not path.exists():
        pytest.skip(f"{name} is not in this folder of real footage")
    finished = curated(path, store)
    assert (finished.row["state"], finished.row["reason"]) == (state, reason)
    assert not finished.clips.get("kept")


# -- names and what is not a file

NAMES = [
    "a 'b\" c.mp4",
    "new\nline.mp4",
    "🎬.mp4",
    "-i.mp4",
    "concat:a|b.mp4",
    "img%03d.mp4",
    "a[1].mp4",
    "x" * 251 + ".mp4",
]
NAMES += ["http:/x.mp4", "subfile,,start,0,end,9,,:b.mp4", os.fsdecode(b"caf\xe9\xff.mp4"), "100%25.mp4"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_curated_and_stored(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    film(tmp_path / "made.mp4").rename(tmp_path / name)
    assert curated(name, store).clips == {"kept": 2}
    (row,) = rows(store, "sources")
    (again,) = find_footage([row["uri"]])
    assert isinstance(again, Footage)
    assert again.uri == row["uri"]
    assert curate_footage(again, store, CurateConfig(), RUN) is None, "the content is in the store already"


@pytest.mark.timeout(30)
def test_what_is_not_a_file_has_a_row_too(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.mp4")
    Path("device.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "socket.mp4", "device.mp4"):
        row = curated(name, store).row
        assert (row["state"], row["reason"]) == ("rejected", "not_a_file")
    assert len(rows(store, "sources")) == 3


def test_a_file_that_is_gone_has_a_row(store: Store, tmp_path: Path) -> None:
    finished = curate_footage(Footage(str(tmp_path / "gone.mp4"), 10, "then"), store, CurateConfig(), RUN)
    assert finished is not None
    assert (finished.row["state"], finished.row["reason"]) == ("failed", "unreadable")


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_source_bytes": 1000}, "too_many_bytes"),
        ({"max_source_hours": 1 / 3600}, "too_long"),
        ({"max_frame_pixels": 160 * 128 - 1}, "too_many_pixels"),
        ({"max_rate_fps": 23}, "too_many_frames"),
        ({"max_streams": 1}, "too_many_streams"),
        ({"max_decode_minutes": 1e-9}, "decode_timeout"),
    ],
)
def test_limits_are_rules(limits: dict[str, Any], reason: str, store: Store, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", Encoding(rate=RATE, audio_codec="aac"))
    row = curated(path, store, CurateConfig(limits=Limits(**limits))).row
    assert row["reason"] == reason
    assert row["state"] == ("failed" if reason == "decode_timeout" else "rejected")
    assert next(iter(limits)) in row["detail"]
    assert curated(path, store).row["state"] == "curated", "with other limits it is tried again"


def test_nothing_else_is_opened(store: Store, tmp_path: Path) -> None:
    other = film(tmp_path / "other.ts", Encoding(rate=Fraction(25)))
    watch = Watch(other)
    with server() as (address, requests):
        for target in (address, str(other), other.name):
            for name, text in playlists(target).items():
                path = tmp_path / name
                path.write_bytes(text)
                assert curated(path, store).row["reason"] == "names_other_files"
        assert requests == []
    assert not watch.was_opened()
    watch.close()
