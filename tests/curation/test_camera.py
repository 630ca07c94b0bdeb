"""What the camera does, on painted pictures with known motion and no codec in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.camera_footage import Case, Move, pictures, texture, truth_of
from curation.camera import CameraMeter, CameraStep
from curation.camera_label import CLAIMED_CONFIDENCE, STATIC_SHARE_PER_S, Camera, camera_of
from curation.decode import DecodedFrame
from curation.geometry import Geometry
from curation.measure import Measurer, is_safe_for_flow
from curation.measured import Measured
from curation.scores import scores_of

RGB = NDArray[np.uint8]
TICKS = 90_000
COLUMNS = (
    "camera_motion",
    "camera_direction",
    "camera_speed_share_per_s",
    "camera_zoom_per_s",
    "camera_roll_deg_per_s",
    "camera_confidence",
    "subject_motion_share_per_s",
)


def measured(frames: list[RGB], rate: Fraction = Fraction(24), *, rotation: int = 0, aspect: int = 1) -> Measured:
    """Upright frames as one clip, coded as they are stored when a player turns them by `rotation`."""
    measurer, measures, samples = Measurer(Fraction(1, TICKS), Fraction(aspect)), [], []
    for index, picture in enumerate(frames):
        coded = np.ascontiguousarray(np.rot90(picture, -rotation // 90))
        frame = av.VideoFrame.from_ndarray(coded, format="rgb24").reformat(format="yuv420p")
        measure, _, sample = measurer.feed(DecodedFrame(frame, int(index / rate * TICKS), 0, False, False, None))
        measures.append(measure)
        samples.append(sample)
    samples.append(measurer.flush())
    height, width = np.rot90(frames[0], -rotation // 90).shape[:2]
    geometry = Geometry(width, height, Fraction(aspect), rotation)
    return Measured(measures, [s for s in samples if s], len(frames), Fraction(1, TICKS), geometry)


@cache
def shown(case: Case) -> tuple[RGB, ...]:
    return tuple(pictures(case, texture(case.seed)))


def clip_of(case: Case) -> Measured:
    return measured(list(shown(case)), case.rate, rotation=case.rotation)


def seen(case: Case) -> Camera:
    camera = clip_of(case).camera
    assert camera is not None
    return camera


MOVES = {
    "static": Move(),
    "slow pan": Move(right=0.01),
    "pan": Move(right=-0.1),
    "fast pan": Move(right=0.6),
    "very fast pan": Move(right=-1.5),
    "slow tilt": Move(down=-0.01),
    "tilt": Move(down=0.2),
    "pan along a slope": Move(right=0.2, down=-0.1),
    "tilt along a slope": Move(right=0.05, down=-0.1),
    "slow zoom": Move(zoom=0.04),
    "zoom": Move(zoom=-0.3),
    "slow roll": Move(roll=0.04),
    "roll": Move(roll=-0.5),
    "shake": Move(shake=0.15),
    "a hand held still": Move(shake=0.04, shake_hz=2),
}


@pytest.mark.parametrize("rate", [12, 60])
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_label_direction_and_speed(move: Move, rate: int) -> None:
    case = Case(3, move, rate=Fraction(rate), seconds=2.2)
    camera, truth = seen(case), truth_of(case)
    assert (camera.motion, camera.direction) == (truth.motion, truth.direction)
    if truth.motion == "static":
        assert camera.speed_share_per_s < STATIC_SHARE_PER_S / 5
    elif truth.motion == "shake":  # its speed is seen at a few moments only
        assert camera.speed_share_per_s == pytest.approx(truth.speed_share_per_s, rel=0.6)
    else:
        assert camera.speed_share_per_s == pytest.approx(truth.speed_share_per_s, rel=0.15)
        assert camera.zoom_per_s == pytest.approx(move.zoom, abs=0.1 * truth.speed_share_per_s / 0.3)
        assert camera.roll_deg_per_s == pytest.approx(np.degrees(move.roll), abs=6 * truth.speed_share_per_s / 0.3)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (240, 426), (360, 360), (516, 216)])
def test_sizes_and_shapes(width: int, height: int) -> None:
    for move in (Move(right=0.08), Move(down=-0.08), Move(zoom=0.3), Move()):
        case = Case(4, move, width, height)
        camera, truth = seen(case), truth_of(case)
        assert (camera.motion, camera.direction) == (truth.motion, truth.direction), move
        if truth.motion != "static":
            assert camera.speed_share_per_s == pytest.approx(truth.speed_share_per_s, rel=0.2), move


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("move", [MOVES["pan"], MOVES["tilt"], MOVES["zoom"], MOVES["roll"]], ids=lambda m: str(m)[:40])
def test_a_turned_file_is_labelled_as_it_is_shown(move: Move, rotation: int) -> None:
    upright, turned = (seen(Case(5, move, 320, 180, rotation=turn)) for turn in (0, rotation))
    assert (turned.motion, turned.direction) == (upright.motion, upright.direction)
    assert turned.speed_share_per_s == pytest.approx(upright.speed_share_per_s, rel=0.1)


def test_speed_is_of_square_pixels() -> None:
    """Coded half as wide as shown: the way across is twice as long as the coded pixels say."""
    for move in (Move(right=0.1), Move(down=0.1), Move(roll=0.3)):
        case = Case(6, move, 400, 200)
        narrow = [np.asarray(cv2.resize(p, (200, 200), interpolation=cv2.INTER_AREA), np.uint8) for p in shown(case)]
        camera, truth = measured(narrow, case.rate, aspect=2).camera, truth_of(case)
        assert camera is not None
        assert (camera.motion, camera.direction) == (truth.motion, truth.direction)
        assert camera.speed_share_per_s == pytest.approx(truth.speed_share_per_s, rel=0.15)


SUBJECTS = Case(7, Move(), objects=3, objects_share=0.25, objects_speed=0.2, seconds=3)


def test_subjects_before_a_static_camera() -> None:
    clip = clip_of(SUBJECTS)
    assert clip.camera is not None
    assert clip.camera.motion == "static"
    subject = scores_of(clip)["subject_motion_share_per_s"]
    assert isinstance(subject, float)
    assert 0.25 * 0.2 / 3 < subject < 0.25 * 0.2 * 2  # their share of the picture by their speed


def test_subjects_before_a_moving_camera() -> None:
    for move in (Move(right=0.1), Move(zoom=-0.2)):
        case = replace(SUBJECTS, move=move)
        clip, alone = clip_of(case), clip_of(replace(case, objects=0))
        truth = truth_of(case)
        assert clip.camera is not None
        assert (clip.camera.motion, clip.camera.direction) == (truth.motion, truth.direction)
        subject, nobody = (scores_of(c)["subject_motion_share_per_s"] for c in (clip, alone))
        assert isinstance(subject, float)
        assert isinstance(nobody, float)
        assert subject > 0.01
        assert nobody < 0.1 * truth.speed_share_per_s


def test_bars_and_a_logo_do_not_hold_the_camera() -> None:
    for move in (Move(right=-0.08), Move(zoom=0.3)):
        case = Case(8, move, bars=0.12, logo=True)
        camera, truth = seen(case), truth_of(case)
        assert (camera.motion, camera.direction) == (truth.motion, truth.direction)
        assert camera.speed_share_per_s == pytest.approx(truth.speed_share_per_s, rel=0.15)


OPPOSITES = {"left": "right", "up": "down", "in": "out", "clockwise": "counterclockwise"}
OPPOSITES |= {after: before for before, after in OPPOSITES.items()}


@pytest.mark.parametrize(
    "move", [MOVES["pan"], MOVES["pan along a slope"], MOVES["tilt"], MOVES["zoom"], MOVES["roll"]], ids=str
)
def test_mirrored_pictures_and_time_reversed(move: Move) -> None:
    frames = list(shown(Case(9, move)))
    camera, mirrored, reversed_ = (
        measured(list(each)).camera for each in (frames, [np.fliplr(f) for f in frames], frames[::-1])
    )
    assert camera is not None
    assert mirrored is not None
    assert reversed_ is not None
    assert (camera.motion, reversed_.direction) == (reversed_.motion, OPPOSITES[str(camera.direction)])
    is_turned_over = camera.motion in ("pan", "roll")
    expected = OPPOSITES[str(camera.direction)] if is_turned_over else camera.direction
    assert (mirrored.motion, mirrored.direction) == (camera.motion, expected)
    for other in (mirrored, reversed_):
        assert other.speed_share_per_s == pytest.approx(camera.speed_share_per_s, rel=0.1)


def test_held_drawings_move_at_their_mean_speed() -> None:
    frames = [f for f in shown(Case(10, Move(right=0.2), rate=Fraction(12), seconds=3)) for _ in range(2)]
    camera = measured(frames, Fraction(24)).camera
    assert camera is not None
    assert (camera.motion, camera.direction) == ("pan", "right")
    assert camera.speed_share_per_s == pytest.approx(0.2, rel=0.15)


def noise(count: int, size: tuple[int, int] = (90, 160)) -> list[RGB]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(count)]


def black(count: int, size: tuple[int, int] = (90, 160)) -> list[RGB]:
    return [np.zeros((*size, 3), np.uint8)] * count


NOTHING = {
    "no frame follows": shown(Case(1, Move(right=0.1)))[:1],
    "black": black(60),
    "gray": [np.full((90, 160, 3), 120, np.uint8)] * 60,
    "noise": noise(60),
    "tiny": [p[:8, :8] for p in shown(Case(1, Move(right=0.1)))],
    "two by two": noise(40, (2, 2)),
    "a low strip": noise(40, (20, 160)),
}


@pytest.mark.parametrize("frames", NOTHING.values(), ids=NOTHING)
def test_nothing_is_said_where_nothing_can_be_seen(frames: Any) -> None:
    scores = scores_of(measured(list(frames)))
    assert [scores[column] for column in COLUMNS[:-1]] == [None] * 6


def test_cuts_do_not_count() -> None:
    """The steps into the next clip and out of the one before are left out."""
    still, other = ([shown(Case(s, Move(), seconds=1.5))[0]] * 30 for s in (11, 12))
    whole = measured([*still, *other, *still])
    for first, end in ((0, 30), (30, 60), (60, 90)):
        samples = [s for s in whole.samples if first <= s.index < end]
        camera = replace_samples(whole, samples, end).camera
        assert camera is not None
        assert (camera.motion, camera.speed_share_per_s) == ("static", 0.0)


def replace_samples(whole: Measured, samples: list[Any], end_index: int) -> Measured:
    return Measured(whole.frames, samples, end_index, whole.time_base, whole.geometry)


def test_trouble_lowers_the_confidence() -> None:
    """Strong parallax, hardly any texture, mostly subject: not claimed, or right."""
    plain = Case(2, Move(right=0.1), seconds=2.2)
    trouble = [
        replace(plain, contrast=0.02),
        replace(plain, plain=0.93, objects=2, objects_share=0.3, objects_speed=0.3),
        replace(plain, objects=1, objects_share=0.75, objects_speed=0.4),
        replace(plain, noise=60.0, brightness=0.2),
    ]
    assert seen(plain).confidence >= CLAIMED_CONFIDENCE
    for case in trouble:
        camera = clip_of(case).camera
        assert camera is None or camera.confidence < CLAIMED_CONFIDENCE or camera.direction == "right", case


def step(from_index: int, to_index: int, **motion: Any) -> CameraStep:
    ways = {"right": 0.0, "down": 0.0, "zoom": 0.0, "roll_deg": 0.0} | motion
    return CameraStep(from_index, to_index, 40 * (to_index - from_index), **ways, likeness=0.9, error=1e-5,
                      textured_share=0.5, subject=0.0)  # fmt: skip


def walk(count: int, **speed_per_s: float) -> Iterator[CameraStep]:
    """Short and long steps of a steady camera, every half second."""
    for before, after in pairwise(range(0, 12 * count + 1, 12)):
        for to_index in (before + 1, after):
            seconds = 0.04 * (to_index - before)
            yield step(before, to_index, **{name: speed * seconds for name, speed in speed_per_s.items()})


@pytest.mark.parametrize(
    ("speed", "rotation", "label"),
    [
        ({"right": 0.1}, 0, ("pan", "right")),
        ({"right": 0.1}, 90, ("tilt", "up")),
        ({"right": 0.1}, 180, ("pan", "left")),
        ({"right": 0.1}, 270, ("tilt", "down")),
        ({"down": 0.1}, 90, ("pan", "right")),
        ({"zoom": 0.1}, 90, ("zoom", "in")),
        ({"roll_deg": -20}, 270, ("roll", "counterclockwise")),
        ({"right": 0.004, "zoom": 0.01}, 0, ("static", None)),
        ({"right": 0.02, "zoom": 0.1}, 0, ("zoom", "in")),
    ],
)
def test_labels_of_steady_steps(speed: dict[str, float], rotation: int, label: tuple[str, str | None]) -> None:
    camera = camera_of(list(walk(4, **speed)), Fraction(1, 1000), rotation)
    assert camera is not None
    assert (camera.motion, camera.direction) == label
    assert 0 <= camera.confidence <= 1
    assert camera.confidence >= CLAIMED_CONFIDENCE or label[0] == "static"


def test_steps_that_turn_about_are_a_shake_and_few_are_not_claimed() -> None:
    to_and_fro = [
        replace(s, right=s.right * (-1) ** (s.from_index // 12), down=s.down * (-1) ** (s.from_index // 24))
        for s in walk(8, right=0.1, down=0.05)
    ]
    camera = camera_of(to_and_fro, Fraction(1, 1000), 0)
    assert camera is not None
    assert camera.motion == "shake"
    once = camera_of([step(0, 1, right=0.01)], Fraction(1, 1000), 0)
    assert once is not None
    assert (once.motion, once.confidence < CLAIMED_CONFIDENCE) == ("pan", True)
    assert camera_of([], Fraction(1, 1000), 0) is None


def test_a_meter_takes_any_picture() -> None:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    rng = np.random.default_rng(1)
    for height, width in ((16, 16), (160, 17), (32, 160), (47, 48), (90, 160), (49, 51)):
        meter = CameraMeter(4 / 3)
        for index in range(3):
            first, second = (rng.integers(0, 255, (height, width), np.uint8) for _ in range(2))
            steps = meter.feed(index * 12, index * 480, first, second, 40, flow.calc(first, second, None))  # type: ignore[call-overload]
            assert all(0 <= s.likeness <= 1 and np.isfinite([s.right, s.down, s.zoom, s.roll_deg]).all() for s in steps)


@pytest.mark.parametrize(
    ("size", "is_safe"),
    [
        *(
            ((16, 16), True),
            ((17, 33), True),
            ((32, 90), True),
            ((32, 160), True),
            ((160, 16), True),
            ((90, 160), True),
        ),
        *(((16, 80), False), ((31, 90), False), ((15, 160), False), ((16, 160), False), ((24, 160), False)),
    ],
)
def test_low_and_wide_pictures_would_end_the_process(size: tuple[int, int], is_safe: bool) -> None:
    assert is_safe_for_flow(*size) == is_safe
    if is_safe:
        first, second = (picture[..., 0].copy() for picture in noise(2, size))
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        assert flow.calc(first, second, None).shape == (*size, 2)  # type: ignore[call-overload]
