"""Footage and store in an S3 bucket, on a server of that protocol on the loopback; and what happens when it goes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from curation.store import Store
from tests.jobs.running import clips_landed, end, run, start, wait_until
from tests.stores import compare_in_process, curate_in_process, table_rows

JOB = "jobs.curate"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
# So that a server that is gone is given up after seconds, not minutes.
IMPATIENT = {"client_max_retries": "2", "client_retry_timeout": "5"}


class Server:
    """moto's S3 server as a process of its own, which can be stopped and started again with its memory lost."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 30
        while not self.answers(port):
            assert time.monotonic() < deadline_s, "the S3 server does not answer"
            time.sleep(0.1)

    @staticmethod
    def answers(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Server(port)
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": running.url, "AWS_ALLOW_HTTP": "true"}).items():
        monkeypatch.setenv(name, value)
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def store(server: Server) -> Store:
    boto3.client("s3").create_bucket(Bucket="bucket")
    return Store.at("s3://bucket/store", {"aws_endpoint": server.url} | IMPATIENT)


def job(store: Store, footage: str) -> list[str]:
    assert store.storage_options is not None
    options = [part for pair in store.storage_options.items() for part in pair]
    return [JOB, "--footage", footage, "--store", store.uri, "--storage-options", *options]


def test_footage_and_store_in_a_bucket(store: Store, server: Server, small_footage: Path, tmp_path: Path) -> None:
    client = boto3.client("s3")
    for path in small_footage.iterdir():
        client.upload_file(str(path), "bucket", f"footage/{path.name}")
    code, output = run(*job(store, "s3://bucket/footage"))
    assert code == 0, output
    undisturbed = Store.at(str(tmp_path / "undisturbed"))
    curate_in_process([small_footage], undisturbed)
    compare_in_process(undisturbed)
    rows, expected = table_rows(store), table_rows(undisturbed)
    assert rows["clips"] == expected["clips"]
    assert "storage_options" in (config := store.open("runs").to_table()["config"][0].as_py())
    assert server.url not in config, "what may hold keys is not for a table"
    assert {row["uri"] for row in rows["sources"]} == {f"s3://bucket/footage/take_{n}.mp4" for n in range(4)}
    code, output = run(*job(store, "s3://bucket/footage"))
    assert code == 0, output
    assert "nothing to do: all 4 files are in" in output


def test_a_missing_bucket_is_one_row_and_the_rest_goes_on(tmp_path: Path, server: Server, small_footage: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    code, output = run(JOB, "--footage", "s3://nowhere/footage", small_footage, "--store", store.uri)
    assert code == 1, "one of five is over the error budget"
    states = {row["uri"]: (row["state"], row["reason"]) for row in table_rows(store)["sources"]}
    assert states.pop("s3://nowhere/footage") == ("failed", "unreadable")
    assert set(states.values()) == {("curated", None)}
    assert "1 unreadable" in output


def test_a_store_whose_server_stops_answering_ends_the_job_clearly(
    store: Store, server: Server, small_footage: Path
) -> None:
    driver = start(*job(store, str(small_footage)), "--max-in-flight", "1")
    wait_until(lambda: clips_landed(store) > 0, driver, "clips landed")
    server.process.kill()
    code, output = end(driver)
    assert code == 4, output
    assert "the store s3://bucket/store cannot be" in output
    assert "start the same command again" in output
