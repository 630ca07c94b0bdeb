"""Tuning: what is learnt from, in what order, and that a kill changes nothing of what comes out."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from captioner.prompts import INSTRUCTIONS
from captioner.tiny_model import make_tiny_model
from captioner.tune import Tuning, caption_loss, train_step, tune
from captioner.tune_config import STAGES, Moment, TuneConfig, learning_rate_at
from captioner.tune_data import BadTuning, TuneSource, examples_of, positions_at, share_of
from captioner.tune_encode import NOT_LEARNT, Encoder, Loader, batch_of, prompts_of
from captioner.tune_files import TuneFiles
from captioner.tune_model import Tunable, load_tunable, refuse_unless_tunable
from captioner.tune_quality import rouge_l, token_f1
from captioner.windows import WindowConfig
from curation.model_files import BadModel
from curation.store import Store, blob_table
from tests.captioned_stores import captioned_store

WINDOWS = WindowConfig(sample_fps=4.0, frame_pixels=56 * 84)
CONFIG = TuneConfig(
    short_steps=3,
    descriptive_steps=4,
    short_learning_rate=1e-2,
    descriptive_learning_rate=1e-2,
    replay_share=0.3,  # one of three
    batch_size=3,
    micro_batch_size=2,
    held_out_share=0.4,
    held_out_by="clip",
    answer_tokens=4,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"hidden": 64, "layers": 1, "vision_hidden": 32, "vision_layers": 1}
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny", **shape)


@pytest.fixture(scope="module")
def store(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return captioned_store(small_footage, tmp_path_factory.mktemp("captioned") / "store")


def source_of(store: Store, captions_where: str = "true", where: str = "true") -> TuneSource:
    return TuneSource(store, store.open("clips").version, store.open("captions").version, where, captions_where)


def loader_of(store: Store, tunable: Tunable, cache_bytes: int = 1 << 30) -> Loader:
    encoder = Encoder(tunable.processor, WINDOWS)
    return Loader(source_of(store), encoder, WINDOWS, threads=2, cache_bytes=cache_bytes)


def tuned(store: Store, model: Path, out: Path, config: TuneConfig = CONFIG, **more: Any) -> dict[str, torch.Tensor]:
    """A run in this process; the weights where it came to its end."""
    tunable = load_tunable(str(model), config, "cpu")
    options: dict[str, Any] = {"checkpoint_steps": 2} | more
    tuning = Tuning(config, TuneFiles(out), **options)
    tune(tuning, tunable, examples_of(source_of(store), config), loader_of(store, tunable))
    return load_file(out / "model.safetensors") if (out / "model.safetensors").exists() else {}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- quality, order, rates: pure functions


@pytest.mark.parametrize(
    ("said", "wanted", "f1", "order"),
    [
        ("A red circle.", "a red circle", 1.0, 1.0),
        ("circle red a", "a red circle", 1.0, 1 / 3),
        ("A blue square.", "A red circle.", 1 / 3, 1 / 3),
        ("", "A red circle.", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("red red red", "red", 0.5, 0.5),
        ("a b c d", "a x c y d", 6 / 9, 6 / 9),
    ],
)
def test_quality(said: str, wanted: str, f1: float, order: float) -> None:
    assert token_f1(said, wanted) == pytest.approx(f1)
    assert rouge_l(said, wanted) == pytest.approx(order)


words = st.lists(st.sampled_from("abcde"), max_size=8).map(" ".join)


@given(words, words)
def test_quality_is_a_share_and_order_is_the_stricter(said: str, wanted: str) -> None:
    assert 0 <= rouge_l(said, wanted) <= token_f1(said, wanted) <= 1
    assert rouge_l(said, wanted) == pytest.approx(rouge_l(wanted, said))


@given(st.integers(0, 5), st.integers(1, 7), st.integers(1, 20), st.integers(1, 12))
@settings(deadline=None)
def test_every_pass_has_every_example_once(seed: int, batch: int, count: int, steps: int) -> None:
    seen = [at for step in range(steps) for at in positions_at(seed, 0, step, batch, count)]
    assert len(seen) == batch * steps
    for begin in range(0, len(seen) - count + 1, count):
        assert sorted(seen[begin : begin + count]) == list(range(count))


def test_orders_differ_by_seed_stage_and_pass() -> None:
    orders = [tuple(positions_at(seed, stage, step, 50, 50)) for seed in (0, 1) for stage in (0, 1) for step in (0, 1)]
    assert len(set(orders)) == 8


@given(st.integers(1, 5), st.integers(0, 30))
def test_workers_share_a_step(workers: int, count: int) -> None:
    parts = [share_of(range(count), rank, workers) for rank in range(workers)]
    assert Counter(at for part in parts for at in part) == Counter(range(count))


def test_the_rate_rises_and_falls() -> None:
    rates = [learning_rate_at(step, 100, 1e-3, 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(1e-3)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert min(rates) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("short_steps", -1),
        ("descriptive_steps", 0),
        ("batch_size", 0),
        ("short_learning_rate", 0.0),
        ("descriptive_learning_rate", math.inf),
        ("held_out_share", 0.0),
        ("held_out_share", 1.0),
        ("warmup_share", 1.0),
        ("lora_rank", -1),
        ("replay_share", 0.6),
    ],
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TuneConfig(**{"short_steps": 0, field: value})  # type: ignore[arg-type]


# -- data


def test_queries_choose_and_clips_are_held_out_whole(store: Store) -> None:
    found = examples_of(source_of(store), CONFIG)
    ids = {
        part: {e.row["clip_id"] for kind in STAGES for e in getattr(found, part)[kind]}
        for part in ("learnt", "held_out")
    }
    assert ids["learnt"]
    assert ids["held_out"]
    assert not ids["learnt"] & ids["held_out"]
    assert len(ids["learnt"] | ids["held_out"]) == store.open("clips").count_rows("video_bytes IS NOT NULL")
    left_out = sorted(ids["learnt"])[0]
    fewer = examples_of(source_of(store, where=f"clip_id != '{left_out}'"), CONFIG)
    assert {e.row["clip_id"] for e in fewer.learnt["short"]} == ids["learnt"] - {left_out}
    assert fewer.data_id != found.data_id
    red = examples_of(source_of(store, "text LIKE '%red%' OR text LIKE '%green%'"), replace(CONFIG, held_out_share=0.5))
    assert {e.text.split()[1] for kind in STAGES for e in red.learnt[kind] + red.held_out[kind]} <= {"red", "green"}


def test_sources_are_held_out_whole(store: Store) -> None:
    found = examples_of(source_of(store), replace(CONFIG, held_out_by="source", held_out_share=0.5, seed=2))
    sources = [{e.row["source_id"] for e in part["short"]} for part in (found.learnt, found.held_out)]
    assert all(sources)
    assert not sources[0] & sources[1]


@pytest.mark.parametrize(
    ("captions_where", "more", "says"),
    [
        ("kind = 'short'", {}, "no captions of kind descriptive.*--descriptive-steps 0"),
        ("false", {}, "no captions of kind short"),
        ("true", {"held_out_share": 1e-9}, "0 held out.*held_out_share"),
    ],
)
def test_too_little_is_refused(store: Store, captions_where: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(BadTuning, match=says):
        examples_of(source_of(store, captions_where), replace(CONFIG, **more))


# -- encoding and loss


def test_only_answers_are_learnt_and_they_end_as_the_model_ends_them(store: Store, model: Path) -> None:
    tunable = load_tunable(str(model), CONFIG, "cpu")
    tokenizer = tunable.processor.tokenizer
    examples = examples_of(source_of(store), CONFIG).learnt["descriptive"]
    group = next(loader_of(store, tunable).all(examples, 3))
    batch = batch_of([one for _, one in group], tokenizer.pad_token_id)
    for row, (example, encoded) in enumerate(group):
        learnt = batch.labels[row][batch.labels[row] != NOT_LEARNT]
        assert tokenizer.decode(learnt) == example.text + "<|im_end|>"
        ids = batch.inputs["input_ids"][row][batch.inputs["attention_mask"][row] == 1]
        question = tokenizer.decode(ids[: len(ids) - len(learnt)])
        assert INSTRUCTIONS["descriptive"] in question
        assert question.endswith("<|im_start|>assistant\n")
        assert "<|video_pad|>" in question
        assert torch.equal(ids[-len(learnt) :], learnt)
        assert len(encoded.answer) == len(learnt)
    assert prompts_of([one for _, one in group], tokenizer.pad_token_id)["input_ids"].shape[0] == len(group)


def test_a_batch_has_the_loss_of_its_parts(store: Store, model: Path) -> None:
    """Filling up on the left changes nothing, and a caption is learnt as if it were alone."""
    tunable = load_tunable(str(model), CONFIG, "cpu")
    pad_id = tunable.processor.tokenizer.pad_token_id
    found = examples_of(source_of(store), CONFIG).learnt
    loader = loader_of(store, tunable)
    mixed = [one for kind in STAGES for group in loader.all(found[kind], 2) for _, one in group]
    assert len({len(one.answer) for one in mixed}) > 1
    with torch.no_grad():
        together = caption_loss(tunable.model, batch_of(mixed, pad_id))
        alone = sum(caption_loss(tunable.model, batch_of([one], pad_id)) for one in mixed)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


def test_parts_of_a_step_add_up_to_the_whole(store: Store, model: Path) -> None:
    found = examples_of(source_of(store), CONFIG).learnt["short"]
    weights = []
    for size in (1, 4):
        tunable = load_tunable(str(model), CONFIG, "cpu")
        encoded = [one for group in loader_of(store, tunable).all(found[:4], 4) for _, one in group]
        pad_id = tunable.processor.tokenizer.pad_token_id
        batches = [batch_of(encoded[at : at + size], pad_id) for at in range(0, len(encoded), size)]
        optimizer = torch.optim.SGD(tunable.model.parameters(), lr=1.0)
        tokens = sum(batch.tokens for batch in batches)
        train_step(tunable.model, optimizer, batches, step_tokens=tokens, learning_rate=0.1, max_grad_norm=1.0)
        weights.append({name: value.detach() for name, value in tunable.model.named_parameters()})
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5)


# -- whole runs


@pytest.fixture(scope="module")
def straight(
    store: Store, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("straight")
    return out, tuned(store, model, out, keep_stages=True)


def test_a_run_learns_and_tells_before_between_and_after(
    straight: tuple[Path, dict[str, torch.Tensor]], model: Path
) -> None:
    out, weights = straight
    assert weights
    assert not same(weights, load_file(model / "model.safetensors"))
    assert not same(weights, load_file(out / "short" / "model.safetensors"))
    tests = TuneFiles(out).read("tests.json")
    assert list(tests) == ["before", "between", "after"]
    for kind in STAGES:
        assert tests["after"][kind]["loss"] < tests["before"][kind]["loss"]
        assert tests["after"][kind]["captions"] > 0
    lines = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (1, 4)]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not list(out.rglob("*.pt"))
    assert not list(out.rglob("*.bin"))


@pytest.mark.parametrize("stop_after", range(1, 7))
def test_stopped_anywhere_and_gone_on_with_is_the_same_to_the_bit(
    store: Store, model: Path, straight: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, stop_after: int
) -> None:
    assert not tuned(store, model, tmp_path, stop_after=stop_after)
    assert same(tuned(store, model, tmp_path), straight[1])
    whole = [json.loads(line)["loss"] for line in (straight[0] / "steps.jsonl").read_text().splitlines()]
    assert [json.loads(line)["loss"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()] == whole
    tests = [TuneFiles(out).read("tests.json") for out in (tmp_path, straight[0])]
    assert tests[0] == tests[1]


def test_short_captions_are_learnt_again_beside_descriptive_ones(store: Store, model: Path, tmp_path: Path) -> None:
    """Without that, the second stage makes the model forget them."""
    many = replace(CONFIG, short_steps=12, descriptive_steps=12)
    tuned(store, model, tmp_path / "with", many)
    tuned(store, model, tmp_path / "without", replace(many, replay_share=0.0))
    after = [TuneFiles(tmp_path / name).read("tests.json")["after"]["short"]["loss"] for name in ("with", "without")]
    assert after[0] < after[1]


def test_another_seed_gives_another_model(
    store: Store, model: Path, straight: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    # Another seed also draws other clips to hold out: one that leaves both sides some is wanted.
    assert not same(tuned(store, model, tmp_path, replace(CONFIG, seed=3)), straight[1])


def test_lora_changes_a_few_weights_and_comes_out_merged(store: Store, model: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, lora_rank=2, lora_alpha=4)
    assert not tuned(store, model, tmp_path / "out", config, stop_after=5)
    (kept,) = {folder.name for folder in (tmp_path / "out" / "checkpoints").glob("1-*")} - {"1-00000000"}
    saved = load_file(tmp_path / "out" / "checkpoints" / kept / "weights.safetensors")
    assert saved
    assert all("lora_" in name for name in saved)
    weights, before = tuned(store, model, tmp_path / "out", config), load_file(model / "model.safetensors")
    assert weights.keys() == before.keys()
    changed = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert changed
    assert not any("norm" in name or "embed_tokens" in name for name in changed)
    assert same(tuned(store, model, tmp_path / "straight", config), weights)


def test_a_cut_short_checkpoint_and_line_are_passed_over(
    store: Store, model: Path, straight: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    tuned(store, model, tmp_path, stop_after=3)
    newest = TuneFiles(tmp_path).newest()
    assert newest == Moment(0, 2)
    shutil.copytree(tmp_path / "checkpoints" / "0-00000002", tmp_path / "checkpoints" / ".0-00000003")
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"stage": 0, "st')
    assert same(tuned(store, model, tmp_path), straight[1])


def test_a_damaged_clip_is_replaced_by_the_next(small_footage: Path, model: Path, tmp_path: Path) -> None:
    store = captioned_store(small_footage, tmp_path / "store")
    found = examples_of(source_of(store), CONFIG).learnt["short"]
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    row = clips.to_table(columns=columns, filter=f"clip_id = '{found[0].row['clip_id']}'").to_pylist()[0]
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": b"no video"}]))
    tunable = load_tunable(str(model), CONFIG, "cpu")
    loader = loader_of(store, tunable)
    again = examples_of(source_of(store), CONFIG).learnt["short"]
    (step,) = loader.readable(again, iter([[0, 1]]))
    assert loader.damaged == {again[0].caption_id}
    assert [one.answer.tolist() for one in step] == [step[1].answer.tolist()] * 2
    with pytest.raises(BadTuning, match="can be decoded"):
        next(iter(loader.readable(again[:1], iter([[0]]))))


def test_memory_for_clips_is_bounded(store: Store, model: Path) -> None:
    tunable = load_tunable(str(model), CONFIG, "cpu")
    found = examples_of(source_of(store), CONFIG).learnt["short"]
    loaders = [loader_of(store, tunable, cache_bytes) for cache_bytes in (0, 1 << 30)]
    given = [
        [one.answer.tolist() for step in loader.readable(found, iter([[0, 1], [1, 0]])) for one in step]
        for loader in loaders
    ]
    assert given[0] == given[1]
    assert [len(loader._kept) for loader in loaders] == [0, 2]


# -- what is no model


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (None, "config.json cannot be read"),
        ("not JSON", "config.json cannot be read"),
        ('{"model_type": "llama"}', "a llama is no vision-language model"),
        ('{"model_type": "qwen2_vl"}', "no .safetensors"),
    ],
)
def test_directories_without_a_vision_model_are_refused(tmp_path: Path, config: str | None, says: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(BadModel, match=says):
        refuse_unless_tunable(str(tmp_path))


def test_a_missing_directory_and_damaged_weights_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="there is no model directory"):
        refuse_unless_tunable(str(tmp_path / "nothing"))
    damaged = shutil.copytree(model, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BadModel, match="cannot be loaded"):
        load_tunable(str(damaged), CONFIG, "cpu")
    (model_without := shutil.copytree(model, tmp_path / "mute") / "chat_template.jinja").unlink()
    with pytest.raises(BadModel, match="no chat template"):
        load_tunable(str(model_without.parent), CONFIG, "cpu")
