"""Scenes of procedural footage, an edit of them, and its pictures. All follows from the seeds of the scenes."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.film_encode import Picture

__all__ = ["Boundary", "Edit", "FilmScene", "Join", "SceneSpec", "render", "scene_painter"]

SceneKind = Literal["still", "object", "pan", "zoom"]
JoinKind = Literal["cut", "dissolve", "fade"]

GOLDEN = 0.6180339887  # steps of it spread hues and tones far apart for neighbouring seeds
TEXTURE_CELLS_PX = (96, 48, 24, 12)  # each divides the first, so that every scale of noise repeats with the texture
SHAPES = 14
OBJECT_RADIUS_OF_SIDE = 0.12
SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """What a scene shows: a texture drawn from `seed`, and at most one kind of motion.

    frames                how long it is to be seen, transitions included
    pan_*_px_per_s        velocity of the camera, right and down; the picture moves the other way
    zoom_per_s            factor by which the picture grows in a second, about its middle
    object_*_px_per_s     velocity of a disc that begins in the middle and bounces off the sides
    brightness            factor on all values; 0 is black
    """

    seed: int
    frames: int
    pan_x_px_per_s: float = 0.0
    pan_y_px_per_s: float = 0.0
    zoom_per_s: float = 1.0
    object_x_px_per_s: float = 0.0
    object_y_px_per_s: float = 0.0
    brightness: float = 1.0

    def __post_init__(self) -> None:
        for field, bad, rule in (
            ("seed", self.seed < 0, "must be 0 or more"),
            ("frames", self.frames < 1, "must be 1 or more"),
            ("zoom_per_s", self.zoom_per_s <= 0, "must be above 0"),
            ("brightness", not 0 <= self.brightness <= 1, "must be from 0 to 1"),
            ("zoom_per_s", sum((self._pans, self._zooms, self._has_object)) > 1, "only one kind of motion in a scene"),
        ):
            if bad:
                raise ValueError(f"{field}={getattr(self, field)}: {rule}")

    @property
    def kind(self) -> SceneKind:
        return "pan" if self._pans else "zoom" if self._zooms else "object" if self._has_object else "still"

    @property
    def _pans(self) -> bool:
        return self.pan_x_px_per_s != 0 or self.pan_y_px_per_s != 0

    @property
    def _zooms(self) -> bool:
        return self.zoom_per_s != 1

    @property
    def _has_object(self) -> bool:
        return self.object_x_px_per_s != 0 or self.object_y_px_per_s != 0


@dataclass(frozen=True, slots=True)
class Join:
    """How a scene follows the one before it.

    frames         dissolve: frames that show both; fade: frames that the old scene fades out over, and the new one in
    black_frames   fade: black frames between the two, besides the darkest frame of either ramp
    """

    kind: JoinKind = "cut"
    frames: int = 0
    black_frames: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("cut", "dissolve", "fade"):
            raise ValueError(f"kind={self.kind!r}: must be cut, dissolve or fade")
        if self.frames < 0 or (self.kind == "cut" and self.frames) or (self.kind == "dissolve" and not self.frames):
            raise ValueError(f"frames={self.frames}: must be 0 for a cut and 1 or more for a dissolve")
        if self.black_frames < 0 or (self.kind != "fade" and self.black_frames):
            raise ValueError(f"black_frames={self.black_frames}: must be 0 or more, and 0 for a {self.kind}")
        if self.kind == "fade" and self.frames + self.black_frames == 0:
            raise ValueError("frames=0: must be 1 or more for a fade without black frames")

    @property
    def step(self) -> int:
        """Frames from the end of the old scene to the start of the new one; negative where they overlap."""
        return -self.frames if self.kind == "dissolve" else self.black_frames


CUT = Join()


@dataclass(frozen=True, slots=True)
class Boundary:
    """A change of scene, as true of the frames in presentation order, counted from 0.

    frame       first frame of the transition; for a cut the first frame of the new scene
    end_frame   first frame where the new picture is complete; for a cut the same frame
    """

    frame: int
    end_frame: int
    kind: JoinKind


@dataclass(frozen=True, slots=True)
class FilmScene:
    """A scene in its place: something of it is in the frames `[start_frame, end_frame)`."""

    spec: SceneSpec
    start_frame: int
    end_frame: int


@dataclass(frozen=True, slots=True)
class Edit:
    """Scenes in their order and the joins between them, one fewer."""

    specs: tuple[SceneSpec, ...]
    joins: tuple[Join, ...] = ()

    def __post_init__(self) -> None:
        if not self.specs or len(self.joins) != len(self.specs) - 1:
            raise ValueError(f"joins={len(self.joins)} of them: must be one fewer than the {len(self.specs)} scenes")
        for spec, before, after in zip(self.specs, (CUT, *self.joins), (*self.joins, CUT), strict=True):
            shared = before.frames + after.frames
            if spec.frames <= shared:
                raise ValueError(f"frames={spec.frames} of a scene: must be more than the {shared} of its joins")

    @property
    def scenes(self) -> tuple[FilmScene, ...]:
        steps = (spec.frames + join.step for spec, join in zip(self.specs, (CUT, *self.joins), strict=True))
        ends = list(accumulate(steps))
        return tuple(FilmScene(spec, end - spec.frames, end) for spec, end in zip(self.specs, ends, strict=True))

    @property
    def frames(self) -> int:
        return self.scenes[-1].end_frame

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        scenes = self.scenes
        return tuple(
            Boundary(old.end_frame - join.frames, new.start_frame + join.frames, join.kind)
            for old, new, join in zip(scenes, scenes[1:], self.joins, strict=False)
        )


def render(edit: Edit, width: int, height: int, times_s: Iterable[float]) -> Iterator[Picture]:
    """Paint each frame of the edit for its time. The pictures are for reading only: a still scene gives the same again.

    `times_s` rises and has at least as many values as the edit has frames; motion follows it, so that a variable rate
    changes no speed. Only the scenes that are to be seen in a frame are held, whatever the length.
    """
    scenes, first = edit.scenes, 0
    joins = (CUT, *edit.joins, CUT)
    begun: dict[int, tuple[Callable[[float], Picture], float]] = {}
    for frame, time_s in enumerate(islice(times_s, edit.frames)):
        while scenes[first].end_frame <= frame:
            first += 1
        seen = [i for i in (first, first + 1) if i < len(scenes) and scenes[i].start_frame <= frame]
        begun = {i: begun.get(i) or (scene_painter(scenes[i].spec, width, height), time_s) for i in seen}
        parts = [
            (paint(time_s - start_s), _weight(scenes[i], joins[i], joins[i + 1], frame))
            for i, (paint, start_s) in begun.items()
        ]
        yield _blend(parts, width, height)


def _weight(scene: FilmScene, before: Join, after: Join, frame: int) -> float:
    """Share of a scene in a frame: dissolves never reach 0 or 1, a fade's darkest frames are black."""
    frames_since_start, frames_to_end = frame - scene.start_frame, scene.end_frame - frame
    if frames_since_start < before.frames:
        dissolve = before.kind == "dissolve"
        return (frames_since_start + dissolve) / (before.frames + dissolve)
    if frames_to_end <= after.frames:
        dissolve = after.kind == "dissolve"
        return (frames_to_end - 1 + dissolve) / (after.frames + dissolve)
    return 1.0


def _blend(parts: list[tuple[Picture, float]], width: int, height: int) -> Picture:
    match parts:
        case []:
            return np.zeros((height, width, 3), np.uint8)
        case [(picture, weight)]:
            return picture if weight == 1.0 else np.asarray(cv2.convertScaleAbs(picture, alpha=weight), np.uint8)
        case _:
            (old, old_weight), (new, new_weight) = parts
            return np.asarray(cv2.addWeighted(old, old_weight, new, new_weight, 0.0), np.uint8)


def scene_painter(spec: SceneSpec, width: int, height: int) -> Callable[[float], Picture]:
    """A function from the seconds since the scene began to its picture, without transitions."""
    texture = np.asarray(cv2.convertScaleAbs(_texture(spec.seed, width, height), alpha=spec.brightness), np.uint8)
    corner = np.array([texture.shape[1] - width, texture.shape[0] - height]) // 2

    def view(time_s: float) -> Picture:
        scale = spec.zoom_per_s**time_s
        middle = np.array([width - 1, height - 1]) / 2
        moved = corner + np.array([spec.pan_x_px_per_s, spec.pan_y_px_per_s]) * time_s
        offset = moved % (texture.shape[1], texture.shape[0]) + middle - middle / scale
        matrix = np.array([[1 / scale, 0, offset[0]], [0, 1 / scale, offset[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        picture = cv2.warpAffine(texture, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP)
        return np.asarray(picture, np.uint8)

    if spec.kind in ("pan", "zoom"):
        return view
    still = view(0.0)
    still.setflags(write=False)
    if spec.kind == "still":
        return lambda time_s: still
    return lambda time_s: _with_object(still, spec, time_s)


def _with_object(still: Picture, spec: SceneSpec, time_s: float) -> Picture:
    height, width = still.shape[:2]
    radius = OBJECT_RADIUS_OF_SIDE * min(width, height)
    x = _bounce(width / 2 + spec.object_x_px_per_s * time_s, radius, width - radius)
    y = _bounce(height / 2 + spec.object_y_px_per_s * time_s, radius, height - radius)
    unit = 1 << SUBPIXEL_BITS
    centre = (round(x * unit), round(y * unit))
    picture = still.copy()
    for part, hue, value in ((1.0, 0.5, 1.0), (0.5, 0.0, 0.25)):
        colour = [c * spec.brightness for c in _colour(spec.seed, hue, 0.9, value)]
        cv2.circle(picture, centre, round(part * radius * unit), colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return picture


def _bounce(position: float, low: float, high: float) -> float:
    within = (position - low) % (2 * (high - low))
    return low + min(within, 2 * (high - low) - within)


def _colour(seed: int, hue: float, saturation: float, value: float) -> list[float]:
    return [255 * c for c in colorsys.hsv_to_rgb((seed * GOLDEN + hue) % 1, saturation, value)]


def _texture(seed: int, width: int, height: int) -> Picture:
    """Smooth noise and shapes in the seed's own colours, twice the picture's size; it repeats without a seam."""
    rng = np.random.default_rng(seed)
    period = TEXTURE_CELLS_PX[0]
    columns, rows = (-(-2 * side // period) * period for side in (width, height))
    tone = 0.35 + 0.4 * (seed * GOLDEN * GOLDEN % 1)
    dark, light = _colour(seed, 0.0, 0.75, tone - 0.2), _colour(seed, 0.12, 0.45, min(1.0, tone + 0.25))
    noise = _noise(rng, columns, rows)
    turns = rng.integers(1, 5, 2) * rng.choice([-1, 1], 2)
    phase = turns[0] * np.arange(columns)[None] / columns + turns[1] * np.arange(rows)[:, None] / rows
    share = (0.7 * noise + 0.3 * (0.5 + 0.5 * np.sin(2 * np.pi * phase)))[..., None]
    picture = (np.array(dark) + share * (np.array(light) - dark)).clip(0, 255).astype(np.uint8)
    _draw_shapes(picture, rng, seed)
    grain = 0.75 + 0.5 * _noise(rng, columns, rows)[..., None]
    return (picture * grain).clip(0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, columns: int, rows: int) -> NDArray[np.float64]:
    """Values around 0.5, mostly from 0 to 1, shape (rows, columns), the large scales the strongest."""
    total = np.zeros((rows, columns))
    for cell in TEXTURE_CELLS_PX:
        grid = np.pad(rng.random((rows // cell, columns // cell)), 2, mode="wrap")
        smooth = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
        total += (smooth[2 * cell : -2 * cell, 2 * cell : -2 * cell] - 0.5) * (cell / TEXTURE_CELLS_PX[0]) ** 0.5
    return 0.5 + total / 2


def _draw_shapes(picture: Picture, rng: np.random.Generator, seed: int) -> None:
    """Discs, boxes and triangles that do not cross the border, where the texture repeats."""
    rows, columns = picture.shape[:2]
    largest = min(rows, columns) // 8
    for index in range(SHAPES):
        size = int(rng.integers(largest // 3 + 1, largest + 2))
        x, y = int(rng.integers(size, columns - size)), int(rng.integers(size, rows - size))
        hue, saturation, value = rng.choice([0.08, 0.33, 0.5]), rng.uniform(0.3, 0.9), rng.uniform(0.2, 1)
        colour = _colour(seed, float(hue), float(saturation), float(value))
        corners = np.array([[x - size, y + size], [x + size, y + size], [x, y - size]])
        match (index + seed) % 3:
            case 0:
                cv2.circle(picture, (x, y), size, colour, -1, cv2.LINE_AA)
            case 1:
                cv2.rectangle(picture, (x - size, y - size // 2), (x + size, y + size // 2), colour, -1)
            case _:
                cv2.fillConvexPoly(picture, corners, colour, cv2.LINE_AA)
