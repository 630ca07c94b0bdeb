"""The processes that train together, and how they share weights, packs and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

__all__ = ["ALONE", "Crew", "whole"]


@dataclass(frozen=True, slots=True)
class Crew:
    """One of `size` processes. `context` of them, neighbours by rank, share each pack; all others read other slots."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    context: int = 1

    def __post_init__(self) -> None:
        if self.size % self.context:
            raise ValueError(f"context_parallel={self.context}: must divide the number of workers, {self.size}")

    @property
    def readers(self) -> int:
        """Groups that read different slots."""
        return self.size // self.context

    @property
    def reader(self) -> int:
        return self.rank // self.context

    @property
    def place(self) -> int:
        """In the group that shares a pack."""
        return self.rank % self.context

    def add(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, on each of them."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(numbers)
        return numbers.tolist()

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of weights that all processes hold whole: the sum of each gradient, in one exchange."""
        if self.size == 1:
            return
        found = [parameter for parameter in parameters if parameter.requires_grad]
        flat = torch.cat([_gradient(parameter).flatten() for parameter in found])
        distributed.all_reduce(flat)
        for parameter, part in zip(found, flat.split([p.numel() for p in found]), strict=True):
            parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        if self.size > 1:
            distributed.barrier()

    def context_group(self) -> distributed.ProcessGroup | None:
        """Of the processes that share this one's packs; every process must call it."""
        if self.context == 1:
            return None
        kind = self.device.split(":")[0]
        mesh = init_device_mesh(kind, (self.readers, self.context), mesh_dim_names=("readers", "context"))
        return mesh.get_group("context")


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


ALONE = Crew()


def whole(tensor: Tensor) -> Tensor:
    """A weight that is shared out, put together; all processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
