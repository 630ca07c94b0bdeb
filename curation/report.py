"""A page to look at: what became of the footage, clips of every verdict to play, and how every score is distributed.

The page opens from a file, without a network. Everything in it that came from footage or its name passes through
Jinja's autoescape; a content security policy lets no script run but the page's own. All numbers are also embedded as
JSON, with bins, thresholds and the scores of many clips, from which the page computes what other thresholds would keep.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from curation import report_view as view
from curation import report_words as words
from curation.report_caption_words import section_of
from curation.report_captions import CaptionCounts, captions_of, flagged_clips, read_captions
from curation.report_charts import chart_of
from curation.report_clips import PlayConfig, remove_stale, write_players
from curation.report_data import (
    KEPT,
    Funnel,
    ShownClip,
    kept_by_source,
    read_funnel,
    read_thresholds,
    sample_clips,
    sample_sources,
)
from curation.report_distributions import SIZE_COLUMN, Column, Histogram, distributions
from curation.report_films import read_films
from curation.report_page import rendered
from curation.report_training import Training, training_data, training_section
from curation.report_whatif import what_if_data
from curation.score_batches import model_scores_by_clip
from curation.store import Store
from curation.verdicts import RULES, Thresholds
from curation.whole_files import write_whole

__all__ = ["Report", "ReportConfig", "write_report"]

DATA_VERSION = 2
SCRIPTS = ("report.js", "captions.js", "what_if.js", "sliders.js")


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """What a report shows.

    Attributes:
        clips_per_reason: Most clips shown of those kept, and of those rejected for each reason.
        clips_per_flag: Clips with a caption of each flag that are shown; where the fair draw has fewer, some are added.
        max_sources: Most sources listed.
        slider_clips: Most clips whose scores are in the page, for its sliders: about 200 bytes each. Of a larger store
            a fair draw is taken, and counts are scaled.
        play: What it may cost to make the shown clips play.
    """

    clips_per_reason: int = 48
    clips_per_flag: int = 12
    max_sources: int = 2000
    slider_clips: int = 100_000
    play: PlayConfig = field(default_factory=PlayConfig)

    def __post_init__(self) -> None:
        for name in ("clips_per_reason", "max_sources", "slider_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.clips_per_flag < 0:
            raise ValueError(f"clips_per_flag={self.clips_per_flag}: must not be negative")


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the page to open, the funnel in a line, and what was left out, in words."""

    page: Path
    summary: str
    left_out: tuple[str, ...]


def write_report(
    store: Store,
    out: Path,
    config: ReportConfig,
    tell: Callable[[str], None] = lambda line: None,
    training: Training | None = None,
) -> Report:
    """Write `out/index.html` and the files that it plays. The same store and runs give the same page.

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
    histograms = distributions(store, judged_by)
    columns = [h.column for h in histograms if h.column.name != SIZE_COLUMN]
    shown = sample_clips(clips, sources, funnel.clips, config.clips_per_reason, thresholds)
    counts = read_captions(store)
    added = flagged_clips(store, counts, ids_of(shown), config.clips_per_flag, thresholds)
    if added:
        shown = {**shown, KEPT: [*shown[KEPT], *(clip for some in added.values() for clip in some)]}
    shown_for = {clip.row["clip_id"]: flag for flag, some in added.items() for clip in some}
    shown = with_models(store, shown, [column.name for column in columns])
    players = write_players(shown, clips, out, config.play, tell)
    listed = sample_sources(sources, config.max_sources)
    kept = kept_by_source(clips, (row["source_id"] for row in listed))
    left_out = view.left_out_of(players.values())
    trained = training_section(training, out)
    html = rendered(
        "report.html.j2",
        SCRIPTS,
        store_uri=store.uri,
        store_name=posixpath.basename(store.uri) or store.uri,
        headline=view.headline(funnel),
        provenance=view.provenance_of(sources, clips, runs),
        tiles=view.tiles_of(funnel),
        warnings=[*view.warnings_of(funnel, thresholds), *left_out],
        is_empty=funnel.seen.count == 0 and funnel.found.count == 0,
        source_rows=view.source_funnel(funnel),
        clip_rows=view.clip_funnel(funnel),
        sections=view.sheets_of(funnel, shown, players, judged_by, captions_of(store, ids_of(shown)), shown_for),
        captions=section_of(counts) if counts and counts.speakers else None,
        can_have_captions=counts is not None,
        films=read_films(store, players.keys()),
        training=trained,
        columns=columns,
        charts=[chart_of(histogram) for histogram in histograms],
        found=funnel.found.count,
        seen=funnel.seen.count,
        sources=[view.source_row(row, kept[row["source_id"]]) for row in listed],
        data=_data(funnel, histograms, columns, shown, judged_by)
        | {
            "store": store.uri,
            "captions": caption_data(counts),
            "what_if": what_if_data(store, histograms, judged_by, config.slider_clips),
        }
        | ({"training": training_data(training)} if training else {}),
    )
    write_whole(out / "index.html", html)
    remove_stale(out, players.values())
    return Report(out / "index.html", view.summary_of(funnel), tuple(left_out))


def ids_of(shown: Mapping[str, Sequence[ShownClip]]) -> list[str]:
    return [clip.row["clip_id"] for some in shown.values() for clip in some]


def with_models(
    store: Store, shown: Mapping[str, Sequence[ShownClip]], names: Sequence[str]
) -> dict[str, list[ShownClip]]:
    """The same clips with what models said of them."""
    said = model_scores_by_clip(store, ids_of(shown), names)
    return {
        reason: [replace(clip, row={**clip.row, **said[clip.row["clip_id"]]}) for clip in some]
        for reason, some in shown.items()
    }


# -- for scripts


def caption_data(counts: CaptionCounts | None) -> dict[str, Any] | None:
    """All captions, counted."""
    if counts is None:
        return None
    return {
        "speakers": [speaker._asdict() | asdict(tally) for speaker, tally in counts.speakers.items()],
        "flags": counts.flags,
        "words": counts.words,
        "missing": asdict(counts.missing),
    }


def _data(
    funnel: Funnel,
    histograms: Sequence[Histogram],
    columns: Sequence[Column],
    shown: Mapping[str, Sequence[ShownClip]],
    judged_by: Thresholds | None,
) -> dict[str, Any]:
    """The page's numbers. Bins come with the rules that look at their column, clips with every score."""
    return {
        "version": DATA_VERSION,
        "thresholds_known": judged_by is not None,
        "sources": [{"state": s, "reason": r, "count": t.count} for (s, r), t in funnel.sources.items()],
        "outcomes": {reason: {"count": t.count, "seconds": t.seconds} for reason, t in funnel.clips.items()},
        "columns": [{"name": column.name, "says": column.says} for column in columns],
        "rules": [
            {
                "reason": rule.reason,
                "column": rule.column,
                "bound": rule.bound,
                "threshold": rule.threshold,
                "value": words.finite(getattr(judged_by, rule.threshold)) if judged_by else None,
            }
            for rule in RULES
        ],
        "histograms": [
            {
                "column": h.column.name,
                "edges": h.edges,
                "is_log": h.is_log,
                "is_integer": h.column.is_integer,
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
                "scores": {column.name: words.finite(clip.row.get(column.name)) for column in columns},
            }
            for some in shown.values()
            for clip in some
        },
    }
