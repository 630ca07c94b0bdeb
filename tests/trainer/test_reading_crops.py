"""Crops for a compression network: from clips that are large and long enough, at any place, the same whoever reads."""

from __future__ import annotations

import pickle
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.store import Store
from tests.reading_stores import TINY, MadeClip, made_store, source_of
from trainer.reading.batch import CropBatch
from trainer.reading.crops import CropReader
from trainer.reading.listing import list_clips
from trainer.reading.slots import NothingReadable
from trainer.reading.workers import slot_batches

CLIPS = [
    MadeClip("dark", level=20),
    MadeClip("light", level=140, captions=()),
    MadeClip("short", frames=5, level=200),
    MadeClip("small", width=24, level=200),
    MadeClip("rejected", keep=False, level=200),
    MadeClip("boxed", width=96, height=96, box=(24, 24, 40, 40), level=80),
]


def reader_of(store: Store, directory: Path, **other: Any) -> CropReader:
    source = replace(source_of(store), captions_version=None)
    clips = list_clips(source, TINY.compression, 80, directory)
    return CropReader(store, clips, **({"frames": 9, "side_px": 32, "batch": 3, "seed": 2} | other))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("crops"), CLIPS)


def test_crops_are_of_suitable_clips_at_any_place(store: Store, tmp_path: Path) -> None:
    reader = reader_of(store, tmp_path)
    assert [CLIPS[n].name for n in reader.suitable] == ["dark", "light", "boxed"]
    crops = torch.cat([reader.read(step, 0).pixels_BCTHW for step in range(20)])
    assert crops.shape == (60, 3, 9, 32, 32)
    first = crops[:, :, 0].float().mean((1, 2, 3))
    assert first.min() > 15  # nothing of a black border
    assert first.max() < 195  # nothing of the others
    assert len({round(value) for value in first.tolist()}) > 15
    later = crops[:, :, 8].float().mean((1, 2, 3))
    assert ((later - first - 8).abs() < 2).all()  # frames follow each other


def is_same(one: CropBatch, other: CropBatch) -> bool:
    return (one.step, one.slot) == (other.step, other.slot) and torch.equal(one.pixels_BCTHW, other.pixels_BCTHW)


def test_whoever_reads_them_and_in_any_order(store: Store, tmp_path: Path) -> None:
    reader = reader_of(store, tmp_path)
    places = [(0, 0), (0, 1), (1, 0)]
    here = [reader.read(*place) for place in places]
    assert [(one.step, one.slot) for one in here] == places
    again = pickle.loads(pickle.dumps(reader))
    assert all(is_same(again.read(*place), one) for place, one in zip(places[::-1], here[::-1], strict=True))
    with closing(slot_batches(reader, places, workers=1)) as there:
        assert all(is_same(one, other) for one, other in zip(here, there, strict=True))
    assert not torch.equal(here[0].pixels_BCTHW, here[1].pixels_BCTHW)
    assert not torch.equal(replace(reader, seed=3).read(0, 0).pixels_BCTHW, here[0].pixels_BCTHW)


def test_a_damaged_clip_is_replaced_by_the_next(tmp_path: Path) -> None:
    clips = [MadeClip("bad", video=b"no video"), MadeClip("good", level=100), MadeClip("worse", video=b"no video")]
    store = made_store(tmp_path, clips)
    batch = reader_of(store, tmp_path, batch=12).read(0, 0)
    assert (batch.pixels_BCTHW[:, :, 0].float().mean((1, 2, 3)) > 90).all()
    assert 0 < batch.replaced < 12, "two of three clips are damaged"
    nothing = made_store(tmp_path / "b", [clips[0], clips[2]])
    with pytest.raises(NothingReadable, match=r"neither clip .* can be decoded; curate"):
        reader_of(nothing, tmp_path / "b").read(0, 0)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frames", 0, "must be at least 1"),
        ("side_px", 0, "must be at least 1"),
        ("batch", 0, "must be at least 1"),
        ("side_px", 65, "no clip that may be trained on is so large"),
    ],
)
def test_impossible_crops_are_refused(store: Store, tmp_path: Path, field: str, value: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"{field}={value}: .*{said}"):
        reader_of(store, tmp_path, **{field: value})
