"""One run of a kind at a time on a store: a lease that lives in the store itself, so it holds across machines.

A row of `leases.lance` names the holder; taking it over is one conditional update, of which Lance lets exactly one of
any number of contenders succeed. The holder renews it; who finds it not renewed for `EXPIRES_S` may take it. A holder
on this very machine whose process is gone has lost it at once, so a killed job can simply be started again.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import lance
import pyarrow as pa

from curation.store import STORAGE_VERSION, Store, StoreUnavailable

__all__ = ["Holder", "Lease", "LeaseLost", "StoreBusy", "this_process"]

RENEW_S = 10.0
EXPIRES_S = 45.0
KEEP_VERSIONS_S = 600
# Jobs that change the same tables share a lease. A table is made whole and never gets another row: two could add
# the same one at once. A lease that is new here comes in a table of its own, which older stores get like any other.
LEASE_TABLES = {
    "leases": ("clips", "captions", "latents"),
    "model_leases": ("model_scores",),
    "tune_leases": ("tunings",),
}
LEASES = tuple(name for names in LEASE_TABLES.values() for name in names)
FREE = ""


class StoreBusy(Exception):
    """Another run holds the lease."""


class LeaseLost(Exception):
    """The lease was taken over, or could not be renewed in time: nothing more may be committed."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease: a run, and the process that it lives in. `boot` and `started` tell a process from a later one
    with the same number."""

    run_id: str
    host: str
    boot: str
    pid: int
    started: str

    def is_dead_here(self) -> bool:
        """True only if it surely no longer runs: it was on this machine, in this boot, and that process is gone."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot_id()):
            return False
        return _process_start(self.pid) != self.started


def this_process(run_id: str) -> Holder:
    """The holder that this process would be."""
    return Holder(run_id, socket.gethostname(), _boot_id(), os.getpid(), _process_start(os.getpid()) or "")


def _boot_id() -> str:
    """This boot of this machine, and the process namespace: containers number their processes on their own."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return f"{boot.read_text().strip()} {namespace.readlink()}" if boot.exists() and namespace.is_symlink() else ""


def _process_start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None if there is no such process, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


class Lease:
    """Hold it with `with Lease.take(...)`; call `check()` before every commit."""

    def __init__(self, store: Store, name: str, holder: Holder):
        self._store, self._name, self._holder = store, name, holder
        self._renewed_s = time.monotonic()
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew_until_stopped, name=f"lease-{name}", daemon=True)

    @classmethod
    def take(cls, store: Store, name: str, run_id: str, *, tell: Callable[[str], None]) -> Lease:
        """One of `LEASES`. Raises StoreBusy if another run holds it and is alive.

        Waits, at most `EXPIRES_S`, where the holder is or was on another machine or in another boot and may have died;
        `tell` says so.
        """
        _create_tables(store)
        holder = this_process(run_id)
        seen, seen_since_s = _read(store, name), time.monotonic()
        while True:
            row = _read(store, name)
            current = Holder(**json.loads(row["holder"])) if row["holder"] else None
            is_silent = row == seen and time.monotonic() - seen_since_s > EXPIRES_S
            if current is None or current.is_dead_here() or is_silent:
                if _update(store, name, row, json.dumps(asdict(holder))):
                    return cls(store, name, holder)
                seen, seen_since_s = _read(store, name), time.monotonic()
                continue
            if row != seen or (current.host, current.boot) == (holder.host, holder.boot):
                raise StoreBusy(
                    f"run {current.run_id} (process {current.pid} on {current.host}) is at work on {store.uri}. "
                    "Let it finish, or stop it; then start this again."
                )
            if time.monotonic() - seen_since_s < 1:
                tell(f"run {current.run_id} on {current.host} holds the store; waiting {EXPIRES_S:.0f} s for a sign")
            time.sleep(1)

    def __enter__(self) -> Lease:
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._renewer.join()
        try:
            row = _read(self._store, self._name)
            if row["holder"] == json.dumps(asdict(self._holder)):
                _update(self._store, self._name, row, FREE)
        except StoreUnavailable:
            pass  # it expires by itself, and the error that the store raised before is the one to be seen

    def check(self) -> None:
        """Raises LeaseLost unless this run still holds the lease."""
        row = _read(self._store, self._name)
        if row["holder"] != json.dumps(asdict(self._holder)):
            raise LeaseLost(
                f"the lease on {self._store.uri} was taken by {row['holder'] or 'nobody'}; nothing was added"
            )

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                row = _read(self._store, self._name)
                if row["holder"] != json.dumps(asdict(self._holder)):
                    return  # lost: check() says so
                _update(self._store, self._name, row, row["holder"])
                dataset = lance.dataset(_uri(self._store, self._name), storage_options=self._store.storage_options)
                dataset.cleanup_old_versions(timedelta(seconds=KEEP_VERSIONS_S))
            except (StoreUnavailable, OSError, ValueError):
                continue  # the store may come back before the lease expires; commits are checked on their own


def _uri(store: Store, name: str) -> str:
    return store.table_uri(next(table for table, names in LEASE_TABLES.items() if name in names))


def _create_tables(store: Store) -> None:
    for names in LEASE_TABLES.values():
        renewals = pa.array([0] * len(names), pa.int64())
        table = pa.table({"lease": list(names), "holder": [FREE] * len(names), "renewals": renewals})
        try:
            lance.write_dataset(
                table,
                _uri(store, names[0]),
                mode="create",
                data_storage_version=STORAGE_VERSION,
                storage_options=store.storage_options,
            )
        except OSError as error:
            if "already exists" not in str(error):
                raise store.unavailable("written", error) from error


def _read(store: Store, name: str) -> dict:
    try:
        dataset = lance.dataset(_uri(store, name), storage_options=store.storage_options)
        rows = dataset.to_table(filter=f"lease = '{name}'").to_pylist()
    except (ValueError, OSError) as error:
        raise store.unavailable("read", error) from error
    assert len(rows) == 1, f"{len(rows)} leases {name!r}"
    return rows[0]


def _update(store: Store, name: str, seen: dict, holder: str) -> bool:
    """Put a holder where the row is still as it was seen. True for exactly one of any number of contenders."""
    where = f"lease = '{name}' AND renewals = {seen['renewals']}"
    quoted = holder.replace("'", "''")
    try:
        dataset = lance.dataset(_uri(store, name), storage_options=store.storage_options)
        updated = dataset.update({"holder": f"'{quoted}'", "renewals": str(seen["renewals"] + 1)}, where=where)
    except (ValueError, OSError) as error:
        raise store.unavailable("written", error) from error
    return updated["num_rows_updated"] == 1
