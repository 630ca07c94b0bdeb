"""Windows of a long clip: the common subject once, then what changed, in order of time, at a cost that is linear."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.facts import Facts
from captioner.fields import CaptionFields
from captioner.fuse import captions_of
from captioner.merge import MAX_STEPS, captions_of_windows, merged_fields

Window = tuple[float, float, CaptionFields]
COAT = "A man in a red coat"


def windows(*fields: CaptionFields) -> list[Window]:
    return [(4.0 * at, 4.0 * at + 4, said) for at, said in enumerate(fields)]


WALK = CaptionFields((COAT, "a dog"), "The man walks along the beach.", "a beach", "cliffs", camera="pan left")
SIT = CaptionFields(("the man in the red coat",), "He sits down.", "a beach", camera="static")
RUN = CaptionFields(("A dog",), "running to the man", "a rocky shore", camera="static")


def test_what_changed_in_order_of_time() -> None:
    assert captions_of_windows(windows(WALK, SIT, RUN), None) == {
        "short": "A man in a red coat walks along the beach; then a dog is running to the man.",
        "descriptive": (
            "At first, a man in a red coat walks along the beach; then the man sits down; at the end, a dog is running "
            "to the man. The setting changes from a beach to a rocky shore. At first the camera pans to the left, then "
            "it stays still. Cliffs can be seen in the background."
        ),
        "motion": (
            "At first, the man walks along the beach; then the man sits down; at the end, the dog is running to the "
            "man. At first the camera pans to the left, then it stays still."
        ),
    }


@pytest.mark.parametrize("count", [1, 2, 7])
def test_windows_that_say_the_same_are_one(count: int) -> None:
    assert captions_of_windows(windows(*[WALK] * count), None) == captions_of(WALK, None)


def test_the_same_in_other_words_is_no_change() -> None:
    again = CaptionFields(("a man in a red coat",), "walks along the beach", "A beach.", camera="pan left")
    text = captions_of_windows(windows(WALK, again), None)["descriptive"]
    assert "At first" not in text
    assert "changes" not in text


def test_measured_facts_win_over_the_windows_camera() -> None:
    facts = Facts(camera="zoom in", camera_speed="slow", light="dim")
    captions = captions_of_windows(windows(WALK, SIT), facts)
    text = " ".join(captions.values())
    assert "The camera slowly zooms in" in captions["descriptive"]
    assert "pans" not in text
    assert "stays still" not in text
    assert "The picture is dim" in text


def test_windows_of_which_nothing_is_known() -> None:
    nothing = CaptionFields()
    assert captions_of_windows(windows(nothing, nothing), None) == {}
    assert captions_of_windows(windows(nothing, WALK, nothing), None) == captions_of(WALK, None)
    assert captions_of_windows(windows(nothing), Facts(light="dim"))["short"] == "A dim shot."


def test_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"windows=\[\]"):
        merged_fields([])
    with pytest.raises(ValueError, match=r"windows=\[\]"):
        captions_of_windows([], None)


def test_what_most_windows_say_holds_for_the_whole() -> None:
    whole = merged_fields(
        windows(
            CaptionFields(("a tree",), setting="a park", colors=("green",), shot_type="wide shot", style="film"),
            CaptionFields((COAT, "a tree"), setting="A street.", colors=("red", "Green"), shot_type="unknown"),
            CaptionFields((COAT,), setting="a street", colors=("red",), shot_type="wide shot", text=("EXIT",)),
            CaptionFields((COAT,), setting="", colors=("red",), shot_type="wide shot", camera="shake"),
        )
    )
    assert whole.subjects == (COAT, "a tree")
    assert whole.setting == "A street."
    assert whole.colors == ("red", "green")
    assert whole.shot_type == "wide shot"
    assert whole.camera == "shake"
    assert whole.text == ("EXIT",)


@given(st.permutations(windows(WALK, SIT, RUN, WALK)))
def test_the_order_in_which_windows_come_does_not_matter(shuffled: list[Window]) -> None:
    assert captions_of_windows(shuffled, None) == captions_of_windows(windows(WALK, SIT, RUN, WALK), None)


def counting(count: int) -> list[Window]:
    return windows(*(CaptionFields((COAT,), f"counts to {at}", f"room {at}") for at in range(count)))


def test_a_clip_of_many_changes_has_a_caption_of_a_bounded_length() -> None:
    captions = captions_of_windows(counting(500), None)
    assert len(captions["descriptive"].split()) < 120
    assert captions["descriptive"].count("counts to") == MAX_STEPS
    assert "counts to 0;" in captions["descriptive"]
    assert "counts to 499." in captions["descriptive"]


def test_the_cost_is_linear() -> None:
    def seconds(count: int) -> float:
        asked = counting(count)
        random.Random(0).shuffle(asked)
        return min(_timed(asked) for _ in range(3))

    def _timed(asked: list[Window]) -> float:
        began = time.perf_counter()
        captions_of_windows(asked, None)
        return time.perf_counter() - began

    # Eight times the windows at a square cost would take 64 times as long.
    assert seconds(1600) < 24 * seconds(200)
