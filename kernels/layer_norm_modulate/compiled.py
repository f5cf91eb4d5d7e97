"""The launches of layer_norm_modulate, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import Problem, pick

WIDTHS = (64, 3072, 8192)  # many rows a tile, the released transformer, the widest


def launches(capability: int) -> Iterator[Compiled]:
    """Every width in bf16, the widest backward in fp32."""
    num_units = NUM_MULTIPROCESSORS[capability]
    for backward in (False, True):
        direction = "backward" if backward else "forward"
        for width in WIDTHS:
            # Dense half-precision rows are read 16 bytes at a time.
            promises = ("ld.global.v4",) if width == 3072 and not backward else ()
            launch = plan(width, backward, num_units)
            yield Compiled(name=f"{direction}.{width}", launch=launch, promises=promises)
    launch = plan(8192, True, num_units, torch.float32)
    yield Compiled(name="backward.8192.fp32", launch=launch)


def plan(width: int, backward: bool, num_units: int, dtype: torch.dtype = torch.bfloat16) -> Launch:
    """The launch for one long video of this width."""
    x, shift = meta(1, NUM_TOKENS, width, dtype=dtype), meta(1, width, dtype=dtype)
    problem = Problem(batch=1, length=NUM_TOKENS, width=width, backward=backward)
    config = pick(problem, num_units)
    if not backward:
        return _triton.plan_forward(x, shift, shift, 1e-6, x, config)
    partial = _triton.new_partial(x, config)
    return _triton.plan_backward(x, x, shift, 1e-6, x, partial, config)
