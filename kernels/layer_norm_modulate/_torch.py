"""layer_norm_modulate through torch's own layer norm.

The library's layer norm takes weights per channel, not per sample. On CPU it runs once per sample
with 1 + scale and shift as fp32 weights: one pass, one rounding. On CUDA that would be a launch per
sample, so it runs without weights, and the modulation follows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import wide

VERIFIED = "CPU: x86-64 AVX-512, torch 2.13, 2026-11; never on a GPU"

aten = torch.ops.aten


def why_not(x: Tensor, *_: object) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if x.numel() == 0 else None


def forward(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Return y."""
    return (_fused if x.is_cuda else _per_sample)(x, shift, scale, eps)


def backward(
    grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, shift and scale."""
    run = _fused_backward if x.is_cuda else _per_sample_backward
    dx, dshift, dscale = run(grad.contiguous(), x.contiguous(), scale, eps)
    return dx, dshift.to(shift.dtype), dscale.to(scale.dtype)


def _per_sample(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    weight, bias = scale.to(wide(x.dtype)) + 1, shift.to(wide(x.dtype))
    width = [x.shape[2]]
    rows = [aten.native_layer_norm(x[b], width, weight[b], bias[b], eps)[0] for b in range(len(x))]
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)


def _per_sample_backward(
    grad: Tensor, x: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    weight = scale.to(wide(x.dtype)) + 1
    bias = torch.zeros_like(weight[0])
    width = [x.shape[2]]
    grads = []
    for b in range(len(x)):
        _, mean, rstd = aten.native_layer_norm(x[b], width, weight[b], bias, eps)
        grads.append(
            aten.native_layer_norm_backward(
                grad[b], x[b], width, mean, rstd, weight[b], bias, [True, True, True]
            )
        )
    dx, dscale, dshift = (torch.stack(parts) for parts in zip(*grads, strict=True))
    return dx, dshift, dscale


def _fused(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    normed = F.layer_norm(x, x.shape[2:], eps=eps)
    gain = (1 + scale).to(x.dtype)[:, None]
    return torch.addcmul(shift.to(x.dtype)[:, None], normed, gain).contiguous()


def _fused_backward(
    grad: Tensor, x: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    normed, mean, rstd = aten.native_layer_norm(x, [x.shape[2]], None, None, eps)
    dnormed = grad * (1 + scale).to(grad.dtype)[:, None]
    dx = aten.native_layer_norm_backward(
        dnormed, x, [x.shape[2]], mean, rstd, None, None, [True, False, False]
    )[0]
    accumulate = wide(grad.dtype)
    return dx, grad.sum(1, dtype=accumulate), (grad * normed).sum(1, dtype=accumulate)
