"""Fusion: what the model says in good English, what was measured in its place, nothing of what neither knows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.facts import CameraMove, Facts, Light, Stillness
from captioner.facts_words import captions_from_facts
from captioner.fields import CAMERAS, SHOT_TYPES, CaptionFields
from captioner.fuse import captions_of
from captioner.openings import has_stock_opening
from captioner.wording import camera_clause

BEACH = CaptionFields(
    subjects=("A man in a red coat", "a dog", "Two children."),
    action="The man walks along the beach. He throws a ball.",
    setting="A beach at sunset.",
    background="cliffs and a pier",
    style="Documentary style",
    lighting="Soft natural light.",
    colors=("Blue", "gray", "orange"),
    shot_type="wide shot",
    camera="pan left",
    text=("SALE", 'say "hi"'),
)


def test_all_that_the_model_said() -> None:
    assert captions_of(BEACH, None) == {
        "short": "A man in a red coat walks along the beach.",
        "descriptive": (
            "A man in a red coat walks along the beach. He throws a ball. A dog and two children can also be seen. "
            "The scene is set on a beach at sunset, with cliffs and a pier in the background. The scene is lit by soft "
            "natural light. The main colors are blue, gray and orange. The style is documentary. It is a wide shot, "
            'and the camera pans to the left. The text "SALE" and "say \'hi\'" can be read.'
        ),
        "motion": "The man walks along the beach. He throws a ball. The camera pans to the left.",
    }
    assert 40 <= len(captions_of(BEACH, None)["descriptive"].split()) <= 120


def test_of_nothing_nothing_is_said() -> None:
    assert captions_of(CaptionFields(), None) == captions_of(CaptionFields(), Facts()) == {}
    nothing = CaptionFields(("Unknown",), "none", "N/A", "unknown.", "None", "unclear", ("",), text=("none",))
    assert captions_of(nothing, None) == {}


def test_where_the_model_knows_nothing_the_facts_speak() -> None:
    facts = Facts(light="dim", aspect="widescreen", camera="static", motion="some")
    assert captions_of(CaptionFields(), facts) == captions_from_facts(facts)
    only_who = captions_of(CaptionFields(subjects=("a dog",)), facts)
    assert only_who["short"] == "A dog."
    assert only_who["motion"] == "The camera stays still."


@pytest.mark.parametrize(
    ("facts", "there", "gone"),
    [
        (Facts(camera="pan right", camera_speed="slow"), "the camera slowly pans to the right", "pans to the left"),
        (Facts(camera="static"), "the camera stays still", "pans"),
        (Facts(camera=None), "the camera pans to the left", "slowly"),
        (Facts(stillness="still"), "It is a wide shot.", "pans"),
        (Facts(light="dim"), "lit by soft natural light, and the picture is dim", "bright"),
        (Facts(light="medium"), "lit by soft natural light.", "picture is"),
        (Facts(is_black_and_white=True), "in black and white", "blue"),
        (Facts(color_strength="muted"), "The colors are muted, mainly blue, gray and orange", "main colors"),
        (Facts(colors=("green",)), "blue, gray and orange", "green"),
        (Facts(duration_s=1.0), "It is a brief wide shot", "long wide"),
        (Facts(duration_s=30.0), "It is a lengthy wide shot", "brief"),
        (Facts(duration_s=5.0), "It is a wide shot", "brief"),
    ],
)
def test_measured_facts_win(facts: Facts, there: str, gone: str) -> None:
    text = captions_of(BEACH, facts)["descriptive"]
    assert there in text
    assert gone not in text


def test_a_picture_that_is_measured_still_has_no_motion() -> None:
    captions = captions_of(BEACH, Facts(stillness="still"))
    assert re.fullmatch(r"Nothing (?:in the picture )?moves\.", captions["motion"])
    assert captions["short"] == "A man in a red coat walks along the beach."


@pytest.mark.parametrize(
    ("light", "lighting", "text"),
    [
        ("bright", "dark, moonlit", "The picture is bright."),
        ("bright", "dim lighting", "The picture is bright."),
        ("dark", "bright and even", "The picture is dark."),
        ("dark", "dim lamplight", "The scene is lit by dim lamplight."),
        ("black", "sunny", "The picture is almost entirely black."),
        ("black", "soft daylight", "The picture is almost entirely black."),
        ("medium", "dim lighting", "The lighting is dim."),
        (None, "Evenly lit.", "The scene is evenly lit."),
        (None, "The light is harsh.", "The lighting is harsh."),
        (None, "The sun is low.", "The sun is low."),
    ],
)
def test_light(light: Light | None, lighting: str, text: str) -> None:
    captions = captions_of(CaptionFields(("a dog",), lighting=lighting), Facts(light=light))
    assert captions["descriptive"] == f"A dog. {text}"


def test_night_is_not_said_of_a_bright_picture_nor_a_pan_of_another_camera() -> None:
    fields = replace(
        BEACH, setting="a street at night", action="The man runs as the camera pans left. The camera stops."
    )
    captions = captions_of(fields, Facts(light="bright", camera="zoom in"))
    assert "night" not in " ".join(captions.values())
    assert captions["motion"] == "The man runs. The camera zooms in."
    assert "at night" in captions_of(fields, Facts(light="dim"))["descriptive"]


@pytest.mark.parametrize(
    ("setting", "background", "text"),
    [
        ("outdoors", "", "The scene is set outdoors."),
        ("Indoor", "", "The scene is set indoors."),
        ("in a kitchen", "", "The scene is set in a kitchen."),
        ("kitchen", "", "The scene is set in a kitchen."),
        ("snowy mountain road", "", "The scene is set on a snowy mountain road."),
        ("Houston", "", "The setting is Houston."),
        ("urban", "", "The setting is urban."),
        ("", "blurred trees", "Blurred trees can be seen in the background."),
        (
            "park",
            "blurred trees in the background.",
            "The scene is set in a park, with blurred trees in the background.",
        ),
        ("park", "with people in the distance", "The scene is set in a park, with people in the distance."),
        ("park", "The sky is gray.", "The scene is set in a park. The sky is gray."),
        ("park", "out of focus", "The scene is set in a park. The background is out of focus."),
        ("park", "plain", "The scene is set in a park. The background is plain."),
        ("It is a park.", "trees", "It is a park. Trees can be seen in the background."),
    ],
)
def test_places(setting: str, background: str, text: str) -> None:
    assert captions_of(CaptionFields(setting=setting, background=background), None)["descriptive"] == text


def test_subjects_that_were_named_are_not_named_again() -> None:
    fields = CaptionFields(("a bee", "a pink flower", "a fly"), "collects nectar from the flower")
    text = captions_of(fields, None)["descriptive"]
    assert text == "A bee collects nectar from the flower. A fly can also be seen."


words = st.text("abcdefg ABCDEFG.,;:!?\"'()-éß日", max_size=30)
some_fields = st.builds(
    CaptionFields,
    subjects=st.lists(words, max_size=4).map(tuple),
    action=words | st.sampled_from(("The video shows a man running.", "They run.", "He is here...", "the dog runs")),
    setting=words | st.sampled_from(("In this clip, a beach.", "outdoors", "a street at night")),
    background=words,
    style=words,
    lighting=words | st.sampled_from(("dark", "bright", "soft light")),
    colors=st.lists(words, max_size=4).map(tuple),
    shot_type=st.sampled_from(SHOT_TYPES),
    camera=st.sampled_from(CAMERAS),
    text=st.lists(words, max_size=3).map(tuple),
)
some_facts = st.builds(
    Facts,
    camera=st.none() | st.sampled_from(get_args(CameraMove)),
    stillness=st.none() | st.sampled_from(get_args(Stillness)),
    light=st.none() | st.sampled_from(get_args(Light)),
    is_black_and_white=st.none() | st.booleans(),
)


@given(some_fields, some_facts)
def test_whatever_was_said_the_texts_are_well_formed(fields: CaptionFields, facts: Facts) -> None:
    captions = captions_of(fields, facts)
    assert captions == captions_of(fields, facts)
    for text in captions.values():
        assert re.search(r"[.!?][\"')]*$", text), text
        assert text == text.strip()
        assert "  " not in text
        assert not text[0].islower() or not text[0].isascii()


@given(some_fields, some_facts)
def test_the_measured_camera_and_no_other_is_told(fields: CaptionFields, facts: Facts) -> None:
    captions = captions_of(fields, facts)
    text = " ".join(captions.values()).lower()
    told = {camera for camera in CAMERAS if (said := camera_clause(camera)) and said in text}
    if facts.stillness == "still":
        assert not told
    elif facts.camera is not None:
        assert told == {facts.camera}
    else:
        assert told <= {fields.camera}


@pytest.mark.parametrize("opening", ["The video shows", "In this clip, we see", "This scene depicts", "We can see"])
def test_stock_openings_are_taken_off_every_field(opening: str) -> None:
    said = f"{opening} a dog"
    captions = captions_of(CaptionFields((said,), "running", said, said, said, said, (said,)), None)
    assert captions["short"] == "A dog is running."
    assert opening.lower() not in " ".join(captions.values()).lower()
    assert not has_stock_opening(captions["descriptive"])
