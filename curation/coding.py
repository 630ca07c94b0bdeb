"""Scores of how a clip was coded: bits spent, block edges, combs of interlacing. Measured by `artefacts.py`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.measured import Measured, Score

__all__ = ["CODING_SCORES"]

# A mean step from pixel to pixel that is below what 8 bits can show, in levels.
UNSEEN_LEVELS = 0.5


def bits_per_px(clip: Measured) -> float | None:
    """Bits of the clip's packets per coded pixel and frame, from 0; the sound is not counted.

    As Open-Sora 2.0 filters by (over 0.02), but of the clip alone instead of the whole file. None where the packets of
    more than half of the frames are not known.
    """
    known = [frame.packet_bytes for frame in clip.frames if frame.packet_bytes is not None]
    if 2 * len(known) < len(clip.frames):
        return None
    return 8 * float(np.mean(known)) / (clip.geometry.coded_width * clip.geometry.coded_height)


def blockiness(clip: Measured) -> float | None:
    """How much higher luma steps are across edges of 8 pixel blocks than inside them: 1 is none, from about 0.9.

    Half a level, which nobody sees, is added to both; over all frames that were looked at together. Formula and sources
    are `artefacts.blocking`'s. x264 of good quality has up to 1.2, at crf 42 1.3 and more, at crf 51 about 2; JPEG and
    MPEG-4 at their coarsest 2 to 10. Codecs whose strong filters smear edges (VP8, VP9, AV1) stay at 1: there few
    `bits_per_px` and little `sharpness_levels2` tell. Where a picture was scaled after it was damaged its blocks are no
    longer 8 wide, and it is not seen. None where the clip is too short to have had a frame looked at, or too narrow.
    """
    looks = [frame.blocking for frame in clip.frames if frame.blocking is not None]
    if not looks:
        return None
    unseen = UNSEEN_LEVELS * len(looks)
    return (unseen + sum(look.across for look in looks)) / (unseen + sum(look.inside for look in looks))


def combing_share(clip: Measured) -> float | None:
    """Share of samples, one each half second, in which interlacing is seen, 0 to 1.

    Seen where a picture moves and its lines stand out from one another as fields of two times do, see
    `artefacts.is_combed`; so an interlaced clip in which nothing moves has 0. A film of 24 frames in 60 fields
    (`telecine` 2:3) has about 0.4. What was scaled in height after it was interlaced is not seen, nor what a starved
    codec smeared. None where no sample is followed by a frame.
    """
    told = [s.is_combed for s in clip.samples if s.is_combed is not None and s.index + 1 < clip.end_index]
    return sum(told) / len(told) if told else None


CODING_SCORES: tuple[Score, ...] = (
    Score("bits_per_px", pa.float64(), "bits of the picture's packets per coded pixel and frame, from 0", bits_per_px),
    Score("blockiness", pa.float64(), "luma steps across block edges over those inside, 1 is none", blockiness),
    Score("combing_share", pa.float64(), "share of samples in which interlacing is seen, 0 to 1", combing_share),
)
