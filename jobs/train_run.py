"""A run's directory: one command at a time, what it began with, and what may not change while it goes on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curation.records import digest
from curation.store import Store
from jobs.train_options import TrainOptions
from trainer.checkpoint import WEIGHTS
from trainer.training.files import RunFiles

__all__ = ["BadRun", "close_killed", "facts_of", "file_id", "forgotten_if_refused", "only_one", "pin", "weights_id"]

DIFFERENCES_SHOWN = 4
DEFAULTS = json.loads(json.dumps(asdict(TrainOptions(store="", run=Path("run"), network="pixels-4")), default=str))
"""What a run was told that began before there was such an option."""
# May differ between the command that began a run and one that goes on with it: they change how it is computed, by how
# many, and what is kept, not what is learnt. With other numbers of threads or processes sums are rounded otherwise.
FREE_OPTIONS = {
    *("run", "storage_options", "cpus_per_worker", "restarts", "wandb", "workers", "num_gpus"),
    *("reading.read_workers", "reading.read_ahead", "reading.read_threads"),
    *("train.parallel", "train.context_parallel", "train.compile", "train.flash", "train.recompute"),
    *("train.checkpoint_steps", "train.keep_checkpoints", "train.sample_steps"),
}


class BadRun(Exception):
    """The run cannot begin, or go on, with these options; the message says why and what to do."""


@contextmanager
def only_one(files: RunFiles) -> Iterator[None]:
    """Raises BadRun where another command is at work on the run, or its directory cannot be made."""
    try:
        files.directory.mkdir(parents=True, exist_ok=True)
        lock = (files.directory / ".lock").open("w")
    except OSError as error:
        raise BadRun(f"run={files.directory}: cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadRun(f"run={files.directory}: another command trains it; let it finish, or stop it") from None
        yield


@contextmanager
def forgotten_if_refused(files: RunFiles) -> Iterator[None]:
    """A run that is refused as it begins has not begun: the same command, once the store has what it lacked, must not
    meet the versions that it was refused for."""
    had_begun = files.facts_file.exists()
    try:
        yield
    except BaseException:
        if not had_begun and files.facts_file.exists():  # then the directory was empty before
            shutil.rmtree(files.plans, ignore_errors=True)
            files.facts_file.unlink()
        raise


def close_killed(store: Store, options: TrainOptions) -> None:
    """Rows of this run that still say `running` are of commands that were killed: this one holds the run."""
    runs = store.find("runs")
    rows = runs.to_table(filter="job = 'train' AND state = 'running'").to_pylist() if runs else []
    for row in rows:
        if json.loads(row["config"])["run"] == str(options.run):
            store.write_run(row | {"state": "interrupted"})


def facts_of(options: TrainOptions, store: Store, files: RunFiles) -> dict[str, Any]:
    """What the run began with, pinned versions among it; written where it begins now. Raises BadRun, ValueError."""
    said = json.loads(json.dumps(asdict(options) | {"store": store.uri, "storage_options": None}, default=str))
    asked = binding(said)
    before = files.facts()
    if before is not None:
        if differing := differences(binding(before["options"]), asked):
            raise BadRun(f"run={files.directory}: began with other options ({differing}); give those, or another --run")
        return before
    others = [path.name for path in files.directory.iterdir() if path.name != ".lock"]
    if others:
        raise BadRun(f"run={files.directory}: holds something else ({others[0]}); give another --run")
    facts: dict[str, Any] = {"options": said, "clips_version": store.open("clips").version}
    for table in ("captions", "latents"):
        found = store.find(table)
        facts[f"{table}_version"] = found.version if found else None
    facts["run_id"] = digest("train", json.dumps(facts | {"options": asked}, sort_keys=True))
    files.write_facts(facts)
    return facts


def binding(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide what comes out, by `group.name`."""
    return {name: value for name, value in flat(options).items() if name not in FREE_OPTIONS}


def flat(options: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Options of groups by `group.name`."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            found |= flat(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first few options that are not the same, with what they were and are."""
    was = {**binding(DEFAULTS), **before}
    names = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
    told = ", ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in names[:DIFFERENCES_SHOWN])
    return f"{told}: a new run with --init of what this one made trains it further" if "train.steps" in names else told


def pin(files: RunFiles, contents: Mapping[str, str]) -> None:
    """What is read from other directories must stay as the run found it. Raises BadRun."""
    facts = files.facts() or {}
    known = facts.setdefault("contents", dict(contents))
    for name, is_now in contents.items():
        if known.get(name) != is_now:
            raise BadRun(f"{name}: is not what this run began with; bring that back, or give another --run")
    files.write_facts(facts)


def weights_id(directory: Path | None) -> str:
    """Hash of a model's weights; of none, nothing."""
    return file_id(directory / WEIGHTS if directory else None)


def file_id(path: Path | None) -> str:
    """Hash of a file; of none, nothing."""
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
