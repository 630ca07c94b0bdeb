"""The byte encoder: any text in, one vector a word out, each text by itself."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import event, given, settings
from hypothesis import strategies as st

from trainer.model.text import END, NONE, WORD_BYTES, ByteEncoder, ByteEncoderConfig, Texts, texts_of


def words(texts: Texts) -> list[list[bytes]]:
    """The words of each text, without its end."""
    rows = [[value for value in row if value != NONE] for row in texts.bytes_WS.tolist()]
    found: list[list[bytes]] = []
    for length in texts.segments.lengths:
        *kept, end = rows[:length]
        rows = rows[length:]
        assert end == [END]
        found.append([bytes(word) for word in kept])
    assert not rows
    return found


ROWS: list[tuple[str, list[bytes]]] = [
    ("", []),
    (" \t\r\n\v\f ", []),
    ("a dog", [b"a", b"dog"]),
    ("  A dog, running.\n", [b"A", b"dog", b",", b"running", b"."]),
    ("it's well-known", [b"it", b"'", b"s", b"well", b"-", b"known"]),
    ("\u0939\u093f\u0928", ["\u0939\u093f\u0928".encode()]),  # a letter's mark is the letter's
    ("24fps (50%)", [b"24fps", b"(", b"50", b"%", b")"]),
    ("0123456789abcdef", [b"0123456789abcdef"]),
    ("0123456789abcdefg", [b"0123456789abcdef", b"g"]),
    ("näher", ["näher".encode()]),
    ("犬が走る。", ["犬が走る".encode(), "。".encode()]),
    ("犬が走る道の上で", ["犬が走る道".encode(), "の上で".encode()]),  # no character is divided
    ("a\u3000b\u00a0c\u2014d", [b"a", b"b", b"c", "\u2014".encode(), b"d"]),
    ("na\u0308her", ["näher".encode()]),  # the same letter, spelled in two
    ("snake_case -x-", [b"snake", b"_", b"case", b"-", b"x", b"-"]),
    ("a\0b", [b"a", b"\0", b"b"]),
    ("a\ud800b", [b"a", b"?", b"b"]),  # half a character, as broken captions have
    ("<|end|>", [b"<", b"|", b"end", b"|", b">"]),
]


@pytest.mark.parametrize(("text", "answer"), ROWS)
def test_words(text: str, answer: list[bytes]) -> None:
    assert words(texts_of([text])) == [answer]


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@settings(max_examples=200)
@given(st.lists(ANY_TEXT, max_size=5), st.integers(1, 6))
def test_any_text_is_words_and_nothing_is_lost_but_what_is_counted(found: list[str], most: int) -> None:
    texts, whole = texts_of(found, most), texts_of(found, 10**6)
    assert texts.bytes_WS.shape == (texts.segments.tokens, WORD_BYTES)
    assert texts.bytes_WS.dtype == torch.int64
    assert max(texts.segments.lengths, default=0) <= most + 1
    assert whole.cut == 0
    assert texts.cut == whole.segments.tokens - texts.segments.tokens
    assert words(texts) == [kept[:most] for kept in words(whole)]
    for text, kept in zip(found, words(whole), strict=True):
        assert (
            b"".join(kept)
            == "".join(unicodedata.normalize("NFC", text).encode(errors="replace").decode().split()).encode()
        )
    event("cut" if texts.cut else "whole")


def test_a_long_text_is_cut_and_counted() -> None:
    texts = texts_of(["one two three four", "one", ""], max_words=2)
    assert words(texts) == [[b"one", b"two"], [b"one"], []]
    assert (texts.cut, texts.segments.lengths) == (2, (3, 2, 1))
    assert texts_of(["word " * 300]).cut == 44
    for most in (0, -1):
        with pytest.raises(ValueError, match=f"max_words={most}: must be at least 1"):
            texts_of(["a"], most)


def encoder(**changed: Any) -> ByteEncoder:
    torch.manual_seed(0)
    made = ByteEncoder(ByteEncoderConfig(**{"width": 16, "depth": 2, "head_width": 8} | changed)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def read(model: ByteEncoder, texts: list[str]) -> list[torch.Tensor]:
    made = texts_of(texts)
    return list(model(made).split(made.segments.lengths))


@settings(max_examples=30)
@given(st.lists(ANY_TEXT, min_size=1, max_size=4), st.integers(0, 3))
def test_a_text_does_not_depend_on_the_others(texts: list[str], at: int) -> None:
    model = encoder()
    at %= len(texts)
    found = read(model, texts)
    assert [len(z) for z in found] == list(texts_of(texts).segments.lengths)
    for z, text in zip(found, texts, strict=True):
        assert z.isfinite().all()
        torch.testing.assert_close(z, read(model, [text])[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(read(model, texts[at:] + texts[:at])[0], found[at], rtol=1e-9, atol=1e-9)


def test_gradients_do_not_depend_on_the_others() -> None:
    model = encoder()

    def gradients(texts: list[str], counted: list[int]) -> list[torch.Tensor]:
        model.zero_grad()
        found = read(model, texts)
        sum(((found[n] ** 3).sum() for n in counted), torch.zeros(())).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    together = gradients(["a red dog", "", "another one"], [0, 1])
    alone = [gradients([text], [0]) for text in ("a red dog", "")]
    assert len(together) == len(list(model.parameters()))
    for both, *each in zip(together, *alone, strict=True):
        torch.testing.assert_close(both, each[0] + each[1], rtol=1e-9, atol=1e-9)


DIFFER = [
    # texts that must not be read alike, at their end
    ("a dog", "a cat"),
    ("a dog", "dog a"),  # order of words
    ("dog", "god"),  # and of bytes
    ("a dog", "a dog."),
    ("dog", "Dog"),
    ("", "a"),
    ("a", "a a"),
    ("abcdefghijklmnopq", "abcdefghijklmnop qr"),
]


@pytest.mark.parametrize(("first", "other"), DIFFER)
def test_texts_that_differ_are_read_differently(first: str, other: str) -> None:
    model = encoder()
    ends = [read(model, [text])[0][-1] for text in (first, other)]
    assert (ends[0] - ends[1]).abs().max() > 1e-3


def test_what_is_past_a_words_end_is_not_read() -> None:
    model = encoder()
    texts = texts_of(["a dog"])
    with torch.no_grad():
        before = model(texts)
        model.embedding.weight[NONE] = 100.0
        assert torch.equal(model(texts), before)


def test_a_word_is_the_mean_of_its_bytes_and_what_is_near_them() -> None:
    """By hand, of a word without anything past its end."""
    model = encoder(depth=0)
    word = torch.tensor([*b"dogs"])
    x_SD = model.embedding(word) + model.place[:4]
    near_SD = F.conv1d(x_SD.T[None], model.spell.weight, model.spell.bias, padding=2)[0].T
    wanted_D = model.norm((x_SD + F.gelu(near_SD)).mean(dim=0))
    torch.testing.assert_close(read(model, ["a dogs"])[0][1], wanted_D, rtol=1e-12, atol=1e-12)


def test_empty_texts_and_no_texts() -> None:
    model = encoder()
    empty, blank = read(model, ["", " \n "])
    torch.testing.assert_close(empty, blank)
    assert empty.shape == (1, 16)
    nothing = texts_of([])
    assert (nothing.bytes_WS.shape, nothing.segments.lengths) == ((0, WORD_BYTES), ())


def test_texts_move_to_a_device() -> None:
    moved = texts_of(["a b", ""], max_words=1).to("meta")
    assert (moved.bytes_WS.device.type, moved.segments.cu.device.type, moved.cut) == ("meta", "meta", 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"width": 0}, "width=0: must be even and at least 2"),
    ({"width": 15}, "width=15: must be even and at least 2"),
    ({"head_width": 1}, "head_width=1: must be even and at least 2"),
    ({"head_width": 6}, "width=16: must be a multiple of head_width=6"),
    ({"depth": -1}, "depth=-1: must be at least 0"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_impossible_configs_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ByteEncoderConfig(**{"width": 16, "depth": 2, "head_width": 8} | changed)
