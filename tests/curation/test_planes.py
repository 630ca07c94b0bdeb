"""Small pictures of every pixel format against the true picture."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import av.video.format
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation.planes import (
    AREA_SIDE,
    ENDS_THE_PROCESS,
    SAMPLED_SIDE,
    area_luma,
    area_picture,
    bgr_of,
    planes_of,
    sampled_picture,
)
from curation.records import BadSource


def words(text: str) -> list[str]:
    return text.split()


DIRECT = words(
    "yuv420p yuvj420p yuv422p yuvj422p yuv444p yuvj444p yuv411p yuvj411p yuv440p yuvj440p yuv410p yuva420p yuva422p "
    "yuva444p yuv420p10le yuv422p10le yuv444p10le yuv420p12le yuv422p12le yuv444p12le yuv444p9le yuv444p14le "
    "yuv420p16le yuva420p10le yuva444p12le gray gray9le gray10le gray12le gray14le gray16le"
)
CONVERTED = words(
    "nv12 nv21 nv16 nv24 p010le p016le p210le yuyv422 uyvy422 y210le xv36le v30xle yuv420p10be yuv444p16be rgb24 bgr24 "
    "rgba bgra argb abgr rgb0 rgb565le rgb555le rgb48le rgb48be rgba64le x2rgb10le gbrp gbrap gbrp10le gbrp12le "
    "gbrpf32le xyz12le gray10be gray16be grayf32le ya8 ya16le"
)
SIZES = ((427, 241), (64, 48), (17, 9), (2, 2), (1, 1), (3, 1), (1, 5))


def true_picture(width: int, height: int) -> NDArray[np.uint8]:
    """RGB: smooth, colourful, from dark to bright."""
    cells = np.random.default_rng(7).integers(0, 256, (max(1, height // 20), max(1, width // 20), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def made(picture: NDArray[np.uint8], pix_fmt: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt, threads=1)


def seen(picture: NDArray[np.uint8], pix_fmt: str) -> NDArray[np.uint8]:
    """The picture as BGR, without its colours for gray formats."""
    if "gray" in pix_fmt or pix_fmt.startswith("ya"):
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return np.asarray(np.dstack([gray] * 3), np.uint8)
    return np.ascontiguousarray(picture[..., ::-1])


@pytest.mark.parametrize("pix_fmt", DIRECT + CONVERTED)
def test_every_format_comes_out_as_the_true_picture(pix_fmt: str) -> None:
    for width, height in SIZES:
        picture = true_picture(width, height)
        planes, truth = planes_of(made(picture, pix_fmt)), seen(picture, pix_fmt)
        area = bgr_of(area_picture(planes))
        assert max(area.shape) <= AREA_SIDE
        small = cv2.resize(truth, (area.shape[1], area.shape[0]), interpolation=cv2.INTER_AREA)
        assert np.abs(area.astype(int) - small).mean() < (5 if "5" in pix_fmt else 3.5), (width, height)
        # The same pixels, taken from the true picture.
        luma = sampled_picture(planes)[0]
        rows, columns = (
            np.arange(count) * step + min(step // 2, side // 2)
            for count, step, side in zip(luma.shape, steps(planes), (height, width), strict=True)
        )
        true_luma = cv2.cvtColor(np.ascontiguousarray(truth), cv2.COLOR_BGR2GRAY)[np.ix_(rows, columns)]
        assert np.abs(luma.astype(int) - true_luma).max() <= (12 if "5" in pix_fmt else 4), (width, height)


def steps(planes) -> tuple[int, int]:
    height, width = planes.luma.shape
    unit = 1 << max(planes.chroma_shift_across, planes.chroma_shift_down)
    step = unit * -(-max(width, height) // (SAMPLED_SIDE * unit))
    return step, step


@pytest.mark.parametrize("pix_fmt", DIRECT)
def test_planar_formats_are_read_in_place(pix_fmt: str) -> None:
    frame = made(true_picture(64, 48), pix_fmt)
    memory = np.frombuffer(frame.planes[0], np.uint8)  # type: ignore[call-overload]
    assert np.shares_memory(planes_of(frame).luma, memory)


@pytest.mark.parametrize(
    ("pix_fmt", "color_range", "value", "level"),
    [
        ("yuv420p", ColorRange.UNSPECIFIED, 16, 0),
        ("yuv420p", ColorRange.UNSPECIFIED, 3, 0),  # below black
        ("yuv420p", ColorRange.UNSPECIFIED, 235, 255),
        ("yuv420p", ColorRange.UNSPECIFIED, 255, 255),
        ("yuv420p", ColorRange.MPEG, 126, 128),
        ("yuv420p", ColorRange.JPEG, 16, 16),
        ("yuvj420p", ColorRange.UNSPECIFIED, 16, 16),
        ("yuv420p10le", ColorRange.MPEG, 64, 0),
        ("yuv420p10le", ColorRange.MPEG, 940, 255),
        ("yuv420p10le", ColorRange.JPEG, 1023, 255),
        ("yuv444p16le", ColorRange.MPEG, 16 << 8, 0),
        ("gray", ColorRange.UNSPECIFIED, 16, 16),  # full range unless said otherwise
        ("gray", ColorRange.JPEG, 235, 235),
        ("gray", ColorRange.MPEG, 16, 0),
        ("gray10le", ColorRange.MPEG, 940, 255),
        ("gray12le", ColorRange.UNSPECIFIED, 4095, 255),
    ],
)
def test_levels_are_full_range(pix_fmt: str, color_range: ColorRange, value: int, level: int) -> None:
    frame = av.VideoFrame(32, 16, pix_fmt)
    bits = max(component.bits for component in frame.format.components)
    for index, plane in enumerate(frame.planes):
        dtype = np.uint8 if bits == 8 else np.uint16
        values = np.full(plane.buffer_size // dtype().itemsize, value if index == 0 else 1 << (bits - 1), dtype)
        plane.update(values.tobytes())
    frame.color_range = color_range
    planes = planes_of(frame)
    for luma, blue, red in (sampled_picture(planes), area_picture(planes)):
        assert set(luma.flat) == {level}
        assert set(blue.flat) == set(red.flat) == {128}
    assert set(area_luma(planes, 8).flat) == {level}
    assert set(bgr_of(sampled_picture(planes)).flat) == {level}


def test_palettes() -> None:
    indices = np.repeat(np.arange(4, dtype=np.uint8), 8)[None].repeat(16, axis=0)
    palette = np.zeros((256, 4), np.uint8)
    palette[:4] = [(255, 200, 0, 0), (255, 0, 200, 0), (255, 0, 0, 200), (255, 255, 255, 255)]  # ARGB
    frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]
    bgr = bgr_of(area_picture(planes_of(frame)))[8, [3, 11, 19, 28]]
    assert np.abs(bgr.astype(int) - [(0, 0, 200), (0, 200, 0), (200, 0, 0), (255, 255, 255)]).max() < 12


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "gray"])
def test_pictures_stored_from_the_bottom_up(pix_fmt: str) -> None:
    frame = made(true_picture(62, 40), pix_fmt)
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()  # the filter turns the order of the rows by a negative line size
    source = graph.add_buffer(width=62, height=40, format=frame.format, time_base=frame.time_base)
    flip, sink = graph.add("vflip"), graph.add("buffersink")
    source.link_to(flip)
    flip.link_to(sink)
    graph.configure()
    source.push(frame)
    flipped = sink.pull()
    assert isinstance(flipped, av.VideoFrame)
    assert flipped.planes[0].line_size < 0
    upright, turned = planes_of(frame), planes_of(flipped)
    for name in ("luma", "blue", "red"):
        assert np.array_equal(getattr(turned, name), getattr(upright, name)[::-1])
    assert np.abs(area_picture(turned)[0].astype(int) - area_picture(upright)[0][::-1]).max() <= 1


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["yuv420p", "yuv411p", "yuv410p", "yuv444p10le", "gray"]), st.data())
def test_any_size(pix_fmt: str, data: st.DataObject) -> None:
    sides = st.one_of(st.integers(1, 40), st.integers(1, 3000))
    width, height = data.draw(sides), data.draw(sides)
    frame = av.VideoFrame(width, height, pix_fmt)
    planes = planes_of(frame)
    assert planes.luma.shape == (height, width)
    for picture, longest in ((sampled_picture(planes), SAMPLED_SIDE), (area_picture(planes), AREA_SIDE)):
        h, w = picture[0].shape
        assert 1 <= min(h, w) <= max(h, w) <= longest
        assert bgr_of(picture).shape == (h, w, 3)
    assert max(area_luma(planes, 160).shape) <= 160


@pytest.mark.parametrize("pix_fmt", sorted(av.video.format.names))  # type: ignore[attr-defined]
def test_no_format_takes_the_process_down(pix_fmt: str) -> None:
    """Each is either read or refused with a reason. (An assertion that fails in swscale ends the tests here.)"""
    try:
        frame = av.VideoFrame(18, 10, pix_fmt)
    except ValueError:
        return  # pictures in the memory of a device
    try:
        luma = sampled_picture(planes_of(frame))[0]
    except BadSource as error:
        refused = error.reason
    else:
        refused = None if luma.size else "empty"
    assert refused in (None, "unknown_pixel_format")
    assert refused or pix_fmt not in ENDS_THE_PROCESS


def test_averaging_leaves_no_aliasing() -> None:
    """Lines of one pixel become gray, at every size that is not a whole fraction too."""
    for height, width in ((1080, 1920), (240, 428), (480, 854), (1000, 1700)):
        frame = av.VideoFrame(width, height, "yuvj420p")
        rows = np.zeros((height, frame.planes[0].line_size), np.uint8)
        rows[::2] = 200
        frame.planes[0].update(rows.tobytes())
        luma = area_luma(planes_of(frame), 160)
        assert np.ptp(luma[1:-1]) <= 3
        assert abs(float(luma[1:-1].mean()) - 100) <= 2
