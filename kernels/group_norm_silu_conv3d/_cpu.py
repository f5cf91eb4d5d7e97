"""group_norm_silu_conv3d in C++ for the CPU: neither the normalised nor the padded video exists.

One pass gathers the statistics; the convolution normalises and activates what it reads, and adds
the residual to what it writes.
"""

from __future__ import annotations

from torch import Tensor

from ..common import conv3d
from ..group_norm_silu import _cpu as norm

VERIFIED = conv3d.VERIFIED


def why_not(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if residual is not None and residual.dtype != x.dtype:
        return f"residual is {residual.dtype}, x is {x.dtype}"
    reason = norm.why_not(x, norm_weight, norm_bias, num_groups, eps, True)
    return reason or conv3d.why_not(x, weight)


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
) -> Tensor:
    """Return the convolution of the activated x, plus the residual."""
    affine = conv3d.Affine(*norm.affine(x, norm_weight, norm_bias, num_groups, eps))
    return conv3d.convolve(x, weight, bias, x.shape[2:], affine=affine, residual=residual)
