"""Workers that train together, placed by Ray Train: what tuning a captioner and training a model share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from jobs.cluster import connect, cpus
from jobs.runs import MachineFault

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

__all__ = ["Workers", "cause_of", "trainer_of"]


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes train together, and what each of them may use.

    num_gpus   -1 for one where there is any
    restarts   so often a worker that died is started again, from the newest checkpoint, before the job gives up
    """

    workers: int
    cpus_per_worker: int
    num_gpus: float
    restarts: int


def trainer_of(work: Callable[[dict[str, Any]], None], given: Any, asked: Workers, folder: Path) -> TorchTrainer:
    """What runs `work({"work": given, "threads": CPUs})` in each worker; Ray keeps its own files in `folder`.

    Raises MachineFault where the workers do not fit.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    connect(is_quiet=True)  # workers speak through the files of the run
    gpus = ray.cluster_resources().get("GPU", 0.0)
    gpus_each = (1.0 if gpus else 0.0) if asked.num_gpus < 0 else asked.num_gpus
    cpus_each = min(asked.cpus_per_worker, cpus())
    if cpus_each * asked.workers > cpus() or gpus_each * asked.workers > gpus:
        raise MachineFault(
            f"workers={asked.workers}: with {cpus_each} CPUs and {gpus_each:g} GPUs each they do not fit in a "
            f"cluster of {cpus()} CPUs and {gpus:g} GPUs"
        )
    each = {"CPU": float(cpus_each)} | ({"GPU": gpus_each} if gpus_each else {})
    return TorchTrainer(
        work,
        train_loop_config={"work": given, "threads": cpus_each},
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus_each else "gloo"),
        scaling_config=ScalingConfig(num_workers=asked.workers, use_gpu=bool(gpus_each), resources_per_worker=each),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=asked.restarts),
        ),
    )


def cause_of(error: Exception, foreseen: tuple[type[Exception], ...]) -> Exception:
    """The first of the foreseen errors that workers raised, else a MachineFault that says what they met.

    What Ray 2.60 raises has `worker_failures`, and each of those its `cause`.
    """
    failures = [getattr(e, "cause", e) for e in getattr(error, "worker_failures", {}).values()]
    for failure in failures:
        if isinstance(failure, foreseen):
            return failure
    first = failures[0] if failures else error
    if isinstance(first, OSError):
        return MachineFault(str(first))
    line = (str(first).strip().splitlines() or [""])[-1][:300]
    return MachineFault(f"a worker met a fault: {type(first).__name__}: {line}")
