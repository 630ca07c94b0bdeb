"""Verdicts again, from the scores in the store: nothing is decoded.

every clip's scores → verdict by these thresholds → land what changed → cut the clips that are kept only now
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import ray

from curation.curate import CutConfig
from curation.records import BadSource
from curation.reverdict import Changes, UncutClips, apply_verdicts, cut_now_kept
from curation.store import Store
from curation.verdicts import Thresholds
from jobs.cli import parse
from jobs.cluster import connect
from jobs.progress import duration_words
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, JobRun, exit_code_of, job_run, say

__all__ = ["VerdictOptions", "main"]


@dataclass(frozen=True, slots=True)
class VerdictOptions:
    """Decide again which clips are kept, without decoding. Clips rejected now keep their video; clips kept only now are
    cut from their sources.

    Attributes:
        store: Folder or address of the store.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        dry_run: Print what would change and change nothing.
        thresholds: What a clip must reach.
        max_lead_in_seconds: As for jobs.curate, for clips that are cut now.
    """

    store: str
    storage_options: dict[str, str] | None = None
    dry_run: bool = False
    thresholds: Thresholds = field(default_factory=Thresholds)
    max_lead_in_seconds: float = CutConfig().max_lead_in_seconds


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.verdict"
    options = parse(VerdictOptions, prog=prog, argv=argv, more=EXIT_CODES)
    return exit_code_of("verdict", lambda: decide_again(options))


def decide_again(options: VerdictOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, KeyboardInterrupt."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    changes = Changes()
    if options.dry_run:
        apply_verdicts(store, options.thresholds, changes, before_commit=None)
        say(report(changes) + "\nnothing was changed (--dry-run)")
        return 0
    with job_run(store, "verdict", options) as run:
        uncut = apply_verdicts(store, options.thresholds, changes, before_commit=run.lease.check)
        lost = cut_all(uncut, options, run, changes)
        run.counts = {
            "unchanged": changes.unchanged,
            "changed": {f"{before} -> {now}": n for (before, now), n in sorted(changes.clips.items())},
            "not_cut": dict(lost),
        }
        say(report(changes))
        for reason, clips in lost.items():
            say(f"{clips} clips would be kept but stay rejected, because their source cannot be cut: {reason}")
        return EXIT_OVER_BUDGET if lost else 0


@ray.remote(num_cpus=1, retry_exceptions=False, scheduling_strategy="SPREAD")
def cut_task(store: Store, uncut: UncutClips, thresholds: Thresholds, cut: CutConfig) -> Changes:
    return cut_now_kept(store, uncut, thresholds, cut)


def cut_all(uncut: Sequence[UncutClips], options: VerdictOptions, run: JobRun, changes: Changes) -> Counter[str]:
    """Cut what is kept only now, a task a source; how many clips could not be, by reason."""
    lost: Counter[str] = Counter()
    if not uncut:
        return lost
    connect()
    cut = CutConfig(max_lead_in_seconds=options.max_lead_in_seconds)
    say(f"cutting {sum(len(u.clip_ids) for u in uncut)} clips of {len(uncut)} sources that are kept only now")
    waiting = {cut_task.remote(run.store, u, options.thresholds, cut): u for u in uncut}
    while waiting:
        run.lease.check()
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=5.0)
        for ref in ready:
            of_source = waiting.pop(ref)
            try:
                changes.merge(ray.get(ref))
            except BadSource as error:
                lost[str(error)] += len(of_source.clip_ids)
    return lost


def report(changes: Changes) -> str:
    """What changed, most first."""
    if not changes.clips:
        return f"no verdict changes: {changes.unchanged} clips stay as they are"
    lines = [f"{changes.clips.total()} clips change, {changes.unchanged} stay as they are"]
    for (before, now), clips in changes.clips.most_common():
        lines.append(f"  {before} → {now}: {clips} clips, {duration_words(changes.seconds[before, now])}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
