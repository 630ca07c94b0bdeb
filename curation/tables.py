"""The columns of a store's tables. A row is a plain dict on its way in; these schemas are the promise to readers."""

from __future__ import annotations

import lance
import pyarrow as pa

from curation.scores import SCORES

__all__ = [
    "CAPTIONS",
    "CLIPS",
    "DUPLICATES",
    "FILMS",
    "FINGERPRINTS",
    "LATENTS",
    "MODELS",
    "MODEL_SCORES",
    "RUNS",
    "SOURCES",
]


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
        pa.field("compared", pa.string()),  # how its clips were compared with all others; null until they are
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
        pa.field("fingerprint", pa.binary()),  # see fingerprint.Fingerprint
        _required("keep", pa.bool_()),
        pa.field("reason", pa.string()),
        pa.field("duplicate_of", pa.string()),  # for the reason duplicate: the clip that is kept in its place
        pa.field("duplicate_kind", pa.string()),  # exact, near, semantic
        pa.field("compared_by", pa.string()),  # the model by whose embeddings it was compared with all others
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

# Which clips have which keys: a clip shares some with its copies. An index, made from `clips.fingerprint`.
FINGERPRINTS = pa.schema(
    [
        _required("key", pa.uint32()),  # see fingerprint_keys.keys_of
        _required("check", pa.uint32()),
        _required("has_few", pa.bool_()),  # the clip has few keys, so one in common means something
        _required("clip", pa.binary(16)),  # clip_id, two digits a byte
        _required("source", pa.int64()),  # the first 16 digits of source_id
    ]
)

# Pairs of clips that show the same. Facts: which of the two is kept follows from them, see duplicate_verdicts.
DUPLICATES = pa.schema(
    [
        _required("clip_id", pa.string()),  # the lesser of the two ids
        _required("other_id", pa.string()),
        _required("kind", pa.string()),  # exact, near, semantic
        _required("source_id", pa.string()),
        _required("other_source_id", pa.string()),
        _required("distance", pa.float64()),  # 0 for the same, see overlap.Overlap; for semantic 1 - cosine
        pa.field("overlap_s", pa.float64()),  # how long both show the same; null for semantic
        pa.field("offset_s", pa.float64()),  # where the other starts on the clip's clock
        pa.field("rate", pa.float64()),  # how many times as fast the other runs
        _required("share", pa.float64()),  # of the clip that the other shows
        _required("other_share", pa.float64()),  # of the other that the clip shows
        pa.field("model_id", pa.string()),  # for semantic: of the embeddings
    ]
)

# Models that have said something about clips of this store. Embeddings are in a table a model, `embeddings.table_of`.
MODELS = pa.schema(
    [
        _required("model_id", pa.string()),  # from its files' content
        _required("name", pa.string()),  # what its user called it: a directory, a hub id, a class
        pa.field("dimension", pa.int32()),  # numbers of a vector; null for a model that gives scores
        _required("scores", pa.list_(pa.string())),  # the scores that it gives; none for embeddings
        _required("asked_at", pa.timestamp("us", tz="UTC")),  # the last time that a run asked for it
        _required("run_id", pa.string()),
    ]
)

# What models say of clips: a row is a clip, a score and a model, added and never changed.
MODEL_SCORES = pa.schema(
    [
        _required("clip_id", pa.string()),
        _required("score", pa.string()),
        _required("model_id", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("text", pa.string()),  # for scores that are words
        pa.field("failure", pa.string()),  # why there is neither
        _required("run_id", pa.string()),
    ]
)

# Captions are added, never changed: another model, prompt or kind is another row.
CAPTIONS = pa.schema(
    [
        _required("caption_id", pa.string()),  # from clip, window, kind, model and prompt
        _required("clip_id", pa.string()),
        _required("source_id", pa.string()),
        _required("kind", pa.string()),  # original, short, descriptive, motion
        pa.field("text", pa.string()),  # null where nothing could be said: `flags` tells why
        pa.field("fields", pa.string()),  # JSON: the answer that the text was made from, see captioner.fields
        pa.field("window_index", pa.int32()),  # null for the whole clip
        _required("window_start_pts", pa.int64()),  # the part of the clip that was shown, in ticks of its source
        _required("window_end_pts", pa.int64()),
        _required("captioner", pa.string()),  # facts, vllm, openai; for kind original `side_file` or `table`
        _required("model", pa.string()),  # a directory's name or a hub id; of no model, the captioner's version
        _required("model_revision", pa.string()),  # from its files' content where they are here; part of the key
        _required("prompt_id", pa.string()),  # from prompt, schema and how the window was shown
        pa.field("request_id", pa.string()),
        pa.field("seed", pa.int64()),
        _required("attempts", pa.int32()),  # how many times it was asked
        pa.field("tokens_in", pa.int32()),
        pa.field("tokens_out", pa.int32()),
        pa.field("finish_reason", pa.string()),
        _required("flags", pa.list_(pa.string())),  # what the checks found; empty where nothing
        pa.field("agreement", pa.float32()),  # cosine with the clip, by the embedding model
        _required("run_id", pa.string()),
    ]
)

# What is said of a whole source.
FILMS = pa.schema(
    [
        _required("film_id", pa.string()),  # from source, kind, question, position, model and prompt
        _required("source_id", pa.string()),
        _required("kind", pa.string()),  # synopsis, chapter, answer
        _required("position", pa.int32()),  # of a chapter or question, from 0
        pa.field("title", pa.string()),  # of a chapter
        pa.field("question", pa.string()),
        _required("text", pa.string()),
        pa.field("start_s", pa.float64()),  # of a chapter; of an answer, the first time that it rests on
        pa.field("end_s", pa.float64()),
        _required("clip_ids", pa.list_(pa.string())),  # what it rests on
        _required("captioner", pa.string()),
        _required("model", pa.string()),
        _required("prompt_id", pa.string()),
        _required("flags", pa.list_(pa.string())),
        _required("run_id", pa.string()),
    ]
)

# Clips in a compression network's space and texts in a text encoder's: added, never changed. A row with a failure says
# that there is nothing to be had; it is tried again when the row is deleted, or another geometry or network asked for.
LATENTS = pa.schema(
    [
        _required("latent_id", pa.string()),  # from input, network and shape; see trainer.encoding
        _required("input_id", pa.string()),  # clip_id; for a text caption_id, empty for no text
        _required("kind", pa.string()),  # clip, text
        _required("network_id", pa.string()),  # from its weights; for a text that of the text encoder
        pa.field("frames", pa.int32()),  # in pixels; null for texts, and for clips that fit no geometry
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("rate_num", pa.int32()),  # frames a second; null for texts
        pa.field("rate_den", pa.int32()),
        pa.field("latent_shape", pa.list_(pa.int32())),  # C, T, H, W; of a text L, D
        pa.field("dtype", pa.string()),  # float16, little-endian
        pa.field("failure", pa.string()),  # a short name; null where there is a latent
        _required("run_id", pa.string()),
        lance.blob_field("latent"),
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
