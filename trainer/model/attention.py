"""Attention over packed sequences, the one place where its kernel is chosen.

L tokens of all segments (queries), M tokens of all segments (keys), N segments, H heads, K width of a head
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

__all__ = ["NEWER_FLASH", "OPERATORS", "Kernel", "Segments", "attend", "kernel_for", "use_flash", "use_newest_flash"]

Kernel = Literal["varlen", "sdpa"]
"""`varlen`: one call of torch's varlen_attn, CUDA with bf16 or fp16 only. `sdpa`: one call for each run of segments of
the same lengths; anywhere, and compared with the other in a test."""


NEWER_FLASH = ("FA3", "FA4")
"""FlashAttention's later generations, made for Hopper and Blackwell; torch has the second and takes these, where their
packages are installed."""
MOST_HEAD_WIDTH = 256
TRIED_QUERIES, TRIED_KEYS = (200, 56, 3, 0), (200, 20, 1, 5)
OPERATORS = (
    torch.ops.torch_attn._varlen_attn.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
)
"""What attention is to torch, whichever kernel does it: so that what it gave can be kept."""
WRONG = 0.03  # relative difference in bfloat16 above which a kernel does something else


@dataclass(frozen=True, slots=True)
class Segments:
    """Where a packed sequence is divided.

    lengths   of its segments, in tokens, known on the host so that no kernel has to wait for the device
    cu        int32[N+1], their cumulative sum from 0, on the device
    longest   the bound that kernels are given: a power of two, or the pack's budget, so that it has few values (each is
              compiled by itself) and is not far above the truth (kernels start work for it in every segment)
    """

    lengths: tuple[int, ...]
    cu: Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], *, longest: int = 0) -> Segments:
        cu = torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32)
        return cls(tuple(lengths), cu, longest or _power_of_two(max(lengths, default=0)))

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def to(self, device: torch.device | str) -> Segments:
        return Segments(self.lengths, self.cu.to(device, non_blocking=True), self.longest)


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 0).bit_length()


def kernel_for(q_LHK: Tensor) -> Kernel:
    """`varlen` where FlashAttention can: on CUDA in half precision, heads of a multiple of 8 and at most 256."""
    width = q_LHK.shape[-1]
    is_half = q_LHK.dtype in (torch.bfloat16, torch.float16)
    can = q_LHK.is_cuda and is_half and width % 8 == 0 and width <= MOST_HEAD_WIDTH
    return "varlen" if can else "sdpa"


def use_newest_flash(device: torch.device | str, head_widths: Iterable[int]) -> str:
    """From now on in this process `varlen` is FlashAttention 3 or 4 where one's package is installed, and works here
    for heads of these widths, forward and backward; else torch's own, the second. Returns which.

    Warns where a package is installed and does not work: it may be of another release than torch calls.
    """
    use_flash(None)
    for name in NEWER_FLASH:
        try:
            use_flash(name)
            for head_width in head_widths:
                _try_flash(device, head_width)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("flash_attn"):
                warnings.warn(f"{name} is installed without {error.name}, so it is not used", stacklevel=2)
        except Exception as error:  # kernels of others, which are compiled as they are called: anything can be raised
            warnings.warn(f"{name} is installed and does not work here, so it is not used: {error!r}", stacklevel=2)
        else:
            return name
        use_flash(None)
    return "FA2"


def use_flash(name: str | None) -> None:
    """One of `NEWER_FLASH` in place of torch's own, or this again. Raises ModuleNotFoundError where it is not
    installed."""
    from torch.nn.attention import activate_flash_attention_impl, restore_flash_attention_impl

    if name is None:
        restore_flash_attention_impl(_raise_warn=False)
    else:
        activate_flash_attention_impl(name)


def _try_flash(device: torch.device | str, head_width: int) -> None:
    """Raises what the kernel raises, and ValueError where it gives something else than the arithmetic itself."""
    queries, keys = (Segments.of(lengths).to(device) for lengths in (TRIED_QUERIES, TRIED_KEYS))
    inputs = [
        torch.randn(segments.tokens, 2, head_width, device=device, dtype=torch.bfloat16).requires_grad_()
        for segments in (queries, keys, keys)
    ]
    found: list[list[Tensor]] = []
    kernels: tuple[Kernel, Kernel] = ("varlen", "sdpa")
    for kernel in kernels:
        with sdpa_kernel(SDPBackend.MATH):  # the others may have been replaced as well
            result = attend(inputs[0], inputs[1], inputs[2], queries, keys, kernel)
        found.append([result, *torch.autograd.grad(result.float().square().sum(), inputs)])
    for x, y in zip(*found, strict=True):
        off = float((x - y).detach().norm() / y.detach().norm())
        if not off < WRONG:  # nor is a number that is none
            raise ValueError(f"differs from other kernels by {off:.2g}")


def attend(
    q_LHK: Tensor,
    k_MHK: Tensor,
    v_MHK: Tensor,
    queries: Segments,
    keys: Segments,
    kernel: Kernel | None = None,
) -> Tensor:
    """Each segment of queries over the segment of keys of the same number; [L, H, K]. Segments without keys give zeros.

    Differentiable, in the values' precision. `kernel` is for comparisons; without it the device decides.
    """
    # By shapes: a compiler would make code anew for each number of lengths that it has looked at.
    assert queries.cu.shape == keys.cu.shape, f"{len(queries.cu) - 1} segments of queries, {len(keys.cu) - 1} of keys"
    q_LHK, k_MHK = q_LHK.to(v_MHK.dtype), k_MHK.to(v_MHK.dtype)  # autocast on CUDA leaves norms in float32
    if (kernel or kernel_for(q_LHK)) == "varlen":
        # By keyword: what stands at this place, and what is meant without it, has changed between releases.
        result = varlen_attn(
            q_LHK, k_MHK, v_MHK, queries.cu, keys.cu, queries.longest, keys.longest, window_size=(-1, -1)
        )
        assert isinstance(result, Tensor)
        return result
    return _by_runs(q_LHK, k_MHK, v_MHK, queries.lengths, keys.lengths)  # pyright: ignore[reportCallIssue]


@torch.compiler.disable  # lengths differ from pack to pack, and each would be compiled anew
def _by_runs(
    q_LHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, query_lengths: Sequence[int], key_lengths: Sequence[int]
) -> Tensor:
    runs = list(_runs(query_lengths, key_lengths))
    # Split once: a slice for each run has a gradient as long as the whole.
    q_parts = q_LHK.split([count * queries for count, queries, _ in runs])
    k_parts, v_parts = (x.split([count * keys for count, _, keys in runs]) for x in (k_MHK, v_MHK))
    found = [
        _batched(q_PHK, k_PHK, v_PHK, count)
        for (count, queries, _), q_PHK, k_PHK, v_PHK in zip(runs, q_parts, k_parts, v_parts, strict=True)
        if queries
    ]
    if not found:
        return torch.zeros_like(q_LHK)
    return torch.cat(found) if len(found) > 1 else found[0]


def _runs(query_lengths: Sequence[int], key_lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """How many segments follow each other with the same lengths, and these: of queries, of keys."""
    for (queries, keys), same in groupby(zip(query_lengths, key_lengths, strict=True)):
        yield sum(1 for _ in same), queries, keys


def _batched(q_LHK: Tensor, k_MHK: Tensor, v_MHK: Tensor, count: int) -> Tensor:
    if not len(k_MHK):
        return torch.zeros_like(q_LHK)
    q, k, v = (rearrange(x, "(n l) h k -> n h l k", n=count) for x in (q_LHK, k_MHK, v_MHK))
    return rearrange(F.scaled_dot_product_attention(q, k, v), "n h l k -> (n l) h k")
