"""Peak memory of the captioning job's driver with 10, 1000 and 10 000 clips: it must not grow with their number.

Frames are decoded for real, and a quick server on the loopback answers; then the captioner that needs no model. The
peak is the kernel's own (VmHWM) of the driver alone, without Ray's other processes. `nothing to do` is the same command
on a store whose captions are all there: what Python, Lance and the libraries take before a clip is looked at.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.caption_runs import JOB, LIMIT_S, arguments_for, by_server, checked
from benchmarks.figures import finish
from benchmarks.marked_clips import marked_store
from captioner.captions import KINDS
from captioner.fields import CaptionFields, to_json
from curation.store import Store
from jobs.cli import parse
from tests.hostile_server import Act, HostileServer, Seen, hostile_server, says
from tests.jobs.running import ROOT

TO_REACH = 1.10
CAPTIONERS = ("openai", "facts")
POLL_S = 0.05
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
ANSWER = says(to_json(CaptionFields(subjects=("a black and white pattern",), action="the pattern stays where it is")))


@dataclass(frozen=True, slots=True)
class Options:
    """Peak memory of the driver of jobs.caption, few against many clips.

    Attributes:
        json: File for the figures, {name: value}.
        clips: Numbers of clips, least first.
    """

    json: Path | None = None
    clips: tuple[int, ...] = (10, 1000, 10_000)


def peak_bytes(command: list[str]) -> int:
    """Run a program; the peak of its resident memory. Ends the benchmark where the program fails."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True
        )
        peak, deadline_s = 0, time.monotonic() + LIMIT_S
        while process.poll() is None:
            with suppress(OSError):
                found = PEAK.search((Path("/proc") / str(process.pid) / "status").read_text())
                peak = max(peak, 1024 * int(found[1]) if found else 0)
            if time.monotonic() > deadline_s:
                process.kill()
            time.sleep(POLL_S)
        output.seek(0)
        checked(" ".join(command), process.returncode, output.read())
    return peak


def command_for(captioner: str, store: Store, server: HostileServer) -> list[str]:
    asked = by_server(server) if captioner == "openai" else ()
    return [JOB, *arguments_for(store, "--captioner", captioner, *asked)]


def answer(seen: Seen) -> Act:
    seen.body.clear()  # the server keeps what it saw, and need not keep the frames
    return ANSWER


def main() -> int:
    options = parse(Options, prog="python -m benchmarks.caption_memory")
    few, many = min(options.clips), max(options.clips)
    figures: dict[str, float] = {}
    lines = []
    worst = 0.0
    with tempfile.TemporaryDirectory() as name, hostile_server(answer) as server:
        for captioner in CAPTIONERS:
            peaks: dict[int, int] = {}
            nothing = 0
            for clips in options.clips:
                folder = Path(name) / f"{captioner}-{clips}"
                folder.mkdir()
                store = marked_store(folder, clips)
                began_s = time.monotonic()
                peaks[clips] = peak_bytes(command_for(captioner, store, server))
                took_s = time.monotonic() - began_s
                rows = store.open("captions").count_rows()
                if rows != clips * len(KINDS):
                    raise SystemExit(f"{rows} captions of {clips} clips")
                if clips == few:
                    nothing = peak_bytes(command_for(captioner, store, server))
                    print(f"{captioner:6s} nothing to do: {nothing / 1e6:6.1f} MB", flush=True)
                figures[f"peak_bytes_{captioner}_{clips}"] = peaks[clips]
                print(f"{captioner:6s} {clips:6d} clips: {peaks[clips] / 1e6:6.1f} MB, {took_s:.0f} s", flush=True)
            ratio = peaks[many] / peaks[few]
            worst = max(worst, ratio)
            figures |= {f"peak_bytes_{captioner}_nothing": nothing, f"peak_many_to_few_{captioner}": ratio}
            lines.append(
                f"peak memory of the driver, {captioner}, {many} to {few} clips: {ratio:.3f} (to reach: {TO_REACH})"
            )
    finish(figures, lines, options.json)
    return 0 if worst <= TO_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
