"""Bringing a file here from any server: what comes is whole or has a reason, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from curation import address, ingest
from curation.ingest import Footage, Unreadable, file_hash, find_footage, local_copy
from curation.records import BadSource, SourceState

HUGE = 1 << 40
CONTENT = bytes(range(256)) * 4000  # about a megabyte


class Handler(BaseHTTPRequestHandler):
    """Behaves as its path says."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.path == "/no_head.mp4":
            self.send_error(405)
        elif self.path == "/gone.mp4":
            self.send_error(404, "Not\tFound \x1b[31m")
        else:
            self.head(None if self.path == "/endless.mp4" else len(CONTENT))

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/gone.mp4":
                self.send_error(404)
            case "/broken.mp4":
                self.send_error(500)
            case "/moved.mp4":
                self.send_response(302)
                self.send_header("Location", "/a.mp4")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "/to_a_file.mp4":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case "/dies.mp4":
                self.head(len(CONTENT))
                self.wfile.write(CONTENT[:300_000])
                self.close_connection = True
            case "/endless.mp4":
                self.head(None)
                with _until_hung_up():
                    while True:
                        self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            case "/slow.mp4" | "/silent.mp4":
                self.head(len(CONTENT))
                with _until_hung_up():
                    for _ in range(100):
                        self.wfile.write(b"" if self.path == "/silent.mp4" else b".")
                        time.sleep(0.05)
                self.close_connection = True
            case _:
                self.head(len(CONTENT))
                self.wfile.write(CONTENT)

    def head(self, length: int | None) -> None:
        self.send_response(200)
        name, value = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        self.send_header(name, value)
        self.send_header("ETag", '"first"')
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def _until_hung_up() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, which is empty again after every test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


def fetched(uri: str, max_bytes: int = HUGE) -> bytes:
    with local_copy(uri, max_bytes) as path:
        return path.read_bytes()


def reason_of(uri: str, max_bytes: int = HUGE) -> BadSource:
    with pytest.raises(BadSource) as caught:
        fetched(uri, max_bytes)
    assert "\x1b" not in caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("name", ["a.mp4", "no_head.mp4", "moved.mp4", "a.mp4?token=*&x=[1]", "a%20b.mp4", "a::b.mp4"])
def test_a_file_on_the_web(name: str, web: str) -> None:
    (found,) = find_footage([f"{web}/{name}"])
    assert isinstance(found, Footage)
    assert found.uri == f"{web}/{name}"
    assert fetched(found.uri) == CONTENT
    if name == "a.mp4":
        assert (found.bytes, found.modified) == (len(CONTENT), '"first"')


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.mp4", "FileNotFoundError"),
        ("broken.mp4", "500"),
        ("dies.mp4", "payload is not completed"),
        ("to_a_file.mp4", "file:///etc/passwd"),
    ],
)
def test_what_the_web_does_not_give(name: str, words: str, web: str) -> None:
    error = reason_of(f"{web}/{name}")
    assert (error.state, error.reason) == (SourceState.FAILED, "unreadable")
    assert words in error.detail
    assert error.detail.endswith("check that it is there and may be read")


def test_what_is_not_on_the_web_is_found_out_when_looking(web: str) -> None:
    found = list(
        find_footage([f"{web}/gone.mp4", "http://127.0.0.1:9/a.mp4", "https://[::1/a.mp4", "http://\udcff/a.mp4"])
    )
    assert all(isinstance(item, Unreadable) and item.detail and item.uri.encode() for item in found)
    assert "404" in str(found[0])
    assert "\x1b" not in str(found[0])


def test_a_server_that_never_ends_is_cut_off(web: str) -> None:
    error = reason_of(f"{web}/endless.mp4", max_bytes=3_000_000)
    assert (error.state, error.reason) == (SourceState.REJECTED, "too_many_bytes")
    assert "max_source_bytes=3000000" in error.detail
    assert len(fetched(f"{web}/a.mp4", max_bytes=len(CONTENT))) == len(CONTENT)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["slow.mp4", "silent.mp4"])
def test_a_server_that_dawdles_is_given_up(name: str, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (address, ingest):
        monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    error = reason_of(f"{web}/{name}")
    assert (error.state, error.reason) == (SourceState.FAILED, "unreadable")
    assert ("slower than" if name == "slow.mp4" else "Timeout") in error.detail


def test_a_full_disk_is_this_machines_fault(web: str) -> None:
    """Files may not grow over a limit: what the system then answers is of the same kind as for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            fetched(f"{web}/a.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert not isinstance(caught.value, BadSource)


def test_nothing_is_left_behind_when_the_work_fails(web: str, scratch: Path) -> None:
    def work() -> None:
        with local_copy(f"{web}/a.mp4", HUGE) as path:
            assert path.is_relative_to(scratch)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


# -- local files


def test_a_local_file_is_not_copied(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(CONTENT)
    with local_copy(str(tmp_path / "a.mp4"), HUGE) as path:
        assert path == tmp_path / "a.mp4"
        assert os.listdir(scratch) == []
    assert reason_of(str(path), len(CONTENT) - 1).reason == "too_many_bytes"


def write_more(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.rename(path)


@pytest.mark.parametrize("change", [write_more, replace])
@pytest.mark.parametrize("outcome", [None, BadSource(SourceState.FAILED, "not_media", "because it was not whole")])
def test_a_file_that_changes_while_it_is_read(change: Any, outcome: BadSource | None, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)

    def work() -> None:
        with local_copy(str(path), HUGE) as copy:
            file_hash(copy)
            change(path)
            if outcome:
                raise outcome

    with pytest.raises(BadSource) as caught:
        work()
    assert (caught.value.state, caught.value.reason) == (SourceState.FAILED, "changed_while_read")


def test_a_file_that_goes_after_it_was_read_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)
    with local_copy(str(path), HUGE) as copy:
        path.unlink()
    assert reason_of_hash(copy).reason == "unreadable"


def reason_of_hash(path: Path) -> BadSource:
    with pytest.raises(BadSource) as caught:
        file_hash(path)
    return caught.value


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)

    def work() -> None:
        with local_copy(str(path), HUGE):
            write_more(path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


# -- buckets


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a server of its own, which is not waited for when it is gone."""
    S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        monkeypatch.setenv(name, value)
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    server.stop()


KEYS = ("a.mp4", "sub/b.MOV", "sub/a[1].mp4", "sub/x::http:/y.mp4", "sub/ö 🎬%41.mp4", "sub/notes.txt", "sub/._b.MOV")


def test_a_bucket(bucket: Any) -> None:
    for key in KEYS:
        bucket.put_object(Bucket="bucket", Key=key, Body=key.encode() * 1000)
    search = find_footage(["s3://bucket", "s3://bucket/sub/", "s3://bucket/a.mp4", "S3://bucket/a*.mp4"])
    found = {item.uri: item for item in search}
    assert sorted(found) == sorted(f"s3://bucket/{key}" for key in KEYS[:5])
    assert (search.passed_over[".txt"], search.passed_over["._"]) == (2, 2)
    for key in KEYS[:5]:
        item = found[f"s3://bucket/{key}"]
        assert isinstance(item, Footage)
        assert item.bytes == 1000 * len(key.encode())
        assert item.modified
        assert fetched(item.uri) == key.encode() * 1000
    (literal,) = find_footage(["s3://bucket/sub/a[1].mp4"])
    assert isinstance(literal, Footage), "what exists is never read as a glob"
    assert reason_of("s3://bucket/a.mp4", max_bytes=10).reason == "too_many_bytes"


def test_what_is_not_in_a_bucket(bucket: Any) -> None:
    wanted = ["s3://bucket/none.mp4", "s3://bucket/none/", "s3://nowhere/a.mp4", "s3://nowhere", "s3://bucket/*.avi"]
    found = list(find_footage([*wanted, "s3://bucket", "s3://"]))
    assert len(found) == 7
    assert all(isinstance(item, Unreadable) and item.detail for item in found), found
    for uri in ("s3://bucket/none.mp4", "s3://nowhere/a.mp4"):
        error = reason_of(uri)
        assert (error.state, error.reason) == (SourceState.FAILED, "unreadable")


def test_a_bucket_whose_content_comes_and_goes(bucket: Any) -> None:
    """Nothing is remembered from one look to the next."""
    assert [type(item) for item in find_footage(["s3://bucket/"])] == [Unreadable]
    bucket.put_object(Bucket="bucket", Key="a.mp4", Body=b"one")
    (first,) = find_footage(["s3://bucket/"])
    bucket.put_object(Bucket="bucket", Key="a.mp4", Body=b"other")
    (second,) = find_footage(["s3://bucket/"])
    assert isinstance(first, Footage)
    assert isinstance(second, Footage)
    assert (first.bytes, second.bytes) == (3, 5)
    assert first.modified != second.modified
    assert fetched("s3://bucket/a.mp4") == b"other"
    bucket.delete_object(Bucket="bucket", Key="a.mp4")
    assert reason_of("s3://bucket/a.mp4").reason == "unreadable"


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (found,) = find_footage(["s3://bucket/a.mp4"])
    assert isinstance(found, Unreadable)
    assert reason_of("s3://bucket/a.mp4").reason == "unreadable"
