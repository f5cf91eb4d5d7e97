"""group_norm_silu_conv3d in Triton: three kernels of the two ops that it joins.

Statistics of x; one pass that normalises and activates x into bordered, channels-last frames; the
convolution in its plane form, which adds bias and residual to its fp32 sums before it rounds. The
activated video is rounded to the dtype of x, as by the two ops one after the other.
Bytes: reads x twice, writes and reads the activated video, reads the residual, writes y; see
causal_conv3d/_triton.py for how often the convolution reads through L2. Activating inside the
convolution would repeat SiLU once per tap.
"""

from __future__ import annotations

from torch import Tensor

from ..causal_conv3d._triton import convolve_plane
from ..contract import layout_of
from ..group_norm_silu._triton import activate, statistics


def forward(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float,
    weight: Tensor, bias: Tensor | None, residual: Tensor | None,
) -> Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    mean, rstd = statistics(x, num_groups, eps)
    border = (weight.shape[3] // 2, weight.shape[4] // 2)
    plane = activate(x, mean, rstd, norm_weight, norm_bias, num_groups, silu=True, border=border)
    y = convolve_plane(plane, weight, bias, residual)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))
