"""A film told without a model: sentences from its scenes' captions, chapters where their words change.

It says only what the captions say. Chapters are found as by TextTiling (Hearst 1997): where the words of the scenes
before and those after have least in common.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from captioner.film_records import Chapter, Evidence, FilmRow, SceneCaption, Telling, clock, in_order, rows_of
from captioner.folding import WORD, content_words, fold

__all__ = ["NOT_SAID", "VERSION", "extracted", "extracted_rows", "joined_answers"]

VERSION = "film-extract-1"  # raise it when the same captions would be told otherwise
NOT_SAID = "No caption of this film speaks of this."
EXTRACTED = frozenset({"extracted"})

# Words are counted in so many bins: memory stays linear in the scenes, and a collision of two words does little.
WORD_BINS = 1024
# Scenes on each side of a border that are compared; a film's chapter has 20 to 60.
WINDOW_SCENES = 12
# A chapter is no shorter than this, unless the film is.
MIN_CHAPTER_SCENES, MIN_CHAPTER_S = 4, 20.0
# Borders are dips in similarity this much deeper than the mean dip, in standard deviations (most places are no border).
DEPTH_DEVIATIONS = 1.5
MIN_DEPTH = 0.1  # of a similarity of at most 1: below, a film is one chapter
# A gap in time between scenes speaks for a border as much as a change of words by this, from 5 s on.
GAP_WEIGHT, FULL_GAP_S = 0.15, 5.0
MOST_SENTENCES = 5  # of a synopsis; a chapter has 2
MOST_EVIDENCE = 12
# A caption speaks of a question if it has this share of its words, the rare ones counting more.
QUESTION_SHARE = 0.5
# fmt: off
ASKING = frozenset(map(fold, (
    "how", "why", "often", "many", "much", "film", "movie", "video", "scene", "scenes", "show", "shown", "shows", "see",
    "seen", "happen", "happens", "appear", "appears", "time", "times", "ever", "first", "last", "there", "tell",
    "describe", "name", "list", "find", "kind", "someone", "anyone", "something", "anything", "people", "not", "no",
)))
NO_TITLE = frozenset(map(fold, (
    "above", "across", "along", "among", "around", "away", "back", "before", "behind", "below", "beneath", "beside",
    "between", "close", "down", "far", "front", "inside", "left", "near", "next", "off", "out", "outside", "over",
    "past", "right", "seen", "side", "small", "large", "several", "through", "together", "toward", "towards", "two",
    "one", "three", "under", "up", "while", "camera", "no", "not", "without",
)))
# fmt: on
TOO_ALIKE = 0.8  # cosine of two captions of which one is enough
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^a-z])")


def extracted_rows(source_id: str, scenes: Sequence[SceneCaption], questions: Sequence[str]) -> Iterator[FilmRow]:
    """The rows of a film; none for one without scenes."""
    scenes = in_order(scenes)
    if scenes:
        yield from rows_of(source_id, scenes, questions, extracted(scenes, questions))


def extracted(
    scenes: Sequence[SceneCaption], questions: Sequence[str], *, first: int = 0, max_chapters: int = 24
) -> Telling:
    """What the captions of scenes in order say, of which the first is the film's scene `first`."""
    vectors = _vectors(scenes)
    borders = _borders(scenes, vectors, max_chapters)
    chapters = tuple(
        Chapter(
            title=_title(scenes, vectors, begin, end, first),
            first=first + begin,
            last=first + end - 1,
            summary=" ".join(_central(scenes, vectors, range(begin, end), 2)) or "Nothing is known of these scenes.",
            flags=EXTRACTED,
        )
        for begin, end in pairwise(borders)
    )
    captioned = sum(bool(scene.text.strip()) for scene in scenes)
    return Telling(
        first=first,
        last=first + len(scenes) - 1,
        summary=_synopsis(scenes, vectors, borders),
        chapters=chapters,
        answers=tuple(_answer(scenes, vectors, question, first) for question in questions),
        flags=EXTRACTED if captioned else EXTRACTED | {"no_captions"},
    )


def joined_answers(answers: Sequence[Evidence]) -> Evidence:
    """What several parts of a film answer to the same question, as one answer."""
    seen = [answer for answer in answers if answer.scenes]
    if not seen:
        unsaid = {answer.text for answer in answers}
        text = unsaid.pop() if len(unsaid) == 1 else ""
        return Evidence(text, (), frozenset().union(*(answer.flags for answer in answers)))
    text = " ".join(dict.fromkeys(answer.text for answer in seen))
    scenes = tuple(sorted({scene for answer in seen for scene in answer.scenes}))
    return Evidence(text, scenes, frozenset().union(*(answer.flags for answer in seen)))


def _vectors(scenes: Sequence[SceneCaption]) -> NDArray[np.float32]:
    """A row a scene, of length 1 (0 where it has no caption): its words, the rarer in the film the weightier."""
    counts = np.zeros((len(scenes), WORD_BINS), np.float32)
    for row, scene in enumerate(scenes):
        for word, times in Counter(content_words(scene.text)).items():
            counts[row, zlib.crc32(word.encode()) % WORD_BINS] += 1 + np.log(times)
    with_word = (counts > 0).sum(axis=0)
    counts *= np.log((1 + len(scenes)) / (1 + with_word)) + 0.01  # a film of one scene has weights too
    lengths = np.linalg.norm(counts, axis=1, keepdims=True)
    return counts / np.where(lengths > 0, lengths, 1)


def _borders(scenes: Sequence[SceneCaption], vectors: NDArray[np.float32], max_chapters: int) -> list[int]:
    """Where chapters begin, and the number of scenes."""
    number = len(scenes)
    depths = _depths(scenes, vectors)
    if not len(depths):
        return [0, number]
    limit = max(MIN_DEPTH, float(depths.mean() + DEPTH_DEVIATIONS * depths.std()))
    chosen: list[int] = []
    for index in np.argsort(-depths, kind="stable"):
        border = int(index) + 1
        if depths[index] < limit or len(chosen) == max_chapters - 1:
            break
        if all(_far_enough(scenes, *sorted((border, other))) for other in (0, number, *chosen)):
            chosen.append(border)
    return [0, *sorted(chosen), number]


def _far_enough(scenes: Sequence[SceneCaption], begin: int, end: int) -> bool:
    return (
        end - begin >= MIN_CHAPTER_SCENES and scenes[end - 1].end_s - scenes[begin].start_s >= MIN_CHAPTER_S
    )  # fmt: skip


def _depths(scenes: Sequence[SceneCaption], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """For each place between two scenes, how far the similarity of its sides is under the peaks beside it."""
    number = len(scenes)
    if number < 2:
        return np.zeros(0)
    window = max(1, min(WINDOW_SCENES, number // 3))
    sums = np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), np.cumsum(vectors, axis=0)])
    places = np.arange(1, number)
    before = sums[places] - sums[np.maximum(places - window, 0)]
    after = sums[np.minimum(places + window, number)] - sums[places]
    scale = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    # Where one side says nothing at all, nothing speaks for a border.
    alike = np.where(scale > 0, (before * after).sum(axis=1) / np.where(scale > 0, scale, 1), 1.0)
    gaps = np.array([scenes[i].start_s - scenes[i - 1].end_s for i in range(1, number)])
    alike = alike - GAP_WEIGHT * np.clip(gaps / FULL_GAP_S, 0, 1)
    left = np.array([alike[max(0, i - window) : i + 1].max() for i in range(len(alike))])
    right = np.array([alike[i : i + window + 1].max() for i in range(len(alike))])
    return (left - alike) + (right - alike)


def _title(
    scenes: Sequence[SceneCaption], vectors: NDArray[np.float32], begin: int, end: int, first: int
) -> str:  # fmt: skip
    """The words that set these scenes apart, as they are most often written."""
    weights = vectors[begin:end].sum(axis=0) - vectors.mean(axis=0) * (end - begin)
    written: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for scene in scenes[begin:end]:
        for raw in WORD.findall(scene.text):
            if content_words(raw) and fold(raw) not in NO_TITLE:
                written[fold(raw)][raw.lower()] += 1
    best = sorted(written, key=lambda word: (-weights[zlib.crc32(word.encode()) % WORD_BINS], word))[:3]
    names = [written[word].most_common(1)[0][0] for word in best]
    if not names:
        return f"Scenes {first + begin + 1} to {first + end}"
    return ", ".join(names).capitalize()


def _central(
    scenes: Sequence[SceneCaption], vectors: NDArray[np.float32], chosen: range, most: int
) -> list[str]:  # fmt: skip
    """First sentences of the captions that say most of what the others say, in order of time, none like another."""
    centre = vectors[chosen.start : chosen.stop].sum(axis=0)
    sentences: dict[int, str] = {}
    for index in sorted(chosen, key=lambda index: (-float(vectors[index] @ centre), index)):
        if all(float(vectors[index] @ vectors[other]) < TOO_ALIKE for other in sentences):
            if sentence := _first_sentence(scenes[index].text):
                sentences[index] = sentence
            if len(sentences) == most:
                break
    return list(dict.fromkeys(sentences[index] for index in sorted(sentences)))


def _first_sentence(text: str) -> str:
    first = SENTENCE_END.split(" ".join(text.split()), maxsplit=1)[0]
    return first if not first or first[-1] in ".!?" else f"{first}."


def _synopsis(scenes: Sequence[SceneCaption], vectors: NDArray[np.float32], borders: Sequence[int]) -> str:
    """How much there is, and the most central sentence of each of the longest chapters."""
    captioned = sum(bool(scene.text.strip()) for scene in scenes)
    seconds = max(scene.end_s for scene in scenes) - scenes[0].start_s
    counts = f"{len(scenes)} scene{'s' if len(scenes) != 1 else ''} in {clock(seconds)}"
    if not captioned:
        return f"{counts}, none with a caption."
    if captioned < len(scenes):
        counts += f", {captioned} of them with a caption"
    spans = sorted(pairwise(borders), key=lambda span: span[0] - span[1])[:MOST_SENTENCES]
    each = 1 if len(spans) > 1 else MOST_SENTENCES
    sentences = [s for begin, end in sorted(spans) for s in _central(scenes, vectors, range(begin, end), each)]
    return " ".join((f"{counts}.", *dict.fromkeys(sentences)))


def _answer(scenes: Sequence[SceneCaption], vectors: NDArray[np.float32], question: str, first: int) -> Evidence:
    asked = {word for word in content_words(question) if word not in ASKING}
    words = [set(content_words(scene.text)) for scene in scenes]
    weights = _rarity(words, asked)
    whole = sum(weights.values())
    shares = [sum(weights[word] for word in asked & said) / whole if whole else 0.0 for said in words]
    best = max(shares, default=0.0)
    if not asked or best < QUESTION_SHARE:
        return Evidence(NOT_SAID, (), EXTRACTED)
    enough = max(QUESTION_SHARE, best - 1e-6)
    found = [index for index, share in enumerate(shares) if share >= enough]
    centre = vectors[found].sum(axis=0)
    most_alike = max(found, key=lambda index: (float(vectors[index] @ centre), -index))
    evidence = tuple(first + index for index in found[:MOST_EVIDENCE])
    common = sorted(asked & words[most_alike])
    named = ", ".join(_as_written(question, common))
    number = f"{len(found)} scene{'s' if len(found) != 1 else ''}"
    has = "have" if len(found) != 1 else "has"
    text = f"{number} {has} captions with {named}; one says: {_first_sentence(scenes[most_alike].text)}"
    return Evidence(text, evidence, EXTRACTED)


def _rarity(words: Sequence[set[str]], asked: set[str]) -> Mapping[str, float]:
    return {
        word: float(np.log((1 + len(words)) / (1 + sum(word in said for said in words)))) + 0.1 for word in asked
    }  # fmt: skip


def _as_written(question: str, folded: Sequence[str]) -> list[str]:
    raws = {fold(raw): raw.lower() for raw in reversed(WORD.findall(question))}
    return [f'"{raws[word]}"' for word in folded]
