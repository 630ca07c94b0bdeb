"""A film in parts that fit a model's context: its scenes first, then what was told of its parts, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

from captioner.film_extract import extracted, joined_answers
from captioner.film_records import Chapter, Evidence, SceneCaption, Telling, clock
from captioner.hostile_text import as_data

__all__ = ["CountTokens", "Part", "Room", "flagged", "groups_of", "part_of_tellings", "parts_of_scenes"]

CountTokens = Callable[[str], int]
# What a part told is shown with texts of at most so many characters, the first with which two parts fit together.
SHORTENED_CHARS = (800, 300, 150, 80, 40)
# The shortest of these has so many tokens, in any script.
CHAPTER_TOKENS, QUESTION_TOKENS, SUMMARY_TOKENS = 110, 120, 60
MOST_CITED = 12  # scenes of an answer, as they are shown with it
JOINED_CHARS = 800
JOINED = frozenset({"joined"})


@dataclass(frozen=True, slots=True)
class Room:
    """What goes into a request: `tokens` of lines; what it asks for: `max_chapters`, and an answer a question."""

    tokens: int
    count_tokens: CountTokens
    questions: tuple[str, ...]
    max_chapters: int

    @property
    def least_tokens(self) -> int:
        """With less, two parts may not go together, and no film of several parts would ever be told."""
        return 2 * (SUMMARY_TOKENS + CHAPTER_TOKENS * self.max_chapters + QUESTION_TOKENS * len(self.questions))


@dataclass(frozen=True, slots=True)
class Part:
    """One request's worth of a film: `shown` has numbered lines, the first with `first_number`.

    `lines`: the scenes, first and last, that each line stands for. `citable`: for each question, the scenes that an
    answer may rest on. `line_flags`, `question_flags`, `flags`: what is to be known of what is told of these lines, of
    the answer to this question, of all. `by_rules` tells the part without a model.
    """

    source_id: str
    shown: str
    lines: tuple[tuple[int, int], ...]
    first_number: int
    citable: tuple[frozenset[int], ...]
    of_tellings: bool
    line_flags: tuple[frozenset[str], ...]
    question_flags: tuple[frozenset[str], ...]
    flags: frozenset[str]
    by_rules: Callable[[], Telling]

    @property
    def says_nothing(self) -> bool:
        """No scene of it has a caption: a model could only invent."""
        return "nothing_captioned" in self.flags


def flagged(telling: Telling, part: Part) -> Telling:
    """The telling of a part, with the flags of what it was made from."""
    chapters = []
    for chapter in telling.chapters:
        lines = (
            flags
            for (first, last), flags in zip(part.lines, part.line_flags, strict=True)
            if first <= chapter.last and last >= chapter.first
        )
        chapters.append(replace(chapter, flags=chapter.flags.union(*lines)))
    answers = tuple(
        replace(answer, flags=answer.flags | flags)
        for answer, flags in zip(telling.answers, part.question_flags, strict=True)
    )
    flags = telling.flags | part.flags - {"nothing_captioned"}
    return replace(telling, chapters=tuple(chapters), answers=answers, flags=flags)


def parts_of_scenes(source_id: str, scenes: Sequence[SceneCaption], room: Room) -> Iterator[Part]:
    """The scenes in as few requests as fit; a caption that is too long for one of its own is cut."""
    start, used = 0, 0
    lines: list[tuple[str, bool]] = []
    for index, scene in enumerate(scenes):
        line, cut = _scene_line(index, scene, room)
        tokens = room.count_tokens(line) + 1  # the line break
        if lines and used + tokens > room.tokens:
            yield _part_of_scenes(source_id, scenes, start, lines, room)
            start, used, lines = index, 0, []
        lines.append((line, cut))
        used += tokens
    if lines:
        yield _part_of_scenes(source_id, scenes, start, lines, room)


def _scene_line(index: int, scene: SceneCaption, room: Room) -> tuple[str, bool]:
    """(line, whether the caption was cut)."""
    text, cut = scene.text.strip(), False
    while True:
        line = f"Scene {index + 1}, {clock(scene.start_s)}: {as_data(text) if text else 'no caption'}"
        tokens = room.count_tokens(line)
        if tokens < room.tokens or not text:
            return line, cut
        text, cut = text[: min(len(text) - 1, len(text) * room.tokens // (2 * tokens))], True


def _part_of_scenes(
    source_id: str, scenes: Sequence[SceneCaption], start: int, lines: Sequence[tuple[str, bool]], room: Room
) -> Part:
    end = start + len(lines)
    shown = scenes[start:end]
    flags = frozenset({"caption_cut"} if any(cut for _, cut in lines) else ())
    if not any(scene.text.strip() for scene in shown):
        flags |= {"nothing_captioned"}
    return Part(
        source_id=source_id,
        shown="\n".join(line for line, _ in lines),
        lines=tuple((index, index) for index in range(start, end)),
        first_number=start + 1,
        citable=(frozenset(range(start, end)),) * len(room.questions),
        of_tellings=False,
        line_flags=tuple(frozenset({"caption_cut"} if cut else ()) for _, cut in lines),
        question_flags=(frozenset(),) * len(room.questions),
        flags=flags,
        by_rules=lambda: extracted(shown, room.questions, first=start, max_chapters=room.max_chapters),
    )


def groups_of(told: Sequence[Telling], room: Room) -> Iterator[list[Telling]]:
    """Neighbours that fit in one request together: two at the least, but for one that is left over."""
    group: list[Telling] = []
    used = 0
    for telling in told:
        tokens = room.count_tokens(_lines_of_telling(telling, 1, room)) + 2
        if len(group) > 1 and used + tokens > room.tokens:
            yield group
            group, used = [], 0
        group.append(telling)
        used += tokens
    if group:
        yield group


def _lines_of_telling(telling: Telling, first_number: int, room: Room) -> str:
    """As much as half the room allows, so that two always go together."""
    shown = ""
    for most_chars in SHORTENED_CHARS:
        shown = "\n".join(_telling_lines(telling, first_number, most_chars))
        if room.count_tokens(shown) + 4 <= room.tokens // 2:  # numbers may be longer by a digit in their place
            break
    return shown


def _telling_lines(telling: Telling, first_number: int, most_chars: int) -> Iterator[str]:
    last_number = first_number + len(telling.chapters) - 1
    yield f"Lines {first_number} to {last_number} together: {as_data(_clipped(telling.summary, most_chars))}"
    for number, chapter in enumerate(telling.chapters, start=first_number):
        title, summary = _clipped(chapter.title, most_chars), _clipped(chapter.summary, most_chars)
        yield f"Line {number}: {as_data(f'{title}: {summary}')}"
    for number, answer in enumerate(telling.answers, start=1):
        if answer.scenes:
            scenes = ", ".join(str(scene + 1) for scene in _cited(answer))
            yield f"Answer to question {number}: {as_data(_clipped(answer.text, most_chars))} (scenes {scenes})"


def _cited(answer: Evidence) -> tuple[int, ...]:
    """The scenes of an answer that are shown: spread over all of them where there are many."""
    return answer.scenes[:: max(1, ceil(len(answer.scenes) / MOST_CITED))]


def _clipped(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else f"{text[: most_chars - 1].rsplit(' ', 1)[0]}\u2026"


def part_of_tellings(source_id: str, group: Sequence[Telling], room: Room) -> Part:
    """What was told of neighbouring parts: a line a chapter."""
    blocks: list[str] = []
    chapters: list[Chapter] = []
    for telling in group:
        blocks.append(_lines_of_telling(telling, len(chapters) + 1, room))
        chapters += telling.chapters
    by_question = [[telling.answers[index] for telling in group] for index in range(len(room.questions))]
    flags = frozenset[str]().union(*(telling.flags for telling in group))
    if all("no_captions" in telling.flags for telling in group):
        flags |= {"nothing_captioned"}
    return Part(
        source_id=source_id,
        shown="\n\n".join(blocks),
        lines=tuple((chapter.first, chapter.last) for chapter in chapters),
        first_number=1,
        citable=tuple(frozenset(scene for answer in answers for scene in _cited(answer)) for answers in by_question),
        of_tellings=True,
        line_flags=tuple(chapter.flags for chapter in chapters),
        question_flags=tuple(joined_answers(answers).flags for answers in by_question),
        flags=flags,
        by_rules=lambda: _joined(group, room.max_chapters),
    )


def _joined(group: Sequence[Telling], max_chapters: int) -> Telling:
    """By rules: summaries one after the other, the shortest neighbouring chapters taken together."""
    chapters = [chapter for telling in group for chapter in telling.chapters]
    while len(chapters) > max_chapters:
        lengths = [after.last - before.first for before, after in pairwise(chapters)]
        at = lengths.index(min(lengths))
        one, other = chapters[at : at + 2]
        longer = max((one, other), key=lambda chapter: chapter.last - chapter.first)
        flags = one.flags | other.flags | JOINED
        chapters[at : at + 2] = [Chapter(longer.title, one.first, other.last, longer.summary, flags)]
    each = max(60, JOINED_CHARS // len(group))
    answers = [joined_answers(answers) for answers in zip(*(telling.answers for telling in group), strict=True)]
    return Telling(
        first=group[0].first,
        last=group[-1].last,
        summary=" ".join(_clipped(telling.summary, each) for telling in group),
        chapters=tuple(chapters),
        answers=tuple(replace(answer, flags=answer.flags | JOINED) for answer in answers),
        flags=JOINED,
    )
