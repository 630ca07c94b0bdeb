"""What a tuning leaves on disk while it runs: checkpoints, the losses of its steps, and what its tests said.

DIR/checkpoints/started.json       what is tuned on what; a second command with anything else is refused
DIR/checkpoints/S-NNNNNNNN/        weights and optimizer after N steps of stage S, as safetensors; the newest two
DIR/checkpoints/tests.json         what the tests said before, between and after the stages
DIR/steps.jsonl                    a line a step
DIR/tuning.json                    what was done and reached, once all of it is
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captioner.tune_config import Moment
from curation.whole_files import json_lines, write_whole

__all__ = ["TuneFiles"]

KEPT = 2
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"
STATE = ("step", "exp_avg", "exp_avg_sq")  # what AdamW remembers of a weight


@dataclass(frozen=True, slots=True)
class TuneFiles:
    """The files below a result directory. Everything appears whole or not at all."""

    directory: Path

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def steps_file(self) -> Path:
        return self.directory / "steps.jsonl"

    @property
    def report_file(self) -> Path:
        return self.directory / "tuning.json"

    # -- small facts

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file among the checkpoints; empty where there is none."""
        file = self.checkpoints / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_whole(self.checkpoints / name, json.dumps(content, indent=2) + "\n")

    def finished(self) -> str | None:
        """The id of the tuning whose result is here, None where there is none."""
        if not self.report_file.is_file():
            return None
        return json.loads(self.report_file.read_text(encoding="utf-8")).get("tuning_id")

    def finish(self, report: dict[str, Any]) -> None:
        """Mark the result as whole, and forget what was only needed to go on."""
        write_whole(self.report_file, json.dumps(report, indent=2) + "\n")
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def steps_done(self) -> list[dict[str, Any]]:
        """A line a step, in order."""
        return json_lines(self.steps_file)

    def add_step(self, line: dict[str, Any]) -> None:
        with self.steps_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def forget_steps_after(self, moment: Moment) -> None:
        """Lines of steps that will be taken again, and a last line that a kill cut short."""
        lines = [line for line in self.steps_done() if Moment(line["stage"], line["step"]) <= moment]
        if self.steps_file.is_file():
            write_whole(self.steps_file, "".join(json.dumps(line) + "\n" for line in lines))

    # -- checkpoints

    def newest(self) -> Moment:
        """The last point that can be gone on from; the beginning where there is none."""
        return max(self._moments(), default=Moment())

    def save(self, moment: Moment, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer | None) -> None:
        """Keep this point, and forget all but the newest two. `optimizer` None between two stages."""
        folder = self._folder(moment)
        partial = folder.with_name(f".{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: value.detach().contiguous() for name, value in weights.items()}, partial / WEIGHTS)
        if optimizer is not None:
            save_file(state_of(optimizer, weights), partial / OPTIMIZER)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        for old in sorted(self._moments())[:-KEPT]:
            shutil.rmtree(self._folder(old))

    def load(self, moment: Moment, weights: dict[str, nn.Parameter]) -> None:
        """Put the weights of a kept point into the model. The beginning has none to put."""
        if moment > Moment():
            loaded = load_file(self._folder(moment) / WEIGHTS)
            with torch.no_grad():
                for name, value in weights.items():
                    value.copy_(loaded[name])

    def load_optimizer(
        self, moment: Moment, weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        """The same for an optimizer, where the point lies within a stage."""
        file = self._folder(moment) / OPTIMIZER
        if moment.step and file.is_file():
            loaded = load_file(file)
            for name, value in weights.items():
                if f"step:{name}" not in loaded:  # no loss has reached this weight yet
                    continue
                state = {part: loaded[f"{part}:{name}"] for part in STATE}
                optimizer.state[value] = {
                    part: tensor if part == "step" else tensor.to(value.device) for part, tensor in state.items()
                }

    def _folder(self, moment: Moment) -> Path:
        return self.checkpoints / f"{moment.stage}-{moment.step:08d}"

    def _moments(self) -> list[Moment]:
        folders = self.checkpoints.glob("[0-9]-*") if self.checkpoints.is_dir() else ()
        return [Moment(*map(int, folder.name.split("-"))) for folder in folders]


def state_of(optimizer: torch.optim.Optimizer, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {
        f"{part}:{name}": optimizer.state[value][part].detach().contiguous()
        for name, value in weights.items()
        if value in optimizer.state
        for part in STATE
    }
