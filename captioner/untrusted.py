"""Text that is not ours, on its way into a prompt and out of an answer: it is data, whatever it says."""

from __future__ import annotations

import json
import re
import unicodedata

__all__ = ["as_data", "markup_in", "without_control_characters"]

# Read by renderers, chat templates or terminals as something else than words.
MARKUP = re.compile(
    r"</?[a-zA-Z!][^<>]*>?|<\||\|>|\[/?INST\]|```|`[^`]+`|\*\*|__\w|^\s*#{1,6}\s|^\s*[-*•]\s|!?\[[^\]]*\]\(|"
    r"\{\{|\}\}|[{}]|&#?\w+;|https?://|www\.|^\s*(?:system|assistant|user)\s*:|\\[nrtu]",
    re.IGNORECASE | re.MULTILINE,
)
# They change the order in which the rest is shown.
BIDIRECTIONAL = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def as_data(text: str) -> str:
    """A JSON string that no chat template reads as its own marks: `<|im_end|>` and `[INST]` lose their brackets."""
    quoted = json.dumps(without_control_characters(text), ensure_ascii=False)
    return re.sub(r"[<>\[\]]", lambda bracket: f"\\u{ord(bracket[0]):04x}", quoted)


def without_control_characters(text: str) -> str:
    """Each run of control characters and white space becomes one space."""
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in BIDIRECTIONAL.sub(" ", text))
    return " ".join(visible.split())


def markup_in(text: str) -> str | None:
    """What in a text is markup, a control character or an address rather than plain words; None where nothing is."""
    if found := MARKUP.search(text):
        return found[0].strip()
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Co") or BIDIRECTIONAL.match(character):
            return f"U+{ord(character):04X}"
    return None
