"""Windows: the parts of a clip that are shown to a captioner, one in a request, and when frames are shown of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, inf
from typing import Any, Literal

__all__ = ["Window", "WindowConfig", "sample_times_s", "windows_of"]

MAX_FRAMES = 768  # of a window; what video models of today are trained with at most
LEAST_WINDOW_S = 0.1


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """How a clip is shown.

    Attributes:
        window_s: A clip that is longer is shown in several equal windows, none longer than this.
        sample_fps: Frames that are shown of each second.
        frame_pixels: A frame with more pixels is shrunk to so many, at its own aspect.
        window_pixels: And further, until all frames of a window together have no more than so many.
        show_as: `video` for models that take video, `images` for those that take several pictures; a time is given
            with each picture.
    """

    window_s: float = 16.0
    sample_fps: float = 2.0
    frame_pixels: int = 360 * 640
    window_pixels: int = 6_000_000
    show_as: Literal["video", "images"] = "video"

    def __post_init__(self) -> None:
        if not LEAST_WINDOW_S <= self.window_s < inf:
            raise ValueError(f"window_s={self.window_s}: must be at least {LEAST_WINDOW_S} and finite")
        if not 0 < self.sample_fps < inf:
            raise ValueError(f"sample_fps={self.sample_fps}: must be above 0 and finite")
        if self.window_s * self.sample_fps > MAX_FRAMES:
            raise ValueError(
                f"sample_fps={self.sample_fps}: {MAX_FRAMES} frames a window are the most, "
                f"with window_s={self.window_s} these are {self.window_s * self.sample_fps:.0f}"
            )
        for name in ("frame_pixels", "window_pixels"):
            if getattr(self, name) < 28 * 28:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {28 * 28}, one patch of a model")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a clip: `[start_pts, end_pts)` in ticks of the clip's source, and the same in seconds on the clip's own
    clock. `index` is None where the window is the whole clip."""

    index: int | None
    start_pts: int
    end_pts: int
    start_s: float
    end_s: float


def windows_of(clip: Mapping[str, Any], window_s: float) -> list[Window]:
    """The equal windows that cover a clip, in order. `clip` has its span and time base, as in the clips table."""
    start, end = clip["start_pts"], clip["end_pts"]
    tick_s = Fraction(clip["time_base_num"], clip["time_base_den"])
    # Whole ticks, so that rounding makes no part longer than it may be; a tick is the least that there is.
    most_ticks = max(1, floor(Fraction(window_s).limit_denominator(1_000_000) / tick_s))
    parts = ceil(Fraction(end - start, most_ticks))
    edges = [start + (end - start) * part // parts for part in range(parts + 1)]
    return [
        Window(
            None if parts == 1 else index,
            edges[index],
            edges[index + 1],
            float((edges[index] - start) * tick_s),
            float((edges[index + 1] - start) * tick_s),
        )
        for index in range(parts)
    ]


def sample_times_s(window: Window, sample_fps: float) -> list[float]:
    """When to look, on the clip's clock: in the middles of steps of the sampling rate; two at least, because one shows
    no motion."""
    count = int((window.end_s - window.start_s) * sample_fps + 1e-6)
    if count < 2:
        quarter_s = (window.end_s - window.start_s) / 4
        return [window.start_s + quarter_s, window.end_s - quarter_s]
    return [window.start_s + (number + 0.5) / sample_fps for number in range(count)]
