"""What a run leaves on disk. Everything appears whole or not at all, but for lines that are added to.

RUN/run.json               what is trained, on what, how: what a run that goes on must find again
RUN/plans/                 the clips, the plans of epochs, and every clip's fate (Arrow files)
RUN/checkpoints/step-N/    weights, average, moments as safetensors, and checkpoint.json, which makes it one
RUN/steps.jsonl            a line a step
RUN/events/                the same for TensorBoard
RUN/samples/               what the model made, as it went
RUN/model/, RUN/network/   the result: what jobs.sample takes
RUN/stop                   asks a run to write a checkpoint and end
RUN/fault.json             why it ended, where starting it again as it is would end the same
"""

from __future__ import annotations

import errno
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.whole_files import json_lines, write_whole

__all__ = ["RunFiles"]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Paths below a run's directory, which all processes see."""

    directory: Path

    @property
    def facts_file(self) -> Path:
        return self.directory / "run.json"

    @property
    def plans(self) -> Path:
        return self.directory / "plans"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def steps_file(self) -> Path:
        return self.directory / "steps.jsonl"

    @property
    def events(self) -> Path:
        return self.directory / "events"

    @property
    def samples(self) -> Path:
        return self.directory / "samples"

    @property
    def model(self) -> Path:
        return self.directory / "model"

    @property
    def network(self) -> Path:
        return self.directory / "network"

    @property
    def stop_file(self) -> Path:
        return self.directory / "stop"

    @property
    def fault_file(self) -> Path:
        return self.directory / "fault.json"

    def fault(self) -> tuple[str, str] | None:
        """The kind and the words of what ended the last attempt."""
        try:
            kind, words = json.loads(self.fault_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or cut short by a full disk: the next attempt meets it itself
            return None
        return str(kind), str(words)

    def keep_fault(self, fault: BaseException) -> None:
        """The first of what several processes meet."""
        with suppress(OSError), self.fault_file.open("x", encoding="utf-8") as file:
            json.dump([type(fault).__name__, str(fault)], file)

    def facts(self) -> dict[str, Any] | None:
        """What the run began with; None where none has begun. Raises ValueError naming a file that is damaged."""
        if not self.facts_file.is_file():
            return None
        try:
            facts = json.loads(self.facts_file.read_text(encoding="utf-8"))
            if not isinstance(facts, dict):
                raise ValueError("no JSON object")
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{self.facts_file}: cannot be read ({error}); give another --run, or remove it"
            ) from error
        return facts

    def write_facts(self, facts: dict[str, Any]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_whole(self.facts_file, json.dumps(facts, indent=1, default=str) + "\n")

    def steps(self) -> list[dict[str, Any]]:
        """A line a step that was taken, in order; one that a kill cut short is passed over."""
        return json_lines(self.steps_file)

    def add_step(self, line: dict[str, Any]) -> None:
        """Raises OSError that says what to do."""
        try:
            with self.steps_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            why = f"{error.strerror}; free some space" if error.errno == errno.ENOSPC else error.strerror
            raise OSError(f"{self.steps_file}: cannot be written: {why}; the last checkpoint stays") from error

    def forget_steps_from(self, step: int) -> None:
        """Lines of steps that will be taken again, and a last line that a kill cut short."""
        if self.steps_file.is_file():
            kept = [line for line in self.steps() if line["step"] < step]
            write_whole(self.steps_file, "".join(json.dumps(line) + "\n" for line in kept))
