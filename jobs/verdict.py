"""Verdicts again, from the scores in the store: nothing is decoded.

the funnel of a preset, or of several side by side
every clip's scores → verdict by these thresholds → land what changed → cut the clips that are kept only now
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import ray
import ray.exceptions

from curation.curate import CutConfig
from curation.duplicate_verdicts import DuplicateConfig, settle
from curation.media import Limits
from curation.presets import PRESETS, preset_named
from curation.records import BadSource, SourceState
from curation.reverdict import Changes, UncutClips, apply_verdicts, cut_now_kept
from curation.semantic import NoEmbeddings, model_to_compare_by
from curation.store import Store, StoreUnavailable
from curation.trial import compared, not_applied_lines, trial_table, try_thresholds
from curation.verdicts import Thresholds
from jobs.cli import parse
from jobs.cluster import connect, cpus
from jobs.duplicates import find_semantic_pairs
from jobs.progress import Progress, duration_words
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, JobRun, MachineFault, exit_code_of, job_run, say

__all__ = ["VerdictOptions", "main"]

EXIT_NO_EMBEDDINGS = 2


@dataclass(frozen=True, slots=True)
class VerdictOptions:
    """Decide again which clips are kept, without decoding. Clips rejected now keep their video; clips kept only now are
    cut from their sources.

    Attributes:
        store: Folder or address of the store.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        dry_run: Print the funnel and what would change, and change nothing.
        preset: Thresholds of a published recipe. Prints its funnel: each threshold with its source.
        compare: Presets to print a funnel of, side by side; nothing is changed. Without a name, all of them.
        thresholds: What a clip must reach.
        same: As for jobs.curate, what becomes of clips that show the same.
        max_lead_in_seconds: As for jobs.curate, for clips that are cut now.
        limits: As for jobs.curate, for sources that are cut now.
    """

    store: str
    storage_options: dict[str, str] | None = None
    dry_run: bool = False
    preset: str | None = None
    compare: tuple[str, ...] | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    same: DuplicateConfig = field(default_factory=DuplicateConfig)
    max_lead_in_seconds: float = CutConfig().max_lead_in_seconds
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in self.compare or ():
            preset_named(name)


def main(argv: Sequence[str] | None = None) -> int:
    prog = "python -m jobs.verdict"
    options = parse(VerdictOptions, prog=prog, argv=argv, more=EXIT_CODES, has_presets=True)
    try:
        return exit_code_of("verdict", lambda: decide_again(options))
    except NoEmbeddings as error:
        print(f"verdict: {error}", file=sys.stderr, flush=True)
        return EXIT_NO_EMBEDDINGS


def decide_again(options: VerdictOptions) -> int:
    """Run the job; the exit code. Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, KeyboardInterrupt."""
    store = Store.at(options.store, options.storage_options)
    store.open("clips")  # before anything is made: a wrong path must not become a new store
    if options.same.semantic_cosine is not None:
        model_to_compare_by(store)
    if options.compare is not None:
        say(comparison(store, options))
        return 0
    changes = Changes()
    if options.dry_run or options.preset:
        (trial,) = try_thresholds(store, [options.thresholds], options.same)
        say(trial_table(trial, PRESETS[options.preset] if options.preset else None))
    if options.dry_run:
        apply_verdicts(store, options.thresholds, changes, None, options.same)
        say(report(changes) + "\nnothing was changed (--dry-run)")
        return 0
    with job_run(store, "verdict", options, lease_name="clips") as run:
        if options.same.semantic_cosine is not None:
            find_semantic_pairs(run)
        uncut = apply_verdicts(store, options.thresholds, changes, run.lease.check, options.same)
        lost = cut_all(uncut, options, run, changes)
        settle_cut(uncut, options, run, changes)
        run.counts = {
            "unchanged": changes.unchanged,
            "changed": {f"{before} -> {now}": n for (before, now), n in sorted(changes.clips.items())},
            "not_cut": dict(lost),
        }
        say(report(changes))
        for reason, clips in lost.items():
            say(f"{clips} clips would be kept but stay rejected, because their source cannot be cut: {reason}")
        return EXIT_OVER_BUDGET if lost else 0


def comparison(store: Store, options: VerdictOptions) -> str:
    """What presets would keep, beside the thresholds that are set by options or by default."""
    presets = {name: PRESETS[name] for name in options.compare or PRESETS}
    candidates = [options.thresholds, *(preset.thresholds for preset in presets.values())]
    trials = try_thresholds(store, candidates, options.same)
    own = "default" if options.thresholds == Thresholds() else "as given"
    notes = []
    for (name, preset), trial in zip(presets.items(), trials[1:], strict=True):
        notes += [f"{name} {line}" if line[0] != " " else line for line in not_applied_lines(trial, preset)]
    return "\n".join([compared(dict(zip([own, *presets], trials, strict=True))), *notes])


@ray.remote(num_cpus=1, retry_exceptions=False, scheduling_strategy="SPREAD")
def cut_task(
    store: Store, uncut: UncutClips, thresholds: Thresholds, cut: CutConfig, limits: Limits
) -> Changes | BadSource:
    try:
        return cut_now_kept(store, uncut, thresholds, cut, limits)
    except BadSource as error:
        return error


def cut_all(uncut: Sequence[UncutClips], options: VerdictOptions, run: JobRun, changes: Changes) -> Counter[str]:
    """Cut what is kept only now, a task a source; how many clips could not be, by reason."""
    lost: Counter[str] = Counter()
    if not uncut:
        return lost
    connect()
    say(f"cutting {sum(len(u.clip_ids) for u in uncut)} clips of {len(uncut)} sources that are kept only now")
    progress = Progress("verdict", len(uncut), 0)
    waiting: dict[ray.ObjectRef, UncutClips] = {}
    remaining = iter(uncut)
    while waiting or not progress.is_done:
        for of_source in islice(remaining, 2 * cpus() - len(waiting)):
            cut = CutConfig(max_lead_in_seconds=options.max_lead_in_seconds)
            waiting[cut_task.remote(run.store, of_source, options.thresholds, cut, options.limits)] = of_source
        run.lease.check()
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=5.0)
        for ref in ready:
            of_source = waiting.pop(ref)
            outcome = outcome_of(ref)
            if isinstance(outcome, Changes):
                changes.merge(outcome)
            else:
                lost[str(outcome)] += len(of_source.clip_ids)
            progress.done(0)
        progress.show()
    return lost


def settle_cut(uncut: Sequence[UncutClips], options: VerdictOptions, run: JobRun, changes: Changes) -> None:
    """Duplicates again among what was to be cut: it may not have been, and then it beats nobody."""
    clip_ids = {clip_id for of_source in uncut for clip_id in of_source.clip_ids}
    for settled in settle(run.store, clip_ids, options.same, run.lease.check):
        before, now = (None if outcome == "kept" else outcome for outcome in (settled.before, settled.now))
        changes.add(before, now, settled.duration_s)


def outcome_of(ref: ray.ObjectRef) -> Changes | BadSource:
    """What a task changed, or why it could not. Raises StoreUnavailable and MachineFault."""
    try:
        return ray.get(ref)
    except StoreUnavailable:
        raise
    except OSError as error:
        raise MachineFault(f"a worker could not go on: {error}") from error
    except ray.exceptions.RayError as error:
        return BadSource(SourceState.FAILED, "worker_died", (str(error).splitlines() or [""])[-1])


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
