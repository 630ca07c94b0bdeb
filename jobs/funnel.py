"""The funnel of a curation run: what was seen and what became of it, checked to add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from curation.duplicate_verdicts import Settled
from curation.records import SourceState
from curation.store import FinishedSource
from jobs.progress import duration_words, size_words

__all__ = ["Funnel"]

PROBLEMS_SHOWN = 20


@dataclass(slots=True)
class Funnel:
    """Counts of one run. `found`: what the search gave. `present`: unchanged files that the store had; `same_content`:
    other files with content that it had. The rest was worked on and is in `sources`, by state. `problems`: the first
    few, in words."""

    found: int = 0
    present: int = 0
    same_content: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    source_reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    footage_s: float = 0.0
    trimmed_s: float = 0.0
    stored_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, finished: FinishedSource) -> None:
        row = finished.row
        self.sources[row["state"]] += 1
        if row["reason"]:
            self.source_reasons[row["state"], row["reason"]] += 1
            if len(self.problems) < PROBLEMS_SHOWN:
                self.problems.append(f"{row['state']}, {row['reason']}: {row['uri']!r}: {row['detail']}")
        self.clips.update(finished.clips)
        self.seconds.update(finished.seconds)
        self.footage_s += row.get("duration_s") or 0.0
        self.trimmed_s += row.get("trimmed_s") or 0.0
        self.stored_bytes += finished.stored_bytes

    def resettle(self, changes: Iterable[Settled], run_id: str) -> None:
        """Verdicts that changed after all was seen. Those of clips from earlier runs are not in these counts."""
        for change in changes:
            if change.run_id == run_id:
                for outcome, sign in ((change.before, -1), (change.now, 1)):
                    self.clips[outcome] += sign
                    self.seconds[outcome] += sign * change.duration_s  # type: ignore[assignment]

    @property
    def seen(self) -> int:
        return self.present + self.same_content + self.sources.total()

    def failed_share(self) -> float:
        return self.sources[SourceState.FAILED] / self.seen if self.seen else 0.0

    def line(self) -> str:
        """The state in half a line, for progress."""
        return f"{self.clips['kept']} clips kept, {self.clips.total() - self.clips['kept']} rejected"

    def counts(self) -> dict[str, Any]:
        """The funnel for the run's row, after checking that nothing got lost."""
        assert self.seen == self.found, f"{self.found} files were found, {self.seen} are accounted for"
        rejected_s = sum(s for reason, s in self.seconds.items() if reason != "kept")
        accounted_s = self.seconds["kept"] + rejected_s + self.trimmed_s
        assert abs(accounted_s - self.footage_s) < 1e-3 * (1 + self.sources.total()), "seconds do not add up"
        return {
            "seen": self.seen,
            "present": self.present,
            "same_content": self.same_content,
            "sources": dict(self.sources),
            "source_reasons": {f"{state}: {reason}": n for (state, reason), n in self.source_reasons.items()},
            "clips": dict(self.clips),
            "seconds": {reason: round(s, 3) for reason, s in self.seconds.items()},
            "trimmed_s": round(self.trimmed_s, 3),
            "stored_bytes": self.stored_bytes,
        }

    def report(self, store_uri: str) -> str:
        """The funnel in lines."""
        if not self.seen:
            return "no video found: give other footage"
        if self.seen == self.present + self.same_content:
            return f"nothing to do: all {self.seen} files are in {store_uri} already"
        lines = [f"sources  {self.seen} seen: {_listed(self._source_parts())}"]
        for state in (SourceState.FAILED, SourceState.REJECTED, SourceState.CURATED):
            if reasons := Counter({r: n for (s, r), n in self.source_reasons.items() if s == state}):
                label = "with a blemish" if state is SourceState.CURATED else state.value
                lines.append(f"         {label}: {_listed(reasons)}")
        kept_s = self.seconds["kept"]
        lines.append(
            f"clips    {self.clips.total()} found in {duration_words(self.footage_s)}: "
            f"{self.clips['kept']} kept ({duration_words(kept_s)}), {self.clips.total() - self.clips['kept']} rejected"
        )
        if rejected := Counter({reason: n for reason, n in self.clips.items() if reason != "kept"}):
            lines.append(f"         rejected: {_listed(rejected)}")
        lines.append(f"stored   {size_words(self.stored_bytes)} in {store_uri}")
        lines += [f"         {problem}" for problem in self.problems]
        if unshown := self.source_reasons.total() - len(self.problems):
            lines.append(f"         … and {unshown} more in table `sources`")
        return "\n".join(lines)

    def _source_parts(self) -> Counter[str]:
        parts = Counter({state.value: self.sources[state] for state in SourceState})
        parts["in the store already"] = self.present
        parts["same content as another file"] = self.same_content
        return +parts


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.most_common())
