"""The launches of gate_residual, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import Problem, pick


def launches(capability: int) -> Iterator[Compiled]:
    """The released transformer's width in bf16, the backward also in fp32."""
    num_units = NUM_MULTIPROCESSORS[capability]
    # Dense half-precision rows are read 16 bytes at a time.
    vectors = ("ld.global.v4",)
    yield Compiled(name="forward.3072", launch=plan(False, num_units), promises=vectors)
    yield Compiled(name="backward.3072", launch=plan(True, num_units), promises=vectors)
    launch = plan(True, num_units, torch.float32)
    yield Compiled(name="backward.3072.fp32", launch=launch)


def plan(backward: bool, num_units: int, dtype: torch.dtype = torch.bfloat16) -> Launch:
    """The launch for one long video."""
    x, gate = meta(1, NUM_TOKENS, 3072, dtype=dtype), meta(1, 3072, dtype=dtype)
    problem = Problem(batch=1, length=NUM_TOKENS, width=3072, backward=backward)
    config = pick(problem, num_units)
    if not backward:
        return _triton.plan_forward(x, gate, x, x, config)
    return _triton.plan_backward(x, gate, x, x, _triton.new_partial(x, config), config)
