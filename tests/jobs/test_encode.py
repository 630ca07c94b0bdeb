"""The encoding job as its users start it: what it gives, once, whatever dies; and what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray

from curation.lease import Lease
from curation.store import Store, blob_table
from jobs import compact
from jobs.cluster import connect
from jobs.encode import main
from tests.captioned_stores import captioned_store
from tests.jobs.running import start, wait_until
from tests.trainer.test_latents import own_network
from tests.trainer.test_pretrained_text import make
from trainer.checkpoint import CONFIG
from trainer.latents import read_space

JOB = "jobs.encode"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    own_network(folder / "network")
    make("t5", folder / "t5")
    return folder


@pytest.fixture(scope="module")
def captioned(small_footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clips, the bytes of one of which are none, and two captions of each."""
    store = captioned_store(small_footage, tmp_path_factory.mktemp("captioned") / "store")
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    row = min(clips.to_table(columns=columns, filter="keep").to_pylist(), key=lambda row: row["clip_id"])
    clips.merge_insert("clip_id").when_matched_update_all().execute(blob_table([row | {"video": b"no video"}]))
    return store


@pytest.fixture
def store(captioned: Store, tmp_path: Path) -> Store:
    return Store.at(str(shutil.copytree(captioned.uri, tmp_path / "store")))


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    """Runs in this process share it; one that is killed is a process of its own, with a Ray of its own."""
    connect()
    yield
    ray.shutdown()


def command_for(store: Store, models: Path, *more: str) -> list[str]:
    """For clips alone."""
    asked = ["--network", str(models / "network"), "--max-tokens", "300", "--max-failed-share", "0.5"]
    return ["--store", store.uri, *asked, *more]


def rows_of(store: Store) -> dict[str, dict[str, Any]]:
    """By key, latents as hashes."""
    table = store.open("latents")
    columns = [name for name in table.schema.names if name != "latent"]
    rows = table.to_table(columns=columns, with_row_id=True).to_pylist()
    made = [row["_rowid"] for row in rows if row["failure"] is None]
    blobs = {
        row: data
        for row, (_, data) in zip(made, table.read_blobs("latent", ids=made, preserve_order=True), strict=True)
    }
    for row in rows:
        row.pop("run_id")
        blob = blobs.get(row.pop("_rowid"))
        row["latent"] = blob and hashlib.sha256(blob).hexdigest()
    keyed = {row["latent_id"]: row for row in rows}
    assert len(keyed) == len(rows), "a latent is there twice"
    return keyed


def files_of(store: Store) -> int:
    with suppress(FileNotFoundError):
        return len(os.listdir(f"{store.uri}/latents.lance/data"))
    return 0


@pytest.mark.slow
def test_a_killed_run_is_made_good_and_then_nothing_is_left_to_do(
    store: Store, models: Path, shared_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    undisturbed = Store.at(str(shutil.copytree(store.uri, tmp_path / "undisturbed")))
    texts = ["--text-encoder", str(models / "t5")]
    assert main(command_for(undisturbed, models, *texts)) == 0
    output = capfd.readouterr().out
    kept = store.open("clips").to_table(columns=["clip_id"], filter="keep")["clip_id"].to_pylist()
    captions = store.open("captions").count_rows()
    assert len(kept) >= 4
    assert f"clips: {len(kept)} were sent: {len(kept) - 1} encoded, 0 unfit, 1 failed" in output
    assert "failed, damaged_clip: 1" in output
    assert f"texts: {captions + 1} were sent: {captions + 1} encoded, 0 unfit, 0 failed" in output
    expected = rows_of(undisturbed)
    clips = [row for row in expected.values() if row["kind"] == "clip"]
    assert {row["input_id"] for row in clips} == set(kept)
    assert [row["input_id"] for row in clips if row["failure"]] == [min(kept)]
    assert {row["network_id"] for row in clips} == {read_space(models / "network").network_id}
    assert sum(row["kind"] == "text" for row in expected.values()) == captions + 1

    assert main(command_for(store, models, "--limit", "2")) == 0
    assert f"{len(kept) - 2} left by limit" in capfd.readouterr().out
    before, files = rows_of(store), files_of(store)
    assert len(before) == 2
    driver = start(JOB, *command_for(store, models, "--batch-size", "1"))
    wait_until(lambda: files_of(store) > files, driver, "a latent was written")
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert before.items() <= rows_of(store).items() < expected.items()

    assert main(command_for(store, models, *texts, "--batch-size", "1")) == 0
    assert rows_of(store) == expected
    version = store.open("latents").version
    capfd.readouterr()
    assert main(command_for(store, models, *texts)) == 0
    output = capfd.readouterr().out
    assert "clips: nothing to encode" in output
    assert "texts: nothing to encode" in output
    assert f"{len(kept) - 1} have a latent, 0 lack one, 1 can have none" in output
    assert store.open("latents").version == version
    runs = sorted(store.open("runs").to_table(filter="job = 'encode'").to_pylist(), key=lambda row: row["started_at"])
    assert [row["state"] for row in runs] == ["finished", "interrupted", "finished", "finished"]
    assert json.loads(runs[2]["counts"])["clips"]["complete"] + json.loads(runs[2]["counts"])["clips"]["encoded"] >= 3
    assert compact.main(["--store", store.uri]) == 0
    assert rows_of(store) == expected


@pytest.mark.slow
def test_a_store_that_cannot_be_written_ends_the_job_and_it_goes_on_from_there(
    store: Store, models: Path, shared_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is in the worker's way here is what a full disk would be."""
    store.create()
    blocked = Path(store.uri) / "latents.lance" / "data"
    blocked.write_text("in the way")
    assert main(command_for(store, models)) == 4
    output = capfd.readouterr()
    assert f"the store {store.uri} cannot be written" in output.err
    assert "start the same command again" in output.err
    blocked.unlink()
    assert main(command_for(store, models)) == 0
    assert {row["failure"] for row in rows_of(store).values()} == {None, "damaged_clip"}


def test_only_one_run_encodes_and_compaction_waits(
    store: Store, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease.take(store, "latents", "other-run", tell=print):
        assert main(command_for(store, models)) == 3
        assert compact.main(["--store", store.uri]) == 3
    assert capsys.readouterr().err.count("run other-run") == 2


REFUSED = [
    (["--store", "STORE/nowhere"], 4, "there is no store at"),
    (["--where", "width > 10000"], 2, "where=width > 10000: no clip of"),
    (["--where", "no_such_column > 1"], 2, "where=no_such_column > 1: cannot be asked"),
    (["--network", "STORE/nowhere"], 2, "there is no model directory"),
    (["--network", "STORE/clips.lance"], 2, "no config.json in"),
    (["--network", "pixels-3"], 2, "network=pixels-3: ratio_space=3: must be one of 2, 4, 8"),
    (["--network", "MODELS/spoiled"], 2, "spoiled: its config is not its weights' own"),
    (["--network", "MODELS/t5"], 2, "t5"),
    (
        ["--text-encoder", "MODELS/t5", "--captions-where", "true) OR (true"],
        2,
        "captions_where=true) OR (true: cannot be",
    ),
    (["--text-encoder", "MODELS/nowhere"], 2, "there is no model directory"),
    (["--max-tokens", "0"], 2, "max_tokens=0: must be above 0"),
    (["--patch-space", "0"], 2, "patch_space=0: must be at least 1"),
    (["--square-crop"], 2, "square_crop=True: must be False"),
    (["--limit", "-1"], 2, "limit=-1: must not be negative"),
]


@pytest.mark.parametrize(("options", "code", "said"), REFUSED)
def test_what_cannot_be_is_refused_by_name(
    captioned: Store, models: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, said: str
) -> None:
    spoiled = shutil.copytree(models / "network", models / "spoiled", dirs_exist_ok=True)
    config = json.loads((spoiled / CONFIG).read_text())
    (spoiled / CONFIG).write_text(json.dumps(config | {"latent_channels": 5}))
    here = {"STORE": captioned.uri, "MODELS": str(models)}
    for word, path in here.items():
        options = [option.replace(word, path) for option in options]
    try:
        ended = main(command_for(captioned, models, *options))
    except SystemExit as error:
        ended = error.code
    assert ended == code
    assert said in capsys.readouterr().err
    assert captioned.open("runs").count_rows() == 0


@pytest.mark.slow
def test_a_text_encoder_that_is_none_is_refused_before_anything_is_encoded(
    store: Store, models: Path, shared_ray: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command_for(store, models, "--text-encoder", str(models / "network"))) == 2
    assert "its model_type is None, and one of t5, umt5 is needed" in capfd.readouterr().err
    assert store.open("latents").count_rows() == 0
