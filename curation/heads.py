"""Heads over embeddings: a few linear layers that turn the vector of a picture into one number, such as its beauty.

The public LAION aesthetic predictors, of which the first is one layer and the second ("improved", on CLIP ViT-L/14)
five without anything between them but dropout, are affine as a whole, and are kept here as the one vector and number
that they come to. Being affine, a head says of the mean of a clip's vectors the mean of what it says of each: it reads
the table of embeddings and no picture. Both were trained on unit vectors, and give about 1 to 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.model_files import BadModel, content_id

__all__ = ["AffineHead"]

AESTHETIC = "aesthetic"
LAYER = re.compile(r"(?:.*?(\d+)\.)?(weight|bias)")


@dataclass(frozen=True, slots=True)
class AffineHead:
    """`weights` (dimension,) and `bias` of a head, the score that it gives, and what identifies it."""

    score: str
    model_id: str
    name: str
    weights: NDArray[np.float64]
    bias: float

    @staticmethod
    def load(path: Path, embedding_id: str, dimension: int, score: str = AESTHETIC) -> AffineHead:
        """From a .safetensors file, or a .pth that holds nothing but tensors; for vectors of one embedding model.

        The layers are the tensors `weight` (out, in) and `bias`, with a number before it where there are several.
        Raises BadModel naming the file and what does not fit.
        """
        layers = _layers_of(path)
        weights, bias = np.eye(dimension), np.zeros(dimension)
        for number, (weight, offset) in layers.items():
            if weight.shape[1] != len(weights):
                at = "the embeddings have" if number == min(layers) else "the layer before it gives"
                raise BadModel(f"{path}: layer {number} takes {weight.shape[1]} numbers, {at} {len(weights)}")
            weights, bias = weight @ weights, weight @ bias + offset
        if len(weights) != 1:
            raise BadModel(f"{path}: gives {len(weights)} numbers instead of 1")
        model_id = f"{content_id(score, path)}-{embedding_id}"
        return AffineHead(score, model_id, str(path), weights[0], float(bias[0]))

    def score_clips(self, vectors: NDArray[np.float32], mean_lengths: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean over each clip's frames, (clips,), from `vectors` (clips, dimension) and `mean_lengths` (clips,)."""
        return (vectors.astype(np.float64) @ self.weights) * mean_lengths + self.bias


def _layers_of(path: Path) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    tensors = _tensors_of(path)
    parts: dict[int, dict[str, NDArray[np.float64]]] = {}
    for key, tensor in tensors.items():
        found = LAYER.fullmatch(key)
        if found is None:
            raise BadModel(f"{path}: {key} is no weight or bias of a linear layer")
        parts.setdefault(int(found[1] or 0), {})[found[2]] = tensor.astype(np.float64)
    layers = {}
    for number, layer in sorted(parts.items()):
        weight = layer.get("weight")
        if weight is None or weight.ndim != 2:
            raise BadModel(f"{path}: layer {number} has no weight of two axes")
        bias = layer.get("bias", np.zeros(len(weight)))
        if bias.shape != (len(weight),):
            raise BadModel(f"{path}: layer {number} has a bias of the shape {bias.shape}, not ({len(weight)},)")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise BadModel(f"{path}: layer {number} holds numbers that are not finite")
        layers[number] = weight, bias
    if not layers:
        raise BadModel(f"{path}: holds no layer")
    return layers


def _tensors_of(path: Path) -> dict[str, NDArray]:
    if not path.is_file():
        raise BadModel(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        import torch

        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {key: tensor.float().numpy() for key, tensor in tensors.items()}
    except ImportError as error:
        raise BadModel(f"{path}: {error}; install the extra `cpu` or `gpu`") from error
    except Exception as error:  # a damaged file raises errors of many kinds, none of them a fault of ours
        raise BadModel(f"{path}: must be a file of tensors and nothing else") from error
