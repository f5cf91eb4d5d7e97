"""The launches of kernels that several ops share, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ._triton import plan_sum_partials
from .catalogue import NUM_MULTIPROCESSORS, Compiled, meta


def launches(capability: int) -> Iterator[Compiled]:
    """The second stage of column sums at the released width."""
    partial = meta(2, 1, 4 * NUM_MULTIPROCESSORS[capability], 3072, dtype=torch.float32)
    yield Compiled(
        name="sum_partials", launch=plan_sum_partials(partial, meta(1, 3072), meta(1, 3072))
    )
