"""Shot boundaries by scenedetect's detectors, fed frame by frame from the one decode.

The detectors are given frame indices as their clock, so that times stay exact on variable rates: a boundary is the
index of the first frame of a new scene, and the caller knows that frame's presentation time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scenedetect.common import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

__all__ = ["ShotConfig", "ShotDetector", "ShotMethod"]

ShotMethod = Literal["content", "adaptive", "threshold", "histogram", "hash"]

# A clock that counts frames; the value cancels out, because all lengths are given in frames.
FRAME_CLOCK = Fraction(25)


@dataclass(frozen=True, slots=True)
class ShotConfig:
    """How scenes are found.

    Attributes:
        shots: scenedetect detectors whose boundaries are united: content (cuts, by change of hue, saturation and
            brightness), threshold (fades through black), adaptive (content against its neighbours), histogram, hash.
        content_threshold: Mean change between two frames that makes a cut, in 8-bit levels (scenedetect's default).
        fade_level: Mean level under which a picture counts as black for fades, in 8-bit levels (scenedetect's default).
        min_scene_frames: Boundaries closer than this are one: a flash is no cut.
    """

    shots: tuple[ShotMethod, ...] = ("content", "threshold")
    content_threshold: float = 27.0
    fade_level: float = 12.0
    min_scene_frames: int = 6

    def __post_init__(self) -> None:
        if not self.shots:
            raise ValueError("shots=[]: give at least one method")
        if not 0 < self.content_threshold <= 255:
            raise ValueError(f"content_threshold={self.content_threshold}: must be within (0, 255]")
        if not 0 < self.fade_level <= 255:
            raise ValueError(f"fade_level={self.fade_level}: must be within (0, 255]")
        if self.min_scene_frames < 1:
            raise ValueError(f"min_scene_frames={self.min_scene_frames}: must be at least 1")


DETECTORS: MappingProxyType[str, Callable[[ShotConfig], SceneDetector]] = MappingProxyType(
    {
        "content": lambda c: ContentDetector(c.content_threshold, min_scene_len=c.min_scene_frames),
        "adaptive": lambda c: AdaptiveDetector(min_scene_len=c.min_scene_frames),
        "threshold": lambda c: ThresholdDetector(c.fade_level, min_scene_len=c.min_scene_frames),
        "histogram": lambda c: HistogramDetector(min_scene_len=c.min_scene_frames),
        "hash": lambda c: HashDetector(min_scene_len=c.min_scene_frames),
    }
)


class ShotDetector:
    """Feed small BGR pictures in order; get boundaries as frame indices, some of them a little in the past."""

    def __init__(self, config: ShotConfig):
        self._detectors = [DETECTORS[name](config) for name in config.shots]
        self._index = -1

    def feed(self, bgr: NDArray[np.uint8]) -> list[int]:
        """Boundaries found with this frame. Each is the index of a scene's first frame, 0 being the first frame fed."""
        self._index += 1
        now = FrameTimecode(self._index, FRAME_CLOCK)
        return [cut.frame_num for detector in self._detectors for cut in detector.process_frame(now, bgr)]

    def flush(self) -> list[int]:
        """Boundaries that only the end decides. Nothing may be fed afterwards."""
        if self._index < 0:
            return []
        now = FrameTimecode(self._index, FRAME_CLOCK)
        return [cut.frame_num for detector in self._detectors for cut in detector.post_process(now)]
