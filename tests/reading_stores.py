"""Stores that training reads, row by row as a test wants them, with real videos of plain pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captioner.captions import Caption, write_captions
from curation.film_encode import Encoding, encode_film
from curation.store import STORAGE_VERSION, Store
from curation.tables import CLIPS, LATENTS
from trainer.epoch import EpochConfig
from trainer.geometry import FitConfig
from trainer.model.config import TransformerConfig, preset
from trainer.packing import PackConfig
from trainer.reading.clips import ClipSource
from trainer.reading.listing import list_clips
from trainer.reading.plan_table import Plans

RATE, TICKS = Fraction(8), 1600  # frames a second, ticks of a file a frame: mp4 wants 10000 a second
TINY = replace(preset("1m"), width=32, depth=2, mlp_width=64, head_width=16, text_width=16)


@dataclass(frozen=True, slots=True)
class MadeClip:
    """A clip as its row has it, and what its video shows: `level` from left to right, so that no two are the same."""

    name: str
    frames: int = 17
    width: int = 64
    height: int = 64
    level: int = 100
    keep: bool = True
    reason: str | None = None
    box: tuple[int, int, int, int] | None = None  # x, y, width, height of the active picture; black around it
    video: bytes | None = None  # other bytes than its own
    has_video: bool = True
    rotation: int = 0
    captions: tuple[str, ...] = ("short", "descriptive")


def pictures(clip: MadeClip) -> Iterator[NDArray[np.uint8]]:
    """Brighter from left to right, and from frame to frame."""
    ramp = np.linspace(0, 60, clip.width) + clip.level
    for frame in range(clip.frames):
        shown = np.repeat(np.broadcast_to(ramp + frame, (clip.height, clip.width))[..., None], 3, 2)
        if clip.box:
            x, y, width, height = clip.box
            inside = np.zeros_like(shown)
            inside[y : y + height, x : x + width] = shown[y : y + height, x : x + width]
            shown = inside
        yield shown.clip(0, 255).astype(np.uint8)


def video_of(clip: MadeClip, folder: Path) -> bytes:
    path = folder / f"{clip.name}.mp4"
    encode_film(path, pictures(clip), Encoding(rate=RATE, time_base=1 / (RATE * TICKS), rotation_deg=clip.rotation))
    return path.read_bytes()


def made_store(folder: Path, clips: Sequence[MadeClip]) -> Store:
    """A store with these clips, in this order, and a caption of each kind that a clip is to have."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.at(str(folder / "store"))
    store.create()
    add_clips(store, folder, clips)
    captions = [caption(clip.name, kind) for clip in clips for kind in clip.captions]
    write_captions(store, captions, "run-test")
    return store


def add_clips(store: Store, folder: Path, clips: Sequence[MadeClip]) -> None:
    rows = [_row(clip, folder) for clip in clips]
    fragments = [lance.FragmentMetadata.from_json(text) for text in store.write_clips(iter(rows))]
    version = store.open("clips").version
    lance.LanceDataset.commit(store.table_uri("clips"), lance.LanceOperation.Append(fragments), read_version=version)


def _row(clip: MadeClip, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        field.name: "" if pa.types.is_string(field.type) else 0 for field in CLIPS if not field.nullable
    }
    box = clip.box or (None,) * 4
    row |= {
        "clip_id": clip.name,
        "frames": clip.frames,
        "width": clip.width,
        "height": clip.height,
        "rotation": clip.rotation,
        "rate_fps": float(RATE),
        "duration_s": clip.frames / float(RATE),
        "time_base_num": 1,
        "time_base_den": int(RATE),
        "keep": clip.keep,
        "reason": clip.reason,
        **{f"active_{side}_px": value for side, value in zip(("x", "y", "width", "height"), box, strict=True)},
        "video_start_pts": 0,
        "video_end_pts": clip.frames * TICKS,
    }
    if clip.has_video:
        video = video_of(clip, folder) if clip.video is None else clip.video
        row |= {"video": video, "video_bytes": len(video)}
    return row


def caption(name: str, kind: str, *, model: str = "test", **other: Any) -> Caption:
    """What is said of a clip; the model makes it another row."""
    known: dict[str, Any] = {
        "text": f"The {kind} caption of {name}. It has two sentences.",
        "window_index": None,
        "window_start_pts": 0,
        "window_end_pts": 17,
        "captioner": "test",
        "model_revision": "1",
        "prompt_id": "test",
        "attempts": 1,
    }
    return Caption(clip_id=name, source_id="", kind=kind, model=model, **(known | other))


def write_latents(store: Store, rows: Sequence[dict[str, Any]]) -> None:
    """Rows with `input_id`, `kind`, `network_id` and `values`, an array; a clip's has its size in pixels, too."""
    common = {"dtype": "float16", "rate_num": 8, "rate_den": 1, "run_id": "run-test"}
    listed = [common | {"latent_id": f"latent of {row['input_id']}"} | row for row in rows]
    values: list[NDArray[np.float16]] = [np.asarray(row.pop("values"), np.float16) for row in listed]
    for row, value in zip(listed, values, strict=True):
        row["latent_shape"] = list(value.shape)
    arrays = [
        lance.blob_array([value.tobytes() for value in values])
        if field.name == "latent"
        else pa.array([row.get(field.name) for row in listed], field.type)
        for field in LATENTS
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=LATENTS)
    lance.write_dataset(
        pa.RecordBatchReader.from_batches(LATENTS, [batch]),
        store.table_uri("latents"),
        mode="append" if store.find("latents") is not None else "create",
        data_storage_version=STORAGE_VERSION,
        enable_stable_row_ids=True,
    )


def source_of(store: Store, **other: Any) -> ClipSource:
    return ClipSource(store, store.open("clips").version, store.open("captions").version, **other)


def config_of(
    transformer: TransformerConfig = TINY, *, max_tokens: int = 80, budget_tokens: int = 160, **other: Any
) -> EpochConfig:
    fit = other.pop("fit", FitConfig(max_tokens, min_side_px=32))
    return EpochConfig(fit, PackConfig(budget_tokens), transformer.compression, **({"slots": 4} | other))


def plans_of(store: Store, directory: Path, config: EpochConfig | None = None, **source: Any) -> Plans:
    config = config or config_of()
    list_clips(source_of(store, **source), config.compression, config.fit.max_tokens, directory)
    return Plans(directory, config)
