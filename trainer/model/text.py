"""A text encoder that is trained along with the transformer, from bytes: no vocabulary, no download, any language.

Bytes are gathered into words, so that attention is over some tens of tokens and not hundreds; each word is read by
itself, which makes texts in a pack independent without any padding between them.

W words of all texts, S bytes of a word, D width, H heads
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from trainer.model.attention import Segments, attend
from trainer.model.rotary import apply_rotary

__all__ = ["ByteEncoder", "ByteEncoderConfig", "Texts", "texts_of"]

WORD_BYTES = 16  # of one token; a longer word becomes several
NONE, END, VALUES = 256, 257, 258  # besides the bytes: past a word's end, and the text's end
PERIOD_WORDS = 1000.0


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of a pack.

    bytes_WS   int64, the bytes of each word, NONE past its end; each text ends with a word of END alone
    segments   the words of each text
    cut        how many words were left out because their text was too long
    """

    bytes_WS: Tensor
    segments: Segments
    cut: int = 0

    def to(self, device: torch.device | str) -> Texts:
        return Texts(self.bytes_WS.to(device, non_blocking=True), self.segments.to(device), self.cut)


def texts_of(texts: Sequence[str], max_words: int = 256) -> Texts:
    """The words of some texts; what is beyond `max_words` of a text is left out and counted."""
    if max_words < 1:
        raise ValueError(f"max_words={max_words}: must be at least 1")
    rows: list[list[int]] = []
    lengths: list[int] = []
    cut = 0
    for text in texts:
        words = _words(text)
        cut += max(0, len(words) - max_words)
        kept = [*words[:max_words], [END]]
        rows += [word + [NONE] * (WORD_BYTES - len(word)) for word in kept]
        lengths.append(len(kept))
    return Texts(torch.tensor(rows, dtype=torch.int64).reshape(-1, WORD_BYTES), Segments.of(lengths), cut)


def _words(text: str) -> list[list[int]]:
    """The same for all spellings of a letter; no character is divided."""
    composed = unicodedata.normalize("NFC", text).encode(errors="replace").decode()
    return [piece for word in _split(composed) for piece in _pieces(word)]


def _split(text: str) -> Iterator[str]:
    """Letters with their marks and digits together, every other character by itself, white space left out."""
    for is_word, run in groupby(text, lambda character: unicodedata.category(character)[0] in "LMN"):
        if is_word:
            yield "".join(run)
        else:
            yield from (character for character in run if not character.isspace())


def _pieces(word: str) -> list[list[int]]:
    pieces: list[list[int]] = [[]]
    for character in word:
        spelled = character.encode()
        if len(pieces[-1]) + len(spelled) > WORD_BYTES:
            pieces.append([])
        pieces[-1] += spelled
    return pieces


@dataclass(frozen=True, slots=True)
class ByteEncoderConfig:
    width: int = 128
    depth: int = 2
    head_width: int = 32

    def __post_init__(self) -> None:
        for name in ("width", "head_width"):
            if getattr(self, name) < 2 or getattr(self, name) % 2:
                raise ValueError(f"{name}={getattr(self, name)}: must be even and at least 2")
        if self.depth < 0:
            raise ValueError(f"depth={self.depth}: must be at least 0")
        if self.width % self.head_width:
            raise ValueError(f"width={self.width}: must be a multiple of head_width={self.head_width}")


class ByteEncoder(nn.Module):
    """Bytes to one vector a word; the words of a text know each other, those of two texts do not."""

    def __init__(self, config: ByteEncoderConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(VALUES, config.width)
        self.place = nn.Parameter(torch.randn(WORD_BYTES, config.width) * 0.02)
        self.spell = nn.Conv1d(config.width, config.width, 5, padding=2)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, texts: Texts) -> Tensor:
        """[W, D]"""
        is_there_WS = (texts.bytes_WS != NONE)[..., None]
        x_WSD = (self.embedding(texts.bytes_WS) + self.place) * is_there_WS
        spelled_WSD = rearrange(self.spell(rearrange(x_WSD, "w s d -> w d s")), "w d s -> w s d")
        x_WD = ((x_WSD + F.gelu(spelled_WSD)) * is_there_WS).sum(dim=1) / is_there_WS.sum(dim=1)
        cos_WA, sin_WA = word_angles(texts.segments, self.config.head_width, x_WD.device)
        for block in self.blocks:
            x_WD = block(x_WD, texts.segments, cos_WA, sin_WA)
        return self.norm(x_WD)


def word_angles(segments: Segments, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each word's place in its text."""
    places = torch.cat([torch.arange(n, dtype=torch.float32) for n in segments.lengths])
    speeds = PERIOD_WORDS ** -(torch.arange(head_width // 2, dtype=torch.float32) / (head_width // 2))
    turned = (places[:, None] * speeds).to(device, non_blocking=True)
    return turned.cos(), turned.sin()


class TextBlock(nn.Module):
    def __init__(self, config: ByteEncoderConfig):
        super().__init__()
        width = config.width
        self.heads = width // config.head_width
        self.norm_attention, self.norm_mlp = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x_WD: Tensor, segments: Segments, cos_WA: Tensor, sin_WA: Tensor) -> Tensor:
        qkv = rearrange(self.qkv(self.norm_attention(x_WD)), "w (n h k) -> n w h k", n=3, h=self.heads)
        q_WHK, k_WHK = (apply_rotary(x, cos_WA, sin_WA) for x in (qkv[0], qkv[1]))
        seen_WHK = attend(q_WHK, k_WHK, qkv[2], segments, segments)
        x_WD = x_WD + self.out(rearrange(seen_WHK, "w h k -> w (h k)"))
        return x_WD + self.mlp(self.norm_mlp(x_WD))
