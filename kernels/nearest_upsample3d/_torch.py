"""nearest_upsample3d in few passes of torch's copy and add kernels; the forward only copies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..contract import layout_of, wide

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"


def forward(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Return x with frames after the first, rows and columns repeated."""
    layout = layout_of(x)
    batch, channels, frames, height, width = x.shape
    times, rows, columns = scale
    y = torch.empty(
        (batch, channels, 1 + times * (frames - 1), height * rows, width * columns),
        dtype=x.dtype,
        device=x.device,
        memory_format=layout,
    )
    if layout is torch.contiguous_format:
        # Copying runs of repeated columns is faster than copying every column `columns` times.
        x, width, columns = x.repeat_interleave(columns, dim=4), width * columns, 1
    for source, target, repeats in (
        (x[:, :, :1], y[:, :, :1], 1),
        (x[:, :, 1:], y[:, :, 1:], times),
    ):
        shape = (batch, channels, source.shape[2], repeats, height, rows, width, columns)
        target.view(shape).copy_(source[:, :, :, None, :, None, :, None].expand(shape))
    return y


def backward(grad: Tensor, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x: each pixel's copies, added one strided view after the other."""
    times, rows, columns = scale
    batch, channels, frames, height, width = grad.shape
    dx = torch.zeros(
        (batch, channels, 1 + (frames - 1) // times, height // rows, width // columns),
        dtype=wide(grad.dtype),
        device=grad.device,
    ).contiguous(memory_format=layout_of(grad))
    for row, column in itertools.product(range(rows), range(columns)):
        copies = grad[:, :, :, row::rows, column::columns]
        dx[:, :, :1] += copies[:, :, :1]
        for time in range(times):
            dx[:, :, 1:] += copies[:, :, 1 + time :: times]
    return dx.to(grad.dtype)
