"""Captions from facts: they read well, differ from clip to clip, and claim nothing that was not measured."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.facts import Amount, Aspect, CameraMove, Facts, Light, Speed, Stillness
from captioner.facts_words import captions_from_facts
from curation.colors import NAMED

# The words by which a caption claims something of a fact; with the fact None none of them may be there.
CLAIMS: dict[str, str] = {
    "duration_s": r"brief|long",
    "aspect": r"vertical|square|widescreen|wide-format",
    "camera": r"camera|pan|tilt|zoom|roll|shak",
    "light": r"entirely|dark|dim|bright",
    "contrast": r"contrast",
    "is_black_and_white": r"black-and-white",
    "color_strength": r"muted|vivid",
    "is_flashing": r"flash",
    "is_stepped": r"stepped",
    "has_text": r"text",
    "stillness": r"still picture|held|nothing",
}
maybe = st.none() | st.booleans()
some_facts = st.builds(
    Facts,
    duration_s=st.none() | st.floats(0.04, 500),
    aspect=st.none() | st.sampled_from(get_args(Aspect)),
    camera=st.none() | st.sampled_from(get_args(CameraMove)),
    camera_speed=st.none() | st.sampled_from(get_args(Speed)),
    motion=st.none() | st.sampled_from(get_args(Amount)),
    subject_motion=st.none() | st.sampled_from(get_args(Amount)),
    stillness=st.none() | st.sampled_from(get_args(Stillness)),
    light=st.none() | st.sampled_from(get_args(Light)),
    contrast=st.none() | st.sampled_from(("low", "high")),
    is_black_and_white=maybe,
    color_strength=st.none() | st.sampled_from(("muted", "vivid")),
    colors=st.lists(st.sampled_from(sorted(NAMED)), unique=True, max_size=6).map(tuple),
    is_flashing=maybe,
    is_stepped=maybe,
    has_text=st.none() | st.just(True),
)
PAN = Facts(
    duration_s=3.0,
    aspect="widescreen",
    camera="pan left",
    camera_speed="slow",
    motion="some",
    subject_motion="little",
    stillness="moving",
    light="dim",
    colors=("blue", "gray"),
)


def test_of_nothing_measured_nothing_is_said() -> None:
    assert captions_from_facts(Facts()) == {}


def test_a_pan() -> None:
    captions = captions_from_facts(PAN)
    assert captions["short"] == "A dim widescreen shot in blue and gray, with the camera slowly panning to the left."
    assert captions["motion"] in (
        "The camera slowly pans to the left while little else moves.",
        "The camera slowly pans to the left and little else moves.",
    )
    assert (
        captions["motion"][1:-1] in captions["descriptive"]
        or "in which the camera slowly pans" in captions["descriptive"]
    )


@pytest.mark.parametrize(
    ("facts", "short"),
    [
        (Facts(light="black", stillness="still"), "An almost entirely black still picture."),
        (Facts(light="black", colors=("black",)), "An almost entirely black picture."),
        (Facts(is_black_and_white=True, light="medium", colors=("gray",)), "A black-and-white shot."),
        (Facts(light="bright", colors=("green",)), "A bright, mainly green shot."),
        (Facts(aspect="vertical", motion="much"), "A vertical shot with a lot of movement."),
        (Facts(aspect="very wide", light="medium"), "A wide-format shot."),
        (Facts(duration_s=0.5, light="dark", aspect="square"), "A brief, dark square shot."),
        (Facts(duration_s=40, light="medium"), "A lengthy shot."),
        (Facts(camera="shake", camera_speed="fast", light="dim"), "A dim shot with the camera shaking strongly."),
        (Facts(colors=("white",), has_text=True), "A mainly white picture with lines of text."),
        (Facts(colors=("red", "green", "blue", "pink", "cyan")), "A shot in many colors, most of all red and green."),
        (Facts(motion="little"), "There is little movement in the picture."),
        (Facts(duration_s=3.0, rate_fps=25.0, motion="little"), "There is little movement in the picture."),
    ],
)  # fmt: skip
def test_short_captions(facts: Facts, short: str) -> None:
    assert captions_from_facts(facts)["short"] == short


def test_many_colors_are_all_named_once() -> None:
    colors = ("red", "green", "blue", "pink", "cyan")
    for duration_s in (2.0, 2.1, 2.2, 2.3, 2.4, 2.5):
        text = captions_from_facts(replace(PAN, colors=colors, duration_s=duration_s))["descriptive"]
        assert text.count("red") == 1


def test_clips_do_not_read_alike_and_one_clip_always_the_same() -> None:
    texts = {captions_from_facts(replace(PAN, duration_s=2 + n / 100))["descriptive"] for n in range(100)}
    assert 4 <= len(texts) <= 20
    imports = "from captioner.facts import Facts; from captioner.facts_words import captions_from_facts"
    code = f"{imports}; print(captions_from_facts({PAN!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(captions_from_facts(PAN))


@given(some_facts)
def test_every_text_is_well_formed(facts: Facts) -> None:
    captions = captions_from_facts(facts)
    assert set(captions) <= {"short", "descriptive", "motion"}
    for text in captions.values():
        assert re.fullmatch(r"[A-Z][^.]*\.(?: [A-Z][^.]*\.)*", text), text
        assert "  " not in text
        assert not re.search(r" [,.]|None|,,|\ba (?:[aeiou]|almost)", text), text
    if "descriptive" in captions:
        assert len(re.findall(r"\. ?", captions["descriptive"])) <= 4
        assert len(captions["short"]) <= len(captions["descriptive"]) + 20
    if "short" in captions:
        assert captions["short"].count(".") == 1
    assert captions == captions_from_facts(facts)


@given(some_facts, st.sampled_from(sorted(CLAIMS)))
def test_nothing_is_claimed_that_was_not_measured(facts: Facts, name: str) -> None:
    """A fact that is None leaves no word; its neighbours' own words are taken out first."""
    unmeasured: dict[str, Any] = {name: None}
    if name == "camera":
        unmeasured |= {"camera_speed": None, "subject_motion": None}
    text = " ".join(captions_from_facts(replace(facts, **unmeasured)).values())
    assert not re.search(rf"\b(?:{CLAIMS[name]})", text, re.IGNORECASE), text


@given(some_facts)
def test_no_color_but_the_measured_ones(facts: Facts) -> None:
    text = " ".join(captions_from_facts(replace(facts, is_black_and_white=None, light=None)).values())
    assert {name for name in NAMED if re.search(rf"\b{name}\b", text)} <= set(facts.colors)
