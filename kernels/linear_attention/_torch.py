"""linear_attention through torch's convolutions and matrix products.

The aggregation is rounded to the dtype of qkv, as torch's convolutions do; sums over positions are
taken in fp32, from copies of q, k and v in fp32.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..common.torch_conv3d import LIBRARY, Depthwise, depthwise
from ..contract import layout_of, wide
from . import reference

VERIFIED = "CPU: x86-64 AVX-512 and AMX, torch 2.13, 2026-11; never on a GPU"


def why_not(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if qkv.numel() == 0 else None


def backward_why_not(grad: Tensor, qkv: Tensor, *_: object) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if qkv.numel() == 0 else None


def forward(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> Tensor:
    """Return the heads of qkv, then those of its aggregation."""
    layout, dtype = layout_of(qkv), wide(qkv.dtype)
    qkv = qkv.contiguous(memory_format=layout)
    aggregated = _mixed(depthwise(qkv, depth_weight), point_weight)
    y = qkv.new_empty((qkv.shape[0], qkv.shape[1] // 3 * 2, *qkv.shape[2:]))
    y = y.contiguous(memory_format=layout)
    for part, scale in zip(y.chunk(2, dim=1), (qkv, aggregated), strict=True):
        part.copy_(reference.attend(scale.to(dtype), head_dim, eps))
    return y


def backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of qkv, depth_weight and point_weight."""
    return backward_by(LIBRARY, *args)


def backward_by(
    how: Depthwise,
    grad: Tensor,
    qkv: Tensor,
    depth_weight: Tensor,
    point_weight: Tensor,
    head_dim: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `backward` does, with depthwise convolutions of another kind."""
    layout, dtype = layout_of(qkv), wide(qkv.dtype)
    base = qkv.to(dtype).contiguous(memory_format=layout)
    depth, point = depth_weight.to(dtype), point_weight.to(dtype)
    middle = how.convolve(base, depth, None)
    dbase, daggregated = (
        reference.gradient_of_attend(dy, scale, head_dim, eps)
        for dy, scale in zip(
            grad.to(dtype).chunk(2, dim=1), (base, _mixed(middle, point)), strict=True
        )
    )
    dmiddle, dpoint = reference.gradients_of_mix(daggregated, middle, point)
    dx, ddepth = how.gradients(dmiddle.contiguous(memory_format=layout), base, depth)
    dqkv = dbase.add_(dx).to(qkv.dtype).contiguous(memory_format=layout)
    return dqkv, ddepth.to(qkv.dtype).contiguous(), dpoint.to(qkv.dtype)


def _mixed(x: Tensor, point_weight: Tensor) -> Tensor:
    return F.conv3d(x, point_weight, groups=x.shape[1] // point_weight.shape[1])
