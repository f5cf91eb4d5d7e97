"""qk_norm_rope in as few passes of torch's own kernels as the two roundings of the contract allow.

A pair of channels is one complex number and a rotation one complex product: the reference's four
products and a concatenation become a single pass.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import wide

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"


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
    turn = _turn(cos, sin, q.dtype)

    def one(x: Tensor, scale: Tensor) -> Tensor:
        normed = F.rms_norm(x.contiguous(), x.shape[3:], eps=eps)
        scaled = normed.mul_(scale).to(wide(x.dtype))
        return _from_pairs(_pairs(scaled, layout) * turn, layout).to(x.dtype).contiguous()

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
    """Return the gradients of q, k, q_scale and k_scale."""
    turn = _turn(cos, -sin, q.dtype)

    def one(grad: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        grad, normed = grad.to(wide(x.dtype)), x.to(wide(x.dtype)).contiguous()
        rstd = normed.square().mean(dim=3, keepdim=True).add_(eps).rsqrt_()
        normed = normed * rstd
        dscaled = _from_pairs(_pairs(grad, layout) * turn, layout)
        dscale = (dscaled * normed.to(x.dtype)).sum((0, 1, 2))
        dnormed = dscaled.mul(scale.to(dscaled.dtype))
        along = (dnormed * normed).mean(dim=3, keepdim=True)
        dx = dnormed.addcmul_(normed, along, value=-1).mul_(rstd)
        return dx.to(x.dtype), dscale.to(scale.dtype)

    dq, dq_scale = one(grad_q, q, q_scale)
    dk, dk_scale = one(grad_k, k, k_scale)
    return dq, dk, dq_scale, dk_scale


def _turn(cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.complex(cos.to(wide(dtype)), sin.to(wide(dtype))).unsqueeze(-2)


def _pairs(x: Tensor, layout: str) -> Tensor:
    if layout == "half":
        return torch.complex(*x.chunk(2, dim=3))
    return torch.view_as_complex(x.contiguous().unflatten(3, (-1, 2)))


def _from_pairs(pairs: Tensor, layout: str) -> Tensor:
    if layout == "half":
        return torch.cat((pairs.real, pairs.imag), dim=3)
    return torch.view_as_real(pairs).flatten(3)
