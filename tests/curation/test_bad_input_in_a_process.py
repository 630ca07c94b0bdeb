"""What only a process of its own can show of bad files: what Python opens, how memory grows, what a user may read."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import BAD_FILES, BAD_FILES_BY_NAME, blank_film, make_bad_files, remuxed


def in_a_process(code: str, *arguments: str) -> Any:
    """Run code that prints JSON as its last line."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_file_that_may_not_be_read_has_a_row() -> None:
    code = """
        import json, os, sys, tempfile
        from curation.curate import CurateConfig
        from curation.ingest import find_footage
        from curation.store import Store
        from curation.work import curate_footage

        with tempfile.TemporaryDirectory(prefix="dailies-test-") as folder:
            os.chmod(folder, 0o755)
            path = os.path.join(folder, "a.mp4")
            os.close(os.open(path, os.O_CREAT, 0))
            store = Store.at(folder)
            store.create()
            me = os.geteuid()
            if me == 0:  # whom permissions do not bind
                os.seteuid(65534)
            (found,) = find_footage([path])
            row = curate_footage(found, store, CurateConfig(), "run").row
            os.seteuid(me)
        print(json.dumps([row["state"], row["reason"], row["detail"]]))
    """
    row = in_a_process(code)
    assert row == ["failed", "unreadable", "Permission denied; check that the file is there and may be read"]


AUDITED = """
    import json, os, sys
    from curation.curate import CurateConfig
    from curation.ingest import Footage
    from curation.store import Store
    from curation.work import curate_footage
    from tests.hostile import film

    folder = sys.argv[1]
    store = Store.at(os.path.join(folder, "store"))
    store.create()
    films = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name != "store"]
    curate = lambda path: curate_footage(Footage(path, None, ""), store, CurateConfig(), "run")
    warm = film(__import__("pathlib").Path(folder) / "store" / "warm.mp4")
    curate(str(warm))  # whatever is imported late is imported now
    opened, path = [], ""

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]) != path:
            opened.append([os.path.basename(path), os.fsdecode(arguments[0])])
        elif event in ("socket.connect", "subprocess.Popen", "os.exec", "os.system", "shutil.copyfile"):
            opened.append([os.path.basename(path), event])

    sys.addaudithook(note)
    for path in films:
        curate(path)
    seen, opened = opened, []
    print(json.dumps({"opened": seen, "files": len(films)}))
"""


def test_python_opens_the_file_alone(tmp_path: Path) -> None:
    make_bad_files(tmp_path)
    seen = in_a_process(AUDITED, str(tmp_path))
    assert seen["files"] == len(BAD_FILES)
    allowed = ("/dev/null", "/proc/", "/sys/")
    assert [entry for entry in seen["opened"] if not entry[1].startswith(allowed)] == []


GROWTH = """
    import json, os, sys
    from pathlib import Path
    from curation.curate import CurateConfig
    from curation.ingest import Footage
    from curation.store import Store
    from curation.work import curate_footage
    from tests.hostile import film

    def peak_mb():
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    path, folder = sys.argv[1:]
    store = Store.at(folder)
    store.create()
    curate = lambda path: curate_footage(Footage(path, None, ""), store, CurateConfig(), "run")
    curate(str(film(Path(folder) / "warm.mp4")))
    before = peak_mb()
    row = curate(path).row
    print(json.dumps({"reason": row["reason"], "grown_mb": peak_mb() - before}))
"""


def many_large_streams(path: Path) -> None:
    one = path.with_name("one.mp4")
    blank_film(one, "libx264", [(4096, 4096)] * 8)
    remuxed(one, path, copies=30)


BOMBS = ["huge.mov", "huge.y4m", "index_bomb.mp4", "fragment_bomb.mp4", "edit_bomb.mp4", "streams.mkv"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see the peak of memory")
@pytest.mark.parametrize("name", [*BOMBS, "many.mkv", "many.ts"])
def test_memory_is_bounded(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith("many"):
        many_large_streams(path)
    else:
        BAD_FILES_BY_NAME[name].make(path)
    measured = in_a_process(GROWTH, str(path), str(tmp_path / "store"))
    assert measured["reason"]
    assert measured["grown_mb"] < 100, measured
