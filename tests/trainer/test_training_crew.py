"""Several processes: the same packs and the same run, however weights, packs and tokens are shared between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training_runs import CONFIG, losses, run_with, with_two
from trainer.epoch import shard_of
from trainer.training.crew import Crew

SHARDED = replace(CONFIG, parallel="shard")
SHARED = replace(CONFIG, context_parallel=2)
BOTH = replace(SHARED, parallel="shard", recompute="elementwise")
NARROW = replace(CONFIG, precision="bfloat16", recompute="most")
WAYS = ("replicate", "shard", "context", "both", "elastic", "elastic_shard")


def two(crew: Crew, directory: Path) -> None:
    run_with(directory / "replicate", crew)
    run_with(directory / "again", crew)
    run_with(directory / "shard", crew, SHARDED)
    run_with(directory / "context", replace(crew, context=2), SHARED)
    run_with(directory / "both", replace(crew, context=2), BOTH)
    run_with(directory / "narrow", crew, replace(NARROW, parallel="shard"))
    run_with(directory / "adapters", crew, SHARDED, lora_rank=2)
    run_with(directory / "shortened", crew, replace(SHARDED, max_grad_norm=0.05))
    run_with(directory / "elastic", crew, stop_after=8)
    run_with(directory / "elastic_shard", crew, SHARDED, stop_after=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alone; by two in each way; and by one, then two, then one."""
    directory = tmp_path_factory.mktemp("runs")
    run_with(directory / "alone")
    run_with(directory / "narrow_alone", config=NARROW)
    run_with(directory / "adapters_alone", lora_rank=2)
    run_with(directory / "shortened_alone", config=replace(CONFIG, max_grad_norm=0.05))
    run_with(directory / "elastic", stop_after=4)
    run_with(directory / "elastic_shard", config=SHARDED, stop_after=4)
    with_two(two, directory)
    run_with(directory / "elastic")
    run_with(directory / "elastic_shard", config=SHARDED)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one_does(runs: Path, way: str) -> None:
    """Sums in another order: equal but for rounding, which twelve steps have not made larger."""
    assert losses(runs / way) == pytest.approx(losses(runs / "alone"), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "apart"), [("narrow", 1e-3), ("adapters", 1e-4), ("shortened", 1e-4)])
def test_two_processes_share_half_precision_adapters_and_shortened_gradients(
    runs: Path, way: str, apart: float
) -> None:
    found, alone = losses(runs / way), losses(runs / f"{way}_alone")
    assert found == pytest.approx(alone, rel=apart)
    assert alone != losses(runs / "alone"), "it is another run"


@pytest.mark.slow
def test_two_processes_do_the_same_again_to_the_bit(runs: Path) -> None:
    assert losses(runs / "again") == losses(runs / "replicate")


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_any_number_of_readers_reads_the_same_slots(world: int) -> None:
    shared = [slot for rank in range(world) for slot in shard_of(8, rank, world)]
    assert shared == list(range(8))


def test_those_who_share_a_pack_read_the_same_slots() -> None:
    crews = [Crew(rank, 4, context=2) for rank in range(4)]
    assert [crew.reader for crew in crews] == [0, 0, 1, 1]
    assert [crew.place for crew in crews] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="context_parallel=3: must divide the number of workers, 4"):
        Crew(0, 4, context=3)
