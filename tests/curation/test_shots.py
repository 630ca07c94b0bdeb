"""Boundaries: the sieve with numbers only, scenedetect's detectors on painted footage, the default on real footage."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from benchmarks.shot_truth import TrueChange, read_truth, score
from curation.boundary import Look
from curation.decode import Decoder
from curation.film import Edit, Join, SceneSpec, render
from curation.media import Limits, main_video_stream, open_media
from curation.planes import bgr_of, planes_of, sampled_picture
from curation.shots import (
    CUT_DETECTORS,
    DETECTOR_DELAY_FRAMES,
    MAX_MIN_SCENE_FRAMES,
    BoundarySieve,
    ShotConfig,
    ShotMethod,
    UnitedDetectors,
    shot_detector,
)

BGR = NDArray[np.uint8]
CUT = Join()
UNION = ShotConfig(shots=("content", "threshold"))


def sifted(
    cuts: Iterable[int],
    fades: Iterable[tuple[int, int]] = (),
    back: dict[int, int] | None = None,
    *,
    frames: int = 400,
    min_frames: int = 6,
) -> dict[int, int | None]:
    """Boundary → the frame at which it was given (None: at the end). `fades` are heard at their second frame."""
    sieve, back = BoundarySieve(min_frames, (back or {}).get), back or {}
    cuts, fades, given_at = set(cuts), list(fades), {}
    for index in range(frames):
        heard = [edge for fade in fades if fade[1] == index for edge in fade]
        given_at |= dict.fromkeys(sieve.feed(index, {index} & cuts, heard), index)
    return given_at | dict.fromkeys(sieve.flush())


@pytest.mark.parametrize(
    ("cuts", "fades", "back", "boundaries"),
    [
        ([], [], {}, []),
        ([1, 50, 399], [], {}, [1, 50, 399]),
        ([50, 56], [], {}, [50, 56]),
        ([50, 55], [], {}, [50]),  # one transition
        ([50, 54, 58, 62], [], {}, [50, 62]),  # a storm: where it begins and where it is over
        ([50, 54, 58, 62, 70], [], {}, [50, 62, 70]),
        ([50, 51], [], {50: 51}, []),  # a flash of one frame
        ([50, 53, 80], [], {50: 53}, [80]),
        ([50, 51, 53], [], {50: 51}, [53]),  # a cut soon after a flash
        ([48, 50, 51], [], {50: 51}, [48]),
        ([], [(100, 130)], {}, [100, 130]),  # the black is a scene of its own
        ([], [(100, 104)], {}, [100]),  # too short for that
        ([100], [(100, 130)], {}, [100, 130]),  # a hard cut to black
        ([130], [(100, 130)], {}, [100, 130]),  # a hard cut from black
        ([132], [(100, 130)], {}, [100, 130]),
        ([104], [(100, 300)], {}, [104, 300]),  # heard late, near a boundary that was given
        ([104, 110, 114, 119], [(112, 300)], {}, [104, 110, 119, 300]),  # heard late, inside a storm
        ([100, 101], [(100, 101)], {100: 101}, []),  # a blink
        ([60], [(40, 300)], {}, [60, 40, 300]),  # a title in black: the early edge is known last
        ([398], [], {}, [398]),
        ([390, 393, 397], [], {}, [390, 397]),
    ],
)
def test_sieve(cuts: list[int], fades: list[tuple[int, int]], back: dict[int, int], boundaries: list[int]) -> None:
    assert list(sifted(cuts, fades, back)) == boundaries


@settings(deadline=None)
@given(
    st.sets(st.integers(1, 300), max_size=40),
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 99)), max_size=4),
    st.sets(st.integers(1, 300), max_size=10),
    st.integers(1, 20),
)
def test_whatever_is_suggested_boundaries_keep_their_distance(
    cuts: set[int], fades: list[tuple[int, int]], flashes: set[int], min_frames: int
) -> None:
    edges = [(start, start + frames) for start, frames in fades]
    back = {cut: cut + min(2, min_frames - 1) for cut in flashes & cuts if min_frames > 1}
    given_at = sifted(cuts, edges, back, min_frames=min_frames)
    assert set(given_at) <= cuts | {edge for fade in edges for edge in fade}
    assert all(after - before >= min_frames for before, after in pairwise(sorted(given_at)))
    suggestions = sorted(cuts | {edge for fade in edges for edge in fade})
    for boundary in suggestions:
        lonely = not any(0 < abs(boundary - other) < 2 * min_frames for other in suggestions)
        if lonely and boundary not in back:
            assert boundary in given_at
    for boundary, at in given_at.items():
        if boundary in cuts and not any(edge[0] == boundary for edge in edges):
            assert at is None or at - boundary <= 2 * min_frames


def small(edit: Edit, size: tuple[int, int] = (160, 90)) -> list[BGR]:
    return [picture[..., ::-1] for picture in render(edit, *size, (i / 25 for i in range(edit.frames)))]


def look(bgr: BGR) -> Look:
    luma, red, blue = cv2.split(cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2YCrCb))
    return Look((luma, blue, red))  # type: ignore[arg-type]


def found(pictures: Iterable[BGR], config: ShotConfig = UNION) -> list[int]:
    detector = shot_detector(config)
    boundaries = [b for picture in pictures for b in detector.feed(look(picture))] + detector.flush()
    assert {(b.before, b.after) for b in boundaries} <= {(0, 0)}
    return sorted(b.index for b in boundaries)


def still(seed: int, frames: int, brightness: float = 1.0) -> SceneSpec:
    return SceneSpec(seed, frames, brightness=brightness)


def pan(seed: int, frames: int) -> SceneSpec:
    return SceneSpec(seed, frames, pan_x_px_per_s=12)


CUTS = Edit((still(0, 30), pan(1, 40), still(2, 9), SceneSpec(3, 50, zoom_per_s=1.1), pan(4, 30)), (CUT,) * 4)
FADES = Edit((pan(0, 60), still(1, 60), pan(2, 60)), (Join("fade", 12, 14), Join("fade", 10)))
DISSOLVE = Edit((pan(0, 60), pan(1, 60)), (Join("dissolve", 20),))
FROM_AND_TO_BLACK = Edit((still(0, 20, 0.0), still(1, 60), still(0, 20, 0.0)), (Join("fade", 8), Join("fade", 8)))

METHODS: tuple[tuple[ShotMethod, ...], ...] = (("content",), ("adaptive",), ("histogram",), ("hash",))


@pytest.mark.parametrize("shots", [*METHODS, ("content", "threshold"), ("content", "adaptive", "hash")])
def test_cuts_are_exact(shots: tuple[ShotMethod, ...]) -> None:
    truth = [boundary.frame for boundary in CUTS.boundaries]
    assert truth == [30, 70, 79, 129]
    if shots == ("histogram",):  # scenes 0 and 1 are alike in brightness, which is all that it sees
        truth.remove(30)
    assert found(small(CUTS), ShotConfig(shots=shots)) == truth


@pytest.mark.parametrize(
    ("shots", "edit", "boundaries"),
    [
        (("threshold",), CUTS, []),
        (("threshold",), FADES, [58, 76, 132]),  # the second black is too short for a scene
        (("content",), FADES, [59, 75, 133]),  # sees the last colour go, and the first one come
        (("content", "threshold"), FADES, [59, 75, 132]),
        (("threshold",), FROM_AND_TO_BLACK, []),
        (("content", "threshold"), FROM_AND_TO_BLACK, [21, 79]),
        (("content", "threshold"), DISSOLVE, []),  # none of them sees a dissolve
    ],
)
def test_gradual_changes(shots: tuple[ShotMethod, ...], edit: Edit, boundaries: list[int]) -> None:
    assert found(small(edit), ShotConfig(shots=shots)) == boundaries


def with_flash(pictures: Sequence[BGR], at: int, frames: int, level: int) -> list[BGR]:
    flash = [np.full_like(pictures[0], level)] * frames
    return [*pictures[:at], *flash, *pictures[at + frames :]]


@pytest.mark.parametrize("shots", [*METHODS, ("content", "threshold"), ("threshold",)])
@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_flash_is_no_cut(shots: tuple[ShotMethod, ...], level: int, frames: int) -> None:
    pictures = with_flash(small(Edit((pan(1, 60), pan(2, 30)), (CUT,))), 20, frames, level)
    boundaries = found(pictures, ShotConfig(shots=shots))
    if shots == ("threshold",):  # sees brightness alone, so a black flash passes for a short fade
        assert boundaries == ([20] if level == 0 else [])
    else:
        assert boundaries == [60]


def test_a_picture_that_comes_back_later_was_cut_away_from() -> None:
    pictures = with_flash(small(Edit((still(1, 60),))), 20, 6, 255)
    assert found(pictures) == [20, 26]
    assert found(pictures, replace(UNION, min_scene_frames=7)) == []
    assert found(with_flash(small(Edit((still(1, 60),))), 20, 1, 255), replace(UNION, min_scene_frames=1)) == [20, 21]


@pytest.mark.parametrize("config", [replace(UNION, min_scene_frames=n) for n in (1, 2, 6, 30, MAX_MIN_SCENE_FRAMES)])
def test_boundaries_come_in_time(config: ShotConfig) -> None:
    detector, late = UnitedDetectors(config), []
    for index, picture in enumerate(small(Edit(tuple(pan(s, 70) for s in range(5)), (CUT,) * 4))):
        late += [index - boundary.index for boundary in detector.feed(look(picture))]
    assert len(late) + len(detector.flush()) == 4
    assert max(late, default=0) <= 2 * config.min_scene_frames + DETECTOR_DELAY_FRAMES


def test_levels_are_full_range_before_anything_is_black() -> None:
    """Black of limited range, coded as 16, counts as 0; a dark scene of level 20 is not black."""
    for edit, boundaries in (
        (FADES, [59, 75, 132]),
        (Edit((still(1, 40), still(1, 40, 0.2), still(1, 40)), (CUT, CUT)), [40, 80]),
    ):
        for pix_fmt in ("yuv420p", "yuvj420p", "yuv444p10le", "rgb24"):
            frames = (
                av.VideoFrame.from_ndarray(np.ascontiguousarray(p[..., ::-1]), format="rgb24").reformat(format=pix_fmt)
                for p in small(edit)
            )
            pictures = (bgr_of(sampled_picture(planes_of(frame))) for frame in frames)
            near = found(pictures)
            assert len(near) == len(boundaries)
            assert all(abs(a - b) <= 1 for a, b in zip(near, boundaries, strict=True)), (pix_fmt, near)


def test_scores_are_scenedetects_own() -> None:
    pictures = [np.ascontiguousarray(p) for p in small(Edit((pan(0, 12), SceneSpec(1, 12, zoom_per_s=1.5)), (CUT,)))]
    for ours, theirs in (
        (CUT_DETECTORS["content"](ShotConfig()), ContentDetector(27.0, min_scene_len=0)),
        (CUT_DETECTORS["adaptive"](ShotConfig()), AdaptiveDetector(min_scene_len=0)),
    ):
        cuts = 0
        for index, picture in enumerate(pictures):
            now = FrameTimecode(index, Fraction(25))
            expected = theirs.process_frame(now, picture)
            assert ours.process_frame(now, picture) == expected
            assert ours._frame_score == pytest.approx(theirs._frame_score, abs=1e-9)  # type: ignore[attr-defined]
            cuts += len(expected)
        assert cuts == 1


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_hardly_any_frames(frames: int) -> None:
    config = ShotConfig(shots=("content", "adaptive", "threshold", "histogram", "hash"))
    assert found(small(Edit((still(0, 3),)))[:frames], config) == []
    assert found([np.zeros((1, 1, 3), np.uint8)] * frames, config) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shots": ()}, r"shots=\[\]: give at least one method"),
        (
            {"shots": ("content", "eyes")},
            r"shots=\['content', 'eyes'\]: must be out of combined, transnetv2, content, adaptive",
        ),
        ({"shots": ("combined", "content")}, r"shots=\['combined', 'content'\]: combined goes with no other method"),
        ({"shots": ("hash", "transnetv2")}, "transnetv2 goes with no other method"),
        ({"shots": ("transnetv2",)}, r"shot_weights=None: must be given with shots=\['transnetv2'\], and only with it"),
        ({"shot_weights": Path("w.npz")}, "shot_weights='w.npz': must be given with"),
        ({"content_threshold": 0.0}, r"content_threshold=0.0: must be within \(0, 255\]"),
        ({"content_threshold": float("nan")}, "content_threshold=nan"),
        ({"fade_level": 256.0}, r"fade_level=256.0: must be within \(0, 255\]"),
        ({"min_scene_frames": 0}, r"min_scene_frames=0: must be within \[1, 60\]"),
        ({"min_scene_frames": 61}, "min_scene_frames=61"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShotConfig(**fields)


TRUTH = [
    TrueChange(1.0, 1.0, 25, True, False),
    TrueChange(2.0, 3.0, 50, False, False),
    TrueChange(5.0, 5.0, 125, True, True),
]


@pytest.mark.parametrize(
    ("boundaries_s", "cuts", "gradual", "false"),
    [
        ([], 0, 0, 0),
        ([1.0, 2.5], 1, 1, 0),
        ([1.08, 2.0], 1, 1, 0),
        ([1.12, 1.92], 0, 1, 1),  # three frames off, and two before the change begins
        ([0.96, 1.0, 1.04], 1, 0, 2),  # each boundary counts once
        ([2.1, 2.5, 2.9, 3.08], 0, 1, 0),  # within one gradual change
        ([5.0, 7.0], 0, 0, 1),  # an optional one costs nothing
    ],
)
def test_scoring_against_a_truth(boundaries_s: list[float], cuts: int, gradual: int, false: int) -> None:
    result = score(TRUTH, boundaries_s)
    assert (result.cuts_found, result.gradual_found, result.false) == (cuts, gradual, false)
    assert (result.cuts, result.gradual) == (1, 1)
    assert result.recall == (cuts + gradual) / 2


def boundary_times(path: Path) -> list[float]:
    detector, times, boundaries = shot_detector(ShotConfig()), [], []
    with open_media(path, Limits()) as container:
        decoder = Decoder(container, main_video_stream(container, Limits()), Limits(), "noref")
        for frame in decoder:
            times.append(float(frame.pts * decoder.time_base))
            boundaries += detector.feed(Look(sampled_picture(planes_of(frame.picture))))
    return [times[boundary.index] for boundary in boundaries + detector.flush()]


@pytest.mark.footage
@pytest.mark.slow
def test_default_on_real_footage(real_footage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("score_cuts", real_footage / "score_cuts.py")
    assert spec is not None
    assert spec.loader is not None
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    hits = must = false = gradual = 0
    for truth in sorted((real_footage / "truth").glob("*.csv")):
        rows = scorer.read_truth(truth)
        tolerance_s = 2 * scorer.frame_seconds(rows) + 1e-3
        matched, wrong = scorer.score(rows, times_s := boundary_times(real_footage / truth.stem), tolerance_s)
        wanted = {i for i, row in enumerate(rows) if not row["optional"]}
        ours = score(read_truth(truth), times_s)
        assert (ours.found, ours.false) == (len(wanted & set(matched)), len(wrong))
        gradual += ours.gradual_found
        hits, must, false = hits + len(wanted & set(matched)), must + len(wanted), false + len(wrong)
    f1 = 2 * hits / (must + hits + false)
    with capsys.disabled():
        print(f"\nshots on real footage: {hits}/{must} found ({gradual} gradual), {false} false, F1 {f1:.3f}")
    assert must == 93
    assert f1 >= 0.98
    assert gradual >= 28


SINGLE_SHOTS = (
    "PHP-FFMpeg__portrait.MOV",
    "assets-for-api-docs__bee.mp4",
    "gpmf-parser__karma.mp4",
    "imageio-binaries__cockatoo_yuv420.mp4",
    "lpms__videotest.mp4",
    "sam2__02_cups.mp4",
    "sample-videos__car-detection.mp4",
    "streamio-ffmpeg__vertical_video_from_iphone.mov",
)


@pytest.mark.footage
@pytest.mark.parametrize("name", SINGLE_SHOTS)
def test_real_footage_of_one_scene(real_footage: Path, name: str) -> None:
    assert boundary_times(real_footage / name) == []
