"""The columns of a store's tables. A row is a plain dict on its way in; these schemas are the promise to readers."""

from __future__ import annotations

import lance
import pyarrow as pa

from curation.scores import SCORES

__all__ = ["CLIPS", "RUNS", "SOURCES"]


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


SOURCES = pa.schema(
    [
        _required("source_id", pa.string()),  # SHA-256 of the content; of the uri where the content cannot be read
        _required("uri", pa.string()),
        pa.field("bytes", pa.int64()),
        _required("modified", pa.string()),  # time or etag: an unchanged file is not read again
        _required("state", pa.string()),  # curated, rejected, failed
        pa.field("reason", pa.string()),  # a short name; null for a curated source without a blemish
        pa.field("detail", pa.string()),  # the same in a sentence
        pa.field("container", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("pix_fmt", pa.string()),
        pa.field("bit_depth", pa.int32()),
        pa.field("width", pa.int32()),  # as displayed: pixel aspect and rotation applied
        pa.field("height", pa.int32()),
        pa.field("coded_width", pa.int32()),
        pa.field("coded_height", pa.int32()),
        pa.field("rotation", pa.int32()),  # degrees counter-clockwise that make the coded picture upright
        pa.field("pixel_aspect_num", pa.int32()),
        pa.field("pixel_aspect_den", pa.int32()),
        pa.field("rate_num", pa.int32()),  # exact frames a second; null where it varies
        pa.field("rate_den", pa.int32()),
        pa.field("is_variable_rate", pa.bool_()),
        pa.field("average_rate_fps", pa.float64()),
        pa.field("duration_s", pa.float64()),  # of the frames that were decoded
        pa.field("header_duration_s", pa.float64()),
        pa.field("frames", pa.int64()),
        pa.field("start_pts", pa.int64()),
        pa.field("time_base_num", pa.int64()),
        pa.field("time_base_den", pa.int64()),
        pa.field("color_transfer", pa.string()),
        pa.field("color_primaries", pa.string()),
        pa.field("is_hdr", pa.bool_()),
        pa.field("is_interlaced", pa.bool_()),
        pa.field("video_streams", pa.int32()),
        pa.field("audio_streams", pa.int32()),
        pa.field("other_streams", pa.int32()),
        pa.field("audio_codec", pa.string()),
        pa.field("audio_rate_hz", pa.int32()),
        pa.field("audio_channels", pa.int32()),
        pa.field("scenes", pa.int32()),
        pa.field("clips", pa.int32()),
        pa.field("trimmed_s", pa.float64()),  # the clips' durations and this add up to duration_s
        _required("config_hash", pa.string()),
        _required("run_id", pa.string()),
    ]
)

CLIPS = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("source_id", pa.string()),
        _required("scene_index", pa.int32()),
        _required("start_pts", pa.int64()),  # the span, in ticks of the source's stream
        _required("end_pts", pa.int64()),
        _required("time_base_num", pa.int64()),
        _required("time_base_den", pa.int64()),
        _required("entry_pts", pa.int64()),  # the keyframe from which the span decodes right
        _required("start_s", pa.float64()),
        _required("duration_s", pa.float64()),
        _required("frames", pa.int32()),
        _required("rate_fps", pa.float64()),
        _required("width", pa.int32()),  # as displayed
        _required("height", pa.int32()),
        _required("rotation", pa.int32()),
        *(pa.field(score.column, score.type, metadata={"says": score.says}) for score in SCORES),
        pa.field("perceptual_hash", pa.uint64()),
        _required("keep", pa.bool_()),
        pa.field("reason", pa.string()),
        _required("thresholds_id", pa.string()),
        _required("config_hash", pa.string()),
        _required("run_id", pa.string()),
        _required("cut", pa.string()),  # how it was asked to be cut: copy or encode; part of clip_id
        pa.field("encoded_because", pa.string()),  # null where the packets were copied; for cannot_cut, what failed
        pa.field("container", pa.string()),
        pa.field("video_bytes", pa.int64()),
        pa.field("video_start_pts", pa.int64()),  # where the span lies on the clip file's own clock
        pa.field("video_end_pts", pa.int64()),
        pa.field("video_time_base_num", pa.int64()),
        pa.field("video_time_base_den", pa.int64()),
        pa.field("lead_in_frames", pa.int32()),
        pa.field("audio", pa.string()),  # copied, encoded, none, or what was left out and why
        pa.field("thumbnail", pa.binary()),
        lance.blob_field("video"),
    ]
)

RUNS = pa.schema(
    [
        _required("run_id", pa.string()),
        _required("job", pa.string()),
        _required("state", pa.string()),  # running, finished, failed, interrupted
        _required("started_at", pa.timestamp("us", tz="UTC")),
        pa.field("finished_at", pa.timestamp("us", tz="UTC")),
        _required("config", pa.string()),  # JSON
        pa.field("counts", pa.string()),  # JSON: the funnel
        pa.field("error", pa.string()),
        _required("code_version", pa.string()),
        _required("host", pa.string()),
    ]
)
