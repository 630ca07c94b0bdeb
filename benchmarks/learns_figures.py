"""What is counted of samples: right answers, intervals over seeds and samples, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.attribute_footage import ASKED, Attributes
from benchmarks.judge import Judgement, judge
from trainer.training.previews import sheet

__all__ = ["Interval", "accuracy_of", "interval_of", "right_answers", "unrelated", "write_sheet"]

DRAWS = 2000
SHEET_ROWS = 16


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def right_answers(judged: Sequence[Judgement], truths: Sequence[Attributes], attribute: str) -> NDArray[np.bool_]:
    """Of each sample, whether it shows this attribute as it should; what shows nothing is wrong."""
    pairs = zip(judged, truths, strict=True)
    return np.array([getattr(found, attribute) == getattr(truth, attribute) for found, truth in pairs])


def unrelated(judged: Sequence[Judgement], truths: Sequence[Attributes], attribute: str) -> float:
    """The share that would be right if these answers were given to these questions in any order."""
    answers, wanted = (np.array([getattr(one, attribute) for one in each], object) for each in (judged, truths))
    return float(sum((answers == value).mean() * (wanted == value).mean() for value in ASKED[attribute]))


def accuracy_of(videos: Sequence[NDArray[np.uint8]], truths: Sequence[Attributes]) -> dict[str, float]:
    """Of the judge, on clips of which the truth is known."""
    judged = [judge(video) for video in videos]
    return {attribute: float(right_answers(judged, truths, attribute).mean()) for attribute in ASKED}


def interval_of(values_SN: NDArray[np.floating | np.bool_], seed: int = 0) -> Interval:
    """By the bootstrap: seeds are drawn again, and of each the samples."""
    random = np.random.default_rng(seed)
    seeds, samples = values_SN.shape
    chosen_DS = random.integers(seeds, size=(DRAWS, seeds))
    chosen_DSN = random.integers(samples, size=(DRAWS, seeds, samples))
    means = values_SN[chosen_DS[..., None], chosen_DSN].mean(axis=(1, 2))
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values_SN.mean()), float(low), float(high))


def write_sheet(path: Path, videos: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> None:
    """Frames of samples in rows, each under its prompt."""
    picture = sheet(videos[:SHEET_ROWS], prompts[:SHEET_ROWS])
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"{path}: cannot be written")
