"""Cases for the scores of colours, borders, text and overlays: procedural footage, and what each score must say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.picture_footage import (
    HEIGHT,
    WIDTH,
    captioned,
    cartoon,
    encoded,
    halves,
    line,
    logoed,
    measured,
    night,
    panning,
    spotlight,
    textures,
    ticker,
    tripod,
)
from benchmarks.score_case import CaseMaker, Check, ScoreCase, is_exactly, near
from curation.colors import color_name
from curation.film_titles import Title, bordered, titled
from curation.measured import Measured
from curation.scores import SCORES

__all__ = ["CASES", "border_cases", "color_cases", "overlay_cases", "under_bars"]

RGB = NDArray[np.uint8]
Way = Callable[[Iterable[RGB]], Measured]

LOW_BITRATE_BPS = 250_000  # of 640x360 at 12 pictures a second: blocks and ringing are plain to see
TONES = (
    ("red", (200, 20, 30)),
    ("green", (40, 150, 50)),
    ("blue", (40, 80, 200)),
    ("yellow", (240, 215, 30)),
    ("gray", (128, 128, 128)),
    ("black", (5, 5, 5)),
    ("purple", (120, 20, 140)),
    ("brown", (120, 70, 30)),
)
BLACK, WHITE, BLUE, RED, GRAY = (0, 0, 0), (255, 255, 255), (20, 40, 160), (170, 20, 20), (128, 128, 128)
BOX = "active_*_px"
OF = {score.column: score.of for score in SCORES}

# Colours of CSS whose name ends in a basic one, as its authors saw them: https://www.w3.org/TR/css-color-4/#named-colors
CSS_COLORS = {
    "red": (0xFF0000, 0x8B0000, 0xCD5C5C),
    "orange": (0xFFA500, 0xFF8C00),
    "yellow": (0xFFFF00,),
    "green": (0x008000, 0x006400, 0x90EE90, 0x98FB98, 0x228B22, 0x32CD32, 0x2E8B57, 0x00FF7F, 0x556B2F, 0x7CFC00),
    "cyan": (0x00FFFF, 0x008B8B, 0x40E0D0, 0x00CED1, 0x008080),
    "blue": (0x0000FF, 0x00008B, 0x0000CD, 0xADD8E6, 0x87CEEB, 0x4169E1, 0x4682B4, 0x6495ED, 0x191970, 0x00BFFF),
    "purple": (0x800080, 0x9370DB, 0x663399, 0x8A2BE2, 0x9932CC, 0x9400D3),
    "pink": (0xFFC0CB, 0xFFB6C1, 0xFF69B4, 0xFF1493, 0xDB7093),
    "brown": (0xA52A2A, 0x8B4513, 0xA0522D),
    "gray": (0x808080, 0xA9A9A9, 0xD3D3D3, 0x696969, 0x708090, 0x2F4F4F),
    "white": (0xFFFFFF, 0xF5F5F5, 0xFFFAFA, 0xF8F8FF),
    "black": (0x000000,),
}


@dataclass(frozen=True)
class PictureCase:
    """A clip, and what scores must say of it; `active_*_px` stands for the four columns of the active picture."""

    name: str
    pictures: Callable[[], Iterable[RGB]]
    checks: Mapping[str, Check]
    way: Way = measured

    @cached_property
    def clip(self) -> Measured:
        return self.way(self.pictures())

    def value(self, score: str) -> Any:
        if score != BOX:
            return OF[score](self.clip)
        return [OF[f"active_{side}_px"](self.clip) for side in ("x", "y", "width", "height")]

    def score_cases(self) -> Iterator[ScoreCase]:
        for score, is_right in self.checks.items():
            yield ScoreCase(score, self.name, partial(self.value, score), is_right)


def color_names(seed: int) -> Iterator[ScoreCase]:
    """Not of a seed: the same for all."""
    for name, colors in CSS_COLORS.items() if seed == 0 else ():
        for rgb in colors:
            bgr = np.array([rgb & 255, rgb >> 8 & 255, rgb >> 16], np.uint8)
            yield ScoreCase("color names", f"#{rgb:06x}", partial(color_name, bgr), is_exactly(name))


def of_pictures(cases: Callable[[int], Iterable[PictureCase]]) -> CaseMaker:
    return lambda seed: (case for picture_case in cases(seed) for case in picture_case.score_cases())


def within(low: float, high: float) -> Check:
    return lambda value: isinstance(value, int | float) and low <= value <= high


def box(left: int, top: int, right: int, bottom: int) -> Check:
    """The picture within so many border pixels at each side, each edge within 2 px."""

    def is_near(value: object) -> bool:
        if not isinstance(value, list) or None in value:
            return False
        x, y, width, height = value
        edges = np.array([x, y, WIDTH - x - width, HEIGHT - y - height])
        return bool(np.abs(edges - [left, top, right, bottom]).max() <= 2)

    return is_near


WHOLE = {BOX: box(0, 0, 0, 0), "border_color": is_exactly(None)}


def border_cases(seed: int) -> list[PictureCase]:
    def framed(rows: tuple[int, int], columns: tuple[int, int], color: tuple[int, int, int]) -> Iterator[RGB]:
        inner = panning(seed, WIDTH - sum(columns), HEIGHT - sum(rows))
        return (bordered(picture, rows, columns, color) for picture in inner)

    def case(name: str, sides: tuple[int, int, int, int], color: tuple[int, int, int], said: str) -> PictureCase:
        left, top, right, bottom = sides
        pictures = partial(framed, (top, bottom), (left, right), color)
        return PictureCase(name, pictures, {BOX: box(*sides), "border_color": is_exactly(said)})

    starved = partial(encoded, bitrate_bps=LOW_BITRATE_BPS)
    subtitled = partial(under_bars, seed)
    captions = {BOX: box(0, 46, 0, 46), "border_color": is_exactly("black")}
    ticking = {BOX: box(0, 0, 0, 40), "caption_band_share": near(40 / HEIGHT, 0.01)}
    with_ticker = partial(ticker_below, seed)
    cases = [
        case("letterbox", (0, 46, 0, 46), BLACK, "black"),
        case("pillarbox", (80, 0, 80, 0), BLACK, "black"),
        case("windowbox", (64, 36, 64, 36), BLACK, "black"),
        case("black, unequal", (70, 30, 20, 44), BLACK, "black"),
        case("white frame", (40, 24, 40, 24), WHITE, "white"),
        case("blue pillars", (81, 0, 81, 0), BLUE, "blue"),
        case("gray letterbox", (0, 33, 0, 33), GRAY, "gray"),
        PictureCase("captions in the letterbox", subtitled, captions),
        PictureCase("ticker in a red bar", with_ticker, ticking),
        PictureCase("captions in the letterbox, starved", subtitled, captions, starved),
        PictureCase("ticker in a red bar, starved", with_ticker, {BOX: box(0, 0, 0, 40)}, starved),
        PictureCase("no border", partial(panning, seed), WHOLE),
        PictureCase("dark picture", partial(panning, seed, brightness=0.3), WHOLE),
        PictureCase("night", partial(night, seed), WHOLE),
        PictureCase("cartoon on white", partial(cartoon, seed), WHOLE),
        PictureCase("cartoon on black", partial(cartoon, seed, BLACK), WHOLE),
        PictureCase("spotlight", partial(spotlight, seed), WHOLE),
        PictureCase("flat sky", partial(flat_sky, seed), WHOLE),
        PictureCase("title card", partial(card, seed), WHOLE),
        PictureCase("night, starved", partial(night, seed), WHOLE, starved),
    ]
    letterbox, white = cases[0], cases[4]
    starved_cases = [
        PictureCase(f"{c.name}, starved", c.pictures, {BOX: c.checks[BOX]}, starved) for c in (letterbox, white)
    ]
    return cases + starved_cases


def under_bars(seed: int) -> Iterator[RGB]:
    """Black bars of 46 rows, subtitles in the lower one, none in the first and last second."""
    for index, picture in enumerate(panning(seed, WIDTH, HEIGHT - 92)):
        drawn = bordered(picture, (46, 46), (0, 0), BLACK)
        if 2 <= index < 6:
            drawn = captioned([drawn], seed + index // 2, middle=0.935)[0][0]
        yield drawn


def ticker_below(seed: int) -> Iterator[RGB]:
    return ticker(panning(seed, WIDTH, HEIGHT - 40), seed, 40, RED)


def flat_sky(seed: int) -> Iterator[RGB]:
    """The upper part is one colour down to a straight horizon."""
    for picture in panning(seed):
        drawn = picture.copy()
        drawn[: 120 + 5 * seed] = (150, 190, 235)
        yield drawn


def card(seed: int) -> Iterator[RGB]:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return iter(captioned([black] * 8, seed, middle=0.5, changes=False, cap_share=0.08)[0])


def overlay_cases(seed: int) -> list[PictureCase]:
    def plain(name: str, footage: Callable[[], Iterable[RGB]], overlay: Check, way: Way = measured) -> PictureCase:
        none = within(0, 0.005)
        return PictureCase(
            name, footage, {"text_share": none, "caption_band_share": none, "overlay_share": overlay}, way
        )

    def written(name: str, cap: float, middle: float, *, starve: bool = False, changes: bool = True) -> PictureCase:
        pictures, share = captioned(panning(seed), seed, middle=middle, changes=changes, cap_share=cap)
        checks = {"text_share": within(0.4 * share, 2.5 * share)}
        band = 1 - middle + cap / 2
        checks["caption_band_share"] = near(band, 0.03) if middle > 0.8 else is_exactly(0)
        if not changes:
            checks["overlay_share"] = within(0.4 * share, 2.5 * share)
        way = partial(encoded, bitrate_bps=LOW_BITRATE_BPS) if starve else measured
        return PictureCase(name, lambda: pictures, checks, way)

    def marked(name: str, opacity: float, way: Way = measured) -> PictureCase:
        pictures, share = logoed(panning(seed), seed, opacity)
        return PictureCase(name, lambda: pictures, {"overlay_share": within(0.4 * share, 2 * share)}, way)

    starved = partial(encoded, bitrate_bps=LOW_BITRATE_BPS)
    a_page, written_share = page(seed)
    return [
        plain("a pan", partial(panning, seed), within(0, 0.01)),
        plain("a pan, starved", partial(panning, seed), within(0, 0.01), starved),
        plain("a tripod", partial(tripod, seed), is_exactly(None)),
        plain("a cartoon", partial(cartoon, seed), is_exactly(None)),
        PictureCase("texture", partial(textures, seed), {"text_share": within(0, 0.01)}),
        written("subtitles", 0.045, 0.9),
        written("small subtitles", 0.035, 0.93),
        written("subtitles, starved", 0.045, 0.9, starve=True),
        written("a caption that stays", 0.05, 0.88, changes=False),
        written("a title in the middle", 0.1, 0.45),
        PictureCase(
            "subtitles, camera still", partial(still_with_subtitles, seed), {"caption_band_share": is_exactly(None)}
        ),
        PictureCase("a page of text", lambda: a_page, {"text_share": within(0.4 * written_share, 2.5 * written_share)}),
        marked("a logo", 1.0),
        marked("a logo, starved", 1.0, starved),
        marked("a watermark", 0.4),
    ]


def still_with_subtitles(seed: int) -> list[RGB]:
    return captioned(tripod(seed), seed)[0]


def page(seed: int) -> tuple[list[RGB], float]:
    """Eight lines of black on white, as a slide has them, and the share that they cover."""
    picture, share = np.full((HEIGHT, WIDTH, 3), 250, np.uint8), 0.0
    for row in range(8):
        title = Title(line(seed, row), (0.5, 0.12 + 0.11 * row), 0.04, (10, 10, 10), 0, seed % 4)
        picture, covered = titled(picture, title)
        share += float(covered.mean())
    return [picture] * 3, share


def color_cases(seed: int) -> Iterator[PictureCase]:
    tones = np.random.default_rng(seed).permutation(len(TONES))[:2]
    (first, left), (second, right) = (TONES[i] for i in tones)
    share = 0.55 + 0.05 * (seed % 6)
    yield PictureCase("two halves", halves(left, right, share), {"dominant_colors": is_exactly([first, second])})
    yield PictureCase("a twentieth", halves(left, right, 0.95), {"dominant_colors": is_exactly([first])})
    framed = partial(in_frame, halves(left, right, share))
    yield PictureCase("two halves in white pillars", framed, {"dominant_colors": is_exactly([first, second])})
    value = 40 + 30 * (seed % 6)
    gray = (value, value, value)
    gray_checks = {"saturation_share": near(0, 0.02), "colorfulness": near(0, 2), "contrast_levels": near(0, 2)}
    yield PictureCase("gray", halves(gray, gray, 1.0), gray_checks)
    lighter = (60 + value // 2, 60 + value // 2, 60 + value // 2)
    yield PictureCase("steps", halves((60, 60, 60), lighter, 0.5), {"contrast_levels": near(value / 2, 4)})
    dyed = (value, value // 2, value // 4)
    yield PictureCase("one colour", halves(dyed, dyed, 1.0), {"saturation_share": near(0.75, 0.05)})
    yield PictureCase("red and cyan", halves((200, 40, 40), (40, 160, 160), 0.5), {"colorfulness": near(RED_CYAN, 6)})


# By equation 3 of Hasler and Süsstrunk: rg is 160 and -120, yb 80 and -60, half of the picture each.
RED_CYAN = float(np.hypot(140, 70) + 0.3 * np.hypot(20, 10))


def in_frame(pictures: Callable[[], Iterable[RGB]]) -> Iterator[RGB]:
    for picture in pictures():
        small = np.asarray(cv2.resize(picture, (WIDTH - 200, HEIGHT)), np.uint8)
        small[: HEIGHT // 2, -12:], small[HEIGHT // 2 :, :12] = 90, 90  # else a flat half would be border as well
        yield bordered(small, (0, 0), (100, 100), WHITE)


CASES: tuple[CaseMaker, ...] = (
    color_names,
    of_pictures(color_cases),
    of_pictures(border_cases),
    of_pictures(overlay_cases),
)
