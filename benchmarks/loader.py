"""The loader: clips a second from a store beside plain files and beside tar shards, bytes that are read beside bytes
that are decoded, and how long the first batch of a large table takes.

Clips are what curation keeps of the footage, copied under other ids until they are as much as a shard of tar. The same
function decodes them to the same sizes whatever they are read from, in one thread, from a warm page cache: what differs
is how the bytes are come by.

A reader of tar shards streams them (WebDataset opens them as `r|*`), which gives clips in the order of the shard. To
get at one by its name it has to stream to it. That is the reference for random order; the shuffle buffer that is used
instead mixes neighbours, and costs what reading in order costs.
"""

from __future__ import annotations

import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import lance
import numpy as np

from benchmarks.figures import finish, footage_files
from benchmarks.loader_first import PRESET, SMALL_ROWS, first_batches
from curation.curate import CurateConfig
from curation.ingest import Footage, find_footage
from curation.reader import opened, pictures_of
from curation.store import Store
from curation.work import curate_footage
from jobs.cli import parse
from trainer.epoch import EpochConfig
from trainer.geometry import FitConfig
from trainer.model.config import preset
from trainer.packing import PackConfig
from trainer.reading.clips import ClipSource
from trainer.reading.listing import list_clips
from trainer.reading.pixels import clip_pixels
from trainer.reading.plan_table import Planned, Plans
from trainer.reading.samples import PixelReader

ORDER_TO_REACH, RANDOM_TO_REACH, BYTES_TO_REACH, FIRST_TO_REACH_S = 1.0, 2.0, 1.1, 2.0
SLOT_CLIPS = 8


@dataclass(frozen=True, slots=True)
class Options:
    """Clips a second against plain files and tar shards, bytes read against bytes decoded, time to a first batch.

    Attributes:
        footage: Folder with footage.
        json: File for the figures, {name: value}.
        work: Folder for what is made, several GB; a temporary one if none is given. What is whole there is used again.
        rows: Of the large table; 0 leaves its part out.
        shard_mb: Of a tar shard. WebDataset's writer begins a new one at 3000 unless told otherwise.
        clip_tokens: Limit of a clip.
        order_clips: How many are read in order, evenly of all that differ.
        random_clips: How many are read in random order.
        rounds: Of each timing.
        seed: Of all that is random.
    """

    footage: Path
    json: Path | None = None
    work: Path | None = None
    rows: int = 1_000_000
    shard_mb: int = 1000
    clip_tokens: int = 2048
    order_clips: int = 24
    random_clips: int = 16
    rounds: int = 5
    seed: int = 20_263


# What is read


@dataclass(frozen=True, slots=True)
class Material:
    """The same clips three times.

    distinct   how many clips differ; the others are their copies
    """

    plans: Plans
    reader: PixelReader
    files: Sequence[Path]
    shard: Path
    distinct: int

    def planned(self, number: int) -> Planned:
        fates = self.plans.fates
        frames, height, width = (int(fates.column(name)[number]) for name in ("frames", "height", "width"))
        return self.plans.planned_as(number, frames, height, width)

    @property
    def trained(self) -> list[int]:
        return np.flatnonzero(self.plans.fates.column("tokens")).tolist()

    def some(self, count: int) -> list[int]:
        """Clips that differ, from all of the footage, in order."""
        picked = np.unique(np.linspace(0, self.distinct - 1, min(count, self.distinct)).astype(int))
        return [self.trained[at] for at in picked.tolist()]


def material(options: Options, work: Path) -> Material:
    store = Store.at(str(work / "store"))
    if not (work / "whole").exists():
        store.create()
        for path in footage_files(options.footage):
            (footage,) = find_footage([str(path)])
            assert isinstance(footage, Footage)
            if (finished := curate_footage(footage, store, CurateConfig(), "benchmark")) is not None:
                store.commit_sources([finished])
        copy_until(store, options.shard_mb * 1_000_000)
        (work / "whole").touch()
    compression = preset(PRESET).compression
    source = ClipSource(store, store.open("clips").version, None)
    clips = list_clips(source, compression, options.clip_tokens, work / "plan")
    plans = Plans(work / "plan", EpochConfig(FitConfig(options.clip_tokens), PackConfig(8192), compression))
    reader = PixelReader(store, clips, square_crop=False)
    ids = clips.texts("clip_id").to_pylist()
    distinct = sum("-" not in clip_id for number, clip_id in enumerate(ids) if plans.fates.column("tokens")[number])
    files, shard = exported(reader.table, clips.column("row_id"), ids, plans, work)
    return Material(plans, reader, files, shard, distinct)


def copy_until(store: Store, size_bytes: int) -> None:
    """Kept clips again under other ids, until all are that large."""
    clips = store.open("clips")
    columns = [name for name in clips.schema.names if name != "video"]
    rows = clips.to_table(columns=columns, filter="keep", with_row_id=True).to_pylist()
    row_ids = [row.pop("_rowid") for row in rows]
    videos = [data for _, data in clips.read_blobs("video", ids=row_ids, preserve_order=True)]
    whole = sum(row["video_bytes"] for row in rows)
    for copy in range(1, -(-size_bytes // whole)):
        copies = (
            {**row, "clip_id": f"{row['clip_id']}-{copy}", "video": video}
            for row, video in zip(rows, videos, strict=True)
        )
        fragments = [lance.FragmentMetadata.from_json(text) for text in store.write_clips(copies)]
        operation, version = lance.LanceOperation.Append(fragments), store.open("clips").version
        lance.LanceDataset.commit(store.table_uri("clips"), operation, read_version=version)


def exported(
    table: lance.LanceDataset, row_ids: Any, ids: Sequence[str], plans: Plans, work: Path
) -> tuple[list[Path], Path]:
    """Every clip that is trained as a file, and all of them as one shard of tar, in the same order."""
    folder, shard = work / "files", work / "shard.tar"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:06}.video" for number in range(len(ids))]
    if shard.exists():
        return paths, shard
    part = shard.with_suffix(".part")
    with tarfile.open(part, "w") as tar:
        for number in np.flatnonzero(plans.fates.column("tokens")).tolist():
            (blob,) = table.take_blobs("video", ids=[int(row_ids[number])])
            assert blob is not None
            paths[number].write_bytes(blob.readall())
            tar.add(paths[number], arcname=paths[number].name)
    part.rename(shard)
    return paths, shard


# Three ways to come by bytes


def from_store(material: Material, numbers: Sequence[int]) -> None:
    """As slots are read: several clips are opened together."""
    for start in range(0, len(numbers), SLOT_CLIPS):
        planned = [material.planned(number) for number in numbers[start : start + SLOT_CLIPS]]
        assert None not in material.reader.read(planned)


def from_files(material: Material, numbers: Sequence[int]) -> None:
    for number in numbers:
        with material.files[number].open("rb") as file:
            clip_pixels(material.plans.clips.row(number), file, material.planned(number).geometry)


def from_shard(material: Material, numbers: Sequence[int]) -> None:
    """Streams to each clip, in the order that is asked for."""
    for number in numbers:
        data = streamed_to(material.shard, material.files[number].name)
        clip_pixels(material.plans.clips.row(number), io.BytesIO(data), material.planned(number).geometry)


def streamed_to(shard: Path, name: str) -> bytes:
    """As WebDataset reads, until the member is there; what was streamed past is read as well, as it is from a pipe."""
    with shard.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            if member.name == name and (file := tar.extractfile(member)) is not None:
                return file.read()
    raise AssertionError(f"{name} is not in {shard}")


def bytes_of_store(material: Material, numbers: Sequence[int]) -> None:
    row_ids = [material.planned(number).row_id for number in numbers]
    for start in range(0, len(row_ids), SLOT_CLIPS):
        material.reader.table.read_blobs("video", ids=row_ids[start : start + SLOT_CLIPS])


def bytes_of_shard(material: Material, numbers: Sequence[int]) -> None:
    for number in numbers:
        streamed_to(material.shard, material.files[number].name)


class Times(NamedTuple):
    """Of each round: on the clock, and of all threads' CPU, which what else the machine does hardly changes."""

    wall_s: list[float]
    cpu_s: list[float]


def taking_turns(
    rounds: int, numbers: Sequence[int], material: Material, *ways: Callable[[Material, Sequence[int]], None]
) -> list[Times]:
    """Each way in each round; who begins changes. The first round warms the page cache and is not timed."""
    times = [Times([], []) for _ in ways]
    for turn in range(rounds + 1):
        for at in np.roll(range(len(ways)), turn).tolist():
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            ways[at](material, numbers)
            if turn:
                times[at].wall_s.append(time.perf_counter() - began_s)
                times[at].cpu_s.append(time.process_time() - began_cpu_s)
    return times


def in_order(options: Options, material: Material) -> Iterator[tuple[str, float]]:
    numbers = material.some(options.order_clips)
    ours, files = taking_turns(options.rounds, numbers, material, from_store, from_files)
    ratios = sorted(b / a for a, b in zip(ours.wall_s, files.wall_s, strict=True))
    cpu = min(files.cpu_s) / min(ours.cpu_s)
    print(
        f"in order, {len(numbers)} clips: {len(numbers) / min(ours.wall_s):.2f} clips/s from the store, "
        f"{len(numbers) / min(files.wall_s):.2f} from files; by rounds {', '.join(f'{r:.3f}' for r in ratios)}; by CPU "
        f"time {cpu:.3f}",
        flush=True,
    )
    yield "store_clips_per_s", len(numbers) / min(ours.wall_s)
    yield "files_clips_per_s", len(numbers) / min(files.wall_s)
    yield "store_to_files", min(files.wall_s) / min(ours.wall_s)
    yield "store_to_files_cpu", cpu


def in_random_order(options: Options, material: Material) -> Iterator[tuple[str, float]]:
    random = np.random.default_rng(options.seed)
    numbers = random.choice(material.trained, options.random_clips, replace=False).tolist()
    size = material.shard.stat().st_size
    for name, ways in (("decoded", (from_store, from_shard)), ("bytes", (bytes_of_store, bytes_of_shard))):
        ours, shard = taking_turns(min(3, options.rounds), numbers, material, *ways)
        wall, cpu = median(shard.wall_s) / median(ours.wall_s), median(shard.cpu_s) / median(ours.cpu_s)
        print(
            f"random order, {name}, {len(numbers)} of {len(material.trained)} clips: "
            f"{len(numbers) / median(ours.wall_s):.2f} clips/s from the store, "
            f"{len(numbers) / median(shard.wall_s):.2f} from a shard of {size / 1e6:.0f} MB: {wall:.2f}; by CPU time "
            f"{cpu:.2f}",
            flush=True,
        )
        yield f"store_to_shard_{name}", wall
        yield f"store_to_shard_{name}_cpu", cpu


def bytes_read(material: Material) -> Iterator[tuple[str, float]]:
    numbers = material.some(material.distinct)
    table = material.reader.table
    table.io_stats_incremental()
    from_store(material, numbers)
    read = table.io_stats_incremental().read_bytes
    found = [decoded_bytes(material, number) for number in numbers]
    decoded, beside = (sum(sizes) for sizes in zip(*found, strict=True))
    frames = sum(material.planned(number).geometry.frames for number in numbers)
    promised = sum(material.plans.clips.row(number)["frames"] for number in numbers)
    print(
        f"bytes: {read} read from the store; {decoded} of packets were decoded, {beside} of sound lie between them; "
        f"{frames} of {promised} frames are trained on",
        flush=True,
    )
    yield "read_to_decoded_without_sound", read / decoded
    yield "read_to_decoded", read / (decoded + beside)


def decoded_bytes(material: Material, number: int) -> tuple[int, int]:
    """Of the video packets that a decoder is given until it has given all the frames that are asked for, and of the
    sound between them, which the clip was cut with."""
    row, wanted = material.plans.clips.row(number), material.planned(number).geometry.frames
    sizes, count = {True: 0, False: 0}, 0
    with material.files[number].open("rb") as file, opened(file) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        for packet in container.demux():
            sizes[packet.stream is video] += packet.size
            if packet.stream is video:
                for frame in pictures_of(packet):  # pyright: ignore[reportArgumentType]
                    count += frame.pts is not None and row["video_start_pts"] <= frame.pts < row["video_end_pts"]
            if count >= wanted:
                break
    return sizes[True], sizes[False]


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.loader")
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = material(options, work)
        figures = dict(in_order(options, found))
        figures |= bytes_read(found)
        figures |= in_random_order(options, found)
        if options.rows:
            figures |= first_batches(work, options.rows, options.clip_tokens, options.rounds, options.seed)
    return finished(options, figures)


def finished(options: Options, figures: dict[str, float]) -> int:
    lines = [
        f"clips/s from the store to files, in order: {figures['store_to_files']:.3f} (to reach: {ORDER_TO_REACH})",
        f"clips/s from the store to a tar shard, in random order: {figures['store_to_shard_decoded']:.2f} (to reach: "
        f"{RANDOM_TO_REACH}); bytes alone {figures['store_to_shard_bytes']:.0f}",
        f"bytes read to bytes decoded and the sound between: {figures['read_to_decoded']:.3f} (to reach: "
        f"{BYTES_TO_REACH}); to those decoded alone {figures['read_to_decoded_without_sound']:.3f}",
    ]
    reached = [
        figures["store_to_files"] >= ORDER_TO_REACH,
        figures["store_to_shard_decoded"] >= RANDOM_TO_REACH,
        figures["read_to_decoded"] <= BYTES_TO_REACH,
    ]
    if options.rows:
        first_s, small_s = (figures[f"first_batch_s_{rows}"] for rows in (options.rows, SMALL_ROWS))
        lines.append(
            f"first batch of {options.rows} rows: {first_s:.2f} s (to reach: {FIRST_TO_REACH_S} s), of {SMALL_ROWS}: "
            f"{small_s:.2f} s; the plan was made in {figures[f'plan_s_{options.rows}']:.1f} s before"
        )
        reached.append(first_s < FIRST_TO_REACH_S)
    finish(figures, lines, options.json)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
