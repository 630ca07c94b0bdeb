"""At what size a clip is trained and sampled: frames and pixels that its network and patches divide, at its own aspect.

A clip is resized, never cropped, and never made larger. Its rate stays. What is left over of its frames is at its end
and less than a patch of time, unless it is too long for the budget at the least size that is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, log, prod, sqrt

__all__ = ["Asked", "Compression", "FitConfig", "Geometry", "fit"]

ASPECT_STEPS = 3  # units by which a side may miss the best one while another side is looked for


def _refuse_unless_positive(**values: float | Fraction) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: must be above 0")


@dataclass(frozen=True, slots=True)
class Compression:
    """How pixels become tokens: by the network's ratios, then by patches of latent cells.

    Attributes:
        ratio_time: Frames of one latent frame; the first frame is one by itself.
        ratio_space: Pixels along a side of a latent cell.
        patch_time: Latent frames of a patch.
        patch_space: Latent cells along a side of a patch.
    """

    ratio_time: int = 4
    ratio_space: int = 8
    patch_time: int = 1
    patch_space: int = 2

    def __post_init__(self) -> None:
        for name in ("ratio_time", "ratio_space", "patch_time", "patch_space"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def unit_px(self) -> int:
        """Pixels along a side of a token."""
        return self.ratio_space * self.patch_space

    def latent_frames(self, frames: int) -> int:
        return 1 + (frames - 1) // self.ratio_time

    def frames_of(self, latent_frames: int) -> int:
        return 1 + (latent_frames - 1) * self.ratio_time

    def whole_frames(self, frames: int) -> int:
        """The most frames, up to these, that make whole patches; 0 where there are too few for one."""
        latent = self.latent_frames(frames) // self.patch_time * self.patch_time
        return self.frames_of(latent) if latent else 0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Size, length and rate of a clip as the model sees it. An image is one frame.

    Raises ValueError where the compression does not divide it.
    """

    frames: int
    height: int
    width: int
    rate: Fraction
    compression: Compression = Compression()

    def __post_init__(self) -> None:
        _refuse_unless_positive(frames=self.frames, height=self.height, width=self.width, rate=self.rate)
        c = self.compression
        for name in ("height", "width"):
            if getattr(self, name) % c.unit_px:
                raise ValueError(f"{name}={getattr(self, name)}: must be a multiple of {c.unit_px} pixels")
        if (self.frames - 1) % c.ratio_time or c.latent_frames(self.frames) % c.patch_time:
            step = c.ratio_time * c.patch_time
            raise ValueError(f"frames={self.frames}: must be {c.frames_of(c.patch_time)} and a multiple of {step} more")

    @property
    def latent_size(self) -> tuple[int, int, int]:
        """T, H, W in latent cells."""
        c = self.compression
        return c.latent_frames(self.frames), self.height // c.ratio_space, self.width // c.ratio_space

    @property
    def grid(self) -> tuple[int, int, int]:
        """T, H, W in tokens."""
        time, height, width = self.latent_size
        c = self.compression
        return time // c.patch_time, height // c.patch_space, width // c.patch_space

    @property
    def tokens(self) -> int:
        return prod(self.grid)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.rate)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sampled: exactly this size, and seconds times rate frames; 0 seconds are an image.

    Any size is made: the least geometry that covers it is sampled, and what is too much is cut off the picture's right
    and lower edge and its end.
    """

    width: int
    height: int
    seconds: float
    rate: Fraction

    def __post_init__(self) -> None:
        _refuse_unless_positive(width=self.width, height=self.height, rate=self.rate)
        if not 0 <= self.seconds < float("inf"):
            raise ValueError(f"seconds={self.seconds}: must be from 0 on and finite; 0 is an image")

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * self.rate))

    def covered(self, compression: Compression) -> Geometry:
        unit = compression.unit_px
        height, width = (-(-side // unit) * unit for side in (self.height, self.width))
        latent_frames = -(-(self.frames - 1) // compression.ratio_time) + 1
        slices = -(-latent_frames // compression.patch_time)
        return Geometry(compression.frames_of(slices * compression.patch_time), height, width, self.rate, compression)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Which geometries clips are trained at.

    Attributes:
        max_tokens: Of one clip.
        min_side_px: The shorter side is not made smaller than this; a longer clip is cut at its end instead. Of a
            smaller clip it stays as it is, but for what is less than a token.
        max_aspect_error: By what factor, less one, width to height may change for the sake of whole tokens where there
            is a choice; the least is taken where there is none.
        max_frames: 0 for no limit.
        square_crop: Only for comparisons: the largest square in the clip's middle, as trainers with one shape take it.
    """

    max_tokens: int
    min_side_px: int = 64
    max_aspect_error: float = 0.03
    max_frames: int = 0
    square_crop: bool = False

    def __post_init__(self) -> None:
        _refuse_unless_positive(max_tokens=self.max_tokens, min_side_px=self.min_side_px)
        if not 0 <= self.max_aspect_error < 1:
            raise ValueError(f"max_aspect_error={self.max_aspect_error}: must be from 0 on and below 1")
        if self.max_frames < 0:
            raise ValueError(f"max_frames={self.max_frames}: must be at least 0")


def fit(
    frames: int, height: int, width: int, rate: Fraction, compression: Compression, config: FitConfig
) -> Geometry | None:
    """The largest geometry for a clip within the budget, no larger than the clip; None where it has too few frames or
    pixels for one token, or its least size at one patch of time does not fit.

    height, width   of the pixels that are shown; a clip with pixels that are not square is resized to square ones
    """
    _refuse_unless_positive(frames=frames, height=height, width=width, rate=rate)
    if config.square_crop:
        height = width = min(height, width)
    frames = compression.whole_frames(min(frames, config.max_frames or frames))
    unit, shorter = compression.unit_px, min(height, width)
    if not frames or shorter < unit:
        return None
    least = min(-(-config.min_side_px // unit), shorter // unit)
    least_rows, least_columns = (least * side // shorter for side in (height, width))
    most_slices = config.max_tokens // (least_rows * least_columns)
    slices = min(compression.latent_frames(frames) // compression.patch_time, most_slices)
    if not slices:
        return None
    rows, columns = _sides(height, width, unit, least, config.max_tokens // slices, config.max_aspect_error)
    frames = compression.frames_of(slices * compression.patch_time)
    return Geometry(frames, rows * unit, columns * unit, rate, compression)


def _sides(height: int, width: int, unit: int, least: int, cells: int, max_error: float) -> tuple[int, int]:
    """Rows and columns of tokens, each at least `least`, at most `cells` in all: the most of those whose aspect is near
    enough, else the nearest.

    Both sides stay within the clip's own. There is a choice always: `cells` has room for the least size.
    """
    most_rows, most_columns = height // unit, width // unit
    ideal_rows = min(height / unit, sqrt(cells * height / width * (1 + max_error)))
    found: list[tuple[bool, float, int, int]] = []
    for rows in range(least, min(most_rows, floor(ideal_rows) + ASPECT_STEPS) + 1):
        ideal_columns = rows * width / height
        most_near = min(most_columns, cells // rows, floor(ideal_columns * (1 + max_error)))
        for columns in {floor(ideal_columns), floor(ideal_columns) + 1, most_near}:
            if least <= columns <= most_columns and rows * columns <= cells:
                error = abs(log(columns * height / (rows * width)))
                is_near = error <= log(1 + max_error)
                found.append((is_near, rows * columns if is_near else -error, rows, columns))
    return max(found)[2:]
