"""From a template to a page that opens from a file: escaped throughout, and nothing in it runs but its own scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from curation import report_words as words

__all__ = ["rendered"]

# No network, no inline handlers, no script or style but the two whose hashes follow.
POLICY = (
    "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; "
    "script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
)


def rendered(template: str, scripts: Sequence[str], **content: Any) -> str:
    """The page: a template with the style sheet and the scripts put in."""
    environment = Environment(
        loader=PackageLoader("curation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("visible", "count", "number", "clock", "size")
    environment.filters.update({name: getattr(words, name) for name in filters})
    style, script = _asset("report.css"), "\n".join(map(_asset, scripts))
    return environment.get_template(template).render(
        policy=POLICY.format(script=_hash_of(script), style=_hash_of(style)),
        style=Markup(style),
        script=Markup(script),
        **content,
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
