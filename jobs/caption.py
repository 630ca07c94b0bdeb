"""Captions of clips, on Ray; with --film, whole sources told from the captions of their clips.

clips that lack the asked captions → windows → frames, decoded beside the engine → the captioner → checks → captions,
committed as they come → what failed a check, asked again → whole clips from their windows → funnel
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Literal

from captioner.captions import KINDS, Author, Kind
from captioner.checks import CheckConfig
from captioner.film import FilmConfig
from captioner.openai_api import BadServer, ServerGone, check_server
from captioner.originals import BadSideText, read_originals_table
from captioner.prompts import INSTRUCTIONS, Template, prompt_id_of
from captioner.windows import WindowConfig
from captioner.work import Asking
from curation.model_files import BadModel, content_id, model_directory
from curation.store import Store
from jobs.caption_agreement import judge_by
from jobs.caption_engines import (
    EngineConfig,
    ServerConfig,
    answered_by_server,
    answered_by_vllm,
    refuse_unless_vision_model,
)
from jobs.caption_film import BY_RULES, FilmOptions, Films, Teller, questions_of, tell_sources, teller_of
from jobs.caption_plain import write_facts, write_originals
from jobs.caption_windows import Answered, Answers, Captioning, Requests, caption_windows
from jobs.cli import parse
from jobs.conditions import refuse_unless_condition
from jobs.runs import EXIT_CODES, EXIT_OVER_BUDGET, MachineFault, exit_code_of, job_run, say
from jobs.text_engine import text_model_of

__all__ = ["CaptionOptions", "main"]

EXIT_BAD_CAPTIONER = 2
MAX_SEED = 1 << 31  # engines and servers take 32 bits, some of them with a sign
WITHOUT_TABLE = ("beside", "none")
TUNED_MARK = "tuning.json"  # jobs.tune leaves it beside the model

Ask = Literal["fields", "text"]


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """Captions for the kept clips of a store that lack them. Nothing that is there is asked for again.

    Attributes:
        store: Folder or address of the store.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        captioner: `vllm` runs a vision-language model here; `openai` asks a server of that API; `facts` needs no model
            and says what was measured. By default `vllm` with --model, `openai` with --server, else `facts`.
        model: For vllm a directory that all nodes see, or a hub id; for openai the model's name on the server.
        server: Address of the server, as http://host:8000/v1. Its key is read from OPENAI_API_KEY, nowhere else. vLLM's
            is started by `python -m vllm.entrypoints.openai.api_server --model MODEL`, with the extra cpu as with gpu.
        kinds: Kinds of captions to write.
        where: SQL condition on the columns of `clips`; only clips that have video can be shown.
        limit: Only the first so many of these clips, for all that is written, the text that came with the footage too;
            with --film the first so many sources. 0 for all.
        ask: `fields` has the model fill in a schema, from which the kinds are made; `text` has it write each kind,
            which is what a model knows that jobs.tune made, and is the default for a directory of one.
        prompt: File with a prompt of your own; see captioner/prompts.py for its slots.
        originals: Keep the text that came with the footage as kind `original`: from a file beside the source (.txt,
            .json, .vtt, .srt), or from this table (.csv, .jsonl, .parquet), or `none`.
        attempts: How often a window is asked about at most, with another seed each time, before an answer that fails
            the checks is kept with its flags.
        max_tokens: Longest answer.
        temperature: Of the first attempt; later ones vary more.
        seed: Of the first attempt; each later one has the next.
        agreement_model: Image-text model by whose embeddings caption and clip are compared: a directory or hub id;
            `auto` for the one whose embeddings the store has, where it is still there; `none`.
        max_failed_share: Exit with 1 if more than this share of the windows, or sources, got no answer.
        film: Tell whole sources from the captions that are in the store: a synopsis, chapters, answers. Without a model
            rules take sentences from the captions.
        questions: To be answered about each source, with --film.
        windows: How a clip is shown.
        checks: What a caption must pass.
        engine: How vLLM runs.
        requests: How a server is asked.
        films: How whole sources are told.
    """

    store: str
    storage_options: dict[str, str] | None = None
    captioner: Literal["facts", "vllm", "openai"] | None = None
    model: str | None = None
    server: str | None = None
    kinds: tuple[Kind, ...] = KINDS
    where: str = "keep"
    limit: int = 0
    ask: Ask | None = None
    prompt: Path | None = None
    originals: str = "beside"
    attempts: int = 3
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    agreement_model: str = "auto"
    max_failed_share: float = 0.1
    film: bool = False
    questions: tuple[str, ...] = ()
    windows: WindowConfig = field(default_factory=WindowConfig)
    checks: CheckConfig = field(default_factory=CheckConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    requests: ServerConfig = field(default_factory=ServerConfig)
    films: FilmOptions = field(default_factory=FilmOptions)

    def __post_init__(self) -> None:
        captioner = self.captioner_name
        if captioner == "vllm" and not self.model:
            raise ValueError("model: captioner=vllm needs a directory or a hub id")
        if captioner == "openai" and not (self.server and self.model):
            raise ValueError("server: captioner=openai needs an address and a model's name, --server URL --model NAME")
        if self.server and self.model:
            self.requests.at(self.server, self.model)
        if captioner == "facts" and (self.prompt or self.ask):
            raise ValueError("captioner=facts: is asked nothing; leave out --prompt and --ask")
        if captioner == "facts" and (self.model or self.server):
            raise ValueError("captioner=facts: uses no model and no server; leave out --model and --server")
        if captioner == "vllm" and self.server:
            raise ValueError(f"server={self.server}: is for captioner=openai")
        if questions_of(self.questions) and not self.film:
            raise ValueError("questions: are answered about whole sources; give --film as well")
        if not self.kinds:
            raise ValueError("kinds: give at least one of short, descriptive, motion")
        for name in ("attempts", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.temperature < inf:
            raise ValueError(f"temperature={self.temperature}: must be from 0 on and finite")
        if self.limit < 0:
            raise ValueError(f"limit={self.limit}: must not be negative")
        if not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"seed={self.seed}: must be from 0 on and below {MAX_SEED}")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share={self.max_failed_share}: must be within 0 and 1")

    @property
    def captioner_name(self) -> str:
        return self.captioner or ("openai" if self.server else "vllm" if self.model else "facts")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(CaptionOptions, prog="python -m jobs.caption", argv=argv, more=EXIT_CODES)
    try:
        return exit_code_of("caption", lambda: caption(options))
    except (BadModel, BadServer, BadOption, BadSideText) as error:
        print(f"caption: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_CAPTIONER


class BadOption(Exception):
    """What an option names cannot be used. The message names it and says what to do."""


def caption(options: CaptionOptions) -> int:
    """Run the job; the exit code.

    Raises StoreBusy, StoreUnavailable, LeaseLost, MachineFault, BadModel, BadServer, BadOption, BadSideText.
    """
    store = Store.at(options.store, options.storage_options)
    version = store.open("clips").version  # before anything is made: a wrong path must not become a new store
    refuse_unless_condition(store, options.where, "caption")
    if options.film:
        return film(options, store, version)
    # Everything that can be refused is looked at before the run begins.
    table = None if options.originals in WITHOUT_TABLE else read_originals_table(options.originals)
    captioner = None if options.captioner_name == "facts" else captioner_of(options)
    judge = judge_by(store, options.agreement_model, options.checks) if captioner else None
    with job_run(store, "caption", options, lease_name="captions") as run:
        say(f"captions by {captioner.words if captioner else 'facts: what was measured, no model'}")
        counts: Counter[str] = Counter()
        if options.originals != "none":
            write_originals(run, version, options.where, options.limit, table, options.checks, counts)
        failed_share = 0.0
        if captioner is None or judge is None:
            write_facts(run, version, options.where, options.kinds, options.limit, counts)
        else:
            limits = options.limit, options.attempts, options.engine.task_cpus
            try:
                for asking in captioner.askings:
                    job = Captioning(run, version, options.where, *limits, asking, captioner.answered, judge)
                    failed_share = max(failed_share, caption_windows(job, counts))
            except ServerGone as error:
                raise MachineFault(str(error)) from error
            finally:
                run.counts = dict(counts)
        run.counts = dict(counts)
        return EXIT_OVER_BUDGET if failed_share > options.max_failed_share else 0


def film(options: CaptionOptions, store: Store, version: int) -> int:
    """Run the job for whole sources; the exit code. Raises as `caption` does."""
    questions = questions_of(options.questions)
    try:
        teller = film_teller(options, questions)
    except ValueError as error:
        raise BadOption(str(error)) from None
    with job_run(store, "caption", options, lease_name="captions") as run:
        say(f"sources told by {teller.words}")
        job = Films(run, version, options.where, options.limit, questions, teller, options.films.scenes_at_once)
        return EXIT_OVER_BUDGET if tell_sources(job) > options.max_failed_share else 0


def film_teller(options: CaptionOptions, questions: Sequence[str]) -> Teller:
    """Raises BadModel, BadServer, ValueError."""
    if options.captioner_name == "facts":
        return BY_RULES
    config = FilmConfig(attempts=options.attempts, temperature=options.temperature, seed=options.seed)
    asked = options.engine, options.requests, options.films.context_tokens
    model = text_model_of(str(options.model), options.server, *asked)
    return teller_of(model, options.films, questions, config)


@dataclass(frozen=True, slots=True)
class Captioner:
    """A captioner with a model: who it is in words, what is asked of it, and how it is asked."""

    words: str
    askings: tuple[Asking, ...]
    answered: Answered


def captioner_of(options: CaptionOptions) -> Captioner:
    """The captioner that is asked for, looked at before it is started. Raises BadModel, BadServer, BadOption."""
    model = str(options.model)
    if options.captioner_name == "vllm":
        directory = model_directory(model)
        refuse_unless_vision_model(model, directory)
        name = directory.resolve().name if Path(model).is_dir() else model
        who = "vllm", name, content_id("model", directory)
        is_tuned = (directory / TUNED_MARK).is_file()
        words = f"vLLM, run here, with the model {model}"

        # A hub id is found by every node; a directory has to be seen by all of them.
        source = str(directory.resolve()) if Path(model).is_dir() else model

        def answered(requests: Requests, attempt: int, is_careful: bool) -> Answers:
            seed = options.seed + attempt - 1
            return answered_by_vllm(requests, source, options.windows, options.engine, seed, is_careful=is_careful)

    else:
        server = options.requests.at(str(options.server), model)
        check_server(server)
        who = "openai", model, ""  # its name is all that is known of a server's model
        is_tuned = False
        words = f"the server {options.server} with its model {model}"

        def answered(requests: Requests, attempt: int, is_careful: bool) -> Answers:
            return answered_by_server(requests, server)

    ask = options.ask or ("text" if is_tuned else "fields")
    askings = tuple(_asking(options, who, ask, kinds, template) for kinds, template in templates_of(options, ask))
    return Captioner(words, askings, answered)


def templates_of(options: CaptionOptions, ask: Ask) -> list[tuple[tuple[Kind, ...], Template]]:
    """What is asked, and of which kinds. Raises BadOption."""
    if ask == "text":
        if options.prompt is not None:
            raise BadOption(f"prompt={options.prompt}: is for --ask fields; with text each kind has its instruction")
        kinds: list[Kind] = [kind for kind in options.kinds if kind in INSTRUCTIONS]
        if not kinds:
            raise BadOption(f"kinds={' '.join(options.kinds)}: with --ask text there are {' and '.join(INSTRUCTIONS)}")
        return [((kind,), Template(INSTRUCTIONS[kind])) for kind in kinds]
    try:
        return [(options.kinds, Template() if options.prompt is None else Template.read(options.prompt))]
    except ValueError as error:
        raise BadOption(str(error)) from None


def _asking(
    options: CaptionOptions, who: tuple[str, str, str], ask: Ask, kinds: tuple[Kind, ...], template: Template
) -> Asking:
    author = Author(*who, prompt_id_of(template, options.windows))
    asked = options.max_tokens, options.temperature, options.seed
    return Asking(author, kinds, options.windows, template, options.checks, *asked, ask)


if __name__ == "__main__":
    sys.exit(main())
