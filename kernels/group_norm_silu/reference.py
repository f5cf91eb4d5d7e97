"""The definition of group_norm_silu, y = silu((x - mean) * rstd * weight + bias); gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import layout_of, wide


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, and each group's mean and 1/std."""
    grouped = _grouped(x, num_groups)
    mean = grouped.mean(dim=2)
    centred = grouped - mean[:, :, None]
    rstd = torch.rsqrt(centred.square().mean(dim=2) + eps)
    z = _affine(centred * rstd[:, :, None], x, weight, bias)
    y = z * torch.sigmoid(z) if silu else z
    return y.to(x.dtype).contiguous(memory_format=layout_of(x)), mean, rstd


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    num_groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias."""
    normed = (_grouped(x, num_groups) - mean[:, :, None]) * rstd[:, :, None]
    dz = grad.to(normed.dtype)
    if silu:
        z = _affine(normed, x, weight, bias)
        s = torch.sigmoid(z)
        dz = dz * s * (1 + z * (1 - s))
    dz = dz.reshape(*x.shape[:2], x.numel() // max(1, x.shape[0] * x.shape[1]))
    over = (0, 2)
    dweight = (dz * normed.reshape(dz.shape)).sum(over)
    dbias = dz.sum(over)
    dnormed = (dz * weight.to(dz.dtype)[:, None]).reshape(normed.shape)
    along_mean = dnormed.mean(dim=2, keepdim=True)
    along_normed = (dnormed * normed).mean(dim=2, keepdim=True)
    dx = (dnormed - along_mean - normed * along_normed) * rstd[:, :, None]
    dx = dx.reshape(x.shape).to(x.dtype).contiguous(memory_format=layout_of(x))
    return dx, dweight.to(weight.dtype), dbias.to(bias.dtype)


def _grouped(x: Tensor, num_groups: int) -> Tensor:
    size = x.numel() // max(1, x.shape[0] * num_groups)
    return x.to(wide(x.dtype)).reshape(x.shape[0], num_groups, size)


def _affine(normed: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    per_channel = (1, -1) + (1,) * (x.dim() - 2)
    return normed.reshape(x.shape) * weight.to(normed.dtype).view(per_channel) + bias.to(
        normed.dtype
    ).view(per_channel)
