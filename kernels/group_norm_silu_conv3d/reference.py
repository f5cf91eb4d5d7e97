"""The definition of group_norm_silu_conv3d: the definitions that it joins, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..causal_conv3d import reference as conv
from ..contract import layout_of, wide
from ..group_norm_silu import reference as norm

STRIDE = (1, 1, 1)
PAD_MODE = "replicate"


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
    h = norm.forward(x, norm_weight, norm_bias, num_groups, eps, True)[0]
    y = conv.forward(h, weight, bias, STRIDE, PAD_MODE)
    if residual is None:
        return y
    total = y.to(wide(y.dtype)) + residual.to(wide(y.dtype))
    return total.to(y.dtype).contiguous(memory_format=layout_of(x))


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
    """Return the gradients of x, the norm's weight and bias, weight and bias.

    `needs` asks for the first three together, for weight and for bias; what is not needed comes
    back without elements. The residual's gradient is `grad`.
    """
    h, mean, rstd = norm.forward(x, norm_weight, norm_bias, num_groups, eps, True)
    dh, dweight, dbias = conv.backward(grad, h, weight, STRIDE, PAD_MODE, needs)
    if not needs[0]:
        return dh, dh.clone(), dh.clone(), dweight, dbias
    inputs = norm.backward(dh, x, norm_weight, norm_bias, mean, rstd, num_groups, eps, True)
    return (*inputs, dweight, dbias)
