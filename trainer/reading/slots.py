"""A slot of a step, read: a pure function of the plan, the store's pinned versions and a seed, in any process.

L tokens of a pack, P numbers of a patch, N samples, C channels, T latent frames, H rows, W columns
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from curation.store import Store
from trainer.draws import Key, MaskConfig, draw_mask, draw_noise, draw_normal
from trainer.geometry import Geometry
from trainer.model.config import TransformerConfig
from trainer.model.pack import Sample, make_pack, patches_of
from trainer.model.text import Texts, texts_of
from trainer.model.transformer import TextTokens
from trainer.reading.batch import SlotBatch
from trainer.reading.mix import CaptionMix, DrawnKind, drawn_caption, mixed
from trainer.reading.plan_table import Planned, Plans
from trainer.reading.samples import LatentReader, PixelReader, Read, TextReader
from trainer.reading.standing_in import stand_ins

__all__ = ["NothingReadable", "Said", "SlotReader"]


class NothingReadable(Exception):
    """No clip of a slot can be decoded, nor any that could stand in for one. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said of a sample, and where it stands; no row for no text."""

    kind: DrawnKind
    text: str
    row: int | None


@dataclass(frozen=True, slots=True)
class Said:
    """Of each clip of a slot its caption and its geometry; and the texts as a transformer reads them, the padding's
    last."""

    captions: tuple[str, ...]
    geometries: tuple[Geometry, ...]
    texts: Texts | TextTokens


@dataclass(frozen=True)  # without slots: what it opens is kept in the process that opened it, and not sent to others
class SlotReader:
    """Reads slots of a plan; cheap to make and to send to workers, opens tables when the first slot is read.

    Attributes:
        store: Its tables are read at the versions that the plan's list of clips was made from, and latents instead of
            pixels, or embeddings instead of words, where that list says so.
        plans: Which clips; a square crop, where its config asks for one, is made here.
        transformer: What packs are made for.
        seed: Of noise, times, masks and captions.
        max_words: Of a text; what is beyond is left out and counted.
        threads: That decode clips of a slot side by side.
    """

    store: Store
    plans: Plans
    transformer: TransformerConfig
    seed: int = 0
    mask: MaskConfig = field(default_factory=MaskConfig)
    mix: CaptionMix = field(default_factory=CaptionMix)
    max_words: int = 256
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("max_words", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.plans.config.compression != self.transformer.compression:
            planned = self.plans.config.compression
            raise ValueError(f"transformer: must be for the plan's {planned}, is for {self.transformer.compression}")
        if self.plans.clips.source["captions_version"] is None:
            raise ValueError("plans: must be of a list of clips that was made with a version of 'captions'")
        if self.plans.clips.has_embeddings and self.mix.drop_sentences:
            raise ValueError(
                f"drop_sentences={self.mix.drop_sentences}: must be 0 where texts were encoded ahead, as whole captions"
            )
        if self.plans.clips.has_embeddings == bool(self.transformer.text_depth):
            said = "0 where texts were encoded ahead, and above 0 where their words are read"
            raise ValueError(f"text_depth={self.transformer.text_depth}: must be {said}")

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def _clips(self) -> PixelReader | LatentReader:
        if self.plans.clips.has_latents:
            return LatentReader(self.store, self.plans.clips, channels=self.transformer.latent_channels)
        square_crop = self.plans.config.fit.square_crop
        return PixelReader(self.store, self.plans.clips, square_crop=square_crop, threads=self.threads)

    @cached_property
    def _texts(self) -> TextReader:
        return TextReader(self.store, self.plans.clips, width=self.transformer.text_width)

    @cached_property
    def _damaged(self) -> set[tuple[int, int]]:
        """Clips, with the frames that were asked of them, that could not be decoded: they are not tried again."""
        return set()

    def read(self, step: int, slot: int) -> SlotBatch:
        """Raises StoreUnavailable where tables or their files are gone, NothingReadable, ValueError where what was
        encoded ahead is not for this transformer, OSError where the plan cannot be written."""
        started_s = time.perf_counter()
        planned = self.plans.samples(step, slot)
        found = self._read(planned)
        places = [(Key(self.seed, step, slot, i), one) for i, one in enumerate(found) if one is not None]
        if not places:
            raise NothingReadable(
                f"step {step}, slot {slot}: none of {len(planned)} clips can be decoded, nor what could stand in for "
                f"them, such as clip {self._clip_id(planned[0])}; curate the footage anew, or restore the store"
            )
        keys, reads = zip(*places, strict=True)
        masks = [draw_mask(key, one.planned.geometry, self.mask) for key, one in places]
        is_pixels = not self.plans.clips.has_latents
        samples = [
            Sample(self._blank(one.planned) if is_pixels else one.data, one.planned.geometry, known_T)
            for one, (_, known_T) in zip(reads, masks, strict=True)
        ]
        pack = make_pack(samples, self.transformer, self.plans.config.pack.budget_tokens)
        captions = self._captions(keys, [one.planned for one in reads])
        texts, cut = self._words(captions)
        return SlotBatch(
            step=step,
            slot=slot,
            pack=pack,
            noise_LP=self._noise(keys, reads, len(pack.row_L)),
            normal_N=torch.tensor([draw_normal(key, "time") for key in keys], dtype=torch.float32),
            texts=texts,
            pixels=tuple(one.data for one in reads) if is_pixels else (),
            clip_ids=tuple(self._clip_id(one.planned) for one in reads),
            captions=tuple(caption.text for caption in captions),
            caption_kinds=tuple(caption.kind for caption in captions),
            masks=tuple(kind for kind, _ in masks),
            replaced=sum(one is None or one.planned != own for one, own in zip(found, planned, strict=True)),
            read_bytes=sum(one.read_bytes for one in reads),
            read_s=time.perf_counter() - started_s,
            words_cut=cut,
        )

    def said(self, step: int, slot: int) -> Said:
        """What a slot's clips are said to be, of which none is read: another may take the place of one that cannot be
        decoded. Raises as `read`."""
        planned = self.plans.samples(step, slot)
        keys = [Key(self.seed, step, slot, i) for i in range(len(planned))]
        captions = self._captions(keys, planned)
        texts, _ = self._words(captions)
        return Said(tuple(caption.text for caption in captions), tuple(one.geometry for one in planned), texts)

    def no_text(self) -> Tensor:
        """[words, D] that stand for no text, where texts were encoded ahead. Raises as `read`."""
        return self._texts.embeddings([None])[0]

    def _read(self, planned: Sequence[Planned]) -> list[Read | None]:
        """Each place's clip, or what stands in for it; None where nothing does."""
        sound = [one for one in planned if (one.number, one.geometry.frames) not in self._damaged]
        found = {one.number: read for one, read in zip(sound, self._clips.read(sound), strict=True)} if sound else {}
        reads: list[Read | None] = []
        for one in planned:
            if (read := found.get(one.number)) is None:
                self._damaged.add((one.number, one.geometry.frames))
                read = next((read for other in stand_ins(self.plans, one) if (read := self._tried(other))), None)
            reads.append(read)
        return reads

    def _tried(self, planned: Planned) -> Read | None:
        known = planned.number, planned.geometry.frames
        if known in self._damaged:
            return None
        (read,) = self._clips.read([planned])
        if read is None:
            self._damaged.add(known)
        return read

    def _clip_id(self, planned: Planned) -> str:
        return self.plans.clips.texts("clip_id")[planned.number].as_py()

    def _blank(self, planned: Planned) -> Tensor:
        return torch.zeros(self.transformer.latent_channels, *planned.geometry.latent_size)

    def _noise(self, keys: Sequence[Key], reads: Sequence[Read], tokens: int) -> Tensor:
        """[L, P]"""
        channels, compression = self.transformer.latent_channels, self.transformer.compression
        geometries = [one.planned.geometry for one in reads]
        noises = [draw_noise(key, g, channels) for key, g in zip(keys, geometries, strict=True)]
        noise_LP = torch.cat([patches_of(noise_CTHW, compression) for noise_CTHW in noises])
        return F.pad(noise_LP, (0, 0, 0, tokens - len(noise_LP)))

    def _captions(self, keys: Sequence[Key], planned: Sequence[Planned]) -> list[Caption]:
        clips = self.plans.clips
        drawn: list[tuple[DrawnKind, int | None, int | None]] = []
        for key, one in zip(keys, planned, strict=True):
            rows = clips.caption_rows(one.number)
            embedded = clips.embedding_rows(one.number) if clips.has_embeddings else rows
            kind = drawn_caption(key, embedded.keys(), self.mix)
            drawn.append((kind, None, None) if kind == "none" else (kind, rows[kind], embedded[kind]))
        texts = self._texts.texts([row for _, row, _ in drawn])
        return [
            Caption(kind, mixed(text, key, self.mix), row)
            for key, text, (kind, _, row) in zip(keys, texts, drawn, strict=True)
        ]

    def _words(self, captions: Sequence[Caption]) -> tuple[Texts | TextTokens, int]:
        """What the transformer reads of the texts, and how many words were left out."""
        if not self.plans.clips.has_embeddings:
            texts = texts_of([*(caption.text for caption in captions), ""], self.max_words)
            return texts, texts.cut
        whole = self._texts.embeddings([caption.row for caption in captions])
        cut = sum(max(0, len(z_WD) - self.max_words) for z_WD in whole)
        return TextTokens.of([z_WD[: self.max_words] for z_WD in whole]), cut
