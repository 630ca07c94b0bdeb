"""A trained transformer on disk: with how it was trained to be asked, and for which latents and texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.checkpoint import load_weights, read_checkpoint, write_checkpoint
from trainer.flow import FlowConfig
from trainer.model.config import TransformerConfig
from trainer.model.transformer import DiffusionTransformer

__all__ = ["Trained", "read_trained", "write_trained"]


@dataclass(frozen=True, slots=True)
class Trained:
    """All that sampling has to know besides the weights.

    network_id   of the compression network whose latents it makes
    encoder_id   of the pretrained text encoder; empty where texts are read by the encoder that was trained along
    """

    transformer: TransformerConfig
    flow: FlowConfig
    network_id: str
    encoder_id: str = ""

    def __post_init__(self) -> None:
        if bool(self.encoder_id) == bool(self.transformer.text_depth):
            raise ValueError(f"encoder_id={self.encoder_id!r}: is needed exactly where text_depth is 0")


def write_trained(directory: Path, trained: Trained, model: DiffusionTransformer) -> None:
    """Raises OSError."""
    assert model.config == trained.transformer
    write_checkpoint(directory, trained, model.state_dict())


def read_trained(directory: Path) -> tuple[Trained, DiffusionTransformer]:
    """On the CPU, in evaluation mode. Raises BadCheckpoint."""
    trained, tensors = read_checkpoint(directory, Trained)
    model = DiffusionTransformer(trained.transformer)
    load_weights(model, tensors, str(directory))
    return trained, model.eval()
