"""The launches of concat_gelu, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton

WIDTH, HIDDEN = 3072, 4 * 3072  # of the released transformer's single blocks


def launches(capability: int) -> Iterator[Compiled]:
    """The forward; the backward is gelu's."""
    # Dense half-precision rows are read 16 bytes at a time.
    yield Compiled(name="forward", launch=plan(), promises=("ld.global.v4",))
    yield Compiled(name="forward.fp32", launch=plan(torch.float32))


def plan(dtype: torch.dtype = torch.bfloat16) -> Launch:
    """The launch for one long video; x are the last columns of the product that makes it."""
    a = meta(NUM_TOKENS, WIDTH, dtype=dtype)
    x = meta(NUM_TOKENS, WIDTH + HIDDEN, dtype=dtype)[:, WIDTH:]
    return _triton.plan_forward(a, x, meta(NUM_TOKENS, WIDTH + HIDDEN, dtype=dtype))
