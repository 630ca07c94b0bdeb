"""What a step of the compression network costs, counted on tensors without numbers.

B crops, C channels, T frames, H rows, W columns
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from trainer.network.compression import CompressionNetwork
from trainer.network.config import NetworkConfig

__all__ = ["NetworkCost", "network_cost"]


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """Of a training step on a batch: operations of products, and what the backward pass needs in float32, weights left
    out. What a perceptual distance and an adversary cost is not counted."""

    flops: float
    activation_bytes: float


@cache
def network_cost(config: NetworkConfig, shape_BCTHW: tuple[int, ...]) -> NetworkCost:
    with torch.device("meta"):
        network, x_BCTHW = CompressionNetwork(config), torch.empty(shape_BCTHW)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            again_BCTHW = network.decode(network.encode(x_BCTHW).mode)
        again_BCTHW.sum().backward()
    of_weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    saved = sum(size for storage, size in kept.items() if storage not in of_weights)
    return NetworkCost(float(counter.get_total_flops()), float(saved))
