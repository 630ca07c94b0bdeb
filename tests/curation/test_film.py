"""The truth of procedural footage, measured on the decoded files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count, islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from curation.film import (
    Boundary,
    Edit,
    FilmFile,
    Join,
    SceneSpec,
    encode_film,
    make_film,
    render,
    scene_painter,
    truth_rows,
)

NAMES = (
    "harbour_cuts.mp4",
    "harbour_copy.mkv",
    "valley_dissolves.mp4",
    "market_fades.mov",
    "street_portrait.mp4",
    "plains_long_gop.mp4",
    "archive_letterbox.webm",
    "screen_variable_rate.mp4",
    "night_dark.mp4",
)
MILLISECOND_SUFFIXES = (".mkv", ".webm")
CODEC_NAMES = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9"}
CODEC_ERROR = 4.0  # mean absolute error of a decoded picture, in grey values
Gray = NDArray[np.uint8]


@pytest.fixture(scope="module")
def dailies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, FilmFile]]:
    folder = tmp_path_factory.mktemp("dailies")
    return folder, {film.name: film for film in make_film(folder)}


def decode(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(container.streams.video[0])


def upright(frame: av.VideoFrame) -> Gray:
    return np.rot90(frame.to_ndarray(format="gray"), frame.rotation // 90).astype(np.uint8)


def gray(picture: NDArray[np.uint8]) -> Gray:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def difference(a: Gray, b: Gray) -> float:
    return float(np.abs(a.astype(np.float32) - b).mean())


def shown(film: FilmFile) -> Iterator[Gray]:
    """What the film shows by its truth alone: grey pictures, without bars."""
    _, _, width, height = film.active_box or (0, 0, film.width, film.height)
    times_s = (float(film.time_s(i) - film.time_s(0)) for i in range(film.frames))
    return map(gray, render(film.edit, width, height, times_s))


def inside(picture: Gray, film: FilmFile) -> Gray:
    x, y, width, height = film.active_box or (0, 0, film.width, film.height)
    return picture[y : y + height, x : x + width]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_as_its_truth_says(dailies: tuple[Path, dict[str, FilmFile]], name: str) -> None:
    folder, films = dailies
    film = films[name]
    with av.open(str(folder / name)) as container:
        video = container.streams.video[0]
        time_base = video.time_base
        assert time_base is not None
        assert video.codec_context.name == CODEC_NAMES.get(film.codec, film.codec)
        assert bool(container.streams.audio) == film.has_audio
        duration = video.duration
        frames = [(frame.pts, frame.rotation % 360, frame.width, frame.height) for frame in container.decode(video)]
    turned = film.rotation in (90, 270)
    size = (film.height, film.width) if turned else (film.width, film.height)
    assert {entry[1:] for entry in frames} == {(film.rotation, *size)}
    times = [(pts or 0) * time_base for pts, *_ in frames]
    truth = [film.time_s(i) for i in range(film.frames)]
    if Path(name).suffix in MILLISECOND_SUFFIXES:
        assert len(times) == len(truth)
        assert max(abs(a - b) for a, b in zip(times, truth, strict=True)) <= Fraction(1, 2000)
    else:
        assert times == truth
        assert (duration or 0) * time_base == film.time_s(film.frames) - film.time_s(0)


def test_the_dailies_have_one_of_everything(dailies: tuple[Path, dict[str, FilmFile]]) -> None:
    films = dailies[1]
    assert tuple(films) == NAMES
    scenes = [scene for film in films.values() for scene in film.scenes]
    assert {scene.spec.kind for scene in scenes} == {"still", "object", "pan", "zoom"}
    assert {b.kind for film in films.values() for b in film.boundaries} == {"cut", "dissolve", "fade"}
    shapes = {round(film.width / film.height, 2) for film in films.values()}
    assert {1.78, 0.56, 1.0, 2.39} <= shapes
    assert min(scene.spec.brightness for scene in scenes) <= 0.05
    very_short = [s for s in films["harbour_cuts.mp4"].scenes if s.end_frame - s.start_frame < 12]
    assert len(very_short) == 1
    assert sum(film.has_audio for film in films.values()) >= 3
    assert [film.name for film in films.values() if film.rate is None] == ["screen_variable_rate.mp4"]
    assert films["night_dark.mp4"].time_s(0) == Fraction(1, 2)
    total_s = sum(film.time_s(film.frames) - film.time_s(0) for film in films.values())
    assert 60 <= total_s <= 80


@pytest.mark.parametrize("name", [name for name in NAMES if name != "harbour_copy.mkv"])
def test_every_frame_shows_what_the_truth_says(dailies: tuple[Path, dict[str, FilmFile]], name: str) -> None:
    """A cut, a ramp or a motion that was a frame early or late would differ by far more than the codec's error."""
    folder, films = dailies
    film = films[name]
    near_boundary = {f for b in film.boundaries for f in range(b.frame - 2, b.end_frame + 3)}
    errors = {}
    for index, (frame, truth) in enumerate(zip(decode(folder / name), shown(film), strict=True)):
        if index in near_boundary or index % 10 == 0:
            errors[index] = difference(inside(upright(frame), film), truth)
    assert len(errors) > 15
    assert max(errors.values()) < CODEC_ERROR, errors


@pytest.mark.parametrize("name", NAMES)
def test_cuts_are_at_their_frame_and_nowhere_else(dailies: tuple[Path, dict[str, FilmFile]], name: str) -> None:
    folder, films = dailies
    film = films[name]
    pictures = [cv2.resize(upright(frame), None, fx=0.5, fy=0.5) for frame in decode(folder / name)]
    changes = [0.0] + [difference(np.asarray(a, np.uint8), np.asarray(b, np.uint8)) for a, b in pairwise(pictures)]
    cuts = {boundary.frame for boundary in film.boundaries if boundary.kind == "cut"}
    others = [change for frame, change in enumerate(changes) if frame not in cuts]
    assert all(changes[cut] > 1.5 * max(others) for cut in cuts), (sorted(others)[-3:], [changes[c] for c in cuts])


GRADUAL = (
    ("valley_dissolves.mp4", "dissolve", 2),
    ("valley_dissolves.mp4", "fade", 1),
    ("market_fades.mov", "fade", 2),
    ("archive_letterbox.webm", "dissolve", 1),
)


@pytest.mark.parametrize(("name", "kind", "how_many"), GRADUAL)
def test_transitions_cover_their_frames(
    dailies: tuple[Path, dict[str, FilmFile]], name: str, kind: str, how_many: int
) -> None:
    """Each frame of a transition is nearer to its own mix of the scenes than to the one before or after it."""
    folder, films = dailies
    film = films[name]
    boundaries = [boundary for boundary in film.boundaries if boundary.kind == kind]
    assert len(boundaries) == how_many
    truth = list(shown(film))
    decoded = [inside(upright(frame), film) for frame in decode(folder / name)]
    for boundary in boundaries:
        middle = range(boundary.frame, boundary.end_frame)
        nearest = [min((f - 1, f, f + 1), key=lambda near, f=f: difference(decoded[f], truth[near])) for f in middle]
        moving = [f for f in middle if min(difference(truth[f], truth[f + step]) for step in (-1, 1)) > 1]
        assert len(moving) >= len(middle) // 2
        assert [nearest[f - boundary.frame] for f in moving] == moving
        if kind == "fade":
            assert min(decoded[f].mean() for f in middle) < 2
            assert decoded[boundary.frame - 1].mean() > 20 < decoded[boundary.end_frame].mean()


def test_letterbox_is_where_the_truth_says(dailies: tuple[Path, dict[str, FilmFile]]) -> None:
    folder, films = dailies
    film = films["archive_letterbox.webm"]
    brightest = np.max([frame.to_ndarray(format="gray") for frame in islice(decode(folder / film.name), 40)], axis=0)
    rows = np.flatnonzero(brightest.mean(axis=1) > 16)
    columns = np.flatnonzero(brightest[rows[0] : rows[-1]].mean(axis=0) > 16)
    measured = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
    truth = (0, 34, 480, 202)
    assert film.active_box == truth
    assert np.abs(np.subtract(measured, truth)).max() <= 2


def test_the_copy_shows_the_original(dailies: tuple[Path, dict[str, FilmFile]]) -> None:
    folder, films = dailies
    copy = films["harbour_copy.mkv"]
    assert copy.near_duplicate_of == "harbour_cuts.mp4"
    original = films[copy.near_duplicate_of]
    assert (copy.boundaries, copy.width * 2, copy.codec != original.codec) == (original.boundaries, 640, True)
    assert (folder / copy.name).stat().st_size < (folder / original.name).stat().st_size
    pairs = zip(decode(folder / copy.name), decode(folder / original.name), strict=True)
    for frame, first in islice(pairs, 0, None, 25):
        small = cv2.resize(upright(first), (copy.width, copy.height), interpolation=cv2.INTER_AREA)
        assert difference(upright(frame), np.asarray(small, np.uint8)) < 2 * CODEC_ERROR
    assert [s.spec.pan_x_px_per_s * 2 for s in copy.scenes] == [s.spec.pan_x_px_per_s for s in original.scenes]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("harbour_cuts", "valley", "archive"))])
def test_sound_lasts_as_long_as_the_pictures(dailies: tuple[Path, dict[str, FilmFile]], name: str) -> None:
    folder, films = dailies
    film = films[name]
    with av.open(str(folder / name)) as container:
        stream = container.streams.audio[0]
        chunks = [(frame.time, frame.to_ndarray()) for frame in container.decode(stream)]
        rate = stream.rate
    samples = np.concatenate([chunk for _, chunk in chunks], axis=1)
    assert abs(chunks[0][0] or 0.0) < 0.03
    assert abs(samples.shape[1] / rate - float(film.time_s(film.frames))) < 0.05
    spectrum = np.abs(np.fft.rfft(samples[0, rate : 2 * rate]))
    assert abs(int(spectrum.argmax()) - 220) <= 1
    assert np.corrcoef(samples[0], samples[1])[0, 1] < 0.5


def test_still_scenes_are_still(dailies: tuple[Path, dict[str, FilmFile]]) -> None:
    paint = scene_painter(SceneSpec(3, 10), 160, 90)
    assert np.array_equal(paint(0.0), paint(7.5))
    folder, films = dailies
    first = list(islice(decode(folder / "harbour_cuts.mp4"), 50))
    assert films["harbour_cuts.mp4"].scenes[0].spec.kind == "still"
    assert max(difference(upright(a), upright(b)) for a, b in pairwise(first)) < 1.0


@pytest.mark.parametrize(("x_px_per_s", "y_px_per_s"), [(48.0, 0.0), (-30.0, 12.5), (0.0, 50.0), (7.0, 0.0)])
def test_pan_moves_by_what_it_says(tmp_path: Path, x_px_per_s: float, y_px_per_s: float) -> None:
    rate, spec = 24, SceneSpec(8, 48, pan_x_px_per_s=x_px_per_s, pan_y_px_per_s=y_px_per_s)
    encode_film(tmp_path / "pan.mp4", render(Edit((spec,)), 320, 180, (i / rate for i in count())))
    pictures = [upright(frame).astype(np.float32) for frame in decode(tmp_path / "pan.mp4")]
    window = cv2.createHanningWindow((320, 180), cv2.CV_32F)
    shifts = [cv2.phaseCorrelate(a, b, window)[0] for a, b in zip(pictures, pictures[6:], strict=False)]
    measured = -np.median(np.array(shifts), axis=0) * rate / 6  # the picture moves against the camera
    assert np.abs(measured - (x_px_per_s, y_px_per_s)).max() < 1.0, measured


@pytest.mark.parametrize("zoom_per_s", [1.25, 0.8])
def test_zoom_grows_by_what_it_says(zoom_per_s: float) -> None:
    paint = scene_painter(SceneSpec(8, 48, zoom_per_s=zoom_per_s), 320, 180)
    before, after = paint(0.0), paint(1.0)
    errors = {}
    for factor in (zoom_per_s * f for f in (0.97, 1.0, 1.03)):
        matrix = cv2.getRotationMatrix2D((159.5, 89.5), 0, factor)
        grown = np.asarray(cv2.warpAffine(before, matrix, (320, 180)), np.uint8)
        errors[factor] = difference(gray(grown)[40:-40, 60:-60], gray(after)[40:-40, 60:-60])
    assert min(errors, key=lambda factor: errors[factor]) == zoom_per_s, errors


def test_object_moves_by_what_it_says_and_stays_inside() -> None:
    spec = SceneSpec(8, 48, object_x_px_per_s=40, object_y_px_per_s=-20)
    paint = scene_painter(spec, 320, 180)
    background = np.median([paint(t) for t in (0.0, 1.5, 3.0)], axis=0)
    centres = []
    for time_s in (0.0, 1.0, 2.0, 30.0):
        rows, columns = np.nonzero(np.abs(paint(time_s) - background).max(axis=2) > 30)
        centres.append((columns.mean(), rows.mean()))
        assert 35 < np.ptp(columns) < 50
        assert 35 < np.ptp(rows) < 50
    np.testing.assert_allclose(np.diff(centres[:3], axis=0), [(40, -20)] * 2, atol=1.5)


def test_edit_gives_the_frames_and_boundaries() -> None:
    specs = tuple(SceneSpec(i, 20) for i in range(4))
    edit = Edit(specs, (Join(), Join("dissolve", 5), Join("fade", 4, black_frames=3)))
    assert edit.boundaries == (Boundary(20, 20, "cut"), Boundary(35, 40, "dissolve"), Boundary(51, 62, "fade"))
    assert [(s.start_frame, s.end_frame) for s in edit.scenes] == [(0, 20), (20, 40), (35, 55), (58, 78)]
    pictures = list(render(edit, 64, 48, (i / 24 for i in count())))
    assert len(pictures) == edit.frames == 78
    black = [i for i, picture in enumerate(pictures) if not picture.any()]
    assert black == [54, 55, 56, 57, 58]
    alone = [scene_painter(spec, 64, 48)(0.0) for spec in specs]
    complete = [[i for i, p in enumerate(pictures) if np.array_equal(p, picture)] for picture in alone]
    assert complete == [list(range(*span)) for span in ((0, 20), (20, 35), (40, 51), (62, 78))]


def test_a_fade_may_be_a_cut_to_black() -> None:
    edit = Edit((SceneSpec(0, 5), SceneSpec(1, 5)), (Join("fade", 0, black_frames=4),))
    assert edit.boundaries == (Boundary(5, 9, "fade"),)
    black = [i for i, picture in enumerate(render(edit, 64, 48, count())) if not picture.any()]
    assert black == [5, 6, 7, 8]


BAD_PARTS: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: SceneSpec(-1, 5), "seed=-1: must be 0 or more"),
    (lambda: SceneSpec(0, 0), "frames=0: must be 1 or more"),
    (lambda: SceneSpec(0, 5, zoom_per_s=0.0), "zoom_per_s=0.0: must be above 0"),
    (lambda: SceneSpec(0, 5, zoom_per_s=1.1, pan_x_px_per_s=4), "zoom_per_s=1.1: only one kind of motion"),
    (lambda: SceneSpec(0, 5, brightness=1.5), "brightness=1.5: must be from 0 to 1"),
    (lambda: Join("wipe", 5), "kind='wipe': must be cut, dissolve or fade"),  # type: ignore[arg-type]
    (lambda: Join("cut", 5), "frames=5: must be 0 for a cut"),
    (lambda: Join("dissolve"), "frames=0: must be 0 for a cut and 1 or more for a dissolve"),
    (lambda: Join("dissolve", 5, 1), "black_frames=1: must be 0 or more, and 0 for a dissolve"),
    (lambda: Join("fade"), "frames=0: must be 1 or more for a fade without black frames"),
    (lambda: Edit(()), "joins=0 of them: must be one fewer than the 0 scenes"),
    (lambda: Edit((SceneSpec(0, 5),), (Join(),)), "joins=1 of them: must be one fewer than the 1 scenes"),
    (
        lambda: Edit((SceneSpec(0, 5), SceneSpec(1, 9)), (Join("fade", 5),)),
        "frames=5 of a scene: must be more than the 5",
    ),
)


@pytest.mark.parametrize(("make", "message"), BAD_PARTS, ids=lambda part: part if isinstance(part, str) else "")
def test_impossible_scenes_and_edits_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_truth_rows_are_plain(dailies: tuple[Path, dict[str, FilmFile]]) -> None:
    rows = json.loads(json.dumps(truth_rows(dailies[1].values())))
    by_name = {row["name"]: row for row in rows}
    assert tuple(by_name) == NAMES
    row = by_name["plains_long_gop.mp4"]
    assert (row["rate"], row["time_base"], row["frames"]) == ("24000/1001", "1001/24000", 222)
    assert row["boundaries"][0] == {"frame": 55, "end_frame": 55, "kind": "cut", "time_s": 55 * 1001 / 24000} | {
        "end_time_s": 55 * 1001 / 24000
    }
    assert [scene["kind"] for scene in row["scenes"]] == ["pan", "still", "zoom", "object"]
    assert by_name["archive_letterbox.webm"]["active_box"] == [0, 34, 480, 202]


def test_same_seed_same_bytes(dailies: tuple[Path, dict[str, FilmFile]], tmp_path: Path) -> None:
    folder, films = dailies
    assert make_film(tmp_path) == tuple(films.values())
    assert [name for name in NAMES if (tmp_path / name).read_bytes() != (folder / name).read_bytes()] == []


def test_other_seed_other_pictures() -> None:
    pictures = [scene_painter(SceneSpec(seed, 1), 160, 90)(0.0) for seed in range(12)]
    assert min(difference(gray(a), gray(b)) for a, b in pairwise(pictures)) > 8
