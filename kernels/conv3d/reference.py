"""The definition of conv3d: activate, enlarge, convolve, add the shortcut; their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..causal_conv3d import reference as causal
from ..channel_duplicate_shuffle3d import reference as duplicate
from ..contract import layout_of, wide
from ..pixel_unshuffle_average3d import reference as average


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> Tensor:
    """Return `conv(enlarged(silu(x))) + bias + shortcut(x)`."""
    wide_x = x.to(wide(x.dtype))
    padded = pad(enlarged(activated(wide_x, silu), scale), weight.shape[2:], pad_rows)
    wide_bias = None if bias is None else bias.to(padded.dtype)
    y = causal.forward(padded, weight.to(padded.dtype), wide_bias, stride, "valid")
    if shortcut:
        y = y + shortcut_of(wide_x, weight.shape[0], stride, scale)
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    wide_x, dy = x.to(wide(x.dtype)), grad.to(wide(x.dtype))
    padded = pad(enlarged(activated(wide_x, silu), scale), weight.shape[2:], pad_rows)
    dpadded, dweight, dbias = causal.backward(
        dy, padded, weight.to(padded.dtype), stride, "valid", needs
    )
    dx = x.new_empty(0)
    if needs[0]:
        inner = dpadded
        for axis, zeros in enumerate(padding(weight.shape[2:], pad_rows), start=2):
            inner = inner.narrow(axis, zeros, x.shape[axis] * scale[axis - 2])
        dx = gradient_of_enlarged(inner, scale)
        if silu:
            dx = dx * gradient_of_silu(wide_x)
        if shortcut:
            dx = dx + gradient_of_shortcut(dy, x.shape[1], stride, scale)
        dx = dx.to(x.dtype).contiguous(memory_format=layout_of(x))
    return (
        dx,
        dweight.to(weight.dtype) if needs[1] else dx.new_empty(0),
        dbias.to(weight.dtype) if needs[2] else dx.new_empty(0),
    )


def activated(x: Tensor, silu: bool) -> Tensor:
    """x, or x · sigmoid(x)."""
    return x * torch.sigmoid(x) if silu else x


def gradient_of_silu(x: Tensor) -> Tensor:
    """The derivative of x · sigmoid(x)."""
    sigmoid = torch.sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


def enlarged(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Give x with every frame, row and column repeated."""
    for axis, factor in enumerate(scale, start=2):
        x = x if factor == 1 else x.repeat_interleave(factor, dim=axis)
    return x


def gradient_of_enlarged(grad: Tensor, scale: Sequence[int]) -> Tensor:
    """The sum over every pixel's copies."""
    for axis, factor in enumerate(scale, start=2):
        if factor != 1:
            grad = grad.unflatten(axis, (-1, factor)).sum(axis + 1)
    return grad


def padding(kernel: Sequence[int], pad_rows: bool) -> tuple[int, int, int]:
    """Zeros on both sides of T, H and W."""
    depth, height, width = (size // 2 for size in kernel)
    return depth, height if pad_rows else 0, width


def pad(x: Tensor, kernel: Sequence[int], pad_rows: bool) -> Tensor:
    """Give x with k//2 zeros on both sides of T, W and, unless switched off, H."""
    depth, height, width = padding(kernel, pad_rows)
    return torch.nn.functional.pad(x, (width, width, height, height, depth, depth))


def averages(channels: int, out_channels: int, scale: Sequence[int]) -> bool:
    """Whether the shortcut averages channels (down) rather than repeating them (up)."""
    return tuple(scale) == (1, 1, 1) and out_channels <= channels


def shortcut_of(
    x: Tensor, out_channels: int, stride: Sequence[int], scale: Sequence[int]
) -> Tensor:
    """The shortcut: means of unshuffled channels, or channels repeated and shuffled."""
    if tuple(stride) != (1, 1, 1) or averages(x.shape[1], out_channels, scale):
        return average.forward(x, out_channels, stride)
    return duplicate.forward(x, out_channels, scale)


def gradient_of_shortcut(
    grad: Tensor, channels: int, stride: Sequence[int], scale: Sequence[int]
) -> Tensor:
    """The gradient of x through the shortcut."""
    if tuple(stride) != (1, 1, 1) or averages(channels, grad.shape[1], scale):
        return average.backward(grad, channels, stride)
    return duplicate.backward(grad, channels, scale)


def output_size(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    scale: Sequence[int],
    pad_rows: bool = True,
) -> tuple[int, int, int]:
    """T', H', W' of the output of an input of T, H, W."""
    sizes = zip(size, kernel, stride, scale, padding(kernel, pad_rows), strict=True)
    frames, height, width = ((n * f + 2 * zeros - k) // s + 1 for n, k, s, f, zeros in sizes)
    return frames, height, width
