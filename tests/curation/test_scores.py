"""Scores of really encoded footage with known truth, at high and at low quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from curation.analysis import looks_of
from curation.borders import lit_range
from curation.decode import Decoder
from curation.film import Edit, Encoding, SceneSpec, encode_film, render
from curation.geometry import Geometry
from curation.measure import FrameMeasure, Measurer, Sample
from curation.measured import Measured
from curation.media import Limits, main_video_stream, open_media
from curation.scores import SCORES, scores_of
from curation.tables import CLIPS

RGB = NDArray[np.uint8]
WIDTH, HEIGHT, RATE, FRAMES = 320, 180, 24, 60

ENCODINGS = {
    "x264": Encoding(gop_frames=12),
    "x264 10 bit": Encoding(gop_frames=12, pix_fmt="yuv420p10le"),
    "x264 starved": Encoding(gop_frames=24, b_frames=2, bitrate_bps=60_000),
    "mpeg4 starved": Encoding("mpeg4", gop_frames=12, bitrate_bps=60_000),
    "vp9 starved": Encoding("libvpx-vp9", gop_frames=24, bitrate_bps=30_000),
}
every_encoding = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


def pictures(frames: int = FRAMES, **scene: Any) -> Iterator[RGB]:
    yield from render(Edit((SceneSpec(frames=frames, **scene),)), WIDTH, HEIGHT, (i / RATE for i in range(frames)))


def measured(folder: Path, footage: Iterable[RGB], encoding: Encoding) -> Measured:
    """All frames of a file as one clip."""
    path, frames, samples = folder / "clip.mp4", [], []
    encode_film(path, footage, encoding)
    with open_media(path, Limits()) as container:
        stream = main_video_stream(container, Limits())
        decoder, looks = Decoder(container, stream, Limits(), "noref"), None
        measurer = Measurer(decoder.time_base)
        for frame in decoder:
            looks = looks or looks_of(frame.picture, stream)
            measure, _, sample = measurer.feed(frame)
            frames.append(measure)
            samples.append(sample)
        samples.append(measurer.flush())
        assert looks is not None
    return Measured(frames, [s for s in samples if s], len(frames), decoder.time_base, looks.geometry)


def scored(folder: Path, footage: Iterable[RGB], encoding: Encoding) -> dict[str, Any]:
    return scores_of(measured(folder, footage, encoding))


@every_encoding
def test_motion_of_pans(tmp_path: Path, encoding: Encoding) -> None:
    for seed, (x, y) in enumerate([(30, 0), (-80, 40), (0, 150), (240, 0)]):
        speed = float(np.hypot(x, y))
        scores = scored(tmp_path, pictures(seed=seed, pan_x_px_per_s=x, pan_y_px_per_s=y), encoding)
        assert scores["motion_px_per_s"] == pytest.approx(speed, rel=0.2), (x, y)
        assert scores["motion_share_per_s"] == pytest.approx(scores["motion_px_per_s"] / WIDTH)
        assert scores["is_still"] is False


@every_encoding
def test_still_scenes_are_still_also_when_keyframes_pop(tmp_path: Path, encoding: Encoding) -> None:
    for seed in range(3):
        scores = scored(tmp_path, pictures(seed=seed), encoding)
        assert scores["is_still"] is True
        assert scores["motion_px_per_s"] < 0.02 * WIDTH


def small_object(seed: int, px_per_s: float) -> Iterator[RGB]:
    """A box of 14 by 14 pixels, a 300th of the picture, goes to the right."""
    for index, picture in enumerate(pictures(seed=seed)):
        x = 40 + round(index * px_per_s / RATE)
        moved = picture.copy()
        moved[80:94, x : x + 14] = 255 - picture[80:94, 40:54].mean(axis=(0, 1)).astype(np.uint8)
        yield moved


@every_encoding
def test_what_moves_a_little_is_not_still(tmp_path: Path, encoding: Encoding) -> None:
    for name, footage in {
        "small object": small_object(1, 30),
        "disc": pictures(seed=2, object_x_px_per_s=10),
        "dark disc": pictures(seed=2, object_x_px_per_s=20, brightness=0.2),
        "slow pan": pictures(seed=3, pan_x_px_per_s=3),
        "slow zoom": pictures(seed=4, zoom_per_s=1.01),
    }.items():
        assert scored(tmp_path, footage, encoding)["is_still"] is False, name


def test_zoom_moves_as_fast_as_its_picture_grows(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(WIDTH) - WIDTH / 2, np.arange(HEIGHT) - HEIGHT / 2)
    per_s = float(np.hypot(x, y).mean() * np.log(1.6))
    scores = scored(tmp_path, pictures(seed=5, zoom_per_s=1.6), ENCODINGS["x264"])
    assert scores["motion_px_per_s"] == pytest.approx(per_s, rel=0.2)


def test_sharpness_falls_under_blur(tmp_path: Path) -> None:
    values = []
    for sigma in (0.0, 1.0, 2.0, 5.0):
        footage = (
            np.asarray(cv2.GaussianBlur(p, (0, 0), sigma), np.uint8) if sigma else p
            for p in pictures(24, seed=5, pan_x_px_per_s=20)
        )
        values.append(scored(tmp_path, footage, ENCODINGS["x264"])["sharpness_levels2"])
    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[-1]


@every_encoding
def test_brightness_and_spread(tmp_path: Path, encoding: Encoding) -> None:
    footage = list(pictures(24, seed=6, pan_x_px_per_s=20))
    gray = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in footage]).astype(float)
    scores = scored(tmp_path, footage, encoding)
    assert scores["luma_mean_levels"] == pytest.approx(gray.mean(), abs=2)
    assert scores["luma_spread_levels"] == pytest.approx(gray.std(axis=(1, 2)).mean(), rel=0.06)


def barred(top: int, left: int, **scene: Any) -> Iterator[RGB]:
    """The picture within black bars of so many rows above and below, and so many columns at both sides."""
    edit = Edit((SceneSpec(frames=FRAMES, **scene),))
    for picture in render(edit, WIDTH - 2 * left, HEIGHT - 2 * top, (i / RATE for i in range(FRAMES))):
        yield np.pad(picture, ((top, top), (left, left), (0, 0)))


BARS = [(22, 0), (0, 40), (17, 33), (0, 0)]


@every_encoding
@pytest.mark.parametrize(("top", "left"), BARS)
def test_active_box(tmp_path: Path, encoding: Encoding, top: int, left: int) -> None:
    scores = scored(tmp_path, barred(top, left, seed=3, pan_x_px_per_s=30), encoding)
    box = [scores[f"active_{name}_px"] for name in ("x", "y", "width", "height")]
    edges = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
    assert np.abs(edges - [left, top, WIDTH - left, HEIGHT - top]).max() <= 2
    assert scores["border_share"] == pytest.approx(1 - box[2] * box[3] / (WIDTH * HEIGHT))
    assert scores["short_side_px"] == min(box[2:])
    assert scores["aspect"] == pytest.approx(box[2] / box[3])


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("pixel_aspect", [Fraction(1), Fraction(4, 3)])
def test_active_box_is_upright_with_square_pixels(tmp_path: Path, rotation: int, pixel_aspect: Fraction) -> None:
    upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    upright[30:160, 20:250] = next(pictures(1, seed=8))[30:160, 20:250]
    encoding = Encoding(rotation_deg=rotation, pixel_aspect=pixel_aspect)
    scores = scored(tmp_path, [upright] * 24, encoding)
    is_turned = rotation != 180
    across, down = (1, pixel_aspect) if is_turned else (pixel_aspect, 1)  # the coded width is stretched
    box = [scores[f"active_{name}_px"] for name in ("x", "y", "width", "height")]
    expected = [20 * across, 30 * down, 230 * across, 130 * down]
    assert np.abs(np.array(box) - np.array([float(e) for e in expected])).max() <= 2
    assert scores["aspect"] == pytest.approx(float(expected[2] / expected[3]), rel=0.03)


@every_encoding
def test_a_black_clip_has_no_active_box(tmp_path: Path, encoding: Encoding) -> None:
    scores = scored(tmp_path, [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 24, encoding)
    assert [scores[f"active_{name}_px"] for name in ("x", "y", "width", "height")] == [None] * 4
    assert scores["border_share"] is None
    assert (scores["short_side_px"], scores["aspect"]) == (HEIGHT, WIDTH / HEIGHT)
    assert scores["luma_mean_levels"] < 1


@pytest.mark.parametrize(
    ("levels", "lit"),
    [
        ([0, 0, 200, 200, 0], (2, 4)),
        ([200, 200], (0, 2)),
        ([32, 32, 32], None),
        ([33, 0, 0], (0, 1)),
        ([0, 34, 40, 200, 200, 45, 0], (3, 5)),  # ringing, under a quarter of the picture
        ([40, 40, 200, 200, 45], (0, 5)),  # no border: a dark edge of the picture
        ([0, *[40] * 9, 200, 200, 0], (1, 12)),  # farther than ringing reaches
        ([0, 40, 41, 40, 0], (1, 4)),  # a dark picture
        ([0, 0, 255, 0, 0], (2, 3)),
    ],
)
def test_lit_range(levels: list[int], lit: tuple[int, int] | None) -> None:
    assert lit_range(np.array(levels, np.uint8)) == lit


def numbers(frames: int, samples: list[Sample], *, damaged: int = 0) -> Measured:
    measures = [FrameMeasure(i * 40, 40, i == 0, i < damaged, 100.0, 20.0) for i in range(frames)]
    return Measured(measures, samples, frames, Fraction(1, 1000), Geometry(64, 48, Fraction(1), 0))


def sample(index: int, flow_px: float, flow_ticks: int) -> Sample:
    lit = np.full(64, 255, np.uint8)
    return Sample(index, index * 40, 5.0, lit[:48], lit, np.zeros((3, 4), np.float32), None, flow_px, flow_ticks)


@pytest.mark.parametrize(
    ("samples", "motion"),
    [
        ([], None),
        ([sample(0, 4, 40)], 100.0),
        ([sample(0, 4, 40), sample(12, 8, 40)], 150.0),
        ([sample(0, 4, 40), sample(24, 900, 40)], 100.0),  # into the next clip
        ([sample(24, 900, 40)], None),
        ([sample(0, 0.0, 0)], None),  # not measured
        ([sample(0, 4, 80)], 50.0),
    ],
)
def test_motion_within_the_clip_only(samples: list[Sample], motion: float | None) -> None:
    scores = scores_of(numbers(25, samples))
    assert scores["motion_px_per_s"] == (None if motion is None else pytest.approx(motion))
    assert (scores["motion_share_per_s"] is None) == (motion is None)


def test_what_is_not_measured_is_null_and_what_is_has_its_columns_type() -> None:
    for clip in (numbers(1, []), numbers(40, [sample(0, 4, 40), sample(12, 4, 40)], damaged=3)):
        scores = scores_of(clip)
        assert list(scores) == [score.column for score in SCORES]
        for score in SCORES:
            value = scores[score.column]
            assert pa.array([value], score.type)[0].as_py() == value  # stored as it is, to the last bit
            assert isinstance(value, int | float | None)
    assert scores["damaged_frames"] == 3
    unmeasured = [column for column, value in scores_of(numbers(1, [])).items() if value is None]
    assert {"motion_px_per_s", "sharpness_levels2", "is_still", "border_share", "active_x_px"} <= set(unmeasured)


def test_a_score_is_a_column_with_its_meaning() -> None:
    """To add one takes a function and its line in SCORES: the table follows."""
    for score in SCORES:
        field = CLIPS.field(score.column)
        assert (field.type, field.nullable) == (score.type, True)
        assert field.metadata == {b"says": score.says.encode()}
