"""The diffusion transformer: patches of a pack's noisy latents, times and texts in, one prediction a patch out.

Texts join by cross-attention. A text put into the sequence itself would have to be in every frame's and every window's
segment for the other attentions, would change what a token budget means, and costs as much as the picture's tokens;
across, the cost is linear, and one mechanism serves full, factorised and windowed attention alike.

L tokens of a pack, P numbers of a patch, R rows (pairs of a sample and a time), W words of all texts, D width, H heads,
K width of a head, A angles of a head
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from trainer.model.attention import OPERATORS, Segments, attend
from trainer.model.config import Recompute, TransformerConfig
from trainer.model.context import Context, own_heads, to_heads, to_tokens
from trainer.model.layouts import Layout
from trainer.model.modulation import add_gated, modulate
from trainer.model.pack import Pack
from trainer.model.rotary import apply_rotary
from trainer.model.text import ByteEncoder, ByteEncoderConfig, Texts

__all__ = ["DiffusionTransformer", "TextTokens"]

TIME_WAVES, TIME_PERIOD, TIME_SCALE = 256, 10_000.0, 1000.0
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)


@dataclass(frozen=True, slots=True)
class TextTokens:
    """Texts as an encoder read them: z_WD, and the words of each. The last belongs to a pack's padding."""

    z_WD: Tensor
    segments: Segments

    @classmethod
    def of(cls, texts: Sequence[Tensor]) -> TextTokens:
        """From a pretrained encoder's [words, D] of each text; the padding's is one word of zeros."""
        padded = [*texts, torch.zeros_like(texts[0][:1])]
        return cls(torch.cat(padded), Segments.of([len(z) for z in padded]).to(texts[0].device))

    def to(self, device: torch.device | str) -> TextTokens:
        return TextTokens(self.z_WD.to(device, non_blocking=True), self.segments.to(device))


class DiffusionTransformer(nn.Module):
    """Predicts what its flow says (a velocity, or the clean latent) for each token of a pack.

    Starts as the function that is 0 everywhere: its last layer, all gates, and what texts add to tokens are 0.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Linear(config.patch_numbers, width)
        self.time = nn.Sequential(nn.Linear(TIME_WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.text = nn.Linear(config.text_width, width)
        self.text_encoder = None
        if config.text_depth:
            head = next(k for k in (64, 32, 16, 8, 4, 2) if config.text_width % k == 0)
            self.text_encoder = ByteEncoder(ByteEncoderConfig(config.text_width, config.text_depth, head))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.last_norm = nn.RMSNorm(width, elementwise_affine=False)
        self.last_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.leave = nn.Linear(width, config.patch_numbers)
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        added = [module.out for module in self.modules() if isinstance(module, CrossAttention)]
        for last in (self.modulation[-1], self.last_modulation[-1], self.leave, *added):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)

    def share_context(self, context: Context | None) -> None:
        """From now on each pack's tokens are shared by several processes, or no longer. Raises ValueError."""
        if context is not None and self.config.heads % context.size:
            raise ValueError(f"context_parallel={context.size}: must divide the model's {self.config.heads} heads")
        for module in self.modules():
            if isinstance(module, SelfAttention | CrossAttention):
                module.context = context

    @property
    def head_widths(self) -> set[int]:
        """Of all its attentions, its text encoder's among them."""
        widths = {self.config.head_width}
        return widths if self.text_encoder is None else widths | {self.text_encoder.config.head_width}

    def recompute(self, what: Recompute) -> None:
        """From now on the backward pass makes these activations of blocks again."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.recomputes = what

    def read(self, texts: Texts) -> TextTokens:
        """Texts of a pack by the encoder that is trained along; the last must be the padding's, empty. They may be on
        any device."""
        assert self.text_encoder is not None, "text_depth=0: texts are read by a pretrained encoder"
        texts = texts.to(self.enter.weight.device)
        return TextTokens(self.text_encoder(texts), texts.segments)

    def forward(self, x_LP: Tensor, times_R: Tensor, text: TextTokens, pack: Pack) -> Tensor:
        """[L, P]. times_R from 0 (clean) to 1 (noise) for each of the pack's rows."""
        waves = time_waves(times_R).to(x_LP.dtype)
        time_RD = self.time(waves)
        shared_R6D = rearrange(self.modulation(time_RD), "r (six d) -> six r d", six=6)
        text_WD = self.text(text.z_WD.to(x_LP.dtype))
        x_LD = self.enter(x_LP)
        for number, block in enumerate(self.blocks):
            layout = pack.layouts[number % len(pack.layouts)]
            x_LD = block(x_LD, shared_R6D, text_WD, text.segments, layout, pack)
        scale_RD, shift_RD = self.last_modulation(time_RD).chunk(2, dim=-1)
        return self.leave(modulate(self.last_norm(x_LD), scale_RD, shift_RD, pack.row_L))


def time_waves(times_R: Tensor) -> Tensor:
    """float32[R, TIME_WAVES]: cosines and sines of each time (arXiv 1706.03762, section 3.5)."""
    half = TIME_WAVES // 2
    speeds = torch.exp(-log(TIME_PERIOD) * torch.arange(half, dtype=torch.float32, device=times_R.device) / half)
    turned = TIME_SCALE * times_R.float()[:, None] * speeds
    return torch.cat((turned.cos(), turned.sin()), dim=-1)


class Block(nn.Module):
    """Attention among a clip's tokens, attention to its text, MLP. One modulation is shared by all blocks, each adds
    its own constant to it (arXiv 2310.00426, section 2.3): a third of the parameters otherwise."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width = config.width
        self.norm_attention = nn.RMSNorm(width, elementwise_affine=False)
        self.norm_text = nn.RMSNorm(width)
        self.norm_mlp = nn.RMSNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, config.head_width)
        self.cross = CrossAttention(width, config.head_width)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_width), nn.GELU(approximate="tanh"), nn.Linear(config.mlp_width, width)
        )
        self.own_modulation = nn.Parameter(torch.zeros(6, width))
        self.recomputes: Recompute = "nothing"

    def forward(
        self,
        x_LD: Tensor,
        shared_6RD: Tensor,
        text_WD: Tensor,
        text_segments: Segments,
        layout: Layout,
        pack: Pack,
    ) -> Tensor:
        def run(x_LD: Tensor) -> Tensor:
            both_6RD = shared_6RD + self.own_modulation[:, None].to(shared_6RD.dtype)
            scale1, shift1, gate1, scale2, shift2, gate2 = both_6RD
            row_L = pack.row_L
            seen_LD = self.attention(modulate(self.norm_attention(x_LD), scale1, shift1, row_L), layout, pack)
            x_LD = add_gated(x_LD, gate1, seen_LD, row_L)
            x_LD = x_LD + self.cross(self.norm_text(x_LD), text_WD, pack.sample_segments, text_segments)
            return add_gated(x_LD, gate2, self.mlp(modulate(self.norm_mlp(x_LD), scale2, shift2, row_L)), row_L)

        if self.recomputes == "nothing" or not self.training:
            return run(x_LD)
        kept = OPERATORS if self.recomputes == "most" else (*OPERATORS, *PRODUCTS)
        contexts = partial(create_selective_checkpoint_contexts, list(kept))
        # In here and not around the block, so that the compiler sees it.
        found_LD = checkpoint(run, x_LD, use_reentrant=False, context_fn=contexts)
        assert isinstance(found_LD, Tensor)
        return found_LD


class SelfAttention(nn.Module):
    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.heads = width // head_width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(head_width), nn.RMSNorm(head_width)
        self.out = nn.Linear(width, width, bias=False)
        self.context: Context | None = None

    def forward(self, x_LD: Tensor, layout: Layout, pack: Pack) -> Tensor:
        q_LHK, k_LHK, v_LHK = rearrange(self.qkv(x_LD), "l (n h k) -> n l h k", n=3, h=self.heads).unbind()
        q_LHK = apply_rotary(self.norm_q(q_LHK), pack.cos_LA, pack.sin_LA)
        k_LHK = apply_rotary(self.norm_k(k_LHK), pack.cos_LA, pack.sin_LA)
        if self.context is not None:
            q_LHK, k_LHK, v_LHK = (to_heads(x, self.context) for x in (q_LHK, k_LHK, v_LHK))
        if layout.order is not None:
            q_LHK, k_LHK, v_LHK = q_LHK[layout.order], k_LHK[layout.order], v_LHK[layout.order]
        seen_LHK = attend(q_LHK, k_LHK, v_LHK, layout.segments, layout.segments)
        if layout.back is not None:
            seen_LHK = seen_LHK[layout.back]
        if self.context is not None:
            seen_LHK = to_tokens(seen_LHK, self.context)
        return self.out(rearrange(seen_LHK, "l h k -> l (h k)"))


class CrossAttention(nn.Module):
    def __init__(self, width: int, head_width: int):
        super().__init__()
        self.heads = width // head_width
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(head_width), nn.RMSNorm(head_width)
        self.out = nn.Linear(width, width, bias=False)
        self.context: Context | None = None

    def forward(self, x_LD: Tensor, text_WD: Tensor, queries: Segments, words: Segments) -> Tensor:
        q_LHK = rearrange(self.q(x_LD), "l (h k) -> l h k", h=self.heads)
        k_WHK, v_WHK = rearrange(self.kv(text_WD), "w (n h k) -> n w h k", n=2, h=self.heads).unbind()
        q_LHK, k_WHK = self.norm_q(q_LHK), self.norm_k(k_WHK)
        if self.context is not None:
            q_LHK = to_heads(q_LHK, self.context)
            k_WHK, v_WHK = own_heads(k_WHK, self.context), own_heads(v_WHK, self.context)
        seen_LHK = attend(q_LHK, k_WHK, v_WHK, queries, words)
        if self.context is not None:
            seen_LHK = to_tokens(seen_LHK, self.context)
        return self.out(rearrange(seen_LHK, "l h k -> l (h k)"))
