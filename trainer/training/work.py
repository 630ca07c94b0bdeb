"""The parts of a run from its config: what any of its processes, or one alone, makes of it in the same way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curation.store import Store
from trainer.checkpoint import BadCheckpoint
from trainer.draws import MaskConfig
from trainer.epoch import EpochConfig
from trainer.latents import LatentSpace, space_of
from trainer.model.context import Context
from trainer.model.trained import Trained, read_trained, write_trained
from trainer.model.transformer import DiffusionTransformer
from trainer.network.compression import CompressionNetwork, fit_latent_statistics, read_network, write_network
from trainer.network.config import NetworkConfig
from trainer.network.losses import LossWeights
from trainer.network.perceptual import read_perceptual
from trainer.reading.clips import ClipList
from trainer.reading.crops import CropReader
from trainer.reading.mix import CaptionMix
from trainer.reading.plan_table import Plans
from trainer.reading.slots import SlotReader
from trainer.reading.workers import Place, slot_batches
from trainer.sampling import SamplingConfig
from trainer.training.adapters import add_adapters, merged
from trainer.training.config import TrainConfig
from trainer.training.crew import Crew
from trainer.training.files import RunFiles
from trainer.training.loop import Run, Training, train
from trainer.training.network_learner import NetworkLearner, make_adversary
from trainer.training.previews import Asked, make_preview, make_reconstructions, sampled
from trainer.training.sharding import is_narrow
from trainer.training.transformer_learner import TransformerLearner

__all__ = ["CropConfig", "NetworkWork", "ReadConfig", "TransformerWork"]

STATISTICS_SLOTS = 8  # of crops over which a network's latents are brought to unit variance
LATENT_MOMENTS_STEP = 1 << 40  # a step that no run reaches: those crops are drawn apart from all others
PREVIEW_STEP = LATENT_MOMENTS_STEP + 1


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """How slots are read.

    Attributes:
        read_workers: Processes that read ahead, of each worker; with 0 it reads by itself.
        read_ahead: Slots that each of them reads ahead.
        read_threads: That decode clips of a slot side by side.
        max_words: Of a text; what is beyond is left out and counted.
    """

    read_workers: int = 1
    read_ahead: int = 4
    read_threads: int = 1
    max_words: int = 256

    def __post_init__(self) -> None:
        if self.read_workers < 0:
            raise ValueError(f"read_workers={self.read_workers}: must not be negative")
        for name in ("read_ahead", "read_threads", "max_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


def _reading(reader: SlotReader | CropReader, config: ReadConfig) -> Callable[[Iterable[Place]], Iterator[Any]]:
    return partial(slot_batches, reader, workers=config.read_workers, ahead=config.read_ahead)


def _planned_ahead(places: Iterable[Place], plans: Plans, crew: Crew, last: int) -> Iterator[Place]:
    """The same places; the first process has the next epoch planned beside, so that no reader has to wait for it."""
    with ThreadPoolExecutor(1) as pool:
        asked = -1
        for step, slot in places:
            if crew.rank == 0 and step >= asked:
                asked = step + plans.epoch_steps(step)
                pool.submit(plans.prepare, min(asked, last))
            yield step, slot


@dataclass(frozen=True, slots=True)
class TransformerWork:
    """A run that trains a transformer; sent to workers.

    space      of the latents, as `space_of` takes it; for pixels that are read, and for previews
    init       directory of a trained transformer to begin with
    """

    store: Store
    files: RunFiles
    run_id: str
    trained: Trained
    epochs: EpochConfig
    mask: MaskConfig
    mix: CaptionMix
    reading: ReadConfig
    train: TrainConfig
    space: str
    asked: Asked
    sampling: SamplingConfig
    init: Path | None = None
    lora_rank: int = 0
    wandb_project: str | None = None

    def model(self) -> DiffusionTransformer:
        """As the run begins with it. Raises BadCheckpoint, ValueError."""
        torch.manual_seed(self.train.seed)
        model = DiffusionTransformer(self.trained.transformer)
        if self.init is not None:
            before, found = read_trained(self.init)
            if before.transformer != model.config:
                raise BadCheckpoint(
                    f"{self.init}: is of another config than the one to be trained; see its config.json"
                )
            model.load_state_dict(found.state_dict())
        if self.lora_rank:
            add_adapters(model, self.lora_rank)
        return model

    def run(self, crew: Crew, stop_after: int | None = None) -> Run:
        """Go on from the newest checkpoint; the result is written by the first process. Raises as `loop.train`."""
        plans = Plans(self.files.plans, self.epochs)
        space = space_of(self.space, crew.device)
        config, transformer = self.train, self.trained.transformer
        reader = SlotReader(
            self.store, plans, transformer, config.seed, self.mask, self.mix, self.reading.max_words,
            self.reading.read_threads,
        )  # fmt: skip
        group = crew.context_group()
        context = Context(group, crew.place, crew.context) if group else None
        learner = TransformerLearner(self.model(), self.trained.flow, space, config, crew, context)
        training = Training(
            config, self.files, self.run_id, plans.plan_id, self.epochs.slots, self._write,
            partial(self._preview, space), self.wandb_project, stop_after,
        )  # fmt: skip
        reading = _reading(reader, self.reading)
        run = train(
            training, learner, lambda places: reading(_planned_ahead(places, plans, crew, config.steps - 1)), crew
        )
        if stop_after is None:
            self._write(run)
        return run

    def _preview(self, space: LatentSpace, run: Run, step: int) -> None:
        """The average's weights are put together for it, so that one process samples however they are shared out."""
        if not self.asked.prompts:
            return
        model = self._averaged(run)
        if model is None or run.log is None:
            return
        try:
            narrow = torch.bfloat16 if is_narrow(self.train.precision, run.crew) else None
            model = model.to(run.crew.device, narrow)
            latents = sampled(model, self.trained.flow, self.asked, self.sampling, self.reading.max_words)
            picture = make_preview(latents, space, self.asked, self.files.samples / f"{step:08d}")
            run.log.picture("samples", picture, step)
        except (torch.OutOfMemoryError, OSError) as error:  # only to look at: the run goes on without
            warnings.warn(f"no samples of step {step}: {error}", stacklevel=1)

    def _averaged(self, run: Run) -> DiffusionTransformer | None:
        """The model as the average has it, for the first process; every process must call it."""
        weights = {name.removeprefix("model."): tensor for name, tensor in run.averaged().items()}
        if run.crew.rank:
            return None
        model = DiffusionTransformer(self.trained.transformer)
        model.load_state_dict(merged(weights))
        return model.eval()

    def _write(self, run: Run) -> Path:
        if (model := self._averaged(run)) is not None:
            write_trained(self.files.model, self.trained, model)
        run.crew.wait()
        return self.files.model


@dataclass(frozen=True, slots=True)
class CropConfig:
    """What a compression network is shown.

    Attributes:
        crop_frames: 1 and a multiple of its ratio in time.
        crop_px: Sides.
        crops: Of a slot.
    """

    crop_frames: int = 17
    crop_px: int = 128
    crops: int = 4

    def __post_init__(self) -> None:
        for name in ("crop_frames", "crop_px", "crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


@dataclass(frozen=True, slots=True)
class NetworkWork:
    """A run that trains a compression network; sent to workers.

    perceptual   file with the weights of the perceptual distance, where that is part of the loss
    """

    store: Store
    files: RunFiles
    run_id: str
    network: NetworkConfig
    crops: CropConfig
    weights: LossWeights
    reading: ReadConfig
    train: TrainConfig
    slots: int
    perceptual: Path | None = None
    init: Path | None = None
    wandb_project: str | None = None

    def begin(self) -> CompressionNetwork:
        """As the run begins with it. Raises BadCheckpoint."""
        torch.manual_seed(self.train.seed)
        network = CompressionNetwork(self.network)
        if self.init is not None:
            found = read_network(self.init)
            if found.config != self.network:
                raise BadCheckpoint(
                    f"{self.init}: is of another config than the one to be trained; see its config.json"
                )
            network.load_state_dict(found.state_dict())
        return network

    def reader(self) -> CropReader:
        crops = self.crops
        clips = ClipList(self.files.plans)
        return CropReader(self.store, clips, crops.crop_frames, crops.crop_px, crops.crops, self.train.seed)

    def run(self, crew: Crew, stop_after: int | None = None) -> Run:
        """Go on from the newest checkpoint; the result is written by the first process. Raises as `loop.train`."""
        reader, network = self.reader(), self.begin()
        config = replace(self.train, parallel="replicate")  # a network is small beside what it computes
        judge = read_perceptual(self.perceptual).to(crew.device) if self.perceptual else None
        adversary = make_adversary(crew.device) if self.weights.adversarial else None
        learner = NetworkLearner(network, self.weights, config, crew, judge, adversary)
        plan_id = reader.clips.clips_id
        training = Training(
            config, self.files, self.run_id, plan_id, self.slots, partial(self._write, reader=reader),
            partial(self._preview, reader), self.wandb_project, stop_after,
        )  # fmt: skip
        run = train(training, learner, _reading(reader, self.reading), crew)
        if stop_after is None:
            self._write(run, reader)
        return run

    def _preview(self, reader: CropReader, run: Run, step: int) -> None:
        """The same crops each time."""
        network = self._averaged(run)
        if network is None or run.log is None:
            return
        folder = self.files.samples / f"{step:08d}"
        try:
            batch = reader.read(PREVIEW_STEP, 0)
            picture = make_reconstructions(network.to(run.crew.device), batch.pixels_BCTHW, folder)
            run.log.picture("reconstructions", picture, step)
        except (torch.OutOfMemoryError, OSError) as error:  # only to look at: the run goes on without
            warnings.warn(f"no crops are shown of step {step}: {error}", stacklevel=1)

    def _averaged(self, run: Run) -> CompressionNetwork | None:
        """The network as the average has it, for the first process; every process must call it."""
        weights = run.averaged()
        if run.crew.rank:
            return None
        network = CompressionNetwork(self.network).eval()
        network.load_state_dict(weights)
        return network

    def _write(self, run: Run, reader: CropReader) -> Path:
        if (network := self._averaged(run)) is not None:
            batches = (reader.read(LATENT_MOMENTS_STEP, slot) for slot in range(STATISTICS_SLOTS))
            fit_latent_statistics(network, (batch.pixels_BCTHW.float() / 127.5 - 1 for batch in batches))
            write_network(self.files.network, network)
        run.crew.wait()
        return self.files.network
