"""What became of clips or texts that lacked a latent, and landing what was made of them."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from jobs.progress import size_words
from jobs.runs import JobRun
from trainer.encoders import EncodedBatch
from trainer.encoding import UNFIT

__all__ = ["Committer", "Outcome"]

COMMIT_LATENTS, COMMIT_S = 512, 5.0
PROBLEMS_SHOWN = 5


class Outcome:
    """What became of the clips or texts; their sums are checked."""

    def __init__(self, unit: str):
        self._unit = unit
        self.before: Counter[str] = Counter()
        self.lacking = self.asked = self.encoded = self.stored_bytes = 0
        self.unfit: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._problems: list[str] = []

    def add(self, made: EncodedBatch) -> None:
        for one in made.latents:
            self.stored_bytes += one.stored_bytes
            if one.fault:
                self.failed[one.fault.partition(":")[0]] += 1
                self._problems.append(one.fault)
            elif one.failure in UNFIT:
                self.unfit[one.failure] += 1
            elif one.failure:
                self.failed[one.failure] += 1
            else:
                self.encoded += 1

    def failed_share(self) -> float:
        return self.failed.total() / self.asked if self.asked else 0.0

    def counts(self) -> dict[str, Any]:
        made = {"lacking": self.lacking, "encoded": self.encoded, "stored_bytes": self.stored_bytes}
        return {**self.before, **made, "unfit": dict(self.unfit), "failed": dict(self.failed)}

    def beginning(self, size_bytes: int) -> str:
        before = self.before
        seen = before["complete"] + before["failed_before"] + before["without_video"] + self.lacking
        assert before["seen"] == seen, f"{before['seen']} {self._unit} were seen, {seen} are accounted for"
        parts = [f"{before['complete']} have a latent", f"{self.lacking} lack one"]
        parts += [f"{size_words(size_bytes)} to come"] if size_bytes else []
        parts += [f"{n} can have none" for n in (before["failed_before"],) if n]
        parts += [f"{n} have no video" for n in (before["without_video"],) if n]
        return f"{self._unit}: {before['seen']} meet the condition: {', '.join(parts)}"

    def line(self) -> str:
        return f"{self.encoded} encoded, {self.unfit.total()} unfit, {self.failed.total()} failed"

    def report(self) -> str:
        done = self.encoded + self.unfit.total() + self.failed.total()
        assert done == self.asked, f"{done} {self._unit} came back of {self.asked} that were sent"
        if not self.asked:
            return f"{self._unit}: nothing to encode"
        left = [f"  {self.lacking - done} left by limit"] if self.lacking > done else []
        unfit = [f"  unfit, {reason}: {n}" for reason, n in self.unfit.most_common()]
        failed = [f"  failed, {reason}: {n}" for reason, n in self.failed.most_common()]
        problems = [f"  {problem}" for problem in dict.fromkeys(self._problems)]
        first = f"{self._unit}: {done} were sent: {self.line()}, {size_words(self.stored_bytes)} stored"
        return "\n".join([first, *left, *unfit, *failed, *problems[:PROBLEMS_SHOWN]])


class Committer:
    """Lands what workers wrote, a few hundred latents at a time, only while the lease is held."""

    def __init__(self, run: JobRun):
        self._run = run
        self._fragments: list[str] = []
        self._latents = 0
        self._since_s = time.monotonic()

    def add(self, made: EncodedBatch) -> None:
        self._fragments += made.fragments
        self._latents += len(made.latents)

    def flush_if_due(self) -> None:
        if self._latents >= COMMIT_LATENTS or time.monotonic() - self._since_s > COMMIT_S:
            self.flush()

    def flush(self) -> None:
        """Raises StoreUnavailable, LeaseLost."""
        if self._fragments:
            self._run.lease.check()
            self._run.store.commit_latents(self._fragments)
        self._fragments, self._latents = [], 0
        self._since_s = time.monotonic()
