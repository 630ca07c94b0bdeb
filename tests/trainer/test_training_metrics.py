"""What is told of steps: to TensorBoard what is in the file, and a full disk is an error, not an end of all."""

from __future__ import annotations

import errno
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue] - no stubs

from trainer.training.files import RunFiles
from trainer.training.metrics import StepLog


def events_of(files: RunFiles) -> list[Any]:
    """Of all event files, in order: records of a length, its checksum, the event, its checksum."""
    found = []
    for path in sorted(files.events.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def test_tensorboard_is_told_every_number_and_where_a_run_went_on(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    log = StepLog(files, 0)
    log.step({"step": 3, "loss": 0.5, "tokens": 7, "verdict": "taken", "gradient": float("nan")})
    told = {v.tag: v.simple_value for e in events_of(files) for v in e.summary.value}
    assert told == {"loss": 0.5, "tokens": 7.0}, "at once, and of what is a number"
    assert files.steps() == [{"step": 3, "loss": 0.5, "tokens": 7, "verdict": "taken", "gradient": None}]
    log.picture("samples", np.full((4, 6, 3), 200, np.uint8), 4)
    log.close()
    (shown,) = [v for e in events_of(files) for v in e.summary.value if v.tag == "samples"]
    assert (shown.image.height, shown.image.width) == (4, 6)

    StepLog(files, 3).close()
    starts = [e.step for e in events_of(files) if e.session_log.status == SessionLog.START]
    assert starts == [0, 3]
    assert files.steps() == []


def test_weights_and_biases_is_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in: the package and its login are the user's."""
    told: list[tuple[dict[str, Any], int]] = []
    begun: list[dict[str, Any]] = []

    class Session:
        def log(self, values: dict[str, Any], step: int) -> None:
            told.append((values, step))

        def finish(self) -> None:
            told.append(({}, -1))

    def init(**options: Any) -> Session:
        begun.append(options)
        return Session()

    package = SimpleNamespace(init=init, Image=lambda picture: ("image", picture.shape))
    monkeypatch.setitem(sys.modules, "wandb", package)
    log = StepLog(RunFiles(tmp_path), 0, "r1", "project")
    log.step({"step": 3, "loss": 0.5})
    log.picture("samples", np.zeros((4, 6, 3), np.uint8), 4)
    log.close()
    assert begun == [{"project": "project", "name": tmp_path.name, "id": "r1", "resume": "allow", "dir": tmp_path}]
    assert told == [({"step": 3, "loss": 0.5}, 3), ({"samples": ("image", (4, 6, 3))}, 4), ({}, -1)]


def test_a_full_disk_is_an_error_at_once_and_ending_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = StepLog(RunFiles(tmp_path), 0)

    def full(self: EventsWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventsWriter, "flush", full)
    with pytest.raises(OSError, match=r"events: cannot be written: No space left on device; the last checkpoint stays"):
        log.step({"step": 0, "loss": 1.0})
    log.close()
