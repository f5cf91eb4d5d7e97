"""The backward of conv3d in Triton: the gradient kernels of causal_conv3d between zeros.

An enlargement is folded in as in upsample_conv3d: summed taps, whose gradients are kept in fp32
until they are summed back. The derivative of SiLU and the shortcut's gradient are taken where the
input's gradient is still in fp32. The weight's gradient reads x activated again, rounded to its
dtype: activating in the kernel would repeat SiLU once per tap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..causal_conv3d import _triton_backward as conv
from ..causal_conv3d._triton_border import with_border
from ..contract import layout_of
from ..upsample_conv3d._triton_backward import summed, unsummed
from ._triton import NO_BORDER
from .launch import geometry, leading, shortcut_of


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], scale: Sequence[int],
    silu: bool, shortcut: bool, pad_rows: bool, needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: gradients of x, weight and bias."""
    kernel = weight.shape[2:]
    meeting, first = geometry(kernel, stride, scale), leading(kernel, scale)
    enlarges = tuple(scale) != (1, 1, 1)
    dy = conv.channels_last(grad)
    dx, dweight, dbias = (x.new_empty(0) for _ in range(3))
    if needs[0]:
        added = shortcut_of(x.shape[1], weight.shape[0], stride, scale) if shortcut else None
        dx = conv.input_gradient(
            dy,
            summed(weight, scale, first) if enlarges else weight,
            (x.shape[0], *x.shape[2:]),
            meeting,
            activated=conv.channels_last(x) if silu else None,
            shortcut=added,
        )
        dx = dx.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))
    if needs[1]:
        video = x.permute(0, 2, 3, 4, 1)
        seen = with_border(video, NO_BORDER, True, True) if silu else video.contiguous()
        if enlarges:
            shape = (*weight.shape[:2], *meeting.kernel)
            dsummed = torch.empty(shape, dtype=torch.float32, device=x.device)
            conv.weight_gradient(seen, dy, dsummed, meeting)
            dweight = unsummed(dsummed, scale, first).to(weight.dtype)
        else:
            dweight = weight.new_empty(weight.shape)
            conv.weight_gradient(seen, dy, dweight, meeting)
    if needs[2]:
        dbias = conv.bias_gradient(dy, weight.dtype)
    return dx, dweight, dbias
