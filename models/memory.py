"""Choosing the largest piece of work whose memory stays within a bound."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor

from opensora_fast.kernels.footprint import peak_bytes

# Computes a result with so many rows at a time; None stands for all of them, without slabs.
Run = Callable[[int | None], Tensor]


def rows_within(run: Run, height: int, budget: int, name: str) -> int | None:
    """Find how many rows at a time keep a computation within a bound on memory.

    Tried on the meta device, where nothing is computed.

    Args:
        run: the computation on the meta device.
        height: rows that there are.
        budget: bytes that tensors may hold at one time, the result included; inputs and parameters
            come on top.
        name: of the computation, for the message.

    Returns:
        Rows of a slab; None: slabs are not needed.

    Raises:
        ValueError: not even a single row at a time keeps within the bound.
    """
    # The whole; then sample by sample, and 3/4, 1/2, 3/8, 1/4, 3/16, ... of the rows.
    halves = [height // 2**k for k in range(height.bit_length())]
    between = [3 * rows // 4 for rows in halves]
    needed = 0
    tried: list[int | None] = [None, *sorted({*halves, *between} - {0}, reverse=True)]
    for rows in tried:
        needed = peak_bytes(functools.partial(run, rows))
        if needed <= budget:
            return rows
    raise ValueError(
        f"{name}: memory_budget is {budget:,} bytes, the least that this size can be done with is "
        f"{needed:,}"
    )
