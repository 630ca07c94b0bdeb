"""What is sent between processes comes out as it went in, in one piece of memory."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from trainer.reading.sending import Sent


@dataclass(frozen=True, slots=True)
class Batch:
    name: str
    parts: tuple[Tensor, ...]
    nested: dict[str, list[Tensor]]


TENSORS = [
    torch.arange(7, dtype=torch.uint8),
    torch.randn(3, 5),
    torch.randn(4, 6).T,  # not contiguous
    torch.tensor([True, False, True]),
    torch.tensor(3.5, dtype=torch.float64),
    torch.empty(0, 8, dtype=torch.int32),
    torch.randn(2, 2).bfloat16(),
    torch.randn(10)[3:5],
]


def received(batch: object) -> Batch:
    """As if by another process."""
    sent = Sent.of(batch)
    return Sent(sent.rest, sent.data.clone()).received()


def test_all_kinds_come_out_as_they_went_in():
    batch = Batch("a", tuple(TENSORS), {"b": TENSORS[::-1]})
    rest = Sent.of(batch).rest
    assert not any(isinstance(each, Tensor) for each in (*rest.parts, *rest.nested["b"])), "each is sent by itself"
    found = received(batch)
    assert found.name == "a"
    for got, put in zip((*found.parts, *found.nested["b"]), (*batch.parts, *batch.nested["b"]), strict=True):
        assert (got.dtype, got.shape) == (put.dtype, put.shape)
        assert torch.equal(got, put)


def test_the_same_tensor_twice_is_right_both_times():
    one = torch.arange(5)
    found = received(Batch("a", (one, one), {"b": [one]}))
    assert all(torch.equal(x, one) for x in (*found.parts, *found.nested["b"]))


@pytest.mark.parametrize("nothing", [None, Batch("", (), {})])
def test_nothing_is_no_trouble(nothing: object):
    assert received(nothing) == nothing


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: memory is pinned for one")
def test_what_a_gpu_fetches_by_itself():
    pinned = Sent.of(Batch("a", tuple(TENSORS), {})).pin_memory().received()
    for was, found in zip(TENSORS, pinned.parts, strict=True):
        assert found.is_pinned() or not found.numel()
        assert torch.equal(was, found)
