"""The definition of linear_attention: aggregate, attend at both scales; its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..common import depthwise
from ..contract import layout_of, wide


def forward(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> Tensor:
    """Return the heads of qkv, then those of its aggregation."""
    base = qkv.to(wide(qkv.dtype))
    middle = depthwise.convolve(base, depth_weight.to(base.dtype))
    aggregated = mix(middle, point_weight.to(base.dtype))
    scales = [attend(scale, head_dim, eps) for scale in (base, aggregated)]
    return torch.cat(scales, dim=1).to(qkv.dtype).contiguous(memory_format=layout_of(qkv))


def backward(
    grad: Tensor,
    qkv: Tensor,
    depth_weight: Tensor,
    point_weight: Tensor,
    head_dim: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of qkv, depth_weight and point_weight."""
    base = qkv.to(wide(qkv.dtype))
    depth, point = depth_weight.to(base.dtype), point_weight.to(base.dtype)
    middle = depthwise.convolve(base, depth)
    dbase, daggregated = (
        gradient_of_attend(dy, scale, head_dim, eps)
        for dy, scale in zip(
            grad.to(base.dtype).chunk(2, dim=1), (base, mix(middle, point)), strict=True
        )
    )
    dmiddle, dpoint = gradients_of_mix(daggregated, middle, point)
    dx, ddepth = depthwise.gradients(dmiddle, base, depth)
    dqkv = (dbase + dx).to(qkv.dtype).contiguous(memory_format=layout_of(qkv))
    return dqkv, ddepth.to(depth_weight.dtype), dpoint.to(point_weight.dtype)


def mix(x: Tensor, weight: Tensor) -> Tensor:
    """The grouped pointwise convolution: weight is [G·O, I, 1, 1, 1], x has G·I channels."""
    groups = x.unflatten(1, (-1, weight.shape[1]))
    matrices = weight.view(groups.shape[1], -1, weight.shape[1])
    return torch.einsum("goi,bgithw->bgothw", matrices, groups).flatten(1, 2)


def gradients_of_mix(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weight through `mix`."""
    groups = x.unflatten(1, (-1, weight.shape[1]))
    matrices = weight.view(groups.shape[1], -1, weight.shape[1])
    dy = grad.unflatten(1, matrices.shape[:2])
    dx = torch.einsum("goi,bgothw->bgithw", matrices, dy).flatten(1, 2)
    return dx, torch.einsum("bgothw,bgithw->goi", dy, groups).reshape(weight.shape)


def attend(qkv: Tensor, head_dim: int, eps: float) -> Tensor:
    """The heads' outputs, [B, C, T, H, W]."""
    q, k, v = heads(qkv, head_dim)
    out = _attended(torch.relu(q), torch.relu(k), v, eps)[0]
    return out.reshape(qkv.shape[0], qkv.shape[1] // 3, *qkv.shape[2:])


def gradient_of_attend(grad: Tensor, qkv: Tensor, head_dim: int, eps: float) -> Tensor:
    """The gradient of qkv through `attend`."""
    raw_q, raw_k, v = heads(qkv, head_dim)
    q, k = torch.relu(raw_q), torch.relu(raw_k)
    out, state, total, denominator = _attended(q, k, v, eps)
    # out = numerator / denominator, numerator = state q, denominator = total q + eps.
    dnumerator = grad.reshape(out.shape) / denominator
    ddenominator = -(dnumerator * out).sum(-2, keepdim=True)
    dq = state.mT @ dnumerator + total * ddenominator
    dstate = dnumerator @ q.mT
    dtotal = (q * ddenominator).sum(-1, keepdim=True)
    dk = dstate.mT @ v + dtotal
    dv = dstate @ k
    return torch.stack([dq * (raw_q > 0), dk * (raw_k > 0), dv], dim=2).reshape(qkv.shape)


def heads(qkv: Tensor, head_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as [B, N, D, L]: a head's lie next to each other."""
    q, k, v = qkv.reshape(
        qkv.shape[0], qkv.shape[1] // (3 * head_dim), 3, head_dim, qkv.shape[2:].numel()
    ).unbind(2)
    return q, k, v


def _attended(q: Tensor, k: Tensor, v: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """out, v k^T, the sum of k as a column, and the denominators."""
    state = v @ k.mT
    total = k.sum(-1, keepdim=True)
    denominator = total.mT @ q + eps
    return state @ q / denominator, state, total, denominator
