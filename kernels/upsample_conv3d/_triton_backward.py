"""The backward of upsample_conv3d in Triton: neither the upsampled video nor its gradient exists.

Along a doubled axis, with x repeated at its ends, y[2 p - m] meets x[p - 1] at four summed taps:

    m = 0: w0,    m = 1: w0 + w1,    m = 2: w1 + w2,    m = 3: w2

so the gradients are those of one convolution with these taps (causal_conv3d's kernels, 3.4 times
fewer multiplications than on the upsampled video for scale 2), and dw_k = du_k + du_(k+1).
Taps are summed in fp32 and rounded once; their gradients are kept in fp32 until they are summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..causal_conv3d import _triton_backward as conv
from ..contract import layout_of
from .launch import geometry


def backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: Sequence[int],
    needs: Sequence[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the backward as the op's schema has it: gradients of x, weight and bias."""
    meeting = geometry(scale)
    dy = conv.channels_last(grad)
    dx, dweight, dbias = (x.new_empty(0) for _ in range(3))
    if needs[0]:
        dx = conv.input_gradient(dy, summed(weight, scale), (x.shape[0], *x.shape[2:]), meeting)
        dx = dx.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))
    if needs[1]:
        shape = (*weight.shape[:2], *meeting.kernel)
        dsummed = torch.empty(shape, dtype=torch.float32, device=x.device)
        conv.weight_gradient(conv.channels_last(x), dy, dsummed, meeting)
        dweight = unsummed(dsummed, scale).to(weight.dtype)
    if needs[2]:
        dbias = conv.bias_gradient(dy, weight.dtype)
    return dx, dweight, dbias


def summed(
    weight: torch.Tensor, scale: Sequence[int], leading: Sequence[int] = (0, 0, 0)
) -> torch.Tensor:
    """The taps of an enlarged axis: the sums of up to `scale` neighbours, behind leading zeros."""
    taps = weight.float()
    for axis, (factor, first) in enumerate(zip(scale, leading, strict=True), start=2):
        if factor > 1:
            shape = list(taps.shape)
            shape[axis] += first + factor - 1
            total = taps.new_zeros(shape)
            for i in range(factor):
                total.narrow(axis, first + i, taps.shape[axis]).add_(taps)
            taps = total
    return taps.to(weight.dtype)


def unsummed(
    dsummed: torch.Tensor, scale: Sequence[int], leading: Sequence[int] = (0, 0, 0)
) -> torch.Tensor:
    """The gradient of `summed`."""
    for axis, (factor, first) in enumerate(zip(scale, leading, strict=True), start=2):
        number = dsummed.shape[axis] - first - factor + 1
        parts = [dsummed.narrow(axis, first + i, number) for i in range(factor)]
        dsummed = sum(parts[1:], parts[0])
    return dsummed.contiguous()
