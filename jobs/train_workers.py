"""The processes that train together, by Ray Train, and what is seen of them while they do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import ray.train

from curation.model_files import BadModel
from curation.store import StoreUnavailable
from jobs.progress import Progress
from jobs.ray_train import Workers, cause_of, trainer_of
from jobs.runs import EXIT_INTERRUPTED, say
from trainer.checkpoint import BadCheckpoint
from trainer.reading.slots import NothingReadable
from trainer.training.checkpoints import newest_checkpoint
from trainer.training.crew import Crew
from trainer.training.files import RunFiles
from trainer.training.guard import Diverged
from trainer.training.sharding import divide_memory_less
from trainer.training.work import NetworkWork, TransformerWork

__all__ = ["run_workers"]

LOOK_S = 1.0
LASTING = BadCheckpoint, BadModel, NothingReadable, Diverged
"""What a restart would meet again: all that a run reads and draws is the same."""
FORESEEN = *LASTING, StoreUnavailable


def work(given: dict[str, Any]) -> None:
    """What each worker does. Raises what is foreseen, and OSError where a checkpoint cannot be written.

    Ray starts workers again whatever they raised, so what lasts is kept, and raised at once by those that come after.
    """
    import ray.train
    import ray.train.torch
    import torch

    context = ray.train.get_context()
    task: TransformerWork | NetworkWork = given["work"]
    if kept := task.files.fault():
        kind, words = kept
        raise {each.__name__: each for each in LASTING}[kind](words)
    divide_memory_less()
    # Torch's threads wait for each other in a loop: one that shares its core with a reader makes all of them wait.
    torch.set_num_threads(max(1, given["threads"] - task.reading.read_workers))
    device = str(ray.train.torch.get_device())
    shared = task.train.context_parallel
    try:
        task.run(Crew(context.get_world_rank(), context.get_world_size(), device, shared))
    except LASTING as fault:
        task.files.keep_fault(fault)
        raise


def run_workers(asked: Workers, given: TransformerWork | NetworkWork) -> None:
    """Place the workers, and show how far they are, until the run has ended or was asked to.

    Raises MachineFault, and what is foreseen of a run; KeyboardInterrupt once a checkpoint has been written.
    """
    given.files.fault_file.unlink(missing_ok=True)
    trainer = trainer_of(work, given, asked, given.files.directory / ".ray")
    with showing(given.files, given.train.steps):
        try:
            fit_until_asked(trainer.fit, given.files)
        except ray.train.TrainingFailedError as error:  # type: ignore[attr-defined]
            raise cause_of(error, FORESEEN) from error


def fit_until_asked(fit: Callable[[], Any], files: RunFiles) -> None:
    """Wait for the workers in a thread of its own: in the main one Ray would take interrupts for itself and end them at
    once. The first interrupt asks them to write a checkpoint and end; a second one is not waited for."""
    files.stop_file.unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(fit)
        try:
            ended.result()
            return
        except KeyboardInterrupt:
            say("interrupted: the workers write a checkpoint and end (interrupt again not to wait)")
            files.stop_file.touch()
        try:
            ended.result()
        except KeyboardInterrupt:
            os._exit(EXIT_INTERRUPTED)  # the pool would wait for the workers
        finally:
            files.stop_file.unlink(missing_ok=True)
    raise KeyboardInterrupt


@contextmanager
def showing(files: RunFiles, steps: int) -> Iterator[None]:
    """Print progress from the lines that the first worker writes, until the block is left."""
    progress, ended = Progress("train", steps, 0, unit="steps"), threading.Event()
    newest = newest_checkpoint(files.checkpoints)
    begun_at = newest[1].step if newest else 0  # steps past it are taken again
    before = {line["step"] for line in files.steps() if line["step"] < begun_at}
    progress.skip(len(before), 0)

    def look() -> None:
        seen = set(before)
        tail = Tail(files)
        is_last = False
        while not is_last:
            is_last = ended.wait(LOOK_S)
            for line in tail.lines():
                if line["step"] not in seen:
                    seen.add(line["step"])
                    progress.done(0)
            progress.show(tail.words(), is_last=is_last)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Tail:
    """The lines of a run's steps as they are added: a long file is not read again and again."""

    def __init__(self, files: RunFiles):
        self._files, self._read, self._inode = files, 0, 0
        self._last: dict[str, Any] = {}

    def lines(self) -> list[dict[str, Any]]:
        """What is new; all of it where the file was made anew."""
        file = self._files.steps_file
        if not file.is_file():
            return []
        with file.open("rb") as opened:
            if (inode := os.fstat(opened.fileno()).st_ino) != self._inode:
                self._read, self._inode = 0, inode
            opened.seek(self._read)
            found = opened.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        if lines:
            self._last = lines[-1]
        return lines

    def words(self) -> str:
        if not self._last:
            return "loading"
        loss, rate = self._last["loss"], self._last["tokens_per_s"]
        said = f"loss {loss:.4f}" if loss is not None else "no loss"
        return f"{said}, {rate:.0f} tokens/s, waiting {100 * self._last['data_wait']:.1f} %"
