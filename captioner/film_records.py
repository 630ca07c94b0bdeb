"""What is known of a film scene by scene, and what is told of it: a synopsis, chapters, answers to questions.

Scenes are counted from 0 in order of time. Every time that a reader sees comes from a scene, never from a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Literal

__all__ = [
    "NOT_SHOWN",
    "Chapter",
    "Evidence",
    "FilmRow",
    "SceneCaption",
    "Telling",
    "clock",
    "contiguous",
    "in_order",
    "rows_of",
    "spans_of",
]

NOT_SHOWN = "The film does not show this."
MOST_TIMES = 8  # in the text of an answer; the row's clips are all of them


@dataclass(frozen=True, slots=True)
class SceneCaption:
    """A scene's caption, and when it is shown, in seconds of its source. The text may be empty: nothing is known."""

    clip_id: str
    start_s: float
    end_s: float
    text: str

    def __post_init__(self) -> None:
        if not (isfinite(self.start_s) and isfinite(self.end_s) and self.start_s <= self.end_s):
            raise ValueError(f"end_s={self.end_s}: must be a number, not before start_s={self.start_s}")


@dataclass(frozen=True, slots=True)
class Chapter:
    """Scenes `first` to `last`, both included."""

    title: str
    first: int
    last: int
    summary: str
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Evidence:
    """An answer to a question and the scenes that it rests on, in order; without scenes nothing was seen."""

    text: str = ""
    scenes: tuple[int, ...] = ()
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of scenes `first` to `last`: chapters without gap or overlap, an answer a question.

    `flags`: `extracted` where rules took sentences from the captions because there was no usable answer,
    `joined` where rules joined what was told of parts, `chapters_adjusted` where chapters had gaps or overlaps,
    `caption_cut` where a scene's caption did not fit in the context, `no_captions` where no scene of a part has one.
    A chapter and an answer have their own.
    """

    first: int
    last: int
    summary: str
    chapters: tuple[Chapter, ...]
    answers: tuple[Evidence, ...]
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FilmRow:
    """A row of the films table, as far as it comes from the film.

    `start_s` and `end_s` of a chapter touch the next one's; of an answer they are the first time that it rests on, None
    where it rests on none; `clip_ids` are all that it rests on.
    """

    source_id: str
    kind: Literal["synopsis", "chapter", "answer"]
    position: int
    title: str | None
    question: str | None
    text: str
    start_s: float | None
    end_s: float | None
    clip_ids: tuple[str, ...]
    flags: tuple[str, ...]


def in_order(scenes: Iterable[SceneCaption]) -> list[SceneCaption]:
    return sorted(scenes, key=lambda scene: (scene.start_s, scene.end_s, scene.clip_id))


def contiguous(chapters: Sequence[Chapter], first: int, last: int) -> tuple[Chapter, ...]:
    """The chapters in order, covering `first` to `last` without gap or overlap: each reaches to the next one's start.

    Of two that start together the shorter stays; a chapter whose borders moved is flagged `chapters_adjusted`.
    """
    assert chapters
    by_start = {c.first: c for c in sorted(chapters, key=lambda chapter: -chapter.last)}
    starts = sorted(by_start)
    borders = [first, *starts[1:], last + 1]
    told = []
    for start, (begin, end) in zip(starts, pairwise(borders), strict=True):
        chapter = by_start[start]
        moved = (chapter.first, chapter.last) != (begin, end - 1)
        flags = chapter.flags | {"chapters_adjusted"} if moved else chapter.flags
        told.append(Chapter(chapter.title, begin, end - 1, chapter.summary, flags))
    return tuple(told)


def clock(seconds: float) -> str:
    """`1:02:03`, hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def spans_of(scenes: Sequence[SceneCaption], indices: Iterable[int]) -> list[tuple[float, float]]:
    """(start_s, end_s) of scenes, those that follow each other taken together."""
    spans: list[tuple[float, float]] = []
    previous = None
    for index in sorted(set(indices)):
        scene = scenes[index]
        if spans and previous == index - 1:
            spans[-1] = (spans[-1][0], max(spans[-1][1], scene.end_s))
        else:
            spans.append((scene.start_s, scene.end_s))
        previous = index
    return spans


def rows_of(
    source_id: str, scenes: Sequence[SceneCaption], questions: Sequence[str], telling: Telling
) -> Iterator[FilmRow]:
    """The rows of a film whose scenes, in order, are all told of."""
    assert (telling.first, telling.last, len(telling.answers)) == (0, len(scenes) - 1, len(questions))
    captioned = tuple(scene.clip_id for scene in scenes if scene.text.strip())
    film_end = max(scene.end_s for scene in scenes)
    flags = tuple(sorted(telling.flags))
    yield FilmRow(
        source_id, "synopsis", 0, None, None, telling.summary, scenes[0].start_s, film_end, captioned, flags
    )  # fmt: skip
    for position, chapter in enumerate(telling.chapters):
        shown = scenes[chapter.first : chapter.last + 1]
        end_s = film_end if chapter.last + 1 == len(scenes) else scenes[chapter.last + 1].start_s
        yield FilmRow(
            source_id, "chapter", position, chapter.title, None, chapter.summary, shown[0].start_s, end_s,
            tuple(scene.clip_id for scene in shown), tuple(sorted(chapter.flags)),
        )  # fmt: skip
    for position, (question, answer) in enumerate(zip(questions, telling.answers, strict=True)):
        yield _answer_row(source_id, position, question, scenes, answer)


def _answer_row(
    source_id: str, position: int, question: str, scenes: Sequence[SceneCaption], answer: Evidence
) -> FilmRow:
    spans = spans_of(scenes, answer.scenes)
    start_s, end_s = spans[0] if spans else (None, None)
    text = f"{answer.text} ({_times(spans)})" if spans else answer.text or NOT_SHOWN
    return FilmRow(
        source_id, "answer", position, None, question, text, start_s, end_s,
        tuple(scenes[index].clip_id for index in answer.scenes), tuple(sorted(answer.flags)),
    )  # fmt: skip


def _times(spans: Sequence[tuple[float, float]]) -> str:
    times = [f"{clock(start)}-{clock(end)}" for start, end in spans[:MOST_TIMES]]
    rest = len(spans) - len(times)
    return ", ".join(times) + (f" and {rest} more" if rest else "")
