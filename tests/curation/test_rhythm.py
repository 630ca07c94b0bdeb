"""Repeated frames and their patterns, stills and flashes: on lists of numbers, and on encoded footage."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.score_case import ScoreCase
from benchmarks.scores_time import ENCODINGS, FRAMES, beats, flashes, holds
from benchmarks.time_footage import at_ticks, measured_file, moving, noisy, still
from curation.beats import BEAT_HOLD, beat_kinds, pattern_of
from curation.film import Encoding, encode_film
from curation.geometry import Geometry
from curation.measure import FrameMeasure
from curation.measured import Measured, ScoreValue
from curation.planes import Planes
from curation.rhythm import RHYTHM_SCORES, luminance_jumps
from curation.steps import Step, StepMeter, luminance_change

GEOMETRY = Geometry(320, 180, Fraction(1), 0)


def clip_of(
    steps: Sequence[Step | None], *, entries: Sequence[int] = (0,), spread: float = 40.0, ms: int = 40
) -> Measured:
    """A clip that differs from frame to frame as said; the first step leads into it."""
    frames = [FrameMeasure(ms * i, ms, i in entries, False, 100.0, spread, step) for i, step in enumerate(steps)]
    return Measured(frames, (), len(frames), Fraction(1, 1000), GEOMETRY)


def moved(levels: Sequence[float], **facts: object) -> Measured:
    return clip_of([None, *(Step(each, 0.0) for each in levels)], **facts)  # type: ignore[arg-type]


def score(column: str, clip: Measured) -> ScoreValue:
    return next(score.of(clip) for score in RHYTHM_SCORES if score.column == column)


ACCELERATING = [abs(np.sin(i / 7)) * 12 for i in range(90)]


@pytest.mark.parametrize(
    ("levels", "repeated"),
    [
        pytest.param([5, 0, 5, 0, 5, 0, 5], 3, id="twos"),
        pytest.param([5, 0.6, 5, 0.9, 5], 2, id="up to noise"),
        pytest.param([5, 1.3, 5, 1.4, 5], 0, id="more than noise"),
        pytest.param([9, 1.6, 9, 1.6, 9], 0, id="too loud for noise"),
        pytest.param([5, 0, 0, 0, 0, 5], 4, id="a stall"),
        pytest.param([5, 5, 5, 0, 0, 15, 5, 5], 2, id="a stall that is made up for"),
        pytest.param([5, *[0] * 24, 5], 0, id="a second is a still"),
        pytest.param([0.8, 0, 0.8, 0, 0.8], 0, id="hardly anything moves"),
        pytest.param([0] * 60, 0, id="nothing moves"),
        pytest.param([0, 0, 0, 5, 5, 5, 0, 0, 0], 0, id="at the ends nobody knows"),
        pytest.param([9, 4, 2, 1, 0.5, 0.2, 0, 0.3, 0.7, 2, 4, 9], 0, id="a pause that sets in"),
        pytest.param(ACCELERATING, 0, id="to and fro"),
        pytest.param([7] * 60, 0, id="steady"),
    ],
)
def test_repeated_frames(levels: list[float], repeated: int) -> None:
    clip = moved(levels)
    assert score("repeated_frames_share", clip) == pytest.approx(repeated / len(clip.frames))


def test_a_plain_picture_and_a_keyframe_are_no_motion() -> None:
    assert score("repeated_frames_share", moved([5, 0, 5, 0, 5], spread=0.5)) == 0
    keyframes = moved([9, 0, 0, 2, 0, 0, 9], entries=(0, 4))
    assert score("repeated_frames_share", keyframes) == 0
    all_keyframes = moved([3, 0, 3, 0, 3, 0, 3], entries=range(8))
    assert score("repeated_frames_share", all_keyframes) == pytest.approx(3 / 8)


def beat(pattern: str, times: int) -> list[float]:
    """Steps of 5 levels where the pattern has an `n`, of 0.2 where it has an `r`."""
    return [5.0 if kind == "n" else 0.2 for kind in pattern * times]


@pytest.mark.parametrize(
    ("levels", "pattern"),
    [
        (beat("nr", 12), "2:2"),
        (beat("nrr", 10), "3:3"),
        (beat("nrrr", 8), "4:4"),
        (beat("nrnrr", 6), "2:3"),
        (beat("nnnnr", 6), "1 of 5 repeated"),
        (beat("nnr", 8), "1 of 3 repeated"),
        (beat("n" * 24 + "r", 5), "1 of 25 repeated"),
        (beat("nnnnr", 3), None),
        (beat("nr", 5) + beat("n", 40), None),
        (beat("nnnnr", 3) + beat("n", 2) + beat("nnnnr", 3) + beat("n", 1) + beat("nnnnr", 3), None),
        (beat("n", 60), None),
        ([0.0] * 60, None),
        ([], None),
        (beat("nr", 12) + [0.0] * 30, "2:2"),
    ],
)
def test_patterns_of_repeats(levels: list[float], pattern: str | None) -> None:
    assert score("telecine", moved(levels)) == pattern


def test_a_pattern_survives_a_loud_codec_and_a_miss() -> None:
    rng = np.random.default_rng(1)
    loud = [float(rng.uniform(5, 7) if i % 5 else rng.uniform(1.8, 2.3)) for i in range(60)]
    assert score("telecine", moved(loud)) == "1 of 5 repeated"
    loud[25] = 6.0
    assert score("telecine", moved(loud)) == "1 of 5 repeated"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([5.0, 5.5, 4.0, 0.1]), min_size=0, max_size=120), st.integers(0, 2**32))
def test_lots_have_no_pattern(levels: list[float], seed: int) -> None:
    np.random.default_rng(seed).shuffle(levels)
    kinds = beat_kinds(np.array(levels), np.arange(len(levels) + 1, dtype=np.float64) / 25, BEAT_HOLD)
    pattern = pattern_of(kinds)
    if pattern is None:
        return
    # What looks like a beat is one: more than chance agrees with itself one period on.
    assert len(levels) >= 16
    assert np.count_nonzero(kinds == 1) >= 4


def fields(even: str, odd: str, times: int) -> Measured:
    steps = [Step(5.0, 0.0, *(5.0 if kind == "n" else 1.5 for kind in pair)) for pair in zip(even, odd, strict=True)]
    return clip_of([None, *steps * times])


def test_pulldown_of_fields() -> None:
    assert score("telecine", fields("nnrnn", "nnnnr", 6)) == "2:3"
    assert score("telecine", fields("nnnnr", "nnrnn", 6)) == "2:3"
    assert score("telecine", fields("nnrnn", "nnnrn", 6)) is None
    assert score("telecine", fields("nnnnn", "nnnnr", 6)) is None
    assert score("telecine", fields("nnnnn", "nnnnn", 6)) is None


@pytest.mark.parametrize(
    ("levels", "entries", "share"),
    [
        ([0.1] * 50, (0,), 1.0),
        ([0.1] * 30 + [30.0] + [0.0] * 30, (0,), 1.0),
        ([0.1] * 30 + [5.0] * 31, (0,), 31 / 62),
        ([0.1] * 10 + [30.0] + [0.0] * 10 + [30.0] + [0.1] * 10, (0,), 0.0),
        ([0.5] * 50, (0,), 0.0),
        ([0.1] * 20 + [3.0] + [0.1] * 20, (0, 21), 1.0),
        ([0.1] * 20 + [3.0] + [0.1] * 20, (0,), 0.0),
    ],
)
def test_held_stills(levels: list[float], entries: tuple[int, ...], share: float) -> None:
    assert score("slideshow_share", moved(levels, entries=entries)) == pytest.approx(share)


def test_one_frame_that_is_shown_for_seconds_is_a_still() -> None:
    assert score("slideshow_share", clip_of([None], ms=3000)) == 1.0
    assert score("slideshow_share", clip_of([None], ms=0)) is None
    assert score("slideshow_share", clip_of([None, Step(40.0, 0.0), Step(40.0, 0.0)], ms=3000)) == 1.0


@pytest.mark.parametrize(
    ("changes", "flashes"),
    [
        pytest.param([0.0, 0.3, -0.3, 0.0] * 3, 3, id="single frames"),
        pytest.param([0.3, 0.0, 0.0, -0.3, 0.0, 0.0], 1, id="held"),
        pytest.param([0.05, 0.06, -0.05, -0.06, 0.0], 1, id="in two steps"),
        pytest.param([-0.2, 0.2, 0.0, 0.0], 1, id="dark"),
        pytest.param([0.09, -0.09] * 5, 0, id="too little"),
        pytest.param([0.3] + [0.0] * 60, 0, id="not back"),
        pytest.param([0.3] + [0.0] * 30 + [-0.3], 0, id="back too late"),
        pytest.param([0.02] * 20 + [-0.02] * 20, 0, id="a fade"),
        pytest.param([0.3, 0.0, 0.3, -0.6, 0.0], 1, id="up twice"),
    ],
)
def test_flashes(changes: list[float], flashes: int) -> None:
    clip = clip_of([None, *(Step(10.0, change) for change in changes)])
    assert score("flashes_per_s", clip) == pytest.approx(flashes / (0.04 * len(clip.frames)))


def test_a_jump_begins_where_it_begins() -> None:
    jumps = luminance_jumps([0.0, 0.06, 0.06, 0.0, -0.2], np.arange(6, dtype=np.float64) * 0.04)
    assert jumps == [(pytest.approx(0.08), 1), (pytest.approx(0.2), -1)]


def test_luminance_changes_where_most_of_the_picture_does() -> None:
    dark, light = np.full((90, 160), 60, np.uint8), np.full((90, 160), 200, np.uint8)
    assert luminance_change(dark, light) == pytest.approx(0.53, abs=0.01)
    assert luminance_change(light, dark) == pytest.approx(-0.53, abs=0.01)
    third = dark.copy()
    third[:, :50] = 200
    assert luminance_change(dark, third) == 0
    assert luminance_change(np.full((90, 160), 230, np.uint8), np.full((90, 160), 255, np.uint8)) < 0.12
    assert luminance_change(np.full((1, 1), 0, np.uint8), np.full((1, 1), 255, np.uint8)) == pytest.approx(0.9)


@pytest.mark.parametrize("column", [score.column for score in RHYTHM_SCORES])
def test_odd_clips_are_no_trouble(column: str) -> None:
    for clip in (
        clip_of([None]),
        clip_of([None, None, None]),
        clip_of([Step(3.0, 0.5), None, Step(5.0, -0.5)]),
        clip_of([None, Step(0.0, 0.0)]),
        moved([0.0] * 300),
        moved([5.0] * 3, ms=100_000),
    ):
        value = score(column, clip)
        assert value is None or isinstance(value, str) or 0 <= float(value) < 100  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 400), (400, 1), (3, 5), (161, 91)])
def test_fields_of_pictures_of_any_size(size: tuple[int, int]) -> None:
    """Even rows stay as they are, odd ones change, as far as there are any."""
    width, height = size
    meter, before = StepMeter(), np.full((height, width), 100, np.uint8)
    after = before.copy()
    after[1::2] = 110
    steps = []
    for luma in (before, after):
        neutral = np.full((1, 1), 128, np.uint8)
        planes = Planes(luma, neutral, neutral, 8, 0, 0, True)
        steps.append(meter.feed(luma, float(luma.mean()), planes, with_fields=True))
    assert steps[0] is None
    assert steps[1] is not None
    assert (steps[1].even_levels, steps[1].odd_levels) == ((None, None) if height == 1 else (0.0, 10.0))


def encoded_cases() -> list[ScoreCase]:
    x264 = [case for make in (beats, flashes) for case in make(5, ENCODINGS["x264"])]
    stills = [case for case in holds(5, ENCODINGS["mpeg4"]) if case.score == "slideshow_share"]
    return [*x264, *stills, *(case for case in beats(6, ENCODINGS["mpeg4"]) if case.name == "24 made 25")]


@pytest.mark.parametrize("case", encoded_cases(), ids=lambda case: f"{case.score}: {case.name}")
def test_encoded_footage(case: ScoreCase) -> None:
    value = case.value()
    assert case.is_right(value), value


def test_frames_left_out_by_the_encoder_do_not_count(tmp_path: Path) -> None:
    """The same film on twos, each drawing coded once and shown for two ticks."""
    path, drawings = tmp_path / "vfr.mkv", FRAMES // 2
    every_second = Encoding(time_base=Fraction(1, 24))
    pictures = at_ticks(moving(3), drawings, lambda index: 2.0 * index)
    encode_film(path, pictures, every_second, pts=range(0, FRAMES, 2))
    clip = measured_file(path)
    assert len(clip.frames) == drawings
    assert (score("repeated_frames_share", clip), score("telecine", clip)) == (0.0, None)


@pytest.mark.parametrize("bitrate_bps", [20_000, 60_000, 200_000])
def test_a_starved_tripod_scene_repeats_nothing(tmp_path: Path, bitrate_bps: int) -> None:
    """Noise that comes through at some frames of the encoder's pattern only must not look like held drawings."""
    path = tmp_path / "starved.mkv"
    for film in (noisy(still(4), 6.0), noisy(moving(4, 20.0), 6.0)):
        encode_film(path, at_ticks(film, FRAMES, float), Encoding(gop_frames=24, b_frames=3, bitrate_bps=bitrate_bps))
        clip = measured_file(path)
        assert score("telecine", clip) is None
        repeated = score("repeated_frames_share", clip)
        assert isinstance(repeated, float)
        assert repeated <= 0.1
