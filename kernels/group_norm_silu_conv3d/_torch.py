"""group_norm_silu_conv3d through the two ops that it joins, whichever backends serve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..causal_conv3d import op as conv
from ..contract import layout_of
from ..group_norm_silu import op as norm
from .reference import PAD_MODE, STRIDE

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
) -> Tensor:
    """Return the convolution of the activated x, plus the residual."""
    h = norm.FORWARD(x, norm_weight, norm_bias, num_groups, eps, True)[0]
    y: Tensor = conv.FORWARD(h, weight, bias, list(STRIDE), PAD_MODE, False)[0]
    if residual is None:
        return y
    return (y + residual).to(y.dtype).contiguous(memory_format=layout_of(x))


def backward(
    grad: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, the norm's weight and bias, weight and bias."""
    # Made again rather than kept: the activated video would be as large as x, for every layer.
    h, mean, rstd = norm.FORWARD(x, norm_weight, norm_bias, num_groups, eps, True)
    dh, dweight, dbias = conv.BACKWARD(grad, h, weight, list(STRIDE), PAD_MODE, list(needs))
    if not needs[0]:
        return dh, dh.clone(), dh.clone(), dweight, dbias
    inputs = norm.BACKWARD(dh, x, norm_weight, norm_bias, mean, rstd, num_groups, eps, True)
    return (*inputs, dweight, dbias)
