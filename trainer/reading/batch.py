"""What a step reads for a slot: a pack, ready but for what its compression network has to do, and what belongs to it.

L tokens of a pack, P numbers of a patch, N samples, B crops, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.model.pack import Pack
from trainer.model.text import Texts
from trainer.model.transformer import TextTokens

__all__ = ["CropBatch", "SlotBatch"]


@dataclass(frozen=True, slots=True)
class CropBatch:
    """What a step reads for a slot where a compression network is trained.

    pixels_BCTHW   uint8
    replaced       crops in whose place another clip's is, because their own could not be decoded
    """

    step: int
    slot: int
    pixels_BCTHW: Tensor
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class SlotBatch:
    """A slot of a step.

    pack            its latents are zeros where `pixels` are given
    noise_LP        float32, 0 for padding
    normal_N        float32, a number from the standard normal distribution a sample, for `flow.draw_times`
    texts           of each sample, and the padding's, which is empty
    pixels          uint8[3, T, H, W] of each sample; none where latents were read
    clip_ids, captions, caption_kinds, masks   of each sample; the kind `none` has no text
    replaced        samples whose own clip could not be decoded, and those whose place is left empty
    read_bytes      of clips, from the store
    read_s          how long it took to make all this
    words_cut       of texts that were too long
    """

    step: int
    slot: int
    pack: Pack
    noise_LP: Tensor
    normal_N: Tensor
    texts: Texts | TextTokens
    pixels: tuple[Tensor, ...]
    clip_ids: tuple[str, ...]
    captions: tuple[str, ...]
    caption_kinds: tuple[str, ...]
    masks: tuple[str, ...]
    replaced: int
    read_bytes: int
    read_s: float
    words_cut: int

    def to(self, device: torch.device | str) -> SlotBatch:
        texts = self.texts
        if isinstance(texts, TextTokens):
            texts = TextTokens(texts.z_WD.to(device, non_blocking=True), texts.segments.to(device))
        else:
            texts = texts.to(device)
        return replace(
            self,
            pack=self.pack.to(device),
            noise_LP=self.noise_LP.to(device, non_blocking=True),
            normal_N=self.normal_N.to(device, non_blocking=True),
            texts=texts,
            pixels=tuple(x.to(device, non_blocking=True) for x in self.pixels),
        )
