"""Where one scene gives way to the next, and what a method that finds such places looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from curation.planes import Picture

__all__ = ["Boundary", "BoundaryDetector", "Look"]


@dataclass(frozen=True, slots=True, order=True)
class Boundary:
    """A change of scene. `index`: the new scene's first frame; of a gradual change the middle one.

    `before` and `after`: how many frames before `index`, and from `index` on, belong to the change and to neither
    scene (a mix of both, or black); 0 and 0 for a cut.
    """

    index: int
    before: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """A frame as boundary detectors see it: `planes.sampled_picture` of it."""

    picture: Picture


class BoundaryDetector(Protocol):
    """Feed every frame in order, the first is 0; get the boundaries that became certain, each once, some frames late.

    A boundary is given at most `takes.HOLD_FRAMES` frames after its index. Nothing is fed after `flush`.
    """

    def feed(self, look: Look) -> list[Boundary]: ...

    def flush(self) -> list[Boundary]: ...
