"""What a captioner is told about a window: a template with slots, and the chat that it becomes with the frames.

A template of one's own may have the slots of `SLOTS`, each in braces, and no others; literal braces are doubled.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from captioner.facts import Facts, facts_prompt
from captioner.fields import SCHEMA
from captioner.windows import Window, WindowConfig
from curation.clip_frames import RGB
from curation.records import digest

__all__ = [
    "DEFAULT_TEMPLATE",
    "INSTRUCTIONS",
    "Template",
    "extra_body_of",
    "media_io",
    "messages_of",
    "prompt_id_of",
]

SLOTS = {
    "seconds": "how long the window is",
    "part": "which part of the clip the window is, empty where it is all of it",
    "times": "when each frame is shown, in seconds of the clip",
    "facts": "what was measured, a line each",
}
# Frames reach the engine as JPEG: at this quality, with full chroma, the error is below what any resizing leaves.
JPEG_QUALITY = 95
MAX_TEMPLATE_BYTES = 100_000
# Measured words have no brackets; a table from elsewhere may have some that end a turn of the chat.
NO_MARKS = str.maketrans("<>[]", "()()")

DEFAULT_TEMPLATE = """\
These are frames of {seconds} s of video{part}, shown at {times} s. Describe what is seen, for someone who is to paint \
it without having seen it.

{facts}

Rules. Say only what can be seen. Give no names of people or places unless they are written in the picture. Do not \
begin with "the video" or "the image". Do not guess what was before or comes after. Where something cannot be told, \
leave the field empty, or choose "unknown".
subjects: the main subject first, each with what makes it recognisable.
action: what the subjects do, in order of time, one sentence.
setting: where it is. background: what is behind the subjects.
style: kind of footage and look. lighting: kind and direction of light. colors: the main ones.
shot_type and camera: by their lists. text: words written in the picture, exactly, else none.
Answer with one JSON object."""

INSTRUCTIONS: dict[str, str] = {
    "short": "Describe the main subject in one short sentence.",
    "descriptive": "Describe this clip in detail.",
}
"""What a captioner is tuned on, by kind: it answers in plain text, and is asked the same to get what it learnt."""


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with slots. Raises ValueError where it has an unknown slot, naming the slot and those that there are."""

    text: str = DEFAULT_TEMPLATE

    def __post_init__(self) -> None:
        try:
            slots = [(name, spec, change) for _, name, spec, change in string.Formatter().parse(self.text)]
        except ValueError as error:
            raise ValueError(
                f"prompt: a brace is not closed or opened ({error}); double literal ones: {{{{ }}}}"
            ) from error
        for name, spec, change in slots:
            if name is not None and (name not in SLOTS or spec or change):
                raise ValueError(f"prompt: unknown slot {{{name}}}; there are " + ", ".join(f"{{{s}}}" for s in SLOTS))
        if not self.text.strip():
            raise ValueError("prompt: is empty")

    @staticmethod
    def read(path: Path) -> Template:
        """A template from a file of text. Raises ValueError naming the file."""
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for, a device has no end
                raise ValueError(f"prompt={path}: is no file")
            content = path.read_bytes()
            if len(content) > MAX_TEMPLATE_BYTES:
                raise ValueError(f"prompt={path}: larger than {MAX_TEMPLATE_BYTES} bytes")
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"prompt={path}: cannot be read: {error}") from error
        try:
            return Template(text)
        except ValueError as error:
            raise ValueError(f"prompt={path}: {str(error).removeprefix('prompt: ')}") from None

    def filled(self, window: Window, times_s: Sequence[float], facts: Facts) -> str:
        whole = window.index is None
        part = "" if whole else f" (from {window.start_s:.1f} s to {window.end_s:.1f} s of a longer clip)"
        return self.text.format(
            seconds=f"{window.end_s - window.start_s:.1f}",
            part=part,
            times=", ".join(f"{time_s:.2f}" for time_s in times_s),
            facts=facts_prompt(facts).translate(NO_MARKS),
        )


def prompt_id_of(template: Template, windows: WindowConfig) -> str:
    """Identity of how a model is asked: the template, the schema of its answer, and how clips are shown."""
    return digest("prompt", template.text, json.dumps(SCHEMA, sort_keys=True), json.dumps(asdict(windows)))[:16]


def messages_of(text: str, frames: Sequence[tuple[float, RGB]], windows: WindowConfig) -> list[dict[str, Any]]:
    """The chat of one request in OpenAI's format: the frames with their times, then the text."""
    jpegs = [_jpeg_base64(frame) for _, frame in frames]
    if windows.show_as == "video":
        shown: list[dict[str, Any]] = [
            {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64," + ",".join(jpegs)}}
        ]
    else:
        shown = []
        for (time_s, _), jpeg in zip(frames, jpegs, strict=True):
            shown.append({"type": "text", "text": f"{time_s:.2f} s:"})
            shown.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}})
    return [{"role": "user", "content": [*shown, {"type": "text", "text": text}]}]


def media_io(windows: WindowConfig) -> dict[str, Any]:
    """What tells vLLM the rate of a video's frames, and to take all of them: it takes 32 and one a second otherwise."""
    return {"video": {"fps": windows.sample_fps, "num_frames": -1}}


def extra_body_of(windows: WindowConfig) -> dict[str, Any]:
    """The same for a server; others than vLLM's may refuse it, and take pictures rather than video anyway."""
    return {"media_io_kwargs": media_io(windows)} if windows.show_as == "video" else {}


def _jpeg_base64(frame: RGB) -> str:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), parameters)
    assert done, "OpenCV encodes every picture of bytes"
    return base64.b64encode(jpeg.tobytes()).decode("ascii")
