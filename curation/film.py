"""Procedural footage with known truth, as real files: what the demo curates and the tests measure against.

A `SceneSpec` says what one scene shows and how it moves, an `Edit` joins scenes by cuts, dissolves and fades through
black, `render` paints it frame by frame, `encode_film` makes a file of it. `make_film` writes a small set of files with
one of everything that curation must cope with, and returns what is true of each.

A long film takes no more memory than a short one: give `render` an edit with one long scene and times from a generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.film_encode import Encoding, Picture, encode_film
from curation.film_scenes import CUT, Boundary, Edit, FilmScene, Join, SceneSpec, render, scene_painter

__all__ = [
    "Boundary",
    "Edit",
    "Encoding",
    "FilmFile",
    "FilmScene",
    "Join",
    "SceneSpec",
    "encode_film",
    "make_film",
    "render",
    "scene_painter",
    "truth_rows",
]

NTSC, NTSC_FILM = Fraction(30000, 1001), Fraction(24000, 1001)


@dataclass(frozen=True, slots=True)
class FilmFile:
    """What is true of one file that `make_film` wrote.

    name                the file's name in its folder
    width, height       as a player shows it: upright
    rotation            counter-clockwise degrees by which a player turns the coded picture
    rate                frames per second, None where it varies
    time_base, pts      time of each frame in presentation order, start offset included; WebM and Matroska files hold
                        the nearest millisecond
    end_pts             when the last frame ends
    edit                the scenes and joins, with speeds in the file's own pixels
    active_box          x, y, width, height of the picture inside black bars, None where there are none
    near_duplicate_of   name of the file whose pictures this one shows again
    """

    name: str
    width: int
    height: int
    rotation: int
    codec: str
    rate: Fraction | None
    time_base: Fraction
    pts: tuple[int, ...]
    end_pts: int
    edit: Edit
    active_box: tuple[int, int, int, int] | None
    near_duplicate_of: str | None
    has_audio: bool

    @property
    def frames(self) -> int:
        return len(self.pts)

    @property
    def scenes(self) -> tuple[FilmScene, ...]:
        return self.edit.scenes

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        return self.edit.boundaries

    def time_s(self, frame: int) -> Fraction:
        """When a frame is shown; for the frame after the last, when the film ends."""
        return (*self.pts, self.end_pts)[frame] * self.time_base


def truth_rows(films: Iterable[FilmFile]) -> list[dict[str, Any]]:
    """The same as plain values for JSON: fractions as "num/den", boundaries also in seconds, scenes with their kind."""
    return [_truth_row(film) for film in films]


def _truth_row(film: FilmFile) -> dict[str, Any]:
    row = asdict(film)
    del row["edit"]
    return row | {
        "frames": film.frames,
        "rate": str(film.rate) if film.rate else None,
        "time_base": str(film.time_base),
        "pts": list(film.pts),
        "active_box": list(film.active_box) if film.active_box else None,
        "scenes": [{"kind": scene.spec.kind} | asdict(scene) for scene in film.scenes],
        "boundaries": [
            asdict(b) | {"time_s": float(film.time_s(b.frame)), "end_time_s": float(film.time_s(b.end_frame))}
            for b in film.boundaries
        ],
    }


def make_film(folder: str | Path, *, seed: int = 0) -> tuple[FilmFile, ...]:
    """Write the demo's dailies, about a minute in nine small files, to a folder, made if need be; return the truth."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_shoot(folder, reel) for reel in _dailies(seed))


@dataclass(frozen=True, slots=True)
class _Reel:
    """How one of the dailies is made.

    width, height   as displayed, bars included
    ticks           frame durations in ticks of the encoding's time base, over and over; None for a fixed rate
    bar_rows        rows of black above and as many below
    copy_of         another reel, whose pictures this one shows at its own, smaller size
    """

    name: str
    width: int
    height: int
    edit: Edit
    encoding: Encoding
    ticks: tuple[int, ...] | None = None
    bar_rows: int = 0
    copy_of: _Reel | None = None


def _shoot(folder: Path, reel: _Reel) -> FilmFile:
    encoding, edit = reel.encoding, reel.edit
    frame_ticks = reel.ticks or (int(1 / encoding.rate / encoding.ticks),)
    pts = list(accumulate(islice(cycle(frame_ticks), edit.frames - 1), initial=0))
    times_s = [float(tick * encoding.ticks) for tick in pts]
    encode_film(folder / reel.name, _pictures(reel, times_s), encoding, pts=pts if reel.ticks else None)
    offset = int(encoding.start_offset_s / encoding.ticks)
    return FilmFile(
        name=reel.name,
        width=reel.width,
        height=reel.height,
        rotation=encoding.rotation_deg,
        codec=encoding.codec,
        rate=None if reel.ticks else encoding.rate,
        time_base=encoding.ticks,
        pts=tuple(offset + tick for tick in pts),
        end_pts=offset + pts[-1] + round(1 / encoding.rate / encoding.ticks),
        edit=edit if reel.copy_of is None else _scaled(edit, reel.width / reel.copy_of.width),
        active_box=(0, reel.bar_rows, reel.width, reel.height - 2 * reel.bar_rows) if reel.bar_rows else None,
        near_duplicate_of=reel.copy_of.name if reel.copy_of else None,
        has_audio=encoding.audio_codec is not None,
    )


def _pictures(reel: _Reel, times_s: list[float]) -> Iterator[Picture]:
    if reel.copy_of is not None:
        for picture in _pictures(reel.copy_of, times_s):
            yield np.asarray(cv2.resize(picture, (reel.width, reel.height), interpolation=cv2.INTER_AREA), np.uint8)
        return
    rows = ((reel.bar_rows, reel.bar_rows), (0, 0), (0, 0))
    for picture in render(reel.edit, reel.width, reel.height - 2 * reel.bar_rows, times_s):
        yield np.pad(picture, rows) if reel.bar_rows else picture


def _scaled(edit: Edit, factor: float) -> Edit:
    """The edit with its speeds in the pixels of a smaller picture."""
    speeds = ("pan_x_px_per_s", "pan_y_px_per_s", "object_x_px_per_s", "object_y_px_per_s")
    specs = (replace(spec, **{name: factor * getattr(spec, name) for name in speeds}) for spec in edit.specs)
    return replace(edit, specs=tuple(specs))


def _dailies(seed: int) -> tuple[_Reel, ...]:
    """One of everything that curation must cope with."""
    edits = _edits(seed)
    copied = Encoding("mpeg4", rate=Fraction(24), bitrate_bps=400_000)
    phone = Encoding("libx265", rate=Fraction(30), preset="ultrafast", rotation_deg=270, audio_codec="aac")
    long_gop = Encoding(rate=NTSC_FILM, gop_frames=90, b_frames=3, open_gop=True, keyframes_at_cuts=False)
    archive = Encoding("libvpx-vp9", rate=Fraction(25), audio_codec="libopus")
    screen = Encoding(rate=Fraction(25), time_base=Fraction(1, 1000))
    late = Encoding(rate=Fraction(24), start_offset_s=Fraction(1, 2))

    def reel(name: str, width: int, height: int, encoding: Encoding, **more: Any) -> _Reel:
        return _Reel(name, width, height, edits[name.partition("_")[0]], encoding, **more)

    harbour = reel("harbour_cuts.mp4", 640, 360, Encoding(rate=Fraction(24), audio_codec="aac"))
    return (
        harbour,
        reel("harbour_copy.mkv", 320, 180, copied, copy_of=harbour),
        reel("valley_dissolves.mp4", 480, 270, Encoding(rate=Fraction(25), b_frames=2, audio_codec="aac")),
        reel("market_fades.mov", 360, 360, Encoding(rate=NTSC, audio_codec="pcm_s16le")),
        reel("street_portrait.mp4", 270, 480, phone),
        reel("plains_long_gop.mp4", 516, 216, long_gop),
        reel("archive_letterbox.webm", 480, 270, archive, bar_rows=34),
        reel("screen_variable_rate.mp4", 384, 216, screen, ticks=(33, 34, 33, 50, 67, 17, 100, 33, 40)),
        reel("night_dark.mp4", 384, 216, late),
    )


def _edits(seed: int) -> dict[str, Edit]:
    """The edits of the dailies by the first word of their names; each scene has a seed of its own."""

    def still(number: int, frames: int, brightness: float = 1.0) -> SceneSpec:
        return SceneSpec(100 * seed + number, frames, brightness=brightness)

    def pan(number: int, frames: int, x: float, y: float = 0.0) -> SceneSpec:
        return SceneSpec(100 * seed + number, frames, pan_x_px_per_s=x, pan_y_px_per_s=y)

    def zoom(number: int, frames: int, per_s: float) -> SceneSpec:
        return SceneSpec(100 * seed + number, frames, zoom_per_s=per_s)

    def mover(number: int, frames: int, x: float, y: float = 0.0) -> SceneSpec:
        return SceneSpec(100 * seed + number, frames, object_x_px_per_s=x, object_y_px_per_s=y)

    very_short, dark = still(3, 9), still(71, 50, brightness=0.05)
    return {
        "harbour": Edit((still(0, 50), pan(1, 60, 48), mover(2, 55, 90, 30), very_short, zoom(4, 48, 1.2)), (CUT,) * 4),
        "valley": Edit(
            (pan(10, 75, -40, 10), zoom(11, 70, 0.85), still(12, 60), mover(13, 60, -80)),
            (Join("dissolve", 12), Join("dissolve", 25), Join("fade", 10)),
        ),
        "market": Edit(
            (mover(20, 70, 60, 60), pan(21, 65, 0, 50), zoom(22, 70, 1.25)), (Join("fade", 12, 6), Join("fade", 15))
        ),
        "street": Edit((pan(30, 70, 45), mover(31, 60, 40, 110), still(32, 50)), (CUT, CUT)),
        "plains": Edit((pan(40, 55, 70), still(41, 60), zoom(42, 62, 1.15), mover(43, 45, 120)), (CUT,) * 3),
        "archive": Edit((still(50, 60), pan(51, 65, -55), zoom(52, 60, 1.1)), (CUT, Join("dissolve", 15))),
        "screen": Edit((mover(60, 60, 70, 40), pan(61, 60, 36), still(62, 40)), (CUT, CUT)),
        "night": Edit((pan(70, 50, 30), dark, mover(72, 50, 60)), (CUT, CUT)),
    }
