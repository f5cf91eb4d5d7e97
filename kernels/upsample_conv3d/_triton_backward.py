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


def summed(weight: torch.Tensor, scale: Sequence[int]) -> torch.Tensor:
    """The four taps for the three along every doubled axis."""
    taps = weight.float()
    for axis, factor in enumerate(scale, start=2):
        if factor == 2:
            first, middle, last = taps.unbind(axis)
            taps = torch.stack((first, first + middle, middle + last, last), dim=axis)
    return taps.to(weight.dtype)


def unsummed(dsummed: torch.Tensor, scale: Sequence[int]) -> torch.Tensor:
    """The gradient of `summed`."""
    for axis, factor in enumerate(scale, start=2):
        if factor == 2:
            dsummed = dsummed.narrow(axis, 0, 3) + dsummed.narrow(axis, 1, 3)
    return dsummed.contiguous()
