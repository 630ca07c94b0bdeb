"""Slots, read: the same bytes whoever reads them, in any order; what is shown and no more; what is damaged replaced by
rule and counted."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.captions import write_captions
from curation.store import Store, StoreUnavailable
from tests.reading_stores import TINY, MadeClip, add_clips, caption, config_of, made_store, plans_of, write_latents
from trainer.draws import Key, MaskConfig, draw_noise, draw_normal
from trainer.epoch import EpochConfig
from trainer.geometry import FitConfig
from trainer.model.pack import patches_of
from trainer.model.text import Texts
from trainer.model.transformer import TextTokens
from trainer.reading.batch import SlotBatch
from trainer.reading.clips import LatentSource
from trainer.reading.mix import CaptionMix
from trainer.reading.slots import NothingReadable, SlotReader
from trainer.reading.workers import ReaderDied, slot_batches

CLIPS = [
    MadeClip(f"clip {n}", frames=(9, 17, 13)[n % 3], width=(64, 96)[n % 2], height=(64, 48)[n % 2], level=60 + 9 * n)
    for n in range(10)
]
PLACES = [(step, slot) for step in range(3) for slot in range(2)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("slots")
    store = made_store(folder, CLIPS[:4])
    add_clips(store, folder, CLIPS[4:6])
    add_clips(store, folder, CLIPS[6:])
    write_captions(store, [caption(clip.name, kind) for clip in CLIPS[4:] for kind in clip.captions], "run-test")
    return store


@pytest.fixture(scope="module")
def reader(store: Store, tmp_path_factory: pytest.TempPathFactory) -> SlotReader:
    return reader_of(store, tmp_path_factory.mktemp("plan"), config_of(slots=2, picture_share=0.2))


def reader_of(store: Store, directory: Path, config: EpochConfig | None = None, **other: Any) -> SlotReader:
    source = {name: other.pop(name) for name in ("where", "latents") if name in other}
    plans = plans_of(store, directory, config, **source)
    return SlotReader(store, plans, other.pop("transformer", TINY), other.pop("seed", 7), **other)


def leaves(value: Any) -> Iterator[Any]:
    """All that a batch is made of, but for how long it took."""
    if isinstance(value, Tensor):
        yield value.dtype, tuple(value.shape), value.numpy().tobytes()
    elif is_dataclass(value):
        for field in fields(value):
            if field.name != "read_s":
                yield from leaves(getattr(value, field.name))
    elif isinstance(value, tuple):
        yield len(value)
        for one in value:
            yield from leaves(one)
    else:
        yield value


def same(one: SlotBatch, other: SlotBatch) -> bool:
    return list(leaves(one)) == list(leaves(other))


# -- who reads


def test_any_number_of_workers_reads_the_same_in_order(reader: SlotReader) -> None:
    here = list(slot_batches(reader, PLACES))
    assert [(batch.step, batch.slot) for batch in here] == PLACES
    with closing(slot_batches(reader, iter(PLACES), workers=2)) as batches:
        there = list(batches)
    assert all(same(one, other) for one, other in zip(here, there, strict=True))
    assert any(batch.pixels[0].shape[1] > 1 for batch in here)
    assert len({tuple(map(str, leaves(batch))) for batch in here}) == len(PLACES)


def test_neither_the_order_nor_opening_again_matters(reader: SlotReader) -> None:
    here = dict(zip(PLACES, slot_batches(reader, PLACES), strict=True))
    again = pickle.loads(pickle.dumps(reader))
    assert "_clips" in vars(reader)
    assert "_clips" not in vars(again)
    for place in reversed(PLACES):
        assert same(again.read(*place), here[place])


def children() -> set[int]:
    return {process.pid for process in multiprocessing.active_children() if process.pid}


def test_workers_end_with_their_iterator_and_take_nothing_of_the_trainers_chance(reader: SlotReader) -> None:
    before, state = children(), torch.random.get_rng_state()
    batches = slot_batches(reader, ((step, 0) for step in range(10**9)), workers=1)
    next(batches)
    assert len(children() - before) >= 1
    batches.close()
    assert not children() - before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_worker_that_dies_is_told_of(reader: SlotReader) -> None:
    before = children()
    with closing(slot_batches(reader, ((step, 0) for step in range(10**9)), workers=1)) as batches:
        next(batches)
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ReaderDied, match="ended by itself"):
            for _ in batches:
                pass


def test_an_error_of_a_worker_is_raised_as_it_is(store: Store, tmp_path: Path) -> None:
    damaged = [MadeClip("bad", video=b"no video"), MadeClip("worse", video=b"")]
    unreadable = reader_of(made_store(tmp_path, damaged), tmp_path)
    for workers in (0, 1):
        with (
            closing(slot_batches(unreadable, [(0, 0)], workers=workers)) as batches,
            pytest.raises(NothingReadable, match=r"^step 0, slot 0: none of . clips can be decoded.*curate") as raised,
        ):
            next(batches)
        assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize(("field", "value"), [("workers", -1), ("ahead", 0)])
def test_impossible_numbers_of_workers_are_refused(reader: SlotReader, field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field}={value}: must"):
        slot_batches(reader, PLACES, **{field: value})


# -- what is read


def test_a_batch_is_what_its_keys_say(reader: SlotReader) -> None:
    masks = set()
    for step, slot in PLACES:
        batch, planned = reader.read(step, slot), reader.plans.samples(step, slot)
        assert batch.clip_ids == tuple(CLIPS[one.number].name for one in planned)
        assert batch.pack.geometries == tuple(one.geometry for one in planned)
        assert [tuple(x.shape) for x in batch.pixels] == [
            (3, one.geometry.frames, one.geometry.height, one.geometry.width) for one in planned
        ]
        assert len(batch.pack.row_L) == len(batch.noise_LP) == 160
        assert not batch.pack.latents_LP.any()
        keys = [Key(7, step, slot, n) for n in range(len(planned))]
        noises = [
            patches_of(draw_noise(key, one.geometry, TINY.latent_channels), TINY.compression)
            for key, one in zip(keys, planned, strict=True)
        ]
        tokens = sum(map(len, noises))
        assert torch.equal(batch.noise_LP[:tokens], torch.cat(noises))
        assert not batch.noise_LP[tokens:].any()
        assert batch.normal_N.tolist() == pytest.approx([draw_normal(key, "time") for key in keys])
        assert isinstance(batch.texts, Texts)
        assert len(batch.texts.segments.lengths) == len(batch.pack.sample_segments.lengths) == len(planned) + 1
        assert batch.texts.segments.lengths[-1] == 1
        for name, kind, text in zip(batch.clip_ids, batch.caption_kinds, batch.captions, strict=True):
            assert text == ("" if kind == "none" else f"The {kind} caption of {name}. It has two sentences.")
        known = torch.split(batch.pack.is_known_L[:tokens], [one.geometry.tokens for one in planned])
        assert [bool(part.any()) for part in known] == [mask != "none" for mask in batch.masks]
        assert batch.read_bytes > 0
        assert batch.replaced == batch.words_cut == 0
        masks |= set(batch.masks)
    assert len(masks) > 1


def test_pixels_are_the_active_picture_upright(tmp_path: Path) -> None:
    clips = [
        MadeClip("boxed", width=96, height=64, box=(16, 8, 64, 48), level=120),
        MadeClip("turned", width=32, height=64, rotation=90, level=40),
        MadeClip("half turned", width=64, height=32, rotation=180, level=80),
    ]
    reader = reader_of(made_store(tmp_path, clips), tmp_path, config_of(budget_tokens=80, slots=1))
    found = {}
    for step in range(3):
        batch = reader.read(step, 0)
        found |= dict(zip(batch.clip_ids, batch.pixels, strict=True))
    assert {name: tuple(x.shape[2:]) for name, x in found.items()} == {
        "boxed": (48, 64),
        "turned": (64, 32),
        "half turned": (32, 64),
    }
    for clip in clips:
        x_THW = found[clip.name].float().mean(0)
        at = clip.box[0] if clip.box else 0
        ramp = clip.level + np.linspace(0, 60, clip.width)[at : at + x_THW.shape[2]]
        wanted = torch.from_numpy(ramp) + torch.arange(x_THW.shape[0])[:, None, None]
        assert (x_THW - wanted)[:, 2:-2, 2:-2].abs().max() < 8, clip.name


def test_a_square_crop_is_of_the_middle(tmp_path: Path) -> None:
    config = config_of(fit=FitConfig(80, min_side_px=32, square_crop=True), slots=1)
    batch = reader_of(made_store(tmp_path, [MadeClip("wide", width=96, height=48)]), tmp_path, config).read(0, 0)
    (x,) = batch.pixels
    assert x.shape[2:] == (48, 48)
    middle = 100 + np.linspace(0, 60, 96)[24:72]
    assert (x[:, 0].float().mean((0, 1)) - torch.from_numpy(middle))[2:-2].abs().max() < 8


def test_of_a_long_clip_only_the_first_bytes_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    long = MadeClip("long", frames=200, width=256, height=256, level=int(rng.integers(50, 100)))
    reader = reader_of(made_store(tmp_path, [replace(long, video=noisy(tmp_path, long))]), tmp_path, config_of(slots=1))
    size = reader.plans.clips.row(0)
    batch = reader.read(0, 0)
    whole = reader.store.open("clips").to_table(columns=["video_bytes"])["video_bytes"][0].as_py()
    assert size["frames"] == 200 > 2 * batch.pixels[0].shape[1]
    assert batch.read_bytes < 0.6 * whole


def noisy(folder: Path, clip: MadeClip) -> bytes:
    """A video of some MB: of one that fits in a buffer all is read."""
    from curation.film_encode import Encoding, encode_film
    from tests.reading_stores import RATE, TICKS

    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (clip.height, clip.width, 3), np.uint8) for _ in range(clip.frames))
    encode_film(folder / "noisy.mp4", frames, Encoding(rate=RATE, time_base=1 / (RATE * TICKS)))
    return (folder / "noisy.mp4").read_bytes()


# -- what cannot be read


def test_a_damaged_clip_is_replaced_by_the_next_of_its_size(tmp_path: Path) -> None:
    clips = [
        MadeClip("a"),
        MadeClip("b", video=b"no video"),
        MadeClip("wide", width=96),
        MadeClip("c", video=b"neither"),
        MadeClip("d"),
    ]
    reader = reader_of(made_store(tmp_path, clips), tmp_path, config_of(slots=1, budget_tokens=400))
    batch = reader.read(0, 0)
    planned = [clips[one.number].name for one in reader.plans.samples(0, 0)]
    stand_in = {"b": "d", "c": "d"}
    assert sorted(planned) == ["a", "b", "c", "d", "wide"]
    assert batch.clip_ids == tuple(stand_in.get(name, name) for name in planned)
    assert batch.replaced == 2
    assert same(pickle.loads(pickle.dumps(reader)).read(0, 0), batch)
    assert same(reader.read(0, 0), batch)  # what is known to be damaged by now changes nothing
    assert len(set(batch.captions)) >= 3


def test_where_none_has_its_size_the_longest_that_is_not_longer_stands_in(tmp_path: Path) -> None:
    clips = [
        MadeClip("short", frames=5),
        MadeClip("longer", frames=9),
        MadeClip("bad", frames=13, video=b"no video"),
        MadeClip("long", frames=17),
    ]
    config = config_of(slots=1, budget_tokens=400, fit=FitConfig(400, min_side_px=32))
    reader = reader_of(made_store(tmp_path, clips), tmp_path, config)
    batch = reader.read(0, 0)
    planned = [clips[one.number].name for one in reader.plans.samples(0, 0)]
    assert batch.clip_ids == tuple("longer" if name == "bad" else name for name in planned)
    assert batch.pack.padding == 400 - sum(x.shape[1] // 4 * 16 + 16 for x in batch.pixels)
    only = reader_of(made_store(tmp_path / "b", clips[2:]), tmp_path / "b", config)
    assert only.read(0, 0).clip_ids == ("long",)  # a longer one has no room: the place stays empty
    assert only.read(0, 0).replaced == 1


def test_a_picture_is_replaced_by_a_picture(tmp_path: Path) -> None:
    clips = [MadeClip("bad", video=b"no video"), MadeClip("wide", width=96, frames=9), MadeClip("good", frames=9)]
    config = config_of(slots=1, budget_tokens=400, picture_share=1.0)
    batch = reader_of(made_store(tmp_path, clips), tmp_path, config).read(0, 0)
    assert sorted(batch.clip_ids) == ["good", "good", "wide"]
    assert {x.shape[1] for x in batch.pixels} == {1}
    assert set(batch.masks) == {"none"}


def test_a_clip_whose_end_is_damaged_still_gives_its_picture(tmp_path: Path) -> None:
    whole = made_store(tmp_path, [MadeClip("a", frames=3)])
    video = (tmp_path / "a.mp4").read_bytes()
    clips = [MadeClip("lies", frames=17, video=video), MadeClip("good")]
    store = made_store(tmp_path / "b", clips)
    assert reader_of(store, tmp_path / "b", config_of(slots=1)).read(0, 0).replaced == 1
    pictures = reader_of(store, tmp_path / "b", config_of(slots=1, picture_share=1.0)).read(0, 0)
    assert pictures.replaced == 0
    assert whole.uri != store.uri


@pytest.mark.parametrize("part", ["data", "_versions"])
def test_files_that_are_gone_are_the_stores_fault_not_the_clips(tmp_path: Path, part: str) -> None:
    store = made_store(tmp_path, CLIPS[:3])
    reader = reader_of(store, tmp_path)
    shutil.rmtree(Path(store.uri) / "clips.lance" / part)
    with pytest.raises(StoreUnavailable, match=r"version \d+ of 'clips'|no table 'clips'"):
        reader.read(0, 0)


# -- settings


def test_impossible_settings_are_refused(store: Store, tmp_path: Path, reader: SlotReader) -> None:
    for field in ("max_words", "threads"):
        with pytest.raises(ValueError, match=f"{field}=0: must be at least 1"):
            replace(reader, **{field: 0})
    with pytest.raises(ValueError, match="transformer: must be for the plan's"):
        replace(reader, transformer=replace(TINY, patch_space=4))
    with pytest.raises(ValueError, match="text_depth=0: must be"):
        replace(reader, transformer=replace(TINY, text_depth=0))
    assert replace(reader, threads=3).read(0, 0).clip_ids == reader.read(0, 0).clip_ids


def test_words_that_are_too_many_are_counted(reader: SlotReader) -> None:
    batch = replace(reader, max_words=4, mix=CaptionMix(no_text=0)).read(0, 0)
    whole = replace(reader, mix=CaptionMix(no_text=0)).read(0, 0)
    assert batch.texts.segments.lengths == (*[5] * len(batch.captions), 1)
    assert batch.words_cut == whole.texts.segments.tokens - batch.texts.segments.tokens > 0


def test_masks_and_captions_follow_their_shares(reader: SlotReader) -> None:
    never = replace(reader, mask=MaskConfig(0), mix=CaptionMix(original=0, short=1, no_text=0))
    batches = list(slot_batches(never, PLACES))
    assert {mask for batch in batches for mask in batch.masks} == {"none"}
    assert {kind for batch in batches for kind in batch.caption_kinds} == {"short"}


# -- latents and embeddings


def encoded_store(folder: Path) -> tuple[Store, dict[str, np.ndarray]]:
    store = made_store(folder, [replace(clip, video=b"not looked at") for clip in CLIPS[:4]])
    rng = np.random.default_rng(3)
    rows, values = [], {}
    for clip in CLIPS[:4]:
        frames = 1 + (clip.frames - 1) // 4 * 4
        values[clip.name] = rng.normal(size=(16, 1 + (frames - 1) // 4, clip.height // 8, clip.width // 8))
        sides = {"frames": frames, "height": clip.height, "width": clip.width}
        rows.append({"input_id": clip.name, "kind": "clip", "network_id": "net", "values": values[clip.name], **sides})
    for row in store.open("captions").to_table().to_pylist():
        values[row["text"]] = rng.normal(size=(len(row["kind"]), 16))
        rows.append({"input_id": row["caption_id"], "kind": "text", "network_id": "enc", "values": values[row["text"]]})
    values[""] = rng.normal(size=(1, 16))
    rows.append({"input_id": "", "kind": "text", "network_id": "enc", "values": values[""]})
    for start in range(0, len(rows), 5):  # fragments, of which a row's address is made and its id is not
        write_latents(store, rows[start : start + 5])
    return store, {name: value.astype(np.float16).astype(np.float32) for name, value in values.items()}


def test_latents_and_embeddings_are_read_instead(tmp_path: Path) -> None:
    store, values = encoded_store(tmp_path)
    source = LatentSource(store.open("latents").version, "net", "enc")
    transformer = replace(TINY, text_depth=0)
    config = config_of(slots=2, picture_share=0.3)
    mix = CaptionMix(short=0.5, no_text=0.3)
    reader = reader_of(store, tmp_path, config, latents=source, transformer=transformer, mix=mix)
    kinds = set()
    for step in range(12):
        batch = reader.read(step, step % 2)
        assert batch.pixels == ()
        assert batch.replaced == 0
        for name, z_CTHW in zip(batch.clip_ids, batch.pack.split(batch.pack.latents_LP), strict=True):
            assert torch.equal(z_CTHW, torch.from_numpy(values[name][:, : z_CTHW.shape[1]]))
        assert isinstance(batch.texts, TextTokens)
        *parts, padding = torch.split(batch.texts.z_WD, list(batch.texts.segments.lengths))
        assert not padding.any()
        for text, part in zip(batch.captions, parts, strict=True):
            assert torch.equal(part, torch.from_numpy(values[text]))
        kinds |= {*batch.caption_kinds, *(("picture",) if 1 in [g.frames for g in batch.pack.geometries] else ())}
    assert kinds == {"short", "descriptive", "none", "picture"}
    one_worker = list(slot_batches(reader, PLACES, workers=1))
    assert all(same(reader.read(*place), other) for place, other in zip(PLACES, one_worker, strict=True))


def test_what_was_encoded_otherwise_is_refused(tmp_path: Path) -> None:
    store, _ = encoded_store(tmp_path)
    source = LatentSource(store.open("latents").version, "net", "enc")
    whole = replace(TINY, text_depth=0)
    with pytest.raises(ValueError, match=r"drop_sentences=0\.5: must be 0 where texts were encoded ahead"):
        reader_of(store, tmp_path, latents=source, transformer=whole, mix=CaptionMix(drop_sentences=0.5))
    with pytest.raises(ValueError, match="text_depth=1: must be 0 where"):
        reader_of(store, tmp_path, latents=source)
    with pytest.raises(ValueError, match="latent_channels=8: the network's latents have 16"):
        reader_of(store, tmp_path, latents=source, transformer=replace(whole, latent_channels=8)).read(0, 0)
    with pytest.raises(ValueError, match="text_width=32: the text encoder's embeddings have 16"):
        reader_of(store, tmp_path, latents=source, transformer=replace(whole, text_width=32)).read(0, 0)
    with pytest.raises(ValueError, match="encoder_id=other: must have read no text as well"):
        reader_of(store, tmp_path, latents=replace(source, encoder_id="other"), transformer=whole)


def test_a_latent_that_is_not_what_its_row_says_is_replaced(tmp_path: Path) -> None:
    store = made_store(tmp_path, [MadeClip("good"), MadeClip("infinite"), MadeClip("other size")])
    sides = {"frames": 17, "height": 64, "width": 64, "kind": "clip", "network_id": "net"}
    values = np.ones((16, 5, 8, 8))
    rows = [
        {"input_id": "good", "values": values, **sides},
        {"input_id": "infinite", "values": values * np.inf, **sides},
        {"input_id": "other size", "values": np.ones((16, 5, 4, 8)), **sides},
    ]
    write_latents(store, rows)
    source = LatentSource(store.open("latents").version, "net")
    batch = reader_of(store, tmp_path, config_of(slots=1, budget_tokens=400), latents=source).read(0, 0)
    assert batch.clip_ids == ("good",) * 3
    assert batch.replaced == 2
