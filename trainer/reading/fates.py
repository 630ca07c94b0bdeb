"""What becomes of every clip of a store: at what size it is trained, or why not. One row a clip, none left out.

Written once beside the list of clips. The size is that of the whole clip; an epoch that reads it as a picture leaves
out the rest of its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.epoch import EpochConfig, reason_for
from trainer.geometry import Compression, Geometry, fit
from trainer.reading.clips import ClipList
from trainer.reading.tables import mapped, write_once

__all__ = ["TRAINED", "Fates", "fates_table"]

TRAINED = "trained"
SIDE_BITS = 20  # of a number that says a size
NO_SIZE = (0, 0, 0)


class Fates:
    """The table on disk.

    frames, height, width, tokens   what each clip is trained at, 0 where it is not
    picture_height, picture_width   what it is trained at as a picture
    """

    def __init__(self, path: Path):
        self.rows, _ = mapped(path)

    @staticmethod
    def write(clips: ClipList, config: EpochConfig, path: Path) -> None:
        """Raises OSError, ValueError where no clip can be trained on."""
        table = fates_table(clips, config)
        counts = _counts(table["fate"])
        if not counts.get(TRAINED):
            said = ", ".join(f"{reason} {count}" for reason, count in counts.items())
            raise ValueError(f"no clip can be trained on: {said}")
        write_once(table, path, {})

    def column(self, name: str) -> NDArray[Any]:
        return self.rows.column(name).to_numpy(zero_copy_only=True)

    def counts(self) -> dict[str, int]:
        """How many clips were seen, how many of them are trained, and how many are left out for which reason."""
        counts = _counts(self.rows.column("fate"))
        assert sum(counts.values()) == self.rows.num_rows
        trained = counts.pop(TRAINED, 0)
        return {"seen": self.rows.num_rows, TRAINED: trained, **counts}


def _counts(fates: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    counted: list[Mapping[str, Any]] = fates.value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in sorted(counted, key=lambda row: (-row["counts"], row["values"]))}


def fates_table(clips: ClipList, config: EpochConfig) -> pa.Table:
    """The fate of each clip, in the order of the list."""
    size = {name: clips.column(name).astype(np.int64) for name in ("frames", "height", "width")}
    is_open = clips.reasons.is_null().to_numpy(zero_copy_only=False)
    whole, why = _fitted(size, is_open, config, clips.has_latents)
    picture, _ = _fitted({**size, "frames": np.ones_like(size["frames"])}, is_open, config, clips.has_latents)
    is_trained = whole["frames"] > 0
    reason = pc.call_function("coalesce", [clips.reasons, why])
    fate = pc.call_function("if_else", [pa.array(is_trained), pa.scalar(TRAINED), reason])
    c = config.compression
    tokens = _latent_frames(whole["frames"], c) // c.patch_time * (whole["height"] // c.unit_px)
    return pa.table(
        {
            "clip_id": clips.texts("clip_id"),
            "fate": fate,
            **{name: values.astype(np.int32) for name, values in whole.items()},
            "tokens": np.where(is_trained, tokens * (whole["width"] // c.unit_px), 0),
            "frames_left_out": (clips.column("whole_frames") - whole["frames"]).astype(np.int32),
            "picture_height": picture["height"].astype(np.int32),
            "picture_width": picture["width"].astype(np.int32),
        }
    )


def _latent_frames(frames: NDArray[np.int64], compression: Compression) -> NDArray[np.int64]:
    return 1 + (frames - 1) // compression.ratio_time


def _fitted(
    size: dict[str, NDArray[np.int64]], is_open: NDArray[np.bool_], config: EpochConfig, is_exact: bool
) -> tuple[dict[str, NDArray[np.int64]], pa.Array]:
    """The size that each clip is trained at, zeros for none, and then why; each size of clips is fitted once.

    `is_exact`: the clip is a latent already, whose frames can be fewer, but not its pixels.
    """
    frames = np.minimum(size["frames"], config.fit.max_frames or size["frames"])
    c = config.compression
    latent = _latent_frames(frames, c) // c.patch_time * c.patch_time
    whole = np.where(latent > 0, 1 + (latent - 1) * c.ratio_time, 0)  # what is past it does not matter to a fit
    code = np.where(is_open, (whole << 2 * SIDE_BITS) + (size["height"] << SIDE_BITS) + size["width"], 0)
    codes, place = np.unique(code, return_inverse=True)
    fits, reasons = [], []
    for one in codes.tolist():
        sides = one >> 2 * SIDE_BITS, one >> SIDE_BITS & ((1 << SIDE_BITS) - 1), one & ((1 << SIDE_BITS) - 1)
        found = _fit(sides, config)
        if found and is_exact and (found.height, found.width) != sides[1:]:
            found = None
        fits.append((found.frames, found.height, found.width) if found else NO_SIZE)
        reasons.append(None if found or not one else reason_for(max(sides[0], 1), *sides[1:], c))
    of_codes = np.array(fits, np.int64)
    fitted = {name: of_codes[place, axis] for axis, name in enumerate(("frames", "height", "width"))}
    return fitted, pa.array(reasons, pa.string()).take(pa.array(place))


def _fit(sides: tuple[int, int, int], config: EpochConfig) -> Geometry | None:
    frames, height, width = sides
    if not frames or not height or not width:
        return None
    return fit(frames, height, width, Fraction(1), config.compression, config.fit)
