"""The definition of nearest_upsample3d: every pixel repeated, the first frame in space only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..contract import layout_of, wide


def forward(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Return x with frames after the first, rows and columns repeated."""
    y = torch.cat((x[:, :, :1], x[:, :, 1:].repeat_interleave(scale[0], dim=2)), dim=2)
    y = y.repeat_interleave(scale[1], dim=3).repeat_interleave(scale[2], dim=4)
    return y.contiguous(memory_format=layout_of(x))


def backward(grad: Tensor, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x: the sum over each pixel's copies."""
    batch, channels, frames, height, width = grad.shape
    rows, columns = height // scale[1], width // scale[2]
    dy = grad.to(wide(grad.dtype))
    dy = dy.reshape(batch, channels, frames, rows, scale[1], columns, scale[2]).sum((4, 6))
    rest = dy[:, :, 1:].reshape(batch, channels, (frames - 1) // scale[0], scale[0], rows, columns)
    rest = rest.sum(3)
    dx = torch.cat((dy[:, :, :1], rest), dim=2)
    return dx.to(grad.dtype).contiguous(memory_format=layout_of(grad))
