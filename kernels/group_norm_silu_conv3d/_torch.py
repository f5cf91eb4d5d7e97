"""group_norm_silu_conv3d through the two ops that it joins, whichever backends serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..causal_conv3d import op as conv
from ..contract import layout_of
from ..group_norm_silu import op as norm
from ..moments import channel_moments, channel_statistics, fake_moments
from .reference import STRIDE, backward_of_fixed, pad_mode

VERIFIED = "as group_norm_silu and causal_conv3d"


def why_not(x: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if x.numel() == 0 else None


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
        h = norm.FORWARD(x, norm_weight, norm_bias, num_groups, eps, True)[0]
    else:
        h = _activated(x, norm_weight, norm_bias, num_groups, eps, moments)
    y: Tensor = conv.FORWARD(h, weight, bias, list(STRIDE), pad_mode(pad_rows), False)[0]
    if residual is not None:
        y = (y + residual).to(y.dtype).contiguous(memory_format=layout_of(x))
    return y, channel_moments(y) if gather else fake_moments(y, y, False)


def backward(
    grad: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    moments: Tensor | None,
    pad_rows: bool,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, the norm's weight and bias, weight and bias."""
    # Made again rather than kept: the activated video would be as large as x, for every layer.
    affine = (norm_weight, norm_bias, num_groups, eps)
    if moments is None:
        h, mean, rstd = norm.FORWARD(x, *affine, True)
    else:
        h = _activated(x, *affine, moments)
    dh, dweight, dbias = conv.BACKWARD(
        grad, h, weight, list(STRIDE), pad_mode(pad_rows), list(needs)
    )
    if not needs[0]:
        return dh, dh.clone(), dh.clone(), dweight, dbias
    if moments is None:
        inputs = norm.BACKWARD(dh, x, norm_weight, norm_bias, mean, rstd, num_groups, eps, True)
    else:
        inputs = backward_of_fixed(dh, x, *affine, moments)
    return (*inputs, dweight, dbias)


def _activated(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    moments: Tensor,
) -> Tensor:
    """Normalised by moments that are known, then SiLU; in place but for a wide copy."""
    mean, root = channel_statistics(moments, num_groups, eps)
    mean, scale, shift = (
        part.to(moments.dtype).view(-1, x.shape[1], 1, 1, 1)
        for part in (mean, root * norm_weight.to(root.dtype), norm_bias)
    )
    z = (x - mean).mul_(scale).add_(shift)
    return F.silu(z, inplace=True).to(x.dtype).contiguous(memory_format=layout_of(x))
