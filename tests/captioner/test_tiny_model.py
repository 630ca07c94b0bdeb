"""The tiny model: whole, the same every time, and able to spell everything."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.tiny_model import SPECIAL, TinyShape, make_tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", hidden=64, layers=1, vision_layers=1)


def files_of(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def test_the_same_arguments_give_the_same_files(directory: Path, tmp_path: Path) -> None:
    again = make_tiny_model(tmp_path / "again", hidden=64, layers=1, vision_layers=1)
    other = make_tiny_model(tmp_path / "other", hidden=64, layers=1, vision_layers=1, seed=1)
    assert files_of(again) == files_of(directory)
    differing = {name for name, digest in files_of(other).items() if files_of(directory)[name] != digest}
    assert differing == {"model.safetensors"}


def test_the_files_are_what_vllm_looks_for(directory: Path) -> None:
    names = {file.name for file in directory.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "video_preprocessor_config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)


@pytest.mark.parametrize("shown", ["video", "image"])
def test_it_sees_and_answers(directory: Path, shown: str) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(directory)
    model = AutoModelForImageTextToText.from_pretrained(directory).eval()
    chat = [{"role": "user", "content": [{"type": shown}, {"type": "text", "text": "What is it?"}]}]
    question = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert question == (
        f"<|im_start|>user\n<|vision_start|><|{shown}_pad|><|vision_end|>What is it?<|im_end|>\n<|im_start|>assistant\n"
    )
    answers = []
    for level in (0, 255):
        frames = np.full((4, 56, 84, 3), level, np.uint8)
        pictures = {"videos": [frames]} if shown == "video" else {"images": [frames[0]]}
        inputs = processor(text=[question], return_tensors="pt", **pictures)
        pads = int((inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids(f"<|{shown}_pad|>")).sum())
        assert pads == 2 * 3 * (2 if shown == "video" else 1)
        answers.append(model(**inputs).logits[0, -1])
    assert not answers[0].equal(answers[1]), "the picture makes no difference"


@given(st.text(max_size=60))
@settings(max_examples=50, deadline=None)
def test_the_tokenizer_spells_everything(text: str) -> None:
    tokenizer = TOKENIZER
    assert tokenizer.decode(tokenizer(text).input_ids) == text or any(special in text for special in SPECIAL)


TOKENIZER = tiny_tokenizer()


def test_words_of_captions_are_tokens() -> None:
    said = "A red circle moves to the left over a black background."
    assert len(TOKENIZER(said).input_ids) == len(said.split()) + 1
    for special in SPECIAL:
        assert len(TOKENIZER(special).input_ids) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("hidden", 0), ("hidden", 100), ("hidden", 160), ("vision_hidden", 16), ("layers", 0)]
)
def test_shapes_that_no_engine_takes_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{field}={value}"):
        TinyShape(**{field: value})
