"""group_norm_silu_conv3d in C++ for the CPU: neither the normalised nor the padded video exists.

The convolution normalises and activates what it reads, adds the residual to what it writes, and
gathers the moments of that for the next norm; where those of x are not given, a pass gathers them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common import conv3d
from ..group_norm_silu import _cpu as norm
from ..moments import channel_statistics
from .reference import output_shape, pad_mode

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
    *_: object,
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
    moments: Tensor | None,
    gather: bool,
    pad_rows: bool,
) -> tuple[Tensor, Tensor]:
    """Return the convolution of the activated x, plus the residual, and its channels' moments."""
    if moments is None:
        folded = norm.affine(x, norm_weight, norm_bias, num_groups, eps)
    else:
        folded = _affine_of(moments, norm_weight, norm_bias, num_groups, eps)
    return conv3d.convolve(
        x, weight, bias, output_shape(x.shape, weight.shape, pad_rows)[2:],
        pad_mode=pad_mode(pad_rows), affine=conv3d.Affine(*folded), residual=residual,
        gather=gather,
    )  # fmt: skip


def _affine_of(
    moments: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float
) -> Tensor:
    """What `norm.affine` returns, from moments that are known."""
    centre, root = channel_statistics(moments, num_groups, eps)
    shift = norm_bias.to(centre.dtype).expand_as(centre)
    return torch.stack([centre, root * norm_weight.to(root.dtype), shift])
