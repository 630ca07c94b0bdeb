"""Which size a clip is trained at, against every size that there is; which size covers what was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf, log, nan
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from trainer.geometry import Asked, Compression, FitConfig, Geometry, fit

RATE = Fraction(24)
WAN, LTX, PAIRS, PIXELS = Compression(), Compression(8, 32, 1, 1), Compression(4, 8, 2, 2), Compression(1, 1, 1, 1)
ALL = 10**9

ROWS: list[tuple[tuple[int, int, int], Compression, FitConfig, tuple[int, int, int] | None]] = [
    # frames, height, width, of what is shown; budget; the same of what is trained on
    ((1, 64, 64), WAN, FitConfig(ALL), (1, 64, 64)),
    ((1, 64, 64), WAN, FitConfig(16), (1, 64, 64)),
    ((1, 64, 64), WAN, FitConfig(15), None),  # the shorter side would be below 64 pixels
    ((1, 64, 64), WAN, FitConfig(15, min_side_px=48), (1, 48, 48)),
    ((1, 63, 63), WAN, FitConfig(ALL), (1, 48, 48)),
    ((1, 15, 640), WAN, FitConfig(ALL), None),  # no token high
    ((1, 640, 15), WAN, FitConfig(ALL), None),
    ((1, 16, 26), WAN, FitConfig(1), (1, 16, 16)),  # 1:1 is what there is
    ((1, 26, 16), WAN, FitConfig(1), (1, 16, 16)),
    ((1, 1080, 1920), WAN, FitConfig(ALL), (1, 1072, 1920)),
    ((1, 1920, 1080), WAN, FitConfig(ALL), (1, 1920, 1072)),
    ((1, 1080, 1920), WAN, FitConfig(576), (1, 288, 512)),
    ((1, 1080, 1920), WAN, FitConfig(575), (1, 272, 496)),
    ((1, 1000, 1370), WAN, FitConfig(20), (1, 64, 80)),  # 48 by 64 is nearer in aspect, and below 64
    ((1, 1000, 1370), WAN, FitConfig(20, min_side_px=48), (1, 48, 64)),
    ((1, 1000, 1000), WAN, FitConfig(24, min_side_px=70), None),  # 80 pixels are the least that 70 allow
    ((1, 1000, 1000), WAN, FitConfig(25, min_side_px=70), (1, 80, 80)),
    ((17, 64, 64), WAN, FitConfig(ALL), (17, 64, 64)),
    ((20, 64, 64), WAN, FitConfig(ALL), (17, 64, 64)),
    ((21, 64, 64), WAN, FitConfig(ALL), (21, 64, 64)),
    ((4, 64, 64), WAN, FitConfig(ALL), (1, 64, 64)),
    ((17, 64, 64), WAN, FitConfig(79), (13, 64, 64)),  # five latent frames of 16 tokens do not fit
    ((17, 128, 128), WAN, FitConfig(5 * 64), (17, 128, 128)),
    ((17, 128, 128), WAN, FitConfig(5 * 49), (17, 112, 112)),
    ((17, 64, 64), WAN, FitConfig(ALL, max_frames=12), (9, 64, 64)),
    ((17, 64, 64), WAN, FitConfig(ALL, max_frames=17), (17, 64, 64)),
    ((17, 64, 64), LTX, FitConfig(ALL), (17, 64, 64)),
    ((16, 95, 96), LTX, FitConfig(ALL), (9, 64, 64)),
    ((1, 64, 64), PAIRS, FitConfig(ALL), None),  # an image is no pair of latent frames
    ((4, 64, 64), PAIRS, FitConfig(ALL), None),
    ((5, 64, 64), PAIRS, FitConfig(ALL), (5, 64, 64)),
    ((12, 64, 64), PAIRS, FitConfig(ALL), (5, 64, 64)),
    ((13, 64, 64), PAIRS, FitConfig(ALL), (13, 64, 64)),
    ((7, 3, 5), PIXELS, FitConfig(ALL), (7, 3, 5)),
    ((7, 3, 5), PIXELS, FitConfig(104), (6, 3, 5)),
]


@pytest.mark.parametrize(("shown", "compression", "config", "answer"), ROWS)
def test_sizes(
    shown: tuple[int, int, int], compression: Compression, config: FitConfig, answer: tuple[int, int, int] | None
) -> None:
    found = fit(*shown, RATE, compression, config)
    assert (found and (found.frames, found.height, found.width)) == answer
    assert found is None or (found.rate, found.compression) == (RATE, compression)


@dataclass(frozen=True, slots=True)
class Shown:
    frames: int
    height: int
    width: int
    compression: Compression

    def at(self, config: FitConfig) -> Geometry | None:
        return fit(self.frames, self.height, self.width, RATE, self.compression, config)

    @property
    def most(self) -> tuple[int, int]:
        unit = self.compression.unit_px
        return self.height // unit, self.width // unit

    def least_side(self, config: FitConfig) -> int:
        """In tokens: what is given, or all of a smaller clip."""
        return max(1, min(-(-config.min_side_px // self.compression.unit_px), *self.most))

    def aspect_error(self, rows: int, columns: int) -> float:
        return abs(log(columns / rows) - log(self.width / self.height))

    def choices(self, config: FitConfig, cells: int) -> list[tuple[int, int]]:
        """All rows and columns that are allowed."""
        least = self.least_side(config)
        ranges = (range(least, most + 1) for most in self.most)
        return [(rows, columns) for rows, columns in product(*ranges) if rows * columns <= cells]


SHOWN = st.builds(
    Shown,
    st.integers(1, 90),
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([WAN, LTX, PAIRS, Compression(4, 8, 1, 1)]),
)
CONFIGS = st.builds(
    FitConfig, st.integers(1, 3000), st.integers(1, 130), st.sampled_from([0.0, 0.03, 0.1]), st.sampled_from([0, 1, 30])
)


@settings(max_examples=400)
@given(SHOWN, CONFIGS)
def test_within_the_clip_and_the_budget_and_as_large_as_the_aspect_allows(shown: Shown, config: FitConfig) -> None:
    found = shown.at(config)
    most_frames = shown.compression.whole_frames(min(shown.frames, config.max_frames or shown.frames))
    if found is None:
        event("too small or too long")
        least = shown.least_side(config)
        fits = [c for c in shown.choices(config, config.max_tokens) if least in c and shown.aspect_error(*c) < 1e-9]
        assert not most_frames or not min(shown.most) or not fits
        return
    _, rows, columns = found.grid
    slices = found.grid[0]
    assert found.tokens <= config.max_tokens
    assert (found.frames <= most_frames, found.height <= shown.height, found.width <= shown.width) == (True,) * 3
    assert min(rows, columns) >= shown.least_side(config)
    choices = shown.choices(config, config.max_tokens // slices)
    assert (rows, columns) in choices
    limit = log(1 + config.max_aspect_error)
    near = [c for c in choices if shown.aspect_error(*c) <= limit - 1e-9]
    if near:
        event("near in aspect")
        assert shown.aspect_error(rows, columns) <= limit + 1e-9
        assert rows * columns >= max(r * c for r, c in near)
    elif shown.aspect_error(rows, columns) <= limit + 1e-9:
        event("at the limit, to rounding")
    else:
        event("no choice")
        assert shown.aspect_error(rows, columns) <= min(shown.aspect_error(*c) for c in choices) + 1e-9


@settings(max_examples=400)
@given(SHOWN, CONFIGS)
def test_no_frame_is_left_out_that_there_is_room_for(shown: Shown, config: FitConfig) -> None:
    found = shown.at(config)
    assume(found is not None)
    assert found is not None
    c = shown.compression
    left = min(shown.frames, config.max_frames or shown.frames) - found.frames
    assert left >= 0
    if left < c.ratio_time * c.patch_time:
        event("all")
        return
    event("cut")  # one slice more does not fit at the least size that is allowed, about at the clip's own aspect
    least = shown.least_side(config)
    longer = least * max(shown.height, shown.width) // min(shown.height, shown.width)
    assert (found.grid[0] + 1) * least * longer > config.max_tokens


@settings(max_examples=300)
@given(SHOWN, CONFIGS, st.integers(1, 500))
def test_more_budget_never_gives_less(shown: Shown, config: FitConfig, more: int) -> None:
    first = shown.at(config)
    assume(first is not None)
    other = shown.at(
        FitConfig(config.max_tokens + more, config.min_side_px, config.max_aspect_error, config.max_frames)
    )
    assert first is not None
    assert other is not None
    assert other.frames >= first.frames
    if other.frames == first.frames:
        assert other.tokens >= first.tokens


@settings(max_examples=300)
@given(SHOWN, CONFIGS)
def test_a_clip_twice_as_large_or_longer_never_gets_less(shown: Shown, config: FitConfig) -> None:
    first = shown.at(config)
    assume(first is not None and shown.least_side(config) * shown.compression.unit_px >= config.min_side_px)
    larger = Shown(shown.frames, 2 * shown.height, 2 * shown.width, shown.compression).at(config)
    longer = Shown(shown.frames + 40, shown.height, shown.width, shown.compression).at(config)
    assert first is not None
    assert larger is not None
    assert longer is not None
    assert longer.frames >= first.frames
    if larger.frames == first.frames:
        assert larger.tokens >= first.tokens


@settings(max_examples=200)
@given(SHOWN, CONFIGS)
def test_a_clip_on_its_side_uses_as_much(shown: Shown, config: FitConfig) -> None:
    turned = Shown(shown.frames, shown.width, shown.height, shown.compression)
    first, other = shown.at(config), turned.at(config)
    assert (first is None) == (other is None)
    if first and other:
        assert first.frames == other.frames
        assert first.tokens == other.tokens or config.max_aspect_error == 0  # then it is a matter of rounding


def test_sizes_in_latent_cells_and_tokens() -> None:
    for geometry, latent, grid in (
        (Geometry(1, 32, 64, RATE), (1, 4, 8), (1, 2, 4)),
        (Geometry(17, 32, 64, RATE), (5, 4, 8), (5, 2, 4)),
        (Geometry(17, 32, 64, RATE, LTX), (3, 1, 2), (3, 1, 2)),
        (Geometry(13, 32, 64, RATE, PAIRS), (4, 4, 8), (2, 2, 4)),
    ):
        assert (geometry.latent_size, geometry.grid) == (latent, grid)
        assert geometry.tokens == grid[0] * grid[1] * grid[2]
    assert Geometry(49, 32, 32, Fraction(24000, 1001)).seconds == pytest.approx(49 * 1001 / 24000)


@given(st.integers(1, 500), st.sampled_from([WAN, LTX, PAIRS, PIXELS]))
def test_whole_frames_are_the_most_that_a_geometry_takes(frames: int, c: Compression) -> None:
    def is_taken(n: int) -> bool:
        try:
            Geometry(n, c.unit_px, c.unit_px, RATE, c)
        except ValueError:
            return False
        return True

    assert c.whole_frames(frames) == max((n for n in range(1, frames + 1) if is_taken(n)), default=0)


ASKED = [
    # width, height, seconds, rate; frames, and frames, height, width of what is sampled
    (Asked(1920, 1080, 0, RATE), 1, (1, 1088, 1920)),
    (Asked(1, 1, 0, RATE), 1, (1, 16, 16)),
    (Asked(64, 64, 1 / 24, RATE), 1, (1, 64, 64)),
    (Asked(64, 64, 2 / 24, RATE), 2, (5, 64, 64)),
    (Asked(64, 64, 5 / 24, RATE), 5, (5, 64, 64)),
    (Asked(64, 65, 0.01, RATE), 1, (1, 80, 64)),
    (Asked(1080, 1920, 60, Fraction(30)), 1800, (1801, 1920, 1088)),
    (Asked(64, 64, 1.001, Fraction(24000, 1001)), 24, (25, 64, 64)),
]


@pytest.mark.parametrize(("asked", "frames", "answer"), ASKED)
def test_what_is_asked_for(asked: Asked, frames: int, answer: tuple[int, int, int]) -> None:
    found = asked.covered(WAN)
    assert asked.frames == frames
    assert (found.frames, found.height, found.width, found.rate) == (*answer, asked.rate)


@settings(max_examples=300)
@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.floats(0, 100),
    st.sampled_from([WAN, LTX, PAIRS, PIXELS, Compression(8, 16)]),
)
def test_what_covers_it_is_the_least_that_does(width: int, height: int, seconds: float, c: Compression) -> None:
    asked = Asked(width, height, seconds, Fraction(30000, 1001))
    found = asked.covered(c)
    for has, wanted, step in (
        (found.frames, asked.frames, c.ratio_time * c.patch_time),
        (found.height, height, c.unit_px),
        (found.width, width, c.unit_px),
    ):
        assert has >= wanted
        assert has - step < wanted


REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (Compression, {"ratio_time": 0}, "ratio_time=0: must be at least 1"),
    (Compression, {"ratio_space": -1}, "ratio_space=-1: must be at least 1"),
    (Compression, {"patch_time": 0}, "patch_time=0: must be at least 1"),
    (Compression, {"patch_space": 0}, "patch_space=0: must be at least 1"),
    (Geometry, {"frames": 0}, "frames=0: must be above 0"),
    (Geometry, {"frames": 2}, "frames=2: must be 1 and a multiple of 4 more"),
    (Geometry, {"frames": 9, "compression": PAIRS}, "frames=9: must be 5 and a multiple of 8 more"),
    (Geometry, {"height": 0}, "height=0: must be above 0"),
    (Geometry, {"height": 24}, "height=24: must be a multiple of 16 pixels"),
    (Geometry, {"width": 8}, "width=8: must be a multiple of 16 pixels"),
    (Geometry, {"rate": Fraction(0)}, "rate=0: must be above 0"),
    (Asked, {"width": 0}, "width=0: must be above 0"),
    (Asked, {"height": -1}, "height=-1: must be above 0"),
    (Asked, {"seconds": -0.1}, "seconds=-0.1: must be from 0 on and finite"),
    (Asked, {"seconds": inf}, "seconds=inf: must be from 0 on and finite"),
    (Asked, {"seconds": nan}, "seconds=nan: must be from 0 on and finite"),
    (Asked, {"rate": Fraction(-1)}, "rate=-1: must be above 0"),
    (FitConfig, {"max_tokens": 0}, "max_tokens=0: must be above 0"),
    (FitConfig, {"min_side_px": 0}, "min_side_px=0: must be above 0"),
    (FitConfig, {"max_aspect_error": 1.0}, "max_aspect_error=1.0: must be from 0 on and below 1"),
    (FitConfig, {"max_aspect_error": nan}, "max_aspect_error=nan: must be from 0 on and below 1"),
    (FitConfig, {"max_frames": -1}, "max_frames=-1: must be at least 0"),
]
POSSIBLE: dict[type, dict[str, Any]] = {
    Compression: {},
    Geometry: {"frames": 5, "height": 32, "width": 32, "rate": RATE},
    Asked: {"width": 5, "height": 5, "seconds": 1.0, "rate": RATE},
    FitConfig: {"max_tokens": 5},
}


@pytest.mark.parametrize(("kind", "changed", "message"), REFUSED)
def test_impossible_sizes_are_refused(kind: type, changed: dict[str, Any], message: str) -> None:
    kind(**POSSIBLE[kind])
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**POSSIBLE[kind] | changed)


@pytest.mark.parametrize("name", ["frames", "height", "width", "rate"])
def test_a_clip_of_nothing_is_refused(name: str) -> None:
    shown: dict[str, Any] = {"frames": 5, "height": 64, "width": 64, "rate": RATE}
    assert fit(**shown, compression=WAN, config=FitConfig(ALL)) is not None
    shown[name] = 0
    with pytest.raises(ValueError, match=f"{name}=0: must be above 0"):
        fit(**shown, compression=WAN, config=FitConfig(ALL))


@pytest.mark.parametrize(("height", "width"), [(1080, 1920), (1920, 1080), (480, 480)])
def test_the_arm_with_a_crop_is_a_square(height: int, width: int) -> None:
    native, crop = (
        fit(49, height, width, Fraction(24), Compression(), FitConfig(4096, square_crop=c)) for c in (False, True)
    )
    assert native is not None
    assert crop is not None
    assert crop.height == crop.width <= min(height, width)
    assert (native.width > native.height) == (width > height)
    assert abs(crop.tokens / native.tokens - 1) < 0.1  # the arms are to cost the same
