"""Samples as files that one looks at: mp4, png (animated where there are several frames) or gif, with what made them
inside.

T frames, H, W pixels
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

__all__ = ["SUFFIXES", "pixels_of", "read_info", "refuse_unless_writable", "write_media"]

INFO = "dailies"  # the key of a png's text
BT709 = 1  # of FFmpeg's numbers for primaries, transfer and matrix alike
CRF = "14"  # of x264: what is seen of it is the model's
SUFFIXES = (".mp4", ".png", ".gif")
GIF_TICKS_PER_S, GIF_MOST_RATE = 100, 50

Pixels = NDArray[np.uint8]
Info = Mapping[str, Any]


def pixels_of(video_CTHW: torch.Tensor) -> Pixels:
    """uint8[T, H, W, 3] of a video from -1 to 1."""
    scaled = (video_CTHW.float().clamp(-1, 1) + 1) * 127.5
    return rearrange(scaled, "c t h w -> t h w c").round().to(torch.uint8).cpu().numpy()


def refuse_unless_writable(path: Path, width: int, height: int, rate: Fraction) -> None:
    """Before anything is sampled. Raises ValueError with field, value and rule."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"out={path}: must end with {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"out={path}: there is no folder {path.parent}")
    for name, side in (("width", width), ("height", height)):
        if suffix == ".mp4" and side % 2:
            raise ValueError(f"{name}={side}: must be even in an mp4; ask for {side + 1}, or for a png or gif")
    if suffix == ".gif" and rate > GIF_MOST_RATE:
        raise ValueError(f"fps={rate}: a gif shows at most {GIF_MOST_RATE} frames a second; ask for an mp4 or png")


def write_media(path: Path, frames_THW3: Pixels, rate: Fraction, info: Info) -> None:
    """The file appears whole or not at all. `info`, what is to be remembered of it, is stored inside as JSON.

    Raises ValueError, OSError.
    """
    _, height, width, _ = frames_THW3.shape
    refuse_unless_writable(path, width, height, rate)
    write: Callable[[Path, Pixels, Fraction, str], None]
    write = {".mp4": _write_mp4, ".png": _write_png, ".gif": _write_gif}[path.suffix.lower()]
    part = path.with_name(f".{path.name}.part")
    try:
        write(part, frames_THW3, rate, json.dumps(dict(info), ensure_ascii=False))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_mp4(path: Path, frames_THW3: Pixels, rate: Fraction, info: str) -> None:
    _, height, width, _ = frames_THW3.shape
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata["comment"] = info
        stream = container.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coded = stream.codec_context
        coded.color_primaries, coded.color_trc, coded.colorspace = BT709, BT709, BT709
        coded.color_range = ColorRange.MPEG
        for picture in frames_THW3:
            container.mux(stream.encode(_bt709(picture)))
        container.mux(stream.encode())


def _bt709(picture: Pixels) -> av.VideoFrame:
    """Said and meant: swscale converts by BT.601 unless it is told, and players of untagged video guess."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )  # fmt: skip


def _write_png(path: Path, frames_THW3: Pixels, rate: Fraction, info: str) -> None:
    first, *rest = [Image.fromarray(picture) for picture in frames_THW3]
    text = PngImagePlugin.PngInfo()
    text.add_itxt(INFO, info)
    if rest:
        first.save(path, "PNG", pnginfo=text, save_all=True, append_images=rest, duration=float(1000 / rate), loop=0)
    else:
        first.save(path, "PNG", pnginfo=text)


def _write_gif(path: Path, frames_THW3: Pixels, rate: Fraction, info: str) -> None:
    first, *rest = [Image.fromarray(picture) for picture in frames_THW3]
    durations = gif_durations_ms(len(frames_THW3), rate)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, comment=info.encode())


def gif_durations_ms(frames: int, rate: Fraction) -> list[int]:
    """A gif counts in hundredths of a second: each frame ends at the one nearest to its end, so that no error adds
    up."""
    ends = [round(GIF_TICKS_PER_S * (n + 1) / rate) for n in range(frames)]
    return [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]


def read_info(path: Path) -> dict[str, Any]:
    """What `write_media` was given. Raises ValueError where the file holds nothing of the kind."""
    if path.suffix.lower() == ".mp4":
        with av.open(str(path)) as container:
            text: str | None = container.metadata.get("comment")
    else:
        with Image.open(path) as picture:
            text = _text_in(picture)
    try:
        info = json.loads(text or "")
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise ValueError(f"{path}: holds no settings of a sample")
    return info


def _text_in(picture: Image.Image) -> str | None:
    found: Sequence[Any] = [picture.info.get(key) for key in (INFO, "comment")]
    text = next((value for value in found if value), None)
    return text.decode(errors="replace") if isinstance(text, bytes) else text
