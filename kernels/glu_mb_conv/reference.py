"""The definition of glu_mb_conv: widen, activate, convolve, gate, narrow; its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..common import depthwise
from ..contract import layout_of, wide


def forward(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> Tensor:
    """Return `point(value · silu(gate))`, value and gate of `depth(silu(inverted(x)))`."""
    dtype = wide(x.dtype)
    hidden = pointwise(x.to(dtype), inverted_weight.to(dtype)) + per_channel(
        inverted_bias.to(dtype)
    )
    value, gate = _convolved(silu(hidden), depth_weight.to(dtype), depth_bias.to(dtype))
    y = pointwise(value * silu(gate), point_weight.to(dtype))
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(
    grad: Tensor,
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x and of the five parameters, in the order of the arguments."""
    dtype = wide(x.dtype)
    dy, x_wide = grad.to(dtype), x.to(dtype)
    inverted, depth, point = (w.to(dtype) for w in (inverted_weight, depth_weight, point_weight))
    hidden = pointwise(x_wide, inverted) + per_channel(inverted_bias.to(dtype))
    active = silu(hidden)
    value, gate = _convolved(active, depth, depth_bias.to(dtype))

    dproduct, dpoint = gradients_of_pointwise(dy, value * silu(gate), point)
    dgated = torch.cat([dproduct * silu(gate), dproduct * value * slope_of_silu(gate)], dim=1)
    dactive, ddepth = depthwise.gradients(dgated, active, depth)
    dhidden = dactive * slope_of_silu(hidden)
    dx, dinverted = gradients_of_pointwise(dhidden, x_wide, inverted)
    over = (0, 2, 3, 4)
    return (
        dx.to(x.dtype).contiguous(memory_format=layout_of(x)),
        dinverted.to(inverted_weight.dtype),
        dhidden.sum(over).to(inverted_bias.dtype),
        ddepth.to(depth_weight.dtype),
        dgated.sum(over).to(depth_bias.dtype),
        dpoint.to(point_weight.dtype),
    )


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A 1x1x1 convolution; weight is [O, C, 1, 1, 1]."""
    return torch.einsum("oc,bcthw->bothw", weight.flatten(1), x)


def gradients_of_pointwise(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight through `pointwise`."""
    dx = torch.einsum("oc,bothw->bcthw", weight.flatten(1), grad)
    return dx, torch.einsum("bothw,bcthw->oc", grad, x).reshape(weight.shape)


def per_channel(parameter: Tensor) -> Tensor:
    """[C] against [B, C, T, H, W]."""
    return parameter.view(-1, 1, 1, 1)


def silu(x: Tensor) -> Tensor:
    """Return x · sigmoid(x)."""
    return x * torch.sigmoid(x)


def slope_of_silu(x: Tensor) -> Tensor:
    """The derivative of x · sigmoid(x)."""
    sigmoid = torch.sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


def _convolved(active: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gate, the two halves of the depthwise convolution's channels."""
    value, gate = (depthwise.convolve(active, weight) + per_channel(bias)).chunk(2, dim=1)
    return value, gate
