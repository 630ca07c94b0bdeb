"""The plan on disk: for each step of a run, however long it is, and each slot, the clips that are read.

It is cut into volumes, each with whole epochs: one, or as many as make `VOLUME_STEPS` steps. A volume is made when a
step of it is first asked for, and a pure function of the list of clips and the config, so whoever makes it makes the
same; it is mapped into memory, so that a million clips cost no more to open than ten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.epoch import EpochConfig, are_pictures, packs_in_order
from trainer.geometry import Geometry
from trainer.reading.clips import CaptionKind, ClipList
from trainer.reading.fates import Fates
from trainer.reading.tables import mapped, write_once

__all__ = ["Planned", "Plans"]

VOLUME_STEPS = 512  # at least; so that a store of a few clips, whose epochs are of a step, has few files
FORMAT = 1  # counted up where the same clips and config would give another plan
OPEN_VOLUMES = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """A clip as a pack has it.

    number         of the clip in the list
    row_id         in `clips`
    caption_rows   in `captions`, by kind
    """

    number: int
    row_id: int
    geometry: Geometry
    caption_rows: Mapping[CaptionKind, int]

    @property
    def is_picture(self) -> bool:
        """Whether its first frame alone is read."""
        return self.geometry.frames == 1


@dataclass(frozen=True, slots=True)
class Volume:
    """Whole epochs, one after another; a row of `packs` is a slot of a step."""

    number: int
    first_step: int
    first_epoch: int
    epoch_steps: tuple[int, ...]
    packs: pa.RecordBatch

    @property
    def end_step(self) -> int:
        return self.first_step + sum(self.epoch_steps)

    @property
    def end_epoch(self) -> int:
        return self.first_epoch + len(self.epoch_steps)


class Plans:
    """The plan of a run, in the directory of the list of its clips; `epoch` of the config is where it begins.

    Raises ValueError for a config that does not suit the clips, and where no clip can be trained on; OSError.
    """

    def __init__(self, directory: Path, config: EpochConfig):
        self.directory, self.config = directory, config
        self.clips = ClipList(directory)
        if config.fit.square_crop and self.clips.has_latents:
            raise ValueError("square_crop=True: must be False where latents are read: they cannot be cropped any more")
        self._volumes: dict[int, Volume] = {}

    def __reduce__(self) -> tuple[type[Plans], tuple[Path, EpochConfig]]:
        return Plans, (self.directory, self.config)

    @cached_property
    def plan_id(self) -> str:
        """Hash of all that the plan is made from: another id, other packs."""
        made_from = repr((FORMAT, self.clips.clips_id, asdict(self.config)))
        return hashlib.sha256(made_from.encode()).hexdigest()[:32]

    @cached_property
    def fates(self) -> Fates:
        """What becomes of each clip; written when first asked for."""
        path = self.directory / f"fates-{self.plan_id[:12]}.arrow"
        if not path.exists():
            Fates.write(self.clips, self.config, path)
        return Fates(path)

    def samples(self, step: int, slot: int) -> tuple[Planned, ...]:
        """The clips of a pack. Raises OSError where a volume has to be made and cannot be written."""
        assert 0 <= slot < self.config.slots, f"slot {slot} of {self.config.slots}"
        assert step >= 0, f"step {step}"
        volume = self._volume(step)
        row = (step - volume.first_step) * self.config.slots + slot
        numbers, *sizes = (
            volume.packs.column(name)[row].values.to_pylist() for name in ("numbers", "frames", "height", "width")
        )
        return tuple(self._planned(number, size) for number, *size in zip(numbers, *sizes, strict=True))

    def epoch_of(self, step: int) -> int:
        volume = self._volume(step)
        ends = np.cumsum(volume.epoch_steps)
        return volume.first_epoch + int(np.searchsorted(ends, step - volume.first_step, side="right"))

    def epoch_steps(self, step: int) -> int:
        """How many steps the epoch of a step has."""
        volume = self._volume(step)
        return volume.epoch_steps[self.epoch_of(step) - volume.first_epoch]

    def prepare(self, step: int) -> None:
        """See to it that the volume of a step is there, for whoever reads it next; may be called from a thread."""
        self._found(step)

    def planned_as(self, number: int, frames: int, height: int, width: int) -> Planned:
        """A clip at a size that it is not planned at, for a place whose own clip cannot be decoded."""
        return self._planned(number, (frames, height, width))

    def _planned(self, number: int, size: Sequence[int]) -> Planned:
        frames, height, width = size
        geometry = Geometry(frames, height, width, self.clips.rate(number), self.config.compression)
        return Planned(number, int(self.clips.column("row_id")[number]), geometry, self.clips.caption_rows(number))

    # -- volumes

    def _volume(self, step: int) -> Volume:
        for volume in self._volumes.values():
            if volume.first_step <= step < volume.end_step:
                return volume
        volume = self._found(step)
        self._volumes = dict([*self._volumes.items(), (volume.number, volume)][-OPEN_VOLUMES:])
        return volume

    def _found(self, step: int) -> Volume:
        """The volume of a step, from the disk, else made, with those before it that are not there."""
        starts = {int(path.stem.split("-")[-1]): path for path in self.directory.glob(f"{self._name}-*.arrow")}
        before = [start for start in starts if start <= step]
        number, first_step, first_epoch = 0, 0, self.config.epoch
        if before:
            volume = self._opened(starts[max(before)])
            if step < volume.end_step:
                return volume
            number, first_step, first_epoch = volume.number + 1, volume.end_step, volume.end_epoch
        while True:
            volume = self._made(number, first_step, first_epoch)
            if step < volume.end_step:
                return volume
            number, first_step, first_epoch = volume.number + 1, volume.end_step, volume.end_epoch

    @property
    def _name(self) -> str:
        return f"plan-{self.plan_id[:12]}"

    def _opened(self, path: Path) -> Volume:
        packs, about = mapped(path)
        said = json.loads(about["volume"])
        return Volume(said["number"], said["first_step"], said["first_epoch"], tuple(said["epoch_steps"]), packs)

    def _made(self, number: int, first_step: int, first_epoch: int) -> Volume:
        epochs, epoch_steps = [], []
        while sum(epoch_steps) < VOLUME_STEPS:
            epochs.append(self._epoch(first_epoch + len(epochs)))
            epoch_steps.append(len(epochs[-1]) // self.config.slots)
        said = {
            "number": number,
            "first_step": first_step,
            "first_epoch": first_epoch,
            "epoch_steps": epoch_steps,
        }
        path = self.directory / f"{self._name}-{number:06}-{first_step:012}.arrow"
        write_once(pa.concat_tables(epochs), path, {"volume": json.dumps(said), "plan_id": self.plan_id})
        return self._opened(path)

    def _epoch(self, epoch: int) -> pa.Table:
        """Its packs in order, as numbers of clips and their sizes."""
        config, fates = replace(self.config, epoch=epoch), self.fates
        sizes = {name: fates.column(name) for name in ("frames", "height", "width")}
        lengths = fates.column("tokens")
        row_ids = self.clips.column("row_id").astype(np.uint64)
        is_picture = are_pictures(row_ids, config) & (lengths > 0)
        if is_picture.any():
            sizes, lengths = self._with_pictures(is_picture, sizes, lengths)
        if not lengths.any():
            raise ValueError(f"picture_share={config.picture_share}: leaves no clip, pictures have too few frames")
        packs, _ = packs_in_order(lengths, config)
        numbers = np.fromiter(chain.from_iterable(packs), np.int32)
        offsets = np.cumsum([0, *map(len, packs)], dtype=np.int32)
        columns = {"numbers": numbers, **{name: size[numbers] for name, size in sizes.items()}}
        return pa.table({name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(v)) for name, v in columns.items()})

    def _with_pictures(
        self, is_picture: NDArray[np.bool_], sizes: dict[str, NDArray[Any]], lengths: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Sizes and tokens, with those of pictures. A clip of which a picture is none is left out as it was."""
        sides = {name: self.fates.column(f"picture_{name}") for name in ("height", "width")}
        of_pictures = {"frames": np.minimum(sides["height"], 1), **sides}
        unit = self.config.compression.unit_px
        tokens = (sides["height"] // unit).astype(np.int64) * (sides["width"] // unit)
        sizes = {name: np.where(is_picture, of_pictures[name], size) for name, size in sizes.items()}
        return sizes, np.where(is_picture, tokens, lengths)
