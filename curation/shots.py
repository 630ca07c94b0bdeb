"""Which method finds shot boundaries, and scenedetect's detectors as one of them, fed from the one decode.

All methods count frames, so that times stay exact on variable rates: a boundary is the index of the first frame of a
new scene, and the caller knows that frame's presentation time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import cv2
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

from curation.boundary import Boundary, BoundaryDetector, Look
from curation.combined import CombinedDetector
from curation.planes import bgr_of
from curation.transnet_shots import TransNetShots, check_weights, weights_digest

__all__ = ["BoundarySieve", "ShotConfig", "ShotMethod", "UnitedDetectors", "shot_detector"]

ShotMethod = Literal["combined", "transnetv2", "content", "adaptive", "threshold", "histogram", "hash"]
# These find every kind of boundary themselves and are not united with others.
WHOLE_METHODS = ("combined", "transnetv2")

# A clock that counts frames; the value cancels out, because all lengths are given in frames.
FRAME_CLOCK = FrameTimecode(0, Fraction(25))
# The adaptive detector speaks of a frame when it has seen two more.
DETECTOR_DELAY_FRAMES = 2
# A boundary is given at most twice min_scene_frames and the delay after its frame; `takes.HOLD_FRAMES` waits for it.
MAX_MIN_SCENE_FRAMES = 60
# After a flash the picture is the one from before: it differs by less than this share of what makes a cut.
SAME_PICTURE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class ShotConfig:
    """How scenes are found.

    Attributes:
        shots: combined (cuts, dissolves, fades; not flashes and motion), or transnetv2 (a network, with shot_weights),
            or scenedetect detectors whose boundaries are united: content (cuts, by change of hue, saturation and
            brightness), threshold (fades through black: the black is a scene of its own), adaptive (content against
            its neighbours), histogram, hash.
        shot_weights: File with the weights of transnetv2.
        content_threshold: content: mean change between two frames that makes a cut, in 8-bit levels
            (scenedetect's default).
        fade_level: threshold: mean level under which a picture counts as black for fades, in 8-bit levels
            (scenedetect's default).
        min_scene_frames: Boundaries closer than this are one, and a picture that is back within fewer frames was
            interrupted by a flash, not cut.
    """

    shots: tuple[ShotMethod, ...] = ("combined",)
    shot_weights: Path | None = None
    content_threshold: float = 27.0
    fade_level: float = 12.0
    min_scene_frames: int = 6

    def __post_init__(self) -> None:
        if not self.shots:
            raise ValueError("shots=[]: give at least one method")
        unknown = [name for name in self.shots if name not in get_args(ShotMethod)]
        if unknown:
            raise ValueError(f"shots={list(self.shots)}: must be out of {', '.join(get_args(ShotMethod))}")
        whole = [name for name in self.shots if name in WHOLE_METHODS]
        if whole and len(self.shots) > 1:
            raise ValueError(f"shots={list(self.shots)}: {whole[0]} goes with no other method")
        if ("transnetv2" in self.shots) != (self.shot_weights is not None):
            given = "None" if self.shot_weights is None else f"'{self.shot_weights}'"
            raise ValueError(f"shot_weights={given}: must be given with shots=['transnetv2'], and only with it")
        if self.shot_weights is not None:
            check_weights(self.shot_weights)
        if not 0 < self.content_threshold <= 255:
            raise ValueError(f"content_threshold={self.content_threshold}: must be within (0, 255]")
        if not 0 < self.fade_level <= 255:
            raise ValueError(f"fade_level={self.fade_level}: must be within (0, 255]")
        if not 1 <= self.min_scene_frames <= MAX_MIN_SCENE_FRAMES:
            raise ValueError(f"min_scene_frames={self.min_scene_frames}: must be within [1, {MAX_MIN_SCENE_FRAMES}]")

    def identity(self) -> dict[str, Any]:
        """What decides about boundaries: of a file of weights not where it lies but what is in it."""
        weights = None if self.shot_weights is None else weights_digest(self.shot_weights)
        return asdict(self) | {"shot_weights": weights}


class _OneCallScore(ContentDetector):
    """ContentDetector with its score taken in one call of OpenCV instead of nine of numpy: the same number, faster."""

    _hsv: NDArray[np.uint8] | None = None

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: NDArray[np.uint8]) -> float:
        before, self._hsv = self._hsv, hsv_of(frame_img)
        return 0.0 if before is None else change(before, self._hsv)


class _OneCallAdaptive(AdaptiveDetector, _OneCallScore):
    """AdaptiveDetector on the same score."""


def hsv_of(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)  # type: ignore[return-value]


def change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two HSV pictures over all pixels and channels: scenedetect's content value."""
    return cv2.norm(before, after, cv2.NORM_L1) / before.size


# Detectors of cuts report every candidate (a scene length of 0): `BoundarySieve` decides over all of them together.
CUT_DETECTORS: MappingProxyType[str, Callable[[ShotConfig], SceneDetector]] = MappingProxyType(
    {
        "content": lambda c: _OneCallScore(c.content_threshold, min_scene_len=0),
        "adaptive": lambda c: _OneCallAdaptive(min_scene_len=0),
        "histogram": lambda c: HistogramDetector(min_scene_len=0),
        "hash": lambda c: HashDetector(min_scene_len=0),
    }
)


class _FadeDetector:
    """Both edges of every black stretch between two pictures, by scenedetect's ThresholdDetector.

    A film that begins or ends in black has no boundary there.
    """

    def __init__(self, level: float):
        self._detector = ThresholdDetector(min_scene_len=0, fade_bias=-1.0)
        self._detector.threshold = level  # type: ignore[assignment]  # its constructor cuts off the fraction
        self._level, self._is_black = level, True

    def feed(self, now: FrameTimecode, bgr: NDArray[np.uint8]) -> list[int]:
        mean = sum(cv2.mean(bgr)[:3]) / 3
        was_black, self._is_black = self._is_black, mean < self._level
        if self._is_black == was_black:
            return []
        # The detector acts when the level is crossed and at its first frame, which is not to be a black one; all that
        # it looks at is the mean of the picture.
        cuts = self._detector.process_frame(now, np.array([mean]))
        return [edge for cut in cuts for edge in (cut.frame_num, now.frame_num)]


class BoundarySieve:
    """From what detectors suggest to boundaries that are certain, at least `min_scene_frames` from each other.

    A cut that `back_at` calls a flash is void, with everything up to the frame where the picture is back. Of
    suggestions that follow each other closer than `min_scene_frames` the first stays, and the last where it is far
    enough from the first. Suggestions may come late; a late one that is near a boundary is dropped.
    """

    def __init__(self, min_scene_frames: int, back_at: Callable[[int], int | None]):
        self._min_frames, self._back_at = min_scene_frames, back_at
        self._cuts: set[int] = set()
        self._fades: set[int] = set()
        self._flash = range(0)  # the last one, with the frame where the picture is back
        self._run: tuple[int, int] | None = None  # first and last suggestion of those that follow each other closely
        self._given: deque[int] = deque(maxlen=64)  # a black stretch holds fewer

    def feed(self, index: int, cuts: Iterable[int], fades: Iterable[int]) -> list[int]:
        """Boundaries that are certain once frame `index` was seen."""
        self._cuts.update(b for b in cuts if b not in self._flash)
        self._fades.update(b for b in fades if b not in self._flash)
        if not (self._cuts or self._fades or self._run):
            return []
        return self._settle(index - (self._min_frames - 1))

    def flush(self) -> list[int]:
        """What is left when no frame follows."""
        waiting = self._cuts | self._fades
        boundaries = self._settle(max(waiting)) if waiting else []
        return boundaries + self._close_run()

    def _settle(self, last: int) -> list[int]:
        """Decide over all suggestions up to frame `last`."""
        boundaries: list[int] = []
        while waiting := [b for b in (*self._cuts, *self._fades) if b <= last]:
            first = min(waiting)
            back = self._back_at(first) if first in self._cuts else None
            if back is None:
                boundaries += self._accept(first)
            else:
                self._flash = range(first, back + 1)
            done = first if back is None else back
            self._cuts = {b for b in self._cuts if b > done}
            self._fades = {b for b in self._fades if b > done}
        if self._run and last >= self._run[1] + self._min_frames:
            boundaries += self._close_run()
        return boundaries

    def _accept(self, boundary: int) -> list[int]:
        if self._run and boundary <= self._run[1]:
            is_near = boundary > self._run[0] - self._min_frames
            return [] if is_near else self._give(boundary)
        if self._run and boundary - self._run[1] < self._min_frames:
            self._run = self._run[0], boundary
            return []
        ended = self._close_run()
        self._run = boundary, boundary
        return ended + self._give(boundary)

    def _close_run(self) -> list[int]:
        if self._run is None:
            return []
        first, last = self._run
        self._run = last, last
        return self._give(last) if last - first >= self._min_frames else []

    def _give(self, boundary: int) -> list[int]:
        if any(abs(boundary - given) < self._min_frames for given in self._given):
            return []
        self._given.append(boundary)
        return [boundary]


def shot_detector(config: ShotConfig) -> BoundaryDetector:
    """The detector that a config asks for."""
    if config.shots == ("combined",):
        return CombinedDetector(config.min_scene_frames)
    if config.shot_weights is not None:
        return TransNetShots(config.shot_weights)
    return UnitedDetectors(config)


class UnitedDetectors:
    """A `boundary.BoundaryDetector`: the boundaries of scenedetect's detectors, united by a `BoundarySieve`."""

    def __init__(self, config: ShotConfig):
        self._detectors = [CUT_DETECTORS[name](config) for name in config.shots if name in CUT_DETECTORS]
        self._fades = _FadeDetector(config.fade_level) if "threshold" in config.shots else None
        self._flash_frames = config.min_scene_frames - 1
        self._same_picture = SAME_PICTURE_SHARE * config.content_threshold
        self._pictures: deque[NDArray[np.uint8]] = deque(maxlen=self._flash_frames + DETECTOR_DELAY_FRAMES + 2)
        self._sieve = BoundarySieve(config.min_scene_frames, self._back_at)
        self._index = -1

    def feed(self, look: Look) -> list[Boundary]:
        self._index += 1
        bgr = bgr_of(look.picture)
        self._pictures.append(bgr)
        now = FrameTimecode(self._index, FRAME_CLOCK)
        cuts = [cut.frame_num for detector in self._detectors for cut in detector.process_frame(now, bgr)]
        fades = self._fades.feed(now, bgr) if self._fades else []
        return [Boundary(index) for index in self._sieve.feed(self._index, cuts, fades)]

    def flush(self) -> list[Boundary]:
        return [Boundary(index) for index in self._sieve.flush()]

    def _back_at(self, cut: int) -> int | None:
        """The frame, fewer than min_scene_frames after a cut, that shows the picture from before it again."""
        first_held = self._index - len(self._pictures) + 1
        if cut - 1 < first_held:
            return None
        before = hsv_of(self._pictures[cut - 1 - first_held])
        for index in range(cut + 1, min(cut + self._flash_frames, self._index) + 1):
            if change(before, hsv_of(self._pictures[index - first_held])) < self._same_picture:
                return index
        return None
