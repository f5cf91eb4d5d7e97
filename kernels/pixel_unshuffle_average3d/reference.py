"""The definition of pixel_unshuffle_average3d: blocks of pixels to channels, means of channels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..contract import layout_of, wide


def forward(
    x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None = None
) -> Tensor:
    """Return the means of `C·sT·sH·sW / out_channels` consecutive unshuffled channels each."""
    batch, channels, frames, height, width = x.shape
    times, rows, columns = scale
    group = channels * times * rows * columns // out_channels
    size = (frames // times, height // rows, width // columns)
    y = x.to(wide(x.dtype)).reshape(
        batch, channels, size[0], times, size[1], rows, size[2], columns
    )
    y = y.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, out_channels, group, *size).mean(2)
    if added is not None:
        y = y + added.to(y.dtype)
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(grad: Tensor, channels: int, scale: Sequence[int]) -> Tensor:
    """Return the gradient of x: every pixel's share of its mean."""
    batch, out_channels, *size = grad.shape
    times, rows, columns = scale
    group = channels * times * rows * columns // out_channels
    dy = grad.to(wide(grad.dtype))[:, :, None].expand(-1, -1, group, -1, -1, -1) / group
    dy = dy.reshape(batch, channels, times, rows, columns, *size)
    dx = dy.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(
        batch, channels, size[0] * times, size[1] * rows, size[2] * columns
    )
    return dx.to(grad.dtype).contiguous(memory_format=layout_of(grad))
