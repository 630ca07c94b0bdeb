"""Lossless clips: every frame against the same frame of the source, bit by bit, through our reader and as a player that
honours edit lists shows it; and the bytes stored against the packets of the kept spans.

The reference decodes the source from its first packet to its last with every filter on, as a player does.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from benchmarks.figures import finish, footage_files
from curation.curate import CurateConfig, SourceCuration
from curation.ingest import Footage
from curation.media import Limits, main_video_stream, open_media
from curation.reader import read_frames
from curation.takes import TakeConfig
from jobs.cli import parse


@dataclass(frozen=True, slots=True)
class Options:
    """Clips against their sources, frame by frame.

    Attributes:
        footage: Folder with footage.
        json: File for the figures, {name: value}.
        snap_frames: For the second figure of stored bytes: starts move to a keyframe at most so far away.
    """

    footage: Path
    json: Path | None = None
    snap_frames: int = 25


@dataclass(slots=True)
class Totals:
    frames: int = 0
    identical: int = 0
    clips: Counter[str] = field(default_factory=Counter)
    stored_bytes: int = 0
    span_bytes: int = 0


def picture_digest(frame: VideoFrame) -> bytes:
    """Of the visible pixels of every plane, padding left out."""
    digest = hashlib.blake2b(digest_size=16)
    for plane, component in zip(frame.planes, frame.format.components, strict=False):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        digest.update(rows[:, : plane.width * -(-component.bits // 8)].tobytes())
    return digest.digest()


def source_frames(path: Path) -> dict[int, bytes]:
    """Digest of every frame of a source, by presentation time."""
    frames: dict[int, bytes] = {}
    with open_media(path, Limits()) as container:
        stream = main_video_stream(container, Limits())
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:
                continue
            for frame in stream.decode(packet if packet.size else None):
                frames.setdefault(frame.pts or 0, picture_digest(frame))
    return frames


def packet_sizes(path: Path) -> list[tuple[Fraction, Fraction, int]]:
    """Start, end in seconds and size of every packet of picture and sound."""
    sizes = []
    with open_media(path, Limits()) as container:
        wanted = [main_video_stream(container, Limits()), *container.streams.audio]
        for packet in container.demux(wanted):
            if packet.pts is not None:
                base = Fraction(packet.time_base)
                sizes.append((packet.pts * base, (packet.pts + (packet.duration or 0)) * base, packet.size))
    return sizes


def clips_of(path: Path, snap_frames: int) -> Iterator[dict[str, Any]]:
    config = CurateConfig(takes=TakeConfig(snap_frames=snap_frames))
    footage = Footage(str(path), None, "")
    return (row for row in SourceCuration(path, footage, path.name, config, "benchmark").clip_rows() if row["keep"])


def span_bytes(row: dict[str, Any], sizes: list[tuple[Fraction, Fraction, int]]) -> int:
    base = Fraction(row["time_base_num"], row["time_base_den"])
    start_s, end_s = row["start_pts"] * base, row["end_pts"] * base
    return sum(size for first_s, _, size in sizes if start_s <= first_s < end_s)


def shown_by_player(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [picture_digest(frame) for frame in container.decode(container.streams.video[0])]


def compare(path: Path, totals: Totals) -> str:
    """Add a file's clips to the totals; a line about it."""
    truth, sizes = source_frames(path), packet_sizes(path)
    here = Totals()
    for row in clips_of(path, snap_frames=0):
        expected = [d for pts, d in sorted(truth.items()) if row["start_pts"] <= pts < row["end_pts"]]
        span = {"start_pts": row["video_start_pts"], "end_pts": row["video_end_pts"], "frames": row["frames"]}
        ours = [picture_digest(frame) for frame in read_frames(io.BytesIO(row["video"]), **span)]
        here.frames += len(expected)
        here.identical += sum(a == b for a, b in zip(expected, ours, strict=False)) if len(expected) == len(ours) else 0
        if row["encoded_because"]:
            here.clips["encoded"] += 1
        elif row["container"] == "matroska":
            here.clips["in Matroska"] += 1
        else:
            here.clips["player exact" if shown_by_player(row["video"]) == expected else "player differs"] += 1
        here.stored_bytes += row["video_bytes"]
        here.span_bytes += span_bytes(row, sizes)
    totals.frames += here.frames
    totals.identical += here.identical
    totals.clips += here.clips
    totals.stored_bytes += here.stored_bytes
    totals.span_bytes += here.span_bytes
    share = here.stored_bytes / max(1, here.span_bytes)
    outcome = ", ".join(f"{n} {name}" for name, n in here.clips.items()) or "no clip kept"
    return f"{path.name[:56]:56s} {here.identical:6d} of {here.frames:6d} frames, bytes {share:.3f}, {outcome}"


def main() -> None:
    options = parse(Options, prog="python -m benchmarks.lossless")
    totals, snapped = Totals(), Totals()
    for path in footage_files(options.footage):
        print(compare(path, totals), flush=True)
        sizes = packet_sizes(path)
        for row in clips_of(path, options.snap_frames):
            snapped.stored_bytes += row["video_bytes"]
            snapped.span_bytes += span_bytes(row, sizes)
    ratio, ratio_snapped = (t.stored_bytes / t.span_bytes for t in (totals, snapped))
    copied = totals.clips.total() - totals.clips["encoded"]
    figures = {
        "frames": totals.frames,
        "frames_identical": totals.identical,
        "clips_copied": copied,
        "clips_encoded": totals.clips["encoded"],
        "clips_player_exact": totals.clips["player exact"],
        "clips_player_differs": totals.clips["player differs"],
        "stored_to_span_bytes": ratio,
        "stored_to_span_bytes_snapped": ratio_snapped,
    }
    lines = [
        f"players that honour edit lists show exactly the span: {totals.clips['player exact']} of "
        f"{totals.clips['player exact'] + totals.clips['player differs']} clips in mp4 or mov",
        f"bytes stored to packets of the kept spans: {ratio:.3f} (to reach: 1.30), with starts moved to keyframes at "
        f"most {options.snap_frames} frames away {ratio_snapped:.3f} (to reach: 1.10)",
        f"frames identical to the source's: {totals.identical} of {totals.frames} in {copied} clips (to reach: all)",
    ]
    finish(figures, lines, options.json)


if __name__ == "__main__":
    sys.exit(main())
