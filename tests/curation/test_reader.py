"""Reading clips: only the span, only the bytes that are needed, upright, and never fewer frames than promised."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import lance
import numpy as np
import pyarrow as pa
import pytest

from curation.film import Encoding, encode_film
from curation.geometry import Box, Geometry
from curation.mux import ClipFile
from curation.reader import DamagedClip, active_box, read_active_frames, read_clip_frames, read_frames, upright_rgb
from tests.cutting import HEIGHT, WIDTH, cut, decoded, film, pictures, pixels_of, program

FRAMES = 9


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipFile, list[str]]:
    """A clip with a lead-in, B-frames and sound, and the pixels of its frames."""
    encoding = Encoding(gop_frames=12, b_frames=3, open_gop=True, keyframes_at_cuts=False, audio_codec="aac")
    source = decoded(film(tmp_path_factory.mktemp("film") / "film.mp4", encoding))
    clip = cut(source, 20, 20 + FRAMES)
    assert clip.lead_in_frames > 0
    return clip, [frame.pixels for frame in source.shown(20, 20 + FRAMES)]


def row_of(clip: ClipFile) -> dict[str, Any]:
    return {"video_start_pts": clip.start_pts, "video_end_pts": clip.end_pts, "frames": FRAMES}


def test_a_row_and_its_bytes_are_enough(clip: tuple[ClipFile, list[str]]) -> None:
    file, pixels = clip
    frames = list(read_clip_frames(row_of(file), io.BytesIO(file.data)))
    assert [pixels_of(frame) for frame in frames] == pixels
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 24) for i in range(FRAMES)]  # type: ignore[operator]


def test_from_a_lance_blob(clip: tuple[ClipFile, list[str]], tmp_path: Path) -> None:
    file, pixels = clip
    table = pa.table(
        {"clip_id": ["other", "this"], "video": lance.blob_array([b"something else", file.data])},
        schema=pa.schema([pa.field("clip_id", pa.string()), lance.blob_field("video")]),
    )
    uri = str(tmp_path / "clips.lance")
    lance.write_dataset(table, uri, data_storage_version="2.2", enable_stable_row_ids=True)
    dataset = lance.dataset(uri)
    row_id = dataset.to_table(columns=["clip_id"], filter="clip_id = 'this'", with_row_id=True)["_rowid"][0].as_py()
    blob = dataset.take_blobs("video", ids=[row_id])[0]
    assert blob is not None
    assert [pixels_of(frame) for frame in read_clip_frames(row_of(file), blob)] == pixels


class Counted(io.BytesIO):
    """Counts what is read."""

    read_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.read_bytes += len(data)
        return data


def test_little_more_is_read_than_the_clip(tmp_path: Path) -> None:
    """A blob in an object store costs by the byte, and by the request."""
    path = tmp_path / "noise.mp4"
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(30))
    encode_film(path, noise, Encoding(bitrate_bps=20_000_000, gop_frames=12, audio_codec="aac"))
    source = decoded(path)
    file = cut(source, 5, 29)
    video = Counted(file.data)
    assert len(list(read_frames(video, start_pts=file.start_pts, end_pts=file.end_pts, frames=24))) == 24
    assert len(file.data) > 1.5e6
    assert video.read_bytes < 1.2 * len(file.data)
    first = Counted(file.data)
    next(read_frames(first, start_pts=file.start_pts, end_pts=file.end_pts, frames=24))
    assert first.read_bytes < 0.5 * len(file.data)


DAMAGES = {
    "no bytes": lambda data: b"",
    "something else": lambda data: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "a playlist": lambda data: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "the first half": lambda data: data[: len(data) // 2],
    "the index alone": lambda data: (
        data[: data.index(b"mdat") + 4]
        + bytes(data.index(b"moov") - data.index(b"mdat") - 8)
        + data[data.index(b"moov") - 4 :]
    ),
    "a codec that is none": lambda data: data.replace(b"avc1", b"zzzz"),
    "sound alone": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_bytes_are_told(damage: str, clip: tuple[ClipFile, list[str]], tmp_path: Path) -> None:
    file, _ = clip
    if (spoil := DAMAGES[damage]) is None:
        (tmp_path / "whole.mp4").write_bytes(file.data)
        program("-i", str(tmp_path / "whole.mp4"), "-vn", "-c", "copy", str(tmp_path / "sound.mp4"))
        data = (tmp_path / "sound.mp4").read_bytes()
    else:
        data = spoil(file.data)
    with pytest.raises(DamagedClip):
        list(read_clip_frames(row_of(file), io.BytesIO(data)))


def test_a_name_that_is_no_text_harms_nothing(clip: tuple[ClipFile, list[str]]) -> None:
    file, pixels = clip
    data = file.data.replace(b"VideoHandler", b"VideoHandl\xee\x8d")
    assert data != file.data
    assert [pixels_of(frame) for frame in read_clip_frames(row_of(file), io.BytesIO(data))] == pixels


@pytest.mark.parametrize("promised", [FRAMES - 1, FRAMES + 1, 0])
def test_another_number_of_frames_is_told(promised: int, clip: tuple[ClipFile, list[str]]) -> None:
    file, _ = clip
    with pytest.raises(DamagedClip, match=f"{FRAMES} frames in the clip's bytes, {promised} promised"):
        list(read_clip_frames(row_of(file) | {"frames": promised}, io.BytesIO(file.data)))


@pytest.mark.parametrize("pixel_aspect", [Fraction(1), Fraction(4, 3), Fraction(8, 9)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_upright_rgb(rotation: int, pixel_aspect: Fraction, tmp_path: Path) -> None:
    """`encode_film` turns what it is given, so that a player shows it as it was."""
    encoding = Encoding(rotation_deg=rotation, pixel_aspect=pixel_aspect, bitrate_bps=4_000_000)
    path = tmp_path / "turned.mp4"
    given = list(pictures(12))
    encode_film(path, iter(given), encoding)
    coded = (HEIGHT, WIDTH) if rotation in (90, 270) else (WIDTH, HEIGHT)
    geometry = Geometry(*coded, pixel_aspect, rotation)
    file = cut(decoded(path), 3, 7)
    frames = read_frames(io.BytesIO(file.data), start_pts=file.start_pts, end_pts=file.end_pts, frames=4)
    for frame, picture in zip(frames, given[3:7], strict=True):
        ours = upright_rgb(frame, width=geometry.width, height=geometry.height)
        assert ours.dtype == np.uint8
        assert ours.flags.c_contiguous
        assert ours.shape == (geometry.height, geometry.width, 3)
        expected = cv2.resize(picture, (geometry.width, geometry.height), interpolation=cv2.INTER_AREA)
        assert difference(ours, expected) < 6
        assert rotation == 0 or difference(np.rot90(ours, 2), expected) > 12, "the picture could be any way up"


BOXES = [Box(0, 0, 40, 30), Box(7, 5, 33, 21), Box(1, 63, 3, 1), Box(11, 0, 1, 64)]  # odd places, odd sizes


@pytest.mark.parametrize("pixel_aspect", [Fraction(1), Fraction(4, 3)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_active_frames_are_the_whole_frames_pixels(
    rotation: int, pixel_aspect: Fraction, pix_fmt: str, tmp_path: Path
) -> None:
    path = tmp_path / "turned.mp4"
    encode_film(path, pictures(12), Encoding(rotation_deg=rotation, pixel_aspect=pixel_aspect, pix_fmt=pix_fmt))
    coded = (HEIGHT, WIDTH) if rotation in (90, 270) else (WIDTH, HEIGHT)
    geometry = Geometry(*coded, pixel_aspect, rotation)
    file = cut(decoded(path), 3, 7)
    row = row_of(file) | {"frames": 4, "width": geometry.width, "height": geometry.height}
    whole = [
        upright_rgb(frame, width=geometry.width, height=geometry.height)
        for frame in read_clip_frames(row, io.BytesIO(file.data))
    ]
    for box in [*BOXES, None]:
        sides = {f"active_{side}_px": getattr(box, side, None) for side in ("x", "y", "width", "height")}
        assert active_box(row | sides) == box
        active = list(read_active_frames(row | sides, io.BytesIO(file.data)))
        assert len(active) == 4
        for ours, frame in zip(active, whole, strict=True):
            expected = frame if box is None else frame[box.y : box.y + box.height, box.x : box.x + box.width]
            assert ours.flags.c_contiguous
            assert np.array_equal(ours, expected)


def difference(ours: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(ours.astype(float) - expected).mean())


COLOR = (0xC0, 0x80, 0x40)
MATRICES = {
    # name: the matrix and range of the numbers, and how they are said
    "bt709": "scale=out_color_matrix=bt709:out_range=limited,format=yuv420p,setparams=colorspace=bt709:range=limited",
    "full": "scale=out_color_matrix=bt709:out_range=full,format=yuv420p,setparams=colorspace=bt709:range=full",
    "bt601": "scale=out_color_matrix=smpte170m,format=yuv420p,setparams=colorspace=smpte170m",
    "bt2020": "scale=out_color_matrix=bt2020nc,format=yuv420p10le,setparams=colorspace=bt2020nc",
    "unsaid": "scale=out_color_matrix=bt601,format=yuv420p,setparams=colorspace=unknown",
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_colors_are_those_of_the_matrix(matrix: str, tmp_path: Path) -> None:
    path = tmp_path / "flat.mp4"
    color = "color=c=0x{:02X}{:02X}{:02X}:s=64x48:r=24:d=0.5".format(*COLOR)
    program("-f", "lavfi", "-i", color, "-vf", MATRICES[matrix], "-c:v", "libx264", "-crf", "1", str(path))
    file = cut(decoded(path), 2, 4)
    frame = next(read_frames(io.BytesIO(file.data), start_pts=file.start_pts, end_pts=file.end_pts, frames=2))
    rgb = upright_rgb(frame, width=64, height=48).reshape(-1, 3).mean(axis=0)
    assert np.abs(rgb - COLOR).max() < 5
