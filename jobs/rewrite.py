"""Short prompts in the descriptive style that a model is trained on, at inference.

prompts → a language model, its answers checked against the prompt → descriptions; or the prompt's own phrases in order
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from captioner.openai_api import BadServer, ServerGone
from captioner.rewrite import RewriteConfig, Rewritten, rewrite, rewrite_by_slots
from curation.model_files import BadModel
from jobs.caption_engines import EngineConfig, ServerConfig
from jobs.cli import parse
from jobs.runs import EXIT_INTERRUPTED, EXIT_STORE, MachineFault
from jobs.text_engine import text_model_of

__all__ = ["RewriteOptions", "main"]

EXIT_BAD_OPTION = 2
BY = {"model": "by the model", "slots": "by its own phrases, no model", "unchanged": "long enough, left as it is"}
EXIT_CODES = (
    "Exit codes: 0 done; 2 impossible options; 4 the model or this machine is at fault; 130 interrupted. A prompt that "
    "the model gets wrong is rewritten without it."
)


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """Rewrite short prompts in the style of the descriptive captions. Nothing that a prompt states is lost or changed.

    Attributes:
        prompt: The prompts.
        file: More of them, one a line.
        captioner: `vllm` runs a language model here; `openai` asks a server; `slots` needs no model and puts a prompt's
            own phrases in order. By default `openai` with --server, `vllm` with --model, else `slots`.
        model: For vllm a directory or a hub id; for openai the name that the server gives the model.
        server: Address of the server, as http://host:8000/v1. Its key is read from OPENAI_API_KEY, nowhere else. vLLM's
            is started by `python -m vllm.entrypoints.openai.api_server --model MODEL`, with the extra cpu as with gpu.
        json: Print a JSON object a line: prompt, text, by, problems.
        rewriting: How prompts are rewritten.
        engine: How vLLM runs.
        requests: How a server is asked.
    """

    prompt: tuple[str, ...] = ()
    file: Path | None = None
    captioner: Literal["slots", "vllm", "openai"] | None = None
    model: str | None = None
    server: str | None = None
    json: bool = False
    rewriting: RewriteConfig = field(default_factory=RewriteConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    requests: ServerConfig = field(default_factory=ServerConfig)

    def __post_init__(self) -> None:
        if not self.prompt and self.file is None:
            raise ValueError("prompt: give at least one, by --prompt or --file")
        name = self.captioner_name
        if name != "slots" and not self.model:
            raise ValueError(f"model: captioner={name} needs one, a directory or hub id, or a server's name for it")
        if (name == "openai") != bool(self.server):
            raise ValueError("server: captioner=openai needs an address, --server URL, and no other takes one")
        if name == "slots" and self.model:
            raise ValueError(f"model={self.model}: captioner=slots uses none")
        if self.server and self.model:
            self.requests.at(self.server, self.model)

    @property
    def captioner_name(self) -> str:
        return self.captioner or ("openai" if self.server else "vllm" if self.model else "slots")


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(RewriteOptions, prog="python -m jobs.rewrite", argv=argv, more=EXIT_CODES)
    try:
        done = rewritten(options)
    except (BadModel, BadServer, ValueError) as error:
        code, message = EXIT_BAD_OPTION, str(error)
    except (MachineFault, ServerGone) as error:
        code, message = EXIT_STORE, str(error)
    except KeyboardInterrupt:
        code, message = EXIT_INTERRUPTED, "interrupted"
    else:
        for one in done:
            print(json.dumps(asdict(one), ensure_ascii=False) if options.json else in_words(one))
        by = ", ".join(f"{number} {BY[how]}" for how, number in Counter(one.by for one in done).most_common())
        print(f"rewrite: {len(done)} prompts: {by}", file=sys.stderr)
        return 0
    print(f"rewrite: {message}", file=sys.stderr, flush=True)
    return code


def rewritten(options: RewriteOptions) -> list[Rewritten]:
    """Raises BadModel, BadServer, ServerGone, MachineFault, and ValueError for what is no prompt."""
    prompts = [*options.prompt, *(lines_of(options.file) if options.file else ())]
    # Without a model first: a prompt that has no word is refused before an engine is started.
    by_slots = [rewrite_by_slots(prompt, unchanged_words=options.rewriting.unchanged_words) for prompt in prompts]
    if options.captioner_name == "slots" or all(one.by == "unchanged" for one in by_slots):
        return by_slots
    model = text_model_of(str(options.model), options.server, options.engine, options.requests)
    print(f"rewrite: by {model.words}", file=sys.stderr, flush=True)
    return rewrite(prompts, model.ask, options.rewriting)


def lines_of(path: Path) -> list[str]:
    """Prompts of a file, one a line, without blank lines. Raises ValueError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"file={path}: cannot be read as text: {error}") from error
    if not any(lines):
        raise ValueError(f"file={path}: has no prompt")
    return list(filter(None, lines))


def in_words(one: Rewritten) -> str:
    """A prompt, what it became and how, for people."""
    lines = [one.prompt, f"  {BY[one.by]}: {one.text}"]
    lines += [f"  answer {number} refused: {why}" for number, why in enumerate(one.problems, start=1)]
    return "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
