"""What a run has learnt so far, to look at: frames of samples in rows under their prompts; crops over what a
compression network makes of them.

B crops, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from trainer.flow import FlowConfig
from trainer.geometry import Geometry
from trainer.latents import LatentSpace
from trainer.media_files import pixels_of, write_media
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer, TextTokens
from trainer.network.compression import CompressionNetwork
from trainer.sampling import SamplingConfig, sample_latents

__all__ = ["Asked", "make_preview", "make_reconstructions", "sheet"]

FRAMES_SHOWN, LINE_PX, WORDS_SHOWN = 6, 14, 160
LEAST_SIDE_PX = 96
CROPS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What is sampled each time, with the same noise."""

    prompts: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    prompt_tokens: tuple[Tensor, ...] = ()
    """What a pretrained encoder read, one of each prompt, and of no text at last; none where words are read."""


@torch.no_grad()
def sampled(
    model: DiffusionTransformer, flow: FlowConfig, asked: Asked, config: SamplingConfig, max_words: int
) -> list[Tensor]:
    """Latents [C, T, H, W] of each prompt."""
    if asked.prompt_tokens:
        *said, nothing = asked.prompt_tokens
        prompts, negatives = TextTokens.of(said), TextTokens.of([nothing] * len(said))
        device = next(model.parameters()).device
        prompts, negatives = prompts.to(device), negatives.to(device)
    else:
        prompts = model.read(texts_of([*asked.prompts, ""], max_words))
        negatives = model.read(texts_of([""] * (len(asked.prompts) + 1), max_words))
    return sample_latents(model, flow, asked.geometries, prompts, negatives, config)


def make_preview(latents: Sequence[Tensor], space: LatentSpace, asked: Asked, folder: Path) -> NDArray[np.uint8]:
    """Decode, write each as a file of its own and all as one sheet; the sheet, uint8[H, W, 3]. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (z_CTHW, geometry) in enumerate(zip(latents, asked.geometries, strict=True)):
        frames_THW3 = pixels_of(space.decode(z_CTHW[None])[0])
        suffix = ".png" if geometry.frames == 1 else ".mp4"
        info = {"prompt": asked.prompts[number]}
        write_media(folder / f"{number}{suffix}", frames_THW3, Fraction(geometry.rate), info)
        rows.append(frames_THW3)
    picture = sheet(rows, asked.prompts)
    Image.fromarray(picture).save(folder / "sheet.png")
    return picture


@torch.no_grad()
def make_reconstructions(network: CompressionNetwork, pixels_BCTHW: Tensor, folder: Path) -> NDArray[np.uint8]:
    """Crops, uint8, each over what a compression network makes of it, written as one sheet; uint8[H, W, 3]. Raises
    OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    device = next(network.parameters()).device
    rows: list[tuple[NDArray[np.uint8], str]] = []
    for number, crop_CTHW in enumerate(pixels_BCTHW[:CROPS_SHOWN]):
        x_BCTHW = crop_CTHW[None].to(device).float() / 127.5 - 1
        again_CTHW = network.decode(network.encode(x_BCTHW).mode)[0]
        rows += [(pixels_of(x_BCTHW[0]), f"crop {number}"), (pixels_of(again_CTHW), f"crop {number} from its latent")]
    picture = sheet(*zip(*rows, strict=True))
    Image.fromarray(picture).save(folder / "sheet.png")
    return picture


def sheet(videos: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> NDArray[np.uint8]:
    """Rows of frames, each under its prompt; small pictures are enlarged, by whole factors, as they are."""
    strips = []
    for frames_THW3, prompt in zip(videos, prompts, strict=True):
        count = len(frames_THW3)
        shown = frames_THW3[np.linspace(0, count - 1, min(FRAMES_SHOWN, count)).round().astype(int)]
        factor = max(1, LEAST_SIDE_PX // min(shown.shape[1:3]))
        strip = np.concatenate(list(shown.repeat(factor, 1).repeat(factor, 2)), axis=1)
        strips.append((strip, prompt[:WORDS_SHOWN]))
    width = max(strip.shape[1] for strip, _ in strips)
    height = sum(strip.shape[0] + LINE_PX for strip, _ in strips)
    page = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(page), 0
    for strip, prompt in strips:
        draw.text((2, top + 1), prompt.encode("latin-1", "replace").decode("latin-1"), fill="black")
        page.paste(Image.fromarray(strip), (0, top + LINE_PX))
        top += strip.shape[0] + LINE_PX
    return np.asarray(page)
