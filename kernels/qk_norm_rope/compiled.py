"""The launches of qk_norm_rope, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from . import _triton
from .launch import Problem, pick

HEAD_DIMS = (128, 256)  # the released transformer, the largest


def launches(capability: int) -> Iterator[Compiled]:
    """Every head and layout in bf16, the largest backward in fp32."""
    num_units = NUM_MULTIPROCESSORS[capability]
    for backward in (False, True):
        direction = "backward" if backward else "forward"
        for head_dim in HEAD_DIMS:
            for layout in ("half", "interleaved"):
                # Dense half-precision rows are read 16 bytes at a time.
                whole = layout == "interleaved" and head_dim == 128 and not backward
                yield Compiled(
                    name=f"{direction}.{head_dim}.{layout}",
                    launch=plan(head_dim, layout, backward, num_units),
                    promises=("ld.global.v4",) if whole else (),
                )
    launch = plan(256, "interleaved", True, num_units, torch.float32)
    yield Compiled(name="backward.256.interleaved.fp32", launch=launch)


def plan(
    head_dim: int,
    layout: str,
    backward: bool,
    num_units: int,
    dtype: torch.dtype = torch.bfloat16,
) -> Launch:
    """The launch for the 24 heads of one long video."""
    q, weight = meta(1, NUM_TOKENS, 24, head_dim, dtype=dtype), meta(head_dim, dtype=dtype)
    table = meta(NUM_TOKENS, head_dim // 2, dtype=torch.float32)
    problem = Problem(
        batch=1, length=NUM_TOKENS, num_heads=24, head_dim=head_dim, backward=backward
    )
    config = pick(problem, num_units)
    inputs = (q, q, weight, weight, table, table, layout, 1e-6)
    if not backward:
        return _triton.plan_forward(*inputs, q, q, config)
    partial = _triton.new_partial(q, config)
    return _triton.plan_backward(q, q, *inputs, q, q, partial, config)
