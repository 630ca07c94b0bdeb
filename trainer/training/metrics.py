"""What is seen of a run: a line a step in a file, and the same for TensorBoard."""

from __future__ import annotations

import importlib
import math
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue] - no stubs
from tensorboardX.summary import image, scalar

from trainer.training.files import RunFiles

__all__ = ["DATASHEET_FLOPS", "StepLog", "datasheet_flops", "matmul_flops", "peak_memory_bytes"]

DATASHEET_FLOPS = {
    "H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "H800": 989e12, "B200": 2250e12, "A100": 312e12,
    "A800": 312e12,
}  # fmt: skip
"""A second, dense, bfloat16, from the makers' datasheets; of the first name that a GPU's contains."""
MATMUL_SIDE = {"cuda": 8192, "cpu": 1024}
MATMUL_TRIES = 5


def datasheet_flops(device: str) -> float | None:
    """Of the GPU at hand; None where it is not known."""
    if not device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for model, flops in DATASHEET_FLOPS.items() if model in name), None)


def matmul_flops(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large product here and now: what a step is held against where no datasheet says."""
    side = MATMUL_SIDE["cuda" if device.startswith("cuda") else "cpu"]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best_s = math.inf
    for _ in range(MATMUL_TRIES):
        began_s = time.perf_counter()
        (a @ b).sum().item()
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * side**3 / best_s


def peak_memory_bytes(device: str) -> int:
    """The most that was held at once: of a GPU, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class StepLog:
    """The first process's. A run that goes on first forgets what was told of steps that it will take again."""

    def __init__(self, files: RunFiles, first_step: int, run_id: str = "", wandb_project: str | None = None):
        """`wandb_project` of Weights & Biases, whose package and login are the user's, is told the same, under
        `run_id`."""
        self._files = files
        self._wandb: Any = None
        if wandb_project is not None:
            wandb: Any = importlib.import_module("wandb")
            self._wandb_image = wandb.Image
            name = files.directory.name
            self._wandb = wandb.init(project=wandb_project, name=name, id=run_id, resume="allow", dir=files.directory)
        files.forget_steps_from(first_step)
        files.events.mkdir(parents=True, exist_ok=True)
        # Not SummaryWriter: its thread ends where the disk is full, and whoever writes then waits for it without end.
        # Its own name for a file has whole seconds, and what was there by that name would be lost.
        self._events = EventsWriter(str(files.events / "events"), f".{time.time_ns()}")
        self._write([Event(step=first_step, session_log=SessionLog(status=SessionLog.START))])  # hides later steps

    def step(self, line: Mapping[str, Any]) -> None:
        """A number that is none is null in the file: JSON has no other word for it."""
        told = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._files.add_step(told)
        numbers = {k: v for k, v in told.items() if k != "step" and isinstance(v, int | float)}
        self._write([Event(step=line["step"], summary=scalar(k, v)) for k, v in numbers.items()])
        if self._wandb is not None:
            self._wandb.log(dict(told), step=line["step"])

    def picture(self, name: str, picture_HWC: Any, step: int) -> None:
        self._write([Event(step=step, summary=image(name, picture_HWC, dataformats="HWC"))])
        if self._wandb is not None:
            self._wandb.log({name: self._wandb_image(picture_HWC)}, step=step)

    def _write(self, events: Sequence[Any]) -> None:
        """Raises OSError that names the folder."""
        try:
            for event in events:
                event.wall_time = time.time()
                self._events.write_event(event)
            self._events.flush()
        except OSError as error:
            raise OSError(
                f"{self._files.events}: cannot be written: {error.strerror}; the last checkpoint stays"
            ) from error

    def close(self) -> None:
        with suppress(OSError):  # what could not be written has been told: every step writes all of its own
            self._events.close()
        if self._wandb is not None:
            self._wandb.finish()
