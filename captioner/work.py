"""What is to be asked of a captioner, and what becomes of an answer. No engine in here, and no Ray.

lacking_of: clips and what was said of them → windows to ask about, and captions that follow from answers that are there
finish: an answer → captions of every asked kind, with flags
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import lance

from captioner.captions import KINDS, Author, Caption, captions_among, request_id_of
from captioner.checks import CheckConfig, flags_of
from captioner.facts import CLIP_COLUMNS as FACTS_COLUMNS
from captioner.facts import Facts, facts_of, facts_of_part
from captioner.fields import SCHEMA, BadFields, CaptionFields, fields_of, to_json
from captioner.fuse import captions_of
from captioner.hostile_text import cleaned, has_control_characters, has_markup
from captioner.merge import captions_of_windows
from captioner.openings import has_stock_opening, without_stock_opening
from captioner.prompts import Template, extra_body_of, messages_of
from captioner.requests import Answer, Request
from captioner.windows import Window, WindowConfig, sample_times_s, windows_of
from curation.clip_frames import TIMED_CLIP_COLUMNS, frames_at
from curation.reader import DamagedClip, ReadableFile

__all__ = [
    "CLIP_COLUMNS",
    "Asking",
    "Lacking",
    "Task",
    "damaged",
    "failing",
    "finish",
    "lacking_of",
    "request_of",
    "wanted_rows",
]

SPAN_COLUMNS = ("source_id", "start_pts", "end_pts", "time_base_num", "time_base_den", "start_s", "duration_s")
CLIP_COLUMNS = tuple(dict.fromkeys((*TIMED_CLIP_COLUMNS, *SPAN_COLUMNS, *FACTS_COLUMNS)))
"""What is read of a clip to caption it."""
LOOK_UP_CLIPS = 500  # whole rows of as many are in memory at once
# A model that always takes the likeliest word gives the same answer to the same question.
AGAIN_TEMPERATURE = 0.7
MAX_UNREADABLE = 2000


@dataclass(frozen=True, slots=True)
class Asking:
    """All that decides what is asked, and of whom. With `ask` as `fields` the model fills in a schema, from which the
    kinds are made; with `text` there is one kind, of which the model writes the text itself."""

    author: Author
    kinds: tuple[str, ...] = KINDS
    windows: WindowConfig = field(default_factory=WindowConfig)
    template: Template = field(default_factory=Template)
    checks: CheckConfig = field(default_factory=CheckConfig)
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    ask: Literal["fields", "text"] = "fields"

    def __post_init__(self) -> None:
        assert self.ask == "fields" or len(self.kinds) == 1, "a text is of one kind"


@dataclass(frozen=True, slots=True)
class Task:
    """A window that is to be described: its clip's row and row id, and which attempt this is, from 1."""

    row: Mapping[str, Any]
    row_id: int
    window: Window
    attempt: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Task:
        values = json.loads(text)
        return Task(**{**values, "window": Window(**values["window"])})


@dataclass(frozen=True, slots=True)
class Lacking:
    """What is to be done for some clips. `counts`: windows that are `complete`, `to_ask`, `derived`."""

    tasks: list[Task]
    captions: list[Caption]
    counts: Counter[str]


# -- before an engine


def wanted_rows(clips: lance.LanceDataset, where: str, limit: int = 0) -> Iterator[list[dict[str, Any]]]:
    """Clips that meet a condition and have video, in chunks, `_rowid` included; the first `limit` of them, 0 for all.

    The same clips whatever is to be written of them, and whatever they lack.
    """
    left = limit or None
    columns = [*(name for name in CLIP_COLUMNS if name in clips.schema.names), "video_bytes"]
    for batch in clips.to_batches(columns=columns, filter=where, with_row_id=True, batch_size=LOOK_UP_CLIPS):
        rows = [row for row in batch.to_pylist() if row.pop("video_bytes") is not None][:left]
        yield rows
        left = None if left is None else left - len(rows)
        if left == 0:
            return


def lacking_of(rows: Sequence[dict[str, Any]], captions: lance.LanceDataset, asking: Asking) -> Lacking:
    """What clips lack. What follows from answers that are in the table is made of them: kinds that were not asked for
    then, and captions of whole clips once all of their windows have been described."""
    said = _said(rows, captions, asking.author)
    tasks: list[Task] = []
    ready: list[Caption] = []
    counts: Counter[str] = Counter()
    for row in rows:
        answers: list[tuple[Window, dict[str, Any] | None]] = []
        for window in windows_of(row, asking.windows.window_s):
            of_window = said.get((row["clip_id"], window.start_pts, window.end_pts), {})
            missing = [kind for kind in asking.kinds if kind not in of_window]
            answered = next((a for a in of_window.values() if _read(a["fields"]) is not None), None)
            answers.append((window, answered or next(iter(of_window.values()), None)))
            if not missing:
                counts["complete"] += 1
            elif answered is not None:
                counts["derived"] += 1
                ready += _derived(row, window, missing, answered, asking)
            else:
                counts["to_ask"] += 1
                tasks.append(Task({k: v for k, v in row.items() if k != "_rowid"}, row["_rowid"], window))
        if len(answers) > 1:
            ready += _whole(row, answers, said.get((row["clip_id"], row["start_pts"], row["end_pts"]), {}), asking)
    return Lacking(tasks, ready, counts)


Said = dict[tuple[str, int, int], dict[str, dict[str, Any]]]


def _said(rows: Sequence[Mapping[str, Any]], captions: lance.LanceDataset, author: Author) -> Said:
    columns = ["clip_id", "kind", "window_start_pts", "window_end_pts", "text", "fields", "attempts", "seed"]
    said: Said = {}
    for row in captions_among(captions, [row["clip_id"] for row in rows], author, [*columns, "request_id"]):
        said.setdefault((row["clip_id"], row["window_start_pts"], row["window_end_pts"]), {})[row["kind"]] = row
    return said


def _read(fields: str | None) -> CaptionFields | None:
    """The fields of an answer; None where it was unreadable, or there was none."""
    try:
        return None if fields is None else fields_of(fields)
    except BadFields:
        return None


def _derived(
    row: Mapping[str, Any], window: Window, kinds: Iterable[str], answered: Mapping[str, Any], asking: Asking
) -> list[Caption]:
    fields = _read(answered["fields"])
    assert fields is not None
    base = _caption(row, window, asking.author)
    base = replace(
        base,
        fields=answered["fields"],
        request_id=answered["request_id"],
        seed=answered["seed"],
        attempts=answered["attempts"],
    )
    facts = _facts(row, window)
    return _texts(base, _fused(fields, facts), kinds, fields, facts, asking.checks)


def _whole(
    row: Mapping[str, Any],
    answers: Sequence[tuple[Window, Mapping[str, Any] | None]],
    present: Mapping[str, Any],
    asking: Asking,
) -> list[Caption]:
    """Captions of a whole clip from those of its windows; none while a window was not asked about. Where nothing could
    be said of a window they are flagged `incomplete`."""
    missing = [kind for kind in asking.kinds if kind not in present]
    if not missing or any(answered is None for _, answered in answers):
        return []
    whole = Window(None, row["start_pts"], row["end_pts"], 0.0, row["duration_s"])
    if asking.ask == "text":
        told = [answered["text"] for _, answered in answers if answered and answered["text"]]
        texts = {asking.kinds[0]: _one_after_another(told)}
        made = _texts(_caption(row, whole, asking.author), texts, missing, None, facts_of(row), asking.checks)
        return [_flagged(caption, ["incomplete"] * (0 < len(told) < len(answers))) for caption in made]
    parts = [
        (window.start_s, window.end_s, fields)
        for window, answered in answers
        if answered is not None and (fields := _read(answered["fields"])) is not None
    ]
    parts = [part for part in parts if part[2] != CaptionFields()]
    texts = captions_of_windows(parts, facts_of(row)) if parts else {}
    made = _texts(_caption(row, whole, asking.author), texts, missing, None, facts_of(row), asking.checks)
    return [_flagged(caption, ["incomplete"] * (0 < len(parts) < len(answers))) for caption in made]


def _one_after_another(texts: Iterable[str]) -> str:
    """The texts of windows in order of time; what says the same as the one before is not said again."""
    told: list[str] = []
    for text in texts:
        if not told or text != told[-1]:
            told.append(text)
    return " ".join(told)


def _facts(row: Mapping[str, Any], window: Window) -> Facts:
    """What was measured and holds of a window."""
    facts = facts_of(row)
    return facts if window.index is None else facts_of_part(facts, window.end_s - window.start_s)


def _fused(fields: CaptionFields, facts: Facts) -> dict[str, str]:
    """Texts of what a model said, and none where it said nothing: facts alone are not its words."""
    return {} if fields == CaptionFields() else captions_of(fields, facts)


def request_of(task: Task, video: ReadableFile, asking: Asking) -> Request:
    """Decode the frames of a window, no more than it needs, and ask. Raises DamagedClip, and what `video` raises."""
    windows = asking.windows
    times_s = sample_times_s(task.window, windows.sample_fps)
    pixels = min(windows.frame_pixels, windows.window_pixels // len(times_s))
    try:
        frames = frames_at(task.row, video, times_s, pixels)
    except (MemoryError, ValueError) as error:  # FFmpeg's refusals of what damage claims: sizes, formats
        raise DamagedClip(f"a frame cannot be converted ({error})") from error
    text = asking.template.filled(task.window, [time_s for time_s, _ in frames], _facts(task.row, task.window))
    return Request(
        request_id_of(task.row["clip_id"], task.window, asking.author, task.attempt),
        messages_of(text, frames, windows),
        schema=SCHEMA if asking.ask == "fields" else None,
        max_tokens=asking.max_tokens,
        temperature=asking.temperature if task.attempt == 1 else max(asking.temperature, AGAIN_TEMPERATURE),
        seed=asking.seed + task.attempt - 1,
        extra_body=extra_body_of(windows),
    )


# -- after an engine


def finish(task: Task, answer: Answer, asking: Asking) -> list[Caption]:
    """Captions of every asked kind from an answer, flagged where the checks find something. It has no `error`."""
    assert answer.error is None
    base = replace(
        _caption(task.row, task.window, asking.author),
        request_id=answer.request_id,
        seed=asking.seed + task.attempt - 1,
        attempts=task.attempt,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        finish_reason=answer.finish_reason,
    )
    facts, as_it_came = _facts(task.row, task.window), _flags_as_it_came(answer.text)
    if asking.ask == "text":
        made = _texts(base, {asking.kinds[0]: answer.text}, asking.kinds, None, facts, asking.checks)
        return [_flagged(caption, as_it_came) for caption in made]
    try:
        fields = fields_of(answer.text)
    except BadFields:
        flags = tuple(sorted({"schema"} | ({"truncated"} if answer.finish_reason == "length" else set())))
        begun = answer.text[: 2 * MAX_UNREADABLE]  # it may be of any length
        unreadable = json.dumps({"unreadable": cleaned(begun)[:MAX_UNREADABLE]})
        return [replace(base, kind=kind, flags=flags, fields=unreadable) for kind in asking.kinds]
    # An object that is complete was not cut off, even where it took the last token that it had.
    base = replace(base, fields=to_json(fields), finish_reason="stop")
    made = _texts(base, _fused(fields, facts), asking.kinds, fields, facts, asking.checks)
    return [_flagged(caption, as_it_came) for caption in made]


def damaged(task: Task, asking: Asking) -> list[Caption]:
    """What is said of a clip whose bytes cannot be decoded: nothing, and why."""
    base = replace(_caption(task.row, task.window, asking.author), attempts=task.attempt)
    return [replace(base, kind=kind, flags=("damaged_clip",)) for kind in asking.kinds]


def failing(captions: Iterable[Caption]) -> bool:
    """Whether these are worth asking again."""
    return any(caption.flags and caption.flags != ("damaged_clip",) for caption in captions)


def _flags_as_it_came(text: str) -> list[str]:
    """What was wrong with an answer before it was cleaned: it may be more than what was taken out."""
    try:
        values = list(_strings(json.loads(text, strict=False)))
    except (ValueError, RecursionError):
        values = [text]
    found = {
        "markup": any(map(has_markup, values)),
        "control_characters": any(map(has_control_characters, values)),
        "stock_opening": any(map(has_stock_opening, values)),
    }
    return [flag for flag, is_so in found.items() if is_so]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _flagged(caption: Caption, flags: Iterable[str]) -> Caption:
    """The caption with more flags; one without a text says enough by its own."""
    if caption.text is None:
        return caption
    return replace(caption, flags=tuple(sorted({*caption.flags, *flags})))


def _caption(row: Mapping[str, Any], window: Window, author: Author) -> Caption:
    return Caption(
        clip_id=row["clip_id"],
        source_id=row["source_id"],
        kind="",
        text=None,
        window_index=window.index,
        window_start_pts=window.start_pts,
        window_end_pts=window.end_pts,
        captioner=author.captioner,
        model=author.model,
        model_revision=author.revision,
        prompt_id=author.prompt_id,
        attempts=1,
    )


def _texts(
    base: Caption,
    texts: Mapping[str, str],
    kinds: Iterable[str],
    fields: CaptionFields | None,
    facts: Facts,
    checks: CheckConfig,
) -> list[Caption]:
    """A caption of each kind, checked. A kind of which the answer says nothing has no text and a flag."""
    made = []
    for kind in kinds:
        text = without_stock_opening(cleaned(texts.get(kind, "")))
        if not text:
            made.append(replace(base, kind=kind, flags=("empty",)))
            continue
        flags = flags_of(
            text, kind=kind, fields=fields, facts=facts, finish_reason=base.finish_reason, agreement=None, config=checks
        )
        made.append(replace(base, kind=kind, text=text, flags=flags))
    return made
