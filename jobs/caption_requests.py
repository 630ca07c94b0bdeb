"""From windows that are to be described to requests with their frames, on Ray: decoded where the engine is fed.

References to windows → tasks that read the clips' rows and just the needed bytes of their videos → rows of a Ray
dataset, each a request with its window. Frames go from those tasks to the engine through Ray's shared memory, at most a
few batches ahead; the clips' bytes pass through neither that nor the driver.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import lance
import ray.data

from captioner.requests import Request
from captioner.windows import windows_of
from captioner.work import CLIP_COLUMNS, Asking, Task, request_of
from curation.reader import DamagedClip
from curation.store import Store

__all__ = ["Asked", "WindowRef", "asked_of", "requests_dataset"]

# Windows that are decoded by one task and wait for the engine together: few, so that the first are there soon.
WINDOWS_A_BLOCK = 8
MOST_BLOCKS = 4096  # Ray holds an object for each from the start


class WindowRef(NamedTuple):
    """A window in few bytes: the driver holds one for each that is to be asked about."""

    row_id: int
    number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with the window that it is about; without a request where the clip is damaged, and in what way."""

    task: Task
    request: Request | None
    damage: str | None = None


def requests_dataset(
    store: Store,
    version: int,
    refs: Sequence[WindowRef],
    asking: Asking,
    *,
    cpus_per_task: float,
    is_careful: bool = False,
) -> ray.data.Dataset:
    """A dataset whose rows are read by `asked_of`, made as it is read; in any order, or in that of `refs` if
    `is_careful`."""
    blocks = [
        {"refs": json.dumps(refs[first : first + WINDOWS_A_BLOCK])} for first in range(0, len(refs), WINDOWS_A_BLOCK)
    ]
    made = partial(_request_rows, store=store, version=version, asking=asking)
    ray.data.DataContext.get_current().execution_options.preserve_order = is_careful
    parts = ray.data.from_items(blocks, override_num_blocks=min(len(blocks), MOST_BLOCKS))
    return parts.flat_map(made, num_cpus=cpus_per_task)


def _request_rows(block: dict[str, Any], *, store: Store, version: int, asking: Asking) -> list[dict[str, str]]:
    """Rows of text only: Arrow would give nested messages the keys of each other."""
    refs = [WindowRef(*ref) for ref in json.loads(block["refs"])]
    rows = []
    for asked in _asked(store, version, refs, asking):
        request = json.dumps(asdict(asked.request)) if asked.request else ""
        rows.append({"task": asked.task.to_json(), "request": request, "damage": asked.damage or ""})
    return rows


def asked_of(row: dict[str, Any]) -> Asked:
    """What a row of the dataset says."""
    request = Request(**json.loads(row["request"])) if row["request"] else None
    return Asked(Task.from_json(row["task"]), request, row["damage"] or None)


def _asked(store: Store, version: int, refs: Sequence[WindowRef], asking: Asking) -> Iterator[Asked]:
    """Read the clips of some windows and decode the frames. A damaged clip costs its own windows only."""
    clips = _clips(store, version)
    row_ids = sorted({ref.row_id for ref in refs})
    with store.reading():
        columns = [name for name in CLIP_COLUMNS if name in clips.schema.names]
        listed = clips.to_table(
            columns=columns, filter=f"_rowid IN ({', '.join(map(str, row_ids))})", with_row_id=True
        ).to_pylist()
        rows = {row.pop("_rowid"): row for row in listed}
        blobs = dict(zip(row_ids, clips.take_blobs("video", ids=row_ids), strict=True))
    for ref in refs:
        row = rows[ref.row_id]
        task = Task(row, ref.row_id, windows_of(row, asking.windows.window_s)[ref.number], ref.attempt)
        blob = blobs[ref.row_id]
        try:
            if blob is None:
                raise DamagedClip("its bytes are gone from the store")
            with store.reading():
                blob.seek(0)
                asked = Asked(task, request_of(task, blob, asking))  # type: ignore[arg-type]
            yield asked
        except DamagedClip as error:
            yield Asked(task, None, str(error))


@lru_cache(maxsize=2)
def _open(uri: str, options: tuple[tuple[str, str], ...] | None, version: int) -> lance.LanceDataset:
    return Store(uri, dict(options) if options else None).open("clips", version)


def _clips(store: Store, version: int) -> lance.LanceDataset:
    """The clips table, opened once in a worker's life."""
    options = tuple(sorted(store.storage_options.items())) if store.storage_options else None
    return _open(store.uri, options, version)
