"""The launches of frame_causal_attention, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import Problem, pick

TOKENS_PER_FRAME = 96 * 96  # a latent frame of 768 x 768 pixels
NUM_FRAMES = 33


def launches(capability: int) -> Iterator[Compiled]:
    """The released head by descriptors, where there are any, and by pointers; the widest fp32."""
    hopper = ("wgmma.mma_async", "cp.async.bulk.tensor") if capability == 90 else ()
    yield Compiled(
        name="forward.512", launch=plan(512, capability, describable=True), promises=hopper
    )
    yield Compiled(name="forward.512.pointers", launch=plan(512, capability, describable=False))
    launch = plan(128, capability, describable=True, dtype=torch.float32)
    yield Compiled(name="forward.128.fp32", launch=launch)


def plan(
    head_dim: int, capability: int, *, describable: bool, dtype: torch.dtype = torch.bfloat16
) -> Launch:
    """The launch for the mid block of a 129-frame 768 px video."""
    length = NUM_FRAMES * TOKENS_PER_FRAME
    q, lse = meta(length, head_dim, dtype=dtype), meta(length, dtype=torch.float32)
    problem = Problem(
        head_dim=head_dim, half_precision=dtype.itemsize == 2, describable=describable
    )
    return _triton.plan_forward(q, q, q, NUM_FRAMES, q, lse, pick(problem, capability))
