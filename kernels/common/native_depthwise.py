"""Depthwise convolutions in C++ for the CPU, as the gradients of two ops use them.

csrc/cpu/depthwise3d.h states formulas, layouts and accuracy; all is fp32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conv3d import channels_last
from .torch_conv3d import Depthwise


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel of x [B, C, T, H, W] with its kernel of weight [C, 1, kT, kH, kW]."""
    from opensora_fast import _C

    rows = channels_last(x)
    y, taps = torch.empty_like(rows), weight.flatten(1).t().contiguous()
    bias = None if bias is None else bias.contiguous()
    _C.depthwise3d_cpu(
        x=rows.data_ptr(),
        taps=taps.data_ptr(),
        bias=0 if bias is None else bias.data_ptr(),
        y=y.data_ptr(),
        batch=x.shape[0],
        channels=x.shape[1],
        size=(x.shape[2], x.shape[3], x.shape[4]),
        kernel=_kernel(weight),
    )
    return y.permute(0, 4, 1, 2, 3)


def depthwise_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight, every k odd."""
    from opensora_fast import _C

    dx = depthwise(grad, weight.flip(2, 3, 4))
    rows, rows_of_grad = channels_last(x), channels_last(grad)
    dtaps = torch.empty((weight.shape[2:].numel(), x.shape[1]))
    _C.depthwise3d_taps_gradient_cpu(
        x=rows.data_ptr(),
        dy=rows_of_grad.data_ptr(),
        dtaps=dtaps.data_ptr(),
        batch=x.shape[0],
        channels=x.shape[1],
        size=(x.shape[2], x.shape[3], x.shape[4]),
        kernel=_kernel(weight),
    )
    return dx, dtaps.t().reshape(weight.shape)


NATIVE = Depthwise(depthwise, depthwise_gradients)


def _kernel(weight: Tensor) -> tuple[int, int, int]:
    return weight.shape[2], weight.shape[3], weight.shape[4]
