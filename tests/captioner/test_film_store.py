"""Films in the store: which captions a film is told from, and rows that land once and whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captioner.captions import Author
from captioner.film_extract import extracted_rows
from captioner.film_store import CaptionedFilm, ToldFilm, films_of, sizes_of_sources, told_among, write_tellings
from curation.report_films import read_films
from curation.store import Store
from tests.caption_stores import by_model, caption_row, captioned_clips, write_rows
from tests.score_stores import write_store

AUTHOR = Author("openai", "teller", "rev-1", "prompt")
Row = dict[str, Any]


def store_of(folder: Path, clips: int = 60) -> tuple[Store, dict[str, list[Row]]]:
    """A store without captions, and its kept clips by source, in order of time."""
    rows = captioned_clips(clips, seed=5)
    kept: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["start_s"]):
        if row["keep"]:
            kept.setdefault(row["source_id"], []).append(row)
    return write_store(folder, rows), dict(sorted(kept.items()))


def read(store: Store, source_ids: list[str], prefer: tuple[str, str] | None = None) -> list[CaptionedFilm]:
    return films_of(store.open("clips"), store.open("captions"), source_ids, "keep", prefer)


def said(clip: Row, captioner: str, model: str, text: str | None, **more: Any) -> Row:
    return by_model(clip, "descriptive", text, captioner=captioner, model=model, **more)


def test_scenes_are_the_kept_clips_in_order_of_time(tmp_path: Path):
    store, kept = store_of(tmp_path)
    assert sizes_of_sources(store.open("clips"), "keep") == {source: len(clips) for source, clips in kept.items()}
    assert sum(map(len, kept.values())) < 60
    films = read(store, list(kept))
    assert [film.source_id for film in films] == list(kept)
    for film in films:
        assert [scene.clip_id for scene in film.scenes] == [clip["clip_id"] for clip in kept[film.source_id]]
        assert [scene.start_s for scene in film.scenes] == [clip["start_s"] for clip in kept[film.source_id]]
        assert film.uncaptioned == len(film.scenes)
        assert not film.used


CHOICES = [
    ("of one it is that one", [("facts", "facts", "F")], None, "F"),
    ("who saw the clip says more", [("vllm", "a", "V"), ("openai", "b", "O"), ("facts", "facts", "F")], None, "V"),
    ("in whatever order they came", [("facts", "facts", "F"), ("openai", "b", "O"), ("vllm", "a", "V")], None, "V"),
    ("the teller's own comes first", [("vllm", "a", "V"), ("openai", "b", "O")], ("openai", "b"), "O"),
    ("if it has said something", [("vllm", "a", "V"), ("facts", "facts", "F")], ("openai", "b"), "V"),
    ("and it is the same model", [("vllm", "a", "V"), ("openai", "c", "O")], ("openai", "b"), "V"),
    ("an empty text is none", [("vllm", "a", None), ("openai", "b", " "), ("facts", "facts", "F")], None, "F"),
    ("a stranger comes last", [("other", "x", "X"), ("facts", "facts", "F")], None, "F"),
    ("but is better than nothing", [("other", "x", "X")], None, "X"),
    ("the newest of a captioner's", [("vllm", "a", "old"), ("vllm", "b", "new")], None, "new"),
]


@pytest.mark.parametrize(("rows", "prefer", "text"), [row[1:] for row in CHOICES], ids=[row[0] for row in CHOICES])
def test_of_several_captions_one_is_taken(
    tmp_path: Path, rows: list[tuple[str, str, str | None]], prefer: tuple[str, str] | None, text: str
):
    store, kept = store_of(tmp_path)
    source_id, (clip, *others) = next(iter(kept.items()))
    for row in rows:  # a version each: their order is that of their coming
        write_rows(store, "captions", [said(clip, *row)])
    (film,) = read(store, [source_id], prefer)
    assert film.scenes[0].text == text
    assert film.uncaptioned == len(others) > 0
    assert list(film.used.values()) == [1]


def test_only_descriptions_of_whole_clips_are_read(tmp_path: Path):
    store, kept = store_of(tmp_path)
    source_id, (clip, *_) = next(iter(kept.items()))
    rows = [
        said(clip, "vllm", "a", "A window.", window_index=0),
        caption_row(clip, "short", "Short."),
        caption_row(clip, "original", "As it came.", captioner="side_file"),
    ]
    write_rows(store, "captions", rows)
    assert not read(store, [source_id])[0].used


def test_what_a_telling_is_known_by(tmp_path: Path):
    store, kept = store_of(tmp_path)
    source_id, clips = next(iter(kept.items()))
    write_rows(store, "captions", [said(clip, "vllm", "a", "A kite.") for clip in clips])
    (film,) = read(store, [source_id])
    (again,) = read(store, [source_id])
    first = film.prompt_id(AUTHOR, ("Who?",))
    assert first == again.prompt_id(AUTHOR, ("Who?",))
    write_rows(store, "captions", [said(clips[0], "vllm", "b", "A boat.")])
    (changed,) = read(store, [source_id])
    others = {
        changed.prompt_id(AUTHOR, ("Who?",)),
        film.prompt_id(AUTHOR, ()),
        film.prompt_id(AUTHOR, ("Who?", "Why?")),
        film.prompt_id(AUTHOR, ("Who?\x1fWhy?",)),
        film.prompt_id(replace(AUTHOR, prompt_id="other"), ("Who?",)),
        film.prompt_id(replace(AUTHOR, revision="rev-2"), ("Who?",)),
        film.prompt_id(replace(AUTHOR, captioner="vllm"), ("Who?",)),
        replace(film, scenes=film.scenes[1:], caption_ids=film.caption_ids[1:]).prompt_id(AUTHOR, ("Who?",)),
    }
    assert len(others) == 8
    assert first not in others


def told(film: CaptionedFilm, questions: tuple[str, ...], author: Author = AUTHOR) -> ToldFilm:
    of_film = replace(author, prompt_id=film.prompt_id(author, questions))
    return ToldFilm(of_film, tuple(extracted_rows(film.source_id, film.scenes, questions)))


def test_a_telling_lands_once(tmp_path: Path):
    store, kept = store_of(tmp_path)
    write_rows(store, "captions", [said(c, "vllm", "a", f"Kite {c['start_s']}.") for cs in kept.values() for c in cs])
    films = [told(film, ("Who?", "Why?")) for film in read(store, list(kept))]
    number = sum(len(film.rows) for film in films)
    version = store.open("films").version
    assert write_tellings(store, films, "run-1") == number
    assert store.open("films").version == version + 1, "all in one version"
    assert write_tellings(store, films, "run-2") == 0
    assert write_tellings(store, (), "run-3") == 0
    rows = store.open("films").to_table().to_pylist()
    assert len(rows) == number == len({row["film_id"] for row in rows})
    assert {row["run_id"] for row in rows} == {"run-1"}
    assert {(row["captioner"], row["model"]) for row in rows} == {("openai", "teller")}
    assert told_among(store.open("films"), list(kept), AUTHOR) == {
        (film.rows[0].source_id, film.author.prompt_id) for film in films
    }
    assert not told_among(store.open("films"), list(kept), replace(AUTHOR, model="other"))
    assert not told_among(store.open("films"), ["f" * 64], AUTHOR)


def test_the_page_shows_what_was_told_last(tmp_path: Path):
    store, kept = store_of(tmp_path)
    source_id, clips = next(iter(kept.items()))
    write_rows(store, "captions", [said(clip, "vllm", "a", "A red kite climbs.") for clip in clips])
    (film,) = read(store, [source_id])
    write_tellings(store, [told(film, ("Who kite?", "Any boat?"))], "run-1")
    write_rows(store, "captions", [said(clip, "vllm", "b", "A blue boat sinks.") for clip in clips])
    (changed,) = read(store, [source_id])
    write_tellings(store, [told(changed, ("Any boat?",))], "run-0")  # another machine's clock may be late
    assert store.open("films").count_rows("kind = 'synopsis'") == 2, "the older telling stays"
    films = read_films(store, ())
    assert films
    (shown,) = films.films
    assert [("boat" in text.text, "kite" in text.text) for text in shown.synopsis] == [(True, False)]
    assert all("boat" in chapter.text for chapter in shown.chapters)
    assert len(shown.chapters) == len(told(changed, ()).rows) - 1
    answers = {answer.head: answer.text for answer in shown.answers}
    assert list(answers) == ["Who kite?", "Any boat?"], "a question that was not asked again keeps its answer"
    assert "blue boat" in answers["Any boat?"]
    assert "red kite" in answers["Who kite?"]
