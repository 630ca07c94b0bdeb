"""The loop: a run that is killed and goes on is the run that was not killed; what spoils a run is found out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_transformers import TINY, woken
from tests.training_runs import CONFIG, SLOTS, batch_of, losses, run_with
from trainer.checkpoint import BadCheckpoint
from trainer.flow import FlowConfig
from trainer.reading.batch import SlotBatch
from trainer.training.checkpoints import newest_checkpoint
from trainer.training.crew import ALONE
from trainer.training.files import RunFiles
from trainer.training.guard import Diverged
from trainer.training.loop import Run
from trainer.training.transformer_learner import TransformerLearner


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Nothing here is large enough for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, run_with(directory)


def same_state(one: Run, other: Run) -> bool:
    ours, theirs = one.state(), other.state()
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name].nan_to_num(), theirs[name].nan_to_num()) for name in ours)


def test_it_learns_what_it_is_shown(tmp_path: Path) -> None:
    """The same slots with the same noise each time: nothing else would make a short run's losses comparable."""

    def again(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
        return (batch_of(0, slot) for _, slot in places)

    run_with(tmp_path, config=replace(CONFIG, steps=60), read=again)
    found = losses(tmp_path)
    assert found[-1] < 0.8 * found[0]


@pytest.mark.parametrize("stop_after", [1, 4, 7, 11])
def test_it_goes_on_as_if_it_had_not_been_killed(tmp_path: Path, whole: tuple[Path, Run], stop_after: int) -> None:
    """To the bit: losses, weights, average, moments, what the guard remembers."""
    directory, reference = whole
    run_with(tmp_path, stop_after=stop_after)
    assert len(losses(tmp_path)) == stop_after
    resumed = run_with(tmp_path)
    assert losses(tmp_path) == losses(directory)
    assert same_state(resumed, reference)


def test_what_it_reads_does_not_depend_on_where_it_was_killed(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def noted(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
        for step, slot in places:
            seen.append((step, slot))
            yield batch_of(step, slot)

    run_with(tmp_path, stop_after=6, read=noted)
    run_with(tmp_path, read=noted)
    kept = CONFIG.checkpoint_steps
    asked = [(step, slot) for step in [*range(6), *range(kept, CONFIG.steps)] for slot in range(SLOTS)]
    assert seen == asked, "steps after the checkpoint again, and none left out"


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    run_with(tmp_path, config=replace(CONFIG, checkpoint_steps=2, keep_checkpoints=2))
    names = sorted(path.name for path in RunFiles(tmp_path).checkpoints.iterdir())
    assert names == ["step-00000010", "step-00000012"]


def test_no_checkpoint_holds_a_pickle(whole: tuple[Path, Run]) -> None:
    directory, _ = whole
    files = [path for path in RunFiles(directory).checkpoints.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    for path in files:
        assert not path.read_bytes().startswith(b"\x80"), "how a pickle begins"


def test_a_file_asks_it_to_write_a_checkpoint_and_end(tmp_path: Path, whole: tuple[Path, Run]) -> None:
    files = RunFiles(tmp_path)

    def stopping(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
        for step, slot in places:
            if step == 5:
                files.stop_file.touch()
            yield batch_of(step, slot)

    assert run_with(tmp_path, read=stopping).step == 6
    newest = newest_checkpoint(files.checkpoints)
    assert newest is not None
    assert newest[1].step == 6
    files.stop_file.unlink()
    run_with(tmp_path)
    assert losses(tmp_path) == losses(whole[0])


# -- what spoils a run


def spoiled(step: int, factor: float) -> Any:
    """Slots of which those of a step have latents that many times as large, or that are no numbers."""

    def reading(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
        for at, slot in places:
            batch = batch_of(at, slot)
            if at == step or step < 0:
                latents_LP = batch.pack.latents_LP * factor
                batch = replace(batch, pack=replace(batch.pack, latents_LP=latents_LP))
            yield batch

    return reading


def test_a_step_with_no_number_in_it_is_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    run = run_with(tmp_path, read=spoiled(7, math.nan))
    lines = RunFiles(tmp_path).steps()
    assert [line["step"] for line in lines if line["verdict"] == "not_finite"] == [7]
    assert lines[7]["loss"] is None, "JSON has no word for it"
    assert all(torch.isfinite(tensor).all() for name, tensor in run.state().items() if "guard" not in name)


def test_a_spike_is_left_out(tmp_path: Path) -> None:
    run_with(tmp_path, config=replace(CONFIG, steps=30), read=spoiled(25, 1000.0))
    assert [line["step"] for line in RunFiles(tmp_path).steps() if line["verdict"] == "spike"] == [25]


def test_a_run_that_only_gives_no_numbers_ends_and_its_checkpoint_stays(tmp_path: Path) -> None:
    run_with(tmp_path, stop_after=4)
    with pytest.raises(Diverged, match="20 steps in a row were no finite number"):
        run_with(tmp_path, config=replace(CONFIG, steps=40, checkpoint_steps=100), read=spoiled(-1, math.nan))
    newest = newest_checkpoint(RunFiles(tmp_path).checkpoints)
    assert newest is not None
    assert newest[1].step == 4


def test_what_was_learnt_before_a_run_diverged_is_kept_and_said(tmp_path: Path) -> None:
    kept: list[dict[str, torch.Tensor]] = []

    def rescue(run: Run) -> Path:
        kept.append(run.averaged())
        return tmp_path / "model"

    def nothing_from_9(places: Iterable[tuple[int, int]]) -> Iterator[SlotBatch]:
        for at, slot in places:
            yield next(spoiled(-1 if at >= 9 else at + 1, math.nan)([(at, slot)]))

    config = replace(CONFIG, steps=40, checkpoint_steps=100, schedule="constant")
    whole = run_with(tmp_path / "whole", config=replace(config, steps=9))
    with pytest.raises(Diverged, match=r"step 28: the gradients of 20 .*; .*/model is .*--init .*/model") as said:
        run_with(tmp_path / "spoilt", config=config, read=nothing_from_9, rescue=rescue)
    assert "--learning-rate" in str(said.value)
    assert all(torch.equal(kept[0][name], weight) for name, weight in whole.averaged().items())


def test_longer_gradients_are_shortened_and_shorter_ones_are_not(tmp_path: Path) -> None:
    def moment(name: str, bound: float) -> torch.Tensor:
        run = run_with(tmp_path / name, config=replace(CONFIG, steps=1, max_grad_norm=bound))
        return run.state()["optimizer.model.leave.bias.exp_avg"]

    free = moment("free", 1e9)
    length = RunFiles(tmp_path / "free").steps()[0]["gradient"]
    assert free.any()
    assert torch.equal(moment("longer", 2 * length), free)
    torch.testing.assert_close(moment("shorter", length / 10), free / 10)


def test_the_time_of_a_step_goes_from_line_to_line(tmp_path: Path) -> None:
    """So that what is between them, such as samples, is not left out of the run's rate."""
    config = replace(CONFIG, steps=4, sample_steps=2)
    run_with(tmp_path, config=config, preview=lambda run, step: time.sleep(0.5))
    seconds = [line["seconds"] for line in RunFiles(tmp_path).steps()]
    assert seconds[2] > 0.5
    assert max(seconds[1], seconds[3]) < 0.5


def test_the_loss_is_told_by_quantile_of_the_times_that_are_drawn() -> None:
    learner = TransformerLearner(woken(TINY, dtype=torch.float32), FlowConfig(logit_mean=3.0), None, CONFIG, ALONE)
    batches = [
        replace(batch_of(0, slot), normal_N=torch.tensor([-0.7, -0.6, 1.0]))  # the first quarter ends at -0.674
        for slot in range(SLOTS)
    ]
    shown = [learner.loss(batch).shown for batch in batches]
    to_make = [~batch.pack.is_known_L for batch in batches]
    for found, batch, is_made_L in zip(shown, batches, to_make, strict=True):
        ends = np.cumsum([geometry.tokens for geometry in batch.pack.geometries])
        each = [int(part.sum()) for part in torch.tensor_split(is_made_L, ends.tolist())[:3]]
        assert [int(found[f"loss_time_{k}_of_4"][1]) for k in (1, 2, 3, 4)] == [each[0], each[1], 0, each[2]]


# -- checkpoints that are not what they should be


def checkpoints_of(tmp_path: Path) -> list[Path]:
    run_with(tmp_path)
    return sorted(RunFiles(tmp_path).checkpoints.iterdir())


def cut_short(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])


def without_weights(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def without_mark(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()


def with_a_broken_mark(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("{")


SPOILERS = [cut_short, without_weights, without_mark, with_a_broken_mark]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_one_that_is_half_written_is_passed_over_for_the_one_before(tmp_path: Path, spoil: Any) -> None:
    *_, before, last = checkpoints_of(tmp_path)
    spoil(last)
    newest = newest_checkpoint(RunFiles(tmp_path).checkpoints)
    assert newest is not None
    assert newest[0] == before


def test_what_was_not_whole_does_not_stand_in_the_way_of_what_comes_after(tmp_path: Path) -> None:
    """One that was passed over is not kept in place of the good one before it, nor of the next."""
    config = replace(CONFIG, keep_checkpoints=1)
    run_with(tmp_path, stop_after=8)
    folder = RunFiles(tmp_path).checkpoints
    cut_short(folder / "step-00000008")
    shutil.copytree(folder / "step-00000008", folder / "step-00000099")
    run_with(tmp_path, config=replace(config, checkpoint_steps=5), stop_after=5)
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert newest[1].step == 5
    assert [path.name for path in folder.iterdir()] == ["step-00000005"]


def test_where_none_is_whole_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    for folder in checkpoints_of(tmp_path):
        cut_short(folder)
    with pytest.raises(BadCheckpoint, match=r"no checkpoint of .* is whole: .*bytes were written; remove them"):
        run_with(tmp_path)


def test_one_of_another_run_or_config_is_refused(tmp_path: Path) -> None:
    run_with(tmp_path, stop_after=4)
    with pytest.raises(BadCheckpoint, match="is of another run, by its run_id; give another --run"):
        run_with(tmp_path, run_id="another")
    with pytest.raises(BadCheckpoint, match="does not fit this run"):
        run_with(tmp_path, config=replace(CONFIG, optimizer="muon"))


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    run_with(tmp_path, stop_after=4)
    left = RunFiles(tmp_path).checkpoints / ".step-00000008"
    left.mkdir()
    (left / "part").write_bytes(b"x")
    run_with(tmp_path)
    assert not left.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for some checkpoints, and not for all."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system of its own cannot be mounted here: not root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_it_clearly_and_the_last_good_checkpoint_stays(small_disk: Path) -> None:
    with pytest.raises(OSError, match=r"cannot be written: [Nn]o space .*; free some.*; the last"):
        run_with(small_disk, config=replace(CONFIG, steps=400, checkpoint_steps=1))
    newest = newest_checkpoint(RunFiles(small_disk).checkpoints)
    assert newest is not None
    mark = json.loads((newest[0] / "checkpoint.json").read_text())
    assert mark["step"] == newest[1].step > 0
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)  # some was freed
    run_with(small_disk, config=replace(CONFIG, steps=newest[1].step + 2))
    assert len(losses(small_disk)) == newest[1].step + 2
