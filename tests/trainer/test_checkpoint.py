"""Models on disk: whole or refused by name, nothing run that is read, an earlier one kept where the disk is full."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_transformers import TINY, woken
from trainer.checkpoint import BadCheckpoint, load_weights, read_checkpoint, write_checkpoint
from trainer.model.config import TransformerConfig
from trainer.model.transformer import DiffusionTransformer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
Attack = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Small:
    width: int = 3
    sides: tuple[int, int] = (1, 2)
    name: str = "a"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width}: must be at least 1")


def tensors_of(seed: int = 0, numbers: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(2, numbers, generator=generator), "b": torch.tensor([seed], dtype=torch.int64)}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "run" / "last", Small(), tensors_of())
    return tmp_path / "run" / "last"


def test_there_and_back(written: Path) -> None:
    config, tensors = read_checkpoint(written, Small)
    assert config == Small()
    assert same(tensors, tensors_of())
    assert sorted(path.name for path in written.iterdir()) == [CONFIG, WEIGHTS]
    write_checkpoint(written, Small(width=5), tensors_of(1))
    config, tensors = read_checkpoint(written, Small)
    assert (config, same(tensors, tensors_of(1))) == (Small(width=5), True)


def test_a_model_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = woken(TINY, 1, torch.float32)
    write_checkpoint(tmp_path, TINY, model.state_dict())
    config, tensors = read_checkpoint(tmp_path, TransformerConfig)
    other = woken(config, 2, torch.float32)
    assert not same(other.state_dict(), model.state_dict())
    load_weights(other, tensors, str(tmp_path))
    assert config == TINY
    assert same(other.state_dict(), model.state_dict())


def test_all_that_tensors_may_be(tmp_path: Path) -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "nothing": torch.zeros(0, 3),
        "number": torch.tensor(5e-324, dtype=torch.float64),
        "turned": wide.T,
        "trained": torch.nn.Parameter(torch.tensor([float("nan"), float("inf")])),
        "is": torch.tensor([True, False]),
        "näme 犬": torch.ones(1),
    }
    write_checkpoint(tmp_path, Small(), tensors)
    _, found = read_checkpoint(tmp_path, Small)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].nan_to_num(7), tensor.detach().nan_to_num(7))


def test_an_older_checkpoint_has_the_fields_that_came_later_by_default(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Older:
        width: int = 9

    Older.__name__ = "Small"
    write_checkpoint(tmp_path, Older(), tensors_of())
    assert read_checkpoint(tmp_path, Small)[0] == Small(width=9)


@dataclass(frozen=True, slots=True)
class Whole:
    first: Small
    second: Small
    name: str


def test_configs_of_configs(tmp_path: Path) -> None:
    config = Whole(Small(width=5, sides=(8, 9)), Small(), "b")
    write_checkpoint(tmp_path, config, tensors_of())
    assert read_checkpoint(tmp_path, Whole)[0] == config
    (tmp_path / CONFIG).write_text((tmp_path / CONFIG).read_text().replace('"width": 5', '"height": 5'))
    with pytest.raises(BadCheckpoint, match=r"config\.json: has fields that this version does not know: height"):
        read_checkpoint(tmp_path, Whole)


def test_a_config_that_was_edited_is_refused(written: Path) -> None:
    (written / CONFIG).write_text('{"kind": "Small", "width": 9}')
    with pytest.raises(BadCheckpoint, match="its config is not its weights' own; take an earlier checkpoint"):
        read_checkpoint(written, Small)


# Attacks.


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("exploded",)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def holding(content: bytes) -> Attack:
    return lambda path: path.write_bytes(content)


def saying(**changed: Any) -> Attack:
    return holding(json.dumps({"kind": "Small", **asdict(Small())} | changed).encode())


ATTACKS: list[tuple[str, Attack, str]] = [
    (CONFIG, Path.unlink, "config.json: is missing; give the directory of a checkpoint"),
    (CONFIG, cut_in_half, "config.json: cannot be read"),
    (CONFIG, to_folder, "config.json: cannot be read"),
    (CONFIG, holding(b""), "config.json: cannot be read"),
    (CONFIG, holding(b"\xff\xfe{}"), "config.json: cannot be read"),
    (CONFIG, holding(b"[]"), "config.json: cannot be read (no JSON object)"),
    (CONFIG, holding(b"null"), "config.json: cannot be read (no JSON object)"),
    (CONFIG, holding(b"[" * 100_000), "config.json: cannot be read"),
    (CONFIG, holding(b'{"kind": ' + b"9" * 9999 + b"}"), "config.json: cannot be read"),
    (CONFIG, holding(pickle.dumps(Bomb())), "config.json: cannot be read"),
    (CONFIG, holding(b"{}"), "config.json: is a None, and a Small is needed"),
    (CONFIG, saying(kind="TransformerConfig"), "config.json: is a TransformerConfig, and a Small is needed"),
    (CONFIG, saying(kind=["Small"]), "config.json: is a ['Small'], and a Small is needed"),
    (CONFIG, saying(depth=2, x=1), "config.json: has fields that this version does not know: depth, x"),
    (CONFIG, saying(width=0), "config.json: width=0: must be at least 1"),
    (CONFIG, saying(width="wide"), "config.json: '<' not supported"),
    (CONFIG, saying(width=None), "config.json: '<' not supported"),
    (WEIGHTS, Path.unlink, "model.safetensors: is missing; was"),
    (WEIGHTS, cut_in_half, "model.safetensors: cannot be read"),
    (WEIGHTS, to_folder, "model.safetensors: cannot be read"),
    (WEIGHTS, holding(b""), "model.safetensors: cannot be read"),
    (WEIGHTS, holding(b"\xff" * 8 + b"{}"), "model.safetensors: cannot be read"),
    (WEIGHTS, holding(b"\x02" + b"\0" * 7 + b"[]"), "model.safetensors: cannot be read"),
    (WEIGHTS, holding(pickle.dumps(Bomb())), "model.safetensors: cannot be read"),
    (WEIGHTS, lambda path: torch.save({"a": Bomb()}, path), "model.safetensors: cannot be read"),
]


@pytest.mark.parametrize(("name", "attack", "message"), ATTACKS)
def test_what_is_no_checkpoint_is_refused_by_name(
    written: Path, monkeypatch: pytest.MonkeyPatch, name: str, attack: Attack, message: str
) -> None:
    monkeypatch.chdir(written.parent)
    read_checkpoint(written, Small)
    attack(written / name)
    with pytest.raises(BadCheckpoint) as raised:
        read_checkpoint(written, Small)
    assert str(raised.value).startswith(f"{written}/{message}")
    assert not Path("exploded").exists()


def test_the_bomb_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert Path("exploded").is_dir()


def test_places_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in ("nowhere", "file", "."):
        with pytest.raises(BadCheckpoint, match=r"config\.json: (is missing|cannot be read)"):
            read_checkpoint(tmp_path / place, Small)
    with pytest.raises(OSError, match="file"):
        write_checkpoint(tmp_path / "file", Small(), tensors_of())


# Weights of another model.


def model_state(**changed: Any) -> dict[str, Tensor]:
    return woken(replace(TINY, **changed), 1, torch.float32).state_dict()


def without(*names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model_state().items() if name not in names}


FAULTS: list[tuple[dict[str, Tensor], str]] = [
    (without("leave.bias"), "here: weights of another config: leave.bias is missing"),
    (model_state() | {"odd": torch.ones(1)}, "here: weights of another config: odd is not of this model"),
    (
        model_state() | {"leave.bias": torch.ones(3)},
        "here: weights of another config: leave.bias is [3], and [8] is needed",
    ),
    (
        without("leave.bias", "leave.weight") | {"odd": torch.ones(1), "odder": torch.ones(1)},
        "leave.weight is missing; leave.bias is missing; odd is not of this model, and 1 more",
    ),
    ({}, "more"),
    (model_state(depth=3), "blocks.2."),
    (model_state(width=24), "is [24, 8], and [16, 8] is needed"),
]


@pytest.mark.parametrize(("tensors", "message"), FAULTS)
def test_weights_of_another_model_are_refused_and_fill_nothing(tensors: dict[str, Tensor], message: str) -> None:
    model = DiffusionTransformer(TINY)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(BadCheckpoint) as raised:
        load_weights(model, tensors, "here")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 400
    assert same(model.state_dict(), before)


# A disk that is full.


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: writing fails as on a full disk, in whichever layer it is done."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


LONG = Small(name="long " * 2000)
FULL = [
    # what is written over a small checkpoint, and up to how many bytes
    (Small(width=7), tensors_of(1, 20_000), 4096),  # weights do not fit
    (Small(width=7), tensors_of(1), 10),
    (LONG, tensors_of(1), 4096),  # the weights do, and the config does not
]


@pytest.mark.parametrize(("config", "tensors", "size"), FULL)
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(
    written: Path, config: Small, tensors: dict[str, Tensor], size: int
) -> None:
    with at_most(size), pytest.raises(OSError, match=r"the checkpoint cannot be written: .*File too large"):
        write_checkpoint(written, config, tensors)
    found = read_checkpoint(written, Small)
    assert found[0] == Small()
    assert same(found[1], tensors_of())
    assert sorted(path.name for path in written.iterdir()) == [CONFIG, WEIGHTS]
    write_checkpoint(written, config, tensors)  # and once there is room
    assert read_checkpoint(written, Small)[0] == config


def test_a_first_checkpoint_that_did_not_fit_is_none(tmp_path: Path) -> None:
    with at_most(4096), pytest.raises(OSError, match="the checkpoint cannot be written"):
        write_checkpoint(tmp_path, LONG, tensors_of())
    with pytest.raises(BadCheckpoint, match=r"config\.json: is missing"):
        read_checkpoint(tmp_path, Small)


@pytest.mark.parametrize("at", [0, 1])
def test_a_writer_that_dies_between_files_leaves_a_checkpoint_or_none(
    written: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Of the same config, as the checkpoints of a run are: before or after, and nothing in between. Of another config,
    what is in between is refused."""
    calls = iter(range(9))
    move = os.replace

    def dying(source: Path, target: Path) -> None:
        if next(calls) == at:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", dying)
    for folder in (written, written.parent / "first"):
        calls = iter(range(9))
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(folder, Small(), tensors_of(1))
    config, tensors = read_checkpoint(written, Small)
    assert (config, same(tensors, tensors_of(at))) == (Small(), True)
    with pytest.raises(BadCheckpoint, match=r"config\.json: is missing"):
        read_checkpoint(written.parent / "first", Small)
    monkeypatch.setattr(os, "replace", move)
    shutil.rmtree(written.parent / "first")
    write_checkpoint(written, Small(), tensors_of(2))
    assert same(read_checkpoint(written, Small)[1], tensors_of(2))


def test_a_writer_that_dies_with_another_config_leaves_what_is_refused(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, move = iter(range(9)), os.replace

    def dying(source: Path, target: Path) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(written, Small(width=5), tensors_of(1))
    with pytest.raises(BadCheckpoint, match="its config is not its weights' own"):
        read_checkpoint(written, Small)
