"""The launches of kernels that several ops share, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ._triton import plan_sum_partials
from ._triton_depthwise import plan_convolve, plan_taps_gradient
from .catalogue import NUM_MULTIPROCESSORS, Compiled, meta


def launches(capability: int) -> Iterator[Compiled]:
    """The second stage of column sums at the released width."""
    partial = meta(2, 1, 4 * NUM_MULTIPROCESSORS[capability], 3072, dtype=torch.float32)
    yield Compiled(
        name="sum_partials", launch=plan_sum_partials(partial, meta(1, 3072), meta(1, 3072))
    )
    # Stage 3 of the Video DC-AE on a tile of 32 frames of 256 x 256 pixels: the taps of its gated
    # convolution, those of its attention. Neighbours in memory are read 16 bytes at a time.
    for kernel, channels in (((3, 3, 3), 4096), ((5, 5, 5), 1536)):
        name, size, wide = f"{kernel[0]}x{kernel[1]}x{kernel[2]}", (32, 32, 32), ("ld.global.v4",)
        rows = meta(32 * 32 * 32, channels, dtype=torch.float32)
        taps = meta(kernel[0] * kernel[1] * kernel[2], channels, dtype=torch.float32)
        convolve = plan_convolve(rows, taps, None, rows, size, kernel, turned=True)
        yield Compiled(name=f"depthwise.{name}", launch=convolve, promises=wide)
        partial = meta(1, len(taps), 16, channels, dtype=torch.float32)
        gradient = plan_taps_gradient(rows, rows, size, kernel, partial)
        yield Compiled(name=f"depthwise_taps.{name}", launch=gradient, promises=wide)
