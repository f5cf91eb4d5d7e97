"""What the Triton kernel of frame_causal_attention can run, and how it is launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import next_power_of_two

MAX_HEAD_DIM = (
    512  # a tile of queries and its sums lie in one program's shared memory and registers
)
MAX_FP32_HEAD_DIM = 128
MAX_TOKENS = 2**30  # tokens are counted in 32 bits
MAX_BLOCK_SPAN = 2**31  # elements from the first to the last of a block, counted in 32 bits


def why_not(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    _, length, head_dim = q.shape
    limit = MAX_HEAD_DIM if q.element_size() == 2 else MAX_FP32_HEAD_DIM
    if not 0 < head_dim <= limit:
        return f"heads have {head_dim} channels, 1 to {limit} fit in {q.dtype}"
    if length > MAX_TOKENS:
        return f"{length} tokens exceed {MAX_TOKENS}"
    for name, x in (("q", q), ("k", k), ("v", v)):
        if 64 * x.stride(1) + head_dim * x.stride(2) >= MAX_BLOCK_SPAN:
            return f"{name} has strides {x.stride()}: a block would span 2^31 elements"
    return triton_why_not(q, k, v)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the choice depends on; ``describable`` if all inputs fit tensor descriptors."""

    head_dim: int
    half_precision: bool
    describable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``block_q`` queries against ``block_n`` keys at a time."""

    descriptors: bool
    block_d: int
    block_q: int
    block_n: int
    num_warps: int
    num_stages: int


def describable(x: Tensor) -> bool:
    """Return whether tensor descriptors can hold ``x`` [B, L, D]: dense rows on 16-byte bounds."""
    size = x.element_size()
    offsets = (x.data_ptr(), x.stride(0) * size, x.stride(1) * size)
    dense = x.stride(2) == 1 and x.stride(1) >= x.shape[2]
    return dense and all(offset % 16 == 0 for offset in offsets)


def pick(problem: Problem, capability: int) -> Config:
    """Choose the launch: the largest tiles that spill no registers.

    The released VAE has one head of 512. Its tile of 64 queries takes the registers of 8 warps, and
    with 32 keys at a time, prefetched twice, 192 KB of shared memory: what data-centre devices with
    descriptors have. Loads by pointers need registers for addresses, which leaves room for 16 keys.
    """
    block_d = max(16, next_power_of_two(problem.head_dim))
    descriptors = problem.describable and problem.half_precision and 90 <= capability < 120
    if not problem.half_precision:
        block_q, block_n, num_warps = 32, 16, 4
    elif block_d <= 128:
        block_q, block_n, num_warps = 64, 32, 4
    else:
        block_q, block_n, num_warps = 64, 32 if descriptors else 16, 8
    return Config(
        descriptors=descriptors,
        block_d=block_d,
        block_q=block_q,
        block_n=block_n,
        num_warps=num_warps,
        num_stages=2,
    )
