"""What of a store's clips is listed for training, found by joins of whole columns: a million rows in seconds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.compute import SetLookupOptions

from curation.conditions import check_condition, narrowed
from curation.store import Store, StoreUnavailable
from trainer.geometry import Compression
from trainer.reading.clips import KINDS, NONE, ClipList, ClipSource, LatentSource, write_clips

__all__ = ["list_clips", "pinned"]

ACTIVE = ("active_x_px", "active_y_px", "active_width_px", "active_height_px")
NUMBERS = ("frames", "width", "height", *ACTIVE, "video_start_pts", "video_end_pts")
CLIP_COLUMNS = ("clip_id", *NUMBERS, "rate_fps", "time_base_num", "time_base_den", "duration_s", "reason", "keep")
LATENT_COLUMNS = ("input_id", "frames", "height", "width", "rate_num", "rate_den")
MADE_BY = {"clips": "jobs.curate", "captions": "jobs.caption", "latents": "jobs.encode"}
NTSC = 1001  # 30000/1001 and its like
SLOWEST_S = 1_000_000  # of a frame

Numbers = NDArray[Any]


def pinned(store: Store, table: str, version: int) -> lance.LanceDataset:
    """A table at a version that a run began with. Raises StoreUnavailable where that is gone."""
    if (found := store.find(table, version)) is None:
        if store.find(table) is None:
            raise StoreUnavailable(f"{store.uri}: there is no table {table!r}; make it with {MADE_BY[table]}")
        raise StoreUnavailable(
            f"{store.uri}: version {version} of {table!r} is gone, compacted away or never there; a run that was made "
            "with it cannot go on: start a new one, and keep versions longer (jobs.compact)"
        )
    return found


def list_clips(source: ClipSource, compression: Compression, max_tokens: int, directory: Path) -> ClipList:
    """List all clips of a store in `directory`, those that cannot be trained on with the reason.

    `compression` and `max_tokens` choose between several latents of a clip: the largest that fits. Raises ValueError
    for a condition that cannot be asked, and where there is no clip or no caption at all; StoreUnavailable; OSError.
    """
    clips = pinned(source.store, "clips", source.clips_version)
    _refuse_unless_condition(clips, "where", source.where)
    with source.store.reading():
        rows = clips.to_table(columns=list(CLIP_COLUMNS), with_row_id=True).sort_by("_rowid")
        if not len(rows):
            raise ValueError(f"store={source.store.uri}: must have clips; make some with jobs.curate")
        row_ids = rows["_rowid"].to_numpy()
        is_chosen = _has_row(row_ids, clips, source.where)
        has_video = _has_row(row_ids, clips, "video_bytes IS NOT NULL")
        columns = _of_clips(rows)
        clip_ids = rows["clip_id"].combine_chunks()
        caption_ids = _captions(columns, clip_ids, source)
        empty_text_row, has_latent = NONE, np.ones(len(rows), bool)
        columns |= {f"{kind}_embedding": np.full(len(rows), NONE) for kind in KINDS}
        columns["latent_row"] = np.full(len(rows), NONE)
        if source.latents:
            latents = pinned(source.store, "latents", source.latents.version)
            if source.latents.encoder_id:
                empty_text_row = _embeddings(columns, latents, caption_ids, source.latents)
            if source.latents.network_id:
                has_latent = _latents(columns, latents, clip_ids, source.latents, compression, max_tokens)
    suffix = "_embedding" if source.latents and source.latents.encoder_id else ""
    has_caption, has_text = (np.full(len(rows), source.captions_version is None) for _ in range(2))
    for kind in KINDS:
        has_caption |= columns[kind] != NONE
        has_text |= columns[kind + suffix] != NONE
    lacks = {"no_latent": ~has_latent, "no_embedding": ~has_text, "no_caption": ~has_caption, "no_video": ~has_video}
    reason = _reasons(rows, is_chosen, lacks)
    table = pa.table({"clip_id": clip_ids, **{k: pa.array(v) for k, v in columns.items()}, "reason": reason})
    return write_clips(table, empty_text_row, source, directory)


def _refuse_unless_condition(table: lance.LanceDataset, name: str, where: str) -> None:
    try:
        check_condition(table, where)
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0][:300]
        raise ValueError(f"{name}={where}: must be a condition on the table's columns: {said}") from None


def _has_row(row_ids: Numbers, table: lance.LanceDataset, where: str) -> NDArray[np.bool_]:
    """Which rows a condition chooses; `row_ids` are sorted."""
    found = table.to_table(columns=[], filter=where, with_row_id=True)["_rowid"].to_numpy()
    chosen = np.zeros(len(row_ids), bool)
    chosen[np.searchsorted(row_ids, found)] = True
    return chosen


def _of_clips(rows: pa.Table) -> dict[str, Numbers | pa.Array]:
    """The numbers of clips: what is shown as frames, height and width, what is stored with `whole_` before it."""
    n = {name: rows[name].to_numpy() for name in ("frames", "width", "height")}
    is_whole = np.zeros(len(rows), bool)
    for name in ACTIVE:
        is_whole |= rows[name].is_null().to_numpy()
    shown = {side: np.where(is_whole, n[side], _filled(rows[f"active_{side}_px"])) for side in ("width", "height")}
    rate_num, rate_den = exact_rates(
        rows["rate_fps"].to_numpy(),
        rows["time_base_num"].to_numpy() / rows["time_base_den"].to_numpy() / rows["duration_s"].to_numpy(),
    )
    return {
        "row_id": rows["_rowid"].to_numpy().astype(np.int64),
        "frames": n["frames"].astype(np.int32),
        "height": shown["height"].astype(np.int32),
        "width": shown["width"].astype(np.int32),
        "rate_num": rate_num,
        "rate_den": rate_den,
        **{f"whole_{name}": value.astype(np.int32) for name, value in n.items()},
        **{name: rows[name].combine_chunks().cast(pa.int32()) for name in ACTIVE},
        **{name: rows[name].combine_chunks() for name in ("video_start_pts", "video_end_pts")},
    }


def _places(values: pa.Array | pa.ChunkedArray, among: pa.Array) -> Numbers:
    """Where each value stands among others that differ; NONE where it does not."""
    found = pc.call_function("index_in", [values], SetLookupOptions(among))
    return found.fill_null(NONE).to_numpy()


def _filled(column: pa.ChunkedArray) -> Numbers:
    return column.fill_null(0).to_numpy()


def exact_rates(rates: Numbers, errors: Numbers) -> tuple[Numbers, Numbers]:
    """Numerators and denominators of rates that are frames by duration, each with the share by which it may be wrong: a
    tick by the duration.

    The nearest of whole rates and those of NTSC (k * 1000/1001) where that may be it, as times in milliseconds say
    23.98 of what is 24000/1001; else the nearest fraction with a small denominator.
    """
    whole, ntsc = np.rint(rates), np.rint(rates * NTSC / 1000)
    whole_error, ntsc_error = np.abs(whole / rates - 1), np.abs(ntsc * 1000 / NTSC / rates - 1)
    is_ntsc = (ntsc_error < whole_error) & (ntsc > 0)
    num, den = np.where(is_ntsc, ntsc * 1000, whole), np.where(is_ntsc, NTSC, 1)
    is_exact = (np.where(is_ntsc, ntsc_error, whole_error) <= errors / np.maximum(1 - errors, 1e-9) + 1e-9) & (num > 0)
    others, place = np.unique(rates[~is_exact], return_inverse=True)
    fractions = [_near(Fraction(rate)) for rate in others.tolist()]
    for values, part in ((num, "numerator"), (den, "denominator")):
        values[~is_exact] = np.array([getattr(fraction, part) for fraction in fractions], np.float64)[place]
    divisor = np.gcd(num.astype(np.int64), den.astype(np.int64))
    return num.astype(np.int64) // divisor, den.astype(np.int64) // divisor


def _near(rate: Fraction) -> Fraction:
    return rate.limit_denominator(NTSC) or max(rate.limit_denominator(SLOWEST_S), Fraction(1, SLOWEST_S))


def _captions(
    columns: dict[str, Numbers | pa.Array], clip_ids: pa.Array, source: ClipSource
) -> dict[str, tuple[Numbers, pa.Array]]:
    """Fill in each clip's newest caption of each kind; the caption ids of these, with the clips' numbers."""
    columns |= {kind: np.full(len(clip_ids), NONE, np.int64) for kind in KINDS}
    if source.captions_version is None:
        return {}
    captions = pinned(source.store, "captions", source.captions_version)
    _refuse_unless_condition(captions, "captions_where", source.captions_where)
    asked = narrowed(source.captions_where, "text IS NOT NULL AND text != '' AND window_index IS NULL")
    found = captions.to_table(columns=["caption_id", "clip_id", "kind"], filter=asked, with_row_id=True)
    if not len(found):
        raise ValueError(
            f"captions_where={source.captions_where}: must choose captions of whole clips, and {source.store.uri} has "
            "none; make some with jobs.caption"
        )
    places, row_ids = _places(found["clip_id"], clip_ids), found["_rowid"].to_numpy().astype(np.int64)
    kinds = found["kind"].to_numpy()
    chosen: dict[str, tuple[Numbers, pa.Array]] = {}
    for kind in KINDS:
        is_kind = (kinds == kind) & (places != NONE)
        clips, rows = places[is_kind], row_ids[is_kind]
        newest = columns[kind]
        np.maximum.at(newest, clips, rows)
        is_newest = newest[clips] == rows
        chosen[kind] = clips[is_newest], found["caption_id"].take(np.flatnonzero(is_kind)[is_newest]).combine_chunks()
    return chosen


def _embeddings(
    columns: dict[str, Numbers | pa.Array],
    latents: lance.LanceDataset,
    captions: dict[str, tuple[Numbers, pa.Array]],
    source: LatentSource,
) -> int:
    """Fill in the row of each caption's embedding; the row of that of no text."""
    asked = f"kind = 'text' AND network_id = {_quoted(source.encoder_id)} AND failure IS NULL"
    found = latents.to_table(columns=["input_id"], filter=asked, with_row_id=True).sort_by("_rowid")
    rows = found["_rowid"].to_numpy().astype(np.int64)
    # Of several with one id the newest: row ids grow, and a dictionary would keep the first.
    ids, rows = found["input_id"].combine_chunks()[::-1], rows[::-1]
    for kind, (clips, caption_ids) in captions.items():
        places = _places(caption_ids, ids)
        embedded = np.full(len(columns["row_id"]), NONE, np.int64)
        embedded[clips[places != NONE]] = rows[places[places != NONE]]
        columns[f"{kind}_embedding"] = embedded
    (empty,) = _places(pa.array([""]), ids)
    if empty == NONE:
        raise ValueError(
            f"encoder_id={source.encoder_id}: must have read no text as well, and it is not in version "
            f"{source.version} of 'latents'; run jobs.encode with it"
        )
    return int(rows[empty])


def _latents(
    columns: dict[str, Numbers | pa.Array],
    latents: lance.LanceDataset,
    clip_ids: pa.Array,
    source: LatentSource,
    compression: Compression,
    max_tokens: int,
) -> NDArray[np.bool_]:
    """Fill in each clip's latent, and what it is in pixels: of several the largest that fits, else the smallest. Which
    clips have any."""
    asked = f"kind = 'clip' AND network_id = {_quoted(source.network_id)} AND failure IS NULL"
    found = latents.to_table(columns=list(LATENT_COLUMNS), filter=asked, with_row_id=True)
    clips = _places(found["input_id"], clip_ids)
    found, clips = found.filter(pa.array(clips != NONE)), clips[clips != NONE]
    values = {name: found[name].to_numpy() for name in LATENT_COLUMNS[1:]}
    frames, unit = 1 + (values["frames"] - 1) // compression.ratio_time, compression.unit_px
    tokens = frames // compression.patch_time * (values["height"] // unit) * (values["width"] // unit)
    rows = found["_rowid"].to_numpy().astype(np.int64)
    worth = np.where(tokens <= max_tokens, tokens.astype(np.int64), -tokens.astype(np.int64))
    order = np.lexsort((rows, worth))
    chosen = np.full(len(clip_ids), NONE, np.int64)
    chosen[clips[order]] = order  # the last of a clip's stays
    has_latent = chosen != NONE
    place = chosen[has_latent]
    columns["latent_row"][has_latent] = rows[place]
    for name, of_latents in values.items():
        columns[name][has_latent] = of_latents[place]
    return has_latent


def _quoted(text: str | None) -> str:
    assert text is not None
    return "'" + text.replace("'", "''") + "'"


def _reasons(rows: pa.Table, is_chosen: NDArray[np.bool_], lacks: dict[str, NDArray[np.bool_]]) -> pa.Array:
    """Null for none; of what a clip lacks the last."""
    named = _distinct(rows["reason"])
    of_verdict = np.array([*(f"rejected_{reason}" for reason in named), "where"], object)
    verdicts = np.where(rows["keep"].to_numpy(), NONE, _places(rows["reason"], pa.array(named, pa.string())))
    reason = np.full(len(rows), None, object)
    for name, is_lacking in lacks.items():
        reason[is_lacking] = name
    reason[~is_chosen] = of_verdict[verdicts[~is_chosen]]
    return pa.array(reason, pa.string())


def _distinct(column: pa.ChunkedArray) -> list[str]:
    return sorted(value for value in column.unique().to_pylist() if value is not None)
