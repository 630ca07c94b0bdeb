"""The windows of a long clip made one caption: what stays is said once, what changes in order of time.

After ShareGPT4Video (Chen et al. 2024), where each step tells what changed since the last; here the windows are
described apart and compared, so that the cost is linear in the clip's length and an error does not travel on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from captioner.clauses import Actor, actions_of, actor_of
from captioner.facts import Facts
from captioner.fields import UNKNOWN, CaptionFields
from captioner.fuse import fused, settled, told
from captioner.wording import camera_clause, head_of, joined, noun_phrase, phrase, same_words

__all__ = ["captions_of_windows", "merged_fields"]

T = TypeVar("T")
Window = tuple[float, float, CaptionFields]
"""Where it starts and ends in the clip, seconds, and what was said of it."""

# A caption is some 100 words; of more changes than these those between are left out evenly, first and last kept.
MAX_STEPS = 6
MAX_SUBJECTS, MAX_COLORS, MAX_TEXTS = 6, 6, 6


@dataclass(frozen=True, slots=True)
class _Step:
    """What somebody does in windows one after the other that say the same."""

    actor: Actor
    actions: tuple[str, ...]


def captions_of_windows(windows: Sequence[Window], facts: Facts | None) -> dict[str, str]:
    """`short`, `descriptive` and `motion` of a whole clip from its windows, in any order; as `fuse.captions_of`.

    Raises ValueError where there is no window.
    """
    facts = facts or Facts()
    in_time = [(start_s, end_s, settled(fields, facts)) for start_s, end_s, fields in sorted(windows, key=_times)]
    whole = merged_fields(in_time)
    steps = _steps([fields for _, _, fields in in_time])
    places = _distinct(noun_phrase(fields.setting) for _, _, fields in in_time)
    if len(places) > 1:
        whole = replace(whole, setting="")
    changes = [_place_change(places), _camera_change([fields for _, _, fields in in_time], facts)]
    acts = _told_in_order(steps)
    moves = _told_in_order([step for step in steps if step.actions], is_brief=True)
    short = _told_in_order([steps[0], steps[-1]] if len(steps) > 1 else steps, joints=("", "then "))
    return fused(whole, facts, short=short, acts=[*acts, *changes], moves=[*moves, changes[1]])


def merged_fields(windows: Sequence[Window]) -> CaptionFields:
    """What holds for the clip as a whole: subjects that are in most windows first, what differs by time left out.

    Of `action` the first window's; setting, style and the like where most windows that know them agree, otherwise the
    first window's. Raises ValueError where there is no window.
    """
    if not windows:
        raise ValueError("windows=[]: must hold at least one window")
    fields = [said for _, _, said in sorted(windows, key=_times)]
    return CaptionFields(
        subjects=_most(fields, lambda f: f.subjects, MAX_SUBJECTS, lambda text: noun_phrase(head_of(text))),
        action=next((f.action for f in fields if phrase(f.action)), ""),
        setting=_usual(f.setting for f in fields),
        background=_usual(f.background for f in fields),
        style=_usual(f.style for f in fields),
        lighting=_usual(f.lighting for f in fields),
        colors=_most(fields, lambda f: f.colors, MAX_COLORS, phrase),
        shot_type=_same(f.shot_type for f in fields),
        camera=_same(f.camera for f in fields),
        text=_most(fields, lambda f: f.text, MAX_TEXTS, str),
    )


def _times(window: Window) -> tuple[float, float]:
    return window[0], window[1]


def _most(
    fields: Sequence[CaptionFields], of: Callable[[CaptionFields], Sequence[str]], most: int, name: Callable[[str], str]
) -> tuple[str, ...]:
    """What most windows name first, each in its first and by `name` its only form."""
    form: dict[str, str] = {}
    count: Counter[str] = Counter()
    for said in fields:
        keys = {name(text).casefold(): text for text in reversed(of(said)) if phrase(text)}
        for key, text in reversed(keys.items()):
            form.setdefault(key, text)
            count[key] += 1
    return tuple(form[key] for key, _ in count.most_common(most))


def _usual(texts: Iterable[str]) -> str:
    """What most say that say anything; the first where none is said more often."""
    form: dict[str, str] = {}
    count: Counter[str] = Counter()
    for text in filter(phrase, texts):
        key = phrase(text).casefold()
        form.setdefault(key, text)
        count[key] += 1
    return form[count.most_common(1)[0][0]] if count else ""


def _same(values: Iterable[str]) -> str:
    """The one value that is known; `unknown` where there are several, because neither holds for the whole."""
    known = {value for value in values if value != UNKNOWN}
    return known.pop() if len(known) == 1 else UNKNOWN


def _steps(fields: Iterable[CaptionFields]) -> list[_Step]:
    """What is done, in order of time; said again for each change of who does it or of what."""
    steps: list[_Step] = []
    for said in fields:
        actions = actions_of(said.action)
        actor = actor_of(said.subjects, actions[0] if actions else "")
        step = _Step(actor, tuple(actions))
        if not told(actor, actions) or (steps and _is_same(steps[-1], step)):
            continue
        steps.append(step)
    return _some(steps)


def _is_same(one: _Step, other: _Step) -> bool:
    """However it was written: `walks` and `the man walks`."""
    return same_words(*(" ".join(told(step.actor.again(), step.actions)) for step in (one, other)))


def _told_in_order(
    steps: Sequence[_Step], *, is_brief: bool = False, joints: tuple[str, str] = ("at first, ", "at the end, ")
) -> list[str]:
    """`at first, a man in a coat walks; then the man sits down; at the end, a dog comes`; one step as it is.

    Who was named is not described again, and with `is_brief` never. `joints`: what begins the first and the last step.
    """
    if len(steps) < 2:
        return [said for step in steps for said in told(step.actor.again() if is_brief else step.actor, step.actions)]
    named: set[str] = set()
    clauses = []
    for at, step in enumerate(steps):
        is_known = step.actor.brief.casefold() in named
        named.add(step.actor.brief.casefold())
        when = joints[0] if at == 0 else joints[1] if at == len(steps) - 1 else "then "
        actor = step.actor.again() if is_brief or is_known else step.actor
        clauses.append(when + " and ".join(told(actor, step.actions)))
    return ["; ".join(clauses)]


def _place_change(places: Sequence[str]) -> str:
    if len(places) < 2:
        return ""
    first, second, *rest = _some(places)
    return f"the setting changes from {first} to {second}{''.join(f', then to {place}' for place in rest)}"


def _camera_change(fields: Iterable[CaptionFields], facts: Facts) -> str:
    """As the model tells it; nothing where the camera was measured, which holds for the whole clip."""
    if facts.camera is not None or facts.stillness == "still":
        return ""
    cameras = _distinct(camera_clause(said.camera) for said in fields)
    if len(cameras) < 2:
        return ""
    first, *rest = _some(cameras)
    return f"at first {first}, then it {joined(camera.removeprefix('the camera ') for camera in rest)}"


def _some(values: Sequence[T]) -> list[T]:
    """At most `MAX_STEPS`, the first, the last and evenly between."""
    if len(values) <= MAX_STEPS:
        return list(values)
    return [values[round(i * (len(values) - 1) / (MAX_STEPS - 1))] for i in range(MAX_STEPS)]


def _distinct(texts: Iterable[str]) -> list[str]:
    """Without those that say the same as the one before, and without empty ones."""
    kept: list[str] = []
    for text in texts:
        if text and not (kept and same_words(kept[-1], text)):
            kept.append(text)
    return kept
