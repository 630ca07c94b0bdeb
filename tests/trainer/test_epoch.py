"""Plans of epochs: every clip has a fate, every kept clip one place, and nothing but the arguments decides which."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.epoch_reference import ClipShape, fates_of, plan_epoch
from trainer.epoch import EpochConfig, shard_of
from trainer.geometry import Compression, FitConfig
from trainer.packing import PackConfig

CONFIG = EpochConfig(FitConfig(256), PackConfig(1024), Compression(), seed=3, slots=4)
RATE = Fraction(24)


def clips(count: int) -> list[ClipShape]:
    sizes = ((1080, 1920), (720, 1280), (1920, 1080), (480, 480), (240, 426))
    return [ClipShape(7 * n, 20 + 31 * n % 200, *sizes[n % len(sizes)], RATE) for n in range(count)]


shapes = st.lists(
    st.builds(ClipShape, st.integers(0, 10**9), st.integers(1, 300), *[st.integers(1, 700)] * 2, st.just(RATE)),
    min_size=1,
    max_size=60,
    unique_by=lambda shape: shape.row_id,
)


@given(shapes, st.integers(1, 9))
def test_every_clip_has_one_place_or_a_reason(given_shapes: list[ClipShape], slots: int) -> None:
    config = replace(CONFIG, slots=slots)
    if not any(fate.geometry for fate in fates_of(given_shapes, config)):
        with pytest.raises(ValueError, match="no clip can be trained on"):
            plan_epoch(given_shapes, config)
        return
    epoch = plan_epoch(given_shapes, config)
    assert [fate.shape for fate in epoch.fates] == sorted(given_shapes, key=lambda shape: shape.row_id)
    assert all((fate.geometry is None) == (fate.reason is not None) for fate in epoch.fates)
    packs = [pack for step in epoch.packs for pack in step]
    assert {len(step) for step in epoch.packs} == {slots}
    own = packs[: len(packs) - epoch.repeated]
    assert packs[len(own) :] == [own[n % len(own)] for n in range(epoch.repeated)]
    assert epoch.repeated < slots
    kept = [number for number, fate in enumerate(epoch.fates) if fate.geometry]
    assert sorted(number for pack in own for number in pack) == kept
    for step in range(epoch.steps):
        for slot in range(slots):
            assert sum(f.geometry.tokens for f in epoch.pack(step, slot) if f.geometry) <= CONFIG.pack.budget_tokens


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_any_world_size_reads_the_same_packs(world_size: int) -> None:
    epoch = plan_epoch(clips(200), CONFIG)
    for step in range(epoch.steps):
        read = [epoch.packs[step][s] for rank in range(world_size) for s in shard_of(CONFIG.slots, rank, world_size)]
        assert tuple(read) == epoch.packs[step]


def test_only_the_arguments_decide() -> None:
    epoch = plan_epoch(clips(200), CONFIG)
    assert plan_epoch(clips(200)[::-1], CONFIG) == epoch
    ids = {
        plan_epoch(clips(200), config).plan_id
        for config in (CONFIG, replace(CONFIG, epoch=1), replace(CONFIG, seed=4), replace(CONFIG, slots=2))
    }
    assert epoch.plan_id in ids
    assert len(ids) == 4
    assert plan_epoch(clips(199), CONFIG).plan_id not in ids


def test_epochs_have_other_packs() -> None:
    packs = [{pack for step in plan_epoch(clips(200), replace(CONFIG, epoch=n)).packs for pack in step} for n in (0, 1)]
    assert len(packs[0] & packs[1]) < len(packs[0]) / 10


def test_packs_are_not_sorted_by_length() -> None:
    epoch = plan_epoch(clips(2000), CONFIG)
    longest = [max(f.geometry.tokens for f in epoch.pack(s, 0) if f.geometry) for s in range(epoch.steps)]
    falls = sum(a > b for a, b in pairwise(longest))
    rises = sum(a < b for a, b in pairwise(longest))
    assert min(falls, rises) > 10


FATES = [
    # frames, height, width, patch of time, reason or frames left out
    (40, 1080, 1920, 1, 7),  # the least size, 4 by 7 tokens, leaves room for nine latent frames
    (29, 1080, 1920, 1, 0),
    (1, 1080, 1920, 1, 0),
    (40, 15, 1920, 1, "too_small"),
    (40, 16, 16, 1, 3),
    (4, 64, 64, 2, "too_short"),
    (5, 64, 64, 2, 0),
    (1, 16, 16 * 300, 1, "too_long"),
]


@pytest.mark.parametrize(("frames", "height", "width", "patch_time", "fate"), FATES)
def test_fates(frames: int, height: int, width: int, patch_time: int, fate: str | int) -> None:
    config = replace(CONFIG, compression=Compression(patch_time=patch_time))
    told = plan_epoch([ClipShape(1, frames, height, width, RATE), ClipShape(2, 99, 64, 64, RATE)], config).fates[0]
    assert fate == (told.reason or told.frames_left_out)


def test_pictures_are_drawn_anew() -> None:
    config = replace(CONFIG, picture_share=0.3)
    epochs = [plan_epoch(clips(500), replace(config, epoch=n)) for n in (0, 1)]
    drawn = [{f.shape.row_id for f in e.fates if f.geometry and f.geometry.frames == 1} for e in epochs]
    for rows in drawn:
        assert 100 < len(rows) < 200
    assert drawn[0] != drawn[1]
    fewer = plan_epoch(clips(250), config)
    assert {f.shape.row_id for f in fewer.fates if f.geometry and f.geometry.frames == 1} == {
        row for row in drawn[0] if row < 7 * 250
    }


REFUSED = [
    ({"slots": 0}, "slots=0: must be at least 1"),
    ({"seed": -1}, "seed=-1: must be from 0 on"),
    ({"epoch": 2**63}, "epoch=.*below 2"),
    ({"picture_share": 1.5}, "picture_share=1.5: must be from 0 to 1"),
    ({"fit": FitConfig(2048)}, "max_tokens=2048: a clip must fit into a pack, budget_tokens=1024"),
    ({"pack": PackConfig(1024, max_squares=1000)}, "max_squares=1000: must have room"),
]


@pytest.mark.parametrize(("change", "rule"), REFUSED)
def test_refused(change: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        replace(CONFIG, **change)


def test_no_clip_is_told_with_its_reasons() -> None:
    with pytest.raises(ValueError, match="no clip can be trained on: too_small 2"):
        plan_epoch([ClipShape(n, 9, 8, 8, RATE) for n in (1, 2)], CONFIG)
    with pytest.raises(ValueError, match="there are none"):
        plan_epoch([], CONFIG)


def test_a_world_size_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="slots=4: must be a multiple of the world size, 3"):
        shard_of(4, 0, 3)


def test_reasons_are_counted() -> None:
    reasons = Counter(f.reason for f in plan_epoch([*clips(5), ClipShape(3, 9, 8, 900, RATE)], CONFIG).fates)
    assert reasons == {None: 5, "too_small": 1}
