"""Trying thresholds on the scores of a store: what each would keep, and for what it would reject the rest.

Nothing is decoded and nothing is changed. One pass over the columns that rules look at, in memory that does not grow
with the store, however many sets of thresholds are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from curation.duplicate_verdicts import DUPLICATE, DuplicateConfig
from curation.presets import Preset
from curation.report_words import count, number, share
from curation.reverdict import losses_by
from curation.score_batches import RULE_COLUMNS, clip_batches, rule_columns, score_columns
from curation.store import Store
from curation.verdicts import RULES, Rule, Thresholds, broken_rules

__all__ = ["Trial", "aligned", "compared", "not_applied_lines", "trial_table", "try_thresholds"]

HOUR_S = 3600.0
KEPT = "kept"


@dataclass(slots=True)
class Trial:
    """What thresholds would make of a store: clips and seconds by `kept` or the first reason, and how many clips have
    a value in each column that a rule looks at."""

    thresholds: Thresholds
    clips: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    measured: Counter[str] = field(default_factory=Counter)

    def add(
        self,
        columns: Mapping[str, NDArray[np.float64]],
        seconds: NDArray[np.float64],
        is_duplicate: NDArray[np.bool_],
    ) -> None:
        """Count clips; those that no rule rejects may be duplicates."""
        broken = broken_rules(columns, len(seconds), self.thresholds)
        reasons = [KEPT, *(rule.reason for rule in RULES), DUPLICATE]
        at = np.where((broken < 0) & is_duplicate, len(reasons) - 1, broken + 1)
        clips, sums = np.bincount(at, minlength=len(reasons)), np.bincount(at, seconds, minlength=len(reasons))
        for reason, n, total in zip(reasons, clips.tolist(), sums.tolist(), strict=True):
            if n:
                self.clips[reason] += n
                self.seconds[reason] += total  # type: ignore[assignment]
        for name, values in columns.items():
            self.measured[name] += int(np.count_nonzero(~np.isnan(values)))


def try_thresholds(store: Store, candidates: Sequence[Thresholds], same: DuplicateConfig | None = None) -> list[Trial]:
    """A trial of each, duplicates settled anew by each. Raises StoreUnavailable."""
    trials = [Trial(thresholds) for thresholds in candidates]
    losers = [losses_by(store, thresholds, same or DuplicateConfig()).keys() for thresholds in candidates]
    wanted = ["duration_s", *rule_columns(store.open("clips").schema)]
    for batch in clip_batches(store, wanted, RULE_COLUMNS):
        columns, seconds = score_columns(batch), batch["duration_s"].to_numpy()
        ids = batch["clip_id"].to_pylist()
        for trial, lost in zip(trials, losers, strict=True):
            trial.add(columns, seconds, np.array([clip_id in lost for clip_id in ids], bool))
    return trials


# -- in words


def trial_table(trial: Trial, preset: Preset | None = None) -> str:
    """The funnel: what falls for each threshold, in the order in which they are asked, where the threshold comes from,
    and what could not be applied."""
    found, found_s = trial.clips.total(), float(sum(trial.seconds.values()))
    rows = [("", "threshold", "clips", "hours", "left", "because")]
    left_s = found_s
    rows.append(("found", "", count(found), hours(found_s), "", ""))
    for rule in RULES:
        if limit_of(trial, rule) == rule.off or not trial.measured[rule.column]:
            continue
        left_s = round(left_s - trial.seconds[rule.reason], 6)
        rows.append(
            (
                rule.reason,
                f"{rule.column} {'<' if rule.bound == 'min' else '>'} {number(limit_of(trial, rule))}",
                count(trial.clips[rule.reason]),
                hours(trial.seconds[rule.reason]),
                share(left_s, found_s),
                origin(trial, rule, preset, with_note=True),
            )
        )
    if trial.clips[DUPLICATE]:
        left_s = round(left_s - trial.seconds[DUPLICATE], 6)
        tally = count(trial.clips[DUPLICATE]), hours(trial.seconds[DUPLICATE])
        rows.append((DUPLICATE, "", *tally, share(left_s, found_s), "a better clip that is kept shows the same"))
    rows.append(
        (KEPT, "", count(trial.clips[KEPT]), hours(trial.seconds[KEPT]), share(trial.seconds[KEPT], found_s), "")
    )
    return "\n".join([*aligned(rows, right={2, 3, 4}), *not_applied_lines(trial, preset)])


def compared(trials: Mapping[str, Trial]) -> str:
    """One table of several trials: what each rejects for which reason, and what it keeps."""
    found = {reason for trial in trials.values() for reason in trial.clips} - {KEPT}
    of_rules = [rule.reason for rule in RULES if rule.reason in found]
    reasons = [*of_rules, *sorted(found - set(of_rules))]
    rows = [("clips rejected as", *trials)]
    rows += [(reason, *(count(trial.clips[reason]) for trial in trials.values())) for reason in reasons]
    rows.append(("clips kept", *(count(trial.clips[KEPT]) for trial in trials.values())))
    rows.append(("hours kept", *(hours(trial.seconds[KEPT]) for trial in trials.values())))
    rows.append(("share kept", *(share(t.seconds[KEPT], float(sum(t.seconds.values()))) for t in trials.values())))
    return "\n".join(aligned(rows, right=set(range(1, len(trials) + 1))))


def not_applied_lines(trial: Trial, preset: Preset | None) -> list[str]:
    """What was asked for and speaks against no clip, or not against every clip that it should."""
    found = trial.clips.total()
    lines = [f"{a.says} ({preset.title}): {a.note}" for a in preset.not_applied] if preset else []
    for rule in RULES:
        limit, measured = limit_of(trial, rule), trial.measured[rule.column]
        if limit == rule.off or measured == found:
            continue
        who = "no clip has" if not measured else f"{count(found - measured)} clips have no"
        because = origin(trial, rule, preset, with_note=False)
        lines.append(f"{rule.threshold} {number(limit)} ({because}): {who} {rule.column}")
    return ["not applied:", *(f"  {line}" for line in lines)] if lines else []


def limit_of(trial: Trial, rule: Rule) -> float:
    return getattr(trial.thresholds, rule.threshold)


def origin(trial: Trial, rule: Rule, preset: Preset | None, *, with_note: bool) -> str:
    """Where a threshold comes from: asked for by the preset, this project's default, or given."""
    limit = limit_of(trial, rule)
    asked = preset.asked_for(rule.threshold) if preset else None
    if preset and asked and dict(asked.sets)[rule.threshold] == limit:
        return f"{preset.title}: {asked.says}" + (f" ({asked.note})" if asked.note and with_note else "")
    return "default" if limit == getattr(Thresholds(), rule.threshold) and not asked else "given"


def hours(seconds: float) -> str:
    return f"{seconds / HOUR_S:.{2 if seconds >= HOUR_S / 10 else 4}f}"


def aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """Rows of a table as lines with their columns under one another."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            text.rjust(w) if i in right else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
