"""Footage that many tests share, made once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings

from curation.film import Edit, Encoding, FilmFile, Join, SceneSpec, encode_film, make_film, render

# Threads of torch wait for each other in a loop: those of two tests at once on two cores would take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

RATE = Fraction(12)
# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[FilmFile, ...]]:
    """The demo's film and its truth."""
    folder = tmp_path_factory.mktemp("film")
    return folder, make_film(folder)


@pytest.fixture(scope="session")
def small_footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of two scenes each, a second or two long: the least that has clips to keep and clips to reject."""
    folder = tmp_path_factory.mktemp("footage")
    for number, seconds in enumerate((1, 2, 2, 3)):
        specs = (
            SceneSpec(seed=10 * number + 1, frames=int(seconds * RATE), pan_x_px_per_s=40.0),
            SceneSpec(seed=10 * number + 2, frames=9, object_x_px_per_s=30.0),
        )
        edit = Edit(specs, (Join("cut"),))
        frames = render(edit, 192, 128, [i / float(RATE) for i in range(edit.frames)])
        encode_film(folder / f"take_{number}.mp4", frames, Encoding(rate=RATE, b_frames=2))
    return folder


@pytest.fixture(scope="session")
def real_footage() -> Path:
    """The folder with real footage, which is not part of the project: DAILIES_FOOTAGE, or beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "footage"
    folder = Path(os.environ.get("DAILIES_FOOTAGE", beside))
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}: set DAILIES_FOOTAGE to a folder with some")
    return folder


@pytest.fixture(autouse=True)
def usual_priority() -> Iterator[None]:
    """SVT-AV1, run as root, makes the thread that opens it a real-time one (its `enc_switch_to_real_time`), and all
    processes that come of it: everything else on the machine then waits for the tests."""
    yield
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
