"""The draw of captions: shares within bounds, what stands in for what lacks, nothing but the key decides."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from math import sqrt

import pytest

from trainer.draws import Key
from trainer.reading.clips import KINDS, CaptionKind
from trainer.reading.mix import IN_PLACE_OF, CaptionMix, drawn_caption, mixed

DRAWS, SIGMAS = 4000, 4.5
TEXT = "A dog runs. It is brown! Is it fast? The sky is blue."


def keys(count: int = DRAWS) -> list[Key]:
    return [Key(5, n // 40, n // 10 % 4, n % 10) for n in range(count)]


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        (CaptionMix(), {"none": 0.1, "original": 0.9 * 0.05, "descriptive": 0.9 * 0.95}),
        (CaptionMix(no_text=0), {"original": 0.05, "descriptive": 0.95}),
        (
            CaptionMix(original=0.2, short=0.5, motion=0.25, no_text=0.25),
            {"none": 0.25, "original": 0.15, "short": 0.3, "motion": 0.15, "descriptive": 0.15},
        ),
        (CaptionMix(original=1, no_text=0), {"original": 1.0}),
        (CaptionMix(original=0, short=1, no_text=0), {"short": 1.0}),
        (CaptionMix(no_text=1), {"none": 1.0}),
    ],
)
def test_kinds_are_drawn_as_often_as_asked(mix: CaptionMix, shares: dict[str, float]) -> None:
    found = Counter(drawn_caption(key, KINDS, mix) for key in keys())
    assert found.keys() == shares.keys()
    for kind, share in shares.items():
        assert abs(found[kind] / DRAWS - share) <= SIGMAS * sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize(
    ("wanted", "kinds", "drawn"),
    [
        ("descriptive", ("short", "motion", "original"), "short"),
        ("descriptive", ("motion", "original"), "motion"),
        ("descriptive", ("original",), "original"),
        ("original", ("short", "descriptive"), "descriptive"),
        ("original", ("short", "motion"), "short"),
        ("short", ("descriptive", "motion"), "descriptive"),
        ("short", ("original", "motion"), "motion"),
        ("motion", ("original", "descriptive"), "descriptive"),
    ],
)
def test_what_a_clip_lacks_is_stood_in_for(
    wanted: CaptionKind, kinds: tuple[CaptionKind, ...], drawn: CaptionKind
) -> None:
    shares = {"original": 0.0, "short": 0.0, "motion": 0.0, "no_text": 0.0}
    mix = CaptionMix(**(shares | ({wanted: 1.0} if wanted != "descriptive" else {})))
    assert {drawn_caption(key, kinds, mix) for key in keys(50)} == {drawn}


def test_any_caption_will_do() -> None:
    for count in range(1, 5):
        for kinds in combinations(KINDS, count):
            assert all(drawn_caption(key, kinds, CaptionMix(0.3, 0.3, 0.3, 0)) in kinds for key in keys(20))
    assert all({kind, *others} == set(KINDS) for kind, others in IN_PLACE_OF.items())


def test_the_key_alone_decides() -> None:
    mix = CaptionMix(0.3, 0.3, 0.2, drop_sentences=0.5)
    once = [(drawn_caption(key, KINDS, mix), mixed(TEXT, key, mix)) for key in keys(100)]
    again = [(drawn_caption(key, KINDS, mix), mixed(TEXT, key, mix)) for key in reversed(keys(100))]
    assert once == again[::-1]
    assert len(set(once)) > 10


def test_sentences_are_dropped_one_by_one_but_the_first() -> None:
    mix = CaptionMix(drop_sentences=0.25)
    texts = [mixed(TEXT, key, mix) for key in keys()]
    assert all(text.startswith("A dog runs.") for text in texts)
    for sentence in ("It is brown!", "Is it fast?", "The sky is blue."):
        kept = sum(sentence in text for text in texts) / DRAWS
        assert abs(kept - 0.75) <= SIGMAS * sqrt(0.75 * 0.25 / DRAWS)
    assert len(set(texts)) == 8
    assert {mixed(TEXT, key, CaptionMix(drop_sentences=1)) for key in keys(9)} == {"A dog runs."}
    assert {mixed(TEXT, key, CaptionMix()) for key in keys(9)} == {TEXT}


@pytest.mark.parametrize("text", ["", " ", "no end", "...", "One. ", "\u4e00\u3002\u4e8c\u3002"])
def test_odd_texts_stay_themselves_where_nothing_is_dropped(text: str) -> None:
    assert mixed(text, Key(0, 0, 0, 0), CaptionMix()) == text
    assert text.startswith(mixed(text, Key(0, 0, 0, 0), CaptionMix(drop_sentences=1)))


@pytest.mark.parametrize("field", ["original", "short", "motion", "no_text", "drop_sentences"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}={value}: must be"):
        replace(CaptionMix(), **{field: value})


def test_shares_that_are_too_much_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"motion=0\.6: must be at most 1 together with short=0\.5"):
        CaptionMix(short=0.5, motion=0.6)
