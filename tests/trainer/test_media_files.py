"""Samples as files: what is written is what is shown, and what made it comes back."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from trainer.media_files import (
    SUFFIXES,
    gif_durations_ms,
    pixels_of,
    read_info,
    refuse_unless_writable,
    write_media,
)

INFO = {"prompt": 'Ein "roter" Ball; 红色的球\n-- $x', "negative": "", "seed": 2**62, "guidance": 4.5, "frames": [1, 2]}


def film(frames: int, height: int = 36, width: int = 50):
    """A ball of light that moves to the right over a gradient."""
    rows, columns = np.mgrid[:height, :width]
    pictures = [128 + 100 * np.exp(-((columns - 5 - 4 * n) ** 2 + (rows - 18) ** 2) / 40) for n in range(frames)]
    gray = np.stack(pictures)[..., None]
    return np.concatenate((gray, gray * 0.5, np.full_like(gray, 60)), axis=-1).astype(np.uint8)


def shown(path):
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with Image.open(path) as picture:
        found = []
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            found.append(np.array(picture.convert("RGB")))
        return np.stack(found)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("frames", [1, 7])
def test_what_is_written_is_shown(tmp_path, suffix, frames):
    path, given = tmp_path / f"sample{suffix}", film(frames)
    write_media(path, given, Fraction(24), INFO)
    found = shown(path)
    assert found.shape == given.shape
    error = np.abs(found.astype(int) - given).mean()
    assert error == 0 if suffix == ".png" else error < 6
    assert read_info(path) == INFO
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(25, 2)])
def test_an_mp4_keeps_its_rate(tmp_path, rate):
    write_media(tmp_path / "a.mp4", film(9), rate, {})
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.frames == 9


@pytest.mark.parametrize(
    ("frames", "rate", "durations"),
    [(3, Fraction(10), [100, 100, 100]), (3, Fraction(30), [30, 40, 30]), (4, Fraction(24), [40, 40, 40, 50])],
)
def test_gif_durations(frames, rate, durations):
    assert gif_durations_ms(frames, rate) == durations


def test_gif_durations_do_not_drift():
    assert sum(gif_durations_ms(24 * 60, Fraction(24))) == 60_000


@pytest.mark.parametrize(
    ("name", "width", "height", "rate", "rule"),
    [
        ("a.mp4", 51, 36, 24, "width=51: must be even"),
        ("a.mp4", 50, 37, 24, "height=37: must be even"),
        ("a.gif", 51, 37, 60, "fps=60: a gif shows at most 50"),
        ("a.avi", 50, 36, 24, "must end with .mp4, .png, .gif"),
        ("a", 50, 36, 24, "must end with"),
        ("none/a.png", 50, 36, 24, "there is no folder"),
    ],
)
def test_refused(tmp_path, name, width, height, rate, rule):
    with pytest.raises(ValueError, match=rule):
        refuse_unless_writable(tmp_path / name, width, height, Fraction(rate))


def test_odd_sizes_where_the_format_has_them(tmp_path):
    for name in ("a.png", "a.gif"):
        write_media(tmp_path / name, film(2, 37, 51), Fraction(24), {})
        assert shown(tmp_path / name).shape == (2, 37, 51, 3)


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_media(path, film(1), Fraction(24), {"seed": 1})

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_media(path, film(1), Fraction(24), {"seed": 2})
    monkeypatch.undo()
    assert read_info(path) == {"seed": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_no_info(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: holds no settings"):
        read_info(tmp_path / "a.png")


def test_pixels():
    video = torch.tensor([-2.0, -1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 1, 5).expand(3, -1, -1, -1)
    assert pixels_of(video)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
