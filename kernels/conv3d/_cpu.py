"""conv3d in C++ for the CPU: csrc/cpu/conv3d states algorithms and accuracy.

On the way forward neither the activated nor the enlarged video nor the shortcut ever exists as a
whole. The gradient of the input of a strided convolution is torch's, as in causal_conv3d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..causal_conv3d import _torch as causal
from ..common import conv3d, conv3d_gradient
from . import _torch
from .reference import output_size, padding

VERIFIED = conv3d.VERIFIED


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if not pad_rows and tuple(scale) != (1, 1, 1):
        return "the kernel does not enlarge a slab of rows without zeros above and below"
    if tuple(scale) not in ((1, 1, 1), (1, 2, 2), (2, 2, 2)):
        return f"the kernel serves the scales (1, 2, 2) and (2, 2, 2), not {tuple(scale)}"
    if tuple(scale) != (1, 1, 1) and tuple(weight.shape[2:]) != (3, 3, 3):
        kernel = list(weight.shape[2:])
        return f"the kernel folds an upsampling into 3x3x3 convolutions, weight has {kernel}"
    return conv3d.why_not(x, weight)


def backward_why_not(grad: Tensor, x: Tensor, weight: Tensor, *_: object) -> str | None:
    """Say why the kernels cannot serve this call, or return None."""
    if any(size % 2 == 0 for size in weight.shape[2:]):
        kernel = list(weight.shape[2:])
        return f"the kernels have no gradients of even kernels, weight has {kernel}"
    return conv3d_gradient.why_not(grad, x, weight)


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
    size = output_size(x.shape[2:], weight.shape[2:], stride, scale, pad_rows)
    y, _ = conv3d.convolve(
        x,
        weight,
        bias,
        size,
        stride=stride,
        scale=scale,
        pad_mode="centered" if pad_rows else "centered rows",
        silu=silu,
        shortcut=shortcut,
    )
    return y


def backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    return _torch.backward_by(_gradients, *args)


def _gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    empty = x.new_empty(0)
    zeros = padding(weight.shape[2:], pad_rows)
    dx = empty
    if needs[0] and tuple(stride) == (1, 1, 1):
        dx = conv3d_gradient.of_input(grad, weight, cut=zeros)
    elif needs[0]:
        dx = causal.gradients(grad, x, weight, stride, (True, False, False), zeros)[0]
    mode = "centered" if pad_rows else "centered rows"
    return (
        dx,
        conv3d_gradient.of_weight(grad, x, weight, stride, mode) if needs[1] else empty,
        conv3d_gradient.of_bias(grad) if needs[2] else empty,
    )
