"""Where work runs: the cluster that the environment names (as `ray job submit` does), else Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import warnings

import ray

from jobs.runs import MachineFault

__all__ = ["connect", "connect_for_data", "cpus"]

# Clips never pass through the object store, so the least that Ray takes is plenty.
OBJECT_STORE_BYTES = 100 << 20
# But frames that wait for an engine do: some batches of them, as raw pictures.
DATA_STORE_BYTES = 4 << 30
DATA_STORE_SHARE = 0.3


def connect(*, is_quiet: bool = False, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
    """Join the cluster named by RAY_ADDRESS, or start a small one on this machine. Raises MachineFault.

    `is_quiet` leaves what workers print in Ray's own logs: an engine says hundreds of lines before it says anything.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What a worker started ends with it: an engine would live on and keep its memory, beside the one that follows.
    os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")
    # Ray starts its processes by fork and exec, which does Lance no harm: none of them goes on with its threads.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING, log_to_driver=not is_quiet)
        else:
            ray.init(
                include_dashboard=False,
                object_store_memory=object_store_bytes,
                logging_level=logging.WARNING,
                log_to_driver=not is_quiet,
            )
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise MachineFault(f"Ray cannot be reached or started: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray puts a handler of its own, which exits without a word


def connect_for_data() -> None:
    """The same for jobs whose work is a Ray dataset; the job shows its own progress. Raises MachineFault."""
    import ray.data  # takes a second, which jobs without datasets need not wait for

    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    connect(is_quiet=True, object_store_bytes=min(DATA_STORE_BYTES, int(DATA_STORE_SHARE * memory_bytes)))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def cpus() -> int:
    """CPUs of the cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
