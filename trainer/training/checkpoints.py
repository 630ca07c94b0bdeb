"""Checkpoints of a run: each process writes its part beside the training, as safetensors; nothing is pickled.

A checkpoint is what has a `checkpoint.json`, written last, inside a directory that gets its name when all is there. So
a kill, or a full disk, leaves the one before as the newest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from curation.whole_files import write_whole
from trainer.checkpoint import BadCheckpoint
from trainer.training.crew import Crew

__all__ = ["Checkpoint", "Checkpoints", "load_checkpoint", "newest_checkpoint"]

MARK = "checkpoint.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run can go on.

    step      the next one
    run_id    of the run's facts: another config is another run
    plan_id   of the packs that it reads
    """

    step: int
    run_id: str
    plan_id: str


@dataclass(frozen=True, slots=True)
class _Writing:
    checkpoint: Checkpoint
    future: Future[Any]


class Checkpoints:
    """Writes them, one at a time, and keeps the newest few. All processes call it alike."""

    def __init__(self, directory: Path, crew: Crew, keep: int, begun_at: int = 0):
        """`begun_at` is the step that the run goes on from: what is said to be of later ones was not whole."""
        self._directory, self._crew, self._keep = directory, crew, keep
        self._writing: _Writing | None = None
        # Its own group: what is written speaks to the others while steps do.
        self._group: Any = distributed.new_group(backend="gloo") if crew.size > 1 else None
        if crew.rank == 0 and directory.is_dir():
            later = [folder for folder in directory.glob("step-*") if folder.name > _name_of(begun_at)]
            for useless in (*directory.glob(".step-*"), *later):  # of a run that was killed
                shutil.rmtree(useless, ignore_errors=True)

    def begin(self, checkpoint: Checkpoint, state: Mapping[str, Tensor]) -> None:
        """Copy the state, and write the copy while the run goes on. Waits for the one before. Raises OSError."""
        self.finish()
        partial = self._partial(checkpoint.step)
        if self._crew.rank == 0:
            try:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            except OSError as error:
                raise self._failed(checkpoint, error) from error
        self._crew.wait()
        writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)
        future = async_save(dict(state), storage_writer=writer, process_group=self._group)
        assert isinstance(future, Future)
        self._writing = _Writing(checkpoint, future)

    def look(self) -> None:
        """Give a checkpoint its name once all of it is written; does not wait. Raises OSError."""
        if self._writing and self._writing.future.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the one that is being written. Raises OSError, and the ones before stay."""
        if (writing := self._writing) is None:
            return
        self._writing = None
        try:
            writing.future.result()
            if self._crew.rank == 0:
                self._name(writing.checkpoint)
        except (Exception, CheckpointException) as error:  # a full disk comes as errors of several kinds
            shutil.rmtree(self._partial(writing.checkpoint.step), ignore_errors=True)
            raise self._failed(writing.checkpoint, error) from error

    def _name(self, checkpoint: Checkpoint) -> None:
        partial = self._partial(checkpoint.step)
        files = sorted(partial.iterdir())
        for file in files:
            _to_disk(file)
        sizes = {file.name: file.stat().st_size for file in files}
        write_whole(partial / MARK, json.dumps({**asdict(checkpoint), "files": sizes}, indent=1) + "\n")
        named = self._directory / _name_of(checkpoint.step)
        shutil.rmtree(named, ignore_errors=True)
        os.replace(partial, named)
        _to_disk(self._directory)  # before those that it takes the place of are removed
        for old in sorted(self._directory.glob("step-*"))[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)

    def _partial(self, step: int) -> Path:
        return self._directory / f".step-{step:08d}"

    def _failed(self, checkpoint: Checkpoint, error: BaseException) -> OSError:
        newest = newest_checkpoint(self._directory)
        last = f"the last good one is {newest[0]}" if newest else "there is none before it"
        text = f"{error} {error.__cause__ or ''}"
        why = "no space is left on the device; free some" if "No space left" in text else _last_line(error)
        return OSError(f"{self._directory}: the checkpoint of step {checkpoint.step} cannot be written: {why}; {last}")


def _name_of(step: int) -> str:
    return f"step-{step:08d}"


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1].strip()[:300]


def newest_checkpoint(directory: Path) -> tuple[Path, Checkpoint] | None:
    """The newest that is whole, None where there is none. One that is damaged is passed over for the one before.

    Raises BadCheckpoint where there are some and none of them is whole.
    """
    faults = []
    for folder in sorted(directory.glob("step-*"), reverse=True):
        try:
            return folder, _read_mark(folder)
        except BadCheckpoint as error:
            faults.append(str(error))
    if faults:
        raise BadCheckpoint(f"no checkpoint of {directory} is whole: {faults[0]}; remove them to begin again")
    return None


def _read_mark(folder: Path) -> Checkpoint:
    try:
        said = json.loads((folder / MARK).read_text(encoding="utf-8"))
        files, checkpoint = said.pop("files"), Checkpoint(**said)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadCheckpoint(f"{folder / MARK}: cannot be read ({error})") from error
    for name, size in files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            found = f"{file.stat().st_size} bytes" if file.is_file() else "missing"
            raise BadCheckpoint(f"{file}: is {found}, and {size} bytes were written")
    return checkpoint


def load_checkpoint(folder: Path, state: Mapping[str, Tensor], crew: Crew) -> None:
    """Fill a run's tensors, whatever number of processes wrote them. Raises BadCheckpoint."""
    try:
        load(dict(state), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=crew.size == 1)
    except (Exception, CheckpointException) as error:  # files that do not fit raise errors of many kinds
        older = len(list(folder.parent.glob("step-*"))) > 1
        what = "remove it to go on from the one before, or give another --run" if older else "give another --run"
        raise BadCheckpoint(f"{folder}: does not fit this run ({_last_line(error)}); {what}") from error
