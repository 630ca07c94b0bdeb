"""Curating one source, whole: from a path to the rows of the tables. Where it runs, `jobs/curate.py` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from av.container import InputContainer
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream

from curation.analysis import Analysis
from curation.cut import CannotCopy, Cutter
from curation.encode import CannotEncode, encode_clip
from curation.ingest import Footage
from curation.media import Limits, main_video_stream, open_media
from curation.mux import ClipFile
from curation.records import BadSource, Clip, SourceState, Span, clip_id_of, digest
from curation.shots import ShotConfig
from curation.takes import TakeConfig
from curation.verdicts import Thresholds, thresholds_id, verdict

__all__ = ["CurateConfig", "CutConfig", "SourceCuration", "unusable_source_row"]

# Raised by hand when the code gives other clips or scores for the same config, so that stores are curated anew.
CODE_GENERATION = 2
# Deblocking is left out of pictures that no other refers to: no drift, and up to a tenth of the time.
SKIP_LOOP_FILTER = "noref"
HDR_TRANSFERS = frozenset({"smpte2084", "arib_std_b67"})
# A header may be off by this much before it counts as wrong.
HEADER_TOLERANCE_S, HEADER_TOLERANCE = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class CutConfig:
    """How clips are cut.

    Attributes:
        cut: copy takes the packets as they are; encode makes H.264 of every clip.
        max_lead_in_seconds: A clip whose keyframe lies further before its start is encoded instead.
    """

    cut: Literal["copy", "encode"] = "copy"
    max_lead_in_seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.max_lead_in_seconds < 0:
            raise ValueError(f"max_lead_in_seconds={self.max_lead_in_seconds}: must not be negative")


@dataclass(frozen=True, slots=True)
class CurateConfig:
    """All that decides what becomes of a source."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    takes: TakeConfig = field(default_factory=TakeConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    thresholds: Thresholds = field(default_factory=Thresholds)
    limits: Limits = field(default_factory=Limits)

    def config_hash(self, state: SourceState) -> str:
        """Key of finished work. Thresholds are not in it, because verdicts are given again without decoding; limits
        are only where they may have been why a source is not curated."""
        parts = [CODE_GENERATION, self.shots.identity(), asdict(self.takes), asdict(self.cut)]
        return digest("curation", *parts, *([] if state is SourceState.CURATED else [asdict(self.limits)]))


class CannotCut(Exception):
    """A clip can be neither copied nor encoded; the message says why."""


class SourceCuration:
    """Curates one source. Iterate over `clip_rows()` to the end, then take `source_row()`.

    Clip rows come one by one while the source is still being decoded, so memory does not grow with its length.
    Raises BadSource on iteration where the source cannot be used; rows that came before are then void.
    """

    def __init__(self, path: Path, footage: Footage, source_id: str, config: CurateConfig, run_id: str):
        self._path, self._footage, self._source_id = path, footage, source_id
        self._config, self._run_id = config, run_id
        self._facts: dict[str, Any] = {}
        self._analysis: Analysis | None = None
        self._scenes = 0
        self.seconds: Counter[str] = Counter()  # by "kept" or the reason of rejection
        self.clips: Counter[str] = Counter()  # the same, clips
        self.stored_bytes = 0

    def clip_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the clips table, in order of time; rejected clips have no video."""
        limits = self._config.limits
        with ExitStack() as stack:
            container = stack.enter_context(open_media(self._path, limits))
            stream = main_video_stream(container, limits)
            self._facts = container_facts(container, stream)
            self._analysis = Analysis(
                self._source_id,
                container,
                stream,
                shots=self._config.shots,
                takes=self._config.takes,
                limits=limits,
                skip_loop_filter=SKIP_LOOP_FILTER,
            )
            cutter: Cutter | None = None
            for clip in self._analysis:
                row = self._clip_row(clip)
                row["reason"] = verdict(row, self._config.thresholds)
                row["keep"] = row["reason"] is None
                if row["keep"]:
                    cutter = cutter or cutter_of(stack, self._path, self._config)
                    row |= self._cut(clip, cutter)
                self._count(clip, row)
                yield row

    def _clip_row(self, clip: Clip) -> dict[str, Any]:
        span, base = clip.span, clip.span.time_base
        assert self._analysis is not None
        assert self._analysis.looks is not None
        return {
            "clip_id": clip_id_of(clip.source_id, span, self._config.cut.cut),
            "source_id": clip.source_id,
            "scene_index": clip.scene_index,
            "start_pts": span.start_pts,
            "end_pts": span.end_pts,
            "time_base_num": base.numerator,
            "time_base_den": base.denominator,
            "entry_pts": clip.entry_pts,
            "start_s": float((span.start_pts - self._analysis.first_pts) * base),
            "duration_s": float(span.duration_s),
            "frames": clip.frames,
            "rate_fps": clip.rate_fps,
            "width": clip.width,
            "height": clip.height,
            "rotation": self._analysis.looks.geometry.rotation,
            **clip.scores,
            "perceptual_hash": clip.perceptual_hash,
            "fingerprint": clip.fingerprint,
            "thumbnail": clip.thumbnail,
            "cut": self._config.cut.cut,
            "thresholds_id": thresholds_id(self._config.thresholds),
            "config_hash": self._config.config_hash(SourceState.CURATED),
            "run_id": self._run_id,
        }

    def _cut(self, clip: Clip, cutter: Cutter) -> dict[str, Any]:
        cut, limits = self._config.cut.cut, self._config.limits
        try:
            return video_columns(*cut_span(cutter, self._path, clip.span, clip.entry_pts, clip.frames, cut, limits))
        except CannotCut as error:  # one clip must not cost the others of its source
            return {"keep": False, "reason": "cannot_cut", "encoded_because": str(error)}

    def _count(self, clip: Clip, row: dict[str, Any]) -> None:
        outcome = row["reason"] or "kept"
        self.seconds[outcome] += clip.span.duration_s  # type: ignore[assignment]
        self.clips[outcome] += 1
        self.stored_bytes += row.get("video_bytes", 0)
        self._scenes = clip.scene_index + 1

    def source_row(self) -> dict[str, Any]:
        """The source's row, after the last clip."""
        analysis = self._analysis
        assert analysis is not None
        assert analysis.looks is not None
        trimmed_s = analysis.trimmed_ticks * analysis.time_base
        assert sum(self.seconds.values()) + trimmed_s == analysis.duration_s, "kept + rejected + trimmed = duration"
        looks, geometry, exact = analysis.looks, analysis.looks.geometry, analysis.rate.exact
        reason, detail = blemish(self._facts["header_duration_s"], analysis)
        transfer = color_name(ColorTrc, looks.color_transfer)
        return {
            **_identity(self._footage, self._source_id, self._config, SourceState.CURATED, self._run_id),
            **self._facts,
            "reason": reason,
            "detail": detail,
            "pix_fmt": looks.pix_fmt,
            "bit_depth": looks.bit_depth,
            "width": geometry.width,
            "height": geometry.height,
            "coded_width": geometry.coded_width,
            "coded_height": geometry.coded_height,
            "rotation": geometry.rotation,
            "pixel_aspect_num": geometry.pixel_aspect.numerator,
            "pixel_aspect_den": geometry.pixel_aspect.denominator,
            "rate_num": exact.numerator if exact else None,
            "rate_den": exact.denominator if exact else None,
            "is_variable_rate": exact is None if analysis.decoder.frames > 1 else None,
            "average_rate_fps": analysis.rate.average_fps,
            "duration_s": float(analysis.duration_s),
            "frames": analysis.decoder.frames,
            "start_pts": analysis.first_pts,
            "time_base_num": analysis.time_base.numerator,
            "time_base_den": analysis.time_base.denominator,
            "color_transfer": transfer,
            "color_primaries": color_name(ColorPrimaries, looks.color_primaries),
            "is_hdr": transfer in HDR_TRANSFERS,
            "is_interlaced": looks.is_interlaced,
            "scenes": self._scenes,
            "clips": self.clips.total(),
            "trimmed_s": float(trimmed_s),
        }


def unusable_source_row(
    footage: Footage, source_id: str, config: CurateConfig, run_id: str, error: BadSource
) -> dict[str, Any]:
    """The row of a source that was rejected or failed."""
    identity = _identity(footage, source_id, config, error.state, run_id)
    return identity | {"reason": error.reason, "detail": error.detail}


def _identity(
    footage: Footage, source_id: str, config: CurateConfig, state: SourceState, run_id: str
) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "uri": footage.uri,
        "bytes": footage.bytes,
        "modified": footage.modified,
        "state": state.value,
        "config_hash": config.config_hash(state),
        "run_id": run_id,
    }


def cutter_of(stack: ExitStack, path: Path, config: CurateConfig) -> Cutter:
    """A cutter with a handle of its own on the file, so that decoding goes on undisturbed."""
    container = stack.enter_context(open_media(path, config.limits))
    return Cutter(container, main_video_stream(container, config.limits), config.cut.max_lead_in_seconds)


def cut_span(
    cutter: Cutter, path: Path, span: Span, entry_pts: int, frames: int, cut: str, limits: Limits
) -> tuple[ClipFile, str | None]:
    """A clip's file and, where it was encoded, why. `cut` is `copy` or `encode`.

    Raises CannotCut when neither way works.
    """
    because = "asked for"
    if cut == "copy":
        try:
            return cutter.cut(span, entry_pts, frames), None
        except CannotCopy as error:
            because = str(error)
    try:
        return encode_clip(path, span, entry_pts, frames, limits), because
    except CannotEncode as error:
        raise CannotCut(f"neither copied ({because}) nor encoded ({error})") from error


def video_columns(file: ClipFile, encoded_because: str | None) -> dict[str, Any]:
    """The columns that describe a clip's bytes."""
    return {
        "encoded_because": encoded_because,
        "container": file.container,
        "video_bytes": len(file.data),
        "video_start_pts": file.start_pts,
        "video_end_pts": file.end_pts,
        "video_time_base_num": file.time_base.numerator,
        "video_time_base_den": file.time_base.denominator,
        "lead_in_frames": file.lead_in_frames,
        "audio": file.audio,
        "video": file.data,
    }


def container_facts(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    """What the header says, taken as a claim."""
    audio = container.streams.audio
    first_audio = audio[0].codec_context if audio else None
    header_ticks = stream.duration
    header_s = header_ticks * stream.time_base if header_ticks and stream.time_base else None
    if header_s is None and container.duration:
        header_s = container.duration / 1_000_000
    return {
        "container": container.format.name,
        "codec": stream.codec_context.codec.canonical_name,
        "header_duration_s": float(header_s) if header_s is not None else None,
        "video_streams": len(container.streams.video),
        "audio_streams": len(audio),
        "other_streams": len(container.streams) - len(container.streams.video) - len(audio),
        "audio_codec": first_audio.codec.canonical_name if first_audio else None,
        "audio_rate_hz": first_audio.sample_rate if first_audio else None,
        "audio_channels": first_audio.channels if first_audio else None,
    }


def blemish(header_s: float | None, analysis: Analysis) -> tuple[str | None, str | None]:
    """What is to be said of a source that gave clips all the same: reason and detail, or None and None."""
    if analysis.decoder.damage:
        return "damaged", f"{analysis.decoder.damage}; {analysis.decoder.frames} frames were decoded"
    measured_s = float(analysis.duration_s)
    tolerance_s = HEADER_TOLERANCE_S + HEADER_TOLERANCE * measured_s
    if header_s is not None and abs(header_s - measured_s) > tolerance_s:
        frames = analysis.decoder.frames
        return "wrong_duration", f"the header says {header_s:.3f} s, its {frames} frames last {measured_s:.3f} s"
    return None, None


def color_name(kind: type[ColorTrc] | type[ColorPrimaries], value: int) -> str | None:
    """FFmpeg's name of a colour property in small letters, None where the file does not say."""
    try:
        name = kind(value).name.lower()
    except ValueError:
        return str(value)
    return None if name in ("unspecified", "reserved0", "reserved") else name
