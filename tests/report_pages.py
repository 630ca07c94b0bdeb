"""A page as a browser reads it, without a browser: for tests of what is on it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "img", "input", "rect", "path", "br"}
SAFE_TAGS = VOID - {"br"} | {
    *("html", "head", "title", "style", "script", "body", "header", "main", "section", "nav", "article", "figure"),
    *("figcaption", "details", "summary", "h1", "h2", "h3", "h4", "h5", "p", "a", "b", "bdi", "small", "span", "code"),
    *("dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "label", "select", "option", "button"),
    *("div", "video", "svg", "g", "text", "ul", "pre"),
}


class Page(HTMLParser):
    """A page's elements with their attributes, and the text inside each."""

    def __init__(self, path: Path):
        super().__init__(convert_charrefs=True)
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, f"not closed: {[e['tag'] for e in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        wanted = {name.replace("_", "-").rstrip("-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and all(e.get(n) == v for n, v in wanted.items())]

    @property
    def text(self) -> str:
        return " ".join(e["text"] for e in self.elements if e["tag"] == "body").replace("\u202f", " ")

    @property
    def data(self) -> dict[str, Any]:
        (script,) = self.all("script", id="report-data")
        return json.loads(script["text"])
