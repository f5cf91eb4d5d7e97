"""The definition of qk_norm_rope: RMSNorm with two roundings, then a rotation in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import wide


def forward(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return q and k, normalised and rotated."""

    def one(x: Tensor, scale: Tensor) -> Tensor:
        normed, _ = _normalise(x, eps)
        scaled = normed.to(x.dtype).to(normed.dtype) * scale.to(normed.dtype)
        return _rotate(scaled.to(x.dtype).to(normed.dtype), cos, sin, layout).to(x.dtype)

    return one(q, q_scale), one(k, k_scale)


def backward(
    grad_q: Tensor,
    grad_k: Tensor,
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, q_scale and k_scale; roundings count as identities."""

    def one(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        normed, rstd = _normalise(x, eps)
        dscaled = _rotate(grad.to(normed.dtype), cos, -sin, layout)
        dscale = (dscaled * normed.to(x.dtype).to(normed.dtype)).sum((0, 1, 2))
        dnormed = dscaled * scale.to(normed.dtype)
        along = (dnormed * normed).mean(dim=3, keepdim=True)
        dx = (dnormed - normed * along) * rstd
        return dx.to(x.dtype), dscale.to(scale.dtype)

    dq, dq_scale = one(grad_q, q, q_scale)
    dk, dk_scale = one(grad_k, k, k_scale)
    return dq, dk, dq_scale, dk_scale


def _normalise(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x = x.to(wide(x.dtype)).contiguous()
    rstd = torch.rsqrt(x.square().mean(dim=3, keepdim=True) + eps)
    return x * rstd, rstd


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    cos, sin = (table.to(x.dtype).unsqueeze(-2) for table in (cos, sin))
    if layout == "half":
        first, second = x.chunk(2, dim=3)
    else:
        first, second = x[..., 0::2], x[..., 1::2]
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(rotated, dim=3) if layout == "half" else torch.stack(rotated, dim=4).flatten(3)
