"""The launches of attention, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton, _triton_backward
from ._triton_tiles import Frames
from .launch import KERNELS, Kernel, Problem, pick

NUM_HEADS = 24
# By kernel, a head for every tile that `pick` knows. The released transformers have 128 and 72.
HEAD_DIMS: dict[Kernel, tuple[int, ...]] = {
    "forward": (64, 128, 256),
    "query_gradient": (128, 256),
    "key_gradient": (128, 256),
}


def launches(capability: int) -> Iterator[Compiled]:
    """Every kernel in bf16, with descriptors where there are any, by pointers, and in fp32."""
    # On sm_90 descriptors bring bulk copies and operands that the matrix units read by themselves.
    hopper = ("wgmma.mma_async", "cp.async.bulk.tensor") if capability == 90 else ()
    for kernel in KERNELS:
        for head_dim in HEAD_DIMS[kernel]:
            launch = plan(kernel, head_dim, capability, describable=True)
            yield Compiled(name=f"{kernel}.{head_dim}", launch=launch, promises=hopper)
        # A head of 72 is padded to 128, here with masks instead of a descriptor's zeros.
        launch = plan(kernel, 72, capability, describable=capability < 90)
        whole = ("cp.async.cg.shared.global",) if capability < 90 else ()
        yield Compiled(name=f"{kernel}.72.pointers", launch=launch, promises=whole)
        launch = plan(kernel, 128, capability, describable=True, dtype=torch.float32)
        yield Compiled(name=f"{kernel}.128.fp32", launch=launch)
    q, delta = _head(NUM_TOKENS, 128, NUM_HEADS, torch.bfloat16)
    launch = _triton_backward.plan_delta(q, q, delta)
    yield Compiled(name="delta.128", launch=launch, promises=("ld.global.v4",))


def plan(
    kernel: Kernel,
    head_dim: int,
    capability: int,
    *,
    describable: bool,
    dtype: torch.dtype = torch.bfloat16,
    num_heads: int = NUM_HEADS,
    frames: Frames | None = None,
) -> Launch:
    """The launch of a kernel for one long video, dense unless ``frames`` are given."""
    frames = frames or Frames(1, NUM_TOKENS, NUM_TOKENS)
    q, lse = _head(frames.count * frames.queries, head_dim, num_heads, dtype)
    problem = Problem(
        kernel=kernel,
        head_dim=head_dim,
        half_precision=dtype.itemsize == 2,
        describable=describable,
    )
    config = pick(problem, capability)
    if kernel == "forward":
        return _triton.plan_forward(q, q, q, frames, q, lse, config)
    inputs = (q, q, q, q, lse, lse, frames)
    if kernel == "query_gradient":
        return _triton_backward.plan_query_gradient(*inputs, q, config)
    return _triton_backward.plan_key_gradient(*inputs, q, q, config)


def _head(
    length: int, head_dim: int, num_heads: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    q = meta(1, length, num_heads, head_dim, dtype=dtype)
    return q, meta(1, num_heads, length, dtype=torch.float32)
