"""Embedding pictures and texts by real models of transformers, and a worker's part in scoring clips."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from curation.clip_frames import sampled_frames
from curation.embed import Embedder, embedder_id
from curation.embeddings import EmbeddedClip
from curation.model_files import BadModel
from curation.reader import DamagedClip, read_active_frames
from curation.scoring import AskedModels, ClipScorer, WantedClip, wanted_clips
from curation.store import Store, blob_table
from tests.stores import curate_in_process
from tests.tiny_models import DIMENSIONS, SIDE, make_embedding_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: make_embedding_model(folder / kind, kind) for kind in DIMENSIONS}


@pytest.fixture(scope="module")
def embedders(models: dict[str, Path]) -> dict[str, Embedder]:
    return {kind: Embedder.load(str(path)) for kind, path in models.items()}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", DIMENSIONS)
def test_vectors_are_those_of_the_model_by_its_own_processor(
    models: dict[str, Path], embedders: dict[str, Embedder], kind: str
) -> None:
    from transformers import AutoModel, AutoProcessor, AutoTokenizer

    embedder = embedders[kind]
    assert embedder.model.dimension == DIMENSIONS[kind]
    assert embedder.side_px == SIDE
    pictures = [noise(40, 70), noise(90, 33, 1), noise(3, 2, 2)]
    vectors = embedder.embed_images(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    model, processor = AutoModel.from_pretrained(models[kind]), AutoProcessor.from_pretrained(models[kind])
    shown = (processor.image_processor if hasattr(processor, "image_processor") else processor)(
        images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt"
    )
    tokens = AutoTokenizer.from_pretrained(models[kind])
    texts = ["a red car", "a blue car a blue car a blue car"]
    told = tokens(texts, padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    with torch.inference_mode():
        images = model.get_image_features(**shown).pooler_output
        words = model.get_text_features(**told).pooler_output
    np.testing.assert_allclose(vectors, torch.nn.functional.normalize(images).numpy(), atol=2e-2)
    np.testing.assert_allclose(embedder.embed_text(texts), torch.nn.functional.normalize(words).numpy(), atol=1e-5)
    one = embedder.embed_images(pictures[1:2])[0]
    np.testing.assert_allclose(vectors[1], one, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_model_is_known_by_what_it_says(models: dict[str, Path], embedders: dict[str, Embedder]) -> None:
    assert embedders["clip"].model.model_id == embedder_id(models["clip"])
    assert embedder_id(models["clip"]) != embedder_id(models["siglip"])


def without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def of_another_kind(folder: Path) -> None:
    config = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 32, "vocab_size": 9}))


def lacking_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    without(folder, "model.safetensors")


BROKEN = [
    (lambda folder: without(folder, "config.json"), "no config.json"),
    (lambda folder: without(folder, "preprocessor_config.json"), "cannot be loaded"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"junk"), "cannot be loaded"),
    (pickled, "cannot be loaded"),
    (of_another_kind, "a BertModel is not an image-text model"),
    (lacking_weights, "its weights lack visual_projection.weight"),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN)
def test_what_is_no_image_text_model_is_refused_by_name(
    tmp_path: Path, models: dict[str, Path], spoil: Any, said: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["clip"], folder)
    spoil(folder)
    with pytest.raises(BadModel, match=said) as raised:
        Embedder.load(str(folder))
    assert str(folder) in str(raised.value)


def test_without_a_tokenizer_pictures_still_go(tmp_path: Path, models: dict[str, Path]) -> None:
    shutil.copytree(models["clip"], tmp_path / "model")
    for file in (tmp_path / "model").glob("tokenizer*"):
        file.unlink()
    embedder = Embedder.load(str(tmp_path / "model"))
    assert embedder.embed_images([noise(40, 40)]).shape == (1, 16)
    with pytest.raises(BadModel, match="has no tokenizer, so it takes no texts"):
        embedder.embed_text(["a red car"])


# -- frames and clips


@pytest.fixture(scope="module")
def store(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.at(str(tmp_path_factory.mktemp("clips") / "store"))
    curate_in_process([small_footage], store)
    return store


def asked_of(models: dict[str, Path], *plugins: str, frames: int = 3) -> AskedModels:
    return AskedModels.of(str(models["clip"]), plugins, frames)


def all_wanted(store: Store, asked: AskedModels, counts: Counter[str] | None = None) -> list[WantedClip]:
    version = store.open("clips").version
    return [clip for chunk in wanted_clips(store, version, "true", asked, counts) for clip in chunk]


@pytest.mark.parametrize("count", [1, 3, 8, 1000])
def test_sampled_frames_are_the_clips_own_and_near_where_they_are_wanted(
    store: Store, models: dict[str, Path], count: int
) -> None:
    wanted = all_wanted(store, asked_of(models))
    clips = store.open("clips")
    for clip in wanted:
        blobs = clips.take_blobs("video", ids=[clip.row_id] * 2)
        every = [frame.astype(int) for frame in read_active_frames(clip.row, blobs[0])]  # type: ignore[arg-type]
        sampled = sampled_frames(clip.row, blobs[1], count, side_px=1000)  # type: ignore[arg-type]
        places = [min(range(len(every)), key=lambda n: np.abs(every[n] - rgb).mean()) for rgb in sampled]
        assert all(np.array_equal(every[n], rgb) for n, rgb in zip(places, sampled, strict=True))
        assert places == sorted(set(places))
        assert len(sampled) == min(count, len(every))
        if count <= 3:
            middles = [(2 * part + 1) * len(every) / (2 * count) for part in range(count)]
            assert all(abs(n - middle) <= 3 for n, middle in zip(places, middles, strict=True))


def test_frames_are_shrunk_and_cut_to_the_active_picture(store: Store, models: dict[str, Path]) -> None:
    clip = all_wanted(store, asked_of(models))[0]
    boxed = clip.row | {"active_x_px": 32, "active_y_px": 16, "active_width_px": 96, "active_height_px": 64}
    for row, side, shape in ((clip.row, 64, (64, 96, 3)), (boxed, 32, (32, 48, 3)), (boxed, 999, (64, 96, 3))):
        (blob,) = store.open("clips").take_blobs("video", ids=[clip.row_id])
        assert sampled_frames(row, blob, 1, side)[0].shape == shape  # type: ignore[arg-type]


def damage(store: Store, clip_id: str, video: bytes) -> None:
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    (row,) = clips.to_table(columns=columns, filter=f"clip_id = '{clip_id}'").to_pylist()
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": video}]))


def score_all(store: Store, asked: AskedModels, wanted: Sequence[WantedClip]) -> dict[str, Any]:
    scorer = ClipScorer(asked, "cpu", decode_threads=2)
    return {clip.clip_id: clip for clip in scorer.score(store, store.open("clips").version, wanted)}


def test_a_batch_is_scored_and_a_bad_clip_costs_one_row(
    store: Store, models: dict[str, Path], embedders: dict[str, Embedder]
) -> None:
    asked = asked_of(models, "tests.tiny_models:Brightness")
    counts: Counter[str] = Counter()
    bad = all_wanted(store, asked, counts)[1].row["clip_id"]
    assert counts["seen"] == counts["without_video"] + len(all_wanted(store, asked))
    damage(store, bad, b"no video at all")
    wanted = all_wanted(store, asked)
    scored = score_all(store, asked, wanted)
    assert set(scored) == {clip.row["clip_id"] for clip in wanted}
    for clip in wanted:
        said = scored[clip.row["clip_id"]]
        assert (said.failure, said.fault) == ("damaged" if said.clip_id == bad else None, None)
        assert [row.score for row in said.scores] == ["safety_unsafe_share", "word"]
        if said.clip_id == bad:
            assert said.embedding == EmbeddedClip(bad, None, failure="damaged")
            continue
        (blob,) = store.open("clips").take_blobs("video", ids=[clip.row_id])
        frames = sampled_frames(clip.row, blob, 3, 2 * SIDE)  # type: ignore[arg-type]
        mean = embedders["clip"].embed_images(frames).mean(axis=0)
        assert said.embedding.frames == 3
        assert said.embedding.mean_length == pytest.approx(np.linalg.norm(mean), rel=1e-4)
        np.testing.assert_allclose(said.embedding.vector, mean / np.linalg.norm(mean), atol=1e-4)
        assert said.scores[0].value == pytest.approx(np.mean([frame.mean() for frame in frames]) / 255)


def test_a_model_that_cannot_cope_with_a_batch_gets_its_clips_one_by_one(store: Store, models: dict[str, Path]) -> None:
    asked = AskedModels.of(None, ["tests.tiny_models:Delicate"], 3)
    wanted = [clip for clip in all_wanted(store, asked) if clip.row["frames"] >= 3][:3]
    single = WantedClip(wanted[0].row | {"frames": 1}, wanted[0].row_id, False, (0,))
    scored = score_all(store, asked, wanted[1:])
    assert all(clip.fault is None for clip in scored.values())
    (fault,) = score_all(store, asked, [single]).values()
    assert (fault.fault, fault.scores, fault.embedding) == ("RuntimeError: out of memory", (), None)


def test_a_worker_with_other_files_than_the_driver_is_found_out(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models["clip"], folder)
    asked = AskedModels.of(str(folder), (), 3)
    (folder / "special.json").write_text("{}")
    with pytest.raises(BadModel, match="where the driver found"):
        ClipScorer(asked, "cpu", 1)


@pytest.mark.parametrize("video", [b"", b"\0" * 1000])
def test_bytes_that_are_no_clip_are_damaged(video: bytes) -> None:
    import io

    row = {"frames": 5, "width": 8, "height": 8, "video_start_pts": 0, "video_end_pts": 5}
    with pytest.raises(DamagedClip):
        sampled_frames(row, io.BytesIO(video), 3, 8)
