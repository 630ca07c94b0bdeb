"""Which clips and captions lack a latent, and what workers write for them, without Ray."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.captions import Caption, write_captions
from curation.model_files import BadModel
from curation.store import Store, blob_table
from tests.stores import curate_in_process
from tests.trainer.test_pretrained_text import make
from trainer.encoders import ClipEncoder, EncodedBatch, TextEncoder, half_bytes
from trainer.encoding import (
    AskedClips,
    AskedTexts,
    WantedClip,
    clip_rate,
    latent_bytes,
    text_latent_id,
    wanted_clips,
    wanted_texts,
)
from trainer.geometry import Compression, FitConfig
from trainer.latents import PixelSpace
from trainer.pretrained_text import PretrainedTextEncoder, pretrained_encoder_id
from trainer.reading.pixels import clip_pixels

FIT = FitConfig(max_tokens=400)
SPACE = PixelSpace(8)
RUN = "run-in-process"


def asked_of(space: PixelSpace = SPACE, fit: FitConfig = FIT) -> AskedClips:
    compression = Compression(ratio_time=1, ratio_space=space.ratio_space, patch_time=1, patch_space=2)
    return AskedClips(space.network_id, space.network_id, space.latent_channels, compression, fit)


@pytest.fixture(scope="module")
def curated(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.at(str(tmp_path_factory.mktemp("curated") / "store"))
    curate_in_process([small_footage], store)
    return store


@pytest.fixture
def store(curated: Store, tmp_path: Path) -> Store:
    return Store.at(str(shutil.copytree(curated.uri, tmp_path / "store")))


def lacking(store: Store, asked: AskedClips, counts: Counter[str] | None = None) -> list[WantedClip]:
    return [clip for chunk in wanted_clips(store, store.open("clips").version, "keep", asked, counts) for clip in chunk]


def encode(store: Store, asked: AskedClips, wanted: list[WantedClip] | None = None) -> EncodedBatch:
    wanted = lacking(store, asked) if wanted is None else wanted
    batch = ClipEncoder(asked, "cpu", 2).encode(store, store.open("clips").version, RUN, wanted)
    store.commit_latents(batch.fragments)
    return batch


def rows_of(store: Store) -> list[dict[str, Any]]:
    table = store.open("latents")
    columns = [name for name in table.schema.names if name != "latent"]
    rows = table.to_table(columns=columns, with_row_id=True).to_pylist()
    made = [row["_rowid"] for row in rows if row["failure"] is None]
    found = table.read_blobs("latent", ids=made, preserve_order=True) if made else []  # by address, not by id
    blobs = {row: data for row, (_, data) in zip(made, found, strict=True)}
    for row in rows:
        row["latent"] = blobs.get(row.pop("_rowid"))
    return rows


def tensor_of(row: dict[str, Any]) -> Tensor:
    assert row["dtype"] == "float16"
    return torch.from_numpy(np.frombuffer(row["latent"], "<f2").reshape(row["latent_shape"]).astype(np.float32))


RATES = [
    ((48, 0, 2000, 1, 1000), Fraction(24)),
    ((31, 0, 1034, 1, 1000), Fraction(30000, 1001)),  # milliseconds
    ((30, 1001, 31031, 1, 30000), Fraction(30000, 1001)),
    ((24, 0, 24024, 1, 24000), Fraction(24000, 1001)),
    ((50, 7, 25607, 1, 12800), Fraction(25)),
    ((5, 0, 400, 1, 1000), Fraction(25, 2)),
    ((1, 0, 10, 1, 1), Fraction(1, 10)),
    ((1, 0, 5000, 1, 1), Fraction(1, 5000)),
    ((7, 0, 1000, 1, 1000), Fraction(7)),
    ((22, 0, 1001 * 900, 1, 900 * 30), Fraction(600, 910)),
]


@pytest.mark.parametrize(("numbers", "rate"), RATES)
def test_a_rate_is_exact(numbers: tuple[int, ...], rate: Fraction) -> None:
    frames, start_pts, end_pts, base_num, base_den = numbers
    span = {"start_pts": start_pts, "end_pts": end_pts, "time_base_num": base_num, "time_base_den": base_den}
    assert clip_rate({"frames": frames, **span}) == rate


def test_values_are_stored_where_float16_holds_them() -> None:
    assert half_bytes(torch.tensor([[1.0, -2.0]])) == bytes.fromhex("003c00c0")
    assert half_bytes(torch.tensor([1.0, 70000.0])) == "float16_overflow"
    assert half_bytes(torch.tensor([1.0, float("nan"), 70000.0])) == "not_finite"
    assert half_bytes(torch.tensor([float("-inf")])) == "not_finite"


def test_a_row_is_a_clip_s_pixels_in_the_network_s_space(store: Store) -> None:
    asked, counts = asked_of(), Counter[str]()
    wanted = lacking(store, asked, counts)
    kept = store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist()
    assert sorted(clip.row["clip_id"] for clip in wanted) == sorted(kept)
    assert counts == {"seen": len(kept), "without_video": 0}
    sizes = {clip.geometry for clip in wanted}
    assert None not in sizes
    assert len(sizes) >= 2

    batch = encode(store, asked, wanted)
    rows = {row["latent_id"]: row for row in rows_of(store)}
    assert [(one.latent_id, one.stored_bytes) for one in batch.latents] == [
        (clip.latent_id, len(rows[clip.latent_id]["latent"])) for clip in wanted
    ]
    assert [one.stored_bytes for one in batch.latents] == [latent_bytes(clip, asked) for clip in wanted]
    blobs = store.open("clips").take_blobs("video", ids=[clip.row_id for clip in wanted])
    for clip, blob in zip(wanted, blobs, strict=True):
        row, geometry = rows[clip.latent_id], clip.geometry
        assert geometry is not None
        assert blob is not None
        assert (row["input_id"], row["kind"], row["network_id"]) == (clip.row["clip_id"], "clip", SPACE.network_id)
        assert (row["frames"], row["height"], row["width"]) == (geometry.frames, geometry.height, geometry.width)
        assert Fraction(row["rate_num"], row["rate_den"]) == geometry.rate == clip.rate
        x_BCTHW = clip_pixels(clip.row, blob, geometry)[None].float() / 127.5 - 1
        assert torch.equal(tensor_of(row), SPACE.encode(x_BCTHW)[0].half().float())

    counts.clear()
    assert lacking(store, asked, counts) == []
    assert counts == {"seen": len(kept), "without_video": 0, "complete": len(kept)}


def test_another_network_or_size_has_rows_beside_the_old(store: Store) -> None:
    encode(store, asked_of())
    clips = store.open("latents").count_rows()
    encode(store, asked_of(PixelSpace(4)))
    encode(store, asked_of(fit=replace(FIT, max_frames=1)))
    rows = rows_of(store)
    assert len({row["latent_id"] for row in rows}) == len(rows) == 3 * clips
    pictures = [row for row in rows if row["frames"] == 1]
    assert len(pictures) == clips
    assert {row["latent_shape"][1] for row in pictures} == {1}
    assert lacking(store, asked_of(fit=replace(FIT, max_aspect_error=0.5, max_frames=1))) == [], "the same geometry"


def test_a_clip_that_fits_no_geometry_has_its_reason_until_another_is_asked_for(store: Store) -> None:
    asked = asked_of()
    asked = replace(asked, compression=replace(asked.compression, patch_space=20))
    batch = encode(store, asked)
    assert batch.latents
    assert {one.failure for one in batch.latents} == {"too_small"}
    assert {(row["failure"], row["frames"], row["latent_shape"], row["latent"]) for row in rows_of(store)} == {
        ("too_small", None, None, None)
    }
    counts = Counter[str]()
    assert lacking(store, asked, counts) == []
    assert counts["failed_before"] == len(batch.latents)
    assert len(lacking(store, replace(asked, fit=replace(FIT, max_tokens=500)))) == len(batch.latents)
    long = asked_of(fit=FitConfig(max_tokens=1, min_side_px=64))
    assert {one.failure for one in encode(store, long).latents} == {"too_long"}


class Unreachable(io.BytesIO):
    """A blob in an object store that goes away once some of it was read."""

    def __init__(self, data: bytes, answered: float):
        super().__init__(data)
        self._end = int(answered * len(data))

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._end - self.tell()
        if left <= 0:
            raise ConnectionResetError("the object store does not answer")
        return super().read(left if size is None or size < 0 else min(size, left))


@pytest.mark.parametrize("answered", [0, 0.5, 0.9])
def test_a_damaged_clip_costs_one_row_and_unreachable_bytes_none(
    store: Store, monkeypatch: pytest.MonkeyPatch, answered: float
) -> None:
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    row = clips.to_table(columns=columns, filter="keep").to_pylist()[0]
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": b"no video"}]))
    wanted = sorted(lacking(store, asked_of()), key=lambda clip: clip.row["clip_id"] != row["clip_id"])
    take_blobs = lance.LanceDataset.take_blobs

    def last_unreachable(self: lance.LanceDataset, *args: Any, **named: Any) -> list[Any]:
        *others, last = take_blobs(self, *args, **named)
        assert last is not None
        return [*others, Unreachable(last.readall(), answered)]

    monkeypatch.setattr(lance.LanceDataset, "take_blobs", last_unreachable)
    first, *rest, last = encode(store, asked_of(), wanted).latents
    assert (first.failure, first.stored_bytes) == ("damaged_clip", 0)
    assert last.fault == "ConnectionResetError: the object store does not answer"
    assert rest
    assert all(one.stored_bytes and one.failure is None for one in rest)
    rows = {row["latent_id"]: row["failure"] for row in rows_of(store)}
    assert rows == {first.latent_id: "damaged_clip"} | {one.latent_id: None for one in rest}


@pytest.mark.parametrize(
    ("encoded", "failure"), [(torch.full((1, 3), 1e6), "float16_overflow"), (torch.tensor([[torch.nan]]), "not_finite")]
)
def test_latents_that_cannot_be_stored_are_not(
    store: Store, monkeypatch: pytest.MonkeyPatch, encoded: Tensor, failure: str
) -> None:
    monkeypatch.setattr(PixelSpace, "encode", lambda *_: encoded)
    batch = encode(store, asked_of())
    assert {one.failure for one in batch.latents} == {row["failure"] for row in rows_of(store)} == {failure}


def test_a_network_s_refusal_and_its_fault_differ(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter to a pretrained network looks at its values itself; want of memory is no clip's fault."""

    def raising(error: Exception) -> Any:
        def encode(*_: object) -> Tensor:
            raise error

        return encode

    monkeypatch.setattr(PixelSpace, "encode", raising(torch.OutOfMemoryError("CUDA out of memory")))
    assert {one.fault for one in encode(store, asked_of()).latents} == {"OutOfMemoryError: CUDA out of memory"}
    assert store.open("latents").count_rows() == 0
    monkeypatch.setattr(PixelSpace, "encode", raising(BadModel("gave values that are not finite")))
    assert {one.failure for one in encode(store, asked_of()).latents} == {"not_finite"}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="square_crop=True: must be False"):
        asked_of(fit=replace(FIT, square_crop=True))
    with pytest.raises(BadModel, match="a worker found the model pixels-8 where the driver found pixels-4"):
        ClipEncoder(replace(asked_of(), network_id="pixels-4"), "cpu", 1)
    with pytest.raises(BadModel, match="ratio_space=5"):
        ClipEncoder(replace(asked_of(), network="pixels-5"), "cpu", 1)


def caption_of(clip_id: str, text: str | None, kind: str = "short", window: int | None = None, **more: Any) -> Caption:
    return Caption(
        clip_id=clip_id,
        source_id="source",
        kind=kind,
        text=text,
        window_index=window,
        window_start_pts=0,
        window_end_pts=1,
        captioner="test",
        model="test",
        model_revision="1",
        prompt_id="test",
        attempts=1,
        **more,
    )


def test_texts_are_read_once_each_and_alone(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.create()
    whole = [caption_of("a", "a red car"), caption_of("b", "a blue car"), caption_of("c", "a " * 9)]
    flagged = caption_of("d", "a car", flags=("repetition",))
    left_out = [caption_of("e", None), caption_of("f", ""), caption_of("g", "red", window=0)]
    write_captions(store, [*whole, flagged, *left_out], RUN)
    directory = str(make("t5", tmp_path / "t5"))
    asked = AskedTexts(directory, pretrained_encoder_id(directory, 8), 8)
    version, where = store.open("captions").version, "coalesce(array_length(flags), 0) = 0"
    counts = Counter[str]()
    wanted = [one for chunk in wanted_texts(store, version, where, asked.encoder_id, counts) for one in chunk]
    assert {one.caption_id: one.text for one in wanted} == {"": ""} | {one.caption_id: one.text for one in whole}
    assert counts == {"seen": 4}

    batch = TextEncoder(asked, "cpu").encode(store, version, RUN, wanted)
    store.commit_latents(batch.fragments)
    rows = {row["input_id"]: row for row in rows_of(store)}
    encoder = PretrainedTextEncoder.load(directory, max_tokens=8)
    for caption_id, text in {"": "", **{one.caption_id: one.text for one in whole[:2]}}.items():
        row = rows[caption_id]
        assert (row["kind"], row["network_id"], row["failure"]) == ("text", encoder.encoder_id, None)
        assert row["latent_id"] == text_latent_id(caption_id, encoder.encoder_id)
        assert (row["frames"], row["rate_num"]) == (None, None)
        assert torch.equal(tensor_of(row), encoder.encode([text or ""])[0].z_LD.half().float())
    assert (rows[whole[2].caption_id]["failure"], rows[whole[2].caption_id]["latent"]) == ("too_long", None)
    assert len(rows) == 4
    assert [*wanted_texts(store, version, where, asked.encoder_id)] == [[], []]
