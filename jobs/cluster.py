"""Where work runs: the cluster that the environment names (as `ray job submit` does), else Ray on this machine."""

from __future__ import annotations

import logging
import os
import signal
import warnings

import ray

from jobs.runs import MachineFault

__all__ = ["connect", "cpus"]

# Clips never pass through the object store, so the least that Ray takes is plenty.
OBJECT_STORE_BYTES = 100 << 20


def connect() -> None:
    """Join the cluster named by RAY_ADDRESS, or start a small one on this machine. Raises MachineFault."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray starts its processes by fork and exec, which does Lance no harm: none of them goes on with its threads.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(logging_level=logging.WARNING)
        else:
            ray.init(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise MachineFault(f"Ray cannot be reached or started: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, on_terminate)  # Ray puts a handler of its own, which exits without a word


def cpus() -> int:
    """CPUs of the cluster, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
