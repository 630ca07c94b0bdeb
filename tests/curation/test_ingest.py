"""Finding footage under every spelling, and nothing silently left out."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from curation import ingest
from curation.address import filesystem_of, path_of, scheme_of, uri_of
from curation.ingest import Footage, FootageSearch, Unreadable, file_hash, find_footage, local_copy

HUGE = 1 << 40


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def names(folder: Path, *wanted: str) -> list[str]:
    """What is found, relative to the folder; what is unreadable with a question mark."""
    found = []
    for item in find_footage(wanted):
        path = path_of(item.uri)
        name = os.path.relpath(path, folder) if path else item.uri
        found.append(name + "?" if isinstance(item, Unreadable) else name)
    return found


# -- names as text

PATHS = (
    "/a/b.mp4",
    "/a b/ö 🎬.mp4",
    "/new\nline\ttab.mp4",
    "/100%.mp4",
    "/100%25.mp4",
    "/%FF.mp4",
    os.fsdecode(b"/caf\xe9.mp4"),
    os.fsdecode(b"/\xff\xfe%41 \xc3\xa4.mp4"),
    os.fsdecode(b"/\x80/\xf0\x9f\x8e.mp4"),
    "/concat:a|b.mp4",
    "/s3://bucket/a.mp4",
)


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_any_path_becomes_text_and_back(path: str) -> None:
    uri = uri_of(path)
    assert pa.array([uri], pa.string())[0].as_py() == uri
    assert path_of(uri) == path
    assert uri == path or uri.startswith("file:///")


def test_text_is_left_as_it_is() -> None:
    assert uri_of("/ö 100%.mp4") == "/ö 100%.mp4"
    assert uri_of(os.fsdecode(b"/\xc3\xb6 100%\xff.mp4")) == "file:///ö 100%25%FF.mp4"
    assert len({uri_of(os.fsdecode(b"/a%FF")), uri_of(os.fsdecode(b"/a\xff")), uri_of("/a%25FF")}) == 3
    assert uri_of("/\ud800.mp4").encode()  # no bytes of any file, but some argument may have it


@pytest.mark.parametrize(
    ("spec", "scheme", "path"),
    [
        ("a.mp4", None, "a.mp4"),
        ("http:/x.mp4", None, "http:/x.mp4"),
        ("concat:a|b.mp4", None, "concat:a|b.mp4"),
        ("//[a.mp4", None, "//[a.mp4"),  # urllib raises ValueError
        ("zip://a.mp4", None, "zip://a.mp4"),
        ("simplecache::s3://b/a", None, "simplecache::s3://b/a"),
        ("/x/s3://b/a", None, "/x/s3://b/a"),
        ("file:///a%20b.mp4", "file", "/a b.mp4"),
        ("file://localhost/a.mp4", "file", "/a.mp4"),
        ("FILE:///a.mp4", "file", "/a.mp4"),
        ("S3://b/a.mp4", "s3", None),
        ("https://[::1/a", "https", None),
    ],
)
def test_which_is_an_address(spec: str, scheme: str | None, path: str | None) -> None:
    assert scheme_of(spec) == scheme
    assert path_of(spec) == path


def test_the_scheme_alone_chooses_who_opens() -> None:
    for uri in ("s3://b/a.mp4::file:///etc/passwd", "s3://b/*.mp4", "https://h/a::http://127.0.0.1:9/b"):
        filesystem, path = filesystem_of(uri)
        assert scheme_of(uri) in filesystem.protocol
        assert path == uri.removeprefix("s3://")


# -- finding

TREE = (
    "b.mp4",
    "a.MOV",
    "sub/c.webm",
    "sub/deep/d.mkv",
    "notes.txt",
    "sub/e.jpg",
    "sub/._c.webm",
    "README",
    "x.mp4.part",
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["."], ["a.MOV", "b.mp4", "sub/c.webm", "sub/deep/d.mkv"]),
        (["sub/", "."], ["sub/c.webm", "sub/deep/d.mkv", "a.MOV", "b.mp4"]),
        (["b.mp4", "./b.mp4", "sub/../b.mp4", "sub/deep/../../b.mp4"], ["b.mp4"]),
        (["README", "sub/e.jpg"], ["README", "sub/e.jpg"]),  # taken at their word
        (["*.mp4"], ["b.mp4"]),
        (["**/*.mkv", "**/*.webm"], ["sub/deep/d.mkv", "sub/c.webm"]),
        (["sub/**"], ["sub/._c.webm", "sub/c.webm", "sub/e.jpg", "sub/deep/d.mkv"][1:]),
        (["su[b]/?.webm"], ["sub/c.webm"]),
        (["sub/.*"], ["sub/._c.webm"]),
        (["nothing.mp4", "*.avi"], ["nothing.mp4?", "*.avi?"]),
        ([], []),
    ],
)
def test_finding(wanted: list[str], found: list[str], here: Path) -> None:
    fill(here, *TREE)
    assert names(here, *wanted) == found
    absolute = [os.path.join(here, spec) for spec in wanted]
    assert names(here, *absolute) == found
    assert names(here, *(f"file://{spec}" for spec in absolute)) == found


def test_the_order_is_that_of_the_names(here: Path) -> None:
    fill(here, *(f"{folder}/{name}.mp4" for folder in "zamb" for name in "321"), ".hidden/1.mp4", "m/.hidden/.1.mp4")
    ordered = [f"{folder}/{name}.mp4" for folder in "abmz" for name in "123"]
    for wanted in ("**/*.mp4", "*/*.mp4", "?/[1-3].mp4"):
        assert names(here, wanted) == ordered
    assert [name for name in names(here, ".") if ".hidden" not in name] == ordered


def test_what_was_passed_over_is_known(here: Path) -> None:
    fill(here, *TREE, *(f"many/{i}.jpg" for i in range(20)), *(f"kinds/x.{i}" for i in range(10)), "long.abcdefghijk")
    (here / "linked").symlink_to("sub")
    search = find_footage(["."])
    assert isinstance(search, FootageSearch)
    assert search.passed_over_words == ""
    assert len(list(search)) == 4
    counts = search.passed_over
    assert counts[".jpg"] == 21
    assert (counts[".txt"], counts["._"], counts["without suffix"], counts["links to folders"]) == (1, 1, 1, 1)
    assert (counts[".part"], counts["other"]) == (1, 1)
    assert counts.total() == 21 + 10 + 6
    assert search.passed_over_words.startswith("37 passed over (21 .jpg, ")
    assert search.passed_over_words.endswith(", ...)")


def test_names_with_special_characters(here: Path) -> None:
    odd = ["a[1].mp4", "a*.mp4", "new\nline.mp4", 'it\'s "so".mp4', "🎬.mp4", "-i.mp4", "concat:a|b.mp4", "%03d.mp4"]
    odd += ["#1.mp4", " lead.mp4", "http:/x.mp4", "n" * 251 + ".mp4", os.fsdecode(b"caf\xe9\xff.mp4"), "100%25.mp4"]
    fill(here, *odd)
    assert sorted(names(here, ".")) == sorted(odd)
    for name in odd:
        assert names(here, name) == [name], ascii(name)
        (found,) = find_footage([name])
        assert isinstance(found, Footage)
        assert pa.array([found.uri], pa.string())[0].as_py() == found.uri
        with local_copy(found.uri, HUGE) as path:
            assert path.read_bytes() == name.encode("utf-8", "surrogateescape")
            assert len(file_hash(path)) == 64


def test_lists(here: Path) -> None:
    fill(here, "a.mp4", "sub/b.mp4", "sub/concat:x|y.mp4", os.fsdecode(b"sub/\xe9.mp4"), "sub/#5.mp4")
    lines = [
        "# a comment",
        "",
        "  ../a.mp4  ",
        "b.mp4",
        "./b.mp4",
        "gone.mp4",
        "concat:x|y.mp4",
        "*.mp4",
        "#5.mp4",
        "./#5.mp4",
    ]
    text = "\r\n".join(lines).encode() + b"\n\xe9.mp4\n" + os.fsencode(here / "a.mp4") + b"\na\0b.mp4"
    (here / "sub" / "list.txt").write_bytes(b"\xef\xbb\xbf" + text)
    found = ["a.mp4", "sub/b.mp4", "sub/gone.mp4?", "sub/concat:x|y.mp4", "sub/#5.mp4", os.fsdecode(b"sub/\xe9.mp4")]
    assert names(here, "sub/list.txt") == [*found, "sub/a\0b.mp4?"]
    (here / "inner.lst").write_text("sub/list.txt\nsub\n")
    assert names(here, "inner.lst")[0] == "sub/list.txt", "a list in a list is only a file"


@pytest.mark.parametrize("content", [b"\xff" * (1 << 20), b"a" * (1 << 17)])
def test_what_is_no_list(content: bytes, here: Path) -> None:
    (here / "x.txt").write_bytes(content)
    (found,) = find_footage(["x.txt"])
    assert isinstance(found, Unreadable)
    assert "no list" in found.detail


@pytest.mark.timeout(20)
def test_lists_that_cannot_be_read(here: Path) -> None:
    os.mkfifo(here / "pipe.txt")
    (here / "loop.txt").symlink_to("loop.txt")
    for name in ("pipe.txt", "loop.txt"):
        (found,) = find_footage([name])
        assert isinstance(found, Unreadable)
        assert found.detail


def test_links(here: Path) -> None:
    fill(here, "real/a.mp4", "other/deep/b.mp4")
    (here / "real/link.mp4").symlink_to("a.mp4")
    (here / "real/nowhere.mp4").symlink_to("gone.mp4")
    (here / "real/loop.mp4").symlink_to("loop.mp4")
    (here / "real/self").symlink_to(".")
    (here / "real/again").symlink_to(".")
    (here / "jump").symlink_to("other/deep")
    assert names(here, "real") == ["real/a.mp4", "real/link.mp4", "real/loop.mp4?", "real/nowhere.mp4?"]
    assert names(here, "real/**/a.mp4") == ["real/a.mp4"], "circular links do not multiply"
    assert names(here, "jump/../deep/b.mp4") == ["other/deep/b.mp4"], "where the system says, not the spelling"
    assert names(here, "jump/b.mp4") == ["jump/b.mp4"]
    assert names(here, "jump/../b.mp4") == ["other/b.mp4?"]


def as_nobody(code: str) -> str:
    """Run Python as an unprivileged user where tests run as root, which permission bits do not bind."""
    lower = "import os; os.geteuid() == 0 and (os.setgroups([]), os.setegid(65534), os.seteuid(65534))\n"
    imports = (
        "import sys\nfrom curation.ingest import *\nfrom curation.media import *\nfrom curation.records import *\n"
    )
    command = [sys.executable, "-c", imports + lower + code]
    return subprocess.run(
        command, cwd=Path(ingest.__file__).parents[1], check=True, text=True, capture_output=True
    ).stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that other users may enter."""
    with tempfile.TemporaryDirectory(prefix="dailies-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_without_permission(open_folder: Path) -> None:
    fill(open_folder, "a.mp4", "open/b.mp4", "shut/c.mp4")
    (open_folder / "a.mp4").chmod(0)
    (open_folder / "shut").chmod(0)
    code = f"""
for found in find_footage([{str(open_folder)!r}, {str(open_folder / "shut" / "c.mp4")!r}]):
    print(os.path.basename(found.uri), isinstance(found, Footage), getattr(found, "detail", ""))
for read in (file_hash, lambda path: open_media(path, Limits()).__enter__()):
    try:
        read({str(open_folder / "a.mp4")!r})
    except BadSource as error:
        print(error.state, error.reason, error.detail)
"""
    try:
        lines = as_nobody(code).splitlines()
    finally:
        (open_folder / "shut").chmod(0o755)
    assert lines[0].startswith("a.mp4 True")
    assert lines[1].startswith("b.mp4 True")
    assert lines[2].startswith("shut False the folder cannot be listed: Permission denied; check its permissions")
    assert lines[3].startswith("c.mp4 False")
    assert lines[4:] == ["failed unreadable Permission denied; check that the file is there and may be read"] * 2
