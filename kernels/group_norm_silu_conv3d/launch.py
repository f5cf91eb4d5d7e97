"""What the Triton kernels of group_norm_silu_conv3d can run; the two ops choose their launches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..causal_conv3d import launch as conv
from ..causal_conv3d import launch_backward as conv_backward
from ..common.availability import triton_why_not
from ..group_norm_silu import launch as norm
from .reference import STRIDE, pad_mode


def why_not(
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
) -> str | None:
    """Return why the forward kernels cannot serve a call, or None."""
    tensors = [t for t in (weight, bias, residual) if t is not None]
    reason = norm.why_not(x, norm_weight, norm_bias, num_groups, eps, True)
    reason = reason or triton_why_not(*tensors) or conv.why_not_sizes(x, weight, pad_mode(pad_rows))
    if reason is None and max(weight.shape[3:]) // 2 > norm.MAX_BORDER:
        kernel = list(weight.shape[2:])
        return f"a kernel of {kernel} needs a wider border than {norm.MAX_BORDER}"
    return reason


def backward_why_not(
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
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    if moments is not None:
        return "the kernels take the gradient of moments that are those of x"
    geometry = conv_backward.of_convolution(weight.shape[2:], STRIDE, pad_mode(pad_rows))
    return (
        norm.why_not(x, norm_weight, norm_bias, num_groups, eps, True)
        or conv_backward.not_served(grad, x, weight, geometry)
        or triton_why_not(grad, weight)
    )
