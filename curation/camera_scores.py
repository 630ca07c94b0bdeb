"""Scores of the camera's motion and of the subject's apart from it. Conventions are in `camera_label`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from curation.measured import Measured, Score, ScoreValue

__all__ = ["CAMERA_SCORES"]


def subject_motion_share_per_s(clip: Measured) -> float | None:
    """Mean optical flow apart from the camera's, at places with texture, in longer sides of the picture a second.

    Errors of the flow are taken off (`camera.subject_of`), so that slow motion of small things reads low; a tenth of a
    zoom's or a roll's own speed may be left. With depth in the picture, what lies nearer or farther than most of it
    counts as well when the camera moves.
    """
    tick_s = float(clip.time_base)
    speeds = [s.subject / (s.ticks * tick_s) for s in clip.camera_steps if s.subject is not None]
    return float(np.mean(speeds)) if speeds else None


def _camera(name: str) -> Callable[[Measured], ScoreValue]:
    def value_of(clip: Measured) -> ScoreValue:
        return None if clip.camera is None else getattr(clip.camera, name)

    return value_of


CAMERA_SCORES: tuple[Score, ...] = (
    Score("camera_motion", pa.string(), "static, pan, tilt, zoom, roll or shake, the likeliest", _camera("motion")),
    Score(
        "camera_direction",
        pa.string(),
        "of the camera: left, right, up, down, in, out, clockwise, counterclockwise",
        _camera("direction"),
    ),
    Score(
        "camera_speed_share_per_s",
        pa.float64(),
        "of the labelled motion, longer sides per second; of zoom and roll the mean over the picture; from 0",
        _camera("speed_share_per_s"),
    ),
    Score(
        "camera_zoom_per_s",
        pa.float64(),
        "natural logarithm of the picture's growth per second, under 0 for a zoom out",
        _camera("zoom_per_s"),
    ),
    Score(
        "camera_roll_deg_per_s",
        pa.float64(),
        "turn of the camera, degrees per second, clockwise over 0",
        _camera("roll_deg_per_s"),
    ),
    Score(
        "camera_confidence",
        pa.float64(),
        "how far the label can be trusted, 0 to 1; stated as a fact from 0.5 on",
        _camera("confidence"),
    ),
    Score(
        "subject_motion_share_per_s",
        pa.float64(),
        "mean motion apart from the camera's, longer sides per second, from 0",
        subject_motion_share_per_s,
    ),
)
