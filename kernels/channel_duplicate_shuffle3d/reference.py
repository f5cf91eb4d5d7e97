"""The definition of channel_duplicate_shuffle3d: channels repeated, then spread over pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..contract import layout_of, wide


def forward(
    x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None = None
) -> Tensor:
    """Return x with channels repeated `out_channels·sT·sH·sW / C` times, shuffled to pixels."""
    batch, channels, frames, height, width = x.shape
    times, rows, columns = scale
    y = x.repeat_interleave(out_channels * times * rows * columns // channels, dim=1)
    y = y.reshape(batch, out_channels, times, rows, columns, frames, height, width)
    y = y.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        batch, out_channels, frames * times, height * rows, width * columns
    )
    if added is not None:
        y = (y.to(wide(x.dtype)) + added.to(wide(x.dtype))).to(x.dtype)
    return y.contiguous(memory_format=layout_of(x))


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x: the sum over the copies of every channel."""
    batch, out_channels, frames, height, width = grad.shape
    times, rows, columns = scale
    repeats = out_channels * times * rows * columns // channels
    size = (frames // times, height // rows, width // columns)
    dy = grad.to(wide(grad.dtype)).reshape(
        batch, out_channels, size[0], times, size[1], rows, size[2], columns
    )
    dx = dy.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels, repeats, *size).sum(2)
    return dx.to(grad.dtype).contiguous(memory_format=layout_of(grad))
