"""Whole sources told from the captions of their clips: synopsis, chapters with times, answers to questions.

sources that have captions and lack this telling → some thousand scenes at once → told level by level, or by rules →
all rows of each source in one commit → what was told, in short
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from captioner.captions import Author
from captioner.film import PROMPT_ID, FilmConfig, tell_films
from captioner.film_extract import VERSION, extracted_rows
from captioner.film_records import FilmRow, clock
from captioner.film_store import CaptionedFilm, ToldFilm, films_of, sizes_of_sources, told_among, write_tellings
from captioner.hostile_text import cleaned
from captioner.openai_api import ServerGone
from captioner.requests import Answer, Ask, Request
from curation.records import digest
from curation.store import Store
from jobs.caption_plain import uris_of
from jobs.progress import Progress
from jobs.runs import JobRun, MachineFault, say
from jobs.text_engine import TextModel

__all__ = ["BY_RULES", "FilmOptions", "Films", "Teller", "questions_of", "tell_sources", "teller_of"]

SOURCES_AT_ONCE, SCENES_AT_ONCE_BY_RULES = 500, 10_000
FILMS_SHOWN, NAMES_SHOWN = 3, 5
# Of these texts a model had no part, or rules put together what it said.
RULES_FLAGS = {"extracted", "joined"}


@dataclass(frozen=True, slots=True)
class FilmOptions:
    """How whole sources are told, with --film.

    Attributes:
        context_tokens: A request and its answer; 0 for what the model reads, at most 32768.
        answer_tokens: Longest answer about a part of a source.
        max_chapters: Most chapters of a source.
        scenes_at_once: Scenes whose sources go through the model together, level by level, and are held in memory. More
            are faster: vLLM is started anew for each level of them.
    """

    context_tokens: int = 0
    answer_tokens: int = FilmConfig().answer_tokens
    max_chapters: int = FilmConfig().max_chapters
    scenes_at_once: int = 40_000

    def __post_init__(self) -> None:
        for name in ("answer_tokens", "max_chapters", "scenes_at_once"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.context_tokens < 0:
            raise ValueError(f"context_tokens={self.context_tokens}: must not be negative")


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells films, and how. The author's `prompt_id` is of how it is asked, for whatever film."""

    author: Author
    words: str
    ask: Ask | None = None
    config: FilmConfig = field(default_factory=FilmConfig)


BY_RULES = Teller(Author("facts", "facts", "1", VERSION), "rules that take sentences from the captions, no model")


def teller_of(model: TextModel, options: FilmOptions, questions: Sequence[str], config: FilmConfig) -> Teller:
    """A model that tells films. `config` has attempts, temperature and seed. Raises ValueError where its context is too
    small for what is asked."""
    context = model.context_tokens or config.context_tokens
    more = {"answer_tokens": options.answer_tokens, "max_chapters": options.max_chapters}
    config = replace(config, context_tokens=context, **more)
    list(tell_films({}, questions, model.ask, config))  # of no film: refuses what it would refuse later
    prompt_id = digest(PROMPT_ID, config.max_chapters)
    return Teller(Author(model.captioner, model.name, model.revision, prompt_id), model.words, model.ask, config)


def questions_of(questions: Sequence[str]) -> tuple[str, ...]:
    """What is asked, each once. Raises ValueError for a blank question."""
    plain = [" ".join(question.split()) for question in questions]
    if not all(plain):
        raise ValueError("questions: must not be blank")
    return tuple(dict.fromkeys(plain))


@dataclass(frozen=True, slots=True)
class Films:
    """What a run is to do: tell sources whose clips meet a condition, at most `limit` of them, 0 for all."""

    run: JobRun
    version: int
    where: str
    limit: int
    questions: tuple[str, ...]
    teller: Teller
    scenes_at_once: int


def tell_sources(job: Films) -> float:
    """Do it; the share of the sources that got no telling because the model did not answer.

    Raises StoreUnavailable, LeaseLost, MachineFault, BadServer; what was told until then is in the store.
    """
    store = job.run.store
    with store.reading():
        sizes = sizes_of_sources(store.open("clips", job.version), job.where)
    if job.limit:
        sizes = dict(list(sizes.items())[: job.limit])
    outcome = Outcome()
    progress = Progress("film", len(sizes), 0, unit="sources")
    most = min(job.scenes_at_once, SCENES_AT_ONCE_BY_RULES) if job.teller.ask is None else job.scenes_at_once
    try:
        for source_ids in groups_of(sizes, most):
            tell_some(job, source_ids, outcome, progress)
    finally:
        job.run.counts = outcome.counts()
    progress.show(is_last=True)
    say(outcome.report(len(sizes), store))
    return outcome.left / max(1, outcome.left + outcome.told)


def groups_of(sizes: Mapping[str, int], most_scenes: int) -> Iterator[list[str]]:
    """Sources that are told together: as many as have so many scenes, and at least one."""
    group: list[str] = []
    scenes = 0
    for source_id, size in sizes.items():
        if group and (scenes + size > most_scenes or len(group) == SOURCES_AT_ONCE):
            yield group
            group, scenes = [], 0
        group.append(source_id)
        scenes += size
    if group:
        yield group


def tell_some(job: Films, source_ids: Sequence[str], outcome: Outcome, progress: Progress) -> None:
    """Tell those of some sources that lack it, and commit them together."""
    store, author = job.run.store, job.teller.author
    with store.reading():
        clips, captions = store.open("clips", job.version), store.open("captions")
        own = (author.captioner, author.model) if job.teller.ask else None
        films = films_of(clips, captions, source_ids, job.where, own)
        told_before = told_among(store.open("films"), source_ids, author)
    lacking: dict[str, tuple[CaptionedFilm, Author]] = {}
    for film in films:
        of_film = replace(author, prompt_id=film.prompt_id(author, job.questions))
        if outcome.meets(film, is_told=(film.source_id, of_film.prompt_id) in told_before):
            lacking[film.source_id] = film, of_film
    progress.skip(len(source_ids) - len(lacking), 0)
    told: list[ToldFilm] = []
    for source_id, rows in told_of(job, [film for film, _ in lacking.values()], outcome):
        told.append(ToldFilm(lacking[source_id][1], tuple(rows)))
        progress.done(0)
        progress.show()
    job.run.lease.check()
    write_tellings(store, told, job.run.run_id)
    outcome.lands(told)


def told_of(job: Films, films: Sequence[CaptionedFilm], outcome: Outcome) -> Iterator[tuple[str, list[FilmRow]]]:
    """Each film's rows. Where a model was asked and did not answer, the films that this may concern are left out: rules
    would have told them, for good."""
    if job.teller.ask is None:
        for film in films:
            yield film.source_id, list(extracted_rows(film.source_id, film.scenes, job.questions))
        return
    if not films:
        return
    listener = Listener(job.teller.ask, outcome)
    rows: dict[str, list[FilmRow]] = {film.source_id: [] for film in films}
    scenes = {film.source_id: film.scenes for film in films}
    try:
        for row in tell_films(scenes, job.questions, listener.ask, job.teller.config):
            rows[row.source_id].append(row)
    except ServerGone as error:
        raise MachineFault(str(error)) from error
    for source_id, of_film in rows.items():
        if listener.unanswered and any(RULES_FLAGS & set(row.flags) for row in of_film):
            outcome.left += 1
        else:
            yield source_id, of_film


class Listener:
    """Hears a model's answers on their way, shows that they come, and knows which parts were not answered at all."""

    def __init__(self, ask: Ask, outcome: Outcome):
        self._ask = ask
        self._outcome = outcome
        self.unanswered: set[str] = set()

    def ask(self, requests: Iterable[Request]) -> Iterator[Answer]:
        # A part that is asked about again has another id, and is shown as it was.
        asked = list(requests)
        parts = {request.request_id: digest(*(m["content"] for m in request.messages)) for request in asked}
        progress = Progress("  parts of sources", len(asked), 0, unit="parts")
        for answer in self._ask(asked):
            progress.done(0)
            self._outcome.hears(answer)
            (self.unanswered.add if answer.error else self.unanswered.discard)(parts[answer.request_id])
            progress.show(f"{self._outcome.tokens_out} tokens out")
            yield answer
        progress.show(is_last=True)


@dataclass(slots=True)
class Outcome:
    """What became of the sources; their sum is checked."""

    told: int = 0
    complete: int = 0
    left: int = 0
    without_captions: list[str] = field(default_factory=list)
    by_rules: int = 0
    scenes: int = 0
    scenes_without: int = 0
    used: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    shown: list[ToldFilm] = field(default_factory=list)

    def meets(self, film: CaptionedFilm, *, is_told: bool) -> bool:
        """Count a source; whether it is to be told."""
        self.scenes += len(film.scenes)
        self.scenes_without += film.uncaptioned
        self.used.update(film.used)
        if not film.used:
            self.without_captions.append(film.source_id)
        elif is_told:
            self.complete += 1
        return bool(film.used) and not is_told

    def hears(self, answer: Answer) -> None:
        if answer.error is not None:
            self.failures[answer.error[:200]] += 1
        else:
            self.answers += 1
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out

    def lands(self, films: Sequence[ToldFilm]) -> None:
        self.told += len(films)
        self.shown += films[: FILMS_SHOWN - len(self.shown)]
        if any(film.author.captioner != BY_RULES.author.captioner for film in films):
            self.by_rules += sum(any(RULES_FLAGS & set(row.flags) for row in film.rows) for film in films)

    def counts(self) -> dict[str, int]:
        return {
            "told": self.told,
            "complete": self.complete,
            "left": self.left,
            "without_captions": len(self.without_captions),
            "by_rules": self.by_rules,
            "scenes": self.scenes,
            "scenes_without_captions": self.scenes_without,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
        }

    def report(self, sources: int, store: Store) -> str:
        done = self.told + self.complete + self.left + len(self.without_captions)
        assert done == sources, f"{done} sources were met of {sources}"
        named = {*(film.rows[0].source_id for film in self.shown), *self.without_captions[:NAMES_SHOWN]}
        names = uris_of(store, named) if named else {}
        lines = [line for film in self.shown for line in _shown(film, names)]
        used = ", ".join(f"{number} by {' '.join(who)}" for who, number in self.used.most_common())
        lines.append(f"captions used: {used or 'none'}; {self.scenes_without} of {self.scenes} clips have none")
        lines.append(
            f"{sources} sources: {self.told} told, {self.complete} were told before from the same captions, "
            f"{len(self.without_captions)} have no captions" + (f", {self.left} left" if self.left else "")
        )
        if self.without_captions:
            some = [names.get(source_id, source_id) for source_id in self.without_captions[:NAMES_SHOWN]]
            more = len(self.without_captions) - len(some)
            lines.append(f"  without captions: {', '.join(some)}" + (f" and {more} more" if more else ""))
            lines.append("  caption their clips first: the same command without --film")
        if self.answers or self.failures:
            lines.append(f"  {self.answers} answers, {self.tokens_in} tokens in, {self.tokens_out} tokens out")
        if self.by_rules:
            lines.append(f"  {self.by_rules} were told by rules, in part or whole: no answer about that could be used")
        lines += [f"  failed, {why}: {number}" for why, number in self.failures.most_common(NAMES_SHOWN)]
        if self.left:
            lines.append("  what is left is asked about again by the same command")
        if not self.told and not self.left:
            lines.append("nothing to tell")
        return "\n".join(lines)


def _shown(film: ToldFilm, names: Mapping[str, str]) -> Iterator[str]:
    """A telling as one reads it on a console."""
    source_id = film.rows[0].source_id
    yield f"{names.get(source_id, source_id)}:"
    for row in film.rows:
        text = cleaned(row.text)
        if row.kind == "chapter" and row.start_s is not None and row.end_s is not None:
            yield f"  {clock(row.start_s)} to {clock(row.end_s)}  {cleaned(row.title or '')}: {text}"
        else:
            yield f"  {row.question} {text}" if row.question else f"  {text}"
