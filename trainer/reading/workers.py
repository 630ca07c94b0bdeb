"""Slots read ahead by processes of their own, in the exact order in which they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from curation.store import StoreUnavailable
from trainer.reading.sending import Sent
from trainer.reading.slots import NothingReadable

__all__ = ["Place", "ReaderDied", "slot_batches"]

Place = tuple[int, int]
"""Step and slot."""
Batch = TypeVar("Batch", covariant=True)


class Reader(Protocol[Batch]):
    """SlotReader, CropReader: the same for a place wherever it is read."""

    def read(self, step: int, slot: int) -> Batch: ...


class ReaderDied(Exception):
    """A process that reads ahead ended by itself: it was killed, or the machine has too little memory for it."""


class Slots(Dataset[Any]):
    """What a worker is sent: a reader, which opens the store there."""

    def __init__(self, reader: Reader[Any]):
        self._reader = reader

    def __getitem__(self, place: Place) -> Any:
        try:
            return Sent.of(self._reader.read(*place))
        except (StoreUnavailable, NothingReadable, ValueError, OSError) as error:
            return error  # raised by who asked: a loader would put the worker's traceback into its message


def slot_batches(
    reader: Reader[Batch], slots: Iterable[Place], *, workers: int = 0, ahead: int = 2
) -> Generator[Batch, None, None]:
    """The slots of some places (step, slot), in their order, however many processes read them.

    `workers` are spawned, because Lance does not outlive a fork, each with one thread, and read `ahead` slots each;
    with 0 slots are read here when they are asked for. They end with the generator, which is to be closed where it
    is not read to its end. Raises what `reader.read` raises, and ReaderDied.
    """
    if workers < 0:
        raise ValueError(f"workers={workers}: must not be negative")
    if ahead < 1:
        raise ValueError(f"ahead={ahead}: must be at least 1")
    if not workers:
        return (reader.read(*place) for place in slots)
    return _from_workers(reader, slots, workers, ahead)


def _from_workers(
    reader: Reader[Batch], slots: Iterable[Place], workers: int, ahead: int
) -> Generator[Batch, None, None]:
    loader = DataLoader(
        Slots(reader),
        batch_size=None,
        sampler=slots,  # pyright: ignore[reportArgumentType] - any iterable will do, and it may be endless
        num_workers=workers,
        prefetch_factor=ahead,
        multiprocessing_context="spawn",
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # not the trainer's, of which a number would be taken
    )
    waiting = iter(loader)
    try:
        while True:
            try:
                sent = next(waiting)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise ReaderDied(
                    f"a process that reads clips ended by itself ({str(error).splitlines()[0]}); if memory is short, "
                    f"give fewer workers than {workers}, or read less ahead than {ahead}"
                ) from error
            if isinstance(sent, Exception):
                raise sent
            batch = sent.received()
            yield batch
            del sent, batch
    finally:
        waiting._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue] - now, and not when it is collected
