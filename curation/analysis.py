"""One pass over a source: decode once, find scenes, measure, and give out clips as soon as each is certain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from curation.boundary import Look
from curation.decode import Decoder
from curation.fingerprint import fingerprint_of
from curation.geometry import Geometry, normal_rotation
from curation.measure import Measurer
from curation.measured import Measured
from curation.media import Limits
from curation.planes import bgr_of
from curation.rate import RateMeter
from curation.records import Clip, Span
from curation.scores import scores_of
from curation.shots import ShotConfig, shot_detector
from curation.takes import Take, TakeConfig, TakeSplitter, trimmed

__all__ = ["Analysis", "Looks"]

THUMBNAIL_QUALITY = 80

# One thread a source: OpenCV would otherwise start one a core for pictures of a few thousand pixels.
cv2.setNumThreads(1)


@dataclass(frozen=True, slots=True)
class Looks:
    """What only decoded frames tell surely: the upright size, colour and field order as the first frame has them."""

    geometry: Geometry
    pix_fmt: str
    bit_depth: int
    color_transfer: int
    color_primaries: int
    is_interlaced: bool


class Analysis:
    """Iterate for the clips of one stream, in order; afterwards the totals are known.

    Memory does not grow with the length of the source: frames are held only until their scene is closed.

    Raises BadSource on iteration, see `decode.Decoder` and `planes.planes_of`.
    """

    def __init__(
        self,
        source_id: str,
        container: InputContainer,
        stream: VideoStream,
        *,
        shots: ShotConfig,
        takes: TakeConfig,
        limits: Limits,
        skip_loop_filter: str,
    ):
        self._source_id, self._stream, self._take_config = source_id, stream, takes
        self.decoder = Decoder(container, stream, limits, skip_loop_filter)
        self.time_base = self.decoder.time_base
        self.rate = RateMeter(self.time_base, [stream.base_rate, stream.guessed_rate, stream.average_rate])
        self._splitter = TakeSplitter(takes, self.time_base)
        self._shots = shot_detector(shots)
        self.looks: Looks | None = None
        self.first_pts = 0
        self.end_pts = 0
        self.trimmed_ticks = 0

    def __iter__(self) -> Iterator[Clip]:
        measurer = Measurer(self.time_base, Fraction(self._stream.sample_aspect_ratio or 1))
        for frame in self.decoder:
            if self.looks is None:
                self.looks, self.first_pts = looks_of(frame.picture, self._stream), frame.pts
            self.rate.feed(frame.pts)
            measure, picture, sample = measurer.feed(frame)
            boundaries = self._shots.feed(Look(picture))
            for take in self._splitter.feed(measure, sample, boundaries):
                yield self._clip(take)
        for take in self._splitter.flush(measurer.flush(), self._shots.flush()):
            yield self._clip(take)

    def _clip(self, take: Take) -> Clip:
        assert self.looks is not None
        self.end_pts = take.end_pts
        kept = trimmed(take, self._take_config, self.time_base)
        span = Span(kept.start_pts, kept.end_pts, self.time_base)
        self.trimmed_ticks += (take.end_pts - take.start_pts) - (span.end_pts - span.start_pts)
        geometry = self.looks.geometry
        end_index = kept.first_index + len(kept.frames)
        picture = middle_picture(kept, geometry)
        measured = Measured(kept.frames, kept.samples, end_index, self.time_base, geometry)
        fingerprint = fingerprint_of(kept.frames, kept.end_pts, self.time_base, geometry, measured.active_box)
        return Clip(
            source_id=self._source_id,
            span=span,
            entry_pts=kept.entry_pts,
            scene_index=kept.scene_index,
            frames=len(kept.frames),
            rate_fps=len(kept.frames) / float(span.duration_s),
            width=geometry.width,
            height=geometry.height,
            scores=scores_of(measured),
            perceptual_hash=None if picture is None else perceptual_hash(picture),
            thumbnail=None if picture is None else jpeg_of(picture),
            fingerprint=None if fingerprint is None else fingerprint.to_bytes(),
        )

    @property
    def duration_s(self) -> Fraction:
        """How long the frames last that were decoded: a wrong header does not matter."""
        return (self.end_pts - self.first_pts) * self.time_base


def looks_of(frame: VideoFrame, stream: VideoStream) -> Looks:
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    geometry = Geometry(frame.width, frame.height, aspect, normal_rotation(frame.rotation))
    return Looks(
        geometry=geometry,
        pix_fmt=frame.format.name,
        bit_depth=max(component.bits for component in frame.format.components),
        color_transfer=int(frame.color_trc),
        color_primaries=int(frame.color_primaries),
        is_interlaced=frame.interlaced_frame,
    )


def middle_picture(take: Take, geometry: Geometry) -> NDArray[np.uint8] | None:
    """The sample nearest to the middle as BGR, upright and with square pixels; None where there is no sample."""
    middle = take.first_index + len(take.frames) / 2
    pictures = [(abs(s.index - middle), s.index, s.picture) for s in take.samples if s.picture is not None]
    if not pictures:
        return None
    _, _, picture = min(pictures, key=lambda candidate: candidate[:2])
    return geometry.upright(bgr_of(picture))


def jpeg_of(picture: NDArray[np.uint8]) -> bytes:
    is_encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY])
    assert is_encoded
    return jpeg.tobytes()


def perceptual_hash(picture: NDArray[np.uint8]) -> int:
    """64 bits that stay nearly the same under scaling and re-encoding: signs of the low DCT terms about their median.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1.
    """
    small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[1:9, 1:9]
    return int("".join("1" if bit else "0" for bit in (low > np.median(low)).flat), 2)
