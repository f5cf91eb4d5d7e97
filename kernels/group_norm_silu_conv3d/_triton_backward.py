"""The backward of group_norm_silu_conv3d in Triton: those of the two ops, one after the other.

The forward keeps x alone: statistics are taken again, and the activated video, if a gradient needs
it, is written again, rounded to the dtype of x. It is freed before its own gradient is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..causal_conv3d import _triton_backward as conv
from ..causal_conv3d.launch_backward import of_convolution
from ..contract import layout_of
from ..group_norm_silu import _triton as norm
from .reference import STRIDE, pad_mode


def backward(
    grad: torch.Tensor, x: torch.Tensor, norm_weight: torch.Tensor, norm_bias: torch.Tensor,
    num_groups: int, eps: float, weight: torch.Tensor, moments: torch.Tensor | None,
    pad_rows: bool, needs: Sequence[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: gradients of x, the norm's two, weight, bias."""
    geometry = of_convolution(weight.shape[2:], STRIDE, pad_mode(pad_rows))
    dy = conv.channels_last(grad)
    dx, dscale, dshift, dweight, dbias = (x.new_empty(0) for _ in range(5))
    if needs[0] or needs[1]:
        x = x.contiguous(memory_format=layout_of(x))
        mean, rstd = norm.statistics(x, num_groups, eps)
    if needs[1]:
        dweight = weight.new_empty(weight.shape)
        h = norm.activate(x, mean, rstd, norm_weight, norm_bias, num_groups)
        conv.weight_gradient(h, dy, dweight, geometry)
        del h
    if needs[0]:
        dh = conv.input_gradient(dy, weight, (x.shape[0], *x.shape[2:]), geometry)
        dx, dscale, dshift = norm.backward(
            dh.permute(0, 4, 1, 2, 3), x, norm_weight, norm_bias, mean, rstd, num_groups, eps, True
        )
    if needs[2]:
        dbias = conv.bias_gradient(dy, weight.dtype)
    return dx, dscale, dshift, dweight, dbias
