"""What `jobs.train` can be asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Literal

from trainer.draws import MaskConfig
from trainer.flow import FlowConfig
from trainer.geometry import Compression, FitConfig
from trainer.latents import LatentSpace
from trainer.model.config import TransformerConfig, preset
from trainer.model.layouts import Attention
from trainer.network.config import PRESETS as NETWORK_PRESETS
from trainer.network.losses import LossWeights
from trainer.packing import PackConfig, squares_bound
from trainer.reading.mix import CaptionMix
from trainer.sampling import SamplingConfig
from trainer.training.config import TrainConfig
from trainer.training.work import CropConfig, ReadConfig

__all__ = ["DEFAULT_PRESET", "ModelOptions", "PackOptions", "TrainOptions"]


DEFAULT_PRESET = "1m"


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The transformer: a preset, and what of it is to be otherwise.

    Attributes:
        preset: 1m, 10m, 100m, 400m, 1.3b, 5b, 14b; by default that of --init, else 1m.
        width, depth, head_width, mlp_width, attention: See trainer/model/config.py.
        patch_time: Latent frames of a patch.
        patch_space: Latent cells along a side of a patch.
        text_width: Of the text encoder; with --text-encoder that is its own.
        text_depth: Blocks of the byte encoder that is trained along.
        trained_seconds, trained_tokens: Longest clip, and most tokens along a side, that positions are made for.
    """

    preset: str | None = None
    width: int | None = None
    depth: int | None = None
    head_width: int | None = None
    mlp_width: int | None = None
    attention: Attention | None = None
    patch_time: int | None = None
    patch_space: int | None = None
    text_width: int | None = None
    text_depth: int | None = None
    trained_seconds: float | None = None
    trained_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.preset is not None:
            preset(self.preset)

    def config(
        self, space: LatentSpace, text_width: int | None = None, begun: TransformerConfig | None = None
    ) -> TransformerConfig:
        """For latents of this space; `text_width` of a pretrained text encoder; `begun` is what is tuned. Raises
        ValueError."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "preset"}
        asked = {name: value for name, value in said.items() if value is not None}
        if text_width is not None:
            asked |= {"text_width": text_width, "text_depth": 0}
        return replace(
            begun if begun and self.preset is None else preset(self.preset or DEFAULT_PRESET),
            ratio_time=space.ratio_time,
            ratio_space=space.ratio_space,
            latent_channels=space.latent_channels,
            **asked,
        )


@dataclass(frozen=True, slots=True)
class PackOptions:
    """Packs and steps.

    Attributes:
        budget_tokens: Of a pack.
        squares_bound: The sum of squared lengths of a pack's clips, which is what attention costs, is at most so many
            times that of a full pack in the mean; 0 for no bound. Less makes packs more alike, and pads more.
        slots: Packs of a step, read by whatever number of workers divides them.
        picture_share: Of clips, how many are read as an image, another choice in each epoch.
    """

    budget_tokens: int = 16384
    squares_bound: float = 1.1
    slots: int = 8
    picture_share: float = 0.1

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"slots={self.slots}: must be at least 1")
        if not 0 <= self.picture_share <= 1:
            raise ValueError(f"picture_share={self.picture_share}: must be from 0 to 1")
        if self.squares_bound and not 1 <= self.squares_bound < inf:
            raise ValueError(f"squares_bound={self.squares_bound}: must be at least 1 and finite, or 0 for none")
        _ = PackConfig(self.budget_tokens)

    def config(self, lengths: Sequence[int], max_tokens: int) -> PackConfig:
        """For clips of these lengths in tokens; one of `max_tokens` has room in any pack."""
        bound = squares_bound(lengths, self.budget_tokens, self.squares_bound)
        return PackConfig(self.budget_tokens, max(bound, max_tokens**2) if bound else 0)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Train a diffusion transformer, or a compression network, on the clips of a store. The same command again goes on
    where it was stopped, to the bit.

    Attributes:
        store: Folder or address of the store.
        run: Directory for the run, seen by all workers: checkpoints, metrics, samples, and the model at last.
        what: The transformer that makes videos, or the compression network that makes latents of them.
        storage_options: Name and value pairs for Lance where the store is in an object store.
        network: Compression network whose latents the transformer makes: a directory of one that was trained here
            (RUN/network of a run with --what network), `pixels-2`, `pixels-4` or `pixels-8` for none, or a directory or
            hub id of one of diffusers (Wan, CogVideoX, LTX, Hunyuan).
        latents: Read the latents that jobs.encode made, or decode clips as they are needed. By default the first where
            the store has any of this network.
        text_encoder: Pretrained text encoder by which jobs.encode read the captions; without one texts are read by a
            small one that is trained along.
        network_preset: With --what network: its size.
        where: SQL condition on the columns of `clips`.
        captions_where: SQL condition on the columns of `captions`.
        init: Directory of a trained model to begin with, RUN/model of another run; of a network with --what network.
        lora_rank: Train low-rank adapters beside the weights of --init, and put them into those at last; 0 trains all.
        perceptual_weights: With --what network: file of the perceptual distance's weights.
        prompts: For the samples that are made as it goes; by default captions of the first clips.
        workers: Processes that train together.
        cpus_per_worker: CPUs of each: one for each process that reads ahead, the others for torch.
        num_gpus: GPUs of each; -1 for one where the cluster has any.
        restarts: So often a worker that died is started again, from the newest checkpoint.
        wandb: Project of Weights & Biases that is told the same as TensorBoard; needs its package and login.
    """

    store: str
    run: Path
    what: Literal["transformer", "network"] = "transformer"
    storage_options: dict[str, str] | None = None
    network: str | None = None
    latents: bool | None = None
    text_encoder: str | None = None
    network_preset: Literal["4x8x8", "8x16x16", "tiny-4x8x8", "tiny-8x16x16"] = "tiny-4x8x8"
    where: str = "keep"
    captions_where: str = "coalesce(array_length(flags), 0) = 0"
    init: Path | None = None
    lora_rank: int = 0
    perceptual_weights: Path | None = None
    prompts: tuple[str, ...] = ()
    workers: int = 1
    cpus_per_worker: int = 2
    num_gpus: float = -1.0
    restarts: int = 2
    wandb: str | None = None
    model: ModelOptions = field(default_factory=ModelOptions)
    fit: FitConfig = field(default_factory=lambda: FitConfig(max_tokens=8192))
    packs: PackOptions = field(default_factory=PackOptions)
    flow: FlowConfig = field(default_factory=FlowConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    mix: CaptionMix = field(default_factory=CaptionMix)
    losses: LossWeights = field(default_factory=LossWeights)
    crops: CropConfig = field(default_factory=CropConfig)
    reading: ReadConfig = field(default_factory=ReadConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.what == "transformer" and self.network is None:
            raise ValueError(
                "network: give the compression network whose latents are made: a directory, `pixels-4`, or one of "
                "diffusers"
            )
        if self.what == "network":
            self._refuse_for_network()
        if re.match(r"[a-z][a-z0-9+.-]+:/", str(self.run)):
            raise ValueError(f"run={self.run}: must be a directory that all workers see, not an object store's address")
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank={self.lora_rank}: must be at least 0")
        if self.lora_rank and self.init is None:
            raise ValueError(f"lora_rank={self.lora_rank}: needs a model to begin with, --init DIR")
        if self.text_encoder and self.prompts:
            raise ValueError(
                "prompts: are read by the encoder that is trained along; leave them out, or --text-encoder"
            )
        for name in ("workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.restarts < 0:
            raise ValueError(f"restarts={self.restarts}: must not be negative")
        if self.num_gpus < 0 and self.num_gpus != -1:
            raise ValueError(f"num_gpus={self.num_gpus}: must not be negative, or -1")
        context = self.train.context_parallel
        if self.workers % context:
            raise ValueError(f"context_parallel={context}: must divide workers={self.workers}")
        if self.packs.slots % (self.workers // context):
            raise ValueError(f"slots={self.packs.slots}: must be a multiple of the {self.workers // context} that read")
        if self.packs.budget_tokens % context:
            raise ValueError(
                f"budget_tokens={self.packs.budget_tokens}: must be a multiple of context_parallel={context}"
            )
        if self.fit.max_tokens > self.packs.budget_tokens:
            most = self.packs.budget_tokens
            raise ValueError(f"max_tokens={self.fit.max_tokens}: a clip must fit into a pack, budget_tokens={most}")

    def _refuse_for_network(self) -> None:
        if self.network is not None:
            raise ValueError("network: is what is trained; leave it out, and give --network-preset")
        if self.lora_rank:
            raise ValueError(f"lora_rank={self.lora_rank}: is for the transformer")
        if self.train.context_parallel > 1 or self.train.parallel == "shard":
            raise ValueError(
                "parallel: a network is held whole by each process; leave out --context-parallel and shard"
            )
        if self.losses.perceptual and self.perceptual_weights is None:
            raise ValueError(f"perceptual={self.losses.perceptual}: needs --perceptual-weights FILE")
        ratio = NETWORK_PRESETS[self.network_preset].ratio_time
        if (self.crops.crop_frames - 1) % ratio:
            raise ValueError(f"crop_frames={self.crops.crop_frames}: must be 1 and a multiple of {ratio} more")
        side = NETWORK_PRESETS[self.network_preset].ratio_space
        if self.crops.crop_px % side:
            raise ValueError(f"crop_px={self.crops.crop_px}: must be a multiple of {side}")

    @property
    def compression(self) -> Compression:
        """Of pixels alone, where a compression network is trained."""
        config = NETWORK_PRESETS[self.network_preset]
        return Compression(config.ratio_time, config.ratio_space, 1, 1)

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(steps=20, solver="heun", guidance=4.0, seed=self.train.seed)
