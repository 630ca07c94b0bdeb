"""Attention by segments, against attention over everything under a mask."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import varlen

import trainer.model
from tests.flash_on_cpu import flash_on_cpu
from trainer.model import attention
from trainer.model.attention import Kernel, Segments, attend, kernel_for, use_newest_flash

HEADS, WIDTH = 2, 4
Lengths = list[tuple[int, int]]
"""Of queries and keys of each segment."""


def masked(q_LHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, lengths: Lengths) -> Tensor:
    """The definition; queries without keys give zeros."""
    of_query = torch.tensor([n for n, (queries, _) in enumerate(lengths) for _ in range(queries)])
    of_key = torch.tensor([n for n, (_, keys) in enumerate(lengths) for _ in range(keys)])
    is_seen_LM = of_query[:, None] == of_key[None, :]
    scores_HLM = torch.einsum("lhk,mhk->hlm", q_LHK, k_MHK) / q_LHK.shape[-1] ** 0.5
    weights_HLM = scores_HLM.exp() * is_seen_LM
    return torch.einsum("hlm,mhk->lhk", weights_HLM / weights_HLM.sum(-1, keepdim=True).clamp(min=1e-300), v_MHK)


def drawn(lengths: Lengths, dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (sum(pair[side] for pair in lengths) for side in (0, 1))
    made = (torch.randn(n, HEADS, WIDTH, generator=generator, dtype=torch.float64) for n in (queries, keys, keys))
    q, k, v = (x.to(device, dtype).requires_grad_() for x in made)
    return q, k, v


def segments_of(lengths: Lengths, device: str = "cpu") -> tuple[Segments, Segments]:
    queries, keys = zip(*lengths, strict=True) if lengths else ((), ())
    return Segments.of(queries).to(device), Segments.of(keys).to(device)


ROWS: list[Lengths] = [
    [(3, 3)],
    [(3, 3), (3, 3), (2, 2)],  # a run and another
    [(3, 5), (3, 5), (3, 4), (2, 4)],  # as texts are: other lengths of keys
    [(2, 2), (0, 0), (2, 2)],
    [(2, 2), (0, 3), (2, 2)],  # keys that nobody asks
    [(2, 0), (3, 2)],  # queries without keys
    [(0, 0), (1, 1), (0, 0)],
    [(1, 1)] * 5,
    [(2, 0), (1, 0)],
    [(0, 2), (0, 0)],
    [],
]
LENGTHS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)


def assert_same_as_masked(lengths: Lengths) -> bool:
    """Outputs and gradients; whether anybody sees anybody."""
    inputs, others = drawn(lengths), drawn(lengths)
    found = attend(*inputs, *segments_of(lengths))
    wanted = masked(*others, lengths)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    if not any(queries and keys for queries, keys in lengths):
        assert not found.any()
        return False
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    for x, y in zip(inputs, others, strict=True):
        assert x.grad is not None
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-12, atol=1e-12)
    return True


@pytest.mark.parametrize("lengths", ROWS)
def test_segments_see_what_the_mask_lets_them(lengths: Lengths) -> None:
    assert assert_same_as_masked(lengths) == any(queries and keys for queries, keys in lengths)


@settings(max_examples=100)
@given(LENGTHS)
def test_whatever_their_lengths(lengths: Lengths) -> None:
    event(f"somebody sees somebody: {assert_same_as_masked(lengths)}")


def test_a_segment_does_not_depend_on_the_others() -> None:
    lengths = [(3, 5), (2, 4), (4, 3)]
    q, k, v = drawn(lengths)
    whole = attend(q, k, v, *segments_of(lengths))
    alone = attend(q[3:5], k[5:9], v[5:9], *segments_of([(2, 4)]))
    torch.testing.assert_close(whole[3:5], alone, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(whole[3:5], attend(q[3:5], k[4:8], v[4:8], *segments_of([(2, 4)])))


def test_segments() -> None:
    rows: list[tuple[Segments, tuple[int, ...], list[int], int, int]] = [
        (Segments.of([3, 0, 2]), (3, 0, 2), [0, 3, 3, 5], 4, 5),
        (Segments.of([3], longest=9), (3,), [0, 3], 9, 3),
        (Segments.of([4, 1]), (4, 1), [0, 4, 5], 4, 5),
        (Segments.of([]), (), [0], 1, 0),
    ]
    for segments, lengths, cu, longest, tokens in rows:
        assert (segments.lengths, segments.cu.tolist(), segments.longest, segments.tokens) == (
            lengths,
            cu,
            longest,
            tokens,
        )
        assert segments.cu.dtype == torch.int32


@pytest.mark.parametrize("kernel", ["sdpa", "varlen"])
def test_each_segment_of_queries_needs_one_of_keys(kernel: Kernel) -> None:
    """Nor does a kernel read past what it was given."""
    q, k, v = drawn([(2, 2), (2, 2)])
    with pytest.raises(AssertionError, match="2 segments of queries, 1 of keys"):
        attend(q, k, v, Segments.of([2, 2]), Segments.of([4]), kernel)


# Kernels.

CHOICES: list[tuple[str, torch.dtype, int, Kernel]] = [
    ("cpu", torch.float64, 8, "sdpa"),
    ("cpu", torch.float32, 8, "sdpa"),
    ("cpu", torch.bfloat16, 8, "sdpa"),
    ("cuda", torch.float64, 8, "sdpa"),
    ("cuda", torch.float32, 8, "sdpa"),
    ("cuda", torch.float16, 8, "varlen"),
    ("cuda", torch.bfloat16, 8, "varlen"),
    ("cuda", torch.bfloat16, 256, "varlen"),
    ("cuda", torch.bfloat16, 264, "sdpa"),
    ("cuda", torch.bfloat16, 12, "sdpa"),
]


@pytest.mark.parametrize(("device", "dtype", "width", "kernel"), CHOICES)
def test_the_kernel_follows_from_device_precision_and_width(
    device: str, dtype: torch.dtype, width: int, kernel: Kernel
) -> None:
    with FakeTensorMode():
        assert kernel_for(torch.empty(1, 1, width, device=device, dtype=dtype)) == kernel


def test_norms_in_float32_do_not_change_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast on CUDA works out norms in float32, and so gives queries and keys to attention, but not values."""
    q, k, v = drawn([(3, 3)], torch.float32)
    half = v.bfloat16()
    found = attend(q, k, half, *segments_of([(3, 3)]))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, attend(q.bfloat16(), k.bfloat16(), half, *segments_of([(3, 3)])))
    with FakeTensorMode():
        q, k, v = (torch.empty(3, 2, 8, device="cuda", dtype=d) for d in (torch.float32, torch.float32, torch.bfloat16))
        given_to = []
        monkeypatch.setattr(
            attention, "varlen_attn", lambda *args, **_: given_to.append([x.dtype for x in args[:3]]) or q
        )
        attend(q, k, v, *segments_of([(3, 3)]))
    assert given_to == [[torch.bfloat16] * 3]


def test_the_varlen_kernel_is_called_as_this_release_of_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature(varlen.varlen_attn)

    def kernel(*args: object, **kwargs: object) -> Tensor:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        said = bound.arguments
        assert said["cu_seq_q"].tolist() == [0, 3, 5]
        assert said["cu_seq_k"].tolist() == [0, 1, 5]
        assert (said["max_q"], said["max_k"], said["window_size"]) == (7, 4, (-1, -1))
        assert said["scale"] is None
        return said["query"] + 1

    monkeypatch.setattr(attention, "varlen_attn", kernel)
    q, k, v = drawn([(3, 1), (2, 4)])
    found = attend(q, k, v, Segments.of([3, 2], longest=7), Segments.of([1, 4]), "varlen")
    assert torch.equal(found, q + 1)


def test_kernels_are_named_in_one_file() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in Path(trainer.model.__file__).parent.glob("*.py")}
    for kernel in ("varlen_attn", "scaled_dot_product_attention"):
        assert [name for name, text in texts.items() if kernel in text] == ["attention.py"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: varlen_attn runs on nothing else")
@pytest.mark.parametrize("lengths", [[(300, 300), (70, 70)], [(128, 20), (1, 3), (0, 0), (0, 4), (64, 0), (500, 77)]])
@pytest.mark.parametrize("longest", [0, 1000])
def test_both_kernels_give_the_same(lengths: Sequence[tuple[int, int]], longest: int) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [sum(pair[side] for pair in lengths) for side in (0, 1, 1)]
    inputs = [torch.randn(n, 4, 64, generator=generator).bfloat16() for n in sizes]
    queries, keys = (Segments.of([p[side] for p in lengths], longest=longest).to("cuda") for side in (0, 1))
    found: dict[Kernel, list[Tensor]] = {}
    kernels: tuple[Kernel, Kernel] = ("varlen", "sdpa")
    for kernel in kernels:
        q, k, v = (x.cuda().requires_grad_() for x in inputs)
        result = attend(q, k, v, queries, keys, kernel)
        result.float().square().sum().backward()
        assert q.grad is not None
        assert k.grad is not None
        assert v.grad is not None
        found[kernel] = [result, q.grad, k.grad, v.grad]
    for x, y in zip(found["varlen"], found["sdpa"], strict=True):
        assert x.isfinite().all()
        torch.testing.assert_close(x, y, rtol=0.05, atol=0.02)
    assert kernel_for(found["sdpa"][0]) == "varlen"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What is raised, or changed in attention's results, where a package is taken; by its name. None is installed."""
    behaviour: dict[str, Any] = {}
    taken: list[str | None] = [None]
    package = {"FA3": "flash_attn_interface", "FA4": "flash_attn"}

    def take(name: str) -> None:
        found = behaviour.get(name, ModuleNotFoundError(f"No module named {package[name]!r}", name=package[name]))
        if isinstance(found, Exception):
            raise found
        taken[0] = name

    def put_back(_raise_warn: bool) -> None:
        taken[0] = None

    def kernel(*args: Any, **options: Any) -> Any:
        result = genuine(*args, **options)
        return behaviour[taken[0]](result) if taken[0] else result

    genuine = varlen.varlen_attn
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", take)
    monkeypatch.setattr(torch.nn.attention, "restore_flash_attention_impl", put_back)
    monkeypatch.setattr(attention, "varlen_attn", kernel)
    with flash_on_cpu(monkeypatch):
        yield behaviour


def same(result: Tensor) -> Tensor:
    return result


def test_torchs_own_kernel_is_used_where_no_other_is_installed(installed: dict[str, Any]) -> None:
    with warnings.catch_warnings(action="error"):
        assert use_newest_flash("cpu", {64, 32}) == "FA2"


@pytest.mark.parametrize(("there", "used"), [({"FA3"}, "FA3"), ({"FA4"}, "FA4"), ({"FA3", "FA4"}, "FA3")])
def test_a_newer_kernel_is_used_where_it_is_installed(installed: dict[str, Any], there: set[str], used: str) -> None:
    installed |= dict.fromkeys(there, same)
    with warnings.catch_warnings(action="error"):
        assert use_newest_flash("cpu", {64, 32}) == used


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (lambda result: result * 1.1, "differs from other kernels by 0.1"),
        (lambda result: result * torch.nan, "differs from other kernels by nan"),
        (RuntimeError("Module 'flash_attn_interface' does not expose FA3 kernels"), "does not expose FA3"),
        (ModuleNotFoundError("No module named 'cutlass'", name="cutlass"), "FA3 is installed without cutlass"),
    ],
)
def test_a_newer_kernel_that_does_not_work_is_said_and_not_used(
    installed: dict[str, Any], behaviour: object, said: str
) -> None:
    installed["FA3"] = behaviour
    with pytest.warns(UserWarning, match=said):
        assert use_newest_flash("cpu", {64, 32}) == "FA2"
    installed["FA4"] = same
    with pytest.warns(UserWarning, match=said):
        assert use_newest_flash("cpu", {64, 32}) == "FA4"
