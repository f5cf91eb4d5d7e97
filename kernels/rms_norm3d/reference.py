"""The definition of rms_norm3d, y = activation(x / rms_c(x) * weight + bias) + residual."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import layout_of, wide


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None,
) -> Tensor:
    """Return y."""
    normed, _ = _normalise(x, eps)
    z = _affine(normed, weight, bias)
    if activation == "silu":
        z = z * torch.sigmoid(z)
    elif activation == "relu":
        z = torch.relu(z)
    if residual is not None:
        z = z + residual.to(z.dtype)
    return z.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; the last empty where there is no bias."""
    normed, rms = _normalise(x, eps)
    dz = grad.to(normed.dtype)
    if activation == "silu":
        z = _affine(normed, weight, bias)
        s = torch.sigmoid(z)
        dz = dz * s * (1 + z * (1 - s))
    elif activation == "relu":
        dz = dz * (_affine(normed, weight, bias) > 0)
    over = (0, 2, 3, 4)
    dweight = (dz * normed).sum(over)
    dbias = dz.sum(over)
    dnormed = dz * _per_channel(weight, dz.dtype)
    along = (dnormed * normed).mean(dim=1, keepdim=True)
    dx = ((dnormed - normed * along) / rms).to(x.dtype).contiguous(memory_format=layout_of(x))
    if bias is None:
        return dx, dweight.to(weight.dtype), x.new_empty(0)
    return dx, dweight.to(weight.dtype), dbias.to(bias.dtype)


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x = x.to(wide(x.dtype))
    rms = torch.sqrt(x.square().mean(dim=1, keepdim=True) + eps)
    return x / rms, rms


def _affine(normed: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    z = normed * _per_channel(weight, normed.dtype)
    return z if bias is None else z + _per_channel(bias, normed.dtype)


def _per_channel(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    return parameter.to(dtype).view(1, -1, 1, 1, 1)
