"""conv3d through torch's own convolutions (oneDNN, cuDNN), in the dtype of x."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..causal_conv3d import _torch as causal
from ..common.torch_conv3d import of_all_taps, seen_taps
from ..contract import layout_of
from . import reference

VERIFIED = "CPU: x86-64 AVX-512 and AMX, torch 2.13, 2026-11; never on a GPU"

aten = torch.ops.aten


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    *_: Any,
) -> str | None:
    """Empty tensors are left to the reference, and so is what oneDNN computes wrongly."""
    if x.numel() == 0:
        return "the tensor is empty"
    # Seen with torch 2.13: values of 1e20. Output width 2 and more, and stride 1, are right.
    width = reference.output_size(x.shape[2:], weight.shape[2:], stride, scale)[2]
    if x.dtype is torch.bfloat16 and not x.is_cuda and stride[2] > 1 and width == 1:
        return "oneDNN returns garbage for strided bf16 convolutions to a single column"
    return None


def backward_why_not(grad: Tensor, x: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "a tensor is empty" if grad.numel() == 0 or x.numel() == 0 else None


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
    """Return the convolution."""
    layout = layout_of(x)
    large = _enlarged(F.silu(x) if silu else x, scale).contiguous(memory_format=layout)
    if causal.is_pointwise(weight, stride) and layout is torch.contiguous_format:
        y = causal.matmul(large, weight, bias)
    else:
        seen = seen_taps(weight, large.shape[2])
        y = F.conv3d(large, seen, bias, tuple(stride), reference.padding(seen.shape[2:], pad_rows))
    if shortcut:
        y = y + reference.shortcut_of(x, weight.shape[0], stride, scale)
    return y.contiguous(memory_format=layout)


# The gradients of a convolution of unit scale: grad, x, weight, stride, pad_rows, needs.
Gradients = Callable[
    [Tensor, Tensor, Tensor, Sequence[int], bool, Sequence[bool]], tuple[Tensor, Tensor, Tensor]
]


def backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    return backward_by(_gradients, *args)


def backward_by(
    gradients: Gradients,
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
    """Return what `backward` does, with a convolution whose gradients are another's."""
    layout = layout_of(x)
    grad = grad.contiguous(memory_format=layout)
    large = _enlarged(F.silu(x) if silu else x, scale).contiguous(memory_format=layout)
    dlarge, dweight, dbias = gradients(grad, large, weight, stride, pad_rows, needs)
    dx = x.new_empty(0)
    if needs[0]:
        dx = reference.gradient_of_enlarged(dlarge, scale)
        if silu:
            dx = aten.silu_backward(dx, x)
        if shortcut:
            dx = dx + reference.gradient_of_shortcut(grad, x.shape[1], stride, scale)
        dx = dx.contiguous(memory_format=layout)
    return (
        dx,
        dweight.contiguous() if needs[1] else x.new_empty(0),
        dbias if needs[2] else x.new_empty(0),
    )


def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    seen = seen_taps(weight, x.shape[2])
    zeros = reference.padding(seen.shape[2:], pad_rows)
    dx, dseen, dbias = causal.gradients(grad, x, seen, stride, needs, zeros)
    return dx, of_all_taps(dseen, weight) if needs[1] else dseen, dbias


def _enlarged(x: Tensor, scale: Sequence[int]) -> Tensor:
    if tuple(scale) == (1, 1, 1):
        return x
    # A view of every pixel's copies, written out once; interpolate is several times slower.
    times, rows, columns = scale
    batch, channels, frames, height, width = x.shape
    copies = x[:, :, :, None, :, None, :, None].expand(-1, -1, -1, times, -1, rows, -1, columns)
    if layout_of(x) is torch.channels_last_3d:
        last = copies.permute(0, 2, 3, 4, 5, 6, 7, 1)
        return last.reshape(
            batch, frames * times, height * rows, width * columns, channels
        ).movedim(-1, 1)
    return copies.reshape(batch, channels, frames * times, height * rows, width * columns)
