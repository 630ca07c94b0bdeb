"""Footage for tests of the report: scenes told apart by their colour, and files with names that attack a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from curation.curate import unusable_source_row
from curation.film import Encoding, encode_film
from curation.film_encode import Picture
from curation.ingest import Footage
from curation.records import BadSource, SourceState
from curation.store import FinishedSource, Store
from curation.work import unread_id
from tests.stores import CurateConfig, curate_in_process

RATE = Fraction(12)
WIDTH, HEIGHT = 192, 128
RED, GREEN, BLUE = 0, 1, 2

# Each sets window.hacked if it gets to run. Folders lend the slash that a name cannot have: a tag can be closed.
HOSTILE_NAMES = (
    'quote" onmouseover="window.hacked=1" autofocus="">.mp4',
    "it's a \\ ' \" & <b>bold</b".replace("/", "_") + ">.mp4",
    "<img src=x onerror=window.hacked=1>.mp4",
    "a</script><script>window.hacked=1</script>.mp4",
    "b</title></style></textarea><svg onload=window.hacked=1>.mp4",
    "javascript:window.hacked=1.mp4",
    "line\nfeed \u2028 and \u202egpj.mp4",
    "🎬 émoji ✂.mp4",
    "{{ 7*7 }}{% raw %}--><!--.mp4",
)
HOSTILE_DETAIL = "no </td></script><script>window.hacked=1</script> \"' onerror=window.hacked=1 \u202e"


def scenes(colours: Sequence[tuple[int, int]], seed: int = 0) -> Iterator[Picture]:
    """Frames of scenes given as (colour, frames): a texture that drifts, bright in one channel, dark in the others."""
    texture = np.random.default_rng(seed).integers(0, 160, (HEIGHT // 8, WIDTH // 8), np.uint8)
    for number, (colour, frames) in enumerate(colours):
        scene = np.roll(np.kron(texture, np.ones((8, 8), np.uint8)), 37 * number, axis=1)
        for index in range(frames):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[..., colour] = 80 + np.roll(scene, 2 * index, axis=1)
            yield picture


def shoot_playable(folder: Path) -> None:
    """Clips with and without a lead-in, kept and rejected, that a browser plays as they are and that it does not.

    Each file has a red and a blue scene of 1.5 s, and a green one of half a second, too short to be kept. Keyframes are
    rare: clips begin with frames of the scene before, which nobody is to see.
    """
    cuts = [(RED, 18), (BLUE, 18), (GREEN, 6)]
    long_gop = Encoding(rate=RATE, gop_frames=60, keyframes_at_cuts=False)
    turned = Encoding("libx265", rate=RATE, rotation_deg=270)
    for number, (name, encoding) in enumerate(
        {
            "plays.mp4": long_gop,
            "plays.webm": Encoding("libvpx", rate=RATE, gop_frames=60),
            "turned.mov": turned,
            "old.mp4": Encoding("mpeg4", rate=RATE),
        }.items()
    ):
        encode_film(folder / name, scenes(cuts, seed=number), encoding)


def shoot_hostile(folder: Path) -> None:
    """One small file for each hostile name: a scene to keep and one too short."""
    for number, name in enumerate(HOSTILE_NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_film(path, scenes([(RED, 15), (BLUE, 6)], seed=100 + number), Encoding(rate=RATE))


def hostile_source() -> FinishedSource:
    """A source that failed, with an attack in every text that a file can get into its row."""
    uri = f"/nowhere/{HOSTILE_NAMES[3]}"
    error = BadSource(SourceState.FAILED, "<i>reason", HOSTILE_DETAIL)
    row = unusable_source_row(Footage(uri, 1, "0"), unread_id(uri), CurateConfig(), "run", error)
    return FinishedSource(row | {"codec": "</td><script>window.hacked=1</script>", "audio_codec": "<b>"})


def report_store(folder: Path) -> Store:
    """A store of all of it in `folder/store`, its footage in `folder/footage`."""
    footage = folder / "footage"
    footage.mkdir()
    shoot_playable(footage)
    shoot_hostile(footage)
    store = Store.at(str(folder / "store"))
    curate_in_process([footage], store, CurateConfig())
    store.commit_sources([hostile_source()])
    return store
