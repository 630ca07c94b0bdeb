"""What the tests of the captioning job share: its store, answers of a server that tell which frames they are of, and
the job in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.captions import Author
from captioner.windows import windows_of
from captioner.work import Asking, Task, request_of, wanted_rows
from curation.store import Store, blob_table
from jobs.caption import main
from tests.hostile_server import MODEL, Act, HostileServer, Seen, says
from tests.stores import curate_in_process

__all__ = [
    "asking_of",
    "by_server",
    "caption",
    "codes_of_windows",
    "copied",
    "curated",
    "damage",
    "fields_for",
    "frames_code",
    "good",
    "kept_clips",
    "rows_of",
    "runs_of",
]


def curated(footage: Path, folder: Path) -> Store:
    store = Store.at(str(folder / "store"))
    curate_in_process([footage], store)
    return store


def copied(store: Store, folder: Path) -> Store:
    """The same store in another place, for a test to change."""
    shutil.copytree(store.uri, folder / "store")
    return Store.at(str(folder / "store"))


def caption(store: Store, *arguments: object) -> int:
    """The job's exit code; it runs in this process, on the Ray that is there."""
    try:
        return main(["--store", store.uri, *map(str, arguments)])
    except SystemExit as ended:
        return int(str(ended.code))


def by_server(server: HostileServer, *arguments: object) -> list[object]:
    """Arguments that ask a server, and do not wait long."""
    return ["--server", server.url, "--model", MODEL, "--server-attempts", 1, *arguments]


def rows_of(store: Store, **wanted: Any) -> list[dict[str, Any]]:
    rows = store.open("captions").to_table().to_pylist()
    rows = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return sorted(rows, key=lambda row: (row["clip_id"], row["window_start_pts"], row["kind"], row["model"]))


def runs_of(store: Store) -> list[dict[str, Any]]:
    """Runs of the job in order, with their counts read."""
    rows = sorted(store.open("runs").to_table().to_pylist(), key=lambda row: row["started_at"])
    return [row | {"counts": json.loads(row["counts"] or "{}")} for row in rows]


def frames_code(body: Mapping[str, Any]) -> str:
    """A word that stands for the frames of a request."""
    parts = [part for message in body["messages"] for part in message["content"] if part["type"] != "text"]
    assert parts, "a request without frames"
    return "word" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def fields_for(code: str, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "subjects": [f"a shape of kind {code}"],
        "action": "moves over the ground",
        "setting": "a plain",
        "background": "",
        "style": "",
        "lighting": "",
        "colors": [],
        "shot_type": "unknown",
        "camera": "unknown",
        "text": [],
    }
    return json.dumps(fields | changes)


def good(seen: Seen) -> Act:
    return says(fields_for(frames_code(seen.body)))


def codes_of_windows(store: Store, asking: Asking) -> dict[tuple[str, int], str]:
    """What `good` says of each window of a store's kept clips, by clip and start, worked out here."""
    clips = store.open("clips")
    codes = {}
    for rows in wanted_rows(clips, "keep"):
        for row in rows:
            row_id = row.pop("_rowid")
            for window in windows_of(row, asking.windows.window_s):
                (blob,) = clips.take_blobs("video", ids=[row_id])
                request = request_of(Task(row, row_id, window), blob, asking)  # type: ignore[arg-type]
                codes[row["clip_id"], window.start_pts] = frames_code({"messages": request.messages})
    return codes


def asking_of(**changes: Any) -> Asking:
    return Asking(Author("openai", MODEL, "", ""), **changes)


def damage(store: Store, clip_id: str, video: bytes) -> None:
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    (row,) = clips.to_table(columns=columns, filter=f"clip_id = '{clip_id}'").to_pylist()
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": video}]))


def kept_clips(store: Store) -> list[str]:
    rows = store.open("clips").to_table(columns=["clip_id"], filter="keep").to_pylist()
    return sorted(row["clip_id"] for row in rows)
