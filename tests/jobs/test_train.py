"""Training as its users start it: killed and gone on with to the bit, stopped in order, refused in words."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from curation.store import Store
from jobs import sample, train
from jobs.train_options import TrainOptions
from jobs.train_run import BadRun, facts_of, only_one
from jobs.train_work import held_bytes, network_work, transformer_work
from jobs.train_workers import Tail
from tests.jobs.running import descendants, end, run, start, wait_until
from tests.reading_stores import MadeClip, made_store, write_latents
from tests.trainer.test_latents import own_network
from tests.trainer.test_pretrained_text import make
from trainer.latents import space_of
from trainer.media_files import read_info
from trainer.model.trained import read_trained
from trainer.pretrained_text import PretrainedTextEncoder, pretrained_encoder_id
from trainer.training.crew import ALONE
from trainer.training.files import RunFiles
from trainer.training.previews import LINE_PX
from trainer.training.work import TransformerWork

JOB = "jobs.train"
STEPS = 30
SMALL = [
    *("--network", "pixels-8", "--max-tokens", "64", "--min-side-px", "32", "--budget-tokens", "128", "--slots", "2"),
    *("--width", "32", "--depth", "2", "--head-width", "16", "--mlp-width", "64", "--text-width", "16"),
    *("--patch-space", "2", "--warmup-steps", "2", "--learning-rate", "1e-3", "--cpus-per-worker", "1"),
    *("--checkpoint-steps", "4", "--sample-steps", "0", "--read-workers", "0"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    clips = [
        MadeClip(f"clip-{n}", level=40 + 20 * n, width=64 + 16 * (n % 3), frames=9 + 4 * (n % 3)) for n in range(8)
    ]
    return made_store(tmp_path_factory.mktemp("training"), clips)


def options_of(store: Store, directory: Path, steps: int = STEPS) -> list[str]:
    return ["--store", store.uri, "--run", str(directory), *SMALL, "--steps", str(steps)]


def steps_taken(directory: Path) -> int:
    return len(RunFiles(directory).steps())


@pytest.fixture(scope="module")
def undisturbed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of the same run in this process, without Ray."""
    files = RunFiles(tmp_path_factory.mktemp("undisturbed"))
    from jobs.cli import parse

    options = parse(TrainOptions, prog="train", argv=options_of(store, files.directory))
    work: TransformerWork = transformer_work(options, store, files, facts_of(options, store, files))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    work.run(ALONE)
    torch.set_num_threads(before)
    return [line["loss"] for line in files.steps()]


def train_workers(pid: int) -> list[int]:
    return [number for number, command in descendants(pid).items() if "RayTrainWorker" in command]


@pytest.mark.slow
def test_killed_workers_and_drivers_cost_nothing(store: Store, undisturbed: list[float], tmp_path: Path) -> None:
    """A worker is killed and started again by Ray, then the driver, whose command is given again: the same losses, to
    the bit; then a model that can be sampled from, and nothing left to do."""
    directory = tmp_path / "run"
    command = [JOB, *options_of(store, directory)]
    driver = start(*command)
    wait_until(lambda: steps_taken(directory) > 5, driver, "some steps")
    for number in train_workers(driver.pid):
        os.kill(number, signal.SIGKILL)
    wait_until(lambda: steps_taken(directory) > 12, driver, "steps after the worker was killed")
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    code, output = run(*command)
    assert code == 0, output
    assert "8 clips seen, 8 are trained on" in output
    assert "million parameters are trained; estimated: memory" in output
    assert [line["loss"] for line in RunFiles(directory).steps()] == undisturbed

    code, output = run(*command)
    assert code == 0, output
    assert "nothing to do" in output
    file = tmp_path / "sample.png"
    asked = ["--width", "40", "--height", "24", "--seconds", "0.5", "--fps", "8", "--steps", "2"]
    assert sample.main(["--run", str(directory), "--prompt", "a ramp", "--out", str(file), *asked]) == 0
    assert read_info(file)["prompt"] == "a ramp"
    states = store.open("runs").to_table(columns=["job", "state"], filter="job = 'train'").to_pylist()
    assert "finished" in {row["state"] for row in states}


@pytest.mark.slow
def test_it_is_stopped_in_order_and_two_workers_go_on_with_it(
    store: Store, undisturbed: list[float], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    command = [JOB, *options_of(store, directory)]
    driver = start(*command)
    wait_until(lambda: steps_taken(directory) > 4, driver, "some steps")
    driver.send_signal(signal.SIGTERM)
    code, output = end(driver)
    assert code == 130, output
    assert "interrupted: the workers write a checkpoint and end" in output
    stopped = steps_taken(directory)
    assert stopped < STEPS
    assert (RunFiles(directory).checkpoints / f"step-{stopped:08d}").is_dir()
    code, output = run(*command, "--workers", "2")
    assert code == 0, output
    assert [line["loss"] for line in RunFiles(directory).steps()] == pytest.approx(undisturbed, rel=1e-4)


def made(store: Store, directory: Path, *more: str) -> TransformerWork:
    """The run as workers would be given it."""
    options = train.parse(TrainOptions, prog="train", argv=[*options_of(store, directory, steps=4), *more])
    directory.mkdir(exist_ok=True)
    files = RunFiles(directory.absolute())
    return transformer_work(options, store, files, facts_of(options, store, files))


def test_a_model_is_tuned_whole_or_by_adapters_from_one_that_was_trained(store: Store, tmp_path: Path) -> None:
    made(store, tmp_path / "first").run(ALONE)
    first = RunFiles(tmp_path / "first").model
    for name, more in (("whole", []), ("adapted", ["--lora-rank", "2"])):
        work = made(store, tmp_path / name, "--init", str(first), "--learning-rate", "0.01", *more)
        begun, found = work.model().state_dict(), read_trained(first)[1].state_dict()
        assert torch.equal(begun["last_modulation.1.weight"], found["last_modulation.1.weight"])
        work.run(ALONE)
        _, tuned = read_trained(RunFiles(tmp_path / name).model)
        _, before = read_trained(first)
        changed = {
            key for key, weight in tuned.state_dict().items() if not torch.equal(weight, before.state_dict()[key])
        }
        assert changed
        assert (name == "whole") == ("enter.weight" in changed), "adapters leave all else as it was"


def test_paths_mean_the_same_in_a_worker_which_has_a_directory_of_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = own_network(Path("networks") / "own")
    work = made(store, Path("run"), "--network", str(network), "--sample-steps", "0")
    assert work.files.directory.is_absolute()
    monkeypatch.chdir("/")
    assert work.space == str(tmp_path / network)
    assert space_of(work.space).network_id == work.trained.network_id
    assert (work.files.network / "config.json").is_file(), "a copy stays with the run"


def test_a_compression_network_is_trained_and_shown_beside_its_crops(store: Store, tmp_path: Path) -> None:
    options = train.parse(
        TrainOptions,
        prog="train",
        argv=[
            *("--store", store.uri, "--run", str(tmp_path), "--what", "network", "--steps", "3", "--slots", "1"),
            *("--crop-frames", "5", "--crop-px", "32", "--crops", "2", "--sample-steps", "2", "--read-workers", "0"),
        ],
    )
    files = RunFiles(tmp_path)
    work = network_work(options, store, files, facts_of(options, store, files))
    work.run(ALONE)
    assert [line["replaced"] for line in files.steps()] == [0, 0, 0]
    for step in (2, 3):
        height, width, _ = np.asarray(Image.open(files.samples / f"{step:08d}" / "sheet.png")).shape
        assert (height, width) == (4 * (96 + LINE_PX), 5 * 96), "two crops over what was made of them"
    assert space_of(str(files.network)).ratio_space == 8


def test_texts_and_clips_that_were_encoded_ahead_are_read(store: Store, tmp_path: Path) -> None:
    """Latents of pixels and embeddings of a tiny T5, as jobs.encode leaves them, and a sample by that encoder."""
    ahead = made_store(tmp_path, [MadeClip(f"clip-{n}", level=60 + 30 * n, frames=9) for n in range(3)])
    encoder = str(make("t5", tmp_path / "t5"))
    captions = ahead.open("captions").to_table(columns=["caption_id"])["caption_id"].to_pylist()
    encoder_id = pretrained_encoder_id(encoder)
    width = PretrainedTextEncoder.load(encoder).width
    random = np.random.default_rng(0)
    texts = [
        {"input_id": one, "kind": "text", "network_id": encoder_id, "values": random.normal(size=(3, width))}
        for one in ("", *captions)
    ]
    size = {"frames": 9, "height": 64, "width": 64}
    clips = [
        {
            "input_id": f"clip-{n}",
            "kind": "clip",
            "network_id": "pixels-8",
            "values": random.normal(size=(192, 9, 8, 8)),
            **size,
        }
        for n in range(3)
    ]
    write_latents(ahead, [*texts, *clips])
    more = ["--text-encoder", encoder, "--max-tokens", "144", "--budget-tokens", "300", "--sample-steps", "4"]
    work = made(ahead, tmp_path / "run", *more)
    assert work.trained.encoder_id == encoder_id
    work.run(ALONE)
    files = RunFiles(tmp_path / "run")
    assert (files.samples / "00000004" / "sheet.png").is_file()
    asked = [
        "--width",
        "32",
        "--height",
        "32",
        "--seconds",
        "0",
        "--fps",
        "8",
        "--steps",
        "1",
        "--out",
        str(tmp_path / "s.png"),
    ]
    assert sample.main(["--run", str(files.directory), "--prompt", "a ramp", *asked]) == 0


# -- what is refused, before Ray is started


def without_captions(store: Store, directory: Path) -> None:
    shutil.rmtree(store.table_uri("captions"))


def without_kept_clips(store: Store, directory: Path) -> None:
    store.open("clips").update({"keep": "false", "reason": "'static'"})


def with_something_else_in_the_run(store: Store, directory: Path) -> None:
    directory.mkdir()
    (directory / "holiday.jpg").touch()


def with_a_run_of_other_options(store: Store, directory: Path) -> None:
    files = RunFiles(directory)
    files.write_facts({"options": {"train": {"seed": 5}}, "clips_version": 1})


def with_a_version_that_is_gone(store: Store, directory: Path) -> None:
    options = train.parse(TrainOptions, prog="train", argv=options_of(store, directory))
    directory.mkdir()
    facts = facts_of(options, store, RunFiles(directory))
    RunFiles(directory).write_facts({**facts, "clips_version": 10_000})


def nothing(store: Store, directory: Path) -> None:
    pass


Spoil = Callable[[Store, Path], None]


@pytest.mark.parametrize(
    ("spoil", "more", "code", "words"),
    [
        (without_captions, [], 4, "has no captions; make some with jobs.caption"),
        (without_kept_clips, [], 2, "no clip can be trained on: rejected_static 2"),
        (with_something_else_in_the_run, [], 2, "holds something else (holiday.jpg); give another --run"),
        (with_a_run_of_other_options, [], 2, "began with other options"),
        (with_a_version_that_is_gone, [], 4, "version 10000 of 'clips' is gone"),
        (nothing, ["--network", "no/such/dir"], 2, "no/such/dir"),
        (nothing, ["--network", "pixels-3"], 2, "ratio_space=3: must be one of 2, 4, 8"),
        (nothing, ["--init", "no/such/dir"], 2, "no/such/dir/config.json: is missing"),
        (nothing, ["--latents", "True"], 2, "has none of network pixels-8; make them with jobs.encode"),
        (nothing, ["--max-tokens", "3"], 2, "no clip can be trained on: too_long 2"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: Spoil, more: list[str], code: int, words: str
) -> None:
    store = made_store(tmp_path, [MadeClip("one"), MadeClip("two", level=150)])
    directory = tmp_path / "run"
    spoil(store, directory)
    assert train.main([*options_of(store, directory), *more]) == code
    assert words in capfd.readouterr().err


def test_what_a_restart_would_meet_again_is_met_once(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray starts workers again whatever ended them."""
    directory = tmp_path / "run"
    assert train.main([*options_of(store, directory), "--learning-rate", "1e38", "--restarts", "1"]) == 2
    assert "the gradients of 20 steps in a row were no finite number" in capfd.readouterr().err
    assert len(list(RunFiles(directory).events.iterdir())) == 1, "it was trained again from the last checkpoint"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"network": None}, "network: give the compression network"),
        ({"what": "network"}, "network: is what is trained"),
        ({"lora_rank": 4}, "lora_rank=4: needs a model to begin with"),
        ({"workers": 3}, "slots=8: must be a multiple of the 3 that read"),
        ({"num_gpus": -2.0}, "num_gpus=-2.0"),
        ({"text_encoder": "t5", "prompts": ("a",)}, "prompts: are read by the encoder that is trained along"),
    ],
)
def test_impossible_options_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainOptions(**{"store": "s", "run": Path("r"), "network": "pixels-4", **changed})


def test_an_object_store_is_no_directory_of_a_run() -> None:
    with pytest.raises(ValueError, match=r"run=s3:/bucket/run: must be a directory that all workers see"):
        TrainOptions(store="s", run=Path("s3://bucket/run"), network="pixels-4")


def test_a_run_that_began_before_there_was_an_option_goes_on(store: Store, tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    options = train.parse(TrainOptions, prog="train", argv=options_of(store, tmp_path))
    facts = facts_of(options, store, files)
    del facts["options"]["train"]["spike_factor"], facts["options"]["lora_rank"]
    files.write_facts(facts)
    assert facts_of(options, store, files) == facts
    with pytest.raises(BadRun, match=r"train.spike_factor was 8.0, is 3.0"):
        facts_of(replace(options, train=replace(options.train, spike_factor=3.0)), store, files)


def test_more_steps_are_another_run_and_the_way_is_said(store: Store, tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    options = train.parse(TrainOptions, prog="train", argv=options_of(store, tmp_path))
    facts_of(options, store, files)
    with pytest.raises(BadRun, match=r"train.steps was 30, is 60: a new run with --init of what this one made"):
        facts_of(replace(options, train=replace(options.train, steps=60)), store, files)


def test_what_a_run_has_written_already_needs_no_room_again(tmp_path: Path) -> None:
    assert held_bytes(tmp_path / "none") == 0
    (tmp_path / "step-00000004").mkdir()
    (tmp_path / "step-00000004" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "step-00000004" / "b").write_bytes(b"x" * 24)
    assert held_bytes(tmp_path) == 1024


def test_lines_are_told_once_also_where_their_file_was_made_anew(tmp_path: Path) -> None:
    """A run that goes on forgets the steps that it will take again, and with them what was read of their file."""
    files = RunFiles(tmp_path)
    tail = Tail(files)
    assert tail.lines() == []
    for step in range(5):
        files.add_step({"step": step})
    assert [line["step"] for line in tail.lines()] == [0, 1, 2, 3, 4]
    files.forget_steps_from(2)
    for step in range(2, 9):
        files.add_step({"step": step, "again": True})
    with files.steps_file.open("a") as file:
        file.write('{"step": 9')
    assert [line["step"] for line in tail.lines()] == list(range(9))
    with files.steps_file.open("a") as file:
        file.write("}\n")
    assert tail.lines() == [{"step": 9}]


def test_two_commands_do_not_train_one_run(store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with only_one(RunFiles(tmp_path)):
        assert train.main(options_of(store, tmp_path)) == 2
    assert "another command trains it; let it finish, or stop it" in capfd.readouterr().err


def test_a_run_that_is_refused_has_not_begun(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the same command would meet the versions that it was refused for, whatever the store has by then."""
    directory = tmp_path / "run"
    assert train.main([*options_of(store, directory), "--where", "width > 100000"]) == 2
    assert "no clip can be trained on" in capsys.readouterr().err
    assert [path.name for path in directory.iterdir()] == [".lock"]
    (directory / "plans").mkdir()
    (directory / "plans" / "mine.txt").write_text("not of a run")
    assert train.main(options_of(store, directory)) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (directory / "plans" / "mine.txt").exists()
