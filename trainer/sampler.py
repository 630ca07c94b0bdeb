"""From prompts to files: texts are read, latents sampled, decoded, cut to what was asked for, and written.

C channels, T frames, H rows, W columns; x is a video from -1 to 1, z its latent
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.geometry import Asked
from trainer.latents import LatentSpace
from trainer.media_files import pixels_of, refuse_unless_writable, write_media
from trainer.model.text import texts_of
from trainer.model.trained import Trained
from trainer.model.transformer import DiffusionTransformer, TextTokens
from trainer.sampling import Known, SamplingConfig, cut, sample_latents

__all__ = ["Sampler", "TextReader", "byte_reader", "first_frame"]


@dataclass(frozen=True, slots=True)
class TextReader:
    """Texts of samples to tokens, with the padding's at the end; `encoder_id` of a pretrained encoder, else empty."""

    read: Callable[[Sequence[str]], TextTokens]
    encoder_id: str = ""


def byte_reader(model: DiffusionTransformer, max_words: int = 256) -> TextReader:
    """By the encoder that was trained along. Raises ValueError for a text of too many words: none is cut silently."""

    @torch.no_grad()
    def read(texts: Sequence[str]) -> TextTokens:
        found = texts_of([*texts, ""], max_words)
        if found.cut:
            raise ValueError(f"prompt: has {found.cut} words too many; the model reads {max_words}")
        return model.read(found)

    return TextReader(read)


@dataclass(frozen=True, slots=True)
class Sampler:
    """A model with all that it takes to make videos. Raises ValueError where its parts do not belong together."""

    trained: Trained
    model: DiffusionTransformer
    space: LatentSpace
    texts: TextReader

    def __post_init__(self) -> None:
        config, space = self.trained.transformer, self.space
        if self.trained.network_id != space.network_id:
            raise ValueError(
                f"network={space.network_id}: the model was trained on latents of network {self.trained.network_id}"
            )
        if self.trained.encoder_id != self.texts.encoder_id:
            raise ValueError(
                f"encoder={self.texts.encoder_id!r}: the model was trained on texts of {self.trained.encoder_id!r}"
            )
        for name in ("ratio_time", "ratio_space", "latent_channels"):
            if getattr(config, name) != getattr(space, name):
                raise ValueError(f"{name}={getattr(space, name)}: the model has {getattr(config, name)}")

    def videos(
        self,
        asked: Asked,
        prompts: Sequence[str],
        config: SamplingConfig,
        *,
        negative: str = "",
        known: Known | None = None,
        dtype: torch.dtype | None = None,
        seen: Callable[[int], None] = lambda step: None,
    ) -> list[Tensor]:
        """One [C, T, H, W] a prompt, exactly as asked; prompt n has the seed + n. Raises ValueError."""
        geometry = asked.covered(self.trained.transformer.compression)
        latents = sample_latents(
            self.model,
            self.trained.flow,
            [geometry] * len(prompts),
            self.texts.read(prompts),
            self.texts.read([negative] * len(prompts)) if config.guidance != 1 else None,
            config,
            known=[known] * len(prompts),
            dtype=dtype,
            seen=seen,
        )
        return [cut(self.space.decode(z_CTHW[None])[0], asked) for z_CTHW in latents]

    def to_file(
        self,
        path: Path,
        asked: Asked,
        prompt: str,
        config: SamplingConfig,
        *,
        negative: str = "",
        known: Known | None = None,
        dtype: torch.dtype | None = None,
        seen: Callable[[int], None] = lambda step: None,
    ) -> dict[str, Any]:
        """Make one and write it; what is stored in the file with it. Nothing is sampled that could not be written.

        Raises ValueError, OSError.
        """
        refuse_unless_writable(path, asked.width, asked.height, asked.rate)
        (video_CTHW,) = self.videos(asked, [prompt], config, negative=negative, known=known, dtype=dtype, seen=seen)
        info = {
            "prompt": prompt,
            "negative": negative,
            **asdict(asked),
            "rate": str(asked.rate),
            **asdict(config),
            "known_latent_frames": int(known.is_known_T.sum()) if known else 0,
            "network_id": self.trained.network_id,
        }
        write_media(path, pixels_of(video_CTHW), asked.rate, info)
        return info


def first_frame(space: LatentSpace, picture_CHW: Tensor, asked: Asked, trained: Trained) -> Known:
    """Image to video: a picture from -1 to 1, of exactly the asked size, as the first frame. It is encoded by itself,
    so nothing of what is to be made can be in it. Raises ValueError."""
    if tuple(picture_CHW.shape) != (3, asked.height, asked.width):
        raise ValueError(f"picture={list(picture_CHW.shape)}: must be [3, {asked.height}, {asked.width}], as asked for")
    geometry = asked.covered(trained.transformer.compression)
    padding = (0, geometry.width - asked.width, 0, geometry.height - asked.height)
    covered_CHW = torch.nn.functional.pad(picture_CHW[None], padding, mode="replicate")[0]
    z_CHW = space.encode(covered_CHW[None, :, None])[0, :, 0]
    latent_CTHW = torch.zeros(len(z_CHW), *geometry.latent_size)
    latent_CTHW[:, 0] = z_CHW
    return Known(latent_CTHW, torch.arange(geometry.latent_size[0]) == 0)
