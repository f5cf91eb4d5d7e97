"""The definition of layer_norm_modulate, y = (x - mean) * rstd * (1 + scale) + shift; gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import wide


def forward(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Return y."""
    normed, _ = _normalise(x, eps)
    y = normed * (1 + scale.to(normed.dtype))[:, None] + shift.to(normed.dtype)[:, None]
    return y.to(x.dtype)


def backward(
    grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, shift and scale."""
    normed, rstd = _normalise(x, eps)
    dy = grad.to(normed.dtype)
    dshift = dy.sum(1)
    dscale = (dy * normed).sum(1)
    dnormed = dy * (1 + scale.to(normed.dtype))[:, None]
    along_mean = dnormed.mean(dim=2, keepdim=True)
    along_normed = (dnormed * normed).mean(dim=2, keepdim=True)
    dx = (dnormed - along_mean - normed * along_normed) * rstd
    return dx.to(x.dtype), dshift.to(shift.dtype), dscale.to(scale.dtype)


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x = x.to(wide(x.dtype)).contiguous()
    centred = x - x.mean(dim=2, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(dim=2, keepdim=True) + eps)
    return centred * rstd, rstd
