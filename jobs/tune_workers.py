"""The processes that tune together, by Ray Train, and what is seen of them while they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray.train

from captioner.tune_config import STAGES
from captioner.tune_data import BadTuning, TuneSource, examples_of
from captioner.windows import WindowConfig
from curation.model_files import BadModel
from curation.store import StoreUnavailable
from jobs.progress import Progress
from jobs.ray_train import Workers, cause_of, trainer_of

if TYPE_CHECKING:
    from captioner.tune import Tuning
    from captioner.tune_files import TuneFiles

__all__ = ["RESTARTS", "Work", "train"]

LOOK_S = 1.0
RESTARTS = 2
FORESEEN = BadModel, BadTuning, StoreUnavailable


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is given."""

    model: str
    source: TuneSource
    windows: WindowConfig
    tuning: Tuning
    cache_mb: int
    threads: int


def work(given: dict[str, Any]) -> None:
    """What each worker does. Raises BadModel, BadTuning, StoreUnavailable."""
    import ray.train
    import ray.train.torch
    import torch

    from captioner.tune import Crew, tune
    from captioner.tune_encode import Encoder, Loader
    from captioner.tune_model import load_tunable

    work: Work = given["work"]
    torch.set_num_threads(work.threads)
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    device = str(ray.train.torch.get_device())
    config = work.tuning.config
    tunable = load_tunable(work.model, config, device)
    encoder = Encoder(tunable.processor, work.windows)
    loader = Loader(work.source, encoder, work.windows, threads=work.threads, cache_bytes=work.cache_mb << 20)
    crew = Crew(rank, size, device, summed(device), wrapped) if size > 1 else Crew(device=device)
    tune(work.tuning, tunable, examples_of(work.source, config), loader, crew)


def summed(device: str) -> Callable[[Sequence[float]], list[float]]:
    """The sums over all workers, on every worker."""
    import torch
    from torch import distributed

    def add(values: Sequence[float]) -> list[float]:
        numbers = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(numbers)
        return numbers.tolist()

    return add


def wrapped(model: Any) -> Any:
    from torch.nn.parallel import DistributedDataParallel

    # A batch need not reach every weight: those for pictures rest where all are shown as video.
    return DistributedDataParallel(model, find_unused_parameters=True)


def train(asked: Workers, given: Work) -> None:
    """Place the workers, and show how far they are. Raises MachineFault, BadModel, BadTuning, StoreUnavailable."""
    files = given.tuning.files
    trainer = trainer_of(work, given, asked, files.checkpoints / "ray")
    with showing(files, given.tuning.config.total_steps):
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:  # type: ignore[attr-defined]
            raise cause_of(error, FORESEEN) from error


@contextmanager
def showing(files: TuneFiles, steps: int) -> Iterator[None]:
    """Print progress from the lines that the first worker writes, until the block is left."""
    progress, ended = Progress("tune", steps, 0, unit="steps"), threading.Event()
    before = files.steps_done()
    progress.skip(len(before), 0)

    def look() -> None:
        seen = {(line["stage"], line["step"]) for line in before}
        is_last = False
        while not is_last:
            is_last = ended.wait(LOOK_S)
            lines = files.steps_done()
            for line in lines:
                if (place := (line["stage"], line["step"])) not in seen:
                    seen.add(place)
                    progress.done(0)
            words = f"{STAGES[lines[-1]['stage']]}, loss {lines[-1]['loss']:.3f}" if lines else "loading"
            progress.show(words, is_last=is_last)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
