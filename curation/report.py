"""A page to look at: what became of the footage, clips of every verdict to play, and how every score is distributed.

The page opens from a file, without a network. Everything in it that came from footage or its name passes through
Jinja's autoescape; a content security policy lets no script run but the page's own. All numbers are also embedded as
JSON, with bins and thresholds, so that a script in the page can compute what other thresholds would keep.
"""

from __future__ import annotations

import base64
import hashlib
import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from curation import report_view as view
from curation import report_words as words
from curation.report_charts import chart_of
from curation.report_clips import PlayConfig, remove_stale, write_players
from curation.report_data import (
    Funnel,
    ShownClip,
    kept_by_source,
    read_funnel,
    read_thresholds,
    sample_clips,
    sample_sources,
)
from curation.report_distributions import COLUMNS, Histogram, distributions
from curation.store import Store
from curation.verdicts import RULES, Thresholds

__all__ = ["Report", "ReportConfig", "write_report"]

# No network, no inline handlers, no script or style but the two whose hashes follow.
POLICY = (
    "default-src 'none'; img-src 'self' file: data:; media-src 'self' file:; "
    "script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
)
DATA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """What a report shows.

    Attributes:
        clips_per_reason: Most clips shown of those kept, and of those rejected for each reason.
        max_sources: Most sources listed.
        play: What it may cost to make the shown clips play.
    """

    clips_per_reason: int = 48
    max_sources: int = 2000
    play: PlayConfig = field(default_factory=PlayConfig)

    def __post_init__(self) -> None:
        for name in ("clips_per_reason", "max_sources"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the page to open, the funnel in a line, and what was left out, in words."""

    page: Path
    summary: str
    left_out: tuple[str, ...]


def write_report(
    store: Store, out: Path, config: ReportConfig, tell: Callable[[str], None] = lambda line: None
) -> Report:
    """Write `out/index.html` and the files that it plays. The same store gives the same page.

    `tell` is called with the progress in words. Raises StoreUnavailable where there is no store, NotADirectoryError
    and other OSErrors where `out` cannot be written.
    """
    sources, clips, runs = (store.open(table) for table in ("sources", "clips", "runs"))
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder")
    out.mkdir(parents=True, exist_ok=True)
    tell("counting")
    funnel = read_funnel(sources, clips)
    thresholds = read_thresholds(runs)
    judged_by = thresholds.get(next(iter(funnel.thresholds), ""))
    histograms = distributions(clips, judged_by)
    shown = sample_clips(clips, sources, funnel.clips, config.clips_per_reason, thresholds)
    players = write_players(shown, clips, out, config.play, tell)
    listed = sample_sources(sources, config.max_sources)
    kept = kept_by_source(clips, (row["source_id"] for row in listed))
    left_out = view.left_out_of(players.values())
    html = _render(
        store_uri=store.uri,
        store_name=posixpath.basename(store.uri) or store.uri,
        headline=view.headline(funnel),
        provenance=view.provenance_of(sources, clips, runs),
        tiles=view.tiles_of(funnel),
        warnings=[*view.warnings_of(funnel, thresholds), *left_out],
        is_empty=funnel.seen.count == 0 and funnel.found.count == 0,
        source_rows=view.source_funnel(funnel),
        clip_rows=view.clip_funnel(funnel),
        sections=view.sheets_of(funnel, shown, players, judged_by),
        columns=COLUMNS,
        charts=[chart_of(histogram) for histogram in histograms],
        found=funnel.found.count,
        seen=funnel.seen.count,
        sources=[view.source_row(row, kept[row["source_id"]]) for row in listed],
        data=_data(funnel, histograms, shown, judged_by),
    )
    _write_whole(out / "index.html", html)
    remove_stale(out, players.values())
    return Report(out / "index.html", view.summary_of(funnel), tuple(left_out))


def _render(**content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("curation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("visible", "count", "number", "clock", "size")
    environment.filters.update({name: getattr(words, name) for name in filters})
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    return environment.get_template("report.html.j2").render(
        policy=POLICY.format(script=_hash_of(script), style=_hash_of(style)),
        style=Markup(style),
        script=Markup(script),
        **content,
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _write_whole(path: Path, text: str) -> None:
    """Whoever has the page open never meets half of one."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


# -- for scripts


def _data(
    funnel: Funnel,
    histograms: Sequence[Histogram],
    shown: Mapping[str, Sequence[ShownClip]],
    judged_by: Thresholds | None,
) -> dict[str, Any]:
    """The page's numbers. Bins come with the rules that look at their column, clips with every score."""
    return {
        "version": DATA_VERSION,
        "thresholds_known": judged_by is not None,
        "sources": [{"state": s, "reason": r, "count": t.count} for (s, r), t in funnel.sources.items()],
        "outcomes": {reason: {"count": t.count, "seconds": t.seconds} for reason, t in funnel.clips.items()},
        "columns": [{"name": column.name, "says": column.says} for column in COLUMNS],
        "rules": [
            {
                "reason": rule.reason,
                "column": rule.column,
                "bound": rule.bound,
                "threshold": rule.threshold,
                "value": _finite(getattr(judged_by, rule.threshold)) if judged_by else None,
            }
            for rule in RULES
        ],
        "histograms": [
            {
                "column": h.column.name,
                "edges": h.edges,
                "labels": h.labels,
                "kept": h.kept,
                "rejected_here": h.rejected_here,
                "rejected_elsewhere": h.rejected_elsewhere,
                "missing": h.missing,
            }
            for h in histograms
        ],
        "clips": {
            clip.row["clip_id"]: {
                "reason": clip.reason,
                "uri": clip.source.get("uri"),
                "scores": {column.name: _finite(clip.row[column.name]) for column in COLUMNS},
            }
            for some in shown.values()
            for clip in some
        },
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: a threshold that is switched off is null."""
    return None if value is None or not math.isfinite(value) else value
