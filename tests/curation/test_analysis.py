"""The one pass over real files: where clips begin and end, what they measure, and why they are rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from curation.analysis import Analysis
from curation.film import Edit, Encoding, FilmFile, Join, SceneSpec, encode_film, render, scene_painter
from curation.media import Limits, main_video_stream, open_media
from curation.records import Clip
from curation.shots import ShotConfig
from curation.takes import TakeConfig
from curation.verdicts import RULES, Thresholds, verdict

RGB = NDArray[np.uint8]
CUT = Join()
ROUNDING_S = Fraction(1, 1900)  # WebM and Matroska hold the nearest millisecond


@dataclass(frozen=True)
class Analysed:
    """An analysis that was iterated to its end, and its clips."""

    analysis: Analysis
    clips: list[Clip]

    def starts_s(self) -> list[Fraction]:
        return [clip.span.start_pts * clip.span.time_base for clip in self.clips]

    def clip_at(self, time_s: Fraction) -> Clip | None:
        return next(
            (c for c, s in zip(self.clips, self.starts_s(), strict=True) if abs(s - time_s) <= ROUNDING_S), None
        )

    def reasons(self, thresholds: Thresholds) -> list[str | None]:
        rows = [
            {**clip.scores, "duration_s": float(clip.span.duration_s), "rate_fps": clip.rate_fps} for clip in self.clips
        ]
        return [verdict(row, thresholds) for row in rows]


def analysed(path: Path, shots: ShotConfig | None = None, takes: TakeConfig | None = None) -> Analysed:
    limits = Limits()
    with open_media(path, limits) as container:
        analysis = Analysis(
            "source",
            container,
            main_video_stream(container, limits),
            shots=shots or ShotConfig(),
            takes=takes or TakeConfig(),
            limits=limits,
            skip_loop_filter="noref",
        )
        return Analysed(analysis, list(analysis))


def scene(frames: int, width: int = 320, height: int = 180, rate: float = 24, **spec: Any) -> Iterator[RGB]:
    edit = Edit((SceneSpec(spec.pop("seed", 1), frames, **spec),))
    yield from render(edit, width, height, (i / rate for i in range(frames)))


def test_the_dailies_are_cut_where_they_are_edited(film: tuple[Path, tuple[FilmFile, ...]]) -> None:
    folder, files = film
    cuts = fades = 0
    for truth in files:
        result = analysed(folder / truth.name)
        starts_s = result.starts_s()[1:]
        for boundary in truth.boundaries:
            begins_s, ends_s = truth.time_s(boundary.frame), truth.time_s(boundary.end_frame)
            within = [s for s in starts_s if begins_s - ROUNDING_S <= s <= ends_s + ROUNDING_S]
            if boundary.kind == "cut":
                assert len(within) == 1, (truth.name, boundary)
                cuts += 1
            elif boundary.kind == "fade":
                assert 1 <= len(within) <= 2, (truth.name, boundary)  # both ends of the black
                fades += 1
            else:
                assert len(within) == 1, (truth.name, boundary)
            starts_s = [s for s in starts_s if s not in within]
        assert starts_s == [], truth.name
    assert (cuts, fades) == (18, 3)


def check_cover(result: Analysed) -> None:
    """One clip after the other, and nothing between them but what is counted as trimmed."""
    analysis, clips = result.analysis, result.clips
    assert all(before.span.end_pts <= after.span.start_pts for before, after in pairwise(clips))
    kept_s = sum(clip.span.duration_s for clip in clips)
    assert kept_s + analysis.trimmed_ticks * analysis.time_base == analysis.duration_s


def test_clips_cover_the_dailies_but_for_gradual_changes(film: tuple[Path, tuple[FilmFile, ...]]) -> None:
    folder, files = film
    for truth in files:
        analysis, clips = (result := analysed(folder / truth.name)).analysis, result.clips
        check_cover(result)
        assert truth.frames == analysis.decoder.frames
        changing = sum(b.end_frame - b.frame for b in truth.boundaries if b.kind != "cut")
        assert sum(clip.frames for clip in clips) == pytest.approx(truth.frames - changing, abs=4 * (changing > 0))
        assert abs(clips[0].span.start_pts * analysis.time_base - truth.time_s(0)) < Fraction(1, 900)
        assert abs(clips[-1].span.end_pts * analysis.time_base - truth.end_pts * truth.time_base) < Fraction(1, 400)
        assert analysis.rate.exact == truth.rate
        assert analysis.looks is not None
        geometry = analysis.looks.geometry
        assert (geometry.width, geometry.height, geometry.rotation) == (truth.width, truth.height, truth.rotation)
        assert {(clip.width, clip.height) for clip in clips} == {(truth.width, truth.height)}
        assert all(clip.entry_pts <= clip.span.start_pts for clip in clips)


def test_scores_of_the_dailies(film: tuple[Path, tuple[FilmFile, ...]]) -> None:
    """Each scene that stands alone in its clip is measured as it was painted."""
    folder, files = film
    seen: dict[str, int] = {}
    for truth in files:
        if any(b.kind == "dissolve" for b in truth.boundaries):
            continue
        result = analysed(folder / truth.name)
        for painted in truth.scenes:
            clip = result.clip_at(truth.time_s(painted.start_frame))
            if clip is None or clip.frames < 30:
                continue
            kind = painted.spec.kind
            seen[kind] = seen.get(kind, 0) + 1
            assert clip.scores["is_still"] is (kind == "still"), (truth.name, painted)
            motion = clip.scores["motion_px_per_s"]
            if kind == "pan":
                speed = float(np.hypot(painted.spec.pan_x_px_per_s, painted.spec.pan_y_px_per_s))
                assert motion == pytest.approx(speed, rel=0.2), (truth.name, painted)
            if kind == "still":
                assert isinstance(motion, float)
                assert motion < 0.02 * truth.width
            if truth.active_box is not None:
                box = [clip.scores[f"active_{name}_px"] for name in ("x", "y", "width", "height")]
                assert np.abs(np.array(box) - truth.active_box).max() <= 2
    assert min(seen[kind] for kind in ("still", "pan", "zoom", "object")) >= 2, seen


def test_thumbnails_are_upright_and_hashes_find_the_copy(film: tuple[Path, tuple[FilmFile, ...]]) -> None:
    folder, files = film
    truths = {truth.name: truth for truth in files}
    for name in ("street_portrait.mp4", "harbour_cuts.mp4"):
        truth = truths[name]
        still = next(s for s in truth.scenes if s.spec.kind == "still")
        clip = analysed(folder / name).clip_at(truth.time_s(still.start_frame))
        assert clip is not None
        assert clip.thumbnail is not None
        thumbnail = cv2.imdecode(np.frombuffer(clip.thumbnail, np.uint8), cv2.IMREAD_COLOR)
        assert thumbnail is not None
        painted = scene_painter(still.spec, truth.width, truth.height)(0.0)[..., ::-1]
        small = cv2.resize(painted, thumbnail.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(thumbnail.astype(int) - small).mean() < 8
    originals, copies = (
        [clip.perceptual_hash for clip in analysed(folder / name).clips]
        for name in ("harbour_cuts.mp4", "harbour_copy.mkv")
    )
    assert len(originals) == len(copies) == 5
    for i, original in enumerate(originals):
        for j, copy in enumerate(copies):
            assert original is not None
            assert copy is not None
            assert ((original ^ copy).bit_count() <= 8) == (i == j)


def test_a_clip_measures_nothing_of_its_neighbours(tmp_path: Path) -> None:
    specs = (
        SceneSpec(1, 37, pan_x_px_per_s=60),
        SceneSpec(2, 41),
        SceneSpec(3, 43, brightness=0.3),
        SceneSpec(4, 39, pan_y_px_per_s=-90),
    )
    joined, alone = tmp_path / "joined.mp4", tmp_path / "alone.mp4"
    edit = Edit(specs, (CUT,) * 3)
    encode_film(joined, render(edit, 320, 180, (i / 24 for i in range(edit.frames))))
    clips = analysed(joined).clips
    assert [clip.frames for clip in clips] == [37, 41, 43, 39]
    for spec, clip in zip(specs, clips, strict=True):
        encode_film(alone, render(Edit((spec,)), 320, 180, (i / 24 for i in range(spec.frames))))
        (single,) = analysed(alone).clips
        for column, value in single.scores.items():
            if isinstance(value, float):
                is_share = "share" in column or column in ("camera_zoom_per_s", "flashes_per_s")
                # The samples lie elsewhere, and a second holds few of them: that moves the confidence most.
                tolerance = {"motion_px_per_s": 4, "camera_confidence": 0.5}.get(column, 0.1 if is_share else 2)
                value = pytest.approx(value, abs=tolerance, rel=0.15)
            assert clip.scores[column] == value, (spec.kind, column)


def filled(level: int, frames: int = 40) -> list[RGB]:
    return [np.full((180, 320, 3), level, np.uint8)] * frames


def blurred(footage: Iterable[RGB]) -> Iterator[RGB]:
    return (np.asarray(cv2.GaussianBlur(picture, (0, 0), 8), np.uint8) for picture in footage)


def in_black(footage: Iterable[RGB], width: int, height: int) -> Iterator[RGB]:
    for picture in footage:
        below, beside = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        yield np.pad(picture, ((below, below), (beside, beside), (0, 0)))


REJECTED: dict[str, tuple[Callable[[], Iterable[RGB]], Encoding, Thresholds]] = {
    "too_short": (lambda: scene(20, pan_x_px_per_s=20), Encoding(), Thresholds()),
    "too_dark": (lambda: scene(40, brightness=0.02, pan_x_px_per_s=20), Encoding(), Thresholds()),
    "too_bright": (lambda: filled(254), Encoding(), Thresholds()),
    "flat": (lambda: filled(120), Encoding(), Thresholds()),
    "borders": (lambda: in_black(scene(40, 200, 140, pan_x_px_per_s=20), 640, 360), Encoding(), Thresholds()),
    "too_small": (lambda: scene(40, 160, 120, pan_x_px_per_s=20), Encoding(), Thresholds()),
    "too_narrow": (lambda: scene(40, 136, 480, pan_x_px_per_s=20), Encoding(), Thresholds()),
    "too_wide": (lambda: scene(40, 480, 136, pan_x_px_per_s=20), Encoding(), Thresholds()),
    "low_rate": (lambda: scene(15, rate=5, pan_x_px_per_s=20), Encoding(rate=Fraction(5)), Thresholds()),
    "blurred": (
        lambda: blurred(scene(40, pan_x_px_per_s=20)),
        Encoding(),
        Thresholds(min_sharpness_levels2=20.0),
    ),
    "still": (lambda: scene(40), Encoding(), Thresholds()),
    "too_little_motion": (
        lambda: scene(40, pan_x_px_per_s=10),
        Encoding(),
        Thresholds(min_motion_share_per_s=0.1),
    ),
    "too_much_motion": (
        lambda: scene(100, rate=60, pan_x_px_per_s=3 * 320),
        Encoding(rate=Fraction(60)),
        Thresholds(),
    ),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_footage_for_every_reason(tmp_path: Path, reason: str) -> None:
    footage, encoding, thresholds = REJECTED[reason]
    encode_film(tmp_path / "clip.mp4", footage(), encoding)
    one_scene = ShotConfig(content_threshold=255.0)
    assert analysed(tmp_path / "clip.mp4", one_scene).reasons(thresholds) == [reason]


def test_there_is_footage_for_every_reason_that_holds_unasked() -> None:
    """Of the others, off unless asked for, the scores are tested with their own footage and the rules by tables."""
    unasked = {rule.reason for rule in RULES if getattr(Thresholds(), rule.threshold) != rule.off}
    assert unasked - {"damaged", "slideshow"} <= {*REJECTED}
    assert len(unasked) > 10


def test_good_footage_is_kept(tmp_path: Path) -> None:
    encode_film(tmp_path / "clip.mp4", scene(40, pan_x_px_per_s=20))
    assert analysed(tmp_path / "clip.mp4").reasons(Thresholds()) == [None]


def test_damage_is_counted_in_the_clip_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    edit = Edit(tuple(SceneSpec(s, 48, pan_x_px_per_s=40) for s in (1, 2, 3)), (CUT, CUT))
    frames = render(edit, 320, 180, (i / 24 for i in range(edit.frames)))
    encode_film(path, frames, Encoding(gop_frames=24))
    with av.open(str(path)) as container:
        packets = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    at, size = packets[60]
    data[at + 6 : at + size] = bytes(b ^ 0x5A for b in data[at + 6 : at + size])
    path.write_bytes(data)
    result = analysed(path)
    damaged = [clip.scores["damaged_frames"] for clip in result.clips]
    assert len(damaged) == 3
    assert damaged[0] == damaged[2] == 0
    assert damaged[1]
    assert result.reasons(Thresholds()) == [None, "damaged", None]


def test_boundaries_are_exact_at_variable_rates(tmp_path: Path) -> None:
    path, pts = tmp_path / "clip.mp4", [0]
    for step in [33, 34, 50, 17, 100, 33, 250, 40] * 18:
        pts.append(pts[-1] + step)
    edit = Edit(tuple(SceneSpec(s, f, pan_x_px_per_s=20) for s, f in ((1, 50), (2, 31), (3, 60))), (CUT, CUT))
    pictures = render(edit, 320, 180, (p / 1000 for p in pts))
    encode_film(path, pictures, Encoding(time_base=Fraction(1, 1000)), pts=pts[: edit.frames])
    result = analysed(path)
    assert result.starts_s() == [Fraction(pts[i], 1000) for i in (0, 50, 81)]
    assert result.analysis.rate.exact is None


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_hardly_any_frames(tmp_path: Path, codec: str, frames: int) -> None:
    path = tmp_path / ("clip.webm" if codec == "libvpx-vp9" else "clip.mp4")
    encode_film(path, scene(frames, pan_x_px_per_s=20), Encoding(codec))
    result = analysed(path)
    (clip,) = result.clips
    assert clip.frames == frames
    assert clip.span.duration_s > 0
    assert clip.thumbnail is not None
    assert clip.scores["is_still"] is None
    assert result.reasons(Thresholds()) == ["too_short"]


def test_what_is_trimmed_is_accounted(tmp_path: Path) -> None:
    edit = Edit(tuple(SceneSpec(s, f, pan_x_px_per_s=20) for s, f in ((1, 60), (2, 8), (3, 90))), (CUT, CUT))
    path = tmp_path / "clip.mp4"
    encode_film(path, render(edit, 320, 180, (i / 24 for i in range(edit.frames))))
    takes = TakeConfig(max_seconds=2.0, trim_seconds=0.25)
    result = analysed(path, takes=takes)
    assert [clip.frames for clip in result.clips] == [24, 24, 8, 39, 39]  # 60 - 12, too short to trim, 90 - 12
    kept_s = sum(clip.span.duration_s for clip in result.clips)
    assert kept_s + result.analysis.trimmed_ticks * result.analysis.time_base == Fraction(158, 24)
    assert result.analysis.trimmed_ticks * result.analysis.time_base == Fraction(24, 24)


@pytest.mark.footage
@pytest.mark.parametrize(
    ("name", "display", "rate"),
    [
        ("PHP-FFMpeg__portrait.MOV", (320, 568), Fraction(30_000, 1001)),
        ("streamio-ffmpeg__vertical_video_from_iphone.mov", (1080, 1920), Fraction(60)),
        ("torchcodec__nasa_13013_rotated.mp4", (180, 320), Fraction(25)),
        ("torchcodec__nasa_13013_vfr.mp4", (480, 270), None),
        ("lpms__videotest.mp4", (374, 666), None),
        ("format-corpus__dv-dvchd-ntsc-interlaced.mov", (655, 480), Fraction(25)),
        ("format-corpus__apple-prores-422-proxy.mov", (320, 240), Fraction(25)),
        ("mediabunny__no-correct-videoframe-format.mov", (1080, 1920), Fraction(60)),
    ],
)
def test_odd_real_files(real_footage: Path, name: str, display: tuple[int, int], rate: Fraction | None) -> None:
    result = analysed(real_footage / name)
    assert {(clip.width, clip.height) for clip in result.clips} == {display}
    assert result.analysis.rate.exact == rate
    check_cover(result)
    assert all(clip.scores["damaged_frames"] == 0 for clip in result.clips)
