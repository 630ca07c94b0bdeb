"""Muon: what a step is, and that it learns.

M outputs and N inputs of a weight.
"""

import pytest
import torch
from torch.nn import Parameter

from trainer.network.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (1, 5)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_all_directions_become_equally_long(shape: tuple[int, int], scale: float):
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape)))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape)))
    lengths = torch.linspace(0.1, 1, min(shape))
    found = orthogonalised(scale * left * lengths @ right.T)
    assert found.shape == shape
    singular = torch.linalg.svdvals(found)
    assert 0.6 < singular.min() <= singular.max() < 1.3
    along = (left.T @ found @ right).diagonal()
    assert along.min() > 0.55  # the same directions, not merely some of the right length


def test_steps_are_as_long_as_adams():
    torch.manual_seed(0)
    matrix, vector = Parameter(torch.zeros(16, 4, 1, 3, 3)), Parameter(torch.zeros(16))
    still = Parameter(torch.ones(3, 3))
    matrix.grad, vector.grad = torch.randn_like(matrix) * 1e3, torch.randn_like(vector)
    Muon([matrix, vector, still], 0.1).step()
    assert matrix.square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.3)
    torch.testing.assert_close(vector.detach(), -0.1 * vector.grad.sign(), atol=1e-4, rtol=0)
    assert torch.equal(still, torch.ones(3, 3))


def test_matrices_decay_and_vectors_do_not():
    weight, bias = Parameter(torch.eye(4)), Parameter(torch.ones(4))
    weight.grad, bias.grad = torch.zeros(4, 4), torch.zeros(4)
    Muon([weight, bias], 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), 0.95 * torch.eye(4))
    assert torch.equal(bias, torch.ones(4))


def regression(optimizer_state: dict[str, object] | None, weights: list[torch.Tensor] | None, steps: int):
    torch.manual_seed(0)
    x, y = torch.randn(64, 8), torch.randn(64, 8).cumsum(1)
    layer = torch.nn.Linear(8, 8)
    optimizer = Muon(layer.parameters(), 0.02)
    if optimizer_state and weights:
        optimizer.load_state_dict(optimizer_state)
        for parameter, weight in zip(layer.parameters(), weights, strict=True):
            parameter.data.copy_(weight)
    losses = []
    for _ in range(steps):
        loss = (layer(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, optimizer.state_dict(), [p.detach().clone() for p in layer.parameters()]


def test_it_learns_and_goes_on_from_its_state_to_the_bit():
    whole, _, _ = regression(None, None, 60)
    first, state, weights = regression(None, None, 25)
    rest, _, _ = regression(state, weights, 35)
    assert first + rest == whole
    assert whole[-1] < 0.9 * whole[0]


@pytest.mark.parametrize("change", [{"lr": -1}, {"momentum": 1}, {"square_momentum": -0.1}, {"weight_decay": -1}])
def test_impossible_values_are_refused(change: dict[str, float]):
    with pytest.raises(ValueError, match=f"{next(iter(change))}=.*must be 0 or more"):
        Muon([Parameter(torch.zeros(2, 2))], **{"lr": 0.1} | change)
