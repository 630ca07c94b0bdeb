"""The files beside a report that let its clips play: thumbnails, the clips themselves, and previews for browsers.

What Chromium plays as it is, is copied out of the store and played from there. For everything else (HEVC, ProRes, 10
bits, 4:2:2, ...) a small H.264 preview is made of exactly the span's frames; the clip itself stays to be downloaded.
Rejected clips have no bytes in the store: they are cut again from their source where that is a local file, unchanged.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.error
import lance

from curation.address import path_of
from curation.curate import CurateConfig, cutter_of
from curation.cut import CannotCopy, Cutter
from curation.encode import CannotEncode, encode_clip
from curation.media import Limits
from curation.mux import ClipFile
from curation.reader import DamagedClip, read_frames
from curation.records import BadSource, Span
from curation.report_data import ShownClip
from curation.report_preview import write_poster, write_preview

__all__ = ["PlayConfig", "Player", "remove_stale", "write_players"]

PLAYABLE_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
PLAYABLE_PIX_FMTS = frozenset({"yuv420p", "yuvj420p"})
THUMBNAIL_ROWS = 64
POSTER_FRAME = 48  # a poster that has to be decoded is the middle frame, or this one of a long clip
CLIP_ID = re.compile(r"[0-9a-f]{32}")
OURS = re.compile(r"[0-9a-f]{32}(\.preview|\.early)?\.(mp4|mov|webm|mkv|jpg|part)")
# What a hostile or damaged file can make the steps here raise; it costs its clip a note.
TROUBLE = (av.error.FFmpegError, BadSource, CannotCopy, CannotEncode, DamagedClip, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class PlayConfig:
    """What it may cost to make the clips of a report play.

    Attributes:
        max_previews: Most H.264 previews that are made, spread evenly over the reasons.
        max_clip_mb: Largest clip that is copied beside the page, in megabytes; a larger one plays as a preview.
    """

    max_previews: int = 100
    max_clip_mb: float = 200.0

    def __post_init__(self) -> None:
        if self.max_previews < 0:
            raise ValueError(f"max_previews={self.max_previews}: must not be negative")
        if not self.max_clip_mb > 0:
            raise ValueError(f"max_clip_mb={self.max_clip_mb}: must be positive")


@dataclass(frozen=True, slots=True)
class Player:
    """What the page shows and plays of one clip; paths are relative to the page.

    `plays` is None where the clip does not play; `notes` say why, or what it is that plays. `start_s` and `end_s` are
    given where the file shows more than the span: Matroska has no edit lists to hide what was needed to decode it.
    """

    poster: str | None = None
    plays: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    original: str | None = None
    original_bytes: int | None = None
    is_preview: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Original:
    """A clip's bytes, wherever they are, and where its span lies in them."""

    file: BinaryIO
    bytes: int
    container: str
    start_pts: int
    end_pts: int
    time_base: Fraction
    lead_in_frames: int


def _raise_ours(error: Exception) -> None:
    """No space to write to is not the fault of a clip."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        raise error


class _Left(Exception):
    """Why a clip does not play, in words for its card."""


def write_players(
    shown: Mapping[str, Sequence[ShownClip]],
    clips: lance.LanceDataset,
    out: Path,
    config: PlayConfig,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Player]:
    """Write what the shown clips need below `out/thumbs` and `out/clips`; how each plays, by clip id.

    Files that an earlier report left are taken where they are the same. Raises OSError where `out` cannot be written.
    """
    (out / "thumbs").mkdir(parents=True, exist_ok=True)
    (out / "clips").mkdir(exist_ok=True)
    every = [clip for some in shown.values() for clip in some]
    posters = _write_thumbnails(every, clips, out)
    allowed = _spread([[c for c in some if _needs_preview(c, config)] for some in shown.values()], config.max_previews)
    files = _ClipFiles(clips, out, config, allowed)
    players: dict[str, Player] = {}
    # In the order of the sources and of time: each source is opened once and read forwards.
    in_order = sorted(every, key=lambda clip: (clip.row["source_id"], clip.row["start_pts"], clip.row["clip_id"]))
    for _, of_source in groupby(in_order, key=lambda clip: clip.row["source_id"]):
        with ExitStack() as stack:
            source: _Source | None = None
            for clip in of_source:
                source = source or _Source(clip.source, stack)
                clip_id = clip.row["clip_id"]
                players[clip_id] = files.player(clip, source, posters.get(clip_id))
                tell(f"{len(players)} of {len(every)} clips")
    return players


def _spread(queues: Sequence[Sequence[ShownClip]], limit: int) -> frozenset[str]:
    """The ids of at most `limit` clips, first the first of each queue, then the second of each, and so on."""
    longest = max(map(len, queues), default=0)
    in_turn = [queue[turn].row["clip_id"] for turn in range(longest) for queue in queues if turn < len(queue)]
    return frozenset(in_turn[:limit])


def _needs_preview(clip: ShownClip, config: PlayConfig) -> bool:
    """As far as can be told before its bytes are there."""
    is_large = (clip.row["video_bytes"] or 0) > config.max_clip_mb * 1e6
    is_playable = _is_playable(clip.source.get("codec"), clip.source.get("pix_fmt"))
    return is_large or not is_playable or _is_damaged(clip)


def _is_playable(codec: str | None, pix_fmt: str | None) -> bool:
    return codec in PLAYABLE_CODECS and pix_fmt in PLAYABLE_PIX_FMTS


def _coding_of(original: _Original) -> tuple[str, str | None]:
    """Codec and pixel format by what the bytes say, because a clip may be coded otherwise than its source."""
    original.file.seek(0)
    with av.open(original.file) as container:
        context = container.streams.video[0].codec_context
        return context.codec.canonical_name, context.pix_fmt


def _is_damaged(clip: ShownClip) -> bool:
    """A browser stops at damage; a preview shows what our decoder made of it, which is what was judged."""
    return bool(clip.row["damaged_frames"])


def _suffix(container: str, codec: str) -> str:
    """Of a clip's file: browsers take Matroska with what WebM carries, if that is what it is called."""
    return ("webm" if codec in PLAYABLE_CODECS else "mkv") if container == "matroska" else container


def _file_stem(clip: ShownClip) -> str:
    """The clip's id, which becomes part of a path. Raises ValueError where a store holds something else as an id."""
    clip_id = clip.row["clip_id"]
    if not CLIP_ID.fullmatch(clip_id):
        raise ValueError(f"clip_id={clip_id!r}: must be 32 hexadecimal digits")
    return clip_id


def _write_thumbnails(shown: Sequence[ShownClip], clips: lance.LanceDataset, out: Path) -> dict[str, str]:
    """The stored thumbnails, a few in memory at a time; their paths by clip id, where there is one."""
    posters: dict[str, str] = {}
    stems = {clip.row_id: _file_stem(clip) for clip in shown}
    row_ids = list(stems)
    for start in range(0, len(row_ids), THUMBNAIL_ROWS):
        wanted = ", ".join(str(row_id) for row_id in row_ids[start : start + THUMBNAIL_ROWS])
        scan = clips.scanner(columns=["thumbnail"], filter=f"_rowid IN ({wanted})", with_row_id=True)
        for row in scan.to_table().to_pylist():
            if row["thumbnail"]:
                stem = stems[row["_rowid"]]
                posters[stem] = f"thumbs/{stem}.jpg"
                (out / posters[stem]).write_bytes(row["thumbnail"])
    return posters


class _ClipFiles:
    """Writes the files of one clip after another."""

    def __init__(self, clips: lance.LanceDataset, out: Path, config: PlayConfig, previews: frozenset[str]):
        self._clips, self._out, self._config = clips, out, config
        self._previews = previews
        self._left = config.max_previews - len(previews)  # for those that turn out to need one

    def player(self, clip: ShownClip, source: _Source, poster: str | None) -> Player:
        """How a clip plays. What goes wrong with its bytes becomes a note."""
        try:
            original, notes = self._original(clip, source)
        except _Left as why:
            return Player(poster=poster, notes=(str(why),))
        except TROUBLE as error:
            _raise_ours(error)
            return Player(poster=poster, notes=(f"its bytes cannot be had: {error}",))
        with original.file:
            try:
                return self._played(clip, original, poster, notes)
            except TROUBLE as error:
                _raise_ours(error)
                return Player(poster=poster, notes=(*notes, f"it cannot be shown: {error}"))

    def _original(self, clip: ShownClip, source: _Source) -> tuple[_Original, list[str]]:
        if clip.row["video_bytes"] is not None:  # also of a clip that newer thresholds reject
            return self._stored(clip), []
        original = source.cut(clip.row, may_encode=lambda: self._may_encode(clip.row["clip_id"]))
        return original, ["cut from its source for this report"]

    def _may_encode(self, stem: str) -> bool:
        """Whether there is a preview left for this clip, which is then taken."""
        if stem not in self._previews and self._left > 0:
            self._left -= 1
            self._previews |= {stem}
        return stem in self._previews

    def _stored(self, clip: ShownClip) -> _Original:
        row = clip.row
        blob = self._clips.take_blobs("video", ids=[clip.row_id])[0]
        if blob is None:
            raise _Left("the store has no video of it")
        return _Original(
            io.BufferedReader(blob, 1 << 20),
            row["video_bytes"],
            row["container"],
            row["video_start_pts"],
            row["video_end_pts"],
            Fraction(row["video_time_base_num"], row["video_time_base_den"]),
            row["lead_in_frames"],
        )

    def _played(self, clip: ShownClip, original: _Original, poster: str | None, notes: list[str]) -> Player:
        stem = _file_stem(clip)
        poster = poster or self._decoded_poster(clip, original)
        codec, pix_fmt = _coding_of(original)
        link = self._copied(stem, original, _suffix(original.container, codec), notes)
        if link and _is_playable(codec, pix_fmt) and not _is_damaged(clip):
            is_part = original.container == "matroska" and original.lead_in_frames > 0
            start_s, end_s = (float(pts * original.time_base) for pts in (original.start_pts, original.end_pts))
            part = (start_s, end_s) if is_part else (None, None)
            return Player(poster, link, *part, link, original.bytes, False, tuple(notes))
        if not self._may_encode(stem):
            notes.append(
                f"it needs a preview to play, and no more than max_previews={self._config.max_previews} are made"
            )
            return Player(poster, original=link, original_bytes=original.bytes, notes=tuple(notes))
        preview = self._preview(clip, original, notes)
        return Player(poster, preview, None, None, link, original.bytes, True, tuple(notes))

    def _copied(self, stem: str, original: _Original, suffix: str, notes: list[str]) -> str | None:
        """The path of the clip itself beside the page, or None where it is too large."""
        if original.bytes > self._config.max_clip_mb * 1e6:
            notes.append(f"the clip itself is over max_clip_mb={self._config.max_clip_mb:g}")
            return None
        name = f"clips/{stem}.{suffix}"
        path = self._out / name
        if not path.exists() or path.stat().st_size != original.bytes:
            part = path.with_suffix(".part")
            original.file.seek(0)
            with part.open("wb") as copy:
                shutil.copyfileobj(original.file, copy, 1 << 20)
            part.replace(path)
        return name

    def _preview(self, clip: ShownClip, original: _Original, notes: list[str]) -> str:
        """The path of a preview: an id stands for exactly these frames, so that one made earlier is still right."""
        name = f"clips/{_file_stem(clip)}.preview.mp4"
        path = self._out / name
        if path.exists():
            return name
        row, part = clip.row, path.with_suffix(".part")
        damage = write_preview(
            part,
            self._frames(original, row["frames"]),
            width=row["width"],
            height=row["height"],
            rotation=row["rotation"],
            end_s=(original.end_pts - original.start_pts) * original.time_base,
        )
        if damage:
            notes.append(f"the preview ends early: {damage}")
            name = f"clips/{_file_stem(clip)}.early.mp4"  # never taken for a whole one
        part.replace(self._out / name)
        return name

    def _decoded_poster(self, clip: ShownClip, original: _Original) -> str | None:
        """A poster of a clip that was too short to be given a thumbnail."""
        row, name = clip.row, f"thumbs/{_file_stem(clip)}.jpg"
        with suppress(*TROUBLE):
            for index, frame in enumerate(self._frames(original, row["frames"])):
                if index >= min(row["frames"] // 2, POSTER_FRAME):
                    path = self._out / name
                    write_poster(path, frame, width=row["width"], height=row["height"], rotation=row["rotation"])
                    return name
        return None

    def _frames(self, original: _Original, frames: int) -> Iterator[av.VideoFrame]:
        original.file.seek(0)
        return read_frames(original.file, start_pts=original.start_pts, end_pts=original.end_pts, frames=frames)


class _Source:
    """A source from which rejected clips are cut again. Nothing is opened before the first cut."""

    def __init__(self, row: Mapping[str, Any], stack: ExitStack):
        self._row, self._stack = row, stack
        self._path: Path | None = None
        self._cutter: Cutter | None = None

    def cut(self, row: Mapping[str, Any], *, may_encode: Callable[[], bool]) -> _Original:
        """A rejected clip's bytes, encoded where they cannot be copied. Raises _Left where neither can be."""
        path = self._path = self._path or local_source(self._row)
        if self._cutter is None:
            self._cutter = cutter_of(self._stack, path, CurateConfig())
        span = Span(row["start_pts"], row["end_pts"], Fraction(row["time_base_num"], row["time_base_den"]))
        try:
            return _original_of(self._cutter.cut(span, row["entry_pts"], row["frames"]))
        except CannotCopy as error:
            if not may_encode():
                raise _Left("it can only be cut by encoding, and no more than max_previews are made") from error
        return _original_of(encode_clip(path, span, row["entry_pts"], row["frames"], Limits()))


def _original_of(file: ClipFile) -> _Original:
    return _Original(
        io.BytesIO(file.data),
        len(file.data),
        file.container,
        file.start_pts,
        file.end_pts,
        file.time_base,
        file.lead_in_frames,
    )


def local_source(row: Mapping[str, Any]) -> Path:
    """The path of a source that is a local file and the same as when it was curated; else raises _Left."""
    uri = row.get("uri")
    if uri is None:
        raise _Left("the store has no row of its source yet")
    local = path_of(uri)
    if local is None:
        raise _Left("its source is not a local file, so it was not cut again")
    path = Path(local)
    try:
        status = os.stat(path)
    except OSError as error:
        raise _Left(f"its source cannot be read here: {error.strerror}") from error
    if (str(status.st_mtime_ns), status.st_size) != (row["modified"], row["bytes"]):
        raise _Left("its source has changed since it was curated")
    return path


def remove_stale(out: Path, players: Iterable[Player]) -> None:
    """Remove the clips and thumbnails that an earlier report wrote and this one does not show; nothing else."""
    used = {path for player in players for path in (player.poster, player.plays, player.original)}
    for folder in ("thumbs", "clips"):
        for path in (out / folder).iterdir():
            if OURS.fullmatch(path.name) and f"{folder}/{path.name}" not in used:
                path.unlink()
