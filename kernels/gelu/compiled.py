"""The launches of gelu, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton

HIDDEN = 4 * 3072  # of the released transformer's MLPs


def launches(capability: int) -> Iterator[Compiled]:
    """Both directions on a dense tensor, and the forward on part of a matrix's columns."""
    # Dense half-precision rows are read 16 bytes at a time.
    vectors = ("ld.global.v4",)
    whole = meta(1, NUM_TOKENS * HIDDEN)
    yield Compiled(name="forward", launch=_triton.plan_forward(whole, whole), promises=vectors)
    yield Compiled(name="backward", launch=backward(torch.bfloat16), promises=vectors)
    yield Compiled(name="backward.fp32", launch=backward(torch.float32))
    part = meta(NUM_TOKENS, 3072 + HIDDEN)[:, 3072:]
    launch = _triton.plan_forward(part, meta(NUM_TOKENS, HIDDEN))
    yield Compiled(name="forward.part", launch=launch, promises=vectors)


def backward(dtype: torch.dtype) -> Launch:
    """The launch for one long video."""
    x = meta(1, NUM_TOKENS * HIDDEN, dtype=dtype)
    return _triton.plan_backward(x, x, x)
