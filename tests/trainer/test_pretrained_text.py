"""Adapters to T5 and UMT5, over tiny encoders with random weights and a tokenizer of a few words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.model_files import BadModel
from tests.spoiled_models import rewritten, without, written
from tests.tiny_transformers import TINY, woken
from trainer.flow import FlowConfig
from trainer.geometry import Asked
from trainer.latents import OwnSpace
from trainer.model.trained import Trained
from trainer.network.compression import CompressionNetwork
from trainer.network.config import NetworkConfig
from trainer.pretrained_text import KNOWN, PretrainedTextEncoder, pretrained_encoder_id, pretrained_reader
from trainer.sampler import Sampler
from trainer.sampling import SamplingConfig

WIDTH = 16
WORDS = {"[pad]": 0, "[eos]": 1, "[unk]": 2, "a": 3, "red": 4, "blue": 5, "car": 6, "moves": 7}
EOS = WORDS["[eos]"]
SHAPE: dict[str, Any] = {
    "vocab_size": 12,  # more than the tokenizer has, as in real ones
    "d_model": WIDTH,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 4,
    "relative_attention_max_distance": 8,
}
TEXTS = ["a red car", "", "a blue car moves a red car a car", "red", "what is this"]
TOKENS = [4, 1, 10, 2, 4]  # eos among them


def make_tokenizer(folder: Path, *, ends: bool = True, words: dict[str, int] = WORDS) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
            single="$A [eos]", special_tokens=[("[eos]", EOS)]
        )
    named = {"pad_token": "[pad]", "unk_token": "[unk]", "eos_token": "[eos]", "model_max_length": 4}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def make(kind: str, folder: Path, seed: int = 0, *, whole: bool = False, **changed: Any) -> Path:
    """An encoder as `save_pretrained` leaves it, or a whole model with its decoder, as T5 is published."""
    import transformers

    config = {"t5": transformers.T5Config, "umt5": transformers.UMT5Config}[kind](**SHAPE | changed)
    classes = {
        "t5": (transformers.T5EncoderModel, transformers.T5ForConditionalGeneration),
        "umt5": (transformers.UMT5EncoderModel, transformers.UMT5ForConditionalGeneration),
    }
    torch.manual_seed(seed)
    classes[kind][whole](config).save_pretrained(folder)
    make_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {kind: make(kind, root / kind) for kind in KNOWN}


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, PretrainedTextEncoder]:
    return {kind: PretrainedTextEncoder.load(str(folder)) for kind, folder in folders.items()}


def theirs(folder: Path, kind: str, ids: list[int]) -> torch.Tensor:
    """One text's vectors, by transformers alone."""
    import transformers

    family: Any = {"t5": transformers.T5EncoderModel, "umt5": transformers.UMT5EncoderModel}[kind]
    with torch.no_grad():
        return family.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize("kind", KNOWN)
def test_a_text_is_its_own_tokens_in_order(
    folders: dict[str, Path], encoders: dict[str, PretrainedTextEncoder], kind: str
) -> None:
    encoder = encoders[kind]
    assert (encoder.width, encoder.max_tokens) == (WIDTH, 512)
    encoded = encoder.encode(TEXTS)
    assert [one.z_LD.shape for one in encoded] == [(tokens, WIDTH) for tokens in TOKENS]
    assert [one.tokens_cut for one in encoded] == [0] * len(TEXTS)
    assert all(one.z_LD.dtype == torch.float32 and not one.z_LD.requires_grad for one in encoded)
    assert not any(one.z_LD.is_inference() for one in encoded)
    # None keeps the batch in memory.
    assert all(one.z_LD.untyped_storage().nbytes() == 4 * one.z_LD.numel() for one in encoded)
    for text, ids in {"a red car": [3, 4, 6, EOS], "": [EOS], "what is this": [2, 2, 2, EOS]}.items():
        at = TEXTS.index(text)
        torch.testing.assert_close(encoded[at].z_LD, theirs(folders[kind], kind, ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KNOWN)
def test_a_text_alone_is_as_among_others(encoders: dict[str, PretrainedTextEncoder], kind: str) -> None:
    together = encoders[kind].encode(TEXTS)
    assert len({len(one.z_LD) for one in together}) > 1  # some are padded
    for text, one in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(encoders[kind].encode([text])[0].z_LD, one.z_LD, atol=1e-5, rtol=1e-5)
    again = encoders[kind].encode(TEXTS)
    assert all(torch.equal(one.z_LD, other.z_LD) for one, other in zip(together, again, strict=True))
    assert encoders[kind].encode([]) == []


# max_tokens, tokens kept and cut of each text
CUT = [
    (512, TOKENS, [0, 0, 0, 0, 0]),
    (10, [4, 1, 10, 2, 4], [0, 0, 0, 0, 0]),
    (9, [4, 1, 9, 2, 4], [0, 0, 1, 0, 0]),
    (3, [3, 1, 3, 2, 3], [1, 0, 7, 0, 1]),
    (1, [1, 1, 1, 1, 1], [3, 0, 9, 1, 3]),
]


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize(("max_tokens", "kept", "cut"), CUT)
def test_what_is_too_long_is_cut_and_counted(
    folders: dict[str, Path], kind: str, max_tokens: int, kept: list[int], cut: list[int]
) -> None:
    encoder = PretrainedTextEncoder.load(str(folders[kind]), max_tokens=max_tokens)
    encoded = encoder.encode(TEXTS)
    assert [len(one.z_LD) for one in encoded] == kept
    assert [one.tokens_cut for one in encoded] == cut
    if max_tokens == 3:  # it still ends with eos
        expected_LD = theirs(folders[kind], kind, [3, 5, EOS])
        torch.testing.assert_close(encoded[2].z_LD, expected_LD, atol=1e-5, rtol=1e-5)


def test_max_tokens_must_leave_room_for_eos(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="max_tokens=0: must be at least 1"):
        PretrainedTextEncoder.load(str(folders["t5"]), max_tokens=0)


def test_narrow_weights_give_float32(folders: dict[str, Path], encoders: dict[str, PretrainedTextEncoder]) -> None:
    narrow = PretrainedTextEncoder.load(str(folders["umt5"]), dtype=torch.bfloat16).encode(TEXTS)
    for one, wide in zip(narrow, encoders["umt5"].encode(TEXTS), strict=True):
        assert one.z_LD.dtype == torch.float32
        torch.testing.assert_close(one.z_LD, wide.z_LD, atol=0.1, rtol=0.1)


# -- on disk


@pytest.mark.parametrize("kind", KNOWN)
def test_the_encoder_of_a_whole_model_is_taken(tmp_path: Path, kind: str) -> None:
    make(kind, tmp_path, whole=True, tie_word_embeddings=False)  # as T5 1.1 and UMT5 have it
    weights = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("decoder.") for name in weights)
    assert "encoder.embed_tokens.weight" not in weights
    ids = [WORDS["a"], EOS]
    z_LD = PretrainedTextEncoder.load(str(tmp_path)).encode(["a"])[0].z_LD
    torch.testing.assert_close(z_LD, theirs(tmp_path, kind, ids), atol=1e-5, rtol=1e-5)
    weights["shared.weight"][WORDS["a"]] += 1  # the word's vector is that of the file
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert not torch.allclose(PretrainedTextEncoder.load(str(tmp_path)).encode(["a"])[0].z_LD, z_LD, atol=1e-3)


def test_an_encoder_is_known_by_its_content(
    tmp_path: Path, folders: dict[str, Path], encoders: dict[str, PretrainedTextEncoder]
) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(folders["t5"], copied)
    again = PretrainedTextEncoder.load(str(copied))
    assert again.encoder_id == encoders["t5"].encoder_id == pretrained_encoder_id(str(copied))
    assert torch.equal(again.encode(TEXTS)[2].z_LD, encoders["t5"].encode(TEXTS)[2].z_LD)
    ids = {again.encoder_id, encoders["umt5"].encoder_id, pretrained_encoder_id(str(copied), 3)}
    ids |= {pretrained_encoder_id(str(make("t5", tmp_path / "other", seed=1)))}
    make_tokenizer(copied, words={word: len(WORDS) - 1 - at if at > 2 else at for word, at in WORDS.items()})
    ids |= {pretrained_encoder_id(str(copied))}
    assert len(ids) == 5


def test_a_pipeline_s_encoder_is_in_its_folders(
    tmp_path: Path, folders: dict[str, Path], encoders: dict[str, PretrainedTextEncoder]
) -> None:
    shutil.copytree(folders["umt5"], tmp_path / "text_encoder", ignore=shutil.ignore_patterns("tokenizer*"))
    make_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "model_index.json").write_text("{}")
    encoder = PretrainedTextEncoder.load(str(tmp_path))
    assert torch.equal(encoder.encode(TEXTS)[2].z_LD, encoders["umt5"].encode(TEXTS)[2].z_LD)
    assert encoder.encoder_id == pretrained_encoder_id(str(tmp_path))
    with pytest.raises(BadModel, match=r"has no tokenizer in .*text_encoder"):
        PretrainedTextEncoder.load(str(tmp_path / "text_encoder"))


def test_a_model_samples_from_what_an_encoder_read(encoders: dict[str, PretrainedTextEncoder]) -> None:
    encoder = encoders["umt5"]
    config = replace(TINY, text_width=WIDTH, text_depth=0)
    model = woken(config, 1, torch.float32)
    network = NetworkConfig(2, 4, (8, 16, 16), (2, 2), (2, 1), (1, 1, 1), (1, 1, 1))
    space = OwnSpace(CompressionNetwork(network), "n")
    sampler = Sampler(Trained(config, FlowConfig(), "n", encoder.encoder_id), model, space, pretrained_reader(encoder))
    asked, quick = Asked(32, 16, 0.25, Fraction(24)), SamplingConfig(steps=2, seed=3)
    both = sampler.videos(asked, ["a red car", "blue"], quick)
    (alone,) = sampler.videos(asked, ["blue"], replace(quick, seed=4))
    assert [tuple(video.shape) for video in both] == [(3, 6, 16, 32)] * 2
    assert torch.allclose(both[1], alone, atol=1e-4)
    (other,) = sampler.videos(asked, ["moves"], replace(quick, seed=4))
    assert not torch.allclose(other, alone, atol=1e-4)
    with pytest.raises(ValueError, match="the model was trained on texts of"):
        replace(sampler, texts=pretrained_reader(encoders["t5"]))


def test_no_prompt_is_cut_silently(folders: dict[str, Path]) -> None:
    reader = pretrained_reader(PretrainedTextEncoder.load(str(folders["t5"]), max_tokens=3))
    assert reader.read(["a red"]).segments.lengths == (3, 1)
    with pytest.raises(ValueError, match="prompt: has 1 tokens too many; the encoder reads 3"):
        reader.read(["a red car"])


# -- attacks


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def reweighted(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def with_code(folder: Path) -> None:
    """A tokenizer that brings code along, to be run where it is loaded."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {
        "tokenizer_class": "Mine",
        "auto_map": {"AutoTokenizer": ["mine.Mine", None]},
    }
    path.write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Mine: pass\n")


NORM = "encoder.final_layer_norm.weight"
BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "there is no model directory"),
    (without("config.json"), "no config.json in .*; give the directory of a T5 or UMT5 with its tokenizer"),
    (written("config.json", b"{"), "config.json: cannot be read"),
    (written("config.json", b"null"), "config.json: cannot be read .no JSON object"),
    (written("config.json", b"{}"), "its model_type is None, and one of t5, umt5 is needed"),
    (rewritten(model_type="bert"), "its model_type is bert, and one of t5, umt5 is needed"),
    (rewritten(model_type=["t5"]), "and one of t5, umt5 is needed"),
    (rewritten(model_type="umt5"), "its weights lack encoder.block.1.layer.0.SelfAttention.relative_attention_bias"),
    (rewritten(d_model="wide"), "cannot be loaded"),
    (rewritten(d_ff=25), "cannot be loaded"),
    (rewritten(num_layers=3), "its weights lack encoder.block.2"),
    (without("model.safetensors"), "has no weights"),
    (pickled, "its weights are pickled .pytorch_model.bin. and are not read"),
    (written("model.safetensors", b"junk"), "cannot be loaded"),
    (reweighted(lambda weights: weights.pop(NORM)), f"its weights lack {NORM}"),
    (reweighted(lambda weights: weights.pop("shared.weight")), "its weights lack"),
    (without("tokenizer.json"), "has no tokenizer in"),
    (written("tokenizer.json", b"{}"), "its tokenizer cannot be loaded"),
    (lambda folder: make_tokenizer(folder, ends=False), r"its tokenizer gives \[\] for an empty text"),
    (
        lambda folder: make_tokenizer(folder, words=WORDS | {f"word{at}": at for at in range(8, 20)}),
        "its tokenizer has 20 tokens, and the model knows 12",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), BROKEN)
def test_what_is_no_such_encoder_is_refused_by_name(
    tmp_path: Path, folders: dict[str, Path], spoil: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(folders["t5"], folder)
    spoil(folder)
    with pytest.raises(BadModel, match=said) as raised:
        PretrainedTextEncoder.load(str(folder))
    assert str(folder) in str(raised.value)


def test_no_code_of_a_tokenizer_s_is_run(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["t5"], tmp_path / "encoder")
    with_code(tmp_path / "encoder")
    encoder = PretrainedTextEncoder.load(str(tmp_path / "encoder"))  # by its tokenizer.json alone
    assert len(encoder.encode(["a red car"])[0].z_LD) == 4
    assert not (tmp_path / "encoder" / "ran").exists()


def test_values_that_are_no_numbers_are_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["t5"], tmp_path / "encoder")
    reweighted(lambda weights: weights[NORM].fill_(float("inf")))(tmp_path / "encoder")
    encoder = PretrainedTextEncoder.load(str(tmp_path / "encoder"))
    with pytest.raises(BadModel, match="gave values that are not finite"):
        encoder.encode(["a red car"])
