"""Modulation and gates by row, against plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainer.model.modulation import add_gated, modulate

ROWS: list[list[int]] = [
    # the row of each token
    [0],
    [0, 0, 1, 1, 1, 2],
    [2, 0, 2, 1, 0, 0],  # as rows of known frames are: in no order
    [1, 1, 1, 1],  # rows without tokens
    [4, 3, 2, 1, 0],
    [],
]
COUNT, WIDTH = 5, 3


def plain_modulate(x: Tensor, scale: Tensor, shift: Tensor, row: Tensor) -> Tensor:
    return x * (1 + scale[row]) + shift[row]


def plain_gate(x: Tensor, gate: Tensor, y: Tensor, row: Tensor) -> Tensor:
    return x + gate[row] * y


CASES: list[tuple[Callable[..., Tensor], Callable[..., Tensor], str]] = [
    (modulate, plain_modulate, "LRR"),
    (add_gated, plain_gate, "LRL"),
]


def inputs_of(shapes: str, row: Tensor, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"L": len(row), "R": COUNT}
    made = (torch.randn(sizes[s], WIDTH, generator=generator, dtype=torch.float64) for s in shapes)
    return [x.to(dtype).requires_grad_() for x in made]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("ours", "plain", "shapes"), CASES)
def test_values_and_gradients(
    ours: Callable[..., Tensor], plain: Callable[..., Tensor], shapes: str, rows: list[int]
) -> None:
    row = torch.tensor(rows, dtype=torch.int64)
    inputs, others = inputs_of(shapes, row), inputs_of(shapes, row)
    found, wanted = ours(*inputs, row), plain(*others, row)
    assert torch.equal(found, wanted)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for x, y in zip(inputs, others, strict=True):
        assert x.grad is not None
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("ours", "shapes"), [(ours, shapes) for ours, _, shapes in CASES])
def test_gradients_by_differences(ours: Callable[..., Tensor], shapes: str) -> None:
    row = torch.tensor([2, 0, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda *x: ours(*x, row), inputs_of(shapes, row))
    assert torch.autograd.gradgradcheck(lambda *x: ours(*x, row), inputs_of(shapes, row))


@pytest.mark.parametrize(("ours", "plain", "shapes"), CASES)
def test_a_row_without_tokens_has_no_gradient(ours: Callable[..., Tensor], plain: object, shapes: str) -> None:
    row = torch.tensor([1, 1, 3])
    inputs = inputs_of(shapes, row)
    ours(*inputs, row).sum().backward()
    by_row = inputs[1].grad
    assert by_row is not None
    assert not by_row[[0, 2, 4]].any()
    assert by_row[[1, 3]].all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("ours", "plain", "shapes"), CASES)
def test_gradients_come_in_their_inputs_precision(
    ours: Callable[..., Tensor], plain: Callable[..., Tensor], shapes: str, dtype: torch.dtype
) -> None:
    row = torch.tensor([0, 0, 1, 4])
    inputs, others = inputs_of(shapes, row, dtype), inputs_of(shapes, row)
    ours(*inputs, row).square().sum().backward()
    plain(*others, row).square().sum().backward()
    for x, y in zip(inputs, others, strict=True):
        assert x.grad is not None
        assert y.grad is not None
        assert x.grad.dtype == dtype
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=0.05, atol=0.1)
    mixed = [x.to(torch.float32 if n == 0 else dtype) for n, x in enumerate(inputs_of(shapes, row))]
    leaves = [x.detach().requires_grad_() for x in mixed]
    ours(*leaves, row).sum().backward()  # as under autocast
    assert [x.grad.dtype for x in leaves if x.grad is not None] == [x.dtype for x in leaves]


def test_what_was_spread_is_not_kept() -> None:
    """A step keeps the tokens and the few rows, whatever it spread of them."""
    tokens, width = 64, 8
    x, scale, shift = (torch.randn(n, width, requires_grad=True) for n in (tokens, 2, 2))
    row = torch.zeros(tokens, dtype=torch.int64)
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            kept.append(tensor.numel())
        return tensor

    for make, most in ((modulate, tokens * width + 2 * width), (plain_modulate, None)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            make(x, scale, shift, row)
        assert most is None or sum(kept) == most
    assert sum(kept) > tokens * width + 2 * width
