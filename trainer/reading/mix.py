"""Which caption a sample is trained with, and how much of it: drawn from a counter, the same on any machine.

Mostly what describes a clip at length, a little of what came with the footage, so that the model learns the long form
without losing the other; now and then no text at all, which is what guidance needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from trainer.draws import Key, draw_share
from trainer.reading.clips import CaptionKind

__all__ = ["CaptionMix", "DrawnKind", "drawn_caption", "mixed"]

DrawnKind = Literal["original", "short", "descriptive", "motion", "none"]
# What stands in for a kind that a clip lacks, in order.
IN_PLACE_OF: dict[CaptionKind, tuple[CaptionKind, ...]] = {
    "descriptive": ("short", "motion", "original"),
    "short": ("descriptive", "motion", "original"),
    "motion": ("descriptive", "short", "original"),
    "original": ("descriptive", "short", "motion"),
}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])\s*")  # the others end a sentence in CJK


@dataclass(frozen=True, slots=True)
class CaptionMix:
    """How often each kind of caption is drawn.

    Attributes:
        original: Of samples with a text, the share with what came with the footage.
        short: Of the others, the share with the short caption.
        motion: Of the others, the share with the caption of motion; the rest has the descriptive one.
        no_text: Of all samples, the share without a text, for guidance.
        drop_sentences: How often a sentence of a caption is left out; the first stays.
    """

    original: float = 0.05
    short: float = 0.0
    motion: float = 0.0
    no_text: float = 0.1
    drop_sentences: float = 0.0

    def __post_init__(self) -> None:
        for name in ("original", "short", "motion", "no_text", "drop_sentences"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be from 0 to 1")
        if self.short + self.motion > 1:
            raise ValueError(f"motion={self.motion}: must be at most 1 together with short={self.short}")


def drawn_caption(key: Key, kinds: Collection[CaptionKind], mix: CaptionMix) -> DrawnKind:
    """The kind of a sample's caption, of those that its clip has; `none` for no text."""
    assert kinds, "a clip without a caption is in no plan"
    if draw_share(key, "no_text") < mix.no_text:
        return "none"
    wanted: CaptionKind = "descriptive"
    if draw_share(key, "caption_original") < mix.original:
        wanted = "original"
    elif (drawn := draw_share(key, "caption_length")) < mix.short:
        wanted = "short"
    elif drawn < mix.short + mix.motion:
        wanted = "motion"
    return next(kind for kind in (wanted, *IN_PLACE_OF[wanted]) if kind in kinds)


def mixed(text: str, key: Key, mix: CaptionMix) -> str:
    """A caption with some of its sentences left out."""
    if not mix.drop_sentences:
        return text
    first, *others = SENTENCE_END.split(text)
    kept = [s for i, s in enumerate(others) if draw_share(key, f"sentence {i}") >= mix.drop_sentences]
    return text if len(kept) == len(others) else " ".join([first, *kept]).strip()
