"""Shot boundaries by TransNet V2 (`transnet.py`), with weights that the user brings.

As published: pictures of 48 by 27; windows of 100 frames, of which the middle 50 are believed; the first and the last
frame repeated where a window reaches over the film's ends; a scene ends where the first logit says so with more than
one half. The second logit says which frames around it belong to a gradual change. Memory holds one window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from curation.boundary import Boundary, Look
from curation.planes import Picture, bgr_of

if TYPE_CHECKING:
    from curation.transnet import TransNetV2

__all__ = ["TransNetShots", "check_weights", "weights_digest"]

WIDTH, HEIGHT = 48, 27
WINDOW, MARGIN = 100, 25
STEP = WINDOW - 2 * MARGIN
THRESHOLD = 0.5
# A change that lasts longer is cut off here, on either side of its middle, so that a boundary comes in bounded time.
MAX_SIDE_FRAMES = 50

Says = tuple[bool, bool]
"""Of a frame: a scene ends here; it is the last of a scene or belongs to a change."""


def weights_digest(path: Path) -> str:
    """SHA-256 of a file of weights. Raises ValueError where there is none."""
    try:
        stat = path.stat()
        return _digest_of(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise ValueError(f"shot_weights={path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def _digest_of(path: Path, modified_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(path: Path) -> None:
    """Raises ValueError unless a file holds the weights of TransNet V2 and what runs them is installed."""
    try:
        TransNetShots(path)
    except ImportError as error:
        raise ValueError(f"shot_weights={path}: {error}; install the extra `cpu` or `gpu`") from error


def small_rgb(picture: Picture) -> NDArray[np.uint8]:
    """What the network sees of a frame, (27, 48, 3): the whole picture, averaged, as it is coded."""
    bgr = bgr_of(picture)
    is_larger = bgr.shape[0] >= HEIGHT and bgr.shape[1] >= WIDTH
    small = cv2.resize(bgr, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA if is_larger else cv2.INTER_LINEAR)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


class TransNetShots:
    """A `boundary.BoundaryDetector` by TransNet V2."""

    def __init__(self, weights: Path):
        """Raises ValueError where the file of weights is missing or of another shape."""
        from curation.transnet import load_transnet

        self._windows = Windows(load_transnet(weights, weights_digest(weights)))
        self._runs = Runs()

    def feed(self, look: Look) -> list[Boundary]:
        return self._runs.feed(self._windows.feed(small_rgb(look.picture)))

    def flush(self) -> list[Boundary]:
        return self._runs.feed(self._windows.flush())


class Windows:
    """Feed small pictures in order; get what the network says of every frame, up to 75 frames late."""

    def __init__(self, network: TransNetV2):
        self._network = network
        self._pictures: list[NDArray[np.uint8]] = []
        self._fed = self._said = 0

    def feed(self, rgb: NDArray[np.uint8]) -> list[Says]:
        if not self._pictures:
            self._pictures = [rgb] * MARGIN
        self._pictures.append(rgb)
        self._fed += 1
        return self._say() if len(self._pictures) == WINDOW else []

    def flush(self) -> list[Says]:
        """Nothing may be fed afterwards."""
        says: list[Says] = []
        while self._said < self._fed:
            self._pictures += [self._pictures[-1]] * (WINDOW - len(self._pictures))
            says += self._say()
        return says

    def _say(self) -> list[Says]:
        import torch

        window = torch.from_numpy(np.stack(self._pictures))[None]
        with torch.inference_mode():
            ends, belongs = (torch.sigmoid(logits[0]) > THRESHOLD for logits in self._network(window))
        self._pictures = self._pictures[STEP:]
        said = min(STEP, self._fed - self._said)
        self._said += said
        middle = slice(MARGIN, MARGIN + said)
        return list(zip(ends[middle].tolist(), belongs[middle].tolist(), strict=True))


class Runs:
    """From what is said of each frame to boundaries.

    In the network's terms a cut is said of the last frame before it, and a gradual change of its middle; the second
    answer holds from the last frame before the change to the change's own last. Of several frames in a row that say
    that a scene ends, all but the first belong to the change. A change that lasts to the film's end bounds no scene.
    """

    def __init__(self) -> None:
        self._index = -1
        self._belonging_since: int | None = None
        self._run: tuple[int, int] | None = None  # first and last frame that say that a scene ends
        self._changed_from = 0  # the first frame of that run's change
        self._earliest = 0  # no change begins before this frame

    def feed(self, says: Iterable[Says]) -> list[Boundary]:
        """Boundaries that are certain after these frames."""
        return [boundary for ends, belongs in says for boundary in self._step(ends, belongs)]

    def _step(self, ends: bool, belongs: bool) -> list[Boundary]:
        self._index += 1
        if not belongs:
            self._belonging_since = None
        elif self._belonging_since is None:
            self._belonging_since = self._index
        boundaries: list[Boundary] = []
        if self._run is not None:
            first, last = self._run
            if ends and last == self._index - 1 and self._index - first < MAX_SIDE_FRAMES:
                self._run = first, self._index
                return []
            if belongs and not ends and self._index - last < MAX_SIDE_FRAMES:
                return []
            boundaries = [self._boundary(first, last, changed_to=last if ends else self._index - 1)]
            self._earliest = self._index + 1  # at least this frame is of the scene between two changes
            self._run = None
        if ends:
            since = self._index if self._belonging_since is None else self._belonging_since
            earliest = max(self._earliest, self._index - MAX_SIDE_FRAMES)
            self._changed_from = min(self._index + 1, max(since + 1, earliest))
            self._run = self._index, self._index
        return boundaries

    def _boundary(self, first: int, last: int, changed_to: int) -> Boundary:
        index = (first + last) // 2 + 1
        return Boundary(index, before=index - self._changed_from, after=changed_to + 1 - index)
