"""The diffusion transformer as the loop trains it: pixels to latents, times, noise, prediction, loss.

L tokens of a pack, P numbers of a patch, N samples, R rows, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainer.cost import step_flops
from trainer.flow import FlowConfig, draw_times, flow_loss, noised, rows_of_times
from trainer.latents import LatentSpace
from trainer.model.attention import use_newest_flash
from trainer.model.context import Context, part_of
from trainer.model.pack import Pack, patches_of
from trainer.model.text import Texts
from trainer.model.transformer import DiffusionTransformer, TextTokens
from trainer.reading.batch import SlotBatch
from trainer.training.config import TrainConfig
from trainer.training.crew import Crew
from trainer.training.learner import SlotLoss
from trainer.training.sharding import cast

__all__ = ["TIME_QUANTILES", "Denoiser", "TransformerLearner"]

TIME_QUANTILES = 4


class Denoiser(nn.Module):
    """The transformer with its text encoder in one forward pass, as sharing out weights needs it."""

    def __init__(self, model: DiffusionTransformer):
        super().__init__()
        self.model = model

    def forward(self, x_LP: Tensor, times_R: Tensor, texts: Texts | TextTokens, pack: Pack) -> Tensor:
        text = self.model.read(texts) if isinstance(texts, Texts) else texts
        return self.model(x_LP, times_R, text, pack)


class TransformerLearner:
    """See `Learner`. Latents are read, or made of pixels here, where the device is."""

    def __init__(
        self,
        model: DiffusionTransformer,
        flow: FlowConfig,
        space: LatentSpace | None,
        config: TrainConfig,
        crew: Crew,
        context: Context | None = None,
    ):
        """`space` is needed where pixels are read."""
        self.module = Denoiser(model)
        self._flow, self._space, self._config, self._crew, self._context = flow, space, config, crew, context
        model.recompute(config.recompute)
        self.attention = "torch"
        if crew.device != "cpu":
            self.attention = use_newest_flash(crew.device, model.head_widths) if config.flash == "newest" else "FA2"
        model.share_context(context)

    @property
    def model(self) -> DiffusionTransformer:
        return self.module.model

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.model.blocks)

    def count(self, batch: SlotBatch) -> int:
        """Tokens that are to be made."""
        return int((~batch.pack.is_known_L).sum())

    def tokens(self, batch: SlotBatch) -> tuple[int, int]:
        return len(batch.pack.row_L), batch.pack.padding

    def read(self, batch: SlotBatch) -> tuple[str, int]:
        return repr((batch.step, batch.slot, batch.clip_ids)), batch.replaced

    def flops(self, batch: SlotBatch) -> float:
        segments = batch.texts.segments
        grids = [geometry.grid for geometry in batch.pack.geometries]
        return step_flops(self.model.config, grids, segments.lengths[: len(grids)])

    def loss(self, batch: SlotBatch) -> SlotLoss:
        crew, flow = self._crew, self._flow
        pack = self._with_latents(batch).to(crew.device)
        tokens_N = torch.tensor([geometry.tokens for geometry in pack.geometries])
        times_N = draw_times(batch.normal_N, tokens_N, flow)
        times_R = rows_of_times(times_N).to(crew.device, non_blocking=True)
        pack, noise_LP = part_of(pack, batch.noise_LP.to(crew.device, non_blocking=True), self._context)
        times_L = times_R[pack.row_L]
        x_LP = noised(pack.latents_LP, noise_LP, times_L)
        with cast(self._config, crew):
            predicted_LP = self.module(x_LP, times_R, batch.texts.to(crew.device), pack)
        loss_L = flow_loss(predicted_LP, pack.latents_LP, noise_LP, x_LP, times_L, pack.is_known_L, flow)
        quantile_R = rows_of_times(_quantiles(batch.normal_N)).to(crew.device, non_blocking=True)
        return SlotLoss(loss_L.sum(), _by_quantile(loss_L.detach(), quantile_R[pack.row_L], pack.is_known_L))

    def end_step(self, step: int, *, is_taken: bool) -> None:
        pass

    def more_state(self) -> dict[str, Tensor]:
        return {}

    def _with_latents(self, batch: SlotBatch) -> Pack:
        if not batch.pixels:
            return batch.pack
        assert self._space is not None, "pixels without a compression network"
        parts = []
        for pixels_CTHW in batch.pixels:
            x_CTHW = pixels_CTHW.to(self._crew.device, non_blocking=True).float() / 127.5 - 1
            parts.append(patches_of(self._space.encode(x_CTHW[None])[0].float(), self.model.config.compression))
        made_LP = torch.cat(parts)
        padding_LP = torch.zeros(batch.pack.padding, made_LP.shape[1], device=made_LP.device)
        return replace(batch.pack, latents_LP=torch.cat((made_LP, padding_LP)))


def _quantiles(normal_N: Tensor) -> Tensor:
    """int64[N]: in which of equal shares of all the times that are drawn each sample's is, from clip to noise; a time
    grows with the number that it is drawn from."""
    return (torch.special.ndtr(normal_N) * TIME_QUANTILES).long().clamp(max=TIME_QUANTILES - 1)


def _by_quantile(loss_L: Tensor, quantile_L: Tensor, is_known_L: Tensor) -> dict[str, Tensor]:
    """Sums and counts of the loss. Counted so that the device is not waited for."""
    part_L = torch.where(is_known_L, TIME_QUANTILES, quantile_L)
    both_L2 = torch.stack((loss_L.double(), torch.ones_like(loss_L, dtype=torch.float64)), dim=1)
    both = both_L2.new_zeros(TIME_QUANTILES + 1, 2).index_add_(0, part_L, both_L2)
    return {f"loss_time_{k + 1}_of_{TIME_QUANTILES}": both[k] for k in range(TIME_QUANTILES)}
