"""From the camera's steps to what it does in a clip: its label, direction, speed, and how far the label can be trusted.

Directions and speeds are the camera's, in the upright picture: a picture that moves left is a camera that pans right,
one that moves up a camera that tilts down, one that grows a zoom in, one that turns counterclockwise a roll clockwise.
Speeds compare in longer sides of the picture a second: of a zoom or a roll, the mean over the picture.

The label is that of the motion with most of it, so that a pan along a slope takes the name of its stronger part;
`shake` where the camera goes to and fro faster than it goes anywhere; `static` where it does neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import degrees, prod, radians

import numpy as np
from numpy.typing import NDArray

from curation.alignment import MEAN_RADIUS
from curation.camera import CameraStep

__all__ = ["CLAIMED_CONFIDENCE", "Camera", "camera_of"]

V4 = NDArray[np.float64]
"""Velocities, (..., 4): right, down (longer sides a second), zoom (logarithm a second), roll (radians a second)."""

# At or over this confidence the label may be stated as a fact: of procedural footage at least 99 in 100 are right
# (`benchmarks.camera`). Below it the label is the likeliest, no more.
CLAIMED_CONFIDENCE = 0.5
# The slowest move that is one. Still pictures read up to a fifth of it after a codec at low bit rates.
STATIC_SHARE_PER_S = 0.005
# The slowest tremor that is one. Still pictures with something moving in them read up to this at 60 frames a second.
SHAKE_SHARE_PER_S = 0.008
# A hand trembles at 1 to 6 Hz, so that it also is elsewhere half a second later: by at least this share of the way that
# its speed would have gone, and by more than the noise. What does not is an error of the short steps.
SHAKE_SWAY_SHARE, SHAKE_SWAY_NOISE_PER_S = 0.02, 0.0005
# A tremor on a moving camera makes its long steps differ as well; unless it is far faster than the move.
SHAKE_SWAY_OF_MOVE, SHAKE_OF_MOVE = 0.5, 2.0
# Where a long step of a fast camera found less than this alike, the short steps at its ends say more; slow ones do not.
LOST_LIKENESS, FAST_SHARE = 0.25, 0.1
# Less of the texture than this goes with the motion: nothing can be said. Pictures of noise alone reach 0.06.
MIN_LIKENESS = 0.08

KINDS = (
    ("pan", "right", "left"),
    ("tilt", "down", "up"),
    ("zoom", "in", "out"),
    ("roll", "clockwise", "counterclockwise"),
)
SPANS = np.array([1.0, 1.0, MEAN_RADIUS, MEAN_RADIUS])  # by how far each velocity displaces the picture, on the mean


@dataclass(frozen=True, slots=True)
class Camera:
    """What the columns `camera_…` say of a clip, see `camera_scores`."""

    motion: str
    direction: str | None
    speed_share_per_s: float
    zoom_per_s: float
    roll_deg_per_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class _Going:
    """A clip's motion, summed up.

    `net`: mean velocity. `legs`: velocity of each leg of about half a second. `short`: velocities from a frame to the
    next. `swing`: how far those lie from the legs around them, `sway`: how far the legs lie from the net velocity, both
    by median and in longer sides a second. `error`: standard error of the net velocity.
    """

    net: V4
    legs: V4
    short: V4
    swing: float
    sway: float
    error: float
    likeness: float
    textured_share: float

    @property
    def spans(self) -> V4:
        return np.abs(self.net) * SPANS

    @property
    def shift(self) -> float:
        """Speed across the picture, longer sides a second."""
        return float(np.hypot(self.net[0], self.net[1]))

    @property
    def tremor(self) -> float:
        """Speed to and fro, 0 where what there is of it is an error or the move's own changes."""
        is_seen = self.sway > SHAKE_SWAY_SHARE * self.swing + self.error + SHAKE_SWAY_NOISE_PER_S
        is_own = self.sway <= SHAKE_SWAY_OF_MOVE * self.shift and self.swing <= SHAKE_OF_MOVE * self.shift
        return max(self.swing, self.sway) if is_seen and not is_own else 0.0


def camera_of(steps: Sequence[CameraStep], time_base: Fraction, rotation: int) -> Camera | None:
    """What the camera does over these steps, upright by `Geometry.rotation`; None where nothing can be said."""
    going = _going(steps, float(time_base), rotation)
    if going is None:
        return None
    zoom, roll = float(going.net[2]), degrees(going.net[3])
    kind = int(going.spans.argmax())
    speed = going.shift if kind < 2 else float(going.spans[kind])
    sure = [_ramp(going.likeness, 0.2, 0.6), _ramp(going.textured_share, 0.08, 0.3), _ramp(len(going.legs), 0, 3)]
    if going.tremor > max(speed, SHAKE_SHARE_PER_S):
        sure += _sure_of_shake(going, speed)
        mean_speed = float(np.hypot(going.short[:, 0], going.short[:, 1]).mean())
        return Camera("shake", None, mean_speed, zoom, roll, prod(sure))
    if going.spans[kind] < STATIC_SHARE_PER_S:
        return Camera("static", None, speed, zoom, roll, prod(sure + _sure_of_static(going)))
    name, positive, negative = KINDS[kind]
    direction = positive if going.net[kind] > 0 else negative
    return Camera(name, direction, speed, zoom, roll, prod(sure + _sure_of_move(going, kind)))


def _sure_of_shake(going: _Going, speed: float) -> list[float]:
    return [_ramp(going.tremor / max(speed, SHAKE_SHARE_PER_S), 1, 1.6), _ramp(going.sway, 0.0008, 0.002)]


def _sure_of_static(going: _Going) -> list[float]:
    return [
        _ramp(float(going.spans.max()), STATIC_SHARE_PER_S, STATIC_SHARE_PER_S / 2),
        _ramp(going.error, STATIC_SHARE_PER_S, 0.3 * STATIC_SHARE_PER_S),
        _ramp(going.swing, SHAKE_SHARE_PER_S, SHAKE_SHARE_PER_S / 2),
        _ramp(going.sway, 0.0015, 0.0007),
    ]


def _sure_of_move(going: _Going, kind: int) -> list[float]:
    span, second = float(going.spans[kind]), float(np.sort(going.spans)[-2])
    sign = np.sign(going.net[kind])
    along = going.legs[:, kind] * sign
    shortly = float(going.short[:, kind].mean() * sign) * SPANS[kind] if len(going.short) else 0.0
    return [
        _ramp(span / max(second, 1e-9), 1, 1.5),
        _ramp(span / STATIC_SHARE_PER_S, 1, 1.6),
        _ramp(going.error / span, 0.5, 0.2),
        _ramp(going.swing / span, 1.5, 0.8),
        _ramp(float(along.mean() / np.abs(along).mean()), 0.5, 0.9),  # one way all the time
        _ramp(shortly / span, 0.2, 0.7),
    ]


def _ramp(value: float, none: float, full: float) -> float:
    """0 at `none` and before, 1 at `full` and beyond."""
    return min(1.0, max(0.0, float(value - none) / (full - none)))


def _going(steps: Sequence[CameraStep], tick_s: float, rotation: int) -> _Going | None:
    short = [s for s in steps if s.to_index == s.from_index + 1]
    long = [s for s in steps if s.to_index > s.from_index + 1]
    main = long or short
    if not main:
        return None
    v_short, legs = _velocities(short, tick_s, rotation), _velocities(main, tick_s, rotation)
    likeness = np.array([s.likeness for s in main])
    short_at = {s.from_index: k for k, s in enumerate(short)}
    for i, step in enumerate(long):
        ends = [short_at[index] for index in (step.from_index, step.to_index) if index in short_at]
        if not ends:
            continue
        mean, least = v_short[ends].mean(axis=0), min(short[k].likeness for k in ends)
        is_fast = float((np.abs(mean) * SPANS).max()) * step.ticks * tick_s > FAST_SHARE
        if is_fast and likeness[i] < min(LOST_LIKENESS, least):
            legs[i], likeness[i] = mean, least
    if likeness.mean() < MIN_LIKENESS:
        return None
    weight = likeness**2 * np.array([s.ticks for s in main])
    net = weight @ legs / weight.sum()
    errors = np.array([s.error / (s.ticks * tick_s) for s in main])
    return _Going(
        net=net,
        legs=legs,
        short=v_short,
        swing=_swing(short, long, v_short, legs),
        sway=float(np.median(np.hypot(*(legs - net)[:, :2].T))) if len(long) > 1 else 0.0,
        error=float(np.sqrt((errors**2).mean() / len(main))),
        likeness=float(likeness.mean()),
        textured_share=float(np.mean([s.textured_share for s in main])),
    )


def _swing(short: list[CameraStep], long: list[CameraStep], v_short: V4, legs: V4) -> float:
    """Of the short steps with most legs around them: with one on either side, a change of the move's speed is none."""
    around: dict[int, list[int]] = defaultdict(list)
    for k, leg in enumerate(long):
        around[leg.from_index].append(k)
        around[leg.to_index].append(k)
    near = [around[s.from_index] for s in short]
    most = max(map(len, near), default=0)
    if most == 0:
        return 0.0
    apart = [v - legs[ks].mean(axis=0) for v, ks in zip(v_short, near, strict=True) if len(ks) == most]
    return float(np.median([np.hypot(a[0], a[1]) for a in apart]))


def _velocities(steps: Sequence[CameraStep], tick_s: float, rotation: int) -> V4:
    """Of each step, in the upright picture."""
    ways = np.array([(s.right, s.down, s.zoom, radians(s.roll_deg)) for s in steps], np.float64).reshape(-1, 4)
    right, down = ways[:, 0].copy(), ways[:, 1].copy()
    # The coded picture is turned counterclockwise to be upright: by 90 degrees, what was right is up.
    ways[:, 0], ways[:, 1] = {0: (right, down), 90: (down, -right), 180: (-right, -down), 270: (-down, right)}[rotation]
    return ways / (np.array([s.ticks for s in steps], np.float64) * tick_s).reshape(-1, 1)
