"""causal_conv3d in C++ for the CPU: csrc/cpu/conv3d states algorithms and accuracy.

The gradient of the input of a strided convolution is torch's: no algorithm of ours has fewer
products for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import conv3d, conv3d_gradient
from . import _torch
from .reference import output_shape

VERIFIED = conv3d.VERIFIED


def why_not(x: Tensor, weight: Tensor, *_: object) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    return conv3d.why_not(x, weight)


def backward_why_not(grad: Tensor, x: Tensor, weight: Tensor, *_: object) -> str | None:
    """Say why the kernels cannot serve this call, or return None."""
    return conv3d_gradient.why_not(grad, x, weight)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad_mode: str,
    gather: bool,
) -> tuple[Tensor, Tensor]:
    """Return the convolution, and the moments of its channels."""
    size = output_shape(x.shape, weight.shape, stride, pad_mode)[2:]
    return conv3d.convolve(x, weight, bias, size, stride=stride, pad_mode=pad_mode, gather=gather)


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; an empty tensor for one that is not needed."""
    empty = x.new_empty(0)
    dx = empty
    if needs[0] and tuple(stride) == (1, 1, 1):
        dx = _torch.folded(conv3d_gradient.of_input(grad, weight), x, weight, pad_mode)
    elif needs[0]:
        only = (True, False, False)
        dx = _torch.backward(grad, x, weight, stride, pad_mode, only)[0]
    return (
        dx,
        conv3d_gradient.of_weight(grad, x, weight, stride, pad_mode) if needs[1] else empty,
        conv3d_gradient.of_bias(grad) if needs[2] else empty,
    )
