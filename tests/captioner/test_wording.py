"""Wording: joins, articles, number, and what models write made into phrases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.clauses import actor_of, clause, is_clause
from captioner.wording import camera_clause, definite, is_plural, joined, noun_phrase, phrase, sentence, with_article


@pytest.mark.parametrize(
    ("items", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), (["a", "", "c"], "a and c")],
)
def test_lists(items: list[str], text: str) -> None:
    assert joined(items) == text


RIGHT_ARTICLES = (
    "a dog, an owl, an hour, a unicorn, a uniform, an umbrella, an unidentified man, a European, a one-way street, "
    "an MP3, a NASA engineer, an FBI agent, an 8-bit game, an 11th hour, a 110th, a US flag, an LED, a used car, "
    "an ugly duckling, an honest man, a house, a UNICEF tent, a TV"
)


@pytest.mark.parametrize("right", RIGHT_ARTICLES.split(", "))
def test_articles(right: str) -> None:
    assert with_article(right.split(" ", 1)[1]) == right


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("A dog.", "a dog"),
        ("The video shows a dog.", "a dog"),
        ("In this clip, we see Paris", "Paris"),
        ("There is a dog", "a dog"),
        ("NASA engineers", "NASA engineers"),
        ("Tom Hanks", "Tom Hanks"),
        ("Beijing at night", "Beijing at night"),
        ("Running fast...", "running fast"),
        ("A man walks. The dog follows.", "a man walks; the dog follows"),
        ("Mr. Smith walks.", "Mr. Smith walks"),
        ("Washington, D.C.", "Washington, D.C."),
        ("unknown", ""),
        ("N/A.", ""),
        ("None", ""),
        (" , ", ""),
    ],
)
def test_phrases(written: str, read: str) -> None:
    assert phrase(written) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("dog", "a dog"),
        ("old man with a hat", "an old man with a hat"),
        ("dogs", "dogs"),
        ("people in a park", "people in a park"),
        ("water", "water"),
        ("group of people", "a group of people"),
        ("glass of water", "a glass of water"),
        ("two dogs", "two dogs"),
        ("Paris", "Paris"),
        ("the sea", "the sea"),
        ("room 12", "room 12"),
    ],
)
def test_noun_phrases(written: str, read: str) -> None:
    assert noun_phrase(written) == read


@pytest.mark.parametrize(
    ("noun", "is_many"),
    [
        *((noun, True) for noun in ("two dogs", "dogs in a park", "people", "a man and a dog", "3 cars")),
        *((noun, False) for noun in ("a dog", "a man with two dogs", "the bus", "a group of people", "grass", "1 car")),
    ],
)
def test_number(noun: str, is_many: bool) -> None:
    assert is_plural(noun) is is_many


@pytest.mark.parametrize(
    ("noun", "again"),
    [
        ("a man in a red coat", "the man"),
        ("two dogs", "the two dogs"),
        ("the sea", "the sea"),
        ("Tom Hanks", "Tom Hanks"),
        ("people walking", "the people"),
        ("a group of men", "the group of men"),
    ],
)
def test_the_same_again(noun: str, again: str) -> None:
    assert definite(noun) == again


@pytest.mark.parametrize(
    ("subject", "action", "text"),
    [
        ("A man in a coat", "walks away", "a man in a coat walks away"),
        ("A man in a coat", "walking away", "a man in a coat is walking away"),
        ("A man in a coat", "is walking away", "a man in a coat is walking away"),
        ("A man in a coat", "slowly walking away", "a man in a coat is slowly walking away"),
        ("A man in a coat", "He walks away.", "a man in a coat walks away"),
        ("A man in a coat", "The man walks away.", "a man in a coat walks away"),
        ("A man in a coat", "A man in a coat walks away", "a man in a coat walks away"),
        ("A man in a coat", "The man in the coat walks away", "the man in the coat walks away"),
        ("A man in a coat", "in motion", "a man in a coat is in motion"),
        ("A man in a coat", "walk away and jump", "a man in a coat walks away and jumps"),
        ("Two dogs", "is running", "two dogs are running"),
        ("Two dogs", "runs and jumps", "two dogs run and jump"),
        ("Cars", "parked on a street", "cars are parked on a street"),
        ("A calm lake", "The wind ripples the water", "a calm lake as the wind ripples the water"),
        ("Tom Hanks", "Tom Hanks runs", "Tom Hanks runs"),
        ("", "Running fast", "running fast"),
        ("A dog", "", "a dog"),
        ("A dog", "unknown", "a dog"),
    ],
)
def test_who_does_what(subject: str, action: str, text: str) -> None:
    said = phrase(action)
    assert clause(actor_of((subject,), said), said) == text


def test_they_are_two() -> None:
    actor = actor_of(("A man with a hat", "a dog", "a cat"), "they run")
    assert clause(actor, "they run") == "a man with a hat and a dog run"
    assert clause(actor.again(), "they run") == "the man and the dog run"


@pytest.mark.parametrize("text", ["the sky is gray", "the wind ripples the water", "trees are in bloom"])
def test_a_clause(text: str) -> None:
    assert is_clause(text)


@pytest.mark.parametrize("text", ["a row of houses", "gray sky", "the tops of tall trees", "", "is"])
def test_no_clause(text: str) -> None:
    assert not is_clause(text)


@pytest.mark.parametrize(
    ("camera", "speed", "text"),
    [
        ("pan left", "slow", "the camera slowly pans to the left"),
        ("zoom in", None, "the camera zooms in"),
        ("static", "fast", "the camera stays still"),
        ("shake", "fast", "the camera shakes strongly"),
        ("tilt up", "medium", "the camera tilts up"),
        ("unknown", "slow", ""),
    ],
)
def test_camera(camera: str, speed: str | None, text: str) -> None:
    assert camera_clause(camera, speed) == text


@given(st.text(max_size=60))
def test_a_sentence_has_one_capital_and_one_end(text: str) -> None:
    said = sentence(text)
    assert said == "" or said[-1] in ".!?\"')"
    assert not said.endswith("..") or text.rstrip(" ,;:-").endswith("..")
    assert "  " not in said
    assert sentence(said) == said
