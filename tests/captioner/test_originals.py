"""Texts that came with the footage: side files and tables, good and hostile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from captioner import originals, originals_table, side_text
from captioner.originals import (
    BadSideText,
    SideText,
    original_of,
    read_originals_table,
    read_side_texts,
)
from captioner.side_text import PARSERS, decoded
from curation.ingest import Footage, find_footage

VTT = """WEBVTT - a talk
Kind: captions

STYLE
::cue { color: red }

NOTE this is for nobody

intro
00:00.000 --> 00:02.000 align:start
<v Ada>Hello <i>there</i> &amp; welcome.

00:02.000 --> 00:04.500
Second
line.

01:00:00.000 --> 01:00:01.000
An hour in.
"""
SRT = (
    "1\r\n00:00:00,000 --> 00:00:02,000\r\n<i>Hello</i> there.\r\n\r\n"
    "2\r\n00:00:02,000 --> 00:00:04,500\r\nSecond\r\nline.\r\n"
)


def beside(folder: Path, **files: str | bytes) -> str:
    """A source with side files, by suffix."""
    source = folder / "film.mp4"
    source.write_bytes(b"video")
    for suffix, content in files.items():
        (folder / f"film.{suffix}").write_bytes(content.encode() if isinstance(content, str) else content)
    return str(source)


GOOD: list[tuple[str, str | bytes, list[SideText]]] = [
    ("txt", "A dog runs.\nFast.", [SideText(None, None, "A dog runs. Fast.")]),
    ("txt", "<b>A dog</b> runs &amp; barks.", [SideText(None, None, "A dog runs & barks.")]),
    ("txt", "\ufeffcafé".encode(), [SideText(None, None, "café")]),
    ("txt", "café".encode("utf-16"), [SideText(None, None, "café")]),
    ("txt", b"\xfe\xff" + "café".encode("utf-16-be"), [SideText(None, None, "café")]),
    ("txt", "caf\u00e9 \u201cx\u201d".encode("cp1252"), [SideText(None, None, "caf\u00e9 \u201cx\u201d")]),
    ("json", '{"caption": "A dog.", "title": "Dog"}', [SideText(None, None, "A dog.")]),
    ("json", '{"title": "Dog", "tags": [1]}', [SideText(None, None, "Dog")]),
    ("json", '{"caption": "", "description": "Long."}', [SideText(None, None, "Long.")]),
    ("json", '"A dog."', [SideText(None, None, "A dog.")]),
    (
        "json",
        '[{"start": 0, "end": 1.5, "text": "a"}, {"start_s": 2, "end_s": 3, "text": "b"}]',
        [SideText(0, 1.5, "a"), SideText(2, 3, "b")],
    ),
    ("json", '{"text": "all", "segments": [{"start": 0, "end": 1, "text": "a"}]}', [SideText(0, 1, "a")]),
    (
        "vtt",
        VTT,
        [
            SideText(0, 2, "Hello there & welcome."),
            SideText(2, 4.5, "Second line."),
            SideText(3600, 3601, "An hour in."),
        ],
    ),
    ("srt", SRT, [SideText(0, 2, "Hello there."), SideText(2, 4.5, "Second line.")]),
    ("srt", ("\n" + SRT).encode("utf-16"), [SideText(0, 2, "Hello there."), SideText(2, 4.5, "Second line.")]),
    (
        "vtt",
        "WEBVTT\n\n00:00.000 --> 00:01.000\none\n\n00:01.000 --> 00:02.000\none\ntwo\n"
        "\n00:02.000 --> 00:03.000\ntwo\nthree\n",
        [SideText(0, 1, "one"), SideText(1, 2, "two"), SideText(2, 3, "three")],
    ),
]


@pytest.mark.parametrize(("suffix", "content", "texts"), GOOD)
def test_a_side_file_is_read(tmp_path: Path, suffix: str, content: str | bytes, texts: list[SideText]) -> None:
    assert read_side_texts(beside(tmp_path, **{suffix: content})) == texts


NONE: list[tuple[str, str]] = [
    ("txt", "  \n "),
    ("json", '{"width": 4, "fps": [25]}'),
    ("json", '{"caption": 5}'),
    ("json", "7"),
    ("json", "[]"),
    ("vtt", "WEBVTT\n"),
    ("md", "A dog."),
]


@pytest.mark.parametrize(("suffix", "content"), NONE)
def test_a_file_without_words_brings_none(tmp_path: Path, suffix: str, content: str) -> None:
    assert read_side_texts(beside(tmp_path, **{suffix: content})) is None


def test_the_first_file_with_words_counts(tmp_path: Path) -> None:
    uri = beside(tmp_path, txt=" ", json='{"fps": 25}', vtt=VTT, srt=SRT)
    assert len(read_side_texts(uri) or ()) == 3
    assert read_side_texts(beside(tmp_path, txt="A dog.")) == [SideText(None, None, "A dog.")]
    assert list(PARSERS) == [".txt", ".json", ".vtt", ".srt"]
    assert read_side_texts(str(tmp_path / "other.mp4")) is None
    assert read_side_texts("https://example.invalid/film.mp4") is None
    assert read_side_texts(str(tmp_path / "film.txt")) is not None  # a source that is called so is not its own text
    (tmp_path / "lone.txt").write_text("x")
    assert read_side_texts(str(tmp_path / "lone.txt")) is None


BAD: list[tuple[str, str | bytes, str]] = [
    ("txt", b"\x00\x01\x02binary", "no text"),
    ("txt", bytes(range(256)), "no text"),
    ("txt", b"\xff\xfe\x00\xd8", "UTF-16-LE"),
    ("txt", b"\xef\xbb\xbf\xff", "UTF-8"),
    ("txt", "word " * 5000, "characters"),
    ("json", "{", "no JSON"),
    ("json", '{"caption": "a"} x', "no JSON"),
    ("json", "[" * 100_000, "nested"),
    ("json", "1" * 10_000, "no JSON"),
    ("json", '[{"start": 0, "end": 1}]', "item 1 has no text"),
    ("json", '[{"start": 0, "end": 1, "text": "a"}, 5]', "item 2 has no text"),
    ("json", '[{"start": 2, "end": 1, "text": "a"}]', "item 1: from 2 to 1"),
    ("json", '[{"start": -1, "end": 1, "text": "a"}]', "item 1: from -1"),
    ("json", '[{"start": NaN, "end": 1, "text": "a"}]', "item 1: from nan"),
    ("json", '[{"start": 0, "end": Infinity, "text": "a"}]', "to inf"),
    ("json", '[{"start": 0, "end": 1' + "0" * 400 + ', "text": "a"}]', "item 1"),
    ("json", '[{"start": true, "end": 1, "text": "a"}]', "item 1: from True"),
    ("json", '[{"start": 0, "text": "a"}]', "to None"),
    ("json", '[{"text": ["a"]}]', "item 1: its text is list"),
    ("vtt", "no header\n\n00:00.000 --> 00:01.000\nx\n", "no WebVTT"),
    ("vtt", "WEBVTT\n\n00:00.000 --> 00:99.000\nx\n", "no WebVTT"),
    ("vtt", "WEBVTT\n\n00:05.000 --> 00:01.000\nx\n", "cue 1: from 5.0 to 1.0"),
    ("srt", "<html>not found</html>", "no SubRip"),
    ("srt", "1\n99:99:99,000 --> 00:00:01,000\nx\n", "cue 1: from"),
    ("srt", SRT + "\n\n00:00:05,000 --> 00:00:06,000\nno number\n", "of 3 cues 1 cannot be read"),
    ("srt", "", "no SubRip"),
]


@pytest.mark.parametrize(("suffix", "content", "wrong"), BAD)
def test_a_bad_side_file_is_refused_by_name(tmp_path: Path, suffix: str, content: str | bytes, wrong: str) -> None:
    with pytest.raises(BadSideText) as refused:
        read_side_texts(beside(tmp_path, **{suffix: content}))
    said = str(refused.value)
    assert wrong in said
    assert str(tmp_path / f"film.{suffix}") in said
    assert said.isprintable()
    assert len(said) < 700 + len(str(tmp_path))


def test_nothing_is_read_but_regular_files_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("key")
    folder = tmp_path / "footage"
    folder.mkdir()
    source = beside(folder)
    side = folder / "film.txt"
    side.symlink_to(secret)
    with pytest.raises(BadSideText, match="leads out of its folder"):
        read_side_texts(source)
    side.unlink()
    (folder / "a_caption").write_text("A dog.")
    side.symlink_to("a_caption")
    assert read_side_texts(source) == [SideText(None, None, "A dog.")]
    side.unlink()
    side.symlink_to("gone")
    with pytest.raises(BadSideText, match=r"film\.txt"):
        read_side_texts(source)
    side.unlink()
    os.mkfifo(side)
    with pytest.raises(BadSideText, match="pipe"):
        read_side_texts(source)
    side.unlink()
    side.mkdir()
    with pytest.raises(BadSideText, match="folder"):
        read_side_texts(source)
    side.rmdir()
    monkeypatch.setattr(originals, "MAX_SIDE_BYTES", 100)
    side.write_text("x" * 101)
    with pytest.raises(BadSideText, match="over 100 bytes"):
        read_side_texts(source)


def test_the_number_of_texts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_text, "MAX_CUES", 3)
    many = json.dumps([{"start": i, "end": i + 1, "text": "x"} for i in range(4)])
    with pytest.raises(BadSideText, match="over 3 texts"):
        read_side_texts(beside(tmp_path, json=many))


def test_names_that_are_no_text_have_side_files_too(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 100%.mp4"
    with open(name, "wb") as file:
        file.write(b"video")
    with open(name[:-4] + b".txt", "wb") as file:
        file.write(b"A dog.")
    (found,) = (f for f in find_footage([str(tmp_path)]) if isinstance(f, Footage))
    assert read_side_texts(found.uri) == [SideText(None, None, "A dog.")]


def test_side_files_are_no_footage(tmp_path: Path) -> None:
    uri = beside(tmp_path, txt="A dog.", json="{}", vtt=VTT, srt=SRT)
    assert [f.uri for f in find_footage([str(tmp_path)]) if isinstance(f, Footage)] == [uri]


@given(st.binary(max_size=200), st.sampled_from(list(PARSERS)))
def test_any_bytes_are_texts_or_refused(content: bytes, suffix: str) -> None:
    try:
        texts = PARSERS[suffix]("film", decoded("film", content))
    except BadSideText:
        return
    for text in texts:
        assert text.text.strip()
        assert (text.start_s is None) == (text.end_s is None)


@given(
    st.lists(
        st.sampled_from(
            ["WEBVTT", "\n", "00:00.000 --> 00:01.000", "1", "00:00:00,000 --> 00:00:01,000", "<i>", "NOTE", "x", "-->"]
        )
    )
)
def test_any_cues_are_texts_or_refused(parts: list[str]) -> None:
    for suffix in (".vtt", ".srt"):
        with suppress(BadSideText):
            assert all(text.start_s is not None for text in PARSERS[suffix]("film", "\n".join(parts)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "part", ["<", "<i", "{", "00:00.000 --> 00:01.000\n\n", "NOTE\n", "&", "STYLE\n\n", "-->", "/*"]
)
def test_parsing_takes_time_that_grows_with_the_file_alone(part: str) -> None:
    for suffix, head in (
        (".vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\n"),
        (".srt", "1\n00:00:00,000 --> 00:00:01,000\n"),
    ):
        with suppress(BadSideText):
            assert isinstance(PARSERS[suffix]("film", head + part * (200_000 // len(part))), list)


WHOLE, EARLY, LATE = SideText(None, None, "whole"), SideText(0, 2, "early"), SideText(8, 10, "late")
LONG, POINT = SideText(1, 21, "long"), SideText(5, 5, "point")


@pytest.mark.parametrize(
    ("texts", "start_s", "end_s", "original"),
    [
        ([WHOLE], 3, 4, "whole"),
        ([WHOLE, EARLY], 0, 4, "early"),
        ([WHOLE, EARLY], 4, 8, "whole"),
        ([EARLY, LATE], 4, 8, None),
        ([LATE, EARLY], 0, 10, "early late"),
        ([EARLY], 1, 5, "early"),  # half of it
        ([EARLY], 1.1, 5, None),
        ([EARLY], 1.5, 2.5, "early"),  # half of the clip
        ([LONG], 4, 6, "long"),
        ([LONG], 0, 2, "long"),
        ([LONG], 21, 23, None),
        ([POINT], 4, 6, "point"),
        ([POINT], 5, 6, "point"),
        ([POINT], 4, 5, None),
        ([EARLY, EARLY], 0, 4, "early"),
        ([], 0, 1, None),
    ],
)
def test_texts_are_cut_to_the_clip(texts: list[SideText], start_s: float, end_s: float, original: str | None) -> None:
    assert original_of(texts, start_s, end_s) == original


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 10)), max_size=8), st.integers(1, 10))
def test_each_text_is_of_a_clip_that_it_lies_in(parts: list[tuple[float, float]], clips: int) -> None:
    texts = [SideText(start, start + length, f"text{i}") for i, (start, length) in enumerate(parts)]
    for clip in range(clips):
        start, end = 60 / clips * clip, 60 / clips * (clip + 1)
        said = (original_of(texts, start, end) or "").split()
        for text in texts:
            assert text.start_s is not None
            assert text.end_s is not None
            if start <= text.start_s and text.end_s < end:
                assert text.text in said or text.end_s - text.start_s < 1e-6
            if text.end_s < start or text.start_s > end:
                assert text.text not in said


CSV = (
    "clip_id,source_id,uri,text,start_s,end_s,more\n"
    '00123,,,"A clip, ""quoted"".",,,1\n'
    ",s1,,Of a source.,,,2\n"
    ",s1,,A part.,1,2.5,3\n"
    ",,day1/film.mp4,Of a file.,,,4\n"
    ",,other.mp4,Other.,0,1,5\n"
    ",s9,,,,,6\n"
)


def write(path: Path, rows: str = CSV) -> str:
    """The rows of a CSV as what the suffix says."""
    import csv
    import io

    columns = [
        {key: (float(value) if key.endswith("_s") else value) if value else None for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(rows))
    ]
    if path.suffix == ".csv":
        path.write_text(rows)
    elif path.suffix == ".jsonl":
        path.write_text(
            "\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in columns) + "\n"
        )
    else:
        pq.write_table(pa.Table.from_pylist(columns), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_read(tmp_path: Path, suffix: str) -> None:
    table = read_originals_table(write(tmp_path / f"texts{suffix}"))
    assert (table.rows, table.empty_rows) == (6, 1)
    assert table.texts_of("00123", "s1", "/x/other.mp4") == (SideText(None, None, 'A clip, "quoted".'),)
    assert table.texts_of("c", "s1", "/x/other.mp4") == (
        SideText(None, None, "Of a source."),
        SideText(1, 2.5, "A part."),
    )
    assert table.texts_of("c", "s", "/x/day1/film.mp4") == (SideText(None, None, "Of a file."),)
    assert table.texts_of("c", "s", "day1/film.mp4") == (SideText(None, None, "Of a file."),)
    assert table.texts_of("c", "s", "s3://bucket/day1/film.mp4") == (SideText(None, None, "Of a file."),)
    assert table.texts_of("c", "s", "/x/other.mp4") == (SideText(0, 1, "Other."),)
    assert table.texts_of("c", "s", "/x/another.mp4") is None
    assert table.texts_of("c", "s", "/x/day2/film.mp4") is None
    assert table.texts_of("c", "s", "/x/holiday1/film.mp4") is None
    assert table.texts_of("c", "s9", "/x") is None


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("t.xlsx", b"x", "'.xlsx'"),
        ("t", b"x", "suffix is ''"),
        ("t.csv", b"uri,words\na,b\n", "no column for the text among uri, words"),
        ("t.csv", b"name,text\na,b\n", "no column says what"),
        ("t.csv", b"uri,text\na\n", "csv"),
        ("t.csv", b"uri,text\n,b\n", "row 1 does not say"),
        ("t.csv", b"uri,text,start_s,end_s\na,b,0,1\na,b,3,1\n", "row 2: from 3.0 to 1.0"),
        ("t.csv", b"uri,text,start_s,end_s\na,b,0,\n", "row 1: from 0.0 to None"),
        ("t.csv", b"uri,text,start_s,end_s\na,b,soon,1\n", "soon"),
        ("t.csv", b"uri,text,text\na,b,c\n", "twice"),
        ("t.csv", b"", "csv"),
        ("t.csv", b"\x00\x01", "no text"),
        ("t.csv", b"uri,text\na,\n", "no row has a text"),
        ("t.csv", b"uri,text\na," + b"x" * 30_000 + b"\n", "characters"),
        ("t.jsonl", b'{"uri": "a", "text": "b"}\n{', "jsonl"),
        ("t.jsonl", b'{"uri": "a", "text": 5}', "jsonl"),
        ("t.jsonl", b"[1]", "jsonl"),
        ("t.jsonl", b'{"uri": "a", "words": "b"}', "no row has a text"),
        ("t.jsonl", b'{"text": "b"}', "row 1 does not say"),
        ("t.parquet", b"PAR1 and no more", "parquet"),
        ("t.parquet", b"", "parquet"),
    ],
)
def test_a_bad_table_is_refused_by_name(tmp_path: Path, name: str, content: bytes, wrong: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadSideText) as refused:
        read_originals_table(str(tmp_path / name))
    assert wrong in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


def test_a_table_is_bounded_and_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSideText, match="no such file"):
        read_originals_table(str(tmp_path / "t.csv"))
    path = write(tmp_path / "t.parquet")
    monkeypatch.setattr(originals_table, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(BadSideText, match="unpacks"):
        read_originals_table(path)
    monkeypatch.setattr(originals_table, "MAX_TABLE_BYTES", 10)
    with pytest.raises(BadSideText, match="over 10 bytes"):
        read_originals_table(path)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").mkdir("footage")
    yield "s3://footage"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_side_files_and_tables_in_a_bucket(bucket: str) -> None:
    files = fsspec.filesystem("s3")
    files.pipe("footage/film.vtt", VTT.encode())
    files.pipe("footage/empty.txt", b"")
    files.pipe("footage/texts.csv", CSV.encode())
    assert len(read_side_texts(f"{bucket}/film.mp4") or ()) == 3
    assert read_side_texts(f"{bucket}/empty.mp4") is None
    assert read_side_texts(f"{bucket}/none.mp4") is None
    assert read_originals_table(f"{bucket}/texts.csv").rows == 6
    with pytest.raises(BadSideText, match="no such file"):
        read_originals_table(f"{bucket}/gone.csv")
    files.pipe("footage/film.vtt", b"garbage")
    with pytest.raises(BadSideText, match=r"s3://footage/film\.vtt: it is no WebVTT file"):
        read_side_texts(f"{bucket}/film.mp4")
