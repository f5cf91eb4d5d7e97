"""The gradients of a convolution in C++ for the CPU, as conv3d and causal_conv3d use them.

That of the input is a convolution itself: of the output's gradient, with the taps turned round.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import native
from . import conv3d


def why_not(grad: Tensor, x: Tensor, weight: Tensor) -> str | None:
    """Say why the kernels cannot serve these tensors, or return None."""
    if grad.dtype != x.dtype:
        return f"the gradient is {grad.dtype}, x is {x.dtype}"
    return conv3d.why_not(x, weight)


def of_input(grad: Tensor, weight: Tensor, cut: Sequence[int] = (0, 0, 0)) -> Tensor:
    """The gradient of all that a convolution of unit stride has read, its padding included.

    Args:
        grad: [B, O, T', H', W'], fp32 or bf16.
        weight: [O, C, kT, kH, kW], dtype of `grad`.
        cut: positions of T, H, W to leave out on either side; at most k // 2, for odd kernels.

    Returns:
        [B, C, T' + kT - 1 - 2 cut, ...], channels last.
    """
    kernel, size = weight.shape[2:], grad.shape[2:]
    around = [k - 1 - k // 2 - less for k, less in zip(kernel, cut, strict=True)]
    last = conv3d.channels_last(grad)
    if any(around):
        depth, height, width = around
        last = F.pad(last, (0, 0, width, width, height, height, depth, depth))
    turned = weight.flip(2, 3, 4).transpose(0, 1).contiguous()
    out_size = [n + k - 1 - 2 * less for n, k, less in zip(size, kernel, cut, strict=True)]
    return conv3d.convolve(
        last.permute(0, 4, 1, 2, 3), turned, None, out_size, pad_mode="centered"
    )[0]


def of_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], pad_mode: str
) -> Tensor:
    """The gradient of the weight; formula, accuracy: csrc/cpu/conv3d/weight_gradient.h."""
    from opensora_fast import _C

    last_x, last_grad = conv3d.channels_last(x), conv3d.channels_last(grad)
    dweight = torch.empty(weight.shape, dtype=torch.float32)
    _C.conv3d_weight_gradient_cpu(
        x=last_x.data_ptr(),
        dy=last_grad.data_ptr(),
        dweight=dweight.data_ptr(),
        batch=x.shape[0],
        channels=weight.shape[1],
        out_channels=weight.shape[0],
        size=_three(x.shape[2:]),
        out_size=_three(grad.shape[2:]),
        kernel=_three(weight.shape[2:]),
        stride=_three(stride),
        padding=conv3d.PADDING_CODES[pad_mode],
        dtype=native.DTYPE_CODES[x.dtype],
    )
    return dweight.to(weight.dtype)


def of_bias(grad: Tensor) -> Tensor:
    """The gradient of the bias: a sum over positions, in fp32."""
    return grad.sum((0, 2, 3, 4), dtype=torch.float32).to(grad.dtype)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = sizes
    return first, second, third
