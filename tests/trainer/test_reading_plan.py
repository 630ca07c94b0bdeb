"""What is listed of a store, and the plan on disk: every clip has a fate, every kept clip one place an epoch, whoever
makes or reads it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.captions import write_captions
from curation.store import Store, StoreUnavailable
from tests.epoch_reference import ClipShape, plan_epoch
from tests.reading_stores import (
    TINY,
    MadeClip,
    add_clips,
    caption,
    config_of,
    made_store,
    plans_of,
    source_of,
    write_latents,
)
from trainer.epoch import EpochConfig, shard_of
from trainer.geometry import FitConfig
from trainer.reading.clips import ClipList, ClipSource, LatentSource
from trainer.reading.listing import exact_rates, list_clips
from trainer.reading.plan_table import VOLUME_STEPS, Plans

MANY = [
    MadeClip(f"clip {n:02}", frames=5 + 4 * (n % 4), width=(64, 96, 48)[n % 3], height=64, video=b"-")
    for n in range(23)
]
ODD = [
    MadeClip("small", width=12, video=b"-"),
    MadeClip("rejected", keep=False, reason="too_dark", video=b"-"),
    MadeClip("bare", has_video=False),
    MadeClip("silent", captions=(), video=b"-"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("many"), [*MANY, *ODD])


def listed(store: Store, directory: Path, **source: object) -> ClipList:
    return list_clips(source_of(store, **source), TINY.compression, 80, directory)


def reasons(clips: ClipList) -> dict[str, str | None]:
    return dict(zip(clips.texts("clip_id").to_pylist(), clips.reasons.to_pylist(), strict=True))


# -- the list


def test_every_clip_is_listed_with_the_first_reason_against_it(tmp_path: Path) -> None:
    clips = [
        MadeClip("good", video=b"-"),
        MadeClip("dark", keep=False, reason="too_dark", has_video=False, captions=()),
        MadeClip("odd", keep=False, video=b"-"),
        MadeClip("bare", has_video=False, captions=()),
        MadeClip("silent", captions=(), video=b"-"),
    ]
    found = listed(made_store(tmp_path, clips), tmp_path)
    wanted = {"good": None, "dark": "rejected_too_dark", "odd": "where", "bare": "no_video", "silent": "no_caption"}
    assert reasons(found) == wanted
    assert found.has_pixels.tolist() == [True, False, False, False, True]


def test_a_condition_of_ones_own(tmp_path: Path) -> None:
    clips = [MadeClip("good", video=b"-"), MadeClip("dark", keep=False, reason="too_dark", video=b"-")]
    store = made_store(tmp_path, clips)
    assert reasons(listed(store, tmp_path, where="true")) == {"good": None, "dark": None}
    assert reasons(listed(store, tmp_path, where="keep AND width > 64 -- wide")) == {
        "good": "where",
        "dark": "rejected_too_dark",
    }


@pytest.mark.parametrize("field", ["where", "captions_where"])
@pytest.mark.parametrize("condition", ["no_such_column", "true) OR (true", "keep >", "'"])
def test_what_is_no_condition_is_refused(store: Store, tmp_path: Path, field: str, condition: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}=.*: must be a condition"):
        listed(store, tmp_path, **{field: condition})


def test_captions_are_whole_checked_and_the_newest(tmp_path: Path) -> None:
    store = made_store(tmp_path, [MadeClip("a", video=b"-"), MadeClip("b", video=b"-", captions=())])
    write_captions(store, [caption("a", "short", model="newer")], "run")
    later = [
        caption("a", "short", model="window", window_index=0, window_end_pts=9),
        caption("a", "short", model="null", text=None, flags=("refused",)),
        caption("a", "short", model="flagged", flags=("repeats",)),
        caption("b", "short", model="empty", text=""),
        caption("gone", "short"),
        caption("a", "synopsis"),
    ]
    write_captions(store, later, "run")
    table = store.open("captions").to_table(columns=["model", "kind"], with_row_id=True).to_pylist()
    rows = {(row["model"], row["kind"]): row["_rowid"] for row in table}
    found = listed(store, tmp_path)
    wanted = {"short": rows["newer", "short"], "descriptive": rows["test", "descriptive"]}
    assert found.caption_rows(0) == wanted
    assert reasons(found) == {"a": None, "b": "no_caption"}
    flagged = listed(store, tmp_path, captions_where="model = 'flagged'")
    assert flagged.caption_rows(0) == {"short": rows["flagged", "short"]}


def test_the_shown_picture_is_what_is_fitted(tmp_path: Path) -> None:
    clips = [MadeClip("boxed", width=96, box=(16, 8, 64, 48), video=b"-"), MadeClip("whole", width=96, video=b"-")]
    found = listed(made_store(tmp_path, clips), tmp_path)
    assert [found.shape(n) for n in range(2)] == [(17, 48, 64), (17, 64, 96)]
    assert [found.row(n)["width"] for n in range(2)] == [96, 96]
    assert [found.row(n)["active_x_px"] for n in range(2)] == [16, None]


@pytest.mark.parametrize(
    ("rate_fps", "tick_s", "duration_s", "rate"),
    [
        (24.0, 0.0, 4.0, Fraction(24)),
        (30000 / 1001, 1e-5, 4.0, Fraction(30000, 1001)),
        (24000 / 1001, 1e-5, 3.0, Fraction(24000, 1001)),
        (96 / 4.004, 0.001, 4.004, Fraction(24000, 1001)),
        (96 / 4.005, 0.001, 4.005, Fraction(24000, 1001)),  # times in milliseconds
        (12.5, 1e-5, 2.0, Fraction(25, 2)),
        (10 / 3, 1e-5, 3.0, Fraction(10, 3)),
        (0.0004, 1e-5, 3.0, Fraction(1, 2500)),
    ],
)
def test_rates_are_exact(rate_fps: float, tick_s: float, duration_s: float, rate: Fraction) -> None:
    num, den = exact_rates(np.array([rate_fps, 24.0]), np.array([tick_s / duration_s, 0.0]))
    assert Fraction(int(num[1]), int(den[1])) == 24
    assert float(Fraction(int(num[0]), int(den[0]))) == pytest.approx(float(rate), rel=1e-9)


def test_stores_that_cannot_be_trained_on_say_what_to_do(tmp_path: Path) -> None:
    empty = made_store(tmp_path / "empty", [])
    with pytest.raises(ValueError, match=r"must have clips; make some with jobs\.curate"):
        listed(empty, tmp_path)
    silent = made_store(tmp_path / "silent", [MadeClip("a", captions=(), video=b"-")])
    with pytest.raises(ValueError, match=r"make some with jobs\.caption"):
        listed(silent, tmp_path)
    rejected = made_store(tmp_path / "rejected", [MadeClip("a", keep=False, reason="too_dark", video=b"-")])
    with pytest.raises(ValueError, match="no clip can be trained on: rejected_too_dark 1"):
        _ = plans_of(rejected, tmp_path).fates
    with pytest.raises(StoreUnavailable, match=r"no table 'clips'; make it with jobs\.curate"):
        list_clips(ClipSource(Store.at(str(tmp_path / "none")), 1, 1), TINY.compression, 80, tmp_path)


def test_a_version_that_is_gone_is_named(tmp_path: Path) -> None:
    store = made_store(tmp_path, [MadeClip("a", video=b"-")])
    source = source_of(store)
    add_clips(store, tmp_path, [MadeClip("b", video=b"-")])
    assert len(list_clips(source, TINY.compression, 80, tmp_path)) == 1  # as it was
    store.open("clips").cleanup_old_versions(timedelta(0))
    with pytest.raises(StoreUnavailable, match=f"version {source.clips_version} of 'clips' is gone"):
        list_clips(source, TINY.compression, 80, tmp_path)


# -- fates


def test_every_clip_has_one_fate(store: Store, tmp_path: Path) -> None:
    fates = plans_of(store, tmp_path).fates
    assert fates.counts() == {
        "seen": 27,
        "trained": 23,
        "no_caption": 1,
        "no_video": 1,
        "rejected_too_dark": 1,
        "too_small": 1,
    }
    rows = fates.rows.to_pylist()
    assert [row["clip_id"] for row in rows] == [clip.name for clip in [*MANY, *ODD]]
    for row, clip in zip(rows, [*MANY, *ODD], strict=True):
        is_trained = row["fate"] == "trained"
        assert (row["frames"] > 0) == (row["tokens"] > 0) == (row["height"] > 0) == is_trained
        assert row["frames"] + row["frames_left_out"] == clip.frames


# -- plans


def packs_of(plans: Plans, steps: range) -> list[list[tuple[tuple[int, int, int, int], ...]]]:
    return [
        [
            tuple(
                (one.row_id, one.geometry.frames, one.geometry.height, one.geometry.width)
                for one in plans.samples(step, slot)
            )
            for slot in range(plans.config.slots)
        ]
        for step in steps
    ]


@pytest.mark.parametrize("picture_share", [0.0, 0.4, 1.0])
def test_the_plan_on_disk_is_the_epochs_one_after_another(store: Store, tmp_path: Path, picture_share: float) -> None:
    config = config_of(picture_share=picture_share, seed=9)
    plans = plans_of(store, tmp_path, config)
    clips = plans.clips
    shapes = [
        ClipShape(int(clips.column("row_id")[n]), *clips.shape(n), clips.rate(n))
        for n in range(len(clips))
        if clips.reasons[n].as_py() is None
    ]
    step = 0
    for number in range(5):
        epoch = plan_epoch(shapes, replace(config, epoch=number))
        assert plans.epoch_of(step) == number
        assert plans.epoch_steps(step) == epoch.steps
        found = packs_of(plans, range(step, step + epoch.steps))
        for pack, slots in zip(found, epoch.packs, strict=True):
            wanted = [
                tuple(
                    (f.shape.row_id, g.frames, g.height, g.width)
                    for n in slot
                    if (f := epoch.fates[n]) and (g := f.geometry)
                )
                for slot in slots
            ]
            assert pack == wanted
        step += epoch.steps


def test_every_kept_clip_is_read_once_an_epoch(store: Store, tmp_path: Path) -> None:
    plans = plans_of(store, tmp_path, config_of(slots=1))
    step = 0
    for _ in range(30):
        steps = range(step, step + plans.epoch_steps(step))
        found = Counter(one.number for s in steps for one in plans.samples(s, 0))
        assert found == Counter(range(len(MANY)))
        step = steps.stop


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_any_world_size_reads_the_same_packs(store: Store, tmp_path: Path, world_size: int) -> None:
    plans = plans_of(store, tmp_path)
    whole = packs_of(plans, range(3))
    again = Plans(tmp_path, plans.config)
    for step, packs in enumerate(whole):
        read = [
            again.samples(step, slot)
            for rank in range(world_size)
            for slot in shard_of(plans.config.slots, rank, world_size)
        ]
        assert [[one.row_id for one in pack] for pack in read] == [[row for row, *_ in pack] for pack in packs]


def test_volumes_are_made_when_asked_for_and_the_same_again(store: Store, tmp_path: Path) -> None:
    plans = plans_of(store, tmp_path, config_of(slots=1, picture_share=0.3))
    far = packs_of(plans, range(2 * VOLUME_STEPS, 2 * VOLUME_STEPS + 9))
    files = sorted(tmp_path.glob("plan-*.arrow"))
    assert len(files) == 3 if plans.epoch_steps(0) < VOLUME_STEPS else 1
    whole = [path.read_bytes() for path in files]
    for gone in files:
        gone.unlink()
        again = Plans(tmp_path, plans.config)
        assert packs_of(again, range(2 * VOLUME_STEPS, 2 * VOLUME_STEPS + 9)) == far
        again.prepare(0)
        assert [path.read_bytes() for path in files] == whole
    assert not list(tmp_path.glob("*.part"))


def make(directory: Path, config: EpochConfig) -> None:
    Plans(directory, config).prepare(0)


def test_processes_may_make_the_same_volume_at_once(store: Store, tmp_path: Path) -> None:
    plans = plans_of(store, tmp_path)
    context = multiprocessing.get_context("spawn")
    makers = [context.Process(target=make, args=(tmp_path, plans.config)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0]
    once = packs_of(plans, range(4))
    for path in tmp_path.glob("plan-*"):
        path.unlink()
    assert packs_of(Plans(tmp_path, plans.config), range(4)) == once


def test_another_config_or_other_clips_are_another_plan(store: Store, tmp_path: Path) -> None:
    plans = plans_of(store, tmp_path)
    ids = {plans.plan_id}
    for config in (config_of(seed=1), config_of(slots=2), config_of(max_tokens=79), config_of(picture_share=0.1)):
        ids.add(Plans(tmp_path, config).plan_id)
    ids.add(plans_of(store, tmp_path / "b", where="keep AND width > 64").plan_id)
    assert len(ids) == 6
    assert plans_of(store, tmp_path / "c").plan_id == plans.plan_id


@pytest.mark.parametrize("data", [b"", b"no arrow", b"ARROW1\0\0" + b"\xff" * 100])
def test_a_file_of_something_else_is_named(store: Store, tmp_path: Path, data: bytes) -> None:
    plans = plans_of(store, tmp_path)
    plans.prepare(0)
    (path,) = tmp_path.glob("plan-*.arrow")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path.name}: is no file of a plan"):
        Plans(tmp_path, plans.config).samples(0, 0)


def test_without_a_list_there_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"clips\.arrow"):
        Plans(tmp_path, config_of())


# -- latents


def latent_rows(name: str, sizes: list[tuple[int, int, int]], network: str = "net") -> list[dict[str, Any]]:
    return [
        {"input_id": name, "kind": "clip", "network_id": network, "frames": f, "height": h, "width": w}
        | {"values": np.zeros((16, 1 + (f - 1) // 4, h // 8, w // 8))}
        for f, h, w in sizes
    ]


def test_of_several_latents_the_largest_that_fits_is_read(tmp_path: Path) -> None:
    names = ("one", "several", "large", "none", "failed")
    store = made_store(tmp_path, [MadeClip(name, video=b"-") for name in names])
    failed = latent_rows("failed", [(17, 32, 32)])[0] | {"failure": "damaged"}
    write_latents(
        store,
        [
            *latent_rows("several", [(17, 32, 32), (17, 64, 64), (17, 128, 128)]),
            *latent_rows("one", [(9, 32, 32)]),
            *latent_rows("large", [(17, 128, 128)]),
            *latent_rows("none", [(17, 32, 32)], network="other"),
            *latent_rows("gone", [(17, 32, 32)]),
            failed,
        ],
    )
    latents = LatentSource(store.open("latents").version, network_id="net")
    plans = plans_of(store, tmp_path, config_of(picture_share=0.0), latents=latents)
    fates = {row["clip_id"]: row for row in plans.fates.rows.to_pylist()}
    assert [fates[name]["fate"] for name in names] == ["trained", "trained", "too_long", "no_latent", "no_latent"]
    sizes = {name: tuple(fates[name][side] for side in ("frames", "height", "width")) for name in names[:2]}
    assert sizes == {"one": (9, 32, 32), "several": (17, 64, 64)}
    for name in names:  # what was not encoded is left out of the clip, too
        assert fates[name]["frames_left_out"] == MadeClip(name).frames - fates[name]["frames"]


def test_a_caption_that_was_not_read_ahead_is_told_from_none(tmp_path: Path) -> None:
    names = ("read", "unread", "silent")
    store = made_store(tmp_path, [MadeClip(name, video=b"-") for name in names[:2]])
    add_clips(store, tmp_path, [MadeClip("silent", video=b"-")])
    of_clip = {row["clip_id"]: row["caption_id"] for row in store.open("captions").to_table().to_pylist()}
    words = {"kind": "text", "network_id": "reader", "values": np.zeros((3, 8))}
    write_latents(store, [{"input_id": of_clip["read"], **words}, {"input_id": "", **words}])
    latents = LatentSource(store.open("latents").version, encoder_id="reader")
    found = plans_of(store, tmp_path, latents=latents).fates.rows.to_pylist()
    assert {row["clip_id"]: row["fate"] for row in found} == dict(
        zip(names, ("trained", "no_embedding", "no_caption"), strict=True)
    )


def test_latents_cannot_be_cropped(tmp_path: Path) -> None:
    store = made_store(tmp_path, [MadeClip("one", video=b"-")])
    write_latents(store, latent_rows("one", [(9, 32, 32)]))
    latents = LatentSource(store.open("latents").version, network_id="net")
    with pytest.raises(ValueError, match="square_crop=True: must be False where latents are read"):
        plans_of(store, tmp_path, config_of(fit=FitConfig(80, square_crop=True)), latents=latents)
    with pytest.raises(ValueError, match="network_id=None"):
        LatentSource(1)
