"""TransNet V2: the published weights would load, and what the network says becomes the right boundaries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from curation.boundary import Boundary, Look
from curation.planes import Picture
from curation.shots import ShotConfig, shot_detector
from curation.transnet import TransNetV2, load_transnet
from curation.transnet_shots import Runs, Windows, small_rgb, weights_digest

Shapes = dict[str, tuple[int, ...]]


def published_shapes() -> Shapes:
    """Names and shapes of the published weights, from F=16, L=3, S=2, D=1024 of the paper."""
    shapes: Shapes = {}
    for stage, (seen, filters) in enumerate([(3, 16), (64, 32), (128, 64)]):
        for block, width in enumerate([seen, 4 * filters]):
            at = f"SDDCNN.{stage}.DDCNN.{block}"
            for dilation in (1, 2, 4, 8):
                shapes[f"{at}.Conv3D_{dilation}.layers.0.weight"] = (2 * filters, width, 1, 3, 3)
                shapes[f"{at}.Conv3D_{dilation}.layers.1.weight"] = (filters, 2 * filters, 3, 1, 1)
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{at}.bn.{name}"] = (4 * filters,)
            shapes[f"{at}.bn.num_batches_tracked"] = ()
    dense = {"frame_sim_layer.projection": (448, 128), "frame_sim_layer.fc": (101, 128)}
    dense |= {"color_hist_layer.fc": (101, 128), "fc1": (4864, 1024), "cls_layer1": (1024, 1), "cls_layer2": (1024, 1)}
    for name, (inputs, outputs) in dense.items():
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return shapes


def blank_weights() -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in published_shapes().items()}


def cut_finder() -> dict[str, torch.Tensor]:
    """Weights set by hand: both answers hold where less than 0.4 of a frame's colours are in the frame after it."""
    weights = blank_weights()
    weights["color_hist_layer.fc.weight"][0, 51] = -1.0  # place 50 is the frame itself
    weights["color_hist_layer.fc.bias"][0] = 0.5
    weights["fc1.weight"][0, 0] = 1.0
    for head in ("cls_layer1", "cls_layer2"):
        weights[f"{head}.weight"][0, 0] = 100.0
        weights[f"{head}.bias"][0] = -10.0
    return weights


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a worker; several only wait for each other at this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "finder.safetensors"
    save_file(cut_finder(), path)
    return path


def flat_picture(red: int, green: int, blue: int, size: tuple[int, int] = (90, 160)) -> Picture:
    """One colour by BT.601, as `planes.sampled_picture` gives it."""
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    levels = (luma, 128 + (blue - luma) * 0.564, 128 + (red - luma) * 0.713)
    y, b, r = (np.full(size, round(level), np.uint8) for level in levels)
    return y, b, r


def test_the_network_has_the_published_names_and_shapes() -> None:
    assert {name: tuple(tensor.shape) for name, tensor in TransNetV2().state_dict().items()} == published_shapes()


@pytest.mark.parametrize("counter", [torch.zeros(1), None], ids=["one", "none"])
def test_weights_load_from_both_kinds_of_file(tmp_path: Path, counter: torch.Tensor | None) -> None:
    """Files differ in the counter of training batches, which says nothing."""
    torch.manual_seed(0)
    weights = {name: torch.rand(shape) for name, shape in published_shapes().items() if "tracked" not in name}
    counters = [name for name in published_shapes() if "tracked" in name]
    stored = weights | ({} if counter is None else {name: counter.clone() for name in counters})
    save_file(stored, tmp_path / "w.safetensors")
    torch.save(stored, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        loaded = load_transnet(tmp_path / name, name).state_dict()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.items())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil-was-here"),)


def broken(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    weights = blank_weights()
    change(weights)
    save_file(weights, path)
    return path


BROKEN = [
    (lambda w: w.pop("fc1.bias"), r"lacks fc1.bias \(1024,\)"),
    (lambda w: w.update({"fc1.bias": torch.zeros(7)}), r"fc1.bias has the shape \(7,\), not \(1024,\)"),
    (lambda w: w.update({"head.weight": torch.zeros(7)}), r"head.weight \(7,\) is no part of TransNet V2"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN)
def test_other_weights_are_refused_by_name(tmp_path: Path, change: Callable[..., object], said: str) -> None:
    path = broken(tmp_path / "w.safetensors", change)
    with pytest.raises(ValueError, match=said) as raised:
        ShotConfig(shots=("transnetv2",), shot_weights=path)
    assert str(raised.value).startswith(f"shot_weights={path}: ")


def test_a_file_that_is_missing_or_no_tensors_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere\.pth: cannot be read: No such file"):
        ShotConfig(shots=("transnetv2",), shot_weights=tmp_path / "nowhere.pth")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    torch.save({"fc1.bias": Evil()}, tmp_path / "evil.pth")
    for name in ("junk.safetensors", "evil.pth"):
        with pytest.raises(ValueError, match="must be a file of tensors and nothing else"):
            ShotConfig(shots=("transnetv2",), shot_weights=tmp_path / name)
    assert not (tmp_path / "evil-was-here").exists()


def test_weights_count_by_their_content(tmp_path: Path, finder: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    shutil.copy(finder, moved)
    here, there = (ShotConfig(shots=("transnetv2",), shot_weights=path) for path in (finder, moved))
    assert here.identity() == there.identity()
    broken(moved, lambda w: w["fc1.bias"].fill_(1.0))
    assert weights_digest(moved) != weights_digest(finder)


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


@pytest.mark.parametrize("lengths", [(20, 30), (49, 2, 24)])
def test_cuts_are_found_where_they_are(finder: Path, lengths: tuple[int, ...]) -> None:
    """The real network, window by window, with weights set by hand."""
    detector = shot_detector(ShotConfig(shots=("transnetv2",), shot_weights=finder))
    found: list[Boundary] = []
    for color, length in zip(COLORS, lengths, strict=False):
        for _ in range(length):
            found += detector.feed(Look(flat_picture(*color)))
    found += detector.flush()
    assert found == [Boundary(int(cut)) for cut in np.cumsum(lengths)[:-1]]


class Differences:
    """Stands in for the network: logits from how a frame differs from the next and from the one thirty before."""

    def __call__(self, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert window.shape == (1, 100, 27, 48, 3)
        level = window.float().mean(dim=(2, 3, 4))
        after = torch.roll(level, -1, dims=1)
        before = torch.roll(level, 25, dims=1)  # as far as the margin lets it
        return (after - level).abs() - 40.0, (before - level).abs() - 40.0


def whole_film(film: NDArray[np.uint8]) -> list[tuple[bool, bool]]:
    """The published procedure, over a film in memory."""
    rest = len(film) % 50 or 50
    padded = np.concatenate([film[:1].repeat(25, 0), film, film[-1:].repeat(75 - rest, 0)])
    says = []
    for start in range(0, len(padded) - 99, 50):
        ends, belongs = Differences()(torch.from_numpy(padded[None, start : start + 100]))
        says += zip((ends[0, 25:75] > 0).tolist(), (belongs[0, 25:75] > 0).tolist(), strict=True)
    return says[: len(film)]


@pytest.mark.parametrize("frames", [1, 2, 24, 25, 49, 50, 51, 74, 75, 76, 99, 100, 101, 149, 150, 151, 333])
def test_frame_by_frame_is_as_the_whole_film(frames: int) -> None:
    film = np.random.default_rng(frames).integers(0, 256, (frames, 1, 1, 1), np.uint8)
    film = np.broadcast_to(film, (frames, 27, 48, 3)).copy()
    windows = Windows(Differences())  # type: ignore[arg-type]
    says = []
    for number, picture in enumerate(film):
        says += windows.feed(picture)
        assert number - len(says) <= 75
        assert len(windows._pictures) < 100
    says += windows.flush()
    assert says == whole_film(film)
    assert frames < 24 or {end for end, _ in says} == {True, False}


RUNS = [
    ("..........", "..........", []),
    ("...1......", "...1......", [Boundary(4)]),  # a cut is said of the last frame before it
    ("...1......", "..........", [Boundary(4)]),
    ("1.........", "1.........", [Boundary(1)]),
    (".........1", ".........1", []),
    ("...1.1....", "...1.1....", [Boundary(4), Boundary(6)]),
    ("...111....", "..........", [Boundary(5, 1, 1)]),
    ("....1.....", "..11111...", [Boundary(5, 2, 2)]),  # of 2 to 6, 2 is the scene's last and 3 to 6 are the change
    ("...1......", "...11.....", [Boundary(4, 0, 1)]),
    ("....1.....", "..111.....", [Boundary(5, 2, 0)]),
    ("....1.....", "..1.1.....", [Boundary(5)]),
    ("...1.1....", "..11111...", [Boundary(4, 1, 0), Boundary(6, 0, 1)]),  # a frame is left between two changes
    ("......1...", "....111111", []),  # a change to the end begins no scene
]


@pytest.mark.parametrize(("ends", "belongs", "boundaries"), RUNS)
def test_answers_become_boundaries(ends: str, belongs: str, boundaries: list[Boundary]) -> None:
    says = [(end == "1", belong == "1") for end, belong in zip(ends, belongs, strict=True)]
    assert Runs().feed(says) == boundaries


def test_boundaries_come_in_time_and_apart_whatever_is_said() -> None:
    """As promised to `takes`: at most 256 frames late, of which 75 are the window's; no frame in two changes."""
    rng = np.random.default_rng(0)
    met = 0
    for density in (0.02, 0.5, 0.9, 1.0):
        runs, reached = Runs(), 0
        for number, (end, belong) in enumerate(rng.random((2000, 2)) < density):
            for boundary in runs.feed([(bool(end), bool(belong))]):
                met += 1
                assert number - boundary.index + 75 <= 256
                assert reached <= boundary.index - boundary.before
                assert boundary.before >= 0
                assert boundary.after >= 0
                reached = boundary.index + boundary.after
    assert met > 100


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (27, 48), (2, 2), (1, 3)])
def test_a_picture_is_seen_small_and_in_its_colors(size: tuple[int, int]) -> None:
    for color in COLORS:
        rgb = small_rgb(flat_picture(*color, size=size))
        assert rgb.shape == (27, 48, 3)
        assert np.abs(rgb.astype(int) - color).max() <= 3


def test_a_gray_picture_is_seen() -> None:
    neutral = np.full((1, 1), 128, np.uint8)
    assert (small_rgb((np.full((60, 80), 99, np.uint8), neutral, neutral)) == 99).all()
