"""group_norm_silu_conv3d in Triton: three kernels of the two ops that it joins.

Statistics of x; one pass that normalises and activates x into bordered, channels-last frames; the
convolution in its plane form, which adds bias and residual to its fp32 sums before it rounds. The
activated video is rounded to the dtype of x, as by the two ops one after the other.
Bytes: reads x twice (once where its moments are known), writes and reads the activated video, reads
the residual, writes y; see causal_conv3d/_triton.py for how often the convolution reads through L2.
Activating inside the convolution would repeat SiLU once per tap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..causal_conv3d._triton import convolve_plane
from ..contract import layout_of
from ..group_norm_silu._triton import activate, statistics
from ..moments import group_moments


def forward(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float,
    weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    moments: Tensor | None, gather: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it."""
    if moments is None:
        mean, rstd = statistics(x, num_groups, eps)
    else:
        mean, variance = group_moments(moments, num_groups)
        rstd = torch.rsqrt(variance + eps)
    border = (weight.shape[3] // 2, weight.shape[4] // 2)
    plane = activate(x, mean, rstd, norm_weight, norm_bias, num_groups, silu=True, border=border)
    y, gathered = convolve_plane(plane, weight, bias, residual, gather=gather)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x)), gathered
