# ruff: noqa: RUF001 - letters of other scripts are what is tested
"""What the checks find in captions, and what they let pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.agreement import agreements_of
from captioner.checks import FLAGS, CheckConfig, flags_of, is_repetitive, without_stock_opening
from captioner.facts import Facts
from captioner.fields import CaptionFields
from captioner.language import LANGUAGES, SCRIPTS, is_in_language
from captioner.openings import FIRST_OPENINGS, STOCK_OPENINGS, has_stock_opening
from curation.embed import Embedder
from curation.embeddings import EmbeddedClip, add_model, write_embeddings
from curation.store import Store
from tests.tiny_models import make_embedding_model

GOOD = "A woman in a red coat walks along a wet street, and the camera follows her to the corner."


def flags(text: str, kind: str = "descriptive", **given: object) -> tuple[str, ...]:
    usual: dict[str, object] = {"fields": None, "facts": None, "finish_reason": "stop", "agreement": None}
    return flags_of(text, kind=kind, config=given.pop("config", CheckConfig()), **(usual | given))  # type: ignore[arg-type]


# Text → its kind → all flags.
CASES: list[tuple[str, str, tuple[str, ...]]] = [
    (GOOD, "descriptive", ()),
    ("A red square.", "short", ()),
    ("The camera stays still.", "motion", ()),
    ("A red square glides to the left over a blue ground.", "short", ()),
    ("A red square moving left", "short", ()),
    (
        "The sign reads “Zum Goldenen Hirschen und weiter bis zur alten Mühle”, and a man points to it.",
        "descriptive",
        (),
    ),
    ("What a house she came from.", "short", ()),
    ("", "short", ("too_short",)),
    ("A woman walks along a wet street and", "short", ("truncated",)),
    ("A woman walks along a wet street, with the", "short", ("truncated",)),
    ("A woman walks,", "short", ("truncated",)),
    ("A woman walks. The street is wet and shi", "short", ("truncated",)),
    ("A woman walks along a wet street in the eve", "descriptive", ("truncated",)),
    ("A woman (in a red coat", "short", ("truncated",)),
    ('A sign reads "Stop', "short", ("truncated",)),
    ("The video shows a woman in a red coat on a wet street.", "descriptive", ("stock_opening",)),
    ("A woman walks. The scene then shows a man.", "descriptive", ("stock_opening",)),
    ("Eine Frau in einem roten Mantel geht über die nasse Straße.", "descriptive", ("language",)),
    ("Une femme en manteau rouge marche dans la rue mouillée.", "descriptive", ("language",)),
    ("一个穿红色外套的女人走在街上。", "descriptive", ("language",)),
    ("A woman walks 在街上 along the wet street.", "descriptive", ("language",)),
    ("A woman <b>walks</b> along the wet street.", "descriptive", ("markup",)),
    ("A woman **walks** along the wet street.", "descriptive", ("markup",)),
    ("A woman &amp; a man walk along the wet street.", "descriptive", ("markup",)),
    ("A woman walks along the wet street.<|im_end|>", "descriptive", ("markup", "truncated")),
    ("A woman\u202e walks along the \x1b[31mwet street.", "descriptive", ("control_characters",)),
    ("A woman walks on and on and on and on and on and on.", "descriptive", ("repetition",)),
    ("A cat.", "descriptive", ("too_short",)),
    (
        " ".join(["One word after another, each of them new"] + [f"word{i}" for i in range(400)]) + ".",
        "descriptive",
        ("too_long",),
    ),
]


@pytest.mark.parametrize(("text", "kind", "expected"), CASES)
def test_flags(text: str, kind: str, expected: tuple[str, ...]) -> None:
    assert flags(text, kind) == expected


def test_every_flag_is_explained_and_met() -> None:
    met = {flag for _, _, expected in CASES for flag in expected} | {"disagrees"}
    met |= {f"contradicts_{name}" for name in ("camera", "color", "light", "motion")}  # test_contradictions
    assert met == set(FLAGS)


def test_what_the_answer_brings_beside_its_text() -> None:
    assert flags(GOOD, finish_reason="length") == ("truncated",)
    assert flags(GOOD, finish_reason=None) == ()
    assert flags(GOOD, agreement=0.2) == ()
    assert flags(GOOD, agreement=-0.1) == ("disagrees",)
    assert flags(GOOD, agreement=0.2, config=CheckConfig(min_agreement=0.25)) == ("disagrees",)
    assert flags("The camera pans left.", "motion", facts=Facts(camera="pan right")) == ("contradicts_camera",)
    night = 'A neon sign reads "open at night" above the door.'
    assert flags(night, facts=Facts(light="bright")) == ()
    assert flags(night.replace('"', ""), facts=Facts(light="bright")) == ("contradicts_light",)
    seen = CaptionFields(text=("open at night", "出口 東京"))
    assert flags(night.replace('"', ""), fields=seen, facts=Facts(light="bright")) == ()
    assert flags("A sign that reads 出口 東京 hangs over the door.", fields=seen) == ()
    # An engine that holds a model to a schema ends a text at its longest.
    cut = CaptionFields(action="walks " * 40)
    assert len(cut.action) == 240
    assert flags(GOOD, fields=cut) == ("truncated",)
    assert flags(GOOD, fields=CaptionFields(subjects=("x" * 120,))) == ("truncated",)


def test_what_people_wrote_is_not_held_to_a_style() -> None:
    text = "The video shows a woman who walks and walks and walks"
    assert flags(text, "original", finish_reason="length") == ()
    assert flags("<b>cat</b>", "original") == ("markup",)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CheckConfig(language="klingon"), "language='klingon'"),
        (lambda: CheckConfig(language="EN"), "language='EN'"),
        (lambda: CheckConfig(min_agreement=1.5), "min_agreement=1.5"),
        (lambda: CheckConfig(min_agreement=float("nan")), "min_agreement=nan"),
        (lambda: CheckConfig(short_words=(-1, 4)), "short_words=-1 4"),
        (lambda: CheckConfig(motion_words=(5, 4)), "motion_words=5 4"),
        (lambda: CheckConfig(descriptive_words=(0, 0)), "descriptive_words=0 0"),
        (lambda: CheckConfig().words_of("long"), "kind='long'"),
    ],
)
def test_impossible_settings_are_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=r"must be") as refused:
        make()
    assert words in str(refused.value)


STOCK = [
    ("The video shows a man.", "A man."),
    ("This clip depicts two dogs in a park.", "Two dogs in a park."),
    ("In this video we see a man.", "A man."),
    ("In this video, a man walks.", "A man walks."),
    ("In the clip a man walks.", "A man walks."),
    ("The image features a red car.", "A red car."),
    ("The footage captures a storm.", "A storm."),
    ("A video of a cat.", "A cat."),
    ("An image of a cat.", "A cat."),
    ("The short video clip showcases a lamp.", "A lamp."),
    ("The scene opens with a sunrise.", "A sunrise."),
    ("The sequence begins with a knock.", "A knock."),
    ("We see a man.", "A man."),
    ("Here we see a man.", "A man."),
    ("We can clearly see that a man waves.", "A man waves."),
    ("The viewer sees a lake.", "A lake."),
    ("Throughout the video, there is a dog.", "A dog."),
    ("As seen in the video, a dog barks.", "A dog barks."),
    ("Based on the video, a dog barks.", "A dog barks."),
    ("Sure! Here is a detailed description of the video: A dog barks.", "A dog barks."),
    ("Caption: a dog barks.", "A dog barks."),
    ("Description: The video shows a dog.", "A dog."),
    ("It shows a cat.", "A cat."),
    ("The recording presents a choir.", "A choir."),
    ("The animation portrays a bear.", "A bear."),
    ("The clip consists of waves.", "Waves."),
    ("The video focuses on a hand.", "A hand."),
    ("The video is about a hand.", "A hand."),
    ("A photograph displaying a hand.", "A hand."),
    ("Video of a hand.", "A hand."),
    ("THE VIDEO SHOWS A HAND.", "A HAND."),
    ("A man walks. The video then shows a dog.", "A man walks. A dog."),
]
NOT_STOCK = [
    GOOD,
    "The camera shows nothing but sand.",
    "A video plays on a screen.",
    "A man films a video of his dog.",
    "Videos of cats play on the wall.".replace("Videos of", "Screens with"),
    "The picture frame shows dust.",
    "A photograph hangs on the wall. It shows a man.",
    "A painting of a man hangs there. The picture shows him old.",
    "The shot tilts up.",
    "The scene is set in a kitchen.",
    "The image is in black and white.",
    "In the video game hall, two boys play.",
    "There are two dogs.",
    "People see the video.",
    "The film crew waits.",
    "The footage shows",
    "",
]


@pytest.mark.parametrize(("text", "bare"), STOCK)
def test_a_stock_opening_is_taken_off(text: str, bare: str) -> None:
    assert without_stock_opening(text) == bare
    assert has_stock_opening(text)


@pytest.mark.parametrize("text", NOT_STOCK)
def test_other_openings_stay(text: str) -> None:
    assert without_stock_opening(text) == text


def test_there_are_openings_to_meet() -> None:
    assert len(STOCK_OPENINGS) + len(FIRST_OPENINGS) >= 14


@given(st.lists(st.sampled_from([*(text for text, _ in STOCK), *NOT_STOCK, "the", "video shows", "!", "In the clip,"])))
def test_taking_off_twice_changes_nothing_more(parts: list[str]) -> None:
    bare = without_stock_opening(" ".join(parts))
    assert without_stock_opening(bare) == bare
    assert not has_stock_opening(bare)


REPEATS = [
    "A red red red square.",
    "A man walks. A man walks to the door. A man walks.",
    "The dog runs and the dog runs and the dog runs and the dog runs.",
    "A man and a woman and a man and a woman and a man and a woman stand there.",
    "A car, a car, a car, a car.",
    "A street with shops, people, shops, cars, shops, bikes, shops, trees and shops again in a town with shops.",
    "The cat sits on the mat. Then the cat sits on the mat and later the cat sits on the mat.",
    "一个男人走路一个男人走路一个男人走路。",
]
NO_REPEATS = [
    GOOD,
    "A very, very old man.",
    "Ha ha.",
    "A red square moves left. The square is small. The background is blue, and the square leaves on the left.",
    "A man walks to the door. The man opens it. The man leaves, and the door stays open.",
    "Two dogs play on the grass in the park while children in the park watch the two dogs.",
    "She walks in. He walks out. She sits. He stands.",
    "",
]


@pytest.mark.parametrize("text", REPEATS)
def test_repetition_is_seen(text: str) -> None:
    assert is_repetitive(text)


@pytest.mark.parametrize("text", NO_REPEATS)
def test_coming_back_to_a_word_is_no_repetition(text: str) -> None:
    assert not is_repetitive(text)


LANGUAGE = {
    "en": "A woman in a red coat walks along the wet street.",
    "de": "Eine Frau in einem roten Mantel geht über die nasse Straße.",
    "fr": "Une femme en manteau rouge marche dans la rue mouillée.",
    "es": "Una mujer con un abrigo rojo camina por la calle mojada.",
    "it": "Una donna con un cappotto rosso cammina lungo la strada bagnata.",
    "pt": "Uma mulher de casaco vermelho caminha pela rua molhada.",
    "nl": "Een vrouw in een rode jas loopt over de natte straat.",
    "ru": "Женщина в красном пальто идёт по мокрой улице.",
    "zh": "一个穿红色外套的女人走在街上。",
    "ja": "赤いコートを着た女性が濡れた道を歩いている。",
    "ko": "빨간 코트를 입은 여자가 젖은 거리를 걷고 있다.",
    "ar": "امرأة ترتدي معطفا أحمر تمشي في الشارع المبلل.",
    "el": "Μια γυναίκα με κόκκινο παλτό περπατά στον βρεγμένο δρόμο.",
}


@pytest.mark.parametrize("asked", LANGUAGE)
@pytest.mark.parametrize("given", LANGUAGE)
def test_a_text_is_in_its_language_and_in_no_other(asked: str, given: str) -> None:
    assert is_in_language(LANGUAGE[given], asked) == (asked == given)
    assert is_in_language(LANGUAGE[given], "any")


@pytest.mark.parametrize(
    "text",
    [
        "Red square.",
        "Camera pans left.",
        "A tuareg nomad rides a camel.",
        "A man in a sombrero plays guitar in Guadalajara.",
        "Medium close-up, static camera.",
        "Cells of 5 µm move by Δ in the dish.",
        "A café in São Paulo at noon.",
        "Fuji-san and the Shinkansen pass Kyoto.",
        "12345",
        "",
        "🎬🎥 A film crew.",
    ],
)
def test_names_and_few_words_are_not_taken_for_another_language(text: str) -> None:
    assert is_in_language(text, "en")


def test_the_classifier_knows_the_languages() -> None:
    from captioner.language import _identifier

    assert set(_identifier().labels) == LANGUAGES == set(SCRIPTS)


@given(st.text(max_size=300), st.sampled_from(["short", "descriptive", "motion", "original"]))
def test_any_text_can_be_checked(text: str, kind: str) -> None:
    found = flags(text, kind, facts=Facts(camera="static", light="bright", is_black_and_white=True, motion="much"))
    assert list(found) == sorted(set(found))
    assert set(found) <= set(FLAGS)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part",
    ["<", "<b", "&amp;", "**a", "[a](", "- ", "`", "The video shows ", "in the ", "a, ", "'", "(", "“", "\u200d", "男"],
)
def test_checking_takes_time_that_grows_with_the_text_alone(part: str) -> None:
    text = part * (20_000 // len(part))
    assert set(flags(text, facts=Facts(light="bright"))) <= set(FLAGS)


def test_agreement_is_the_cosine_of_text_and_clip(tmp_path: Path) -> None:
    embedder = Embedder.load(str(make_embedding_model(tmp_path / "clip", "clip")))
    store = Store(str(tmp_path / "store"))
    store.create()
    texts = ["a red car", "a blue car", None, "a red car", " "]
    clip_ids = ["one", "two", "one", "failed", "one"]
    assert agreements_of(store, embedder, clip_ids, texts) == [None] * 5  # the store has none of this model
    add_model(store, embedder.model, "run")
    vectors = embedder.embed_text(["a red car", "a red"])
    rows = [EmbeddedClip("one", vectors[0], 1.0, 2), EmbeddedClip("two", vectors[1], 1.0, 2)]
    write_embeddings(store, embedder.model, [*rows, EmbeddedClip("failed", None, failure="not_finite")], "run")
    first, second, *others = agreements_of(store, embedder, clip_ids, texts)
    assert first == pytest.approx(1, abs=1e-5)
    expected = float(np.dot(embedder.embed_text(["a blue car"])[0], vectors[1]))
    assert second == pytest.approx(expected, abs=1e-5)
    assert second is not None
    assert second < 0.999
    assert others == [None, None, None]
    assert agreements_of(store, None, clip_ids, texts) == [None] * 5
    assert agreements_of(store, embedder, [], []) == []
    with pytest.raises(ValueError, match="one a clip"):
        agreements_of(store, embedder, ["one"], [])
